"""How many bytes of answers may lie half read in memory at once, over all calls.

A thousand calls in flight may each answer with megabytes. Above the limit, reading pauses and the bytes wait in the
kernel and in the apps, which costs us nothing. Two things must still go on, or half-read answers would block each other
for as long as a call may last:

* an answer below `SMALL_ANSWER` is always read, so a flood of large answers never holds up ordinary steps;
* one large answer, the favoured one, is read to its end. If it brings nothing for `STALL_S` while others wait, the
  next one is favoured, so an app that stops in the middle of a large answer holds up nobody for long.

So what is held is at most the limit, one answer for each app that stalls, and one read (at most 256 KiB) for each call.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

MAX_READING_BYTES = 128 * 1024 * 1024
"""Default limit, in bytes."""

SMALL_ANSWER = 64 * 1024
"""An answer with no more than this many bytes read is never paused."""

STALL_S = 1.0
"""How long the favoured answer may bring nothing before the next one is favoured, in seconds."""


class Reader(Protocol):
    """Someone who reads an answer and can stop for a while. `held` belongs to the budget."""

    held: int

    def pause(self) -> None:
        """Read no more for now."""

    def resume(self) -> None:
        """Read on."""


class ReadBudget:
    """Counts the bytes that readers hold and pauses those that go beyond the limit."""

    def __init__(self, limit: int = MAX_READING_BYTES, stall: float = STALL_S) -> None:
        self.used = 0
        self._limit = limit
        self._stall = stall
        self._favoured: Reader | None = None
        self._favoured_held = 0
        self._paused: dict[Reader, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, reader: Reader, total: int) -> None:
        """A reader holds `total` bytes now; it is paused if that is too much."""
        self.used += total - reader.held
        reader.held = total
        if self.used <= self._limit or total <= SMALL_ANSWER or reader is self._favoured:
            return
        if self._favoured is None:
            self._favour(reader)
            return
        reader.pause()
        self._paused[reader] = None
        if self._timer is None:
            self._watch()

    def free(self, reader: Reader) -> None:
        """A reader has ended, one way or another, and holds nothing any more."""
        self.used -= reader.held
        reader.held = 0
        self._paused.pop(reader, None)
        if reader is self._favoured:
            self._favoured = None
        while self._paused and self.used <= self._limit:
            self._next().resume()
        if self._paused and self._favoured is None:
            self._favour(self._next())

    def _next(self) -> Reader:
        reader = next(iter(self._paused))
        del self._paused[reader]
        return reader

    def _favour(self, reader: Reader) -> None:
        self._favoured = reader
        self._favoured_held = reader.held
        reader.resume()

    def _watch(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._stall, self._check_stall)

    def _check_stall(self) -> None:
        self._timer = None
        if not self._paused:
            return
        favoured = self._favoured
        if favoured is not None and favoured.held == self._favoured_held:
            # It is not paused: what it holds already is all that it can add to while others are favoured.
            self._favour(self._next())
        elif favoured is not None:
            self._favoured_held = favoured.held
        self._watch()

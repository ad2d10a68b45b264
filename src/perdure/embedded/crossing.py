"""From one event loop to another: work that is handed over, many at once with one wake-up.

Waking a loop of another thread costs a system call and, since both threads share the interpreter's lock, a change
of hands. Under load a loop has not yet come to what was handed over before when more arrives, and all of it is
taken in one go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Crossing(Protocol):
    """A way into an event loop."""

    def put(self, work: Callable[[T], object], argument: T) -> None:
        """Have `work(argument)` done on the loop. Raises RuntimeError if the loop is closed."""


class Threaded:
    """Into the loop of another thread; from any thread. Work is done in the order in which it was put."""

    __slots__ = ("_loop", "_waiting", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[[object], object], object]] = deque()
        self._woken = False

    def put(self, work: Callable[[T], object], argument: T) -> None:
        """Have `work(argument)` done on the loop, soon. Raises RuntimeError if the loop is closed."""
        self._waiting.append((work, argument))  # type: ignore[arg-type]
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        # First the flag: what is appended from here on wakes the loop again.
        self._woken = False
        waiting = self._waiting
        for _ in range(len(waiting)):
            work, argument = waiting.popleft()
            try:
                work(argument)
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": f"{work!r} has failed between two event loops", "exception": error}
                )


class Here:
    """Into the loop that runs here: work is done at once."""

    __slots__ = ()

    def put(self, work: Callable[[T], object], argument: T) -> None:
        """Do `work(argument)`."""
        work(argument)

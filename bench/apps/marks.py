"""What an app under measurement remembers: when each run's first line and last line were reached.

Times are CLOCK_MONOTONIC in ns, which all processes of one Linux machine share, so the driver can subtract its own
from them. Nothing is sent while a run is under way: the driver waits with one request that is answered when enough
runs have ended, and reads the times afterwards.

This module imports the standard library only, for the peers load it in an environment of their own.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from urllib.parse import parse_qs

PREFIX = "/bench/"


class Marks:
    """First and last line of each run, by the run's index. Safe to call from any thread."""

    def __init__(self) -> None:
        self.asked: dict[int, int] = {}
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.repeated = 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def ask(self, index: int) -> None:
        """The run is about to be asked for, by this very process (in-process peers only)."""
        self.asked[index] = time.monotonic_ns()

    def begin(self, index: int) -> None:
        """The first line of the function; a later call of the same run changes nothing."""
        if index not in self.first:
            self.first[index] = time.monotonic_ns()

    def end(self, index: int) -> None:
        """The last line of the function. Reaching it twice is counted, for a run should end once."""
        now = time.monotonic_ns()
        with self._lock:
            if index in self.last:
                self.repeated += 1
                return
            self.last[index] = now
            reached = len(self.last)
            if not self._waiting:
                return
            ready = [entry for entry in self._waiting if entry[0] <= reached]
            self._waiting = [entry for entry in self._waiting if entry[0] > reached]
        for _, loop, future in ready:
            loop.call_soon_threadsafe(_wake, future)

    async def wait(self, count: int, timeout: float) -> bool:
        """Wait until `count` runs have ended since the last reset; False if that took longer than `timeout` s."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if len(self.last) >= count:
                return True
            self._waiting.append((count, loop, future))
        try:
            await asyncio.wait_for(future, timeout)
        except TimeoutError:
            return False
        return True

    def reset(self) -> None:
        """Forget all runs."""
        with self._lock:
            self.asked, self.first, self.last, self.repeated = {}, {}, {}, 0

    async def control(self, path: str, query: str) -> bytes:
        """Answer a control request: `reset`, `wait?count=N&timeout=S`, `marks`."""
        if path == PREFIX + "reset":
            self.reset()
            return b"{}"
        if path == PREFIX + "wait":
            asked = parse_qs(query)
            reached = await self.wait(int(asked["count"][0]), float(asked["timeout"][0]))
            return json.dumps({"reached": reached, "ended": len(self.last)}).encode()
        if path == PREFIX + "marks":
            with self._lock:
                seen = {
                    "asked": self.asked,
                    "first": self.first,
                    "last": self.last,
                    "repeated": self.repeated,
                }
                return json.dumps(seen).encode()
        return b'{"error":"unknown control route"}'


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

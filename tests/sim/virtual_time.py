"""An event loop whose time is a number: it jumps to the next timer when nothing is ready.

Nothing here waits, opens a file, starts a thread or looks at the machine's clock. What happens depends only on what
was asked of the loop, so the same program with the same random numbers is the same history each time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_MS = 1_764_000_000_000
"""Wall clock at the start of every history, ms since the epoch."""


BUSY_TURNS = 20_000
"""So many turns of the loop in one moment, and somebody runs in circles."""


class StoodStill(Exception):
    """The history is not over, but time stands still: nobody has anything to do, or somebody never stops."""


class _Jump:
    """Stands where a loop has its selector: instead of waiting, time goes on."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise StoodStill("nothing is ready and no timer is set")
        self._turns = self._turns + 1 if timeout == 0 else 0
        if self._turns > BUSY_TURNS:
            self._turns = 0
            raise StoodStill(f"{BUSY_TURNS} turns of the loop in one moment: somebody runs in circles")
        self._loop.elapsed += timeout
        return []

    def close(self) -> None:
        """Nothing to close."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Seconds pass as soon as nobody has anything to do in them."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed = 0.0
        self._selector = _Jump(self)
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Seconds since the start of the history."""
        return self.elapsed

    def _process_events(self, event_list: list[Any]) -> None:
        """No files, no events."""

    def _write_to_self(self) -> None:
        """No other thread could be waiting to be heard."""


class SimClock:
    """The wall clock of the server's machine; somebody may set it forward or back."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.offset = 0

    def now(self) -> int:
        """Ms since the epoch."""
        return START_MS + int(self._loop.elapsed * 1000) + self.offset


def run_virtually(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    """Run to the end of `main`, and throw away what is left then."""
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        for _ in range(20):
            tasks = [task for task in asyncio.all_tasks(loop) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            loop.call_soon(loop.stop)
            loop.run_forever()
        asyncio.set_event_loop(None)
        loop.close()

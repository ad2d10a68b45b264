"""What a workload gets to work with."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from dataclasses import dataclass, field

from bench.app import App, Times
from bench.measure import Window
from bench.targets import Target

SETTLE_S = 0.3
"""Wait after the last line of the last run, so that what the server still has to record is counted, in s."""


@dataclass
class Rig:
    """A target, the app that runs its functions, and the processes whose CPU is counted.

    `pids` names them: `server`, `app`, `database`; a peer that runs inside the app has no `server`.
    """

    target: Target
    app: App
    pids: dict[str, int]
    direct: Target | None = None
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    _indexes: itertools.count[int] = field(default_factory=itertools.count)

    def take(self, count: int) -> range:
        """Indexes for `count` runs, never used before with this rig."""
        first = next(self._indexes)
        for _ in range(count - 1):
            next(self._indexes)
        return range(first, first + count)

    async def burst(self, function: str, count: int) -> tuple[Times, dict[str, float], float]:
        """Ask for `count` runs as fast as they are taken, and wait for all of them.

        Gives their times, the CPU of `Window`, and the seconds from the first request to the last line of the last run.
        """
        await self.app.reset()
        ended = self.app.ended(count)
        await asyncio.sleep(SETTLE_S)
        window = Window(self.pids)
        started = time.monotonic_ns()
        await self.target.start_many(function, self.take(count))
        await ended
        wall = window.wall()
        await asyncio.sleep(SETTLE_S)
        spent = window.close()
        spent["wall"] = wall
        times = await self.app.times()
        return times, spent, (max(times.last.values()) - started) / 1e9

"""The faults that come by themselves, now and then: crashes, a full disk, an app that is down, a clock set anew."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.world import World

CLOCK_JUMPS_MS = (-3_600_000, -90_000, -1_000, 5_000, 90_000, 3_600_000, 90_000_000)
CRASH_PLACES = ("now", "before", "after", "load", "release")


def _calls_linger(world: World) -> bool:
    """Whether answers may come hours late: such a call keeps its place until then."""
    return world.scenario.call_fails > 0


class Chaos:
    """Lets the faults of a scenario loose until `calm_down`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"chaos {world.scenario.seed}")

    async def rage(self) -> None:
        """One fault after the other."""
        world = self._world
        if not world.scenario.chaos:
            return
        while True:
            await asyncio.sleep(self._random.expovariate(1 / world.scenario.chaos_every_s))
            if world.calm:
                return
            fault = self._random.choice(world.scenario.chaos)
            world.trace.note(f"chaos: {fault}")
            if fault == "crash":
                self._crash()
            elif fault == "disk-full":
                world.spawn(self._fill_disk())
            elif fault == "app-down":
                world.spawn(self._stop_app())
            elif fault == "owners":
                world.server.take_over()
            elif fault == "clock":
                world.clock.offset += self._random.choice(CLOCK_JUMPS_MS)
                world.checks.commits.flow.jumped(world.now())
            elif fault == "travel":
                world.spawn(world.operators.travel())
            elif fault == "stop":
                await world.server.stop()
            elif fault == "resync":
                await world.clients.resync()

    def _crash(self) -> None:
        place = self._random.choice(CRASH_PLACES)
        if place == "now":
            self._world.trace.note("the server dies (now)")
            self._world.server.crash()
        else:
            self._world.disk.armed = place

    async def _fill_disk(self) -> None:
        self._world.disk.full = True
        await asyncio.sleep(self._random.choice((0.05, 2.0, 20.0)))
        self._world.disk.full = False

    async def _stop_app(self) -> None:
        app = self._world.app
        app.down = True
        app.generation += 1
        await asyncio.sleep(self._random.choice((1.0, 30.0, 120.0)))
        app.down = False

    def loses_answer(self) -> bool:
        """Whether an answer of the server to somebody gets lost."""
        return not self._world.calm and self._random.random() < self._world.scenario.call_fails

    async def calm_down(self) -> None:
        """The faults stop."""
        world = self._world
        world.calm = True
        world.trace.note("the faults stop")
        if "clock" not in world.scenario.chaos and not _calls_linger(world):
            world.checks.calls.calm_since = world.now()
        world.disk.armed = ""
        world.disk.full = False
        world.disk.calm = True
        world.app.down = False
        await world.server.end_zombies()
        await world.clients.restore()

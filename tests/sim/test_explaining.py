"""Somebody asks again and again why each run waits: there is always an answer, and asking changes nothing.

It is asked of what is in memory, without a command, so that a history is the same whether somebody asks or not.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from perdure.shard.explaining import explain
from perdure.shard.loop import Shard
from tests.sim import world
from tests.sim.scenario import FAULTS, draw
from tests.sim.world import World, simulate

EVERY_S = 3.7
SEEDS = range(506, 512)

seen: Counter[str] = Counter()


class Silent(World):
    """A history in which somebody is there and does not ask: time goes on in the same steps."""

    async def history(self) -> None:
        asking = self.spawn(self._ask())
        try:
            await super().history()
        finally:
            asking.cancel()

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            process = self.server.process
            if process is not None and not process.dead and process.shard.available:
                self._look(process.shard)

    def _look(self, shard: Shard) -> None:
        """Nothing is asked."""


class Curious(Silent):
    """A history in which somebody asks."""

    def _look(self, shard: Shard) -> None:
        state = shard.state
        for run in list(state.memory.runs.values()):
            why = explain(state, shard._dispatcher, run)
            if not run.status.ended and not why.causes:
                self.checks.fail("why", f"nothing is known that it waits for: {run.items}", run.id)
            for cause in why.causes:
                seen[type(cause).__name__] += 1
                if not cause.text:
                    self.checks.fail("why", f"a cause without a word: {cause}", run.id)


def test_every_live_run_waits_for_something(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    for seed in SEEDS:
        scenario = draw(seed, frozenset(FAULTS) - {"decisions"})
        monkeypatch.setattr(world, "World", Silent)
        silent = simulate(scenario)
        monkeypatch.setattr(world, "World", Curious)
        asked = simulate(scenario)
        assert asked.failure is None, f"seed {seed}: {asked.failure}"
        assert (asked.runs, asked.batches, asked.calls) == (silent.runs, silent.batches, silent.calls)
    assert {"Called", "AtGate", "PutOff", "Scheduled", "Asleep", "AwaitsEvent", "AwaitsRun"} <= set(seen), (
        seen
    )

"""Configuration that changes, and functions that are paused, while runs wait in line."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.flow.admission import Pause
from perdure.shard.commands import CancelRun, PauseFunction
from tests.sim.virtual_time import START_MS
from tests.unit.shard.flows import (
    F,
    check_places,
    check_rest,
    data_of,
    drain,
    in_order,
    send_many,
    statuses,
    world,
)
from tests.unit.shard.shards import an_event, config, sleep, step, virtually


class TestLimitsChange:
    @pytest.mark.parametrize("rules", [{"concurrency": 5}, {}])
    def test_raised_or_removed(self, rules: dict[str, Any]) -> None:
        @virtually
        async def test() -> None:
            w = await world(concurrency=1)
            await send_many(w, 10)
            await w.settle()
            assert len(w.network.open) == 1
            await w.register(config("f", "go", **rules))
            await w.settle()
            assert len(w.network.open) == rules.get("concurrency", 10)
            check_places(w)
            await drain(w)
            assert statuses(w) == {"COMPLETED": 10}
            check_rest(w)

        test()

    @virtually
    async def test_lowered(self) -> None:
        w = await world(concurrency=4)
        await send_many(w, 10)
        await w.settle()
        await w.register(config("f", "go", concurrency=2))
        first = w.network.open
        assert len(first) == 4
        for call, left in zip(first, (3, 2, 2, 2), strict=True):
            call.returns()
            await w.settle()
            assert len(w.network.open) == left
            check_places(w)
        await drain(w)
        check_rest(w)

    @virtually
    async def test_added_while_runs_are_under_way(self) -> None:
        """Runs that began without limits go on without."""
        w = await world()
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        await w.register(config("f", "go", concurrency=1))
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        assert len(w.network.open) == 3
        for call in list(w.network.open)[:2]:
            call.ops(step("a", 1))
        await w.settle()
        await drain(w)
        assert statuses(w) == {"COMPLETED": 4}
        check_rest(w)

    @virtually
    async def test_the_key_changes_while_runs_wait(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "event.data.u"}])
        await w.send(*[an_event("go", {"u": 1, "v": n}) for n in range(3)])
        await w.settle()
        await w.register(config("f", "go", concurrency=[{"limit": 1, "key": "event.data.v"}]))
        await w.send(*[an_event("go", {"u": 1, "v": n}) for n in range(3)])
        await w.restart()
        await w.settle()
        await drain(w)
        assert statuses(w) == {"COMPLETED": 6}
        check_rest(w)

    @virtually
    async def test_its_throttle_is_removed(self) -> None:
        w = await world(throttle={"limit": 1, "period": "1h"})
        await send_many(w, 3)
        await w.settle()
        assert len(w.network.open) == 1
        await w.register(config("f", "go"))
        await w.settle()
        assert len(w.network.open) == 3
        await drain(w)
        check_rest(w)

    @virtually
    async def test_the_function_is_archived_while_runs_wait(self) -> None:
        w = await world(concurrency=1)
        await send_many(w, 3)
        await w.settle()
        await w.register(config("g", "other"))
        await drain(w)
        assert statuses(w) == {"COMPLETED": 3}
        check_rest(w)


class TestPause:
    @virtually
    async def test_two_thousand_held_over_a_restart(self) -> None:
        w = await world(concurrency=20)
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await send_many(w, 2_000)
        await w.restart()
        await w.sleep(5)
        assert not w.network.calls
        await w.submit(PauseFunction(slug=F, pause=Pause.NO))
        order = [data_of(call)["n"] for call in await drain(w)]
        assert sorted(order) == list(range(2_000))
        assert in_order(order)
        check_rest(w)

    @virtually
    async def test_paused_again_in_the_middle_of_what_was_held(self) -> None:
        w = await world(concurrency=5)
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await send_many(w, 1_500)
        await w.submit(PauseFunction(slug=F, pause=Pause.NO))
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await w.settle()
        await w.restart()
        await w.settle(400)
        before = len(await drain(w))
        assert before < 1_500
        await w.submit(PauseFunction(slug=F, pause=Pause.NO))
        await w.settle()
        await drain(w)
        assert statuses(w) == {"COMPLETED": 1_500}
        check_rest(w)

    @virtually
    async def test_runs_that_have_begun_go_on(self) -> None:
        w = await world(concurrency=1)
        await w.send(an_event("go"))
        (await w.call()).ops(sleep("s", "10s"))
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await w.send(an_event("go"))
        await w.sleep(11)
        (await w.call()).returns()
        await w.settle()
        assert statuses(w) == {"COMPLETED": 1, "QUEUED": 1}

    @virtually
    async def test_a_held_run_can_be_cancelled(self) -> None:
        w = await world(concurrency=1)
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await w.send(an_event("go"), an_event("go"))
        await w.restart()
        await w.submit(CancelRun(run=min(w.tables.runs)))
        await w.submit(PauseFunction(slug=F, pause=Pause.NO))
        await drain(w)
        assert statuses(w) == {"COMPLETED": 1, "CANCELLED": 1}
        check_rest(w)


class TestShorterTimes:
    """What is held back by a time that has become shorter is not held for the longer one."""

    @virtually
    async def test_of_a_debounce(self) -> None:
        w = await world(debounce={"period": "1h"})
        await w.send(an_event("go", {"n": 1}))
        await w.register(config("f", "go", debounce={"period": "5s"}))
        await w.sleep(1)
        await w.send(an_event("go", {"n": 2}, at=w.clock.now()))
        await w.sleep(5.1)
        assert [data_of(call)["n"] for call in w.network.calls] == [2]
        await w.sleep(4_000)
        await drain(w)
        assert len(w.tables.runs) == 1
        check_rest(w)

    @virtually
    async def test_of_a_batch(self) -> None:
        w = await world(batchEvents={"maxSize": 10, "timeout": "10m"})
        await w.send(an_event("go"))
        await w.register(config("f", "go", batchEvents={"maxSize": 10, "timeout": "5s"}))
        await w.send(an_event("go"))
        await w.sleep(5.1)
        assert [len(call.body["events"]) for call in w.network.calls] == [2]
        await w.sleep(4_000)
        await drain(w)
        check_rest(w)

    @virtually
    async def test_of_a_clock_that_is_set_back(self) -> None:
        w = await world(debounce={"period": "5s"})
        w.clock.offset = 3_600_000
        await w.send(an_event("go", {"n": 1}, at=w.clock.now()))
        w.clock.offset = 0
        await w.sleep(1)
        await w.send(an_event("go", {"n": 2}, at=START_MS + 3_600_001))
        await w.sleep(6)
        assert len(w.tables.runs) == 1

"""The rules of flow control in the shard: what starts, waits, is joined, dropped or cancelled, on a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from typing import Any

import msgspec

from perdure.core.flow.admission import Pause
from perdure.shard.commands import PauseFunction
from perdure.shard.rows import RunEventRow
from tests.sim.memory_store import MemoryStore
from tests.unit.shard.shards import APP, SETTINGS, World, an_event, config, sleep, step, virtually, wait


async def world(**rules: Any) -> World:
    return await World().start(config("f", "go", **rules))


def statuses(w: World) -> Counter[str]:
    return Counter(run.status for run in w.tables.runs.values())


async def finish_all(w: World) -> int:
    """Answer every open call; how many there were."""
    calls = w.network.open
    for call in calls:
        call.returns()
    await w.settle()
    return len(calls)


class TestConcurrency:
    @virtually
    async def test_never_more_than_the_limit(self) -> None:
        w = await world(concurrency=2)
        await w.send(*[an_event("go") for _ in range(7)])
        seen = []
        for _ in range(4):
            await w.settle()
            seen.append(await finish_all(w))
        assert seen == [2, 2, 2, 1]
        assert statuses(w) == {"COMPLETED": 7}

    @virtually
    async def test_each_key_has_its_own(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "event.data.u"}])
        await w.send(*[an_event("go", {"u": n % 3}) for n in range(9)])
        await w.settle()
        assert len(w.network.open) == 3
        for _ in range(3):
            await finish_all(w)
        assert statuses(w) == {"COMPLETED": 9}

    @virtually
    async def test_a_small_key_is_served_beside_a_long_line(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "event.data.u"}])
        await w.send(*[an_event("go", {"u": "big"}) for _ in range(300)])
        await w.send(an_event("go", {"u": "small"}))
        await w.settle()
        assert {call.body["event"]["data"]["u"] for call in w.network.open} == {"big", "small"}

    @virtually
    async def test_a_run_that_sleeps_takes_no_place_of_a_limit_on_steps(self) -> None:
        w = await world(concurrency=1)
        await w.send(an_event("go"), an_event("go"))
        (await w.call()).ops(sleep("s", "1h"))
        (await w.call()).ops(sleep("s", "1h"))
        await w.sleep(3_700)
        assert len(w.network.open) == 1

    @virtually
    async def test_a_run_that_sleeps_keeps_its_place_of_a_limit_on_runs(self) -> None:
        w = await world(concurrency={"fn": [{"limit": 1}]})
        await w.send(an_event("go"), an_event("go"))
        (await w.call()).ops(sleep("s", "1h"))
        await w.settle()
        assert not w.network.open
        await w.restart()
        await w.settle()
        assert not w.network.open
        await w.sleep(3_700)
        (await w.call()).returns()
        (await w.call()).returns()
        await w.settle()
        assert statuses(w) == {"COMPLETED": 2}
        assert not w.tables.keys or {key.kind for key in w.tables.keys} == {"taken"}

    @virtually
    async def test_lines_are_read_again_after_a_restart(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "event.data.u"}])
        await w.send(*[an_event("go", {"u": n % 2}) for n in range(8)])
        await w.settle()
        assert len(w.network.open) == 2
        w.network.calls.clear()
        await w.restart()
        await w.settle()
        for _ in range(4):
            await w.settle()
            assert await finish_all(w) == 2
        assert statuses(w) == {"COMPLETED": 8}

    @virtually
    async def test_retries_wait_for_a_place_too(self) -> None:
        w = await world(concurrency=1)
        await w.send(an_event("go"), an_event("go"))
        (await w.call()).throws()
        (await w.call()).ops(step("a", 1))
        await w.sleep(60)
        assert len(w.network.open) == 1

    @virtually
    async def test_those_of_one_request_go_in_their_order(self) -> None:
        w = await world(concurrency=1)
        await w.send(*[an_event("go", {"n": n}) for n in range(20)])
        order = []
        for _ in range(20):
            call = await w.call()
            order.append(call.body["event"]["data"]["n"])
            call.returns()
        assert order == list(range(20))

    @virtually
    async def test_runs_that_began_first_end_first(self) -> None:
        w = await world(concurrency=1)
        await w.send(*[an_event("go", {"n": n}) for n in range(5)])
        order = []
        for _ in range(10):
            call = await w.call()
            order.append(call.body["event"]["data"]["n"])
            if call.body["steps"]:
                call.returns()
            else:
                call.ops(step("a", 1))
        assert order == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


class TestThrottle:
    @virtually
    async def test_starts_are_spaced(self) -> None:
        w = await world(throttle={"limit": 1, "period": "5s"})
        await w.send(*[an_event("go") for _ in range(3)])
        await w.settle()
        assert len(w.network.calls) == 1
        await w.sleep(4.9)
        assert len(w.network.calls) == 1
        await w.sleep(0.2)
        assert len(w.network.calls) == 2
        await w.restart()
        await w.sleep(4)
        assert len([c for c in w.network.calls if c.headers["x-inngest-generation-id"] == "1"]) == 2
        await w.sleep(1)
        assert len([c for c in w.network.calls if c.headers["x-inngest-generation-id"] == "1"]) == 3


class TestRateLimit:
    @virtually
    async def test_what_is_over_is_dropped(self) -> None:
        w = await world(rateLimit={"limit": 2, "period": "10s"})
        for _ in range(4):
            await w.send(an_event("go"))
        await w.settle()
        assert len(w.tables.runs) == 2
        await w.sleep(10)
        await w.send(an_event("go"))
        await w.settle()
        assert len(w.tables.runs) == 3


class TestDebounce:
    @virtually
    async def test_the_last_of_a_flurry_runs_once(self) -> None:
        w = await world(debounce={"period": "10s"})
        for n in range(3):
            await w.send(an_event("go", {"n": n}, at=w.clock.now()))
            await w.sleep(5)
        assert not w.tables.runs
        await w.restart()
        await w.sleep(6)
        assert (await w.call()).body["event"]["data"] == {"n": 2}
        assert not w.tables.items.keys() - w.tables.runs.keys()
        await w.sleep(60)
        assert len(w.tables.runs) == 1


class TestBatch:
    @virtually
    async def test_by_size_and_by_time(self) -> None:
        w = await world(batchEvents={"maxSize": 3, "timeout": "5s"})
        await w.send(*[an_event("go", {"n": n}) for n in range(4)])
        call = await w.call()
        assert [event["data"]["n"] for event in call.body["events"]] == [0, 1, 2]
        call.returns()
        await w.settle()
        await w.restart()
        await w.sleep(6)
        assert [event["data"]["n"] for event in (await w.call()).body["events"]] == [3]
        assert all(run.batch_id for run in w.tables.runs.values())
        assert not {key.kind for key in w.tables.keys} - {"taken"}
        assert not w.tables.items.keys() - w.tables.runs.keys()

    @virtually
    async def test_full_while_its_events_are_not_on_disk_yet(self) -> None:
        loop = asyncio.get_running_loop()
        store = MemoryStore(scheduler=lambda write: void(loop.call_later(0.05, write)))
        w = await World(store).start(config("f", "go", batchEvents={"maxSize": 3, "timeout": "5s"}))
        await w.send(*[an_event("go", {"n": n}) for n in range(3)])
        await w.sleep(1)
        assert [event["data"]["n"] for event in (await w.call()).body["events"]] == [0, 1, 2]


def void(_: object) -> None:
    """Nothing comes back."""


class TestSingleton:
    @virtually
    async def test_skip(self) -> None:
        w = await world(singleton={"mode": "skip"})
        await w.send(an_event("go"))
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 1}
        await finish_all(w)
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 1, "COMPLETED": 1}

    @virtually
    async def test_cancel(self) -> None:
        w = await world(singleton={"mode": "cancel"})
        await w.send(an_event("go"))
        await w.settle()
        await w.restart()
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1, "CANCELLED": 1}


class TestTimeouts:
    @virtually
    async def test_start(self) -> None:
        w = await world(concurrency=1, timeouts={"start": "2s"})
        await w.send(an_event("go"), an_event("go"))
        await w.sleep(2.1)
        assert statuses(w) == {"RUNNING": 1, "CANCELLED": 1}

    @virtually
    async def test_finish(self) -> None:
        w = await world(timeouts={"finish": "3s"})
        await w.send(an_event("go"))
        (await w.call()).ops(sleep("s", "1h"))
        await w.sleep(2.9)
        assert statuses(w) == {"RUNNING": 1}
        await w.sleep(0.2)
        assert statuses(w) == {"CANCELLED": 1}


class TestCancelOn:
    @virtually
    async def test_an_event_that_matches(self) -> None:
        w = await world(cancel=[{"event": "stop", "if": "event.data.id == async.data.id"}])
        await w.send(an_event("go", {"id": 1}), an_event("go", {"id": 2}))
        await w.settle()
        await w.send(an_event("stop", {"id": 2}))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1, "CANCELLED": 1}
        assert len(w.events("inngest/function.cancelled")) == 1
        (cancelled,) = (run.id for run in w.tables.runs.values() if run.status == "CANCELLED")
        (stop,) = (event.internal_id for event in w.tables.events.values() if event.name == "stop")
        assert w.tables.run_events == {RunEventRow(stop, cancelled, "cancel")}

    @virtually
    async def test_not_after_its_timeout(self) -> None:
        w = await world(cancel=[{"event": "stop", "timeout": "5s"}])
        await w.send(an_event("go"))
        await w.sleep(6)
        await w.send(an_event("stop"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1}

    @virtually
    async def test_in_the_same_request(self) -> None:
        w = await world(cancel=[{"event": "stop"}])
        await w.send(an_event("stop"), an_event("go"), an_event("stop"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1}


class TestPriority:
    @virtually
    async def test_the_important_go_first(self) -> None:
        w = await world(concurrency=1, priority={"run": "event.data.p"})
        await w.send(an_event("go", {"p": 0}), *[an_event("go", {"p": p}) for p in (0, 50, -50, 100)])
        order = []
        for _ in range(5):
            call = await w.call()
            order.append(call.body["event"]["data"]["p"])
            call.returns()
        assert order[1:] == [100, 50, 0, -50] or order == [100, 50, 0, 0, -50]


class TestCron:
    @virtually
    async def test_fires_once_for_each_time(self) -> None:
        w = await World().start(config("f", {"cron": "*/10 * * * * *"}))
        for _ in range(3):
            await w.sleep(10)
            await finish_all(w)
        assert len(w.tables.runs) == 3
        await w.restart()
        await w.sleep(10)
        assert len(w.tables.runs) == 4
        assert {run.cron for run in w.tables.runs.values()} == {"*/10 * * * * *"}
        data = w.events("inngest/scheduled.timer")[0]["data"]
        assert data["cron"] == "*/10 * * * * *"


class TestPause:
    @virtually
    async def test_hold(self) -> None:
        w = await world(concurrency=1)
        await w.submit(PauseFunction(slug=f"{APP}-f", pause=Pause.HOLD))
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        assert not w.network.calls
        await w.restart()
        await w.settle()
        assert not w.network.calls
        await w.submit(PauseFunction(slug=f"{APP}-f", pause=Pause.NO))
        (await w.call()).returns()
        (await w.call()).returns()

    @virtually
    async def test_what_was_queued_before_begins_after(self) -> None:
        w = await world(concurrency=1)
        await w.send(*[an_event("go", {"n": n}) for n in range(3)])
        first = await w.call()
        await w.submit(PauseFunction(slug=f"{APP}-f", pause=Pause.HOLD))
        first.ops(step("a", 1))
        (await w.call()).returns()
        await w.settle()
        assert not w.network.open
        await w.restart()
        await w.sleep(10)
        assert not w.network.open
        await w.submit(PauseFunction(slug=f"{APP}-f", pause=Pause.NO))
        for n in (1, 2):
            call = await w.call()
            assert call.body["event"]["data"]["n"] == n
            call.returns()

    @virtually
    async def test_skip(self) -> None:
        w = await world()
        await w.submit(PauseFunction(slug=f"{APP}-f", pause=Pause.SKIP))
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"SKIPPED": 1}
        ended = [json.loads(h.body) for h in w.tables.history[w.run().id].values() if h.kind == "ended"]
        assert ended[0]["reason"] == "FunctionPaused"


class TestLookback:
    @virtually
    async def test_an_event_just_before_the_wait_ends_it_once(self) -> None:
        settings = msgspec.structs.replace(SETTINGS, lookback_ms=10_000)
        w = await World(settings=settings).start(config("f", "go"))
        await w.send(an_event("go"), an_event("paid", {"n": 1}))
        call = await w.call()
        await w.sleep(5)
        call.ops(wait("first", "paid"))
        call = await w.call()
        assert w.steps(call.run_id)["first"]["data"] == {"n": 1}
        (paid,) = (event.internal_id for event in w.tables.events.values() if event.name == "paid")
        assert w.tables.run_events == {RunEventRow(paid, call.run_id, "wait")}
        call.ops(wait("second", "paid"))
        await w.settle()
        assert not w.network.open
        assert [item.kind for item in w.items(call.run_id)] == ["wait"]
        assert not w.tables.items.keys() - w.tables.runs.keys()

    @virtually
    async def test_an_event_that_is_not_on_disk_yet(self) -> None:
        loop = asyncio.get_running_loop()
        store = MemoryStore(scheduler=lambda write: void(loop.call_later(0.05, write)))
        settings = msgspec.structs.replace(SETTINGS, lookback_ms=10_000)
        w = await World(store, settings=settings).start(config("f", "go"), config("g", "paid"))
        await w.send(an_event("go"))
        await w.sleep(1)
        call = await w.call()
        sent = asyncio.ensure_future(w.send(an_event("paid", {"n": 1})))
        call.ops(wait("first", "paid"))
        await w.sleep(1)
        await sent
        assert w.steps(call.run_id)["first"]["data"] == {"n": 1}

    @virtually
    async def test_off_unless_asked_for(self) -> None:
        w = await world()
        await w.send(an_event("go"), an_event("paid"))
        (await w.call()).ops(wait("first", "paid"))
        await w.settle()
        assert not w.network.open

    @virtually
    async def test_one_wait_asks_for_it(self) -> None:
        w = await world()
        await w.send(an_event("go"), an_event("paid", {"n": 2}))
        await w.sleep(5)
        (await w.call()).ops(wait("first", "paid", **{"lookback": "1m", "if": "async.data.n == 2"}))
        assert (await w.call()).body["steps"]["first"]["data"] == {"n": 2}


class TestThrottleOfRunsThatMustBeRead:
    @virtually
    async def test_keeps_its_distance(self) -> None:
        w = await world(throttle={"limit": 1, "period": "5s"})
        await w.send(*[an_event("go") for _ in range(4)])
        await w.settle()

        async def gate(name: str) -> None:
            if name == "load_runs":
                await asyncio.sleep(2)

        await w.restart()
        w.store.load_gate = gate
        while len(runs := sorted(run.started_at for run in w.tables.runs.values() if run.started_at)) < 4:
            await w.sleep(0.1)
            if len(runs) == 3:
                w.store.load_gate = None
        apart = [later - sooner for sooner, later in itertools.pairwise(runs)]
        assert min(apart) >= 5_000
        assert max(apart) >= 7_000, "no run had to be read"


class TestAtOnce:
    """A call that nobody stands before takes its places without a line."""

    @virtually
    async def test_those_that_wait_are_not_passed(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "event.data.u"}])
        await w.send(*[an_event("go", {"u": 1, "n": n}) for n in range(3)])
        first = await w.call()
        await w.send(an_event("go", {"u": 1, "n": 3}))
        order = []
        first.returns()
        for _ in range(3):
            call = await w.call()
            order.append(call.body["event"]["data"]["n"])
            call.returns()
        assert order == [1, 2, 3]

    @virtually
    async def test_places_are_given_back_when_it_is_cancelled_before_it_leaves(self) -> None:
        w = await world(concurrency=1, cancel=[{"event": "stop"}])
        await w.send(an_event("go", {"n": 0}), an_event("stop"), an_event("go", {"n": 1}))
        call = await w.call()
        assert call.body["event"]["data"]["n"] == 1
        call.returns()
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1, "COMPLETED": 1}
        assert not len(w.shard.state.lines.turns.room.counters)

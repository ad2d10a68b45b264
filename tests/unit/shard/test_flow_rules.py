"""Rules that look at an event before there is a run, under races, restarts, changes of configuration and invocation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure.core.flow import batch as batch_module
from perdure.core.flow.admission import Pause
from perdure.errors import StoreUnavailable
from perdure.shard.commands import CancelRun, PauseFunction, Rerun
from tests.sim.virtual_time import START_MS
from tests.unit.shard.flows import (
    F,
    check_rest,
    data_of,
    drain,
    finish_all,
    hold_reads,
    reasons,
    statuses,
    world,
)
from tests.unit.shard.shards import World, an_event, config, sleep, virtually


async def race(w: World, count: int, data: Callable[[int], Any] = lambda n: {"n": n}) -> None:
    """Events whose reads all begin before the first of them is decided."""
    gates = hold_reads(w)
    sends = []
    for n in range(count):
        sends.append(asyncio.ensure_future(w.send(an_event("go", data(n), at=w.clock.now()))))
        await w.settle()
    w.store.load_gate = None
    assert len(gates) == count
    for gate in reversed(gates):
        gate.set()
        await w.settle()
    await asyncio.gather(*sends)
    await w.settle()


class TestRaces:
    """Two events read the same key before either has written it."""

    @virtually
    async def test_rate_limit(self) -> None:
        w = await world(rateLimit={"limit": 2, "period": "1h"})
        await race(w, 5)
        assert [data_of(call)["n"] for call in w.network.calls] == [0, 1]

    @virtually
    async def test_idempotency(self) -> None:
        w = await world(idempotency="event.data.k")
        await race(w, 4, lambda n: {"k": n % 2})
        assert len(w.tables.runs) == 2

    @virtually
    async def test_debounce(self) -> None:
        w = await world(debounce={"period": "5s"})
        await race(w, 4)
        await w.sleep(6)
        assert [data_of(call)["n"] for call in w.network.calls] == [3]
        await drain(w)
        await w.sleep(30)
        assert len(w.tables.runs) == 1
        check_rest(w)

    @virtually
    async def test_batch(self) -> None:
        w = await world(batchEvents={"maxSize": 3, "timeout": "5s"})
        await race(w, 7)
        await w.sleep(6)
        assert [[e["data"]["n"] for e in call.body["events"]] for call in w.network.calls] == [
            [0, 1, 2],
            [3, 4, 5],
            [6],
        ]
        await drain(w)
        check_rest(w)

    @virtually
    async def test_singleton_skip(self) -> None:
        w = await world(singleton={"mode": "skip"})
        await race(w, 3)
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 2}
        await drain(w)
        check_rest(w)

    @virtually
    async def test_singleton_cancel(self) -> None:
        w = await world(singleton={"mode": "cancel"})
        await race(w, 3)
        assert statuses(w) == {"RUNNING": 1, "CANCELLED": 2}
        first, second, third = sorted(w.tables.runs.values())
        assert {(row.event_id, row.run_id) for row in w.tables.run_events if row.how == "cancel"} == {
            (second.event_id, first.id),
            (third.event_id, second.id),
        }
        await drain(w)
        assert [data_of(call)["n"] for call in w.network.calls][-1] == 2
        check_rest(w)

    @virtually
    async def test_a_singleton_that_ends_while_the_next_is_read(self) -> None:
        w = await world(singleton={"mode": "skip"})
        await w.send(an_event("go"))
        call = await w.call()
        gates = hold_reads(w)
        send = asyncio.ensure_future(w.send(an_event("go")))
        await w.settle()
        call.returns()
        await w.settle()
        w.store.load_gate = None
        gates[0].set()
        await send
        await w.settle()
        assert statuses(w) == {"COMPLETED": 1, "RUNNING": 1}

    @virtually
    async def test_a_debounce_that_fires_while_the_next_event_is_read(self) -> None:
        w = await world(debounce={"period": "5s"})
        await w.send(an_event("go", {"n": 0}))
        await w.sleep(4.9)
        gates = hold_reads(w)
        send = asyncio.ensure_future(w.send(an_event("go", {"n": 1}, at=w.clock.now())))
        await w.sleep(1)
        w.store.load_gate = None
        for gate in gates:
            gate.set()
        await send
        await w.sleep(10)
        seen = [data_of(call)["n"] for call in w.network.calls]
        assert seen in ([0, 1], [1])
        await drain(w)
        await w.sleep(30)
        check_rest(w)


async def under_faults(
    w: World, seed: int, landed: bool, work: Callable[[], Awaitable[None]], share: float = 0.15
) -> None:
    """Do something while commits fail and reads dawdle; then let everything settle."""
    dice = random.Random(seed)

    def fail(shard: int, changes: Any) -> None:
        if dice.random() < share:
            raise StoreUnavailable("the disk is full")

    async def dawdle(name: str) -> None:
        await asyncio.sleep(dice.choice((0, 0, 0.01, 0.3)))

    w.store.load_gate = dawdle
    if landed:
        w.store.after_commit = fail
    else:
        w.store.before_commit = fail
    await work()
    w.store.before_commit = w.store.after_commit = w.store.load_gate = None
    await w.sleep(20)


async def send_surely(w: World, name: str, data: Any, id: str) -> None:
    """Send an event as a client does: again, until the server says that it has it."""
    for _ in range(100):
        try:
            await w.send(an_event(name, data, id=id, at=w.clock.now()))
            return
        except Exception:
            await asyncio.sleep(0.5)
    raise AssertionError("never taken")


class TestFaults:
    """Each rule, while commits fail (before or after they landed) and reads come late: nothing is lost or doubled."""

    @pytest.mark.parametrize("landed", [False, True])
    @pytest.mark.parametrize("seed", range(3))
    def test_batch(self, seed: int, landed: bool) -> None:
        @virtually
        async def test() -> None:
            w = await world(batchEvents={"maxSize": 4, "timeout": "2s", "key": "event.data.k"})

            async def work() -> None:
                await asyncio.gather(
                    *[send_surely(w, "go", {"n": n, "k": n % 2}, f"e{n}") for n in range(15)]
                )
                await w.sleep(1)
                await asyncio.gather(
                    *[send_surely(w, "go", {"n": n, "k": n % 2}, f"e{n}") for n in range(15, 30)]
                )
                await w.sleep(5)

            await under_faults(w, seed, landed, work)
            calls = {call.run_id: call for call in w.network.calls}.values()
            assert sorted(e["data"]["n"] for call in calls for e in call.body["events"]) == list(range(30))
            assert all(len({e["data"]["k"] for e in call.body["events"]}) == 1 for call in calls)
            await drain(w)
            check_rest(w)

        test()

    @pytest.mark.parametrize("landed", [False, True])
    @pytest.mark.parametrize("seed", range(3))
    def test_debounce(self, seed: int, landed: bool) -> None:
        @virtually
        async def test() -> None:
            w = await world(debounce={"period": "3s", "key": "event.data.k"})

            async def work() -> None:
                for n in range(12):
                    await send_surely(w, "go", {"n": n, "k": n % 2}, f"e{n}")

            await under_faults(w, seed, landed, work)
            runs = {call.run_id: data_of(call)["n"] for call in w.network.calls}
            assert len(runs) == len(set(runs.values()))
            assert {10, 11} <= set(runs.values())
            await drain(w)
            check_rest(w)

        test()

    @pytest.mark.parametrize("mode", ["skip", "cancel"])
    @pytest.mark.parametrize("landed", [False, True])
    @pytest.mark.parametrize("seed", range(3))
    def test_singleton(self, seed: int, landed: bool, mode: str) -> None:
        @virtually
        async def test() -> None:
            w = await world(singleton={"mode": mode, "key": "event.data.k"})

            async def work() -> None:
                for n in range(12):
                    await send_surely(w, "go", {"n": n, "k": n % 2}, f"e{n}")
                    live = [run for run in w.tables.runs.values() if run.status in ("QUEUED", "RUNNING")]
                    keys = [w.tables.events[int(run.receipts.strip("[]"))].body for run in live]
                    assert len({key.partition(b'"k":')[2][:1] for key in keys}) == len(keys)
                    if n % 5 == 4:
                        await finish_all(w)

            await under_faults(w, seed, landed, work)
            await drain(w)
            assert len(w.tables.runs) == 12
            check_rest(w)

        test()

    @pytest.mark.parametrize("landed", [False, True])
    def test_rate_limit(self, landed: bool) -> None:
        @virtually
        async def test() -> None:
            w = await world(rateLimit={"limit": 3, "period": "1h"})

            async def work() -> None:
                for n in range(12):
                    await send_surely(w, "go", {"n": n}, f"e{n}")

            await under_faults(w, 5, landed, work)
            assert len(w.tables.runs) == 3

        test()


class TestDebounce:
    @virtually
    async def test_at_its_cap_a_second_is_left_once(self) -> None:
        w = await world(debounce={"period": "5s", "timeout": "12s"})
        for n in range(26):
            if not w.tables.runs:
                await w.send(an_event("go", {"n": n}, at=w.clock.now()))
            await w.sleep(0.5)
        (run,) = w.tables.runs.values()
        assert 12_000 <= run.created_at - START_MS <= 13_000

    @virtually
    async def test_an_older_event_is_ignored(self) -> None:
        w = await world(debounce={"period": "5s"})
        await w.send(an_event("go", {"n": "new"}, at=START_MS + 1_000))
        await w.sleep(3)
        await w.send(an_event("go", {"n": "old"}, at=START_MS - 60_000))
        await w.sleep(2.5)
        assert [data_of(call)["n"] for call in w.network.calls] == ["new"]

    @virtually
    async def test_an_event_of_the_future_waits_after_its_debounce(self) -> None:
        w = await world(debounce={"period": "5s"})
        await w.send(an_event("go", at=START_MS + 20_000))
        await w.sleep(19)
        assert not w.network.calls
        await w.sleep(2)
        assert len(w.network.calls) == 1

    @virtually
    async def test_its_function_is_archived(self) -> None:
        w = await world(debounce={"period": "5s"})
        await w.send(an_event("go"))
        await w.register(config("g", "other"))
        await w.sleep(10)
        assert not w.tables.runs
        check_rest(w)

    @virtually
    async def test_the_rule_is_removed_before_it_fires(self) -> None:
        w = await world(debounce={"period": "5s"})
        await w.send(an_event("go", {"n": 1}))
        await w.register(config("f", "go"))
        await w.sleep(6)
        assert [data_of(call)["n"] for call in w.network.calls] == [1]
        await drain(w)
        check_rest(w)

    @virtually
    async def test_held_when_its_function_is_paused(self) -> None:
        w = await world(debounce={"period": "5s"})
        await w.send(an_event("go"))
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await w.sleep(10)
        assert statuses(w) == {"QUEUED": 1}
        assert not w.network.calls
        await w.restart()
        await w.submit(PauseFunction(slug=F, pause=Pause.NO))
        await drain(w)
        check_rest(w)

    @virtually
    async def test_the_same_id_again(self) -> None:
        w = await world(debounce={"period": "5s"})
        for _ in range(3):
            await w.send(an_event("go", id="same"))
            await w.sleep(3)
        await w.sleep(10)
        assert len(w.tables.runs) == 1


class TestBatch:
    @virtually
    async def test_by_bytes(self) -> None:
        w = await world(batchEvents={"maxSize": 100, "timeout": "1h"})
        big = "x" * (3 * 1024 * 1024)
        for n in range(5):
            await w.send(an_event("go", {"n": n, "x": big}))
        call = await w.call()
        body = call.body
        assert body["use_api"], "ten MiB do not travel in a call"
        run = w.run()
        assert len(w.tables.runs) == 1
        assert run.receipts == "[1,2,3,4]"
        assert batch_module.MAX_BYTES == 10 * 1024 * 1024

    @virtually
    async def test_the_same_id_again(self) -> None:
        w = await world(batchEvents={"maxSize": 3, "timeout": "5s"})
        for id in ("a", "b", "a", "b", "a"):
            await w.send(an_event("go", {"id": id}, id=id))
        assert not w.tables.runs
        await w.send(an_event("go", {"id": "a"}, id="a"), an_event("go", {"id": "c"}, id="c"))
        assert [event["data"]["id"] for event in (await w.call()).body["events"]] == ["a", "b", "c"]
        await w.sleep(10)
        assert len(w.tables.runs) == 1

    @virtually
    async def test_its_condition(self) -> None:
        w = await world(batchEvents={"maxSize": 3, "timeout": "5s", "if": "event.data.batch == true"})
        await w.send(an_event("go", {"batch": True}), an_event("go", {"batch": False}), an_event("go", {}))
        await w.settle()
        assert len(w.network.open) == 2
        assert all(len(call.body["events"]) == 1 for call in w.network.open)
        assert all(run.batch_id is None for run in w.tables.runs.values())
        await w.sleep(6)
        assert len(w.tables.runs) == 3
        await drain(w)
        check_rest(w)

    @virtually
    async def test_its_function_is_archived(self) -> None:
        w = await world(batchEvents={"maxSize": 3, "timeout": "5s"})
        await w.send(an_event("go"))
        await w.register(config("g", "other"))
        await w.sleep(10)
        assert not w.tables.runs
        check_rest(w)

    @virtually
    async def test_its_size_is_lowered(self) -> None:
        w = await world(batchEvents={"maxSize": 10, "timeout": "5s"})
        await w.send(*[an_event("go", {"n": n}) for n in range(5)])
        await w.register(config("f", "go", batchEvents={"maxSize": 3, "timeout": "5s"}))
        await w.send(an_event("go", {"n": 5}))
        await w.sleep(6)
        found = [[e["data"]["n"] for e in call.body["events"]] for call in w.network.calls]
        assert sorted(n for group in found for n in group) == list(range(6))
        await drain(w)
        check_rest(w)

    @virtually
    async def test_with_concurrency_and_a_restart_while_it_waits(self) -> None:
        w = await world(batchEvents={"maxSize": 2, "timeout": "5s"}, concurrency=1)
        await w.send(*[an_event("go", {"n": n}) for n in range(6)])
        await w.settle()
        w.network.calls.clear()
        await w.restart()
        calls = await drain(w)
        assert [[e["data"]["n"] for e in call.body["events"]] for call in calls] == [[0, 1], [2, 3], [4, 5]]
        check_rest(w)

    @virtually
    async def test_a_rerun_has_the_same_events(self) -> None:
        w = await world(batchEvents={"maxSize": 2, "timeout": "5s"})
        await w.send(*[an_event("go", {"n": n}) for n in range(2)])
        call = await w.call()
        call.returns()
        await w.settle()
        await w.restart()
        await w.submit(Rerun(run=call.run_id))
        assert [e["data"]["n"] for e in (await w.call()).body["events"]] == [0, 1]


class TestSingleton:
    @virtually
    async def test_the_holder_sleeps_through_a_restart(self) -> None:
        w = await world(singleton={"mode": "skip"})
        await w.send(an_event("go"))
        (await w.call()).ops(sleep("s", "1h"))
        await w.settle()
        await w.restart()
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 1}
        await w.sleep(3_601)
        await drain(w)
        check_rest(w)

    @virtually
    async def test_a_holder_that_is_cancelled_gives_up_the_key(self) -> None:
        w = await world(singleton={"mode": "skip"})
        await w.send(an_event("go"))
        call = await w.call()
        await w.submit(CancelRun(run=call.run_id))
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1, "RUNNING": 1}

    @virtually
    async def test_many_in_one_request(self) -> None:
        w = await world(singleton={"mode": "cancel", "key": "event.data.u"})
        await w.send(*[an_event("go", {"u": n % 2, "n": n}) for n in range(10)])
        await w.settle()
        assert statuses(w) == {"RUNNING": 2, "CANCELLED": 8}
        assert sorted(data_of(call)["n"] for call in w.network.open) == [8, 9]
        await drain(w)
        check_rest(w)

    @virtually
    async def test_a_key_that_is_false_or_missing_leaves_the_event_alone(self) -> None:
        w = await world(singleton={"mode": "skip", "key": "event.data.u"})
        await w.send(
            an_event("go", {"u": False}), an_event("go", {"u": False}), an_event("go"), an_event("go")
        )
        await w.settle()
        assert statuses(w) == {"RUNNING": 4}

    @virtually
    async def test_a_cancelled_holder_that_waited_in_line(self) -> None:
        w = await world(singleton={"mode": "cancel", "key": "event.data.u"}, concurrency=1)
        await w.send(
            an_event("go", {"u": 0}), an_event("go", {"u": 1, "n": 1}), an_event("go", {"u": 1, "n": 2})
        )
        await w.settle()
        calls = await drain(w)
        assert [data_of(call).get("n") for call in calls] == [None, 2]
        check_rest(w)

    @virtually
    async def test_debounced_runs_of_one_key_do_not_overlap(self) -> None:
        w = await world(singleton={"mode": "skip"}, debounce={"period": "2s"})
        await w.send(an_event("go"))
        await w.sleep(3)
        await w.send(an_event("go", at=w.clock.now()))
        await w.sleep(3)
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 1}


class TestPauseAndRules:
    @virtually
    async def test_a_paused_singleton_that_is_skipped_cancels_nobody(self) -> None:
        w = await world(singleton={"mode": "cancel"})
        await w.send(an_event("go"))
        await w.settle()
        await w.submit(PauseFunction(slug=F, pause=Pause.SKIP))
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 1}
        assert "FunctionPaused" in reasons(w)

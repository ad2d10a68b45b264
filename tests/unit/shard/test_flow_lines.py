"""Lines of calls that wait for places: long ones, of which only a window is in memory; ends in every position."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.model import FIRST_ITEM
from perdure.errors import StoreUnavailable
from perdure.shard import lines as lines_module
from perdure.shard import memory as memory_module
from perdure.shard import queues
from perdure.shard.commands import CancelRun
from perdure.shard.lines import Line
from perdure.shard.rows import ItemRef
from tests.unit.shard.flows import (
    check_places,
    check_rest,
    data_of,
    drain,
    finish_all,
    generations,
    in_order,
    send_many,
    statuses,
    world,
)
from tests.unit.shard.shards import World, an_event, config, sleep, step, virtually


class TestLongLines:
    @virtually
    async def test_five_thousand_in_one_line_with_restarts(self) -> None:
        """More than the heap holds, and more than one window: each runs once, in order."""
        w = await world(concurrency=20)
        await send_many(w, 5_000)
        order: list[int] = []
        for round in range(400):
            await w.settle()
            calls = w.network.open
            if not calls:
                break
            assert len(calls) <= 20
            if round % 20 == 0:
                check_places(w)
            if round in (3, 100, 101, 200):
                w.network.calls.clear()
                await w.restart()
                continue
            order += [data_of(call)["n"] for call in calls]
            for call in calls:
                call.returns()
        assert sorted(order) == list(range(5_000))
        assert in_order(order)
        assert statuses(w) == {"COMPLETED": 5_000}
        check_rest(w)

    @virtually
    async def test_more_come_while_windows_are_read(self) -> None:
        w = await world(concurrency=10)
        await send_many(w, 4_500)
        await w.restart()
        w.network.calls.clear()

        async def dawdle(name: str) -> None:
            await asyncio.sleep(0.05)

        w.store.load_gate = dawdle
        seen: list[str] = []
        for round in range(700):
            if round < 50:
                await w.send(*[an_event("go", {"n": 4_500 + 10 * round + n}) for n in range(10)])
            await w.sleep(0.06)
            calls = w.network.open
            assert len(calls) <= 10
            for call in calls:
                call.returns()
            seen += [call.run_id for call in calls]
            if not calls and round > 60:
                break
        await w.settle()
        assert len(seen) == len(set(seen)) == 5_000
        assert statuses(w) == {"COMPLETED": 5_000}
        check_rest(w)

    @pytest.mark.parametrize("what", ["step", "fn"])
    @pytest.mark.parametrize("seed", range(8))
    def test_small_windows_and_late_comers_with_priority(
        self, seed: int, what: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The important pass those who have a ticket, and push the edge below them."""
        monkeypatch.setattr(queues, "WINDOW", 8)
        monkeypatch.setattr(queues, "HEAP_MAX", 12)
        monkeypatch.setattr("perdure.shard.loads.WINDOW", 8)
        monkeypatch.setattr(lines_module, "TICKETS", 3)
        monkeypatch.setattr(lines_module, "MAX_TICKETS", 6)
        monkeypatch.setattr(memory_module, "MAX_RESIDENT_RUNS", 10)

        @virtually
        async def test() -> None:
            dice = random.Random(seed)
            w = await world(
                concurrency=[{"limit": 2}, {"limit": 1, "key": "event.data.u"}]
                if what == "step"
                else {"fn": [{"limit": 1, "key": "event.data.u"}], "step": [{"limit": 2}]},
                priority={"run": "event.data.p"},
            )

            async def dawdle(name: str) -> None:
                await asyncio.sleep(dice.choice((0, 0, 0.01, 0.2)))

            def land(run: Callable[[], None]) -> None:
                asyncio.get_running_loop().call_later(dice.choice((0, 0.01, 0.1)), run)

            w.store.load_gate, w.store.scheduler = dawdle, land

            def check_limits(w: World) -> None:
                """Also calls of cancelled runs are open, until their app has ended them."""
                calls = [call for call in w.network.open if w.run(call.run_id).status == "RUNNING"]
                assert len(calls) <= 2
                assert len({data_of(call)["u"] for call in calls}) == len(calls)

            sent: list[asyncio.Future[Any]] = []
            for _ in range(150):
                data = {"u": dice.randrange(3), "p": dice.choice((-100, 0, 0, 50, 600))}
                sent.append(asyncio.ensure_future(w.send(an_event("go", data))))
                await w.sleep(dice.choice((0, 0, 0.005, 0.02)))
                calls = w.network.open
                check_limits(w)
                if calls and dice.random() < 0.4:
                    dice.choice(calls).returns()
                if dice.random() < 0.3:
                    run_id = dice.choice(list(w.tables.runs) or [""])
                    sent.append(asyncio.ensure_future(w.submit(CancelRun(run=run_id))))
            await asyncio.gather(*sent)
            for _ in range(3_000):
                await w.sleep(0.1)
                calls = w.network.open
                check_limits(w)
                if calls:
                    dice.choice(calls).returns()
                elif not any(run.status in ("QUEUED", "RUNNING") for run in w.tables.runs.values()):
                    break
            await w.sleep(2)
            assert len(w.tables.runs) == 150
            assert not w.network.open
            check_rest(w)

        test()


class TestFairness:
    @virtually
    async def test_small_keys_are_served_as_though_the_big_one_were_not_there(self) -> None:
        w = await world(concurrency=[{"limit": 10}, {"limit": 1, "key": "event.data.u"}])
        await send_many(w, 3_000, lambda _: {"u": "big"})
        await send_many(w, 250, lambda n: {"u": n % 50})
        turns = 0
        done: dict[object, int] = {}
        while len([u for u in done if u != "big" and done[u] == 5]) < 50:
            turns += 1
            assert turns < 200
            await w.settle()
            calls = w.network.open
            check_places(w)
            for call in calls:
                key = data_of(call)["u"]
                done[key] = done.get(key, 0) + 1
                call.returns()
        # 250 calls, ten at a time, of which the big key has one in 51 at least and one in 10 at most.
        assert 25 <= turns <= 30
        assert done["big"] <= turns


class TestEnds:
    """A run is cancelled wherever its call stands."""

    async def cancel(self, w: World, run_id: str) -> None:
        await w.submit(CancelRun(run=run_id))
        await w.settle()

    @virtually
    async def test_in_memory_beyond_the_tickets(self) -> None:
        w = await world(concurrency=1)
        await send_many(w, 200)
        await w.settle()
        waiting = sorted(run.id for run in w.tables.runs.values() if run.status == "QUEUED")
        for run_id in waiting[-20:] + waiting[:20]:
            await self.cancel(w, run_id)
        check_places(w)
        assert len(await drain(w)) == 160
        check_rest(w)

    @virtually
    async def test_beyond_the_edge(self) -> None:
        w = await world(concurrency=1)
        await send_many(w, 4_400)
        await w.settle()
        queue = next(q for (_, part), q in w.shard.state.queues.all.items() if part.startswith("wait:"))
        assert queue.edge is not queues.END
        last = sorted(w.tables.runs)[-1500:]
        for at in range(0, 1500, 50):
            await asyncio.gather(*[w.submit(CancelRun(run=run_id)) for run_id in last[at : at + 50]])
        w.network.calls.clear()
        await w.restart()
        await w.register(config("f", "go", concurrency=20))
        assert len(await drain(w)) == 2_900
        assert statuses(w) == {"COMPLETED": 2_900, "CANCELLED": 1_500}
        check_rest(w)

    @virtually
    async def test_granted_and_being_read(self) -> None:
        """It has its places, and its run is on its way from the store."""
        w = await world(concurrency={"step": [{"limit": 1}], "fn": [{"limit": 1}]})
        await send_many(w, 4)
        await w.settle()
        w.network.calls.clear()
        await w.restart()
        (await w.call()).returns()
        call = await w.call()  # the run by which the line has learned what its calls need
        gates: list[asyncio.Event] = []

        async def hold(name: str) -> None:
            if name == "load_runs":
                gates.append(asyncio.Event())
                await gates[-1].wait()

        w.store.load_gate = hold
        call.returns()
        await w.settle()
        assert not w.network.open
        assert gates, "no run is being read"
        (granted,) = w.shard.state.lines.turns.room.counters._held.keys() & w.tables.runs.keys()
        cancelled = asyncio.ensure_future(w.submit(CancelRun(run=granted)))
        await w.settle()
        w.store.load_gate = None
        for gate in gates:
            gate.set()
        await cancelled
        await w.settle()
        check_places(w)
        assert len(await drain(w)) == 1
        assert w.run(granted).status == "CANCELLED"
        check_rest(w)

    @virtually
    async def test_in_flight(self) -> None:
        w = await world(concurrency=1)
        await w.send(an_event("go"), an_event("go"))
        call = await w.call()
        await self.cancel(w, call.run_id)
        assert len(w.network.open) == 2, "its place is free, although its app still works"
        check_places(w)
        call.returns()
        await w.settle()
        check_places(w)
        (await w.call()).returns()
        await w.settle()
        assert statuses(w) == {"COMPLETED": 1, "CANCELLED": 1}
        check_rest(w)

    @virtually
    async def test_while_it_retries(self) -> None:
        w = await world(concurrency={"fn": [{"limit": 1}]})
        await w.send(an_event("go"), an_event("go"))
        call = await w.call()
        call.throws()
        await w.settle()
        assert not w.network.open
        await self.cancel(w, call.run_id)
        (await w.call()).returns()
        await w.settle()
        check_rest(w)


class TestStaleReferences:
    """A window that was read a while ago shows calls that have gone, or are under way, since."""

    def line(self, w: World) -> Line:
        (found,) = [queue for queue in w.shard.state.queues.all.values() if isinstance(queue, Line)]
        return found

    def show(self, w: World, run_id: str) -> None:
        line = self.line(w)
        line.push(ItemRef(line.heap[0].rank - 1, run_id, FIRST_ITEM), 1)
        w.shard.state.lines.touched[line] = None

    @pytest.mark.parametrize("in_memory", [True, False])
    def test_of_a_run_that_has_ended(self, in_memory: bool) -> None:
        @virtually
        async def test() -> None:
            w = await world(concurrency={"fn": [{"limit": 1}], "step": [{"limit": 1}]})
            await w.send(*[an_event("go", {"n": n}) for n in range(100)])
            first = await w.call()
            gone = sorted(w.tables.runs)[1]
            await w.submit(CancelRun(run=gone))
            await w.settle()
            if in_memory:
                w.shard._loads.want_run(gone, CancelRun(run=gone))
                w.shard._loads.flush()
                await w.settle()
            self.show(w, gone)
            first.returns()
            assert len(await drain(w)) == 98
            check_rest(w)

        test()

    @virtually
    async def test_of_a_call_under_way(self) -> None:
        w = await world(concurrency=1)
        await w.send(*[an_event("go") for _ in range(100)])
        call = await w.call()
        w.shard._dispatcher.paused = True
        await w.register(config("f", "go", concurrency=3))
        await w.settle()
        self.show(w, call.run_id)
        w.shard._dispatcher.paused = False
        await w.send(an_event("other"))
        await w.settle()
        assert len(w.network.open) == 3
        check_places(w)
        assert len(await drain(w)) == 100
        check_rest(w)


class TestFaults:
    """Commits that fail and reads that dawdle: nothing is lost, nothing runs twice, counters are right after."""

    @pytest.mark.parametrize("landed", [False, True])
    @pytest.mark.parametrize("seed", range(4))
    def test_commits_fail(self, landed: bool, seed: int) -> None:
        @virtually
        async def test() -> None:
            dice = random.Random(seed)
            w = await world(
                concurrency={"step": [{"limit": 3}], "fn": [{"limit": 2, "key": "event.data.u"}]},
                throttle={"limit": 20, "period": "1s", "burst": 3},
            )

            def fail(shard: int, changes: Any) -> None:
                if dice.random() < 0.1:
                    raise StoreUnavailable("the disk is full")

            if landed:
                w.store.after_commit = fail
            else:
                w.store.before_commit = fail
            sends = []
            for n in range(40):
                sends.append(asyncio.ensure_future(w.send(an_event("go", {"u": n % 3}, id=f"e{n}"))))
                await w.sleep(dice.choice((0, 0.05)))
                for call in w.network.open:
                    dice.choice((lambda c: c.returns(), lambda c: c.ops(step("a", 1)), lambda c: None))(call)
            for _ in range(400):
                await w.sleep(0.2)
                assert len(w.network.open) <= 3
                for call in w.network.open:
                    call.returns()
            w.store.before_commit = w.store.after_commit = None
            taken = sum(1 for send in sends if send.done() and send.exception() is None)
            for _ in range(400):
                await w.sleep(0.5)
                for call in w.network.open:
                    call.returns()
            runs = len(w.tables.runs)
            assert taken <= runs <= 40
            assert statuses(w) == {"COMPLETED": runs}
            check_rest(w)

        test()


class TestScopes:
    @virtually
    async def test_two_functions_share_an_account_wide_limit(self) -> None:
        shared = [{"limit": 2, "key": '"openai"', "scope": "account"}]
        w = await World().start(
            config("f", "go", concurrency=shared), config("g", "other", concurrency=shared)
        )
        await w.send(*[an_event("go") for _ in range(6)], *[an_event("other") for _ in range(6)])
        seen = []
        for _ in range(6):
            await w.settle()
            assert len(w.network.open) == 2
            check_places(w)
            seen += [call.body["event"]["name"] for call in w.network.open]
            await finish_all(w)
        assert sorted(seen[:8]) == ["go"] * 4 + ["other"] * 4
        check_rest(w)

    @virtually
    async def test_run_places_step_places_and_throttle_at_once(self) -> None:
        w = await world(
            concurrency={"step": [{"limit": 2}], "fn": [{"limit": 3}]},
            throttle={"limit": 1, "period": "1s", "burst": 1},
        )
        await send_many(w, 5)
        await w.settle()
        assert len(generations(w)) == 2
        for call in w.network.open:
            call.ops(sleep("s", "1h"))
        await w.sleep(1.1)
        (await w.call()).ops(sleep("s", "1h"))
        await w.sleep(10)
        assert not w.network.open, "three runs have begun and none has ended"
        check_places(w)
        await w.restart()
        check_places(w)
        await w.sleep(3_600)
        assert len(w.network.open) == 2
        await drain(w)
        await w.sleep(5)
        await drain(w)
        assert statuses(w) == {"COMPLETED": 5}
        check_rest(w)

    @virtually
    async def test_throttle_with_priority(self) -> None:
        w = await world(
            throttle={"limit": 1, "period": "1s"}, priority={"run": "event.data.p"}, timeouts={"start": "10s"}
        )
        await w.send(*[an_event("go", {"p": p}) for p in (0, 5, 100, -5)])
        for _ in range(4):
            await w.sleep(1.01)
        order = [data_of(call)["p"] for call in w.network.calls]
        assert order[1:] == [p for p in (100, 5, 0, -5) if p != order[0]]

    @virtually
    async def test_an_app_that_takes_no_more_calls_keeps_no_places_from_others(self) -> None:
        """Its calls would hold places while they wait for their app, whose runs were read meanwhile."""
        shared = [{"limit": 4, "key": '"openai"', "scope": "account"}]
        w = await World().start(config("f", "go", concurrency=shared))
        await w.register(config("g", "other", concurrency=shared), app="another")
        await w.send(*[an_event("go") for _ in range(20)])
        await w.settle()
        w.network.calls.clear()
        await w.restart()
        state = w.shard.state
        gate = state.gate(state.functions.started_by("go", {}, 0)[0].app_id)
        gate.hard_limit = 1
        for _ in range(8):
            (await w.call()).returns()
        await w.settle()
        await w.send(*[an_event("other") for _ in range(5)])
        await w.settle()
        names = Counter(call.body["event"]["name"] for call in w.network.open)
        assert names["go"] == 1
        assert names["other"] >= 2, "all but the next of its calls"
        gate.hard_limit = 1_000
        await w.sleep(2)
        assert len(await drain(w)) == 20 - 8 + 5
        check_rest(w)

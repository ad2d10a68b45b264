"""Lines of calls that wait for places: long ones, of which only a window is in memory; ends in every position."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.flow.admission import Pause
from perdure.errors import StoreUnavailable
from perdure.shard import directory, lines, loads, queues
from perdure.shard import lines as lines_module
from perdure.shard import memory as memory_module
from perdure.shard.commands import CancelRun, PauseFunction
from tests.unit.shard.flows import (
    F,
    check_places,
    check_rest,
    data_of,
    drain,
    finish_all,
    generations,
    statuses,
    world,
)
from tests.unit.shard.shards import World, an_event, config, sleep, step, virtually

GROUP = 50


async def send_many(w: World, count: int, data: Callable[[int], Any] = lambda n: {"n": n}) -> None:
    """Send events in requests of `GROUP`, one in a millisecond."""
    for at in range(0, count, GROUP):
        await w.send(*[an_event("go", data(n), at=w.clock.now()) for n in range(at, min(at + GROUP, count))])
        await asyncio.sleep(0.001)


def in_order(numbers: list[int], slack: int = 2 * GROUP + 20) -> bool:
    """Whether runs were served as they came; those of one millisecond may come in any order."""
    return all(abs(n - place) <= slack for place, n in enumerate(numbers))


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

    @pytest.mark.parametrize("seed", range(6))
    def test_windows_of_four_and_late_comers_with_priority(
        self, seed: int, monkeypatch: pytest.MonkeyPatch
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
                concurrency=[{"limit": 2}, {"limit": 1, "key": "event.data.u"}],
                priority={"run": "event.data.p"},
            )

            async def dawdle(name: str) -> None:
                await asyncio.sleep(dice.choice((0, 0, 0.01, 0.2)))

            def land(run: Callable[[], None]) -> None:
                asyncio.get_running_loop().call_later(dice.choice((0, 0.01, 0.1)), run)

            w.store.load_gate, w.store.scheduler = dawdle, land
            sent: list[asyncio.Future[Any]] = []
            for _ in range(150):
                data = {"u": dice.randrange(3), "p": dice.choice((-100, 0, 0, 50, 600))}
                sent.append(asyncio.ensure_future(w.send(an_event("go", data))))
                await w.sleep(dice.choice((0, 0, 0.005, 0.02)))
                calls = w.network.open
                assert len(calls) <= 2
                assert len({data_of(call)["u"] for call in calls}) == len(calls)
                if calls and dice.random() < 0.4:
                    dice.choice(calls).returns()
                if dice.random() < 0.1:
                    run_id = dice.choice(list(w.tables.runs) or [""])
                    sent.append(asyncio.ensure_future(w.submit(CancelRun(run=run_id))))
            await asyncio.gather(*sent)
            for _ in range(3_000):
                await w.sleep(0.1)
                calls = w.network.open
                assert len(calls) <= 2
                assert len({data_of(call)["u"] for call in calls}) == len(calls)
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


class TestDirectory:
    """More lines than are listed: the others are in the store only, and come round."""

    @virtually
    async def test_every_key_has_its_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "MAX_LINES", 20)
        monkeypatch.setattr(directory, "PAGE", 5)
        monkeypatch.setattr(lines, "PAGE", 5)
        monkeypatch.setattr(loads, "PAGE", 5)
        w = await World().start(config("f", "go", concurrency=[{"limit": 1, "key": "event.data.u"}]))
        await w.send(*[an_event("go", {"u": n % 60}) for n in range(180)])
        await w.settle()
        served: Counter[int] = Counter()
        for restart in range(300):
            if restart == 20:
                w.network.calls.clear()
                await w.restart()
            await w.sleep(0.3)
            assert w.shard.state.lines.directory.listed <= 20
            for call in w.network.open:
                served[call.body["event"]["data"]["u"]] += 1
                call.returns()
            if sum(run.status == "COMPLETED" for run in w.tables.runs.values()) == 180:
                break
        assert sum(run.status == "COMPLETED" for run in w.tables.runs.values()) == 180
        assert not w.shard.state.lines.directory.beyond

    @virtually
    async def test_those_that_wait_for_long_step_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "MAX_LINES", 10)
        monkeypatch.setattr(directory, "PAGE", 5)
        monkeypatch.setattr(lines, "PAGE", 5)
        monkeypatch.setattr(loads, "PAGE", 5)
        rules = {"throttle": {"limit": 1, "period": "1h", "key": "event.data.u"}}
        w = await World().start(config("f", "go", **rules))
        await w.send(*[an_event("go", {"u": n % 10}) for n in range(20)])
        await w.settle()
        first = len(w.network.calls)
        await w.send(*[an_event("go", {"u": f"new {n}"}) for n in range(20)])
        await w.sleep(30)
        assert (first, len(w.network.calls)) == (10, 30)

"""The loop: commits that fail, land late or are refused, decisions that raise, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from perdure.core import planning
from perdure.errors import EpochLost, RequestError, ShardClosed, StoreError, StoreUnavailable
from perdure.protocol.ops import read_ops
from perdure.shard import loop as loop_module
from perdure.shard.changes import Changes
from perdure.shard.commands import CancelRun, Checkpoint, ReceiveEvents, SendSignal
from perdure.shard.state import State
from tests.sim.memory_store import MemoryStore
from tests.unit.shard.shards import (
    World,
    an_event,
    config,
    invoke,
    planned,
    signal,
    sleep,
    step,
    virtually,
    wait,
)

HELLO = config("hello", "test/hello")


@virtually
async def test_an_event_starts_a_run_that_steps_and_ends() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello", {"n": 1}))
    call = await world.call()
    assert call.body["event"]["data"] == {"n": 1}
    assert call.headers["x-inngest-generation-id"] == "1"
    call.ops(step("a", 1))
    call = await world.call()
    assert call.body["steps"] == {"a": {"data": 1}}
    call.returns({"ok": True})
    await world.settle()
    assert (world.run().status, world.run().output) == ("COMPLETED", b'{"ok": true}')
    assert world.items(world.run().id) == []
    assert not world.network.open


@virtually
async def test_nothing_leaves_before_the_commit() -> None:
    commits: list[Callable[[], None]] = []
    world = World(MemoryStore())
    await world.start(HELLO)
    world.store.scheduler = commits.append
    answer = asyncio.ensure_future(world.send(an_event("test/hello")))
    await world.settle()
    assert not answer.done()
    assert not world.network.calls
    while commits:
        commits.pop(0)()
        await world.settle()
    assert answer.done()
    assert len(world.network.calls) == 1


def failing(times: int, error: Exception) -> Callable[[int, Changes], None]:
    left = [times]

    def hook(_: int, changes: Changes) -> None:
        if changes.events and left[0]:
            left[0] -= 1
            raise error

    return hook


class TestFailedCommits:
    @virtually
    async def test_commands_are_decided_again_and_callers_answered_once(self) -> None:
        world = await World().start(HELLO)
        world.store.before_commit = failing(1, StoreUnavailable("disk full"))
        await world.send(an_event("test/hello"), an_event("test/hello"))
        assert len(world.tables.events) == 2
        await world.settle()
        assert len(world.network.open) == 2

    @virtually
    async def test_one_that_landed_is_recognised(self) -> None:
        world = await World().start(HELLO)
        world.store.after_commit = failing(1, StoreUnavailable("said no, and did it"))
        await world.send(an_event("test/hello"))
        await world.sleep(1)
        assert [row.name for row in world.tables.events.values()] == ["test/hello"]
        assert len(world.tables.runs) == 1
        (await world.call()).returns()
        await world.settle()
        assert world.run().status == "COMPLETED"

    @virtually
    async def test_a_receipt_that_another_event_has_by_now_proves_nothing(self) -> None:
        """The batch did not land. Before the disk is asked, an end of a run has taken its receipt."""
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()

        def fail_and_end(_: int, changes: Changes) -> None:
            if [event.name for event in changes.events] == ["test/other"]:
                world.store.before_commit = None
                call.returns()
                raise StoreUnavailable("disk full")

        world.store.before_commit = fail_and_end
        await world.send(an_event("test/other"))
        await world.settle()
        names = [row.name for _, row in sorted(world.tables.events.items())]
        assert names == ["test/hello", "inngest/function.finished", "test/other"]

    @virtually
    async def test_an_answer_that_landed_is_not_taken_twice(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()

        def fail_once(_: int, changes: Changes) -> None:
            if changes.steps:
                world.store.after_commit = None
                raise StoreUnavailable("said no, and did it")

        world.store.after_commit = fail_once
        call.ops(step("a", 1))
        await world.sleep(1)
        second = await world.call()
        assert second.body["steps"] == {"a": {"data": 1}}
        assert len(world.network.calls) == 2

    @virtually
    async def test_an_answer_survives_a_commit_that_failed(self) -> None:
        """The app's work is not lost with the batch, and its call is not made again."""
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        world.store.before_commit = lambda _, changes: _refuse_once(world, bool(changes.steps))
        call.ops(step("a", 1))
        await world.sleep(1)
        assert len(world.network.calls) == 2
        assert (await world.call()).body["steps"] == {"a": {"data": 1}}

    @virtually
    async def test_a_call_under_way_stays_under_way(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        world.store.before_commit = failing(1, StoreUnavailable("disk full"))
        await world.send(an_event("test/other"))
        await world.sleep(1)
        assert len(world.network.calls) == 1
        call.returns(1)
        await world.settle()
        assert world.run().status == "COMPLETED"

    @virtually
    async def test_a_call_that_ends_while_the_state_is_read_again_is_not_made_again(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        claim = world.store.claim

        async def slow_claim(shard: int) -> int:
            epoch = await claim(shard)
            call.ops(step("a"))
            await asyncio.sleep(0.01)
            return epoch

        world.store.claim = slow_claim  # type: ignore[method-assign]
        world.store.before_commit = failing(1, StoreUnavailable("disk full"))
        await world.send(an_event("test/other"))
        await world.sleep(1)
        assert [sent.headers["x-inngest-generation-id"] for sent in world.network.calls] == ["1", "1"]
        assert (await world.call()).body["steps"] == {"a": {"data": None}}

    @virtually
    async def test_batches_that_fail_for_another_reason_are_redone_one_command_at_a_time(self) -> None:
        """One poisonous row must not hold up the others."""
        world = await World().start(HELLO)
        sizes: list[int] = []

        def refuse(_: int, changes: Changes) -> None:
            sizes.append(len(changes.events))
            if len(changes.events) > 1:
                raise StoreError("these two do not go together")

        world.store.before_commit = refuse
        await asyncio.gather(world.send(an_event("test/other")), world.send(an_event("test/other")))
        assert len(world.tables.events) == 2
        assert [size for size in sizes if size] == [2, 2, 1, 1]

    @virtually
    async def test_decisions_made_on_top_of_a_failed_commit_are_void(self) -> None:
        world = await World().start(HELLO)
        commits: list[Callable[[], None]] = []
        world.store.scheduler = commits.append
        world.store.before_commit = failing(1, StoreUnavailable("disk full"))
        first = asyncio.ensure_future(world.send(an_event("test/hello", id="same")))
        await world.settle()
        second = asyncio.ensure_future(world.send(an_event("test/hello", id="same")))
        await world.settle()
        assert len(commits) == 1
        for _ in range(50):
            while commits:
                commits.pop(0)()
            await world.sleep(0.05)
        await asyncio.gather(first, second)
        assert len(world.tables.runs) == 1
        assert len(world.tables.events) == 2
        assert len(world.network.calls) == 1


def _refuse_once(world: World, now: bool) -> None:
    if now:
        world.store.before_commit = None
        raise StoreUnavailable("disk full")


class TestStoreThatRefuses:
    @virtually
    async def test_nothing_is_accepted_meanwhile_and_work_goes_on_afterwards(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()

        def refuse(_: int, __: Changes) -> None:
            raise StoreUnavailable("disk full")

        world.store.before_commit = refuse
        with pytest.raises(RequestError, match="Try again"):
            await world.send(an_event("test/hello"))
        await world.sleep(0.2)
        with pytest.raises(ShardClosed, match="disk full"):
            world.shard.submit(ReceiveEvents(events=[an_event("test/hello")]))
        assert not world.shard.available
        call.ops(step("a", 1))
        await world.sleep(30)
        assert len(world.network.calls) == 1
        world.store.before_commit = None
        await world.sleep(10)
        assert world.shard.available
        assert (await world.call()).body["steps"] == {"a": {"data": 1}}
        await world.send(an_event("test/hello"))

    @virtually
    async def test_a_store_that_cannot_be_read_does_not_stop_the_shard(self) -> None:
        world = await World().start(HELLO)
        faults = iter([StoreUnavailable("locked")])

        def fault(name: str) -> None:
            if name == "find_keys":
                for error in faults:
                    raise error

        world.store.load_fault = fault
        await world.send(an_event("test/hello"))
        await world.settle()
        assert len(world.network.open) == 1


class TestEnd:
    @virtually
    async def test_a_lost_epoch_ends_the_shard(self) -> None:
        world = await World().start(HELLO)
        await world.store.claim(0)
        with pytest.raises(RequestError):
            await world.send(an_event("test/hello"))
        with pytest.raises(EpochLost):
            await world.shard.ended
        with pytest.raises(ShardClosed, match="another process"):
            world.shard.submit(CancelRun(run="x"))
        assert not world.tables.events

    @virtually
    async def test_stop_takes_no_more_work_and_starts_no_more_calls(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        stopping = asyncio.ensure_future(world.shard.stop(10))
        await world.settle()
        with pytest.raises(ShardClosed, match="stopping"):
            world.shard.submit(ReceiveEvents(events=[an_event("test/hello")]))
        call.ops(step("a"))
        await stopping
        assert len(world.network.calls) == 1
        assert world.steps(world.run().id) == {"a": {"data": None}}
        await world.restart()
        assert (await world.call()).body["steps"] == {"a": {"data": None}}

    @virtually
    async def test_checkpoints_are_taken_until_the_call_ends(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        stopping = asyncio.ensure_future(world.shard.stop(10))
        await world.settle()
        await world.submit(posted(call.run_id, 2, step("a")))
        assert world.steps(call.run_id) == {"a": {"data": None}}
        call.returns()
        await stopping

    @virtually
    async def test_stop_waits_only_so_long_and_the_call_is_made_again(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        await world.call()
        before = asyncio.get_running_loop().time()
        await world.shard.stop(3)
        assert 3 <= asyncio.get_running_loop().time() - before < 4
        await world.restart()
        await world.settle()
        assert [call.headers["x-inngest-generation-id"] for call in world.network.calls] == ["1", "2"]

    @virtually
    async def test_what_was_taken_is_stored_before_the_end(self) -> None:
        world = await World().start(HELLO)

        async def slowly(name: str) -> None:
            await asyncio.sleep(0.5)

        world.store.load_gate = slowly
        sent = asyncio.ensure_future(world.send(an_event("test/hello")))
        await world.settle()
        await world.shard.stop(1)
        await sent
        assert len(world.tables.runs) == 1

    @virtually
    async def test_callers_that_cannot_be_served_any_more_are_told(self) -> None:
        world = await World().start(HELLO)

        async def never(name: str) -> None:
            await asyncio.sleep(1_000)

        world.store.load_gate = never
        sent = asyncio.ensure_future(world.send(an_event("test/hello")))
        await world.settle()
        await world.shard.stop(1)
        with pytest.raises(RequestError, match="Try again"):
            await sent

    @virtually
    async def test_sleeps_that_end_all_the_time_do_not_keep_it_from_stopping(self) -> None:
        world = await World().start(HELLO)
        await world.send(*(an_event("test/hello") for _ in range(20)))
        await world.settle()
        commits: list[Callable[[], None]] = []
        for n, call in enumerate(world.network.open):
            call.ops(sleep("nap", f"{n + 1}s"))
        await world.settle()
        world.store.scheduler = commits.append  # and a disk that never answers
        before = asyncio.get_running_loop().time()
        await world.shard.stop(0)
        assert asyncio.get_running_loop().time() - before < 10


def posted(run_id: str, n: int, *ops: dict[str, object], generation: int | None = 1) -> Checkpoint:
    return Checkpoint(run=run_id, n=n, generation=generation, ops=read_ops(json.dumps(ops).encode()))


def break_planning(monkeypatch: pytest.MonkeyPatch, run_ids: set[str]) -> None:
    plan_reply = planning.plan_reply

    def broken(run, *rest):
        if run.id in run_ids:
            raise ZeroDivisionError("a bug in planning")
        return plan_reply(run, *rest)

    monkeypatch.setattr(planning, "plan_reply", broken)


def break_applying(monkeypatch: pytest.MonkeyPatch, run_ids: set[str], also_ends: bool = False) -> list[str]:
    apply = State._apply
    broken_for: list[str] = []

    def broken(state, plan):
        if plan.run.id in run_ids and (also_ends or plan.outcome is None):
            broken_for.append(plan.run.id)
            raise ZeroDivisionError("a bug in applying")
        apply(state, plan)

    monkeypatch.setattr(State, "_apply", broken)
    return broken_for


class TestDecisionsThatRaise:
    async def two_runs(self) -> World:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"), an_event("test/hello"))
        await world.settle()
        return world

    def test_planning(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @virtually
        async def test() -> None:
            world = await self.two_runs()
            bad, good = world.network.open
            break_planning(monkeypatch, {bad.run_id})
            bad.ops(step("a"))
            good.ops(step("a"))
            await world.settle()
            (row,) = world.tables.quarantine.values()
            assert row.run_id == bad.run_id
            assert "ZeroDivisionError: a bug in planning" in row.traceback
            assert world.run(bad.run_id).status == "FAILED"
            assert row.id.encode() in (world.run(bad.run_id).output or b"")
            assert world.steps(good.run_id) == {"a": {"data": None}}
            assert world.tables.epoch == 1
            assert len(world.events("inngest/function.failed")) == 1

        test()

    def test_applying(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @virtually
        async def test() -> None:
            world = await self.two_runs()
            bad, good = world.network.open
            faults = break_applying(monkeypatch, {bad.run_id})
            bad.ops(step("a"))
            good.ops(step("a"))
            await world.sleep(5)
            assert len(faults) == 1
            assert world.run(bad.run_id).status == "FAILED"
            assert [row.run_id for row in world.tables.quarantine.values()] == [bad.run_id]
            assert world.steps(good.run_id) == {"a": {"data": None}}
            await world.send(an_event("test/hello"))

        test()

    def test_applying_even_the_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The run can be neither moved on nor ended. The shard still goes on with everything else."""

        @virtually
        async def test() -> None:
            world = await self.two_runs()
            bad, good = world.network.open
            faults = break_applying(monkeypatch, {bad.run_id}, also_ends=True)
            bad.ops(step("a"))
            good.ops(step("a"))
            await world.sleep(60)
            assert len(faults) < 5
            assert world.steps(good.run_id) == {"a": {"data": None}}
            assert world.tables.quarantine
            await world.send(an_event("test/hello"))

        test()

    def test_a_timer_whose_end_cannot_be_applied_fails_its_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @virtually
        async def test() -> None:
            world = await self.two_runs()
            bad, good = world.network.open
            bad.ops(sleep("nap", "5s"))
            good.ops(sleep("nap", "5s"))
            await world.settle()
            faults = break_applying(monkeypatch, {bad.run_id})
            await world.sleep(60)
            assert len(faults) == 2
            assert world.run(bad.run_id).status == "FAILED"
            assert world.steps(good.run_id) == {"nap": None}

        test()

    def test_a_timer_is_left_alone_if_nothing_helps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @virtually
        async def test() -> None:
            world = await self.two_runs()
            bad, good = world.network.open
            bad.ops(sleep("nap", "5s"))
            good.ops(sleep("nap", "5s"))
            await world.settle()
            faults = break_applying(monkeypatch, {bad.run_id}, also_ends=True)
            await world.sleep(60)
            assert len(faults) == 3
            assert world.steps(good.run_id) == {"nap": None}

        test()

    def test_an_event_of_the_server_that_cannot_be_matched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It comes back from the outbox after each reload; it must not bring the next one about for ever."""

        @virtually
        async def test() -> None:
            world = await self.two_runs()
            await world.register(HELLO, config("callee", "never"))
            parent, other = world.network.open
            parent.ops(invoke("i", "callee"))
            await world.settle()
            faults = break_applying(monkeypatch, {parent.run_id})
            (callee,) = (call for call in world.network.open if call is not other)
            callee.returns()
            await world.sleep(60)
            assert len(faults) == 1
            assert world.tables.quarantine
            assert len(world.tables.outbox) == 1
            other.ops(step("a"))
            await world.settle()
            assert world.steps(other.run_id) == {"a": {"data": None}}
            monkeypatch.undo()
            await world.restart()
            await world.settle()
            assert not world.tables.outbox
            assert world.steps(parent.run_id) == {"i": {"data": None}}

        test()

    def test_one_wait_of_many_that_an_event_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @virtually
        async def test() -> None:
            world = await self.two_runs()
            bad, good = world.network.open
            for call in (bad, good):
                call.ops(wait("w", "test/go"))
            await world.settle()
            plan_match = planning.plan_match

            def broken(run, *rest):
                if run.id == bad.run_id:
                    raise ZeroDivisionError("a bug in planning")
                return plan_match(run, *rest)

            monkeypatch.setattr("perdure.shard.matching.plan_match", broken)
            await world.send(an_event("test/go"))
            await world.settle()
            assert world.run(bad.run_id).status == "FAILED"
            assert list(world.steps(good.run_id)) == ["w"]
            assert len(world.events("test/go")) == 1

        test()

    @virtually
    async def test_an_answer_with_bad_signal_options_fails_its_run_with_the_reason(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        (await world.call()).ops(signal("s", "", timeout="whenever"), signal("t", "x", timeout="whenever"))
        await world.settle()
        assert not world.tables.quarantine
        assert world.run().status == "FAILED"
        assert b"PerdureError" not in (world.run().output or b"")


class TestEffects:
    @virtually
    async def test_a_transport_that_raises_is_a_failed_attempt(self) -> None:
        world = await World().start(HELLO)
        world.network.refuse = ValueError("no such place")
        await world.send(an_event("test/hello"))
        await world.settle()
        (item,) = world.items(world.run().id)
        assert (item.attempt, item.in_flight) == (1, 0)
        world.network.refuse = None
        await world.sleep(2)
        (await world.call()).returns()

    @virtually
    async def test_one_that_raises_does_not_keep_the_others(self) -> None:
        world = await World().start(HELLO)

        def broken() -> None:
            raise ZeroDivisionError("a bug in an effect")

        world.shard.state.batch.effects.append(broken)
        await world.send(an_event("test/hello"))
        await world.settle()
        assert len(world.network.open) == 1
        assert world.tables.epoch == 1

    @virtually
    async def test_a_call_does_not_leave_for_a_run_that_was_cancelled_meanwhile(self) -> None:
        commits: list[Callable[[], None]] = []
        world = await World().start(HELLO)
        world.store.scheduler = commits.append
        sent = asyncio.ensure_future(world.send(an_event("test/hello")))
        await world.settle()
        (run_id,) = world.shard.state.memory.runs
        cancelled = asyncio.ensure_future(world.submit(CancelRun(run=run_id)))
        await world.settle()
        assert world.shard.calls_in_flight == 1
        while commits:
            commits.pop(0)()
            await world.settle()
        assert await cancelled == "RUNNING"
        await sent
        assert not world.network.calls
        assert world.shard.calls_in_flight == 0

    @virtually
    async def test_a_caller_that_is_gone_disturbs_nobody(self) -> None:
        world = await World().start(HELLO)
        gone = world.shard.submit(ReceiveEvents(events=[an_event("test/hello")]))
        gone.cancel()
        await world.send(an_event("test/hello"))
        await world.settle()
        assert len(world.network.open) == 2


class TestCommands:
    @virtually
    async def test_cancel(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        assert await world.submit(CancelRun(run=call.run_id)) == "RUNNING"
        assert world.run().status == "CANCELLED"
        assert await world.submit(CancelRun(run=call.run_id)) == "CANCELLED"
        assert await world.submit(CancelRun(run="01UNKNOWN")) is None
        call.ops(step("a"))
        await world.settle()
        assert world.steps(call.run_id) == {}
        (cancelled,) = world.events("inngest/function.cancelled")
        assert cancelled["id"] == call.run_id

    @virtually
    async def test_hundreds_of_answers_that_change_nothing(self) -> None:
        """They fill a batch that has nothing to write; it must be closed all the same."""
        world = await World().start(HELLO)
        count = loop_module.BATCH_COMMANDS + loop_module.SLICE
        for _ in range(count):
            world.shard._call_done("01GONE", 1, 1, None)  # type: ignore[arg-type]
        await world.settle(200)
        await asyncio.wait_for(world.send(an_event("test/hello")), 10)

    @virtually
    async def test_signals(self) -> None:
        world = await World().start(HELLO)
        assert await world.submit(SendSignal(signal="go")) is None
        await world.send(an_event("test/hello"))
        (await world.call()).ops(signal("s", "go"))
        await world.settle()
        run_id = world.run().id
        assert await world.submit(SendSignal(signal="stop")) is None
        assert await world.submit(SendSignal(signal="go", data=b'{"n":1}')) == run_id
        assert world.steps(run_id) == {"s": {"data": {"signal": "go", "data": {"n": 1}}}}
        assert await world.submit(SendSignal(signal="go")) is None

    @virtually
    async def test_one_waiter_for_a_signal(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"), an_event("test/hello"), an_event("test/hello"))
        await world.settle()
        first, second, third = world.network.open
        first.ops(signal("s", "go"))
        second.ops(signal("s", "go"))
        await world.settle()
        assert world.run(second.run_id).status == "FAILED"
        assert b"Signal conflict" in (world.run(second.run_id).output or b"")
        third.ops(signal("s", "go", conflict="replace"))
        await world.settle()
        assert await world.submit(SendSignal(signal="go")) == third.run_id
        await world.sleep(3_601)
        assert world.steps(first.run_id) == {"s": None}


class TestCheckpoints:
    async def running(self) -> tuple[World, str]:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        return world, call.run_id

    @virtually
    async def test_steps_are_on_disk_when_the_caller_is_told(self) -> None:
        world, run_id = await self.running()
        assert await world.submit(posted(run_id, 2, step("a", 1))) is None
        assert world.steps(run_id) == {"a": {"data": 1}}
        assert len(world.network.calls) == 1
        await world.submit(posted(run_id, 2, step("a", 2), step("b")))
        assert world.steps(run_id) == {"a": {"data": 1}, "b": {"data": None}}

    @virtually
    async def test_attempts_begin_anew(self) -> None:
        world, run_id = await self.running()
        (await world.call()).throws()
        await world.sleep(1.1)
        call = await world.call()
        assert call.body["ctx"]["attempt"] == 1
        await world.submit(posted(run_id, 2, step("a"), generation=2))
        call.throws()
        await world.sleep(1.1)
        assert (await world.call()).body["ctx"]["attempt"] == 1

    @pytest.mark.parametrize(
        ("generation", "n", "ops", "status", "text"),
        [
            (99, 2, [step("a")], 409, "dispatch generation 99 does not match queue item generation 1"),
            (0, 2, [step("a")], 409, "dispatch generation 0 does not match"),
            (1, 77, [step("a")], 409, "queue item not found"),
            (1, 2, [step("a"), sleep("b", "1s")], 400, "cannot checkpoint async steps: Sleep"),
        ],
    )
    def test_refusals(self, generation: int, n: int, ops: list, status: int, text: str) -> None:
        @virtually
        async def test() -> None:
            world, run_id = await self.running()
            with pytest.raises(RequestError, match=text) as caught:
                await world.submit(posted(run_id, n, *ops, generation=generation))
            assert caught.value.status == status
            assert caught.value.data == {"run_id": run_id}
            assert world.steps(run_id) == {}

        test()

    @virtually
    async def test_a_run_that_is_unknown_or_has_ended(self) -> None:
        world, run_id = await self.running()
        with pytest.raises(RequestError, match="run not found in state store") as caught:
            await world.submit(posted("01UNKNOWN", 2, step("a")))
        assert caught.value.status == 400
        await world.submit(CancelRun(run=run_id))
        with pytest.raises(RequestError, match="stale dispatch") as caught:
            await world.submit(posted(run_id, 2, step("a")))
        assert caught.value.status == 409

    @virtually
    async def test_too_much_state_fails_the_run_and_says_so(self) -> None:
        from perdure.core.settings import Settings

        world = World(settings=Settings(state_bytes=50))
        await world.start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        with pytest.raises(RequestError, match="exceeded the state size limit") as caught:
            await world.submit(posted(call.run_id, 2, step("a", "x" * 60)))
        assert caught.value.status == 413
        assert world.run().status == "FAILED"


@virtually
async def test_invoked_functions_resume_their_callers() -> None:
    world = await World().start(HELLO, config("callee", "never"))
    await world.send(an_event("test/hello"))
    (await world.call()).ops(invoke("i", "callee"))
    callee = await world.call()
    assert callee.body["event"]["name"] == "inngest/function.invoked"
    callee.returns({"n": 1})
    parent = await world.call()
    assert parent.body["steps"] == {"i": {"data": {"n": 1}}}


@virtually
async def test_a_run_in_parallel_is_discovered_once_when_all_have_ended() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(planned("a"), planned("b"), sleep("c", "5s"))
    await world.settle()
    a, b = world.network.open
    assert (a.body["ctx"]["disable_immediate_execution"], a.headers["x-inngest-step-id"]) == (True, "a")
    a.ops(step("a"))
    b.ops(step("b"))
    await world.settle()
    assert not world.network.open
    await world.sleep(5)
    call = await world.call()
    assert call.body["ctx"]["stack"] == {"current": 3, "stack": ["a", "b", "c"]}
    assert call.body["ctx"]["disable_immediate_execution"] is False

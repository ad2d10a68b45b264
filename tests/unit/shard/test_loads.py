"""Reads: shared by those who ask in one round, in order for one run, and never newer than memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from perdure.core.planning import plan_cancel
from perdure.errors import StoreUnavailable
from perdure.protocol.ops import read_ops
from perdure.shard import loads as loads_module
from perdure.shard import loop as loop_module
from perdure.shard import memory as memory_module
from perdure.shard.commands import CancelRun, CatchUp, Checkpoint, Command, EventMatch, SendSignal
from perdure.shard.loads import Loads
from perdure.shard.memory import run_from_rows
from perdure.shard.rows import WaitLookup, WaitRef
from perdure.shard.state import State
from tests.sim.memory_store import MemoryStore
from tests.unit.shard.shards import World, a_state, an_event, config, signal, sleep, step, virtually, wait
from tests.unit.shard.test_memory import a_run, a_wait

HELLO = config("hello", "test/hello")


class Reads:
    """Counts the reads of a store, and holds those that are named."""

    def __init__(self, world: World) -> None:
        self.names: list[str] = []
        self.held: dict[str, asyncio.Event] = {}
        world.store.load_gate = self._gate

    async def _gate(self, name: str) -> None:
        self.names.append(name)
        if name in self.held:
            await self.held[name].wait()

    def hold(self, name: str) -> asyncio.Event:
        self.held[name] = asyncio.Event()
        return self.held[name]


async def sleeping(world: World, count: int) -> list[str]:
    """Runs that sleep for an hour and are not in memory."""
    await world.start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(count)))
    await world.settle()
    for call in world.network.open:
        call.ops(step("a"), sleep("nap", "1h"))
    await world.settle()
    await world.restart()
    await world.settle()
    assert not world.shard.state.memory.runs
    return list(world.tables.runs)


@virtually
async def test_commands_of_one_round_share_a_read() -> None:
    world = World()
    runs = await sleeping(world, 5)
    reads = Reads(world)
    answers = await asyncio.gather(*(world.submit(CancelRun(run=run_id)) for run_id in runs))
    assert answers == ["RUNNING"] * 5
    assert reads.names == ["load_runs"]


@virtually
async def test_events_of_one_round_share_their_reads() -> None:
    world = await World().start(HELLO)
    reads = Reads(world)
    await asyncio.gather(*(world.send(an_event("test/hello"), an_event("test/hello")) for _ in range(5)))
    assert reads.names == ["find_keys"]


@virtually
async def test_a_run_that_does_not_exist_is_asked_for_once() -> None:
    world = await World().start(HELLO)
    reads = Reads(world)
    assert await world.submit(CancelRun(run="01NOBODY")) is None
    assert reads.names == ["load_runs"]


@virtually
async def test_order_is_kept_for_one_run() -> None:
    world = World()
    (run_id,) = await sleeping(world, 1)
    reads = Reads(world)
    gate = reads.hold("load_runs")
    order: list[str] = []

    def noted(name: str, command: Command) -> asyncio.Future[object]:
        future = world.shard.submit(command)
        future.add_done_callback(lambda done: order.append(f"{name} {done.exception() or done.result()}"))
        return future

    first = noted("cancel", CancelRun(run=run_id))
    await world.settle()
    ops = read_ops(json.dumps([step("b")]).encode())
    noted("checkpoint", Checkpoint(run=run_id, n=9, ops=ops))
    noted("again", CancelRun(run=run_id))
    await world.settle()
    assert not first.done()
    gate.set()
    await world.settle()
    assert order == [
        "cancel RUNNING",
        "checkpoint stale dispatch: the run has ended (CANCELLED)",
        "again CANCELLED",
    ]


@virtually
async def test_others_go_on_while_a_read_is_slow() -> None:
    world = World()
    (run_id,) = await sleeping(world, 1)
    reads = Reads(world)
    gate = reads.hold("load_runs")
    slow = asyncio.ensure_future(world.submit(CancelRun(run=run_id)))
    await world.settle()
    await world.send(an_event("test/hello"))
    await world.settle()
    assert len(world.network.open) == 1
    assert not slow.done()
    gate.set()
    assert await slow == "RUNNING"


@virtually
async def test_a_read_is_never_taken_for_newer_than_memory() -> None:
    """The row was read before the run ended, and comes back after."""
    world = World()
    (run_id,) = await sleeping(world, 1)
    held: list[asyncio.Event] = []

    async def hold(name: str) -> None:
        if name == "load_runs" and not held:
            held.append(asyncio.Event())
            await held[0].wait()

    world.store.load_gate = hold
    first = asyncio.ensure_future(world.submit(CancelRun(run=run_id)))
    await world.settle()
    # Memory learns of the run by another way, and ends it, before the read comes back.
    state = world.shard.state
    state.memory.add(run_from_rows(world.tables.stored_run(run_id)))
    state.apply(plan_cancel(state.memory.runs[run_id], state.now))
    held[0].set()
    assert await first == "CANCELLED"
    assert len(world.events("inngest/function.cancelled")) == 1


@virtually
async def test_a_run_that_ended_while_an_event_looked_for_it_stays_ended() -> None:
    """The event's read shows a wait of a run that another command ends before the run has been read for it."""
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    call = await world.call()
    call.ops(wait("w", "test/go"))
    await world.settle()
    await world.restart()
    await world.settle()
    held: list[asyncio.Event] = []

    async def hold(name: str) -> None:
        if name == "load_runs" and not held:
            held.append(asyncio.Event())
            await held[0].wait()

    world.store.load_gate = hold
    sent = asyncio.ensure_future(world.send(an_event("test/go")))
    await world.settle()
    assert await world.submit(CancelRun(run=call.run_id)) == "RUNNING"
    held[0].set()
    await sent
    await world.settle()
    assert world.run().status == "CANCELLED"
    assert world.steps(call.run_id) == {}
    assert world.items(call.run_id) == []


@virtually
async def test_a_failed_read_loses_no_command() -> None:
    world = World()
    (run_id,) = await sleeping(world, 1)
    failures = iter([StoreUnavailable("locked"), ValueError("a bug in the store")])

    def fault(name: str) -> None:
        if name == "load_runs":
            for error in failures:
                raise error

    world.store.load_fault = fault
    assert await world.submit(CancelRun(run=run_id)) == "RUNNING"
    assert world.tables.epoch == 4


@virtually
async def test_a_signal_is_looked_for_in_the_store() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(signal("s", "go"))
    await world.settle()
    await world.restart()
    reads = Reads(world)
    assert await world.submit(SendSignal(signal="stop")) is None
    assert await world.submit(SendSignal(signal="go")) == world.run().id
    assert reads.names.count("find_waits") == 2
    assert await world.submit(SendSignal(signal="go")) is None
    assert reads.names.count("find_waits") == 2, "nobody waits for any signal now"


@virtually
async def test_two_answers_that_want_one_signal_while_the_store_is_asked() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(3)))
    await world.settle()
    first, second, third = world.network.open
    first.ops(signal("s", "other"))
    await world.settle()
    gate = Reads(world).hold("find_waits")
    second.ops(signal("s", "go"))
    third.ops(signal("s", "go"))
    await world.settle()
    gate.set()
    await world.settle()
    statuses = [world.run(call.run_id).status for call in (second, third)]
    assert statuses == ["RUNNING", "FAILED"]


def test_a_key_taken_by_one_command_of_a_read_is_seen_by_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch of the first is on disk, and its key out of memory, before the second is decided."""
    monkeypatch.setattr(loop_module, "SLICE", 1)
    monkeypatch.setattr(loop_module, "BATCH_COMMANDS", 1)

    @virtually
    async def test() -> None:
        world = await World().start(HELLO)
        gate = Reads(world).hold("find_keys")
        sends = [asyncio.ensure_future(world.send(an_event("test/hello", id="same"))) for _ in range(4)]
        await world.settle()
        gate.set()
        await asyncio.gather(*sends)
        assert len(world.tables.runs) == 1

    test()


class TestPages:
    """Waits that were read, joined with those in memory: in order, each once, cut where the next page begins."""

    def page(
        self,
        monkeypatch: pytest.MonkeyPatch,
        stored: list[str],
        in_memory: dict[str, bool],
        after: tuple[str, int] = ("", 0),
    ) -> EventMatch:
        """`in_memory` says of runs whether their wait is still there; `stored` is what the store still shows."""
        monkeypatch.setattr(loads_module, "WAITS_AT_ONCE", 3)
        state = a_state()
        for name, waits in in_memory.items():
            run = a_run(name)
            state.memory.add(run)
            if waits:
                state.memory.add_wait(run, a_wait(1))
        loads = Loads(0, MemoryStore(), state, lambda _: None, lambda _: None)
        match = EventMatch()
        page = [WaitRef(0, name, 1) for name in stored]
        loads._take_page(match, WaitLookup("x", "", "", after), page)
        return match

    def test_all_of_a_short_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        match = self.page(monkeypatch, ["b", "d"], {"c": True})
        assert (match.waits, match.more) == ([("b", 1), ("c", 1), ("d", 1)], None)

    def test_memory_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        match = self.page(monkeypatch, ["a", "b"], {"a": False, "b": True})
        assert (match.waits, match.more) == ([("b", 1)], None)

    def test_a_full_page_ends_where_the_store_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        match = self.page(monkeypatch, ["a", "b", "d"], {"e": True})
        assert (match.waits, match.more) == ([("a", 1), ("b", 1), ("d", 1)], ("", "d", 1))

    def test_a_full_page_of_runs_that_are_gone_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        match = self.page(monkeypatch, ["a", "b", "c"], {"a": False, "b": False, "c": False})
        assert (match.waits, match.more) == ([], ("", "c", 1))

    def test_what_lies_behind_the_end_of_a_full_page_is_for_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        match = self.page(monkeypatch, ["a", "b", "d"], {"b": False, "e": True})
        assert (match.waits, match.more) == ([("a", 1), ("d", 1)], ("", "d", 1))

    def test_too_many_in_memory_are_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        match = self.page(monkeypatch, [], dict.fromkeys("abcde", True))
        assert (match.waits, match.more) == ([("a", 1), ("b", 1), ("c", 1)], ("", "c", 1))

    def test_it_goes_on_after_the_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        match = self.page(monkeypatch, ["d"], dict.fromkeys("abce", True), ("c", 1))
        assert (match.waits, match.more) == ([("d", 1), ("e", 1)], None)


@virtually
async def test_runs_that_a_command_needs_stay_in_memory_until_it_is_decided() -> None:
    state: State = a_state()
    given: list[Command] = []
    loads = Loads(0, MemoryStore(), state, given.extend, lambda _: None)
    command = CancelRun(run="r")
    loads._pin(command, "r")
    run = a_run("r")
    state.memory.add(run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory_module, "MAX_RESIDENT_RUNS", 0)
        state.memory.shrink()
        assert state.memory.get("r") is run
        loads.release(command)
        state.memory.shrink()
        assert state.memory.get("r") is None


@virtually
async def test_waits_in_memory_and_in_the_store_both_end() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(wait("w", "test/go"))
    await world.settle()
    await world.restart()
    await world.send(an_event("test/hello"))
    (await world.call()).ops(wait("w", "test/go"))
    await world.settle()
    assert len(world.shard.state.memory.runs) == 1
    await world.send(an_event("test/go"))
    await world.settle()
    assert len(world.network.open) == 2
    assert not world.tables.waits


def test_nothing_is_kept_once_all_is_decided() -> None:
    """Pins and reads would keep runs in memory for ever."""

    @virtually
    async def test() -> None:
        world = await World().start(HELLO)
        await world.send(*(an_event("test/hello") for _ in range(10)))
        await world.settle()
        for n, call in enumerate(world.network.open):
            call.ops(wait("w", "test/go"), *([signal("s", "go")] if n == 3 else []))
        await world.settle()
        await world.send(an_event("test/go"))
        await world.submit(SendSignal(signal="go"))
        await world.settle()
        memory: Any = world.shard.state.memory
        assert (memory._pinned, memory._reads) == ({}, {})
        for call in world.network.open:
            call.returns()
        await world.settle()
        assert not memory.runs
        assert memory.memo_bytes == 0
        assert memory.wait_counts == {}

    test()


@virtually
async def test_catching_up_waits_for_what_was_accepted_before() -> None:
    """Also for the server's own events, and for those that follow from them."""
    chain = [config(f"after-{n}", f"test/{n}") for n in range(2)]
    told = config("told", "inngest/function.cancelled")
    world = await World().start(HELLO, told, *chain)
    await world.send(an_event("test/hello"))
    run_id = (await world.call()).run_id
    reads = Reads(world)
    gate = reads.hold("find_keys")
    cancelled = world.shard.submit(CancelRun(run=run_id))
    caught_up = world.shard.submit(CatchUp())
    await world.settle()
    assert cancelled.done(), "the run has ended"
    assert not caught_up.done(), "but nobody has been told"
    later = asyncio.ensure_future(world.send(an_event("test/0")))
    await world.settle()
    gate.set()
    receipt = await caught_up
    assert {row.function_id for row in world.tables.runs.values()} >= {functions_of(world)["app-told"]}
    await later
    assert await world.submit(CatchUp()) > receipt, "something was accepted meanwhile"
    assert await world.submit(CatchUp()) == await world.submit(CatchUp())


def functions_of(world: World) -> dict[str, str]:
    """Ids of functions by slug."""
    return {function.slug: function.id for function in world.shard.state.functions.by_id.values()}

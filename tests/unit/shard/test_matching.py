"""What an event meets: functions it starts, waits it ends, and in which order things count as having happened."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from perdure.shard import loads, matching
from perdure.shard import memory as memory_module
from perdure.shard.keys import TAKEN
from perdure.shard.matching import ParsedEvent, ask
from perdure.shard.rows import KeyRef, RunEventRow, WaitLookup
from tests.sim.virtual_time import START_MS
from tests.unit.shard.shards import (
    World,
    a_function,
    a_state,
    an_event,
    config,
    invoke,
    planned,
    step,
    virtually,
    wait,
)

HELLO = config("hello", "test/hello")
SAME_USER = "event.data.u == async.data.u"


class TestQuestions:
    """What must be asked of the store about an event."""

    def asked(self, state: Any, name: str = "x", data: Any = None, **more: Any) -> Any:
        body = json.dumps({"name": name, "data": data or {}}).encode()
        return ask(state, name, "id-1", ParsedEvent(body), **{"target": None, **more})

    def test_nothing_for_an_event_that_meets_nothing(self) -> None:
        question = self.asked(a_state(a_function("f", "y")))
        assert (question.match.functions, question.keys, question.lookups) == ([], [], [])

    def test_a_key_for_each_function(self) -> None:
        f, g = a_function("f", "x"), a_function("g", "x")
        question = self.asked(a_state(f, g))
        assert question.match.functions == [f, g]
        assert question.keys == [KeyRef(TAKEN, f.id, "id-1"), KeyRef(TAKEN, g.id, "id-1")]

    def test_a_lookup_for_each_path_that_any_wait_uses_and_the_event_has(self) -> None:
        state = a_state()
        state.memory.wait_counts = {"x": {"data.u": 3, "": 1, "data.missing": 1}, "y": {"data.u": 1}}
        lookups = self.asked(state, data={"u": 7}).lookups
        assert [(lookup.path, lookup.after) for lookup in lookups] == [("", ("", 0)), ("data.u", ("", 0))]
        assert all(lookup.event == "x" for lookup in lookups)

    def test_it_goes_on_where_it_stopped(self) -> None:
        state = a_state()
        state.memory.wait_counts = {"x": {"": 1, "data.a": 1, "data.b": 1}}
        lookups = self.asked(state, data={"a": 1, "b": 1}, after=("data.a", "r", 5)).lookups
        assert [(lookup.path, lookup.after) for lookup in lookups] == [
            ("data.a", ("r", 5)),
            ("data.b", ("", 0)),
        ]

    def test_an_invocation_is_for_one_function_and_always_runs(self) -> None:
        f, g = a_function("f", "x"), a_function("g", "x")
        question = self.asked(a_state(f, g), target=g.slug)
        assert (question.match.functions, question.keys) == ([g], [])

    def test_triggers_are_met_once(self) -> None:
        question = self.asked(a_state(a_function("f", "x")), with_triggers=False)
        assert question.match.functions == []

    def test_a_body_is_parsed_once_and_only_when_needed(self) -> None:
        parsed = ParsedEvent(b'{"name":"x","data":{}}')
        ask(a_state(a_function("f", "x")), "x", "i", parsed, None)
        assert parsed._value is None
        assert parsed.value() is parsed.value()


class TestStarting:
    @virtually
    async def test_each_function_once_with_the_event_as_it_came(self) -> None:
        world = await World().start(HELLO, config("two", "test/hello", "test/*"), config("no", "other"))
        event = an_event("test/hello", {"big": 2**60 + 1})
        await world.send(event)
        await world.settle()
        assert len(world.network.open) == 2
        for call in world.network.open:
            assert event.body in call.call.body

    @virtually
    async def test_expressions_see_the_event_and_the_clock(self) -> None:
        after = "now() >= timestamp('2025-11-24T16:00:10Z')"
        assert START_MS == 1_764_000_000_000
        world = await World().start(
            config("big", {"event": "x", "expression": "event.data.n > 3"}),
            config("late", {"event": "x", "expression": after}),
        )
        await world.send(an_event("x", {"n": 3}))
        await world.send(an_event("x", {"n": 4}))
        await world.settle()
        assert len(world.network.calls) == 1
        await world.sleep(11)
        await world.send(an_event("x", {"n": 3}))
        await world.settle()
        assert len(world.network.calls) == 2

    @pytest.mark.parametrize("together", [True, False])
    def test_an_id_starts_a_function_once_and_every_event_is_stored(self, together: bool) -> None:
        @virtually
        async def test() -> None:
            world = await World().start(HELLO)
            events = [an_event("test/hello", id="same") for _ in range(3)]
            if together:
                await world.send(*events)
            else:
                for event in events:
                    await world.send(event)
            await world.send(an_event("test/hello", id="other"))
            assert len(world.tables.events) == 4
            assert len(world.tables.runs) == 2

        test()

    @virtually
    async def test_an_id_may_be_used_again_after_a_day(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello", id="same"))
        await world.sleep(24 * 3_600 - 10)
        await world.send(an_event("test/hello", id="same"))
        assert len(world.tables.runs) == 1
        await world.sleep(20)
        await world.send(an_event("test/hello", id="same"))
        assert len(world.tables.runs) == 2

    @virtually
    async def test_the_same_id_in_commands_whose_reads_overlap(self) -> None:
        """Neither read sees the key that the other command takes."""
        world = await World().start(HELLO)
        held: list[asyncio.Event] = []

        async def hold(name: str) -> None:
            if name == "find_keys":
                held.append(asyncio.Event())
                await held[-1].wait()

        world.store.load_gate = hold
        sends = []
        for _ in range(3):
            sends.append(asyncio.ensure_future(world.send(an_event("test/hello", id="same"))))
            await world.settle()
        assert len(held) == 3
        for event in (held[1], held[0], held[2]):
            event.set()
            await world.settle()
        await asyncio.gather(*sends)
        assert len(world.tables.runs) == 1

    @virtually
    async def test_a_function_that_is_archived_while_the_store_is_asked_does_not_start(self) -> None:
        world = await World().start(HELLO, config("other", "x"))
        gate = asyncio.Event()

        async def hold(name: str) -> None:
            await gate.wait()

        world.store.load_gate = hold
        sent = asyncio.ensure_future(world.send(an_event("test/hello")))
        await world.settle()
        await world.register(config("other", "x"))
        gate.set()
        await sent
        assert not world.tables.runs


class TestWaiting:
    async def waiting(self, *ops: dict[str, Any], data: Any = None) -> tuple[World, str]:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello", data or {}))
        call = await world.call()
        call.ops(*ops)
        await world.settle()
        return world, call.run_id

    @virtually
    async def test_the_event_itself_is_the_memo(self) -> None:
        world, run_id = await self.waiting(wait("w", "test/go"))
        event = an_event("test/go", {"n": 1}, id="mine")
        await world.send(event)
        await world.settle()
        assert world.steps(run_id)["w"] == json.loads(event.body)
        assert world.tables.run_events == {RunEventRow(event.internal_id, run_id, "wait")}
        assert not world.tables.waits
        assert [item.kind for item in world.items(run_id)] == ["discovery"]

    @virtually
    async def test_it_ends_once(self) -> None:
        world, run_id = await self.waiting(wait("w", "test/go"))
        await world.send(an_event("test/go", {"n": 1}), an_event("test/go", {"n": 2}))
        await world.settle()
        assert world.steps(run_id)["w"]["data"] == {"n": 1}
        await world.sleep(3_601)
        assert len(world.network.calls) == 2

    @virtually
    async def test_other_names_and_wildcards_do_not_count(self) -> None:
        world, run_id = await self.waiting(wait("w", "test/*"))
        await world.send(an_event("test/go"), an_event("test"))
        await world.settle()
        assert world.steps(run_id) == {}
        assert not world.tables.run_events

    @virtually
    async def test_a_condition_is_tried_on_what_its_equality_found(self) -> None:
        condition = f"{SAME_USER} && async.data.n > 3"
        world, run_id = await self.waiting(wait("w", "test/go", **{"if": condition}), data={"u": "a"})
        for data in ({"u": "b", "n": 9}, {"u": "a", "n": 1}, {"n": 9}, {"u": None, "n": 9}):
            await world.send(an_event("test/go", data))
        await world.settle()
        assert world.steps(run_id) == {}
        await world.send(an_event("test/go", {"u": "a", "n": 4}))
        await world.settle()
        assert world.steps(run_id)["w"]["data"] == {"u": "a", "n": 4}

    @virtually
    async def test_a_condition_that_fails_is_no_match(self) -> None:
        world, run_id = await self.waiting(wait("w", "test/go", **{"if": "async.data.n"}))
        await world.send(an_event("test/go", {"n": 4}))
        await world.settle()
        assert world.steps(run_id) == {}
        assert not world.tables.quarantine

    @virtually
    async def test_a_condition_knows_the_clock(self) -> None:
        condition = "now() >= timestamp('2025-11-24T16:00:10Z')"
        world, run_id = await self.waiting(wait("w", "test/go", **{"if": condition}))
        await world.send(an_event("test/go"))
        await world.sleep(11)
        assert world.steps(run_id) == {}
        await world.send(an_event("test/go"))
        await world.settle()
        assert list(world.steps(run_id)) == ["w"]

    @virtually
    async def test_all_runs_that_wait_resume(self) -> None:
        world = await World().start(HELLO)
        await world.send(*(an_event("test/hello", {"u": n % 2}) for n in range(10)))
        await world.settle()
        for call in world.network.open:
            call.ops(wait("w", "test/go", **{"if": SAME_USER}))
        await world.settle()
        await world.send(an_event("test/go", {"u": 1}))
        await world.settle()
        assert len(world.network.open) == 5

    @pytest.mark.parametrize("offset", [-600_000, 600_000])
    def test_before_and_after_are_the_order_of_arrival(self, offset: int) -> None:
        """Clients ten minutes off: their ULIDs say nothing about what came first here."""

        @virtually
        async def test() -> None:
            world = await World().start(HELLO)
            await world.send(an_event("test/go", {"when": "before"}, ulid_at=START_MS + offset))
            await world.send(an_event("test/hello"))
            call = await world.call()
            call.ops(wait("w", "test/go"))
            await world.settle()
            assert world.steps(call.run_id) == {}
            await world.send(an_event("test/go", {"when": "after"}, ulid_at=START_MS + offset))
            await world.settle()
            assert world.steps(call.run_id)["w"]["data"] == {"when": "after"}

        test()

    @virtually
    async def test_an_event_received_before_the_wait_began_does_not_end_it_although_it_is_decided_later(
        self,
    ) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"), an_event("test/hello"))
        await world.settle()
        first, second = world.network.open
        first.ops(wait("w", "test/go"))
        await world.settle()
        gate = asyncio.Event()

        async def hold(name: str) -> None:
            if name == "find_waits":
                await gate.wait()

        world.store.load_gate = hold
        sent = asyncio.ensure_future(world.send(an_event("test/go")))
        await world.settle()
        second.ops(wait("w", "test/go"))
        await world.settle()
        gate.set()
        await sent
        await world.settle()
        assert list(world.steps(first.run_id)) == ["w"]
        assert world.steps(second.run_id) == {}

    @virtually
    async def test_a_wait_that_ended_while_the_store_was_asked_is_passed_over(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        call.ops(wait("w", "test/go", "10s"))
        await world.settle()

        async def slowly(name: str) -> None:
            if name == "find_waits":
                await asyncio.sleep(20)

        world.store.load_gate = slowly
        sent = asyncio.ensure_future(world.send(an_event("test/go")))
        await world.sleep(21)
        await sent
        assert world.steps(call.run_id) == {"w": None}

    @virtually
    async def test_an_event_may_start_and_resume(self) -> None:
        world = await World().start(config("hello", "test/hello", "test/go"))
        await world.send(an_event("test/hello"))
        call = await world.call()
        call.ops(wait("w", "test/go"))
        await world.settle()
        await world.send(an_event("test/go"))
        await world.settle()
        assert len(world.tables.runs) == 2
        assert list(world.steps(call.run_id)) == ["w"]


class TestInvoking:
    async def invoking(self, *ops: dict[str, Any]) -> World:
        world = await World().start(HELLO, config("callee", "never", retries=0))
        await world.send(an_event("test/hello"))
        (await world.call()).ops(*(ops or (invoke("i", "callee"),)))
        return world

    @virtually
    async def test_a_result(self) -> None:
        world = await self.invoking()
        callee = await world.call()
        run = world.run(callee.run_id)
        parent = next(row for row in world.tables.runs.values() if row.id != run.id)
        assert run.correlation == f"{parent.id}.i"
        sent = callee.body["event"]["data"]["_inngest"]
        assert (sent["fn_id"], sent["correlation_id"]) == ("app-callee", run.correlation)
        callee.returns({"n": 1})
        assert (await world.call()).body["steps"] == {"i": {"data": {"n": 1}}}
        (finished,) = world.events("inngest/function.finished")
        assert finished["data"]["correlation_id"] == run.correlation
        assert [(row.run_id, row.how) for row in world.tables.run_events] == [(parent.id, "wait")]

    @virtually
    async def test_an_error(self) -> None:
        world = await self.invoking()
        (await world.call()).throws()
        memo = (await world.call()).body["steps"]["i"]
        assert memo == {"error": {"error": "invalid status code: 500", "name": "Boom", "message": "no"}}

    @virtually
    async def test_a_cancelled_one_is_an_error(self) -> None:
        from perdure.shard.commands import CancelRun

        world = await self.invoking()
        await world.submit(CancelRun(run=(await world.call()).run_id))
        await world.settle()
        memo = world.network.open[-1].body["steps"]["i"]
        assert memo == {"error": {"message": "the invoked function was cancelled", "name": "Error"}}

    @virtually
    async def test_a_timeout(self) -> None:
        world = await self.invoking(invoke("i", "callee", timeout="10s"))
        callee = await world.call()
        await world.sleep(10)
        parent = world.network.open[-1]
        assert parent.body["steps"]["i"]["error"]["name"] == "InngestInvokeTimeoutError"
        callee.returns("too late")
        await world.settle()
        assert len(world.network.calls) == 3

    @virtually
    async def test_two_in_parallel(self) -> None:
        world = await self.invoking(invoke("i", "callee"), invoke("j", "callee"), planned("p"))
        await world.settle()
        *callees, own = sorted(world.network.open, key=lambda call: call.headers["x-inngest-step-id"] == "p")
        own.ops(step("p"))
        for n, callee in enumerate(callees):
            callee.returns(n)
        call = await world.call()
        assert set(call.body["steps"]) == {"i", "j", "p"}
        assert sorted(call.body["steps"][name]["data"] for name in "ij") == [0, 1]

    @virtually
    async def test_nobody_can_pass_for_the_end_of_an_invoked_function(self) -> None:
        """The wait is for the server's own event, and a client may not send one."""
        world = await self.invoking()
        await world.settle()
        (row,) = (row for waits in world.tables.waits.values() for row in waits.values())
        assert row.event == "inngest/function.finished"

    @virtually
    async def test_from_outside(self) -> None:
        world = await World().start(HELLO, config("callee", "never"))
        await world.send(an_event("inngest/function.invoked"), target="app-callee")
        await world.send(an_event("inngest/function.invoked"), target="app-unknown")
        await world.settle()
        assert len(world.network.open) == 1
        assert len(world.tables.events) == 2


class TestEnds:
    """The events by which the server tells of ends."""

    @virtually
    async def test_a_failure_starts_its_handler_and_the_handler_nothing(self) -> None:
        text = "event.data.function_id == 'app-hello'"
        handler = config("handler", {"event": "inngest/function.failed", "expression": text}, retries=0)
        world = await World().start(HELLO, handler)
        await world.send(an_event("test/hello", {"n": 1}))
        failed = await world.call()
        failed.throws(**{"x-inngest-no-retry": "true"})
        handling = await world.call()
        event = handling.body["event"]
        assert event["id"] == failed.run_id
        assert event["data"]["error"] == {"error": "NonRetriableError", "name": "Boom", "message": "no"}
        assert event["data"]["event"]["data"] == {"n": 1}
        handling.throws()
        await world.settle()
        assert len(world.events("inngest/function.failed")) == 1
        assert len(world.events("inngest/function.finished")) == 1

    @virtually
    async def test_sessions_are_carried_on(self) -> None:
        world = await World().start(HELLO)
        event = an_event("test/hello")
        body = json.loads(event.body)
        body["meta"] = {"sessions": {"chat": "7"}}
        event.body = json.dumps(dict(sorted(body.items())), separators=(",", ":")).encode()
        await world.send(event)
        (await world.call()).throws(**{"x-inngest-no-retry": "true"})
        await world.settle()
        for name in ("inngest/function.failed", "inngest/function.finished"):
            (told,) = world.events(name)
            assert told["meta"] == {"sessions": {"chat": "7"}}

    @virtually
    async def test_nothing_is_asked_of_the_store_if_nobody_could_care(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        call = await world.call()
        asked: list[str] = []
        world.store.load_fault = asked.append
        call.returns()
        await world.settle()
        assert world.run().status == "COMPLETED"
        assert asked == []
        assert not world.tables.outbox


class TestFanOut:
    """More waits than one decision may end: the rest is ended by further ones, and a crash loses none."""

    def few(self, monkeypatch: pytest.MonkeyPatch, resident: int = 5_000) -> None:
        monkeypatch.setattr(matching, "WAITS_AT_ONCE", 4)
        monkeypatch.setattr(loads, "WAITS_AT_ONCE", 4)
        monkeypatch.setattr(memory_module, "MAX_RESIDENT_RUNS", resident)

    async def waiting(self, world: World, count: int, **condition: str) -> None:
        await world.start(HELLO)
        await world.send(*(an_event("test/hello", {"u": "a"}) for _ in range(count)))
        await world.settle(100)
        for call in world.network.open:
            call.ops(wait("w", "test/go", **condition))
        await world.settle(200)
        assert sum(map(len, world.tables.waits.values())) == count

    @pytest.mark.parametrize("count", [3, 4, 5, 8, 21])
    @pytest.mark.parametrize("resident", [5_000, 2, 10])
    def test_every_wait_ends_once(self, count: int, resident: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.few(monkeypatch, resident)

        @virtually
        async def test() -> None:
            world = World()
            await self.waiting(world, count)
            await world.send(an_event("test/nothing"))
            decided: list[int] = []
            world.store.before_commit = lambda _, changes: decided.append(len(changes.steps))
            await world.send(an_event("test/go"))
            await world.settle(400)
            assert sum(decided) == count
            assert max(decided) <= 8, "two decisions at most share a batch here"
            assert not world.tables.waits
            assert not world.tables.outbox
            assert len(world.network.open) == count

        test()

    def test_two_paths(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.few(monkeypatch, 3)

        @virtually
        async def test() -> None:
            world = await World().start(HELLO)
            await world.send(*(an_event("test/hello", {"u": "a", "v": "b"}) for _ in range(18)))
            await world.settle(100)
            conditions = [{}, {"if": SAME_USER}, {"if": "event.data.v == async.data.v"}]
            for n, call in enumerate(world.network.open):
                call.ops(wait("w", "test/go", **conditions[n % 3]))
            await world.settle(200)
            await world.send(an_event("test/go", {"u": "a", "v": "other"}))
            await world.settle(400)
            assert len(world.network.open) == 12

        test()

    def test_waits_that_began_later_are_not_part_of_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.few(monkeypatch)

        @virtually
        async def test() -> None:
            world = World()
            await self.waiting(world, 10)
            await world.send(an_event("test/hello", {"late": True}))
            late = await world.call()
            sent = asyncio.ensure_future(world.send(an_event("test/go")))
            while len(world.tables.waits) == 10:
                await asyncio.sleep(0)
            late.ops(wait("w", "test/go"))
            await world.settle(300)
            await sent
            assert list(world.tables.waits) == [late.run_id]

        test()

    def test_a_crash_in_the_middle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.few(monkeypatch)

        @virtually
        async def test() -> None:
            world = World()
            await self.waiting(world, 20)
            left = [2]

            def die(_: int, changes: Any) -> None:
                left[0] -= bool(changes.steps)
                if left[0] < 0:
                    raise asyncio.CancelledError

            world.store.before_commit = die
            sent = asyncio.ensure_future(world.send(an_event("test/go")))
            await world.settle(200)
            ended = 20 - len(world.tables.waits)
            assert 0 < ended < 20
            (row,) = world.tables.outbox.values()
            assert row.cursor
            world.store.before_commit = None
            for call in world.network.open:
                call.answered = True
            await world.restart()
            await world.settle(300)
            assert not world.tables.waits
            assert not world.tables.outbox
            assert all(list(world.steps(run_id)) == ["w"] for run_id in world.tables.runs)
            sent.cancel()

        test()


def test_lookups_are_pages() -> None:
    assert WaitLookup("x", "", "").after == ("", 0)

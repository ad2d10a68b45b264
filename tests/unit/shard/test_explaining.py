"""Why a run waits: each cause, as a person reads it and as a program does. Times are those of the virtual clock."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec
import pytest

from perdure.core.flow.admission import Pause
from perdure.core.pacing import HARD_LIMIT, YOUNG_CALLS
from perdure.protocol.durations import format_time
from perdure.protocol.ids import app_uuid
from perdure.shard import deciding
from perdure.shard.commands import CancelRun, ExplainRun, PauseFunction, PutApp, SendSignal
from perdure.shard.why import (
    AtGate,
    AwaitsEvent,
    AwaitsRun,
    Called,
    Cancellation,
    Deadline,
    InLine,
    PutOff,
    Requested,
    Why,
)
from tests.unit.shard.shards import (
    APP,
    SETTINGS,
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


async def world(*more: dict[str, Any], **rules: Any) -> World:
    return await World().start(config("f", "go", **rules), *more)


async def why(w: World, run_id: str | None = None) -> Why:
    """The answer; on disk nothing changes for it."""
    await w.settle()
    before = json.dumps(w.tables.items, default=str), len(w.tables.history), len(w.tables.quarantine)
    found = await w.submit(ExplainRun(run=run_id or w.run().id))
    assert isinstance(found, Why)
    assert before == (
        json.dumps(w.tables.items, default=str),
        len(w.tables.history),
        len(w.tables.quarantine),
    )
    return found


async def text(w: World, run_id: str | None = None) -> str:
    return (await why(w, run_id)).text


def waiting(w: World) -> list[str]:
    """Runs that no call has left for, in the order of their places."""
    called = {call.run_id for call in w.network.calls}
    items = [row for rows in w.tables.items.values() for row in rows.values() if row.kind == "discovery"]
    return [
        row.run_id
        for row in sorted(items, key=lambda row: (row.rank, row.run_id))
        if row.run_id not in called
    ]


class TestCalls:
    @virtually
    async def test_under_way(self) -> None:
        w = await world()
        start = format_time(w.clock.now())
        await w.send(an_event("go"))
        found = await why(w)
        assert found.text == f"a call to app {APP} has been under way since {start}"
        assert (found.status, found.function, found.next_at) == ("RUNNING", f"{APP}-f", None)
        (cause,) = found.causes
        assert isinstance(cause, Called)
        assert (cause.attempt, cause.attempts) == (1, 3)

    @virtually
    async def test_a_step_and_its_second_attempt(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(planned("charge"), planned("mail"))
        await w.settle()
        charge, mail = w.network.open
        mail.ops(step("mail"))
        charge.throws()
        await w.sleep(1.1)
        start = format_time(w.clock.now() - 100)
        assert (
            await text(w)
            == f"a call to app {APP} for step charge has been under way since {start}, attempt 2 of 3"
        )

    @virtually
    async def test_put_off_by_a_backoff(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).throws()
        found = await why(w)
        again = w.clock.now() + 1_000
        (cause,) = found.causes
        assert isinstance(cause, PutOff)
        assert found.text == f"attempt 1 of 3 failed; the next one is made at {format_time(again)}"
        assert found.next_at == again

    @virtually
    async def test_its_event_is_for_later(self) -> None:
        w = await world()
        later = w.clock.now() + 60_000
        await w.send(an_event("go", at=later))
        assert await text(w) == f"its event is for {format_time(later)}; it starts then"

    @virtually
    async def test_after_a_restart_calls_are_made_again(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        await w.call()
        await w.restart()
        found = await why(w)
        assert found.text.endswith(", a restart of the server in the middle of it")

    @virtually
    async def test_a_paused_function(self) -> None:
        w = await world(concurrency=1)
        await w.submit(PauseFunction(slug=f"{APP}-f", pause=Pause.HOLD))
        await w.send(an_event("go"))
        assert await text(w) == f"function {APP}-f is paused; the run starts when that is resumed"


class TestGate:
    @virtually
    async def test_young_calls(self) -> None:
        w = await world()
        now = w.clock.now()
        await w.send(*[an_event("go") for _ in range(YOUNG_CALLS + 3)])
        await w.settle()
        first, _, last = waiting(w)
        assert await text(w, first) == (
            f"waiting for a call to app {APP}: 24 of 24 that may have just begun, place 1"
        )
        found = await why(w, last)
        (cause,) = found.causes
        assert isinstance(cause, AtGate)
        assert (cause.full, cause.calls, cause.young, cause.queued.ahead) == ("young", 24, 24, 2)
        assert cause.free_at == found.next_at == now + 250

    @virtually
    async def test_all_calls(self) -> None:
        w = await world()
        w.shard.state.gate(app_uuid(APP)).hard_limit = 2
        await w.send(*[an_event("go") for _ in range(3)])
        await w.settle()
        assert await text(w, waiting(w)[0]) == (
            f"waiting for a call to app {APP}: 2 of 2 are under way, place 1"
        )

    @virtually
    async def test_half_for_one_function(self) -> None:
        w = await world(config("g", "other"))
        gate = w.shard.state.gate(app_uuid(APP))
        gate.hard_limit, gate.young_calls = 4, 2
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        await w.send(an_event("go"), an_event("other"))
        await w.settle()
        other, mine = sorted(waiting(w), key=lambda run: w.run(run).event_name != "other")
        assert await text(w, mine) == (
            f"waiting for a call to app {APP}: its function has its half of 4, and others wait, place 1"
        )
        assert w.run(other).event_name == "other"

    @virtually
    async def test_a_limit_with_room_before_a_full_gate(self) -> None:
        w = await world(concurrency=100)
        await w.send(*[an_event("go") for _ in range(YOUNG_CALLS + 2)])
        await w.settle()
        found = await why(w, waiting(w)[1])
        assert isinstance(found.causes[0], AtGate)
        assert found.text.endswith("that may have just begun, place 2")


class TestLines:
    @virtually
    async def test_a_concurrency_key(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "'user:' + string(event.data.u)"}])
        start = w.clock.now()
        await w.send(*[an_event("go", {"u": 7}) for _ in range(13)], an_event("go", {"u": 8}))
        await w.settle()
        found = await why(w, waiting(w)[11])
        assert found.text == "waiting for concurrency key user:7, place 12"
        (cause,) = found.causes
        assert isinstance(cause, InLine)
        (limit,) = cause.limits
        assert (limit.kind, limit.scope, limit.key) == (
            "concurrency", "fn", "'user:' + string(event.data.u)",
        )  # fmt: skip
        assert (limit.value, limit.limit, limit.taken, limit.open) == ("user:7", 1, 1, False)
        (holder,) = limit.holders
        assert holder.run_id in {call.run_id for call in w.network.open}
        assert (holder.since, holder.doing) == (
            start,
            f"a call to app {APP} has been under way since {format_time(start)}",
        )

    @virtually
    async def test_without_a_key(self) -> None:
        w = await world(concurrency=2)
        await w.send(*[an_event("go") for _ in range(3)])
        await w.settle()
        assert await text(w, waiting(w)[0]) == "waiting for the concurrency limit of 2, place 1"

    @virtually
    async def test_a_run_that_sleeps_holds_a_place_of_runs(self) -> None:
        w = await world(concurrency={"fn": [{"limit": 1, "key": "event.data.u"}]})
        await w.send(an_event("go", {"u": "a"}), an_event("go", {"u": "a"}))
        (await w.call()).ops(sleep("nap", "1h"))
        await w.settle()
        wakes = format_time(w.clock.now() + 3_600_000)
        found = await why(w, waiting(w)[0])
        assert found.text == "waiting for run concurrency key a, place 1"
        (cause,) = found.causes
        assert isinstance(cause, InLine)
        assert [holder.doing for holder in cause.limits[0].holders] == [f"sleeping until {wakes} in step nap"]

    @virtually
    async def test_a_holder_that_is_not_in_memory_is_named(self) -> None:
        w = await world(concurrency={"fn": [{"limit": 1}]})
        await w.send(an_event("go"), an_event("go"))
        call = await w.call()
        call.ops(sleep("nap", "1h"))
        await w.settle()
        await w.restart()
        found = await why(w, waiting(w)[0])
        (cause,) = found.causes
        assert isinstance(cause, InLine)
        (holder,) = cause.limits[0].holders
        assert (holder.run_id, holder.since, holder.doing) == (call.run_id, None, None)

    @virtually
    async def test_throttled(self) -> None:
        w = await world(throttle={"limit": 1, "period": "5s", "key": "event.data.u"})
        start = w.clock.now()
        await w.send(*[an_event("go", {"u": "a"}) for _ in range(3)])
        await w.settle()
        found = await why(w, waiting(w)[1])
        soon = format_time(start + 5_000)
        assert found.text == f"waiting for throttle key a (its next start is at {soon}), place 2"
        assert found.next_at == start + 5_000
        assert await text(w, waiting(w)[0]) == f"waiting for throttle key a until {soon}, place 1"

    @virtually
    async def test_lines_that_take_turns(self) -> None:
        limit = {"limit": 1, "key": "'openai'", "scope": "account"}
        w = await World().start(*[config(f"f{n}", f"go{n}", concurrency=[limit]) for n in range(4)])
        for n in range(4):
            await w.send(an_event(f"go{n}"), an_event(f"go{n}"))
        await w.settle()
        texts = [await text(w, run_id) for run_id in waiting(w)]
        shared = "of its line, one of 4 that take turns"
        assert Counter(texts) == {
            f"waiting for concurrency key openai, place 1 {shared}": 4,
            f"waiting for concurrency key openai, place 2 {shared}": 3,
        }

    @virtually
    async def test_two_limits_and_only_one_is_full(self) -> None:
        w = await world(concurrency=[{"limit": 5}, {"limit": 1, "key": "event.data.u"}])
        await w.send(an_event("go", {"u": "a"}), an_event("go", {"u": "a"}))
        await w.settle()
        found = await why(w, waiting(w)[0])
        assert found.text == "waiting for concurrency key a, place 1"
        (cause,) = found.causes
        assert isinstance(cause, InLine)
        assert [(limit.limit, limit.open) for limit in cause.limits] == [(5, True), (1, False)]

    @virtually
    async def test_a_place_beyond_what_is_in_memory_is_left_to_the_store(self) -> None:
        w = await world(concurrency=1)
        await w.send(*[an_event("go") for _ in range(5_000)])
        await w.settle()
        last = waiting(w)[-1]
        (cause,) = (await why(w, last)).causes
        assert isinstance(cause, InLine)
        queued = cause.queued
        assert queued.ahead is None
        items = [row for rows in w.tables.items.values() for row in rows.values()]
        ahead = [
            row for row in items
            if row.part == queued.part and not row.in_flight and (row.rank, row.run_id, row.n) < queued.ref
        ]  # fmt: skip
        assert len(ahead) == 4_998
        assert await text(w, waiting(w)[99]) == "waiting for the concurrency limit of 1, place 100"

    @virtually
    async def test_runs_that_have_left_the_line_are_not_counted(self) -> None:
        w = await world(concurrency=1)
        await w.send(*[an_event("go") for _ in range(200)])
        await w.settle()
        line = waiting(w)
        for n in (0, 50, 120):
            await w.submit(CancelRun(run=line[n]))
        await w.settle()
        assert await text(w, line[150]) == "waiting for the concurrency limit of 1, place 148"

    @virtually
    async def test_keys_that_could_not_be_computed_are_noted(self) -> None:
        w = await world(concurrency=[{"limit": 1, "key": "int(event.data.u)"}])
        await w.send(an_event("go", {"u": "x"}), an_event("go", {"u": "x"}))
        await w.settle()
        found = await why(w, waiting(w)[0])
        assert found.text == "waiting for concurrency key (empty), place 1"
        assert "could not be computed" in found.notes[0]


class TestWaits:
    @virtually
    async def test_asleep(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(sleep("nap", "1h"))
        found = await why(w)
        wakes = w.clock.now() + 3_600_000
        assert found.text == f"sleeping until {format_time(wakes)} in step nap"
        assert found.next_at == wakes

    @virtually
    async def test_an_event(self) -> None:
        w = await world()
        await w.send(an_event("go", {"id": "o1"}))
        began = w.clock.now()
        (await w.call()).ops(wait("paid", "order/paid", **{"if": "async.data.id == event.data.id"}))
        found = await why(w)
        ends = format_time(began + 3_600_000)
        assert found.text == f'waiting for event order/paid if async.data.id == "o1" until {ends}'
        (cause,) = found.causes
        assert isinstance(cause, AwaitsEvent)
        assert (cause.expression, cause.path, cause.value) == (
            "async.data.id == event.data.id", "data.id", "s:o1",
        )  # fmt: skip
        assert (cause.since, cause.missed) == (began, None)

    @virtually
    async def test_an_invoked_run(self) -> None:
        w = await world(config("g", "never"))
        await w.send(an_event("go"))
        (await w.call()).ops(invoke("i", "g", timeout="1h"))
        await w.settle()
        parent = next(run for run in w.tables.runs.values() if run.correlation is None)
        (cause,) = (await why(w, parent.id)).causes
        assert isinstance(cause, AwaitsRun)
        assert cause.text.startswith(
            "waiting for an invoked function whose run has not been started yet, until"
        )

    @virtually
    async def test_a_signal_and_one_that_was_taken_over(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(signal("s", "approve"))
        first = w.run().id
        ends = format_time(w.clock.now() + 3_600_000)
        assert await text(w) == f"waiting for signal approve until {ends}"
        await w.send(an_event("go"))
        (await w.call()).ops(signal("s", "approve", conflict="replace"))
        assert await text(w, first) == f"another wait has taken its signal over; times out at {ends}"
        assert await w.submit(SendSignal(signal="approve")) != first

    @virtually
    async def test_a_request_tells_its_host_and_nothing_secret(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        start = w.clock.now()
        op = {
            "op": "Gateway", "id": "r", "displayName": "ask",
            "opts": {
                "url": "https://hook.test/a/secret-path?key=secret-query", "method": "POST",
                "headers": {"Authorization": "Bearer secret-token"}, "body": "secret-body",
            },
        }  # fmt: skip
        (await w.call()).ops(op)
        found = await why(w)
        (cause,) = found.causes
        assert isinstance(cause, Requested)
        assert found.text == (
            f"a POST request to hook.test for step ask has been under way since {format_time(start)}"
        )
        assert b"secret" not in msgspec.json.encode(found)

    @virtually
    async def test_several_the_soonest_first(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(sleep("long", "2h"), sleep("short", "1h"), wait("e", "x", "90m"))
        found = await why(w)
        wakes = w.clock.now() + 3_600_000
        assert [cause.step for cause in found.causes] == ["short", "e", "long"]
        assert found.text == f"sleeping until {format_time(wakes)} in step short (and 2 more)"

    @virtually
    async def test_more_than_can_be_told_are_counted(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(*[sleep(f"s{n}", "2h") for n in range(60)])
        found = await why(w)
        assert (len(found.causes), found.more) == (50, 10)
        assert found.text.endswith("(and 59 more)")


class TestBeside:
    @virtually
    async def test_deadlines(self) -> None:
        w = await world(timeouts={"start": "1m", "finish": "2m"}, concurrency=1)
        now = w.clock.now()
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        begun, late = w.network.calls[0].run_id, waiting(w)[0]
        found = await why(w, late)
        assert found.guards == [
            Deadline(
                which="start",
                at=now + 60_000,
                text=f"cancelled at {format_time(now + 60_000)} if it has not begun by then",
            )
        ]
        assert found.next_at == now + 60_000
        (guard,) = (await why(w, begun)).guards
        assert guard.text == f"cancelled at {format_time(now + 120_000)} if it has not ended by then"

    @virtually
    async def test_cancellations(self) -> None:
        w = await world(
            cancel=[
                {"event": "stop", "if": "async.data.id == event.data.id", "timeout": "1h"},
                {"event": "halt"},
            ]
        )
        ends = w.clock.now() + 3_600_000
        await w.send(an_event("go", {"id": 5}))
        found = await why(w)
        assert [guard.text for guard in found.guards if isinstance(guard, Cancellation)] == [
            f"event stop cancels it if async.data.id == 5 until {format_time(ends)}",
            "event halt cancels it",
        ]

    @virtually
    async def test_an_app_whose_sync_failed(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).breaks()
        app = w.shard.state.apps[app_uuid(APP)]
        await w.submit(PutApp(app=app._replace(error="connection refused")))
        found = await why(w)
        assert found.notes == [f"The last sync of app {APP} failed: connection refused"]
        assert found.app is not None
        assert (found.app.url, found.app.error) == ("http://app.test/api", "connection refused")

    @virtually
    async def test_a_run_that_has_ended(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).returns()
        found = await why(w)
        assert found.text == f"completed at {format_time(w.clock.now())}"
        assert found.causes == []

    @virtually
    async def test_an_unknown_run(self) -> None:
        w = await world()
        assert await w.submit(ExplainRun(run="01HZZZZZZZZZZZZZZZZZZZZZZZ")) is None

    @virtually
    async def test_a_run_that_is_not_in_memory(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(sleep("nap", "1h"))
        before = await text(w)
        await w.restart()
        assert not w.shard.state.memory.runs
        assert await text(w) == before

    @virtually
    async def test_a_fault_in_the_explanation_does_the_run_no_harm(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        await w.settle()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deciding, "explain", lambda *_: 1 / 0)
            with pytest.raises(Exception, match="failed to answer this"):
                await w.submit(ExplainRun(run=w.run().id))
        assert not w.tables.quarantine
        (await w.call()).returns()
        await w.settle()
        assert w.run().status == "COMPLETED"


def test_the_virtual_app_has_the_limits_that_are_told() -> None:
    assert (YOUNG_CALLS, HARD_LIMIT, SETTINGS.default_retries) == (24, 1_000, 2)

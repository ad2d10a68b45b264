"""What a shard makes of what it finds when it starts."""

from __future__ import annotations

import asyncio
import json

import pytest

from perdure.core.settings import Settings
from perdure.errors import RequestError
from perdure.protocol.ops import Op
from perdure.shard.commands import Checkpoint
from tests.unit.shard.shards import World, an_event, config, invoke, planned, sleep, step, virtually, wait

HELLO = config("hello", "test/hello")


@virtually
async def test_calls_that_were_cut_off_are_made_again_with_a_higher_generation() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    call = await world.call()
    await world.restart()
    await world.settle()
    again = world.network.calls[1]
    assert again.headers["x-inngest-generation-id"] == "2"
    assert again.headers["x-inngest-job-id"] == call.headers["x-inngest-job-id"]
    assert again.headers["x-request-id"] != call.headers["x-request-id"]
    assert again.body["ctx"]["attempt"] == 0


@virtually
async def test_a_late_answer_or_checkpoint_of_the_old_call_is_refused() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    old = await world.call()
    await world.restart()
    await world.settle()
    old.ops(step("a", "old"))
    with pytest.raises(RequestError, match="does not match queue item generation 2"):
        await world.submit(Checkpoint(run=old.run_id, n=2, generation=1, ops=[Op("StepRun", "a", data=b"1")]))
    world.network.calls[1].ops(step("a", "new"))
    await world.settle()
    assert world.steps(old.run_id) == {"a": {"data": "new"}}


@virtually
async def test_a_call_that_keeps_killing_the_server_counts_as_an_attempt() -> None:
    world = await World(settings=Settings(default_retries=1, poison_recoveries=3)).start(HELLO)
    await world.send(an_event("test/hello"))
    attempts = [(await world.call()).body["ctx"]["attempt"]]
    for _ in range(5):
        world.network.calls[-1].answered = True  # nobody will hear of it any more
        await world.restart()
        attempts.append((await world.call()).body["ctx"]["attempt"])
    assert attempts == [0, 0, 0, 1, 1, 1]
    world.network.calls[-1].answered = True
    await world.restart()
    await world.settle()
    assert not world.network.open
    assert world.run().status == "FAILED"
    assert b"PoisonCall" in (world.run().output or b"")
    assert len(world.events("inngest/function.failed")) == 1


@virtually
async def test_a_good_answer_ends_the_count() -> None:
    world = await World(settings=Settings(default_retries=0, poison_recoveries=2)).start(HELLO)
    await world.send(an_event("test/hello"))
    for n in range(4):
        call = await world.call()
        call.answered = True
        await world.restart()
        (await world.call()).ops(step(f"s{n}"))
    (await world.call()).returns()
    await world.settle()
    assert world.run().status == "COMPLETED"


@virtually
async def test_sleeps_waits_and_sets_go_on() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(sleep("nap", "10s"), wait("w", "test/go"), planned("p"))
    (await world.call()).ops(step("p"))
    await world.settle()
    await world.restart()
    await world.sleep(10)
    assert not world.network.open
    await world.send(an_event("test/go", {"n": 1}))
    call = await world.call()
    assert list(call.body["steps"]) == ["p", "nap", "w"]
    assert call.body["steps"]["w"]["data"] == {"n": 1}
    assert call.body["steps"]["nap"] is None


@virtually
async def test_what_became_due_while_the_server_was_down_happens_at_once() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(sleep("nap", "1h"))
    await world.settle()
    await world.shard.stop(0)
    await asyncio.sleep(7_200)
    await world.restart()
    assert (await world.call()).body["steps"] == {"nap": None}


@virtually
async def test_an_internal_event_that_was_stored_and_not_matched_is_matched_now() -> None:
    """The server dies between the end of a function and the resumption of who waits for it."""
    world = await World().start(HELLO, config("callee", "never"))
    await world.send(an_event("test/hello"))
    (await world.call()).ops(invoke("i", "callee"))
    callee = await world.call()

    async def never(name: str) -> None:
        await asyncio.sleep(10_000)

    world.store.load_gate = never
    callee.returns(7)
    await world.settle()
    assert len(world.tables.outbox) == 1
    world.store.load_gate = None
    await world.restart()
    assert (await world.call()).body["steps"] == {"i": {"data": 7}}
    assert not world.tables.outbox


@virtually
async def test_failure_handlers_survive_too() -> None:
    handler = config(
        "handler",
        {"event": "inngest/function.failed", "expression": "event.data.function_id == 'app-hello'"},
    )
    world = await World().start(HELLO, handler)
    await world.send(an_event("test/hello"))
    call = await world.call()

    async def never(name: str) -> None:
        await asyncio.sleep(10_000)

    world.store.load_gate = never
    call.throws(**{"x-inngest-no-retry": "true"})
    await world.settle()
    assert world.run().status == "FAILED"
    world.store.load_gate = None
    await world.restart()
    handling = await world.call()
    assert handling.body["event"]["data"]["run_id"] == call.run_id
    await world.restart()
    assert len(world.tables.runs) == 2


@virtually
async def test_keys_receipts_and_registrations_are_remembered() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello", id="same"))
    await world.restart()
    await world.send(an_event("test/hello", id="same"))
    assert sorted(world.tables.events) == [1, 2]
    assert len(world.tables.runs) == 1
    assert world.shard.state.functions.find("app-hello") is not None


@virtually
async def test_archived_functions_start_nothing_and_their_runs_go_on() -> None:
    world = await World().start(HELLO, config("other", "test/other"))
    await world.send(an_event("test/hello"))
    await world.call()
    await world.register(config("other", "test/other"))
    await world.restart()
    await world.settle()
    world.network.calls[-1].ops(step("a"))
    await world.settle()
    world.network.calls[-1].returns()
    await world.settle()
    assert world.run().status == "COMPLETED"
    await world.send(an_event("test/hello"))
    assert len(world.tables.runs) == 1


@virtually
async def test_a_call_that_was_cut_off_stands_in_the_history_once() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    run_id = (await world.call()).run_id
    world.network.calls[-1].answered = True
    await world.restart()
    (await world.call()).returns()
    await world.settle()
    entries = [(row.kind, json.loads(row.body)) for row in world.tables.history[run_id].values()]
    assert [kind for kind, _ in entries] == ["queued", "cut", "call", "ended"]
    (cut,) = (body for kind, body in entries if kind == "cut")
    assert (cut["item"], cut["attempt"], cut["generation"], cut["error"]["name"]) == (2, 0, 1, "CutOff")

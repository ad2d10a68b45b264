"""A rerun from a step: what is copied, what the calls say until the step has run, and what is left of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from perdure.core.flow.admission import Pause
from perdure.core.model import FromStep
from perdure.core.settings import Settings
from perdure.shard import memory as memory_module
from perdure.shard.commands import CancelRun, PauseFunction, Rerun
from perdure.shard.rows import HistoryRow
from tests.unit.shard.shards import World, an_event, config, planned, sleep, step, virtually, wait

HELLO = config("hello", "test/hello")


def begin(id: str, input: object = None) -> FromStep:
    given = msgspec.UNSET if input is None else msgspec.Raw(msgspec.json.encode(input))
    return FromStep(id, id.upper(), given)


def noted(world: World, run_id: str, kind: str) -> list[dict[str, Any]]:
    rows: list[HistoryRow] = list(world.tables.history.get(run_id, {}).values())
    return [json.loads(row.body) for row in rows if row.kind == kind]


async def four_steps(world: World) -> str:
    """A run of the steps a, b, c and d that has ended; its id."""
    await world.send(an_event("test/hello", {"n": 1}))
    for place, id in enumerate("abcd"):
        (await world.call()).ops(step(id, place + 1))
    (await world.call()).returns("first")
    await world.settle()
    return world.run().id


@virtually
async def test_the_steps_before_are_copied_and_the_rest_runs_again() -> None:
    world = await World().start(HELLO)
    old = await four_steps(world)
    new = await world.submit(Rerun(run=old, from_step=begin("c")))
    call = await world.call()
    assert (call.run_id, call.body["event"]["data"]) == (new, {"n": 1})
    assert call.body["steps"] == {"a": {"data": 1}, "b": {"data": 2}}
    assert call.body["ctx"]["stack"] == {"stack": ["a", "b"], "current": 2}
    call.ops(step("c", 30))
    call = await world.call()
    assert call.body["ctx"]["stack"] == {"stack": ["a", "b", "c"], "current": 3}
    call.ops(step("d", 40))
    (await world.call()).returns("second")
    await world.settle()
    row = world.run(new)
    assert (row.status, row.output, row.original_run_id) == ("COMPLETED", b'"second"', old)
    assert [s.step_id for s in sorted(world.tables.steps[new].values(), key=lambda s: s.position)] == list(
        "abcd"
    )
    assert world.steps(old) == {id: {"data": n + 1} for n, id in enumerate("abcd")}
    assert noted(world, new, "copied") == [{"run": old, "from": "c", "name": "C", "steps": ["a", "b"]}]


@virtually
async def test_edited_input_is_in_every_call_until_the_step_has_run() -> None:
    world = await World().start(HELLO)
    old = await four_steps(world)
    new = await world.submit(Rerun(run=old, from_step=begin("b", [9, "x"])))
    edited = {"a": {"data": 1}, "b": {"input": [9, "x"]}}
    call = await world.call()
    assert call.body["steps"] == edited
    assert call.body["ctx"]["stack"]["stack"] == ["a"]
    call.breaks()
    await world.sleep(2)
    call = await world.call()
    assert (call.body["ctx"]["attempt"], call.body["steps"]) == (1, edited)
    await world.restart()
    # The call that was cut off is made again.
    world.network.calls.remove(call)
    call = await world.call()
    assert call.body["steps"] == edited
    assert {sent.headers["x-inngest-step-id"] for sent in world.network.calls if sent.run_id == new} == {"b"}
    call.ops(step("b", "new"))
    call = await world.call()
    assert call.headers["x-inngest-step-id"] == "step"
    assert call.body["steps"] == {"a": {"data": 1}, "b": {"data": "new"}}
    call.returns("done")
    await world.settle()
    assert world.run(new).status == "COMPLETED"
    assert noted(world, new, "copied")[0]["edited"] is True
    assert FromStep.decode(world.run(new).from_step or b"").arguments == b'[9,"x"]'


@virtually
async def test_from_the_first_step_nothing_is_copied() -> None:
    world = await World().start(HELLO)
    old = await four_steps(world)
    await world.submit(Rerun(run=old, from_step=begin("a", [])))
    call = await world.call()
    assert call.body["steps"] == {"a": {"input": []}}
    assert call.body["ctx"]["stack"] == {"stack": [], "current": 0}


@virtually
async def test_a_step_that_never_finished_comes_after_all_that_did() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(planned("a"), planned("b"), sleep("nap", "1h"))
    await world.settle()
    first, second = world.network.open
    first.ops(step("a", 1))
    second.ops({"op": "StepError", "id": "b", "displayName": "b", "error": {"name": "E", "message": "no"}})
    await world.settle()
    old = world.run().id
    await world.submit(CancelRun(run=old))
    new = await world.submit(Rerun(run=old, from_step=begin("b", [2])))
    call = await world.call()
    assert call.run_id == new
    assert call.body["steps"] == {"a": {"data": 1}, "b": {"input": [2]}}


@virtually
async def test_from_a_run_that_goes_on() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(step("a", 1))
    (await world.call()).ops(step("b", 2))
    (await world.call()).ops(wait("w", "test/never"))
    await world.settle()
    old = world.run().id
    await world.submit(Rerun(run=old, from_step=begin("b")))
    assert (await world.call()).body["steps"] == {"a": {"data": 1}}
    assert set(world.steps(old)) == {"a", "b"}
    assert world.run(old).status == "RUNNING"


@virtually
async def test_failed_steps_and_waits_are_copied_as_they_ended() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(
        {"op": "StepFailed", "id": "bad", "displayName": "bad", "error": {"name": "E", "message": "no"}}
    )
    (await world.call()).ops(wait("w", "test/go"))
    await world.settle()
    await world.send(an_event("test/go", {"x": 1}))
    (await world.call()).ops(step("c", 3))
    (await world.call()).returns(1)
    await world.settle()
    old = world.run().id
    await world.submit(Rerun(run=old, from_step=begin("c")))
    call = await world.call()
    assert call.body["steps"]["bad"] == {"error": {"name": "E", "message": "no"}}
    assert call.body["steps"]["w"]["data"] == {"x": 1}
    assert call.body["ctx"]["stack"]["stack"] == ["bad", "w"]


@virtually
async def test_results_that_memory_has_dropped_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).ops(step("a", 1))
    (await world.call()).ops(step("b", 2))
    (await world.call()).ops(wait("w", "test/never"))
    await world.settle()
    old = world.run().id
    resident = world.shard.state.memory.runs[old]
    monkeypatch.setattr(memory_module, "MAX_MEMO_BYTES", 0)
    world.shard.state.memory.pin(old)
    world.shard.state.memory.shrink()
    assert not resident.memos_resident
    monkeypatch.undo()
    await world.submit(Rerun(run=old, from_step=begin("w")))
    assert (await world.call()).body["steps"] == {"a": {"data": 1}, "b": {"data": 2}}


@virtually
async def test_a_rerun_from_a_step_can_be_rerun() -> None:
    world = await World().start(HELLO)
    old = await four_steps(world)
    second = await world.submit(Rerun(run=old, from_step=begin("b", [5])))
    (await world.call()).ops(step("b", "five"))
    (await world.call()).returns(2)
    await world.settle()
    await world.submit(Rerun(run=second, from_step=begin("zzz")))
    call = await world.call()
    assert call.body["steps"] == {"a": {"data": 1}, "b": {"data": "five"}}
    call.returns(3)
    await world.submit(Rerun(run=second))
    call = await world.call()
    assert call.body["steps"] == {}


@virtually
async def test_large_input_counts_for_what_a_call_may_carry() -> None:
    world = await World(settings=Settings(inline_state_bytes=2_000)).start(HELLO)
    old = await four_steps(world)
    await world.submit(Rerun(run=old, from_step=begin("b", ["x" * 1_000])))
    call = await world.call()
    assert call.body["steps"]["b"] == {"input": ["x" * 1_000]}
    call.returns(1)
    await world.submit(Rerun(run=old, from_step=begin("b", ["x" * 2_000])))
    call = await world.call()
    assert (call.body["steps"], call.body["use_api"]) == ({}, True)
    assert call.body["ctx"]["stack"]["stack"] == ["a"]


@virtually
@pytest.mark.parametrize(
    "rules",
    [{"concurrency": [{"limit": 1}]}, {"priority": {"run": "0"}}, {"throttle": {"limit": 9, "period": "1s"}}],
)
async def test_of_a_function_with_rules(rules: dict[str, Any]) -> None:
    world = await World().start(config("hello", "test/hello", **rules))
    old = await four_steps(world)
    new = await world.submit(Rerun(run=old, from_step=begin("b", [9])))
    await world.sleep(1)
    call = await world.call()
    assert (call.headers["x-inngest-step-id"], call.body["steps"]["b"]) == ("b", {"input": [9]})
    assert world.run(new).from_step is not None


@virtually
async def test_of_a_function_that_is_paused() -> None:
    world = await World().start(HELLO)
    old = await four_steps(world)
    slug = world.shard.state.functions.by_id[world.run(old).function_id].slug
    await world.submit(PauseFunction(slug=slug, pause=Pause.SKIP))
    skipped = await world.submit(Rerun(run=old, from_step=begin("b", [9])))
    assert (world.run(skipped).status, world.steps(skipped)) == ("SKIPPED", {})
    await world.submit(PauseFunction(slug=slug, pause=Pause.HOLD))
    held = await world.submit(Rerun(run=old, from_step=begin("b", [9])))
    await world.settle()
    assert not world.network.open
    await world.submit(PauseFunction(slug=slug, pause=Pause.NO))
    call = await world.call()
    assert (call.run_id, call.body["steps"]) == (held, {"a": {"data": 1}, "b": {"input": [9]}})


@virtually
async def test_no_such_run() -> None:
    world = await World().start(HELLO)
    assert await world.submit(Rerun(run="01HZZZZZZZZZZZZZZZZZZZZZZZ", from_step=begin("a"))) is None

"""Finished steps that are posted while the function goes on, and what happens when that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import perdure
from perdure.sdk.http import Answer
from tests.unit.sdk.calls import call, h, make_app

PLACE = {"fn_id": "F", "qi_id": "Q"}
SAVED = Answer(200, {}, b"")
Posted = list[dict[str, Any]]


async def saved() -> Answer:
    return SAVED


def make(reply: Callable[[], Awaitable[Answer]] = saved, **option: Any) -> tuple[perdure.App, Posted]:
    """An app of four steps and what it posts; `reply` makes the answers."""
    app = make_app(checkpoint=perdure.Checkpoint(**option))
    posted: Posted = []

    async def post(method: str, path: str, body: bytes = b"", headers: Any = None, tries: int = 1) -> Answer:
        assert (method, path) == ("POST", "/v1/checkpoint/01RUN/async")
        posted.append(json.loads(body))
        return await reply()

    app.api.call = post  # type: ignore[method-assign]

    @app.function("unit/go")
    async def four(step: perdure.Step) -> str:
        for name in "abcd":
            await step.run(name, lambda name=name: name)
        return "done"

    @app.function("unit/go")
    def four_sync(step: perdure.SyncStep) -> str:
        for name in "abcd":
            step.run(name, lambda name=name: name)
        return "done"

    @app.function("unit/go")
    async def ends(event: dict[str, Any], step: perdure.Step) -> None:
        await step.run("a", lambda: 1)
        match event["how"]:
            case "sleep":
                await step.sleep("nap", 60)
            case "raise":
                raise ValueError("after a")
            case "fail":
                await step.run("b", lambda: 1 // 0)
            case "gather":
                await asyncio.gather(step.run("b", lambda: 1), step.run("c", lambda: 1))

    return app, posted


def names(posted: Posted) -> list[list[str]]:
    return [[op["displayName"] for op in one["steps"]] for one in posted]


@pytest.mark.parametrize("fn", ["four", "four-sync"])
async def test_each_step_is_posted(fn: str) -> None:
    app, posted = make()
    told = await call(app, fn, request_id="REQ", generation_id=3, **PLACE)
    assert (told.status, told.body) == (200, "done")
    assert names(posted) == [["a"], ["b"], ["c"], ["d"]]
    first = posted[0]
    assert {key: first[key] for key in ("run_id", "fn_id", "qi_id", "request_id", "generation_id")} == {
        "run_id": "01RUN", "fn_id": "F", "qi_id": "Q", "request_id": "REQ", "generation_id": 3,
    }  # fmt: skip
    assert (first["steps"][0]["op"], first["steps"][0]["id"], first["steps"][0]["data"]) == (
        "StepRun",
        h("a"),
        "a",
    )


@pytest.mark.parametrize("fn", ["four", "four-sync"])
async def test_steps_are_posted_together_and_the_rest_ends_the_run(fn: str) -> None:
    app, posted = make(steps=3)
    told = await call(app, fn, **PLACE)
    assert names(posted) == [["a", "b", "c"]]
    assert [(op["op"], op["data"]) for op in told.body] == [("StepRun", "d"), ("RunComplete", "done")]


async def test_nothing_is_posted_where_a_server_may_not_expect_it() -> None:
    app, posted = make()
    assert (await call(app, "four")).ops == [("StepRun", "a")], "no item to post for"
    assert (await call(app, "four", attempt=1, **PLACE)).ops == [("StepRun", "a")], "a retry"
    assert (await call(app, "four", plan_only=True, **PLACE)).ops == [("StepPlanned", "a")]
    assert (await call(app, "four", target=h("a"), **PLACE)).ops == [("StepRun", "a")]
    assert posted == []


@pytest.mark.parametrize(
    ("how", "status", "ops", "posts"),
    [
        ("sleep", 206, [("StepRun", "a"), ("Sleep", "nap")], []),
        ("raise", 500, None, [["a"]]),
        ("fail", 206, [("StepError", "b")], [["a"]]),
        ("gather", 206, [("StepPlanned", "b"), ("StepPlanned", "c")], [["a"]]),
        ("return", 206, [("StepRun", "a"), ("RunComplete", "")], []),
    ],
)
async def test_what_is_kept_is_posted_or_comes_with_the_answer(
    how: str, status: int, ops: Any, posts: Any
) -> None:
    app, posted = make(steps=10)
    told = await call(app, "ends", {"data": {"how": how}}, **PLACE)
    assert told.status == status
    assert ops is None or told.ops == ops
    assert names(posted) == posts


@pytest.mark.parametrize("fn", ["four", "four-sync"])
async def test_a_checkpoint_that_fails_comes_with_the_answer(fn: str) -> None:
    async def unreachable() -> Answer:
        raise ConnectionRefusedError("no")

    async def refused() -> Answer:
        return Answer(413, {}, b"too large")

    for reply in (unreachable, refused):
        app, posted = make(reply)
        assert (await call(app, fn, **PLACE)).ops == [("StepRun", "a")]
        assert names(posted) == [["a"]]


@pytest.mark.parametrize("fn", ["four", "four-sync"])
async def test_a_call_that_another_one_has_replaced_stops(fn: str) -> None:
    async def stale() -> Answer:
        return Answer(409, {}, b"stale dispatch")

    app, posted = make(stale)
    assert (await call(app, fn, **PLACE)).ops == []
    assert names(posted) == [["a"]]


async def test_an_async_call_that_another_one_has_replaced_is_cancelled_and_can_clean_up() -> None:
    async def stale() -> Answer:
        return Answer(409, {}, b"the run was cancelled")

    app, _ = make(stale)
    seen: list[str] = []

    async def beside() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("beside cancelled")
            raise

    @app.function("unit/go")
    async def fn(step: perdure.Step) -> None:
        task = asyncio.create_task(beside())
        try:
            await step.run("a", lambda: 1)
            seen.append("went on")
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0.01)
            seen.append(f"cleaned up, {task.cancelled()}")

    assert (await call(app, "fn", **PLACE)).ops == []
    await asyncio.sleep(0.05)
    assert seen == ["cancelled", "beside cancelled", "cleaned up, True"]


async def test_the_longest_time_of_a_call() -> None:
    app, posted = make(max_runtime=0.05)

    @app.function("unit/go")
    async def slow(step: perdure.Step) -> None:
        for name in "ab":
            await step.run(name, asyncio.sleep, 0.06)

    assert (await call(app, "slow", **PLACE)).ops == [("DiscoveryRequest", "")]
    assert names(posted) == [["a"]]


async def test_a_timeout_during_a_checkpoint_loses_no_step() -> None:
    async def hangs() -> Answer:
        await asyncio.sleep(10)
        return SAVED

    app, _ = make(hangs)
    went_on: list[str] = []

    @app.function("unit/go")
    async def hasty(step: perdure.Step) -> None:
        try:
            async with asyncio.timeout(0.05):
                await step.run("quick", lambda: 1)
        except TimeoutError:
            went_on.append("timeout")
            await step.run("other", lambda: 2)

    assert (await call(app, "hasty", **PLACE)).ops == [("StepRun", "quick")]
    await asyncio.sleep(0.01)

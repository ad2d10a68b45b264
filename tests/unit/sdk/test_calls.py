"""What comes of a call: which steps run, which are told, and when the function goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import perdure
from tests.unit.sdk.calls import Told, call, finish, h, make_app

Data = dict[str, Any]


def one() -> int:
    return 1


async def two() -> int:
    return 2


def boom() -> int:
    raise ValueError("boom")


@pytest.fixture
def app() -> perdure.App:
    app = make_app()

    @app.function("unit/go")
    async def sequence(event: Data, step: perdure.Step) -> list[int]:
        a = await step.run("a", one)
        b = await step.run("b", two)
        return [a, b]

    @app.function("unit/go", id="sequence-sync")
    def sequence_sync(event: Data, step: perdure.SyncStep) -> list[int]:
        a = step.run("a", one)
        b = step.run("b", two)
        return [a, b]

    @app.function("unit/go")
    async def chains(event: Data, step: perdure.Step) -> str:
        async def chain(name: str) -> None:
            await step.run(f"{name}1", two)
            await step.run(f"{name}2", one)

        await asyncio.gather(chain("a"), chain("b"))
        return "done"

    @app.function("unit/go")
    async def waits(event: Data, step: perdure.Step) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            nap = group.create_task(step.sleep("nap", "1m"))
            got = group.create_task(step.wait_for_event("wait", "unit/answer", timeout="1h"))
            ran = group.create_task(step.run("run", one))
        found = got.result()
        return [nap.result(), found and found.data, ran.result()]

    @app.function("unit/go")
    async def caught(event: Data, step: perdure.Step) -> str:
        try:
            await step.run("breaks", boom)
        except perdure.StepError as error:
            return f"{error.step_id}: {error.name}: {error.message}"
        return "not reached"

    return app


BOTH = pytest.mark.parametrize("fn", ["sequence", "sequence-sync"])


@BOTH
async def test_a_new_step_is_run_and_is_the_answer(app: perdure.App, fn: str) -> None:
    told = await call(app, fn)
    assert told.ops == [("StepRun", "a")]
    assert (told.body[0]["id"], told.body[0]["data"]) == (h("a"), 1)


@BOTH
async def test_saved_steps_give_their_results_and_the_code_goes_on(app: perdure.App, fn: str) -> None:
    told = await call(app, fn, None, {h("a"): {"data": 10}})
    assert told.ops == [("StepRun", "b")]
    told = await call(app, fn, None, {h("a"): {"data": 10}, h("b"): {"data": 20}})
    assert (told.status, told.body) == (200, [10, 20])


@BOTH
async def test_plan_only_runs_nothing(app: perdure.App, fn: str) -> None:
    told = await call(app, fn, plan_only=True)
    assert told.ops == [("StepPlanned", "a")]


@BOTH
async def test_a_targeted_step_is_run(app: perdure.App, fn: str) -> None:
    told = await call(app, fn, None, {h("a"): {"data": 1}}, target=h("b"), plan_only=True)
    assert told.ops == [("StepRun", "b")]


@BOTH
async def test_a_targeted_step_that_the_code_does_not_come_to_is_explained(app: perdure.App, fn: str) -> None:
    told = await call(app, fn, target=h("gone"))
    assert (told.status, told.headers["x-inngest-no-retry"]) == (500, "false")
    assert told.body["name"] == "StepOrderError"
    assert "renamed" in told.body["message"]
    assert told.body["foundSteps"] == [{"id": h("a"), "displayName": "a"}]


async def test_steps_side_by_side_are_told_together(app: perdure.App) -> None:
    told = await call(app, "waits")
    assert told.ops == [("Sleep", "nap"), ("WaitForEvent", "wait"), ("StepPlanned", "run")]
    assert [op["opts"].get("parallelMode") for op in told.body] == ["race", "race", None]


async def test_a_chain_goes_on_while_its_sibling_is_under_way(app: perdure.App) -> None:
    """The answer of a1 asks for a discovery, since its branch comes to a2; that of a2 asks for none."""
    told = await call(app, "chains", target=h("a1"), plan_only=True)
    assert told.ops == [("StepRun", "a1"), ("DiscoveryRequest", "")]
    told = await call(app, "chains", None, {h("a1"): {"data": 2}}, target=h("a2"), plan_only=True)
    assert told.ops == [("StepRun", "a2")]
    told = await call(app, "chains", None, {h("a1"): {"data": 2}}, plan_only=True)
    assert told.ops == [("StepPlanned", "a2"), ("StepPlanned", "b1")]


async def test_three_steps_side_by_side_ask_for_no_discovery_of_their_own() -> None:
    app = make_app()

    @app.function("unit/go")
    async def three(step: perdure.Step) -> list[int]:
        return await asyncio.gather(*(step.run(f"p{n}", one) for n in range(3)))

    for n in range(3):
        told = await call(app, "three", target=h(f"p{n}"), plan_only=True)
        assert told.ops == [("StepRun", f"p{n}")]
    assert await finish(app, "three") == ([1, 1, 1], 5)


async def test_runs_are_played_to_their_end(app: perdure.App) -> None:
    assert await finish(app, "chains") == ("done", 7)
    answer = {"name": "unit/answer", "data": {"n": 7}, "id": "x", "ts": 1}
    assert (await finish(app, "waits", nap=None, wait=answer))[0] == [None, {"n": 7}, 1]
    assert (await finish(app, "waits", nap=None, wait=None))[0] == [None, None, 1]
    assert await finish(app, "caught") == ("breaks: ValueError: boom", 2)


async def test_a_failing_step_is_tried_again_until_its_attempts_are_used_up(app: perdure.App) -> None:
    told = await call(app, "caught", attempt=0, max_attempts=2)
    assert told.ops == [("StepError", "breaks")]
    assert told.headers["x-inngest-no-retry"] == "false"
    assert told.body[0]["error"]["name"] == "ValueError"
    assert "in boom" in told.body[0]["error"]["stack"]
    told = await call(app, "caught", attempt=1, max_attempts=2)
    assert told.ops == [("StepFailed", "breaks")]
    assert told.headers["x-inngest-no-retry"] == "true"


async def test_a_step_error_that_nobody_catches_ends_the_run_with_the_steps_own_error() -> None:
    app = make_app()

    @app.function("unit/go")
    async def uncaught(step: perdure.Step) -> None:
        await step.run("breaks", boom)

    memo = {"error": {"name": "ValueError", "message": "boom", "stack": "the stack of the step"}}
    told = await call(app, "uncaught", None, {h("breaks"): memo})
    assert (told.status, told.headers["x-inngest-no-retry"]) == (500, "true")
    assert told.body == {"name": "ValueError", "message": "boom", "stack": "the stack of the step"}


async def test_errors_say_whether_and_when_to_try_again() -> None:
    app = make_app()

    @app.function("unit/go")
    async def never(step: perdure.Step) -> None:
        raise perdure.NonRetriableError("never again")

    @app.function("unit/go")
    async def later(step: perdure.Step) -> None:
        raise perdure.RetryAfterError("later", 600)

    @app.function("unit/go")
    async def later_step(step: perdure.Step) -> None:
        def fail() -> None:
            raise perdure.RetryAfterError("later", 600)

        await step.run("fails", fail)

    @app.function("unit/go")
    async def broken(step: perdure.Step) -> None:
        raise KeyError("x")

    told = await call(app, "never")
    assert (told.status, told.headers["x-inngest-no-retry"]) == (500, "true")
    told = await call(app, "later")
    assert told.status == 500
    assert "x-inngest-no-retry" not in told.headers
    assert told.headers["retry-after"].endswith("Z")
    told = await call(app, "later-step")
    assert told.ops == [("StepError", "fails")]
    assert told.headers["retry-after"].endswith("Z")
    told = await call(app, "broken")
    assert (told.status, told.body["name"], told.body["message"]) == (500, "KeyError", "'x'")
    assert "x-inngest-no-retry" not in told.headers


async def test_a_strand_that_awaits_something_else_keeps_the_round_open() -> None:
    app = make_app()

    @app.function("unit/go")
    async def mixed(step: perdure.Step) -> list[int]:
        async def slow() -> int:
            await asyncio.sleep(0.05)
            return await step.run("slow", one)

        return await asyncio.gather(step.run("quick", one), slow())

    assert (await call(app, "mixed")).ops == [("StepPlanned", "quick"), ("StepPlanned", "slow")]


async def test_a_task_that_never_ends_keeps_the_round_open_for_a_second_at_most() -> None:
    app = make_app()
    forever: list[asyncio.Task[None]] = []

    @app.function("unit/go")
    async def leaking(step: perdure.Step) -> list[int]:
        forever.append(asyncio.create_task(asyncio.sleep(60)))
        return await asyncio.gather(step.run("p", one), step.run("q", one))

    start = time.monotonic()
    assert (await call(app, "leaking")).ops == [("StepPlanned", "p"), ("StepPlanned", "q")]
    assert time.monotonic() - start < 3
    assert not forever[0].cancelled(), "it is a library's, and none of our business"
    forever[0].cancel()


async def test_a_step_behind_something_slow_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.sdk.call.PATIENCE_S", 0.01)
    app = make_app()

    @app.function("unit/go")
    async def slow(step: perdure.Step) -> list[int]:
        async def behind() -> int:
            await asyncio.sleep(0.2)
            return await step.run("behind", one)

        return await asyncio.gather(step.run("quick", one), behind())

    assert (await call(app, "slow")).ops == [("StepRun", "quick")], "the round was closed"
    told = await call(app, "slow", target=h("behind"), plan_only=True)
    assert told.ops == [("StepRun", "behind")]


async def test_the_first_of_several_ends_the_function() -> None:
    app = make_app()

    @app.function("unit/go")
    async def first(step: perdure.Step) -> int:
        tasks = [asyncio.create_task(step.run(name, one)) for name in ("x", "y")]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return done.pop().result()

    told = await call(app, "first", target=h("y"), plan_only=True)
    assert told.ops == [("StepRun", "y"), ("DiscoveryRequest", "")]
    told = await call(app, "first", None, {h("y"): {"data": 5}})
    assert (told.status, told.body) == (200, 5)


async def test_a_timeout_around_a_step_fails_its_attempt_then_raises_in_every_call() -> None:
    app = make_app()

    @app.function("unit/go")
    async def hasty(step: perdure.Step) -> str:
        async def slow() -> None:
            await asyncio.sleep(5)

        try:
            async with asyncio.timeout(0.05):
                await step.run("slow", slow)
        except TimeoutError as error:
            return type(error).__name__
        return "in time"

    told = await call(app, "hasty", attempt=0, max_attempts=2)
    assert told.ops == [("StepError", "slow")]
    told = await call(app, "hasty", attempt=1, max_attempts=2)
    assert told.ops == [("StepFailed", "slow")]
    told = await call(app, "hasty", None, {h("slow"): {"error": told.body[0]["error"]}})
    assert (told.status, told.body) == (200, "StepTimeoutError")


async def test_a_failing_sibling_cancels_the_others_in_a_group() -> None:
    app = make_app()

    @app.function("unit/go")
    async def group(step: perdure.Step) -> str:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(step.run("bad", boom))
                tasks.create_task(step.run("good", one))
        except* perdure.StepError:
            pass
        return str(await step.run("after", one))

    memo = {h("bad"): {"error": {"name": "ValueError", "message": "boom"}}}
    told = await call(app, "group", None, memo)
    assert told.ops == [("StepRun", "after")]
    told = await call(app, "group", None, memo, target=h("good"), plan_only=True)
    assert told.ops == [("StepFailed", "good")], "nobody waits for it any more"
    assert told.body[0]["error"]["name"] == "StepTimeoutError"


async def test_in_a_gather_the_others_are_still_run_when_one_has_failed() -> None:
    app = make_app()

    @app.function("unit/go")
    async def gathered(step: perdure.Step) -> list[int]:
        return await asyncio.gather(step.run("bad", boom), step.run("good", one))

    memo = {h("bad"): {"error": {"name": "ValueError", "message": "boom"}}}
    told = await call(app, "gathered", None, memo, target=h("good"), plan_only=True)
    assert told.ops == [("StepRun", "good")]
    told = await call(app, "gathered", None, memo)
    assert (told.status, told.body["message"]) == (500, "boom")


async def test_finally_runs_when_the_call_ends_and_a_step_in_it_does_not() -> None:
    app = make_app()
    seen: list[str] = []

    @app.function("unit/go")
    async def careful(step: perdure.Step) -> None:
        try:
            await step.sleep("nap", 60)
        finally:
            seen.append("finally")
            await step.run("clean", seen.append, "step")

    assert (await call(app, "careful")).ops == [("Sleep", "nap")]
    await asyncio.sleep(0.01)
    assert seen == ["finally"]


def names_of(told: Told) -> list[str]:
    return [name for _, name in told.ops]


async def test_a_sync_function_stays_in_one_thread_and_its_branches_have_their_own() -> None:
    app = make_app()
    threads: dict[str, int] = {}

    def note(name: str) -> str:
        threads[name] = threading.get_ident()
        return name

    @app.function("unit/go")
    def plain(step: perdure.SyncStep) -> list[str]:
        note("function")
        step.run("a", note, "step")
        return step.parallel(lambda: step.run("p", note, "p"), lambda: step.run("q", note, "q"))

    assert names_of(await call(app, "plain")) == ["a"]
    assert threads["function"] == threads["step"] != threading.get_ident()
    memo = {h("a"): {"data": "step"}}
    assert (await call(app, "plain", None, memo)).ops == [("StepPlanned", "p"), ("StepPlanned", "q")]
    assert (await call(app, "plain", None, memo, target=h("q"), plan_only=True)).ops == [("StepRun", "q")]
    memo |= {h("p"): {"data": "p"}, h("q"): {"data": "q"}}
    assert (await call(app, "plain", None, memo)).body == ["p", "q"]


async def test_ends_of_calls_leave_no_thread_behind() -> None:
    app = make_app()

    @app.function("unit/go")
    def sleeper(step: perdure.SyncStep) -> None:
        step.sleep("nap", 60)

    for _ in range(20):
        assert (await call(app, "sleeper")).ops == [("Sleep", "nap")]
    await asyncio.sleep(0.05)
    assert [one.name for one in threading.enumerate() if one.name == "perdure-function"] == []


async def test_rerun_with_other_arguments_runs_the_step_with_them() -> None:
    app = make_app()

    def double(n: int) -> int:
        return n * 2

    @app.function("unit/go")
    async def doubling(step: perdure.Step) -> int:
        return await step.run("double", double, 1)

    told = await call(app, "doubling", None, {h("double"): {"input": [21]}})
    assert (told.ops, told.body[0]["data"]) == ([("StepRun", "double")], 42)


@pytest.mark.parametrize("how", ["run", "sleep"])
async def test_code_that_cleans_up_may_await(how: str) -> None:
    app = make_app()
    seen: list[str] = []

    @app.function("unit/go")
    async def fn(step: perdure.Step) -> None:
        try:
            await (step.run("a", lambda: 1) if how == "run" else step.sleep("a", 60))
        finally:
            await asyncio.sleep(0)
            seen.append("cleaned up")

    assert len((await call(app, "fn")).ops) == 1
    await asyncio.sleep(0.01)
    assert seen == ["cleaned up"]

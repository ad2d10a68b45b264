"""Mistakes that authors make, and what they are told."""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import perdure
from tests.unit.sdk.calls import call, h, make_app

Data = dict[str, Any]


async def refused(app: perdure.App, fn: str, *args: Any, **options: Any) -> str:
    """The message of the error that a function, or its only step, ends with."""
    told = await call(app, fn, *args, **options)
    if told.status == 206:
        return str(told.body[0]["error"]["message"])
    assert told.status == 500
    return str(told.body["message"])


def one() -> int:
    return 1


async def test_a_step_inside_of_a_step() -> None:
    app = make_app()

    @app.function("unit/go")
    async def nested(step: perdure.Step) -> int:
        async def outer() -> int:
            return await step.run("inner", one)

        return await step.run("outer", outer)

    @app.function("unit/go")
    def nested_sync(step: perdure.SyncStep) -> int:
        return step.run("outer", lambda: step.run("inner", one))

    for fn in ("nested", "nested-sync"):
        message = await refused(app, fn)
        assert 'The step "inner"' in message
        assert 'inside of the step "outer"' in message
        assert "one after the other" in message
        assert re.search(r"test_teaching\.py:\d+, in (outer|<lambda>)\)", message)


async def test_a_result_that_is_no_json_names_the_part() -> None:
    app = make_app()

    @app.function("unit/go")
    async def odd(step: perdure.Step) -> Any:
        return await step.run("load", lambda: {"rows": [1, {"lock": object()}]})

    @app.function("unit/go")
    def odd_sync(step: perdure.SyncStep) -> Any:
        return step.run("load", lambda: {"rows": [1, {"lock": object()}]})

    @app.function("unit/go")
    async def forgot(step: perdure.Step) -> Any:
        return await step.run("load", lambda: {"rows": one})

    @app.function("unit/go")
    async def returned(step: perdure.Step) -> Any:
        return object()

    message = await refused(app, "odd")
    assert message.startswith('What the step "load" of unit-odd returned cannot be written as JSON (')
    assert re.search(r"test_teaching\.py:\d+, in odd\)", message)
    sync = await refused(app, "odd-sync")
    assert re.search(r"test_teaching\.py:\d+, in odd_sync\)", sync)
    assert "['rows'][1]['lock'] is an object" in message
    assert "Call it" in await refused(app, "forgot")
    text = await refused(app, "returned")
    assert re.match(
        r"What unit-returned returned cannot be written as JSON \([^ ]*test_teaching\.py:\d+\): ", text
    )


async def test_a_coroutine_in_place_of_a_function() -> None:
    app = make_app()

    async def work() -> int:
        return 1

    @app.function("unit/go")
    async def eager(step: perdure.Step) -> Any:
        return await step.run("w", work())  # type: ignore[arg-type]

    assert "Give it the function, and its arguments after it" in await refused(app, "eager")


async def test_one_id_in_branches_side_by_side() -> None:
    app = make_app()

    @app.function("unit/go")
    async def clash(step: perdure.Step) -> Any:
        return await asyncio.gather(step.run("same", one), step.run("same", one))

    message = await refused(app, "clash")
    assert 'The step id "same" is used by two branches' in message
    assert 'f"same-{number}"' in message


async def test_one_id_in_a_loop_is_numbered_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.function("unit/go", id="loop-of-the-warning")
    async def loop(step: perdure.Step) -> Any:
        return [await step.run("again", one) for _ in range(2)]

    told = await call(app, "loop-of-the-warning", None, {h("again"): {"data": 1}})
    assert told.body[0]["id"] == h("again", 1)
    assert told.body[0]["userland"] == {"id": "again", "index": 1}
    await call(app, "loop-of-the-warning", None, {h("again"): {"data": 1}})
    (record,) = caplog.records
    assert "used more than once in unit-loop-of-the-warning (" in record.message
    assert re.search(r"test_teaching\.py:\d+, in (loop|<listcomp>)\)", record.message)
    assert 'such as f"again-{number}"' in record.message


async def test_a_thread_that_the_author_started() -> None:
    app = make_app()

    @app.function("unit/go")
    def threads(step: perdure.SyncStep) -> Any:
        with ThreadPoolExecutor() as pool:
            return pool.submit(step.run, "a", one).result()

    @app.function("unit/go")
    async def hop(step: perdure.Step) -> Any:
        def inside() -> Any:
            return asyncio.run(step.run("a", one))

        return await asyncio.to_thread(inside)

    assert "Let step.parallel start the threads" in await refused(app, "threads")
    assert "outside of the event loop" in await refused(app, "hop")


async def test_saved_json_that_does_not_fit_the_annotation_any_more() -> None:
    app = make_app()

    @app.function("unit/go")
    async def changed(step: perdure.Step) -> Any:
        return await step.run("count", one)

    message = await refused(app, "changed", None, {h("count"): {"data": "seven"}})
    assert 'The JSON "seven" is no int' in message
    assert "older version" in message


async def test_an_event_that_does_not_fit_its_type() -> None:
    import pydantic

    class Order(pydantic.BaseModel):
        id: int

    app = make_app()

    @app.function(perdure.event("unit/order", Order))
    async def handle(event: Order, step: perdure.Step) -> Any:
        return event.id

    message = await refused(app, "handle", {"name": "unit/order", "data": {"id": "x"}})
    assert "The event does not fit unit-handle" in message
    assert "Order" in message


async def test_code_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.function("unit/go")
    async def blocking(step: perdure.Step) -> int:
        async def careless() -> int:
            time.sleep(1)
            return 1

        return await step.run("careless", careless)

    with caplog.at_level(logging.WARNING, "perdure"):
        await call(app, "blocking")
    (record,) = caplog.records
    assert "unit-blocking has blocked the event loop" in record.message
    assert re.search(r"test_teaching\.py:\d+, in careless\. Nothing else", record.message)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda app: app.function("e", retries=21), "retries=21 is not between 0 and 20"),
        (lambda app: app.function("e")(lambda event, step: 1), "A lambda has no name"),
        (lambda app: app.function("e", id="f")(lambda a, b, c: 1), "takes (a, b, c)"),
        (lambda app: perdure.event(""), "An event needs a name"),
        (
            lambda app: perdure.Throttle(limit=1, period="soon").wire(),
            "throttle period: 'soon' is not a duration",
        ),
        (lambda app: perdure.Cancel("e", when="a", match="b").wire(), "give `when` or `match`, not both"),
        (lambda app: perdure.App(""), "An app needs a name"),
    ],
)
def test_declarations(make: Any, words: str) -> None:
    with pytest.raises(perdure.UsageError) as caught:
        make(make_app())
    assert words in str(caught.value)


def test_two_functions_of_one_id() -> None:
    app = make_app()

    @app.function("e")
    async def job(step: perdure.Step) -> None: ...

    with pytest.raises(perdure.UsageError, match='Two functions of unit have the id "job"'):
        app.function("e", id="job")(job.handler)


async def test_code_that_changed_under_a_run(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.function("unit/go")
    async def changed(step: perdure.Step) -> None:
        await step.run("kept", one)
        await step.run("new", one)

    saved = {h("kept"): {"data": 1}, h("removed"): {"data": 2}}
    for _ in range(2):
        assert (await call(app, "changed", None, saved)).ops == [("StepRun", "new")]
    (record,) = caplog.records
    text = r'came to the new step "new" \([^ ]*test_teaching\.py:\d+, in changed\) without 1 of its saved step\(s\)'
    assert re.search(text, record.message)
    caplog.clear()
    assert (await call(app, "changed", None, {h("kept"): {"data": 1}}, run_id="01OTHER")).status == 206
    assert caplog.records == []


async def test_failures_are_in_the_apps_own_log(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    @app.function("unit/go")
    async def failing(step: perdure.Step) -> None:
        def boom() -> None:
            raise KeyError("deep")

        await step.run("breaks", boom)

    await call(app, "failing", attempt=1)
    (record,) = caplog.records
    assert record.message == 'The step "breaks" of unit-failing failed (attempt 2 of 4, run 01RUN)'
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


async def test_sending_beside_the_steps_of_a_function(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    async def send(events: Any) -> list[str]:
        return ["01A"]

    app.sender.send = send  # type: ignore[method-assign]

    @app.function("unit/go")
    async def sends(event: Data, step: perdure.Step) -> None:
        if event["inside"]:
            await step.run("send", app.send, perdure.Event("a", {}))
            await step.send_event("send-too", perdure.Event("a", {}))
        else:
            await app.send(perdure.Event("a", {}))

    saved = {h("send"): {"data": ["01A"]}}
    await app.send(perdure.Event("a", {}))
    await call(app, "sends", {"data": {"inside": True}})
    await call(app, "sends", {"data": {"inside": True}}, saved)
    assert caplog.records == []
    for _ in range(2):
        await call(app, "sends", {"data": {"inside": False}})
    (record,) = caplog.records
    assert "use `step.send_event`" in record.message


async def test_a_moment_without_a_time_zone() -> None:
    app = make_app()

    @app.function("unit/go")
    async def until(step: perdure.Step) -> None:
        await step.sleep_until("until", datetime.datetime(2030, 1, 1))

    assert "has no time zone" in await refused(app, "until")


async def test_sending_what_no_event_is_declared_for() -> None:
    class Unknown:
        pass

    with pytest.raises(perdure.UsageError, match="no event was declared with that type"):
        await make_app().send(Unknown())
    with pytest.raises(perdure.UsageError, match=r"await app\.send"):
        make_app().send_sync(perdure.Event("a", {}))


async def test_a_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perdure.sdk.api.FIRST_PAUSE_S", 0.001)
    app = perdure.App("unit", url="http://127.0.0.1:9")
    with pytest.raises(perdure.SendError) as caught:
        await app.send(perdure.Event("a/b", {}))
    assert "Is the server running there?" in str(caught.value)
    assert caught.value.status is None

"""Logging in functions and steps: what is said once, what is known of it, and what reaches the server."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import perdure
from perdure.sdk import step_logs
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request
from perdure.sdk.http import Answer
from tests.unit.sdk.calls import Told, body_of, call, h, make_app

OFFER = {"x-perdure-capabilities": "checkpoints, logs"}
NAME = "tests.own.shop"


class Sent:
    """The entries that an app sends, in place of a server. `answers` are given to the next requests."""

    def __init__(self, app: perdure.App) -> None:
        self.app = app
        self.entries: list[dict[str, Any]] = []
        self.requests = 0
        self.cancelled: list[str] = []
        self.arrived = asyncio.Event()
        app.api.call = self._take  # type: ignore[method-assign]

    async def _take(self, method: str, path: str, body: bytes, **_: Any) -> Answer:
        assert (method, path) == ("POST", "/v1/step-logs")
        self.requests += 1
        self.entries += json.loads(body)
        self.arrived.set()
        answer = {"taken": 1, "dropped": 0, "cancelled": self.cancelled}
        return Answer(200, {}, json.dumps(answer).encode())

    async def all(self) -> list[dict[str, Any]]:
        """All entries that wait, sent now."""
        assert self.app.step_logs is not None
        await self.app.step_logs.flush()
        return self.entries

    async def said(self) -> list[tuple[str, str]]:
        return [(one["step_id"], one["message"]) for one in await self.all()]


async def told(app: perdure.App, fn: str, *args: Any, target: str = "step", **options: Any) -> Told:
    """A call by a server that takes log lines."""
    url = f"http://app.test/api/inngest?fnId={app.name}-{fn}&stepId={target}"
    response = await Endpoint(app, "test").handle(Request("POST", url, OFFER, body_of(*args, **options)))
    return Told(response.status, dict(response.headers), json.loads(response.body), response)


@pytest.fixture
def console() -> Iterator[io.StringIO]:
    """What a handler with the filter writes, of a logger of an author."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(run_id)s|%(function_id)s|%(step_id)s|%(attempt)d|%(message)s"))
    handler.addFilter(perdure.LogContext())
    target = logging.getLogger(NAME)
    target.addHandler(handler)
    target.setLevel(logging.INFO)
    target.propagate = False
    yield stream
    target.removeHandler(handler)
    target.setLevel(logging.NOTSET)
    target.propagate = True


def shop(log: logging.Logger) -> perdure.App:
    app = make_app()

    def work(number: int) -> int:
        log.info("in step %d", number)
        return number

    @app.function("unit/go")
    async def job(step: perdure.Step) -> int:
        log.info("begins")
        await step.run("one", work, 1)
        log.info("between")
        await step.run("two", work, 2)
        log.info("ends")
        return 3

    @app.function("unit/go")
    def plain(step: perdure.SyncStep) -> int:
        log.info("begins")
        step.run("one", work, 1)
        log.info("between")
        step.run("two", work, 2)
        log.info("ends")
        return 3

    return app


ONE, TWO = {h("one"): {"data": 1}}, {h("two"): {"data": 2}}


@pytest.mark.parametrize("fn", ["job", "plain"])
@pytest.mark.parametrize("make", [logging.getLogger, perdure.logger])
async def test_nothing_is_said_again(console: io.StringIO, fn: str, make: Any) -> None:
    """By loggers of the standard library where the filter is on their handler, and by those of our own."""
    app = shop(make(NAME))
    sent = Sent(app)
    for steps in ({}, ONE, {**ONE, **TWO}):
        await told(app, fn, None, steps)
    where = f"01RUN|unit-{fn}"
    assert console.getvalue().splitlines() == [
        f"{where}||0|begins", f"{where}|one|0|in step 1", f"{where}||0|between", f"{where}|two|0|in step 2",
        f"{where}||0|ends",
    ]  # fmt: skip
    assert await sent.said() == [
        ("", "begins"), ("one", "in step 1"), ("", "between"), ("two", "in step 2"), ("", "ends")
    ]  # fmt: skip


async def test_a_call_for_one_step_says_what_the_step_says(console: io.StringIO) -> None:
    app = shop(perdure.logger(NAME))
    sent = Sent(app)
    await told(app, "job", None, ONE, target=h("two"), attempt=2)
    assert console.getvalue() == "01RUN|unit-job|two|2|in step 2\n"
    (entry,) = await sent.all()
    assert {key: entry[key] for key in entry if key != "ts"} == {
        "run_id": "01RUN", "step": h("two"), "step_id": "two", "attempt": 2, "level": "INFO", "logger": NAME,
        "message": "in step 2",
    }  # fmt: skip


async def test_a_server_that_takes_no_lines_gets_none(console: io.StringIO) -> None:
    app = shop(perdure.logger(NAME))
    sent = Sent(app)
    await call(app, "job")
    assert await sent.all() == []
    assert "in step 1" in console.getvalue()
    quiet = make_app(logs=False)

    @quiet.function("unit/go")
    async def job(step: perdure.Step) -> None:
        step.log.error("here only")

    assert (await told(quiet, "job")).status == 200
    assert quiet.step_logs is None


async def test_lines_reach_the_server_though_nobody_has_set_up_logging() -> None:
    """The root logger's level is WARNING then: `step.log.info` would be for nobody."""
    app = make_app()
    sent = Sent(app)

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        step.log.debug("too little")
        step.log.info("%s of %d", "one", 7, extra={"amount": 7, "who": object})
        try:
            raise ValueError("odd")
        except ValueError:
            step.log.exception("it failed")
        logging.getLogger("tests.unheard").info("nobody hears")
        logging.getLogger("tests.heard").warning("as ever")

    assert logging.getLogger("tests.unit.sdk.test_logging").getEffectiveLevel() >= logging.WARNING
    await told(app, "job")
    first, second, third = await sent.all()
    assert (first["message"], first["logger"]) == ("one of 7", "tests.unit.sdk.test_logging")
    assert first["fields"] == {"amount": 7, "who": "<class 'object'>"}
    assert second["message"].startswith("it failed\nTraceback")
    assert second["message"].endswith("ValueError: odd")
    assert (third["level"], third["message"]) == ("WARNING", "as ever")


async def test_outside_of_functions_it_is_an_ordinary_logger(console: io.StringIO) -> None:
    log = perdure.logger(NAME)
    log.info("plain")
    log.debug("too little")
    assert console.getvalue() == "|||0|plain\n"
    assert perdure.logger().name == __name__
    assert log.isEnabledFor(logging.INFO)
    assert not log.isEnabledFor(logging.DEBUG)
    logging.getLogger(NAME).info("with an extra of that name", extra={"run_id": "mine"})
    assert console.getvalue().splitlines()[-1] == "mine|||0|with an extra of that name"


def test_what_is_set_on_it_is_set_on_the_logger_of_its_name() -> None:
    log, target = perdure.logger("tests.set"), logging.getLogger("tests.set")
    handler, seen = logging.Handler(), []
    handler.emit = seen.append  # type: ignore[method-assign]
    log.setLevel("DEBUG")
    log.addHandler(handler)
    try:
        assert (target.level, target.handlers, log.getEffectiveLevel()) == (10, [handler], 10)
        log.debug("one")
        target.debug("two")
        log.addFilter(holds_back := lambda _: False)
        log.debug("three")
        log.removeFilter(holds_back)
        assert [record.msg for record in seen] == ["one", "two"]
        assert pickle.loads(pickle.dumps(log)).name == "tests.set"
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)
    assert target.handlers == []


async def test_lines_go_together_and_never_in_the_way_of_a_step() -> None:
    app = make_app()
    sent = Sent(app)

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        def work() -> None:
            for number in range(50):
                step.log.info("%d", number)

        await step.run("one", work)

    await told(app, "job")
    assert sent.requests == 0
    await asyncio.wait_for(sent.arrived.wait(), 5)
    assert (sent.requests, len(sent.entries)) == (1, 50)


async def test_too_many_lines_are_lost_and_the_app_is_told(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()
    sent = Sent(app)

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        for number in range(10_005):
            step.log.info("%d", number)

    await told(app, "job")
    assert len(await sent.all()) == 10_000
    assert sent.requests == 10
    assert "5 log lines of steps came too quickly" in caplog.text


async def test_a_server_that_hangs_gets_one_request_at_a_time_and_later_the_rest() -> None:
    app = make_app()
    sent = Sent(app)
    answered = app.api.call
    hung = asyncio.Event()
    under_way = most = 0

    async def hanging(*args: Any, **options: Any) -> Answer:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await hung.wait()
        under_way -= 1
        return await answered(*args, **options)

    app.api.call = hanging  # type: ignore[method-assign]

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        step.log.info("line")

    for _ in range(4):
        await told(app, "job")
        await asyncio.sleep(0.25)
    assert most == 1
    hung.set()
    for _ in range(100):
        await asyncio.sleep(0.02)
        if len(sent.entries) == 4:
            break
    assert len(sent.entries) == 4


async def test_a_server_that_is_away_costs_some_lines_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_logs, "AGAIN_S", 0.01)
    app = make_app()
    sent = Sent(app)
    answered = app.api.call

    async def away(*_: Any, **__: Any) -> Answer:
        raise ConnectionRefusedError

    app.api.call = away  # type: ignore[method-assign]

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        step.log.info("line")

    await told(app, "job")
    assert await sent.all() == []
    app.api.call = answered  # type: ignore[method-assign]
    await told(app, "job")
    assert len(await sent.all()) == 1


async def test_odd_records_are_sent_as_well_as_can_be() -> None:
    app = make_app()
    sent = Sent(app)

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        step.log.info("%d", "no number")
        step.log.info("half \ud800")
        step.log.info("odd", extra={"odd": Odd()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        assert (await told(app, "job")).status == 200
        assert [one["message"] for one in await sent.all()] == ["%d", "half \ud800", "odd"]


class TestProgress:
    async def test_the_last_of_many_is_sent(self) -> None:
        app = make_app()
        sent = Sent(app)

        @app.function("unit/go")
        async def job(step: perdure.Step) -> None:
            async def work() -> None:
                step.heartbeat()
                for page in range(1, 5):
                    step.progress(page / 4, f"{page} of 4")
                step.heartbeat()

            await step.run("one", work)

        await told(app, "job")
        (entry,) = await sent.all()
        assert (entry["step"], entry["progress"], entry["message"]) == (h("one"), 1.0, "4 of 4")
        assert "level" not in entry

    async def test_a_heartbeat_says_nothing_else(self) -> None:
        app = make_app()
        sent = Sent(app)

        @app.function("unit/go")
        def plain(step: perdure.SyncStep) -> None:
            step.run("one", step.heartbeat)

        await told(app, "plain")
        (entry,) = await sent.all()
        assert set(entry) == {"run_id", "step", "step_id", "attempt", "ts"}

    async def test_the_async_code_of_a_step_of_a_plain_function(self) -> None:
        app = make_app()
        sent = Sent(app)

        @app.function("unit/go")
        def plain(step: perdure.SyncStep) -> None:
            async def work() -> None:
                await asyncio.sleep(0)
                step.progress(0.5)
                step.log.info("on the loop")

            step.run("one", work)

        assert (await told(app, "plain")).ops == [("StepRun", "one")]
        assert [(one["step_id"], one.get("message", "")) for one in await sent.all()] == [
            ("one", ""),
            ("one", "on the loop"),
        ]

    async def test_mistakes(self) -> None:
        app = make_app()

        @app.function("unit/go")
        async def outside(step: perdure.Step) -> None:
            step.progress(0.5)

        @app.function("unit/go")
        async def percent(step: perdure.Step) -> None:
            await step.run("one", lambda: step.progress(40))

        assert "step.progress of unit-outside is called where no step is running" in str(
            (await call(app, "outside")).body["message"]
        )
        message = (await call(app, "percent")).body[0]["error"]["message"]
        assert message == "step.progress(40): a part of the whole is from 0 to 1, such as done / total."

    async def test_an_async_step_of_a_cancelled_run_gets_cancelled_error(self) -> None:
        app = make_app()
        sent = Sent(app)
        sent.cancelled = ["01RUN"]
        seen: list[str] = []

        @app.function("unit/go")
        async def job(step: perdure.Step) -> None:
            async def work() -> None:
                try:
                    step.progress(0.1)
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    seen.append("cancelled")
                    try:
                        step.progress(0.2)
                    except asyncio.CancelledError:
                        seen.append("still")
                    raise

            await asyncio.gather(step.run("one", work), asyncio.sleep(0))

        await asyncio.wait_for(told(app, "job"), 5)
        await asyncio.sleep(0.05)
        assert seen == ["cancelled", "still"]

    async def test_a_step_that_tells_nothing_is_reached_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(step_logs, "BEAT_S", 0.05)
        app = make_app()
        sent = Sent(app)
        sent.cancelled = ["01RUN"]
        seen: list[str] = []

        @app.function("unit/go")
        async def job(step: perdure.Step) -> None:
            async def work() -> None:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    seen.append("cancelled")
                    raise

            await step.run("one", work)

        @app.function("unit/go")
        async def short(step: perdure.Step) -> int:
            return 1

        await asyncio.gather(*(told(app, "short", run_id=f"01SHORT{number}") for number in range(5)))
        await asyncio.wait_for(told(app, "job"), 5)
        await asyncio.sleep(0.3)
        assert seen == ["cancelled"]
        assert [(one["run_id"], one["step"]) for one in sent.entries] == [("01RUN", "")]
        assert app.step_logs is not None
        assert app.step_logs._beating is None, "without calls under way nothing beats"

    @pytest.mark.parametrize("fn", ["plain", "pooled"])
    async def test_a_sync_step_of_a_cancelled_run_is_told_by_its_next_progress(self, fn: str) -> None:
        app = make_app()
        sent = Sent(app)
        sent.cancelled = ["01RUN"]
        seen: list[str] = []
        done = threading.Event()

        def work(step: perdure.Step | perdure.SyncStep) -> None:
            try:
                for part in range(500):
                    step.progress(part / 500)
                    done.wait(0.01)
            except perdure.RunCancelledError as error:
                seen.append(str(error))
                raise
            finally:
                done.set()

        @app.function("unit/go")
        def plain(step: perdure.SyncStep) -> None:
            step.run("one", work, step)

        @app.function("unit/go")
        async def pooled(step: perdure.Step) -> None:
            await step.run("one", work, step)

        await asyncio.wait_for(told(app, fn), 5)
        assert await asyncio.to_thread(done.wait, 5)
        assert len(seen) == 1
        assert f'The run of the step "one" of unit-{fn} was cancelled' in seen[0]

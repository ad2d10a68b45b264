"""Middleware: what it sees, in which order, around which code, and what it is told when it goes wrong."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import msgspec
import pytest

import perdure
from perdure.middleware import CallInfo, Middleware, MiddlewareError, Payload, StepInfo
from perdure.sdk.call import Call
from perdure.sdk.http import Answer
from tests.unit.sdk.calls import call, finish, h, make_app


class Marks(Middleware):
    """Puts its name around every text on the way out, and checks and takes it off on the way in."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[str] = []

    def transform_output(self, value: Any, payload: Payload) -> Any:
        self.log.append(f"out {payload.kind} {payload.name}")
        return {self.name: value}

    def transform_input(self, value: Any, payload: Payload) -> Any:
        self.log.append(f"in {payload.kind} {payload.name}")
        return value[self.name]


def wire(value: Any) -> Any:
    """What two of them make of a value."""
    return {"outer": {"inner": value}}


def app_of(*middleware: Middleware) -> perdure.App:
    app = make_app(middleware=middleware[:1])
    own = middleware[1:]

    @app.function("unit/go", middleware=own)
    async def job(event: dict[str, Any], step: perdure.Step) -> str:
        first = await step.run("first", lambda: event["n"] + 1)
        return f"{first + 1}"

    @app.function("unit/go", middleware=own)
    def plain(event: dict[str, Any], step: perdure.SyncStep) -> str:
        first = step.run("first", lambda: event["n"] + 1)
        return f"{first + 1}"

    return app


@pytest.mark.parametrize("fn", ["job", "plain"])
async def test_values_pass_through_the_skins_of_an_onion(fn: str) -> None:
    outer, inner = Marks("outer"), Marks("inner")
    app = app_of(outer, inner)
    event = {"data": wire({"n": 1})}
    ran = await call(app, fn, event)
    assert ran.body[0]["data"] == wire(2)
    done = await call(app, fn, event, {h("first"): {"data": wire(2)}})
    assert done.body == wire("3")
    assert outer.log == [
        "in event unit/go", "out step first", "in event unit/go", "in step first", f"out function unit-{fn}"
    ]  # fmt: skip
    assert inner.log == outer.log


async def test_the_step_gives_its_own_result_in_the_call_that_ran_it() -> None:
    """Not what was made of it for the wire."""
    app = app_of(Marks("outer"))
    told = await call(app, "job", {"data": {"outer": {"n": 1}}}, target=h("first"))
    assert told.body[0]["data"] == {"outer": 2}
    assert await finish(app, "job", {"data": {"outer": {"n": 1}}}) == ({"outer": "3"}, 2)


async def test_what_the_server_sends_besides_results() -> None:
    marks = Marks("m")
    app = make_app(middleware=[marks])

    @app.function("unit/go")
    async def waits(step: perdure.Step) -> Any:
        event = await step.wait_for_event("wait", "unit/come", timeout="1h")
        signal = await step.wait_for_signal("signal", "s", timeout="1h")
        called = await step.invoke("call", "other-fn", {"a": 1})
        await step.sleep("nap", "1s")
        await step.ai.infer("ask", url="http://model.invalid", body={})
        assert event is not None
        assert signal is not None
        return [event.data, signal.data, called]

    event = {"data": {"m": {}}}
    saved: dict[str, Any] = {h("wait"): {"name": "unit/come", "data": {"m": {"come": 1}}}}
    saved[h("signal")] = {"data": {"signal": "s", "data": {"m": 5}}}
    asked = await call(app, "waits", event, saved)
    assert asked.body[0]["opts"]["payload"]["data"] == {"m": {"a": 1}}
    saved[h("call")] = {"data": {"m": "result"}}
    assert (await call(app, "waits", event, saved)).ops == [("Sleep", "nap")]
    saved[h("nap")] = None
    assert (await call(app, "waits", event, saved)).ops == [("AIGateway", "ask")]
    saved[h("ask")] = {"data": {"answer": "as the server got it"}}
    done = await call(app, "waits", event, saved)
    assert done.body == {"m": [{"come": 1}, 5, "result"]}
    timed_out = await call(app, "waits", event, {h("wait"): None, h("signal"): {"data": None}})
    assert timed_out.ops == [("InvokeFunction", "call")]


class Record:
    """Takes what is sent, in place of a server."""

    def __init__(self, app: perdure.App) -> None:
        self.bodies: list[Any] = []
        app.api.send = app.api.call = self._take  # type: ignore[method-assign]

    async def _take(self, *args: Any, **_: Any) -> Answer:
        body = args[1] if args[0] != "POST" else args[2]
        self.bodies.append(msgspec.json.decode(body))
        return Answer(200, {}, b'{"ids":["1"],"status":200,"data":{"run_id":"r"}}')


async def test_events_and_signals_on_their_way_out() -> None:
    class Stamp(Marks):
        def before_send(self, events: list[perdure.Event[Any]]) -> list[perdure.Event[Any]]:
            self.log.append(f"send {[event.data for event in events]}")
            return [
                perdure.Event(event.name, {**dict(event.data), "by": self.name})
                for event in events
                if event.name != "unit/secret"
            ]

    outer, inner = Stamp("outer"), Stamp("inner")
    app = make_app(middleware=[outer])
    record = Record(app)

    @app.function("unit/go", middleware=[inner])
    async def sends(step: perdure.Step) -> Any:
        await step.send_event("send", [perdure.Event("unit/a", {"n": 1}), perdure.Event("unit/secret", {})])
        return None

    @app.function("unit/go")
    async def signals(step: perdure.Step) -> Any:
        return await step.send_signal("wake", "s", [1])

    await app.send(perdure.Event("unit/a", {"n": 1}))
    assert record.bodies.pop() == [{"name": "unit/a", "data": {"outer": {"n": 1, "by": "outer"}}}]
    await call(app, "sends", {"data": wire({})})
    inner_made = {"inner": {"n": 1, "by": "inner"}}
    assert record.bodies.pop() == [{"name": "unit/a", "data": {"outer": {**inner_made, "by": "outer"}}}]
    await call(app, "signals", {"data": {"outer": {}}})
    assert record.bodies.pop() == {"signal": "s", "data": {"outer": [1]}}


WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Around(Middleware):
    """Notes what it is around of."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    @contextmanager
    def wrap_function(self, call: CallInfo) -> Iterator[None]:
        self.log.append(f"{self.name} begins {call.function_id} {call.attempt}")
        try:
            yield
        except BaseException as error:
            self.log.append(f"{self.name} sees {type(error).__name__}")
            raise
        self.log.append(f"{self.name} ends")

    @contextmanager
    def wrap_step(self, step: StepInfo) -> Iterator[None]:
        token = WHO.set(f"{WHO.get()}+{self.name}")
        self.log.append(f"{self.name} begins step {step.id} {step.index}")
        try:
            yield
        finally:
            self.log.append(f"{self.name} ends step")
            WHO.reset(token)


@pytest.mark.parametrize("fn", ["job", "plain"])
async def test_wraps_lie_around_functions_and_steps(fn: str) -> None:
    log: list[str] = []
    app = make_app(middleware=[Around("a", log)])

    @app.function("unit/go", middleware=[Around("b", log)])
    async def job(step: perdure.Step) -> str:
        return await step.run("one", WHO.get)  # in a thread

    @app.function("unit/go", middleware=[Around("b", log)])
    def plain(step: perdure.SyncStep) -> str:
        return step.run("one", WHO.get)

    told = await call(app, fn)
    await asyncio.sleep(0.05)
    assert told.body[0]["data"] == "nobody+a+b"
    assert log[:6] == [
        f"a begins unit-{fn} 0", f"b begins unit-{fn} 0",
        "a begins step one 0", "b begins step one 0", "b ends step", "a ends step",
    ]  # fmt: skip
    assert [line.partition(" sees ")[0] for line in log[6:]] == ["b", "a"]
    log.clear()
    await call(app, fn, None, {h("one"): {"data": "saved"}})
    assert log == [f"a begins unit-{fn} 0", f"b begins unit-{fn} 0", "b ends", "a ends"]


async def test_an_async_step_and_an_async_context() -> None:
    log: list[str] = []

    class Slow(Middleware):
        @asynccontextmanager
        async def wrap_step(self, step: StepInfo) -> AsyncIterator[None]:  # type: ignore[override]
            await asyncio.sleep(0)
            log.append(f"begins {step.id}")
            yield
            log.append("ends")

    app = make_app(middleware=[Slow()])

    @app.function("unit/go")
    async def job(step: perdure.Step) -> int:
        async def code(number: int) -> int:
            log.append("runs")
            return number

        return await step.run("one", code, 7)

    @app.function("unit/go")
    def plain(step: perdure.SyncStep) -> int:
        return step.run("one", lambda: 1)

    assert (await call(app, "job")).body[0]["data"] == 7
    assert log == ["begins one", "runs", "ends"]
    message = (await call(app, "plain")).body[0]["error"]["message"]
    assert "Slow.wrap_step gave an async context manager" in message
    assert "@contextlib.contextmanager" in message


async def test_a_failing_step_is_seen_by_its_wraps_and_fails_as_it_would() -> None:
    seen: list[str] = []

    class Sees(Middleware):
        @contextmanager
        def wrap_step(self, step: StepInfo) -> Iterator[None]:
            try:
                yield
            except ValueError as error:
                seen.append(str(error))
                raise

    app = make_app(middleware=[Sees()])

    @app.function("unit/go")
    async def job(step: perdure.Step) -> None:
        await step.run("one", lambda: int("x"))

    told = await call(app, "job")
    assert told.ops == [("StepError", "one")]
    assert told.body[0]["error"]["name"] == "ValueError"
    assert seen == ["invalid literal for int() with base 10: 'x'"]


async def message_of(middleware: Middleware, fn: str = "job", event: Any = None) -> str:
    told = await call(app_of(middleware), fn, event or {"data": {"n": 1}})
    if told.status == 206:
        return str(told.body[0]["error"]["message"])
    assert told.status == 500
    return str(told.body["message"])


async def test_mistakes_are_named() -> None:
    class Forgets(Middleware):
        def transform_output(self, value: Any, payload: Payload) -> Any:
            print(value)

    class ForgetsInput(Middleware):
        def transform_input(self, value: Any, payload: Payload) -> Any:
            value["seen"] = True

    class Raises(Middleware):
        def transform_output(self, value: Any, payload: Payload) -> Any:
            return value["missing"]

    class IsAsync(Middleware):
        async def transform_output(self, value: Any, payload: Payload) -> Any:
            return value

    class Odd(Middleware):
        def transform_output(self, value: Any, payload: Payload) -> Any:
            return {"lock": object()}

    class Yields(Middleware):
        def wrap_step(self, step: StepInfo) -> Any:
            yield

    class Swallows(Middleware):
        @contextmanager
        def wrap_step(self, step: StepInfo) -> Iterator[None]:
            with suppress(TypeError):
                yield

    message = await message_of(Forgets())
    assert 'Forgets.transform_output returned None for the result of the step "first"' in message
    assert "`return` was forgotten" in message
    message = await message_of(ForgetsInput())
    assert 'ForgetsInput.transform_input returned None for the data of the event "unit/go"' in message
    message = await message_of(Raises())
    assert 'Raises.transform_output failed on the result of the step "first": TypeError' in message
    assert "IsAsync.transform_output is async" in await message_of(IsAsync())
    message = await message_of(Odd())
    assert "What Odd.transform_output returned" in message
    assert "['lock'] is an object" in message
    message = await message_of(Yields())
    assert "Yields.wrap_step gave <generator" in message
    assert "@contextlib.contextmanager" in message
    message = await message_of(Swallows(), event={"data": {"n": "text"}})
    assert 'Swallows.wrap_step kept an exception of the step "first" to itself' in message
    with pytest.raises(perdure.UsageError, match=r"write Forgets\(\.\.\.\)"):
        make_app(middleware=[Forgets])

    class SendsNothing(Middleware):
        def before_send(self, events: list[perdure.Event[Any]]) -> Any:
            events[0].data["n"] = 1

    with pytest.raises(
        MiddlewareError, match=r"SendsNothing.before_send returned None. It must return the list"
    ):
        await make_app(middleware=[SendsNothing()]).send(perdure.Event("unit/a", {}))


async def test_a_null_on_purpose() -> None:
    class Hides(Middleware):
        def transform_output(self, value: Any, payload: Payload) -> Any:
            return msgspec.Raw(b"null") if payload.kind == "step" else value

    told = await call(app_of(Hides()), "job", {"data": {"n": 1}})
    assert told.body[0]["data"] is None


async def test_an_error_on_purpose_is_that_error() -> None:
    class Refuses(Middleware):
        def transform_input(self, value: Any, payload: Payload) -> Any:
            raise perdure.NonRetriableError("not for us")

    told = await call(app_of(Refuses()), "job", {"data": {"n": 1}})
    assert (told.status, told.body["name"]) == (500, "NonRetriableError")
    assert told.headers["x-inngest-no-retry"] == "true"


async def test_a_function_without_middleware_is_called_as_if_there_was_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[type] = []
    original = Call.run

    async def run(self: Call, start: Any) -> Any:
        seen.append(type(self))
        assert self.hooks is None
        return await original(self, start)

    monkeypatch.setattr(Call, "run", run)
    app = make_app()

    @app.function("unit/go")
    async def job(step: perdure.Step) -> int:
        return 1

    await call(app, "job")
    assert seen == [Call]

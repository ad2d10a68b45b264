"""Values, events, options and settings as they go over the wire."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import uuid
from typing import Any, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest

import perdure
from perdure.errors import ConfigError
from perdure.sdk import codec
from perdure.sdk.events import as_event, event_json
from perdure.sdk.settings import read_settings
from tests.unit.sdk.calls import call, h, make_app


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    at: datetime.datetime


class Model(pydantic.BaseModel):
    id: int
    price: decimal.Decimal
    points: list[Point] = []


class Struct(msgspec.Struct):
    id: uuid.UUID
    raw: bytes


class Typed(TypedDict):
    day: datetime.date


class Pair(NamedTuple):
    left: int
    right: str


NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int),
        (1.5, float),
        ("text", str),
        (None, None),
        (True, bool),
        (NOON, datetime.datetime),
        (NOON.date(), datetime.date),
        (datetime.timedelta(hours=1.5), datetime.timedelta),
        (decimal.Decimal("1.10"), decimal.Decimal),
        (uuid.UUID(int=7), uuid.UUID),
        (b"\x00\xff", bytes),
        (Color.RED, Color),
        ({1, 2}, set[int]),
        ((1, "a"), tuple[int, str]),
        (Pair(1, "a"), Pair),
        (Point(1, NOON), Point),
        ([Point(1, NOON)], list[Point]),
        ({"a": Point(1, NOON)}, dict[str, Point]),
        (Struct(uuid.UUID(int=1), b"a"), Struct),
        ({"day": NOON.date()}, Typed),
        (Model(id=1, price=decimal.Decimal("2.50"), points=[Point(1, NOON)]), Model),
        ([Model(id=1, price=decimal.Decimal(2))], list[Model]),
        (Model(id=1, price=decimal.Decimal(2)), Model | None),
        (None, Model | None),
        ({1: "a"}, dict[int, str]),
        (2**63 - 1, int),
    ],
    ids=str,
)
def test_values_come_back_as_what_they_were(value: Any, annotation: Any) -> None:
    raw = codec.encode(value, "it")
    json.loads(raw)
    back = codec.decoder(annotation)(raw)
    assert back == value
    assert type(back) is type(value)


def test_half_a_surrogate_pair_survives() -> None:
    raw = codec.encode({"text": "a\ud800b"}, "it")
    assert codec.plain(raw) == {"text": "a\ud800b"} or "\\ud800" in raw.decode()


def test_what_a_function_returns_is_read_from_its_annotation() -> None:
    class Local(pydantic.BaseModel):
        n: int

    def plain() -> Any: ...
    def bare(): ...
    def typed() -> list[Point]: ...
    def local() -> Local: ...
    async def later() -> Point: ...

    class Service:
        def method(self) -> Point:
            return Point(1, NOON)

        def __call__(self) -> Point:
            return self.method()

    raw = codec.encode(Point(1, NOON), "it")
    text = {"x": 1, "at": "2026-01-31T12:00:00Z"}
    assert codec.returns(plain)(raw) == codec.returns(bare)(raw) == codec.returns(lambda: 1)(raw) == text
    assert codec.returns(typed)(b"[" + raw + b"]") == [Point(1, NOON)]
    for function in (later, functools.partial(later), Service().method, Service()):
        assert codec.returns(function)(raw) == Point(1, NOON)
    assert codec.returns(local)(b'{"n":1}').__class__.__name__ in {"Local", "dict"}


async def test_events_reach_the_handler_as_their_type() -> None:
    app = make_app()
    made = perdure.event("unit/model", Model)
    other = perdure.event("unit/point", Point)
    seen: list[Any] = []

    @app.function(made | other.when("event.data.x > 1"))
    async def both(event: Model | Point, step: perdure.Step) -> None:
        seen.append(event)
        seen.append((step.event.id, step.event.name, step.run_id, step.attempt, step.max_attempts))

    await call(app, "both", {"name": "unit/model", "data": {"id": "7", "price": "1.5"}}, max_attempts=2)
    await call(app, "both", {"name": "unit/point", "data": {"x": 1, "at": "2026-01-31T12:00:00Z"}}, attempt=1)
    await call(
        app, "both", {"name": "inngest/function.invoked", "data": {"id": 1, "price": 2, "_inngest": {}}}
    )
    assert seen[0] == Model(id=7, price=decimal.Decimal("1.5"))
    assert seen[1] == ("01EVENT", "unit/model", "01RUN", 0, 2)
    assert seen[2] == Point(1, NOON)
    assert seen[4] == Model(id=1, price=decimal.Decimal(2))


async def test_batches_reach_the_handler_as_a_list() -> None:
    app = make_app()

    @app.function(perdure.event("unit/point", Point), batch=perdure.Batch(size=3, timeout="1s"))
    async def many(events: list[Point], step: perdure.Step) -> list[int]:
        return [event.x for event in events]

    events = [{"name": "unit/point", "data": {"x": n, "at": "2026-01-31T12:00:00Z"}} for n in range(3)]
    assert (await call(app, "many", events[0], events=events)).body == [0, 1, 2]


async def test_handlers_take_what_they_need() -> None:
    app = make_app()

    @app.function(perdure.cron("0 9 * * 1-5", timezone="Europe/Paris", jitter=30))
    async def nightly(step: perdure.Step) -> str:
        return step.event.data["cron"]

    @app.function("unit/go")
    def plain(step: perdure.SyncStep) -> str:
        return step.run_id

    assert (await call(app, "nightly", {"data": {"cron": "x"}})).body == "x"
    assert (await call(app, "plain")).body == "01RUN"
    (trigger,) = app.functions["unit-nightly"].config("http://x")["triggers"]
    assert trigger == {"cron": "TZ=Europe/Paris 0 9 * * 1-5", "jitter": "30s"}


async def test_failure_handlers_are_functions_of_their_own() -> None:
    app = make_app()
    seen: list[perdure.FailureData] = []

    async def failed(event: perdure.FailureData, step: perdure.Step) -> None:
        seen.append(event)

    @app.function("unit/go", retries=2, on_failure=failed)
    async def job(step: perdure.Step) -> None: ...

    config = app.functions["unit-job-failure"].config("http://x/api")
    assert config["triggers"] == [
        {"event": "inngest/function.failed", "expression": "event.data.function_id == 'unit-job'"}
    ]
    data = {
        "function_id": "unit-job",
        "run_id": "R",
        "error": {"name": "ValueError", "message": "m", "stack": "s", "error": "e"},
        "event": {"name": "unit/go", "data": {"n": 1}},
        "events": [],
        "result": None,
        "_inngest": {"status": "Failed"},
    }
    await call(app, "job-failure", {"name": "inngest/function.failed", "data": data})
    assert seen[0].error["message"] == "m"
    assert seen[0].event["data"] == {"n": 1}


def test_every_option_is_registered_as_the_protocol_spells_it() -> None:
    app = make_app()
    cancelled = perdure.event("unit/cancelled")

    @app.function(
        "unit/go",
        name="A job",
        retries=3,
        concurrency=[perdure.Concurrency(limit=5, key="event.data.user"), perdure.Concurrency(limit=2)],
        throttle=perdure.Throttle(limit=10, period="1m", burst=2, key="event.data.user"),
        rate_limit=perdure.RateLimit(limit=10, period=datetime.timedelta(hours=1)),
        debounce=perdure.Debounce(period=10, timeout="1m"),
        priority="event.data.vip ? 120 : 0",
        cancel_on=[
            perdure.Cancel(cancelled, match="data.id", timeout="1h"),
            perdure.Cancel("other", when="async.data.x", timeout=NOON),
        ],
        timeouts=perdure.Timeouts(start="10s", finish="1h"),
        idempotency="event.data.cart",
        singleton=perdure.Singleton(mode="cancel", key="event.data.user"),
        checkpoint=perdure.Checkpoint(steps=10, max_runtime="30s"),
    )
    async def job(step: perdure.Step) -> None: ...

    assert job.config("http://x/api?token=1") == {
        "id": "unit-job",
        "name": "A job",
        "triggers": [{"event": "unit/go"}],
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {"type": "http", "url": "http://x/api?token=1&fnId=unit-job&stepId=step"},
                "retries": {"attempts": 3},
            }
        },
        "concurrency": [
            {"limit": 5, "key": "event.data.user", "scope": "fn"},
            {"limit": 2, "scope": "fn"},
        ],
        "throttle": {"limit": 10, "period": "1m", "burst": 2, "key": "event.data.user"},
        "rateLimit": {"limit": 10, "period": "1h"},
        "debounce": {"period": "10s", "timeout": "1m"},
        "priority": {"run": "event.data.vip ? 120 : 0"},
        "cancel": [
            {"event": "unit/cancelled", "if": "event.data.id == async.data.id", "timeout": "1h"},
            {"event": "other", "if": "async.data.x", "timeout": "2026-01-31T12:00:00.000Z"},
        ],
        "timeouts": {"start": "10s", "finish": "1h"},
        "idempotency": "event.data.cart",
        "singleton": {"mode": "cancel", "key": "event.data.user"},
        "checkpoint": {"batch_steps": 10, "batch_interval": "0s", "max_runtime": "30s"},
    }


def test_the_server_takes_every_option() -> None:
    """What is registered is read by the rules that the server itself goes by."""
    from perdure.protocol.registration import read_registration

    expressions: list[str] = []
    app = make_app()

    @app.function(
        perdure.event("unit/go").when("event.data.n > 1"),
        concurrency=[
            perdure.Concurrency(limit=5, runs=True),
            perdure.Concurrency(limit=2, key="event.data.u"),
        ],
        batch=perdure.Batch(size=5, timeout="2s", key="event.data.user", when="event.data.n > 2"),
    )
    async def job(events: list[Any], step: perdure.Step) -> None: ...

    body = {
        "url": "http://localhost:1/api/inngest",
        "sdk": "perdure-py:v1",
        "appName": "unit",
        "functions": [job.config("http://localhost:1/api/inngest")],
    }
    read = read_registration(
        json.dumps(body).encode(), check_expression=expressions.append, check_cron=expressions.append
    )
    assert "event.data.n > 1" in expressions
    (function,) = read.functions
    assert function.id == "unit-job"
    assert function.batch is not None
    assert function.batch.max_size == 5


def test_events_to_send() -> None:
    @dataclasses.dataclass
    class Sent:
        n: int
        at: datetime.datetime

    made = perdure.event("unit/sent", Sent)
    wire = json.loads(event_json(as_event(Sent(1, NOON))))
    assert wire == {"name": "unit/sent", "data": {"n": 1, "at": "2026-01-31T12:00:00Z"}}
    full = made(Sent(1, NOON), id="once", ts=NOON, user={"id": 1}, v="2")
    wire = json.loads(event_json(full))
    assert (wire["id"], wire["ts"], wire["user"], wire["v"]) == ("once", 1769860800000, {"id": 1}, "2")
    assert json.loads(event_json(as_event({"name": "a/b", "data": {"x": 1}}))) == {
        "name": "a/b",
        "data": {"x": 1},
    }
    perdure.event("unit/sent-too", Sent)
    with pytest.raises(perdure.UsageError, match="data of several events"):
        as_event(Sent(1, NOON))


def test_settings_have_two_names_each() -> None:
    assert read_settings(environ={}).api_url == "http://localhost:8288"
    assert read_settings(environ={}).dev is True
    key = "signkey-prod-" + "ab" * 32
    theirs = {
        "INNGEST_BASE_URL": "https://them/",
        "INNGEST_EVENT_KEY": "e",
        "INNGEST_SIGNING_KEY": key,
        "INNGEST_SIGNING_KEY_FALLBACK": "cd" * 32,
        "INNGEST_ENV": "branch",
    }
    read = read_settings(environ=theirs)
    assert (read.api_url, read.event_url, read.event_key, read.env) == (
        "https://them",
        "https://them",
        "e",
        "branch",
    )
    assert (read.signing_keys, read.dev) == ((key, "cd" * 32), False)
    ours = {
        name.replace("INNGEST_", "PERDURE_"): value for name, value in theirs.items() if "BASE" not in name
    }
    ours |= {"PERDURE_URL": "https://us", "PERDURE_EVENT_KEY": "ours"}
    read = read_settings(environ=theirs | ours)
    assert (read.api_url, read.event_key) == ("https://us", "ours")
    assert read_settings(url="http://arg", environ=ours).api_url == "http://arg"
    assert read_settings(environ=theirs | {"INNGEST_DEV": "1"}).dev is True
    assert read_settings(environ={"INNGEST_DEV": "http://dev:1"}).api_url == "http://dev:1"
    for wrong in ({"PERDURE_URL": "localhost:1"}, {"PERDURE_SIGNING_KEY": "xyz"}, {"PERDURE_DEV": "0"}):
        with pytest.raises(ConfigError):
            read_settings(environ=wrong)


async def test_asks_are_told_as_the_protocol_spells_them() -> None:
    app = make_app()

    @app.function("unit/go")
    async def callee(event: dict[str, Any], step: perdure.Step) -> Point:
        return Point(1, NOON)

    asked: dict[str, Any] = {}

    @app.function("unit/go")
    async def asking(event: dict[str, Any], step: perdure.Step) -> Any:
        match event["what"]:
            case "wait":
                await step.wait_for_event("s", "unit/x", timeout="1h", when="async.data.n > 1", lookback="5m")
            case "signal":
                await step.wait_for_signal("s", "go", timeout=NOON, on_conflict="replace")
            case "invoke":
                return (await step.invoke("s", callee, {"n": 1}, timeout=60)).x
            case "fetch":
                await step.fetch("s", "http://x", method="post", json={"a": 1})
            case "infer":
                await step.ai.infer(
                    "s", url="http://m", body={"model": "m"}, auth_key="k", format="anthropic"
                )
            case "until":
                await step.sleep_until("s", NOON)
            case "wrap":
                return await step.ai.wrap("s", abs, -1)
        return None

    for what in ("wait", "signal", "invoke", "fetch", "infer", "until", "wrap"):
        told = await call(app, "asking", {"data": {"what": what}})
        asked[what] = {key: told.body[0].get(key) for key in ("op", "name", "opts")}
    assert asked == {
        "wait": {
            "op": "WaitForEvent",
            "name": "unit/x",
            "opts": {"timeout": "1h", "if": "async.data.n > 1", "lookback": "5m"},
        },
        "signal": {
            "op": "WaitForSignal",
            "name": "go",
            "opts": {"signal": "go", "timeout": "2026-01-31T12:00:00.000Z", "conflict": "replace"},
        },
        "invoke": {
            "op": "InvokeFunction",
            "name": "s",
            "opts": {"function_id": "unit-callee", "payload": {"data": {"n": 1}}, "timeout": "1m"},
        },
        "fetch": {
            "op": "Gateway",
            "name": "s",
            "opts": {
                "url": "http://x",
                "method": "POST",
                "headers": {"content-type": "application/json"},
                "body": '{"a":1}',
            },
        },
        "infer": {
            "op": "AIGateway",
            "name": "s",
            "opts": {
                "type": "step.ai.infer",
                "url": "http://m",
                "format": "anthropic",
                "auth_key": "k",
                "headers": {},
                "body": {"model": "m"},
            },
        },
        "until": {"op": "Sleep", "name": "2026-01-31T12:00:00.000Z", "opts": {}},
        "wrap": {"op": "StepRun", "name": "s", "opts": {"type": "step.ai.wrap", "input": [-1]}},
    }
    memo = {h("s"): {"data": {"x": 5, "at": "2026-01-31T12:00:00Z"}}}
    assert (await call(app, "asking", {"data": {"what": "invoke"}}, memo)).body == 5
    late = {"error": {"name": "InngestInvokeTimeoutError", "message": "Timed out"}}
    told = await call(app, "asking", {"data": {"what": "invoke"}}, {h("s"): late})
    assert (told.status, told.headers["x-inngest-no-retry"]) == (500, "true")

"""Ordinary uses of the SDK, which must pass `mypy --strict` as they stand."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict, assert_type

import pydantic

import perdure
from perdure.middleware import Encryption, Middleware, OpenTelemetry, Payload, StepInfo


class Uploaded(pydantic.BaseModel):
    call_id: int


@dataclass
class Summary:
    text: str
    at: datetime.datetime


class Refund(TypedDict):
    order: int


app = perdure.App("right")
uploaded = perdure.event("call/uploaded", Uploaded)
refund = perdure.event("order/refund", Refund)
anything = perdure.event("any/thing")


async def set_status(call_id: int, status: str, *, quiet: bool = False) -> None: ...
def ask_model(call_id: int) -> Summary:
    return Summary(str(call_id), datetime.datetime.now(datetime.UTC))


async def told(event: perdure.FailureData, step: perdure.Step) -> None:
    assert_type(event.run_id, str)


@app.function(uploaded, retries=3, concurrency=5, on_failure=told)
async def parse(event: Uploaded, step: perdure.Step) -> Summary:
    await step.run("set", set_status, event.call_id, "parsing", quiet=True)
    summary = await step.run("ask", ask_model, event.call_id)
    assert_type(summary, Summary)
    both = await asyncio.gather(step.run("a", ask_model, 1), step.run("b", partial(ask_model, 2)))
    assert_type(both[1], Summary)
    answer = await step.wait_for_event("answer", refund, timeout="1h", match="data.order")
    assert_type(answer, perdure.Event[Refund] | None)
    loose = await step.wait_for_event("loose", "some/event", timeout=datetime.timedelta(days=1))
    if loose is not None:
        loose.data["x"]
    again = await step.invoke("again", parse, Uploaded(call_id=1))
    assert_type(again, Summary)
    wrapped = await step.ai.wrap("wrap", ask_model, 1)
    assert_type(wrapped, Summary)
    ids = await step.send_event("send", [uploaded(Uploaded(call_id=2)), refund({"order": 1})])
    assert_type(ids, list[str])
    await step.sleep("nap", "1d12h")
    return summary


@app.function(uploaded | anything.when("event.data.x > 1") | refund, id="either")
async def either(event: Uploaded | dict[str, Any] | Refund, step: perdure.Step) -> None: ...


@app.function(refund, singleton=perdure.Singleton(key="event.data.order"))
def plain(event: Refund, step: perdure.SyncStep) -> int:
    got = step.run("ask", ask_model, event["order"])
    assert_type(got, Summary)
    results = step.parallel(lambda: step.run("a", ask_model, 1), lambda: step.run("b", ask_model, 2))
    assert_type(results, list[Summary])
    step.run("set", set_status, 1, "done")
    assert_type(step.invoke("parse", parse, Uploaded(call_id=1)), Summary)
    return 1


@app.function(uploaded, batch=perdure.Batch(size=10, timeout="5s"))
async def many(events: list[Uploaded], step: perdure.Step) -> int:
    return len(events)


@app.function(perdure.cron("0 9 * * 1-5"))
async def daily(step: perdure.Step) -> None: ...


@app.function("some/name", id="named")
async def named(event: dict[str, Any], step: perdure.Step) -> int:
    return await step.invoke("again", named, {"n": 1})


@app.function(id="only-invoked", timeouts=perdure.Timeouts(finish="1h"))
async def only_invoked(event: dict[str, Any], step: perdure.Step) -> None: ...


async def main() -> None:
    assert_type(await app.send(Uploaded(call_id=1), refund({"order": 2})), list[str])
    assert_type(app.send_sync(uploaded(Uploaded(call_id=1), id="once")), list[str])


class Timed(Middleware):
    """Middleware may be typed more narrowly than what it overrides."""

    @contextmanager
    def wrap_step(self, step: StepInfo) -> Iterator[None]:
        assert_type(step.call.attempt, int)
        yield

    def transform_output(self, value: Any, payload: Payload) -> dict[str, Any]:
        return {"kind": payload.kind, "value": value}

    def before_send(self, events: list[perdure.Event[Any]]) -> list[perdure.Event[Any]]:
        return [event for event in events if event.name != "noise"]


wrapped = perdure.App("wrapped", middleware=[Timed(), Encryption("key"), OpenTelemetry()], logs=False)
log = perdure.logger(__name__)


@wrapped.function("told", middleware=[Timed()])
async def tells(event: dict[str, Any], step: perdure.Step) -> None:
    assert_type(step.log, logging.Logger)
    log.info("begins", extra={"n": 1})
    await step.run("work", lambda: step.progress(0.5, "half"))
    await step.run("beat", step.heartbeat)

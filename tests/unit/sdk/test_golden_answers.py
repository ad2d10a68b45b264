"""The calls that the reference server made to the official Python SDK, made to ours: it must answer alike.

Same functions, same bodies; op, id, payload name and data must be equal. What differs by design is left out:
our parallel steps carry no mode, an exhausted or final error is a failed step, and a sleep's moment is our own.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request

GOLDEN = Path(__file__).parents[2] / "sdk" / "golden"
Data = dict[str, Any]


def make() -> perdure.App:
    """The functions that were called, written with our SDK."""
    app = perdure.App("golden-py", url="http://server.invalid", checkpoint=None)

    def give(value: Any) -> Any:
        return value

    def fail(error: Exception) -> Any:
        raise error

    @app.function("py/seq3", id="seq3")
    async def seq3(event: Data, step: perdure.Step) -> Any:
        a = await step.run("a", give, {"v": 1})
        b = await step.run("b", lambda: a["v"] + 1)
        return {"a": a, "b": b, "c": await step.run("c", give, None)}

    @app.function("py/caught", id="caught")
    async def caught(event: Data, step: perdure.Step) -> Any:
        try:
            await step.run("bad", fail, Exception("always"))
        except perdure.StepError as error:
            got = {"n": error.name, "m": error.message, "t": type(error).__name__}
        return {"got": got, "r": await step.run("recover", give, "rec")}

    @app.function("py/stepdies", id="stepdies")
    async def stepdies(event: Data, step: perdure.Step) -> Any:
        await step.run("bad", fail, Exception("uncaught step"))

    @app.function("py/fnerr", id="fnerr")
    async def fnerr(event: Data, step: perdure.Step) -> Any:
        raise ValueError(f"fn failed {step.attempt}")

    @app.function("py/nonret", id="nonret")
    async def nonret(event: Data, step: perdure.Step) -> Any:
        raise perdure.NonRetriableError("never again")

    @app.function("py/sleep1", id="sleep1")
    async def sleep1(event: Data, step: perdure.Step) -> Any:
        await step.sleep("nap", "1s")
        return "woke"

    @app.function("py/waitif", id="waitif")
    async def waitif(event: Data, step: perdure.Step) -> Any:
        got = await step.wait_for_event("w", "golden-py/answer", match="data.id", timeout="1m")
        assert got is not None
        return {"data": got.data, "id": got.id, "name": got.name, "ts": got.ts}

    @app.function("py/waittimeout", id="waittimeout")
    async def waittimeout(event: Data, step: perdure.Step) -> Any:
        return {"r": await step.wait_for_event("w", "golden-py/never", timeout="2s")}

    @app.function("py/callee", id="callee")
    async def callee(event: Data, step: perdure.Step) -> Any:
        doubled = await step.run("in", lambda: event["x"] * 2)
        return {"doubled": doubled, "ev": step.event.name, "keys": sorted(event)}

    @app.function("py/invokeok", id="invokeok")
    async def invokeok(event: Data, step: perdure.Step) -> Any:
        return await step.invoke("inv", callee, {"x": 21}, timeout="30s")

    @app.function("py/invokeunknown", id="invokeunknown")
    async def invokeunknown(event: Data, step: perdure.Step) -> Any:
        try:
            await step.invoke("inv", "ghost-nope", {})
        except perdure.InvokeError as error:
            return {"n": error.name, "m": error.message}

    @app.function("py/par3", id="par3")
    async def par3(event: Data, step: perdure.Step) -> Any:
        got = await asyncio.gather(*(step.run(name, give, name) for name in ("p1", "p2", "p3")))
        return {"r": got, "tail": await step.run("tail", give, "t")}

    @app.function("py/loop", id="loop")
    async def loop(event: Data, step: perdure.Step) -> Any:
        return [await step.run("same", give, number) for number in range(3)]

    return app


KNOWN = set(make().functions)


def recorded() -> list[Any]:
    found = []
    for path in sorted(GOLDEN.glob("*.json")):
        for run in json.loads(path.read_text()):
            if run["sdk"] == "py":
                calls = [call for call in run["calls"] if call["slug"] in KNOWN]
                found += [
                    pytest.param(call, id=f"{path.stem}-{call['slug']}-{number}")
                    for number, call in enumerate(calls)
                ]
    return found


def test_enough_is_recorded() -> None:
    assert len(recorded()) >= 25


@pytest.mark.parametrize("call", recorded())
async def test_answer_is_that_of_the_official_sdk(call: dict[str, Any]) -> None:
    url = f"http://app.test/api/inngest?fnId={call['slug']}&stepId={call['target']}"
    body = json.dumps(call["body"]).encode()
    response = await Endpoint(make(), "test").handle(Request("POST", url, {}, body))
    expected = call["answer"]
    assert response.status == expected["status"], response.body
    told = json.loads(response.body)
    if response.status == 206:
        assert [essence(op) for op in told] == [essence(op) for op in expected["body"]]
    elif response.status == 500:
        assert (told["name"], told["message"]) == (expected["body"]["name"], expected["body"]["message"])
        assert told["stack"].startswith("Traceback")
    elif call["slug"] != "golden-py-par3":
        assert told == expected["body"]
    assert response.headers["x-inngest-req-version"] == expected["headers"]["x-inngest-req-version"]


def essence(op: dict[str, Any]) -> dict[str, Any]:
    """What a server acts on."""
    kept = {key: op.get(key) for key in ("op", "id", "displayName")}
    kept["data"] = op.get("data")
    if op["op"] != "Sleep":
        kept["name"] = op["name"]
    kept["opts"] = without_none(op.get("opts") or {})
    if op.get("error"):
        kept["error"] = (op["error"]["name"], op["error"]["message"])
    kept["index"] = op["userland"].get("index") or 0
    return kept


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(part) for key, part in value.items() if part is not None}
    return value

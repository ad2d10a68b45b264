"""Recorded calls to an app that posts its steps while it runs: ours posts the same, and ends with the same answer.

Left out is what differs everywhere by design: see `test_golden_answers`. JavaScript also ends a run whose steps are
all posted with a 206 of one op, where ours answers 200 with the output, as without checkpoints: to a server both
are the same.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import SDK, Request
from perdure.sdk.http import Answer
from tests.unit.sdk.golden_functions import Data, Error, Recorded, fail, give
from tests.unit.sdk.test_golden_answers import essence

GOLDEN = Path(__file__).parent / "golden"
CALLS = json.loads((GOLDEN / "checkpoints.json").read_text())
SYNCS = {item["sdk"]: item for item in json.loads((GOLDEN / "syncs.json").read_text())}
JS = Recorded("js")
IDS = ("run_id", "fn_id", "qi_id", "request_id", "generation_id")


def make() -> perdure.App:
    """The functions that were called; each step is posted, but for one function three together."""
    app = perdure.App("golden-ck", url="http://server.invalid")

    @app.function("x/seq3", id="seq3")
    async def seq3(event: Data, step: perdure.Step) -> Any:
        a = await step.run("a", give, {"v": 1})
        b = await step.run("b", lambda: a["v"] + 1)
        return {"a": a, "b": b, "c": await step.run("c", give, None)}

    @app.function("x/ckbuf", id="ckbuf", checkpoint=perdure.Checkpoint(steps=3))
    async def ckbuf(event: Data, step: perdure.Step) -> Any:
        for number in range(5):
            await step.run(f"s{number}", give, number)
        return 5

    @app.function("x/cksleep", id="cksleep")
    async def cksleep(event: Data, step: perdure.Step) -> Any:
        a = await step.run("a", give, 1)
        await step.sleep("nap", "1s")
        return a + await step.run("b", give, 2)

    @app.function("x/ckpar", id="ckpar")
    async def ckpar(event: Data, step: perdure.Step) -> Any:
        await step.run("a", give, 1)
        await asyncio.gather(step.run("p1", give, 1), step.run("p2", give, 2))
        await step.run("z", give, 9)
        return "end"

    @app.function("x/flaky", id="flaky")
    async def flaky(event: Data, step: perdure.Step) -> Any:
        def work() -> str:
            if step.attempt < 2:
                raise TypeError(f"boom {step.attempt}")
            return f"ok@{step.attempt}"

        result = await step.run("flaky", work)
        await step.run("after", give, "done")
        return result

    @app.function("x/stepdies", id="stepdies")
    async def stepdies(event: Data, step: perdure.Step) -> Any:
        await step.run("bad", fail, Error("uncaught step"))

    return app


def named(call: dict[str, Any], number: int) -> Any:
    return pytest.param(call, id=f"{call['scenario']}-{number}-{len(call['posts'])} posts")


@pytest.mark.parametrize("call", [named(call, number) for number, call in enumerate(CALLS)])
async def test_posts_and_answer_are_those_of_the_official_sdk(call: dict[str, Any]) -> None:
    app = make()
    posts: list[dict[str, Any]] = []

    async def post(method: str, path: str, body: bytes = b"", headers: Any = None, tries: int = 1) -> Answer:
        posts.append({"path": path, "body": json.loads(body)})
        return Answer(200, {}, b"")

    app.api.call = post  # type: ignore[method-assign]
    url = f"http://app.test/api/inngest?fnId={call['slug']}&stepId={call['target']}"
    body = json.dumps(call["body"]).encode()
    response = await Endpoint(app, "test").handle(Request("POST", url, call["headers"], body))
    assert [tell(one) for one in posts] == [tell(one) for one in call["posts"]]
    expected, told = call["answer"], json.loads(response.body)
    if expected["status"] == 400:
        assert (response.status, response.headers["x-inngest-no-retry"]) == (500, "true")
        assert (told["name"], told["message"]) == (expected["body"]["name"], expected["body"]["message"])
    else:
        assert ending(response.status, told) == ending(expected["status"], expected["body"])


def tell(post: dict[str, Any]) -> dict[str, Any]:
    """What a server acts on, and the times, if they are some."""
    body = post["body"]
    assert all(isinstance(body[key], int) and body[key] > 10**12 for key in ("request_started_at", "ts"))
    return {
        "path": post["path"],
        **{key: body[key] for key in IDS},
        "steps": [essence(op, JS) for op in body["steps"]],
    }


def ending(status: int, body: Any) -> Any:
    if status == 206 and len(body) == 1 and body[0]["op"] == "RunComplete":
        return "end", body[0]["data"]
    if status == 206:
        return [op["data"] if op["op"] == "RunComplete" else essence(op, JS) for op in body]
    return "end", body


def own(sdk: str) -> perdure.App:
    """The app whose first two functions were recorded."""
    app = perdure.App(f"golden-{sdk}", url="http://server.invalid")
    for name in ("zero", "undef"):

        @app.function(f"golden-{sdk}/{name}", id=name, checkpoint=None)
        async def function(event: Data, step: perdure.Step) -> None: ...

    return app


@pytest.mark.parametrize("sdk", SYNCS)
async def test_a_sync_goes_as_recorded(sdk: str) -> None:
    recorded, app = SYNCS[sdk], own(sdk)
    sent: list[tuple[str, str, dict[str, Any], dict[str, str]]] = []

    async def call(method: str, path: str, body: bytes = b"", headers: Any = None, tries: int = 1) -> Answer:
        sent.append((method, path, json.loads(body), dict(headers or {})))
        register = recorded["register"]
        return Answer(register["status"], {}, json.dumps(register["answer"]).encode())

    app.api.call = call  # type: ignore[method-assign]
    put = recorded["put"]
    framework = put["answer_headers"]["x-inngest-framework"]
    request = Request("PUT", "http://app/api/inngest", put["headers"], json.dumps(put["body"]).encode())
    response = await Endpoint(app, framework).handle(request)
    [(method, path, body, headers)] = sent
    assert (method, path) == ("POST", "/fn/register")
    expected = recorded["register"]["body"]
    assert loosely(body, without=("sdk", "headers", "capabilities")) == loosely(
        expected, without=("sdk", "capabilities")
    )
    assert body["sdk"] == SDK
    assert "trust_probe" in body["capabilities"]
    for name in ("x-inngest-framework", "x-inngest-expected-server-kind"):
        assert headers[name] == recorded["register"]["headers"][name]
    assert response.status == put["status"]
    if sdk == "py":
        assert json.loads(response.body) == put["answer"]
    for name in ("x-inngest-sync-kind", "x-inngest-framework", "x-inngest-req-version"):
        assert response.headers[name] == put["answer_headers"][name]


def loosely(body: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
    """A registration by its words alone: servers read keys in any case, with and without `_`."""
    return {key.lower().replace("_", ""): value for key, value in body.items() if key not in without}


@pytest.mark.parametrize("sdk", SYNCS)
async def test_introspection_is_as_recorded(sdk: str) -> None:
    response = await Endpoint(own(sdk), "test").handle(Request("GET", "http://app/api/inngest", {}, b""))
    told = json.loads(response.body)
    expected = SYNCS[sdk]["introspection"] | {"function_count": 2}
    assert {key: told[key] for key in expected} == expected

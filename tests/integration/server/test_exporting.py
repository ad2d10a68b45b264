"""The export of a run: all that is known of it in one document, and no secret of it."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, BareApp, Call, op, ops, ran, sha1
from tests.sdk.driver import Server, until

GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
SECRET = "sk-very-secret"


def exported(http: httpx.Client, run_id: str) -> tuple[dict[str, Any], str]:
    answer = http.get(f"/v1/runs/{run_id}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="run-{run_id}.json"'
    document: dict[str, Any] = answer.json()
    return document, answer.text


def test_a_run_that_has_ended(http: httpx.Client, scripted: Make) -> None:
    failure = {"name": "Declined", "message": "no", "stack": "at charge"}
    fn = scripted(
        [
            ops(ran("a", {"n": 1.0})),
            ops(op("StepFailed", "b", error=failure)),
            Answer(200, {"done": True}),
        ]
    )
    run = fn.run(key="k")
    document, text = exported(http, run["run_id"])
    assert (document["format"], document["version"]) == ("perdure.run", 1)
    assert document["server"]["name"] == "perdure"
    assert document["function"]["slug"] == document["function"]["config"]["id"] == fn.slug
    assert document["run"]["id"] == run["run_id"]
    assert (document["run"]["status"], document["run"]["output"]) == ("COMPLETED", {"done": True})
    assert document["run"]["ended_at"] >= document["run"]["queued_at"]
    assert [(event["name"], event["data"]) for event in document["events"]] == [
        (f"bare/{fn.slug}", {"key": "k"})
    ]
    first, second = document["steps"]
    assert (first["id"], first["name"], first["op"]) == (sha1("a"), "a", "StepRun")
    assert first["memo"] == {"data": {"n": 1}}
    assert '{"data":{"n": 1.0}}' in text, "as the bytes that came"
    assert (second["op"], second["memo"]["error"]["name"]) == ("StepFailed", "Declined")
    assert document["pending"] == []
    assert document["history_complete"] is True
    history = http.get(f"/v1/runs/{run['run_id']}/history").json()["data"]
    assert document["history"] == history
    assert http.get(f"/v1/runs/{run['run_id'].lower()}/export").status_code == 400


def test_a_run_under_way(http: httpx.Client, server: Server, scripted: Make) -> None:
    opts = {"event": "order/paid", "timeout": "1h", "if": "async.data.id == event.data.id"}
    fn = scripted([ops(ran("a", 1)), ops(op("WaitForEvent", "w", name="order/paid", opts=opts))])
    run = server.run_of(fn.trigger(id="o1"), fn.slug)["run_id"]
    until("the wait", lambda: exported(http, run)[0]["pending"][0]["kind"] == "wait")
    document, _ = exported(http, run)
    (pending,) = document["pending"]
    assert (pending["step"], pending["name"], pending["wait"]) == (sha1("w"), "w", "event")
    assert (pending["event"], pending["expression"]) == ("order/paid", opts["if"])
    assert (document["run"]["status"], document["run"]["ended_at"]) == ("RUNNING", None)
    server.cancel(run)


def test_no_secret_leaves(http: httpx.Client, server: Server, bare: BareApp, scripted: Make) -> None:
    """Neither while the request is under way nor afterwards, and not in the app's URL either."""
    seen: list[str] = []

    def model(call: Call) -> Answer:
        seen.append(exported(http, run_of[0])[1])
        return Answer(200, {"answer": 42}, headers={"Set-Cookie": f"session={SECRET}", "X-Kept": "yes"})

    asked = scripted(model)
    run_of: list[str] = []
    url = bare.url + f"?fnId={asked.slug}&stepId=step"
    infer = {
        "type": "step.ai.infer",
        "url": url,
        "auth_key": SECRET,
        "format": "openai-chat",
        "headers": {"Authorization": f"Bearer {SECRET}"},
        "body": {"q": 1},
    }
    fetch = {"url": url, "method": "POST", "headers": {"Authorization": f"Bearer {SECRET}"}, "body": "{}"}

    def script(call: Call) -> Answer:
        run_of[:] = [call.ctx["run_id"]]
        if not call.steps:
            return ops(op("AIGateway", "ai", opts=infer))
        if len(call.steps) == 1:
            return ops(op("Gateway", "get", opts=fetch))
        return Answer(200, "end")

    fn = scripted(script)
    run = fn.run()
    document, text = exported(http, run["run_id"])
    assert len(seen) == 2, "both requests were made"
    assert all(SECRET not in one for one in [*seen, text])
    assert all(json.loads(one)["pending"][0]["kind"] == "request" for one in seen)
    headers = {name.lower(): value for name, value in document["steps"][1]["memo"]["data"]["headers"].items()}
    assert (headers["set-cookie"], headers["x-kept"]) == ("[removed]", "yes")
    urls = [step["runtime"]["url"] for step in document["function"]["config"]["steps"].values()]
    assert len(urls) == 1
    assert "?" not in urls[0], "hosts put tokens into queries"


def test_unknown_runs(http: httpx.Client) -> None:
    answer = http.get(f"/v1/runs/{GHOST}/export")
    assert (answer.status_code, answer.json()["error"]) == (404, f"There is no run {GHOST}.")
    assert http.get("/v1/runs/bad/export").status_code == 400


def test_no_secret_leaves_with_the_error_of_a_request(
    http: httpx.Client, server: Server, scripted: Make
) -> None:
    """Some providers take their key in the query of the URL; nothing listens there."""
    infer = {
        "type": "step.ai.infer",
        "url": "http://127.0.0.1:9/v1/models/x:generateContent",
        "auth_key": SECRET,
        "format": "gemini",
        "headers": {},
        "body": {"q": 1},
    }
    fn = scripted([ops(op("AIGateway", "ai", opts=infer))], retries=1)
    run = server.run_of(fn.trigger(), fn.slug)["run_id"]
    until("a try", lambda: any(one["kind"] == "request" for one in exported(http, run)[0]["history"]))
    document, text = exported(http, run)
    assert "Error making AI request" in text
    assert SECRET not in text
    assert [one["kind"] for one in document["pending"]] == ["request"]
    server.cancel(run)

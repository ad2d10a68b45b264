"""The Go SDK spells some things differently; it cannot be installed here, so a bare app plays its part."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.sdk.bare_app import Answer, Call, Scripted, by_target, op, ops, planned, ran, sha1
from tests.sdk.driver import Server, free_port, until

Make = Callable[..., Scripted]
GO = {"fields": {"v": "1", "sdk": "go:v0.13.0", "framework": "net/http"}}


def go_op(code: str, step: str, **more: Any) -> dict[str, Any]:
    """In Go `name` is the step's name, and what matters is in `opts`."""
    return {"op": code, "id": sha1(step), "name": step, "userland": {"id": step}, **more}


def streamed(status: int, body: Any, **more: Any) -> Answer:
    """Go's 201: keep-alive spaces, then the body as a value, `noRetry` and `retryAt` beside it."""
    return Answer(201, b"  " + json.dumps({"status": status, "body": body, **more}).encode())


def test_sleep_takes_its_duration_from_the_options(scripted: Make) -> None:
    fn = scripted([ops(go_op("Sleep", "1h nap", opts={"duration": "1s"})), Answer(200, "woke")], **GO)
    assert fn.run()["output"] == "woke"
    assert 0.9 < fn.calls[1].at - fn.calls[0].at < 2.5


def test_wait_takes_the_events_name_from_the_options(scripted: Make) -> None:
    wait = go_op(
        "WaitForEvent",
        "for the answer",
        opts={"event": "go/answer", "timeout": "10s", "if": "async.data.n == 2"},
    )
    fn = scripted([ops(wait), Answer(200, "end")], **GO)
    event = fn.trigger()
    until("the call", lambda: len(fn.calls) == 1)
    time.sleep(0.25)
    fn.server.send({"name": "for the answer", "data": {"n": 2}}, {"name": "go/answer", "data": {"n": 1}})
    second = fn.server.send({"name": "go/answer", "data": {"n": 2}})[0]
    assert fn.ended(event)["output"] == "end"
    memo = fn.calls[1].steps[sha1("for the answer")]
    assert (memo["id"], memo["name"], memo["data"]) == (second, "go/answer", {"n": 2})


def test_streamed_body_is_a_value(scripted: Make) -> None:
    fn = scripted(
        [streamed(206, [go_op("StepRun", "a", data={"x": 1})]), streamed(200, {"body": "text"})], **GO
    )
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", {"body": "text"})
    assert fn.calls[1].steps == {sha1("a"): {"data": {"x": 1}}}


def test_streamed_no_retry_beside_the_body(scripted: Make) -> None:
    fn = scripted([streamed(400, {"name": "E", "message": "final"}, noRetry=True)], retries=3, **GO)
    run = fn.run()
    assert (run["status"], run["output"]["message"]) == ("Failed", "final")
    assert len(fn.calls) == 1


def test_streamed_retry_at_beside_the_body(scripted: Make) -> None:
    def script(call: Call) -> Answer:
        if call.ctx["attempt"]:
            return Answer(200, "done")
        when = time.time() + 2.2
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when)) + f".{int(when % 1 * 1e9):09d}Z"
        return streamed(500, {"message": "later"}, retryAt=text)

    fn = scripted(script, retries=1, **GO)
    assert fn.run()["output"] == "done"
    assert 2.1 < fn.calls[1].at - fn.calls[0].at < 3.4


def test_error_bodies_of_older_releases(scripted: Make) -> None:
    fn = scripted([Answer(500, {"error": "only this"})], **GO)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Failed", {"error": "only this"})


def test_state_and_batch_can_be_read_while_a_call_runs(scripted: Make, server: Server) -> None:
    answers: list[tuple[int, Any]] = []

    def script(call: Call) -> Answer:
        done = len(call.steps)
        if done < 3:
            return ops(ran(f"s{done}", done))
        for part in ("batch", "actions"):
            answer = server.http.get(f"/v0/runs/{call.ctx['run_id']}/{part}")
            answers.append((answer.status_code, answer.json()))
        return Answer(200, "end")

    fn = scripted(script, **GO)
    run = fn.run(key="go")
    assert run["output"] == "end"
    (batch_status, batch), (actions_status, actions) = answers
    assert (batch_status, actions_status) == (200, 200)
    assert [event["data"] for event in batch] == [{"key": "go"}]
    assert actions == {sha1(f"s{n}"): {"data": n} for n in range(3)}
    gone = server.http.get(f"/v0/runs/{run['run_id']}/actions")
    assert gone.status_code == 410
    assert f"runtime state is no longer available for runID: {run['run_id']}" in gone.text
    assert server.http.get("/v0/runs/no-ulid/actions").status_code == 400


def all_step_kinds(mode: str | None) -> Callable[[Call], Answer]:
    """Five kinds in parallel, then a sleep; as the Go SDK would discover them, whatever is done yet."""
    dead = f"http://127.0.0.1:{free_port()}/"
    mode_opts = {"parallelMode": mode} if mode else {}
    kinds = {
        "fetch": op("Gateway", "fetch", opts={"url": dead, "method": "GET", **mode_opts}),
        "invoke": op(
            "InvokeFunction", "invoke", opts={"function_id": "nobody", "payload": {"data": {}}, **mode_opts}
        ),
        "run": planned("run", opts=mode_opts),
        "sleep": op("Sleep", "sleep", opts={"duration": "1300ms", **mode_opts}),
        "wait": op("WaitForEvent", "wait", opts={"event": "go/never", "timeout": "2s", **mode_opts}),
    }

    def script(call: Call) -> Answer:
        if call.target == sha1("run"):
            return ops(ran("run", "ran"), delay_s=0.7)
        left = [found for step, found in kinds.items() if sha1(step) not in call.steps]
        if left:
            return ops(*left)
        if sha1("last") not in call.steps:
            return ops(op("Sleep", "last", opts={"duration": "1s"}))
        return Answer(200, "all")

    return script


@pytest.mark.parametrize(
    ("mode", "calls"), [(None, 4), ("wait", 4), ("race", 8)], ids=["none", "wait", "race"]
)
def test_all_step_kinds_side_by_side(scripted: Make, mode: str | None, calls: int) -> None:
    """The failing fetch and invoke add no calls: waiting takes 4, a race 8 (each completion is discovered)."""
    fn = scripted(all_step_kinds(mode), **GO)
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "all")
    time.sleep(0.3)
    targets = [call.target for call in fn.calls]
    assert len(targets) == calls
    assert targets.count(sha1("run")) == 1
    last = fn.calls[-1].steps
    assert last[sha1("fetch")]["error"]["name"] == "GatewayError"
    assert last[sha1("fetch")]["error"]["message"] == "Error making gateway request: Unable to reach SDK URL"
    assert last[sha1("invoke")] == {
        "error": {"name": "Error", "message": "could not find function with ID: nobody"}
    }
    assert (last[sha1("run")], last[sha1("sleep")], last[sha1("wait")]) == ({"data": "ran"}, None, None)


def test_repeated_ids_are_numbered_as_in_the_other_sdks(scripted: Make) -> None:
    ids = [hashlib.sha1(text.encode()).hexdigest() for text in ("again", "again:1", "again:2")]

    def script(call: Call) -> Answer:
        done = len(call.steps)
        return ops({**ran("again", done), "id": ids[done]}) if done < 3 else Answer(200, "end")

    fn = scripted(script, **GO)
    assert fn.run()["output"] == "end"
    assert fn.calls[3].ctx["stack"]["stack"] == ids


def test_parallel_steps_by_target(scripted: Make) -> None:
    mode = {"opts": {"parallelMode": "RACE"}}
    fn = scripted(
        by_target(
            {
                "step": [
                    ops(planned("a", **mode), planned("b", **mode)),
                    ops(planned("b", **mode)),
                    Answer(200, "end"),
                ],
                "a": [ops(ran("a", 1))],
                "b": [ops(ran("b", 2), delay_s=0.4)],
            }
        ),
        **GO,
    )
    assert fn.run()["output"] == "end"
    assert len(fn.calls) == 5

"""Reruns from a step over REST: `POST /v2/runs/{runId}/rerun`, and what is told of them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, op, ops, ran, sha1
from tests.sdk.driver import Server, until

GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def four_steps(call: Call) -> Answer:
    """Steps a to d, each with what it was given; the run gives them all."""
    steps = call.body["steps"]
    for name in "abcd":
        known = steps.get(sha1(name), {})
        if "data" not in known:
            return ops(ran(name, known.get("input", [name])))
    return Answer(200, [steps[sha1(name)]["data"] for name in "abcd"])


def rerun(http: httpx.Client, run: str, body: Any = None) -> httpx.Response:
    return http.post(f"/v2/runs/{run}/rerun", json=body)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    """The message of an error, whose body must have the shape of v2."""
    assert (answer.status_code, set(answer.json())) == (status, {"errors"}), answer.text
    (error,) = answer.json()["errors"]
    assert error["code"] == code
    return str(error["message"])


def started(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (set(body), set(body["data"]), set(body["metadata"])) == (
        {"data", "metadata"},
        {"runId"},
        {"fetchedAt"},
    )
    return str(body["data"]["runId"])


def calls_of(fn: Scripted, run: str) -> list[Call]:
    return [call for call in fn.calls if call.ctx["run_id"] == run]


@pytest.mark.parametrize("given", ['["new", 2]', ["new", 2]], ids=["text", "list"])
@pytest.mark.parametrize("named", ["b", sha1("b")], ids=["name", "id"])
def test_from_a_step_with_other_input(
    http: httpx.Client, server: Server, scripted: Make, named: str, given: Any
) -> None:
    fn = scripted(four_steps)
    old = fn.run()["run_id"]
    new = started(rerun(http, old, {"fromStep": {"stepId": named, "input": given}}))
    run = server.ended(new)
    assert run["output"] == [["a"], ["new", 2], ["c"], ["d"]]
    assert run["original_run_id"] == old
    assert run["from_step"] == {"id": sha1("b"), "name": "b", "input": ["new", 2]}
    first, *rest = calls_of(fn, new)
    assert first.body["steps"] == {sha1("a"): {"data": ["a"]}, sha1("b"): {"input": ["new", 2]}}
    assert first.ctx["stack"] == {"stack": [sha1("a")], "current": 1}
    assert all("input" not in step for call in rest for step in call.body["steps"].values())
    history = http.get(f"/v1/runs/{new}/history").json()["data"]
    copied = [entry["details"] for entry in history if entry["kind"] == "copied"]
    assert copied == [{"run": old, "from": sha1("b"), "name": "b", "steps": [sha1("a")], "edited": True}]


def test_without_a_step_all_of_it_runs_again(http: httpx.Client, server: Server, scripted: Make) -> None:
    fn = scripted(four_steps)
    old = fn.run()["run_id"]
    for body in (None, {}, {"fromStep": None}):
        new = started(rerun(http, old, body))
        assert "from_step" not in server.ended(new)
        assert len(calls_of(fn, new)) == 5


def test_of_a_batch(http: httpx.Client, server: Server, scripted: Make) -> None:
    fn = scripted(four_steps, batchEvents={"maxSize": 2, "timeout": "60s"})
    events = server.send(
        {"name": f"bare/{fn.slug}", "data": {"n": 1}}, {"name": f"bare/{fn.slug}", "data": {"n": 2}}
    )
    old = fn.ended(events[0])["run_id"]
    new = started(rerun(http, old, {"fromStep": {"stepId": "c"}}))
    server.ended(new)
    first = calls_of(fn, new)[0]
    assert [event["data"]["n"] for event in first.body["events"]] == [1, 2]
    assert first.ctx["stack"]["stack"] == [sha1("a"), sha1("b")]


def test_from_a_step_that_was_planned_and_never_finished(http: httpx.Client, scripted: Make) -> None:
    def script(call: Call) -> Answer:
        if call.query["stepId"] != "step":
            return ops(ran("a", 1)) if call.query["stepId"] == sha1("a") else Answer(500, {"message": "no"})
        return ops(op("StepPlanned", "a"), op("StepPlanned", "b"))

    fn = scripted(script, retries=0)
    old = fn.run()["run_id"]
    new = started(rerun(http, old, {"fromStep": {"stepId": "b", "input": "[7]"}}))
    (call,) = until("the call of the step", lambda: calls_of(fn, new))
    assert call.query["stepId"] == sha1("b")
    assert call.body["steps"][sha1("b")] == {"input": [7]}


def test_an_sdk_that_fetches_its_steps_gets_the_input_as_well(http: httpx.Client, scripted: Make) -> None:
    seen: dict[str, Any] = {}

    def script(call: Call) -> Answer:
        run = call.ctx["run_id"]
        seen.setdefault(run, []).append(http.get(f"/v0/runs/{run}/actions").json())
        return four_steps(call)

    fn = scripted(script)
    old = fn.run()["run_id"]
    new = started(rerun(http, old, {"fromStep": {"stepId": "b", "input": "[7]"}}))
    until("the end", lambda: len(seen.get(new, [])) == 4)
    assert seen[new][0] == {sha1("a"): {"data": ["a"]}, sha1("b"): {"input": [7]}}
    assert seen[new][1] == {sha1("a"): {"data": ["a"]}, sha1("b"): {"data": [7]}}


def test_the_input_survives_a_restart(tmp_path: Path, bare: BareApp) -> None:
    server = Server.start(tmp_path)
    try:
        fn = Scripted.make(server, bare, four_steps, retries=20)
        old = fn.run()["run_id"]
        bare.on(fn.slug, lambda call: Answer(500, {"message": "not now"}))
        new = started(rerun(server.http, old, {"fromStep": {"stepId": "b", "input": '["kept"]'}}))
        until("a first call", lambda: calls_of(fn, new))
    finally:
        server.stop()
    bare.on(fn.slug, four_steps)
    server = Server.start(tmp_path)
    try:
        assert server.ended(new)["output"] == [["a"], ["kept"], ["c"], ["d"]]
    finally:
        server.stop()


class TestRefusals:
    @pytest.fixture
    def old(self, scripted: Make) -> str:
        return str(scripted(four_steps).run()["run_id"])

    def test_an_unknown_step_names_those_that_there_are(self, http: httpx.Client, old: str) -> None:
        message = refused(rerun(http, old, {"fromStep": {"stepId": "e"}}), 404, "not_found")
        assert message == f"Run {old} has no step 'e'. Its steps are: a, b, c, d."

    def test_a_run_without_steps(self, http: httpx.Client, scripted: Make) -> None:
        run = scripted([Answer(200, 1)]).run()["run_id"]
        message = refused(rerun(http, run, {"fromStep": {"stepId": "e"}}), 404, "not_found")
        assert message == f"Run {run} has no step 'e': it has not run any. Run it again from its start."

    def test_unknown_and_bad_runs(self, http: httpx.Client) -> None:
        for body in (None, {"fromStep": {"stepId": "a"}}):
            assert GHOST in refused(rerun(http, GHOST, body), 404, "not_found")
        assert "nope" in refused(rerun(http, "nope"), 400, "invalid_field_format")

    @pytest.mark.parametrize("given", ['{"a":1}', "[1", "7", {"a": 1}, 7, "", "[" * 900 + "]" * 900])
    def test_input_that_is_no_list(self, http: httpx.Client, old: str, given: Any) -> None:
        answer = rerun(http, old, {"fromStep": {"stepId": "b", "input": given}})
        assert "input" in refused(answer, 400, "invalid_request")

    @pytest.mark.parametrize("body", ["x", {"fromStep": 1}, {"fromStep": {}}, {"fromStep": {"stepId": 1}}])
    def test_bodies_that_say_nothing(self, http: httpx.Client, old: str, body: Any) -> None:
        assert "request body" in refused(rerun(http, old, body), 400, "invalid_request")

    def test_a_step_that_runs_no_code_takes_no_input(self, http: httpx.Client, scripted: Make) -> None:
        send = ran("send", 1)
        send["opts"] = {"type": "step.sendEvent"}
        nap = op("Sleep", "nap", name="1ms")
        run = scripted([ops(nap), ops(send), Answer(200, 1)]).run()["run_id"]
        for name, kind in (("nap", "Sleep"), ("send", "step.sendEvent")):
            answer = rerun(http, run, {"fromStep": {"stepId": name, "input": "[1]"}})
            assert f"{name!r} takes no other input ({kind})" in refused(answer, 422, "validation_error")

    def test_an_sdk_that_reads_no_input(self, http: httpx.Client, scripted: Make) -> None:
        run = scripted(four_steps, fields={"sdk": "py:v0.5.19"}).run()["run_id"]
        answer = rerun(http, run, {"fromStep": {"stepId": "b", "input": "[1]"}})
        assert "(py:v0.5.19) cannot run a step with other input" in refused(answer, 422, "validation_error")
        started(rerun(http, run, {"fromStep": {"stepId": "b"}}))

    def test_one_name_for_several_steps(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        twins = [{**ran(id, id), "displayName": "twin"} for id in ("x", "y")]
        fn = scripted([ops(twins[0]), ops(twins[1]), Answer(200, 1), Answer(200, 2)])
        run = fn.run()["run_id"]
        message = refused(rerun(http, run, {"fromStep": {"stepId": "twin"}}), 422, "validation_error")
        assert message == f"2 steps are called 'twin'; say which by its id: {sha1('x')}, {sha1('y')}."
        server.ended(started(rerun(http, run, {"fromStep": {"stepId": "y"}})))
        assert fn.calls[-1].ctx["stack"]["stack"] == [sha1("x")]

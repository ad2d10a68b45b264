"""The job, from the upload to the result, on a running server: its steps, its tries, and what people see of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from examples.opportunity_tracker.gemini import MISSING_KEY
from tests.example.conftest import SUMMARY, TRANSCRIPT, Gemini, Running, Said, Starter, candidate, problem
from tests.sdk.driver import Server, until

STEPS = ["update-status-parsing", "parse-transcript", "save-results", "update-opportunity-history"]
FAILS = problem(503, "UNAVAILABLE", "The model is overloaded.")
REFUSES = Said({"promptFeedback": {"blockReason": "SAFETY"}})


def run_of(server: Server, app: Running, call_id: str) -> dict[str, Any]:
    """The ended run of a call's newest try."""
    event_id = until("the event's id", lambda: app.call(call_id)["event_id"])
    (run,) = until("a run", lambda: server.runs(event_id))
    return server.ended(run["run_id"])


def steps_of(server: Server, run: dict[str, Any]) -> list[str]:
    """The steps of a run that have finished, in order."""
    query = "query($id: String!) { runTrace(runID: $id) { childrenSpans { name status stepID } } }"
    answer = server.http.post("/v0/gql", json={"query": query, "variables": {"id": run["run_id"]}}).json()
    assert "errors" not in answer, answer
    spans = answer["data"]["runTrace"]["childrenSpans"]
    return [span["name"] for span in spans if span["stepID"] and span["status"] == "COMPLETED"]


def test_a_call_is_parsed_in_four_steps(server: Server, app: Running, fresh_gemini: Gemini) -> None:
    answer = app.http.post("/api/calls", json={"transcript": TRANSCRIPT, "opportunity": "Four steps"})
    assert answer.json()["status"] == "pending"
    call = app.settled(answer.json()["id"], "completed")
    assert call["summary"] == SUMMARY
    assert call["model"] == "gemini-test"
    assert call["tries"] == 1
    run = run_of(server, app, call["id"])
    assert run["status"] == "Completed"
    assert run["output"] == SUMMARY
    assert run["run_id"] == call["run_id"]
    assert steps_of(server, run) == STEPS
    assert len(fresh_gemini.requests) == 1


def test_the_history_holds_every_call_once(server: Server, app: Running, fresh_gemini: Gemini) -> None:
    second = {
        **SUMMARY,
        "participants": [{"name": "Finance manager", "role": "finance"}, SUMMARY["participants"][0]],
        "pain_points": ["Nobody knows the cost of a route."],
        "next_steps": [],
        "budget": None,
        "sentiment": "negative",
    }
    first_id = app.upload(opportunity="History")
    app.settled(first_id, "completed")
    run_of(server, app, first_id)
    fresh_gemini.say(Said(candidate(json.dumps(second))))
    second_id = app.upload(opportunity="History")
    app.settled(second_id, "completed")
    run_of(server, app, second_id)
    history = app.history(app.call(first_id)["opportunity_id"])
    assert history["calls_parsed"] == 2
    assert history["sentiment"] == "negative"
    assert history["budget"] == SUMMARY["budget"]
    assert history["participants"] == ["Finance manager", "Buyer", "Account executive"]
    assert history["pain_points"] == [*second["pain_points"], *SUMMARY["pain_points"]]
    assert history["next_steps"] == SUMMARY["next_steps"]
    again = dict(history)
    assert app.records.update_history(first_id) == 2
    assert app.history(history["id"]) == again


def test_only_the_step_that_failed_is_tried_again(server: Server, app: Running, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(FAILS)
    call_id = app.upload()
    app.settled(call_id, "completed")
    run = run_of(server, app, call_id)
    assert steps_of(server, run) == STEPS
    assert len(fresh_gemini.requests) == 2


def test_429_waits_as_long_as_gemini_says(app: Running, fresh_gemini: Gemini) -> None:
    wait = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}
    fresh_gemini.say(problem(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", wait))
    app.settled(app.upload(), "completed")
    assert len(fresh_gemini.requests) == 2


def test_after_four_tries_it_fails_and_retry_brings_it_through(app: Running, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(FAILS, FAILS, FAILS, FAILS)
    call_id = app.upload()
    call = app.settled(call_id, "failed")
    assert len(fresh_gemini.requests) == 4
    assert "The model is overloaded" in call["error"]
    page = app.http.get(f"/calls/{call_id}").text
    assert "The model is overloaded" in page
    assert "Retry parsing" in page
    (action,) = re.findall(r'action="(/calls/\w+/retry)"', page)
    answer = app.http.post(action)
    assert answer.status_code == 303
    call = app.settled(call_id, "completed")
    assert call["tries"] == 2
    assert call["error"] is None
    assert "Retry parsing" not in app.http.get(f"/calls/{call_id}").text


def test_a_refusal_is_not_tried_again(app: Running, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(REFUSES)
    call = app.settled(app.upload(), "failed")
    assert "Gemini refused to parse this transcript (SAFETY)" in call["error"]
    assert len(fresh_gemini.requests) == 1


def test_without_a_key_the_job_says_which_variable_to_set(
    start: Starter, server: Server, app: Running
) -> None:
    keyless = start(gemini_api_key=None)
    try:
        assert "GEMINI_API_KEY is not set" in keyless.http.get("/").text
        call_id = keyless.upload()
        call = keyless.settled(call_id, "failed")
        assert call["error"] == MISSING_KEY
        run = run_of(server, keyless, call_id)
        assert run["status"] == "Failed"
        assert run["output"]["message"] == MISSING_KEY
        assert "GEMINI_API_KEY is not set" in keyless.http.get(f"/calls/{call_id}").text
    finally:
        keyless.stop()
        # The server knows an app of this name at one address.
        app.register()


@pytest.mark.parametrize("path", ["/api/calls/{}/retry", "/calls/{}/retry"])
def test_only_a_failed_call_can_be_retried(app: Running, fresh_gemini: Gemini, path: str) -> None:
    call_id = app.upload()
    app.settled(call_id, "completed")
    answer = app.http.post(path.format(call_id), follow_redirects=True)
    assert "only a failed one can be retried" in answer.text or "nothing to retry" in answer.text
    assert app.call(call_id)["status"] == "completed"
    assert app.call(call_id)["tries"] == 1


def test_two_clicks_on_retry_are_one(app: Running, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(REFUSES)
    call_id = app.upload()
    app.settled(call_id, "failed")
    first, second = (app.http.post(f"/api/calls/{call_id}/retry").status_code for _ in range(2))
    assert (first, second) == (202, 409)
    assert app.settled(call_id, "completed")["tries"] == 2


def test_a_job_of_an_older_try_changes_nothing(app: Running, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(REFUSES)
    call_id = app.upload()
    app.settled(call_id, "failed")
    app.http.post(f"/api/calls/{call_id}/retry")
    app.settled(call_id, "completed")
    assert not app.records.fail(call_id, 1, "late")
    app.records.start_parsing(call_id, 1, "old-run")
    call = app.call(call_id)
    assert call["status"] == "completed"
    assert call["run_id"] != "old-run"


def test_a_completed_call_is_not_marked_as_failed(app: Running, fresh_gemini: Gemini) -> None:
    call_id = app.upload()
    app.settled(call_id, "completed")
    assert not app.records.fail(call_id, 1, "the history could not be written")
    assert app.call(call_id)["status"] == "completed"


def test_a_call_that_was_removed_fails_with_its_reason(app: Running, server: Server) -> None:
    (event_id,) = server.send(
        {"name": "call/transcript.uploaded", "data": {"call_id": "999999", "try_number": 1}}
    )
    run = server.ended(until("a run", lambda: server.runs(event_id))[0]["run_id"])
    assert run["status"] == "Failed"
    assert "There is no call 999999" in run["output"]["message"]

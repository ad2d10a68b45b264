"""Failing steps and functions: attempts, delays, what user code catches, and the failure handler."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sdk.driver import App, Ended


def test_step_that_fails_twice_is_tried_three_times(app: App) -> None:
    run = app.run_among_peers("flaky")
    assert (run.status, run.output) == ("Completed", ["ok@2", "after@0"])
    assert run.log.attempts("flaky") == [0, 1, 2]
    assert run.log.attempts("after") == [0]
    assert run.log.calls[0]["max_attempts"] == 4
    assert [call["generation"] for call in run.log.calls[:3]] == ["1", "2", "3"]
    first, second, third = run.log.at("flaky")
    assert 0.9 < second - first < 2.5
    assert 0.9 < third - second < 2.5


def test_step_error_is_caught_by_user_code(app: App) -> None:
    run = app.run_among_peers("caught")
    name = "TypeError" if app.js else "ValueError"
    assert (run.status, run.output) == ("Completed", [name, "always", True])
    assert run.log.attempts("broken") == [0, 1]
    assert run.log.attempts("compensate") == [0]


def test_step_error_that_nobody_catches_fails_the_run(app: App) -> None:
    run = app.run_among_peers("uncaught")
    assert run.status == "Failed"
    assert run.output["message"] == "always"
    assert run.log.attempts("broken") == [0, 1]
    assert [call["attempt"] for call in run.log.calls] == [0, 1, 0]


def test_failing_function_is_tried_again_then_fails(app: App) -> None:
    run = app.run_among_peers("function-error")
    assert run.status == "Failed"
    assert run.output["message"] == "the function fails"
    assert run.output["stack"]
    assert [call["attempt"] for call in run.log.calls] == [0, 1]
    first, second = run.log.at("body")
    assert 0.9 < second - first < 2.5


def failure_event(app: App, run: Ended) -> dict[str, Any]:
    """The event that the failure handler of `function-error` got, once the handler has done its step."""
    app.saw(run.key, "the failure handler", lambda log: "clean-up" in log.steps())
    log = app.log(run.key)
    assert log.attempts("clean-up") == [0]
    noted = next(note for note in log.notes if note["step"] == "failure")
    event: dict[str, Any] = noted["event"]
    return event


def test_failure_handler_gets_the_failed_event(app: App) -> None:
    run = app.run_among_peers("function-error")
    event = failure_event(app, run)
    assert event["name"] == "inngest/function.failed"
    data = event["data"]
    assert set(data) >= {"_inngest", "error", "event", "events", "function_id", "result", "run_id"}
    assert data["function_id"] == app.slug("function-error")
    assert data["run_id"] == run.run_id
    assert data["_inngest"] == {"status": "Failed"}
    assert data["result"] == run.output
    assert data["event"]["name"] == f"{app.app_id}/function-error"
    assert data["event"]["data"] == {"key": run.key}
    assert data["event"]["user"] == {}
    assert data["event"]["id"] == run.event_id
    assert [one["id"] for one in data["events"]] == [run.event_id]
    assert data["error"]["message"] == "the function fails"
    assert data["error"]["name"] == ("TypeError" if app.js else "ValueError")
    assert data["error"]["stack"] == run.output["stack"]


@pytest.mark.apps("fastapi", "fastapi-sync", "fastapi-stream", "flask", "flask-async")
def test_error_of_the_failed_event_has_exactly_four_keys_in_python(app: App) -> None:
    run = app.run_among_peers("function-error")
    assert failure_event(app, run)["data"]["error"] == {
        "error": "invalid status code: 500",
        "message": "the function fails",
        "name": "ValueError",
        "stack": run.output["stack"],
    }


@pytest.mark.apps("js", "js-plain", "js-stream", "js3")
def test_error_text_of_the_failed_event_follows_the_no_retry_header(app: App) -> None:
    run = app.run_among_peers("function-error")
    event = failure_event(app, run)
    last = run.log.calls[-1]
    if app.version == 2:
        assert last["no_retry"] == "true", "this SDK marks its last attempt so"
    expected = (
        "NonRetriableError" if last["no_retry"] == "true" else f"invalid status code: {last['final_status']}"
    )
    assert event["data"]["error"]["error"] == expected


@pytest.mark.apps("fastapi", "js", "js3")
def test_retries_nobody_configured_are_three(app: App) -> None:
    run = app.run_among_peers("default-retries")
    assert run.status == "Failed"
    assert [call["attempt"] for call in run.log.calls] == [0, 1, 2, 3]
    assert {call["max_attempts"] for call in run.log.calls} == {4}


def test_non_retriable_error_of_a_function_ends_the_run_at_once(app: App) -> None:
    run = app.run_among_peers("non-retriable")
    assert run.status == "Failed"
    assert run.output["message"] == "give up"
    assert run.log.attempts("body") == [0]


def test_non_retriable_error_of_a_step_is_not_tried_again(app: App) -> None:
    run = app.run_among_peers("non-retriable-step")
    assert run.status == "Failed"
    assert run.output["message"] == "give up here"
    assert run.log.attempts("broken") == [0]


def test_retry_after_of_a_function_sets_the_delay(app: App) -> None:
    run = app.run_among_peers("retry-after")
    assert (run.status, run.output) == ("Completed", 1)
    first, second = run.log.at("body")
    assert 1.9 < second - first < 3.5


def test_retry_after_of_a_step_sets_the_delay(app: App) -> None:
    run = app.run_among_peers("retry-after-step")
    assert (run.status, run.output) == ("Completed", 1)
    assert run.log.attempts("later") == [0, 1]
    first, second = run.log.at("later")
    assert 1.9 < second - first < 3.5


@pytest.mark.apps("js-plain")
def test_retry_after_in_whole_seconds(app: App) -> None:
    """The time is cut to a full second, so three seconds are two to three."""
    run = app.run("retry-after-step", wait="3s")
    assert run.log.calls[0]["retry_after"] == "3"
    first, second = run.log.at("later")
    assert 1.9 < second - first < 4.0

"""Reruns from a step: what the app runs again, and what it runs a step with whose input was edited."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest

from tests.sdk.conftest import PYTHON
from tests.sdk.driver import App, Ended, Log


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def rerun(app: App, run: Ended, step: str, **more: Any) -> httpx.Response:
    body = {"fromStep": {"stepId": step, **more}}
    return app.server.http.post(f"/v2/runs/{run.run_id}/rerun", json=body)


def ended(app: App, run: Ended, answer: httpx.Response) -> tuple[str, Any, Log]:
    """The status and output of the new run, and what the app noted of it."""
    assert answer.status_code == 200, answer.text
    run_id = answer.json()["data"]["runId"]
    row = app.server.ended(run_id)
    assert row["original_run_id"] == run.run_id
    return row["status"], row.get("output"), app.log(run.key).of_run(run_id)


def given(log: Log) -> list[tuple[str, int | None]]:
    """The steps that ran, each with the argument that its code was given."""
    return [(note["step"], note.get("given")) for note in log.notes]


def test_the_steps_before_do_not_run_again(app: App) -> None:
    run = app.run("step-with-input")
    assert (run.status, run.output) == ("Completed", [1, 20, "end"])
    assert given(run.log) == [("one", None), ("two", 10), ("three", None), ("four", None)]
    status, output, log = ended(app, run, rerun(app, run, "two"))
    assert (status, output) == ("Completed", [1, 20, "end"])
    assert given(log) == [("two", 10), ("three", None), ("four", None)]
    assert log.calls[0]["stack"] == [sha1("one")]


@pytest.mark.apps(
    "js", "js-plain", "js-stream", "js3", "js3-wait", "own", "own-sync", "own-flask", "own-connect"
)
def test_a_step_sees_its_edited_input(app: App) -> None:
    run = app.run("step-with-input")
    status, output, log = ended(app, run, rerun(app, run, sha1("two"), input="[21]"))
    assert (status, output) == ("Completed", [1, 42, "end"])
    assert given(log) == [("two", 21), ("three", None), ("four", None)]
    assert log.calls[0]["stack"] == [sha1("one")]
    assert log.calls[0]["steps"] == sorted((sha1("one"), sha1("two")))


@pytest.mark.apps(*PYTHON)
def test_an_sdk_that_would_take_the_input_for_the_result_gets_none(app: App) -> None:
    run = app.run("step-with-input")
    answer = rerun(app, run, "two", input="[21]")
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["code"] == "validation_error"
    assert "would take the input for the step's result" in error["message"]
    assert [one["run_id"] for one in app.server.runs(run.event_id)] == [run.run_id]


@pytest.mark.apps(
    "js", "js3", "js3-wait", "fastapi", "flask", "own", "own-sync", "own-connect", "own-connect-sync"
)
def test_what_finished_before_it_in_a_parallel_set_stays(app: App) -> None:
    run = app.run("parallel")
    assert (run.status, run.output) == ("Completed", [1, 2, 3])
    status, output, log = ended(app, run, rerun(app, run, "p2"))
    assert (status, output) == ("Completed", [1, 2, 3])
    assert sorted(log.steps()) == ["p2", "p3"]


@pytest.mark.apps("js", "js3", "js3-wait", "own", "own-sync", "own-connect", "own-connect-sync")
@pytest.mark.parametrize(
    ("fn", "step", "again"), [("parallel", "p2", ["p2", "p3"]), ("large-state", "big-4", ["big-4"])]
)
def test_edited_input_beside_other_steps_and_in_large_state(
    app: App, fn: str, step: str, again: list[str]
) -> None:
    run = app.run(fn)
    status, output, log = ended(app, run, rerun(app, run, step, input=[]))
    assert (status, output) == ("Completed", run.output)
    assert sorted(log.steps()) == again

"""Functions with and without steps: what runs, how often, and what comes out."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.sdk.driver import App


def sha1(text: str) -> str:
    return hashlib.sha1(text.encode()).hexdigest()


def test_function_without_steps_runs_once(app: App) -> None:
    run = app.run("no-steps")
    assert (run.status, run.output) == ("Completed", {"hello": run.key})
    assert run.log.steps() == ["body"]
    assert len(run.log.calls) == 1
    call = run.log.calls[0]
    assert (call["target"], call["attempt"], call["version"], call["stack"]) == ("step", 0, -1, [])
    assert (call["planned_only"], call["use_api"], call["generation"], call["kind"]) == (
        False,
        False,
        "1",
        None if app.connects else "dev",
    )


def test_three_steps_run_once_each_in_order(app: App) -> None:
    run = app.run("three-steps")
    assert (run.status, run.output) == ("Completed", [1, 2, 3])
    assert run.log.steps() == ["a", "b", "c"]
    assert {note["run"] for note in run.log.notes} == {run.run_id}
    if app.checkpoints:
        assert len(run.log.calls) == 1
        assert [op for post in run.log.checkpoints() for op in post["ops"]] == [
            ["StepRun", step] for step in "abc"
        ]
        return
    assert [call["target"] for call in run.log.calls] == ["step"] * 4
    assert [call["stack"] for call in run.log.calls] == [[sha1(step) for step in "abc"[:n]] for n in range(4)]
    assert [call["version"] for call in run.log.calls] == [-1, *[app.version] * 3]
    assert all(call["steps"] == sorted(call["stack"]) for call in run.log.calls)
    assert all(call["generation"] == "1" for call in run.log.calls)


def test_one_step_id_in_a_loop_is_three_steps(app: App) -> None:
    run = app.run("loop")
    assert (run.status, run.output) == ("Completed", [0, 10, 20])
    assert run.log.steps() == ["again"] * 3
    if not app.checkpoints:
        assert run.log.calls[-1]["stack"] == [sha1("again"), sha1("again:1"), sha1("again:2")]


@pytest.mark.apps("fastapi", "flask", "js", "js3")
@pytest.mark.parametrize(
    "value",
    [None, 0, False, "", "text", [], {}, [None, 1], {"data": 1}, {"error": "no"}, {"a": {"b": [1.5, "c"]}}],
    ids=repr,
)
def test_what_a_function_returns_is_the_output(app: App, value: Any) -> None:
    run = app.run("returns", value=value)
    assert run.status == "Completed"
    assert run.output == value
    assert type(run.output) is type(value)


@pytest.mark.apps("js", "js-plain", "js3")
def test_a_function_that_returns_nothing_has_null_as_output(app: App) -> None:
    run = app.run("returns-nothing")
    assert (run.status, run.output) == ("Completed", None)


@pytest.mark.apps("js", "js-plain", "js-stream", "js3")
def test_values_that_json_cannot_say_become_what_the_sdk_makes_of_them(app: App) -> None:
    run = app.run("serialised")
    assert run.status == "Completed"
    assert run.output == {
        "nothing": None,
        "date": "1970-01-01T00:00:00.000Z",
        "object": {"kept": None, "list": [None, 1]},
    }


def test_values_pass_through_event_steps_and_output_unharmed(app: App) -> None:
    value = {
        "integer": 2**53 - 1,
        "tenth": 0.1,
        "small": 1.25e-9,
        "large": 1e21,
        "separators": "a\u2028b\u2029c",
        "beyond": "\U0001f600 \u00e9 \u0000 \x7f",
        "quotes": "\"\\/<>&'",
        "": {"nested": [[[]]]},
    }
    run = app.run("through-a-step", value=value)
    assert (run.status, run.output) == ("Completed", {"value": value})


@pytest.mark.apps("fastapi", "flask")
def test_numbers_that_only_python_keeps_pass_through(app: App) -> None:
    value = {"big": 2**60, "bigger": 2**64 + 1, "float": 1.0, "edge": 1.7976931348623157e308}
    run = app.run("through-a-step", value=value)
    assert (run.status, run.output) == ("Completed", {"value": value})
    assert isinstance(run.output["value"]["float"], float)
    assert "1152921504606846976" in app.server.http.get(f"/v1/runs/{run.run_id}").text


@pytest.mark.apps("fastapi", "js-plain")
def test_escaped_surrogates_pass_through(app: App) -> None:
    """A pair is one character; it may arrive as two escapes and must not come out as anything else."""
    spelled = json.dumps(
        {"name": f"{app.app_id}/through-a-step", "data": {"key": "pair", "value": "\U0001f600"}}
    )
    assert "\\ud83d\\ude00" in spelled
    answer = app.server.http.post("/e/test", content=spelled.encode())
    assert answer.status_code == 200, answer.text
    run = app.server.run_of(answer.json()["ids"][0], app.slug("through-a-step"))
    assert app.server.ended(run["run_id"])["output"] == {"value": "\U0001f600"}


@pytest.mark.apps("fastapi", "flask", "js", "js-plain", "js-stream", "js3")
def test_state_too_large_for_a_call_is_fetched_by_the_sdk(app: App) -> None:
    run = app.run("large-state", patience=60)
    assert (run.status, run.output) == ("Completed", [[1024 * 1024, str(n)] for n in range(5)])
    assert run.log.steps() == [f"big-{n}" for n in range(5)]
    if app.checkpoints:
        return
    assert [call["use_api"] for call in run.log.calls] == [False, False, False, False, True, True]
    assert [len(call["steps"]) for call in run.log.calls] == [0, 1, 2, 3, 0, 0]
    assert [len(call["stack"]) for call in run.log.calls] == [0, 1, 2, 3, 4, 5]


@pytest.mark.apps("fastapi", "flask", "js", "js-plain", "js3")
def test_largest_event_reaches_the_function(app: App) -> None:
    """Just below the limit of three mebibytes: alone it fills a call nearly twice."""
    filler = "x" * (3 * 1024 * 1024 - 1000)
    run = app.run("no-steps", filler=filler)
    assert (run.status, run.output) == ("Completed", {"hello": run.key})

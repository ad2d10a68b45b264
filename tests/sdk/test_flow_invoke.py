"""Invoking functions under rules of flow control: the step that invokes always gets a result or an error."""

from __future__ import annotations

import time
from typing import Any

from tests.sdk.driver import App
from tests.sdk.flow import new_key, on_both, runs_of, send, side_by_side, spans, worked


def outputs(app: App, events: list[str]) -> list[Any]:
    return [run["output"] for run in runs_of(app, events, "call")]


@on_both
@side_by_side
def test_invoking_a_rate_limited_function_is_an_error_when_no_place_is_free(app: App) -> None:
    key = new_key()
    data = {"function": "called-limited", "user": key}
    first = outputs(app, send(app, "call", key, {"n": 1, **data}))
    second = outputs(app, send(app, "call", key, {"n": 2, **data}))
    assert first == [{"n": 1, "events": [1]}]
    assert second == [{"name": "Error", "message": "invoked function is rate limited"}]
    assert [span.n for span in spans(app.log(key))] == [1]


@on_both
@side_by_side
def test_invoking_a_debounced_function_waits_for_its_run(app: App) -> None:
    key = new_key()
    sent_at = time.time()
    [event] = send(app, "call", key, {"n": 1, "function": "called-debounced", "user": key})
    assert outputs(app, [event]) == [{"n": 1, "events": [1]}]
    assert time.time() - sent_at > 1


@on_both
@side_by_side
def test_caller_whose_event_a_debounce_replaces_is_told(app: App) -> None:
    key = new_key()
    data = {"function": "called-debounced", "user": key}
    [first] = send(app, "call", key, {"n": 1, **data})
    time.sleep(0.3)
    [second] = send(app, "call", key, {"n": 2, **data})
    assert outputs(app, [second]) == [{"n": 2, "events": [2]}]
    run = app.server.run_of(first, app.slug("call"))
    replaced = app.server.ended(run["run_id"], 3)["output"]
    assert replaced["name"] == "Error"
    assert "debounce" in replaced["message"], replaced
    assert [span.n for span in spans(app.log(key))] == [2]


@on_both
@side_by_side
def test_invoking_a_batched_function_gives_each_caller_the_result_of_the_batch(app: App) -> None:
    key = new_key()
    data = {"function": "called-batched", "user": key}
    events = send(app, "call", key, {"n": 1, **data}, {"n": 2, **data})
    first, second = outputs(app, events)
    [work] = spans(app.log(key))
    assert sorted(work.events) == [1, 2]
    assert first == second == {"n": work.n, "events": work.events}


@on_both
@side_by_side
def test_invoking_a_batched_function_alone_waits_for_its_time(app: App) -> None:
    key = new_key()
    [event] = send(app, "call", key, {"n": 1, "function": "called-batched", "user": key})
    assert outputs(app, [event]) == [{"n": 1, "events": [1]}]


@on_both
@side_by_side
def test_invoking_a_singleton_that_is_skipped_is_an_error(app: App) -> None:
    key = new_key()
    data = {"function": "called-skipped", "user": key}
    [first] = send(app, "call", key, {"n": 1, "sleep": 1.5, **data})
    worked(app, key, 1)
    [second] = send(app, "call", key, {"n": 2, **data})
    skipped, result = outputs(app, [second, first])
    assert skipped["name"] == "Error"
    assert skipped["message"] == "invoked function was skipped: Singleton"
    assert result == {"n": 1, "events": [1]}


@on_both
@side_by_side
def test_invoked_run_that_a_singleton_cancels_is_an_error_for_its_caller(app: App) -> None:
    key = new_key()
    data = {"function": "called-cancelled", "user": key}
    [first] = send(app, "call", key, {"n": 1, "sleep": 5, **data})
    worked(app, key, 1)
    [second] = send(app, "call", key, {"n": 2, **data})
    result, cancelled = outputs(app, [second, first])
    assert result == {"n": 2, "events": [2]}
    assert "cancelled" in cancelled["message"].lower(), cancelled

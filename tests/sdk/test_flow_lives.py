"""Priority, singleton, timeouts and cancelling events through the SDKs: who goes first, and whose life ends early."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from tests.sdk.driver import App, until
from tests.sdk.flow import (
    EARLY_S,
    new_key,
    on_both,
    runs_of,
    send,
    send_singly,
    side_by_side,
    spans,
    statuses,
    worked,
)

LATE_S = 1.0


def ended_after(run: dict[str, Any], since: float) -> float:
    """Seconds from `since` to the end of a run, by the server's clock."""
    return datetime.fromisoformat(run["ended_at"].replace("Z", "+00:00")).timestamp() - since


def saw_cancelled(app: App, key: str, run_ids: list[str]) -> None:
    """Wait until the app has heard of the cancellation of these runs, and check that no failure handler has run."""

    def heard() -> bool:
        notes = app.log(key).notes
        return {note["of"] for note in notes if note["step"] == "cancelled"} >= set(run_ids)

    until("function.cancelled of each run", heard)
    time.sleep(0.3)
    assert app.log(key).at("failure") == []


@on_both
@side_by_side
def test_priority_orders_those_who_wait(app: App) -> None:
    key = new_key()
    ranks: list[Any] = [0, 0, "high", 60, -60, 120, 10.0, 1.5, 43_200, 99_999]
    events = []
    for n, rank in enumerate(ranks):
        events += send(app, "ranked", key, {"n": n, "rank": rank, "seconds": 1 if n == 0 else 0.05})
        if n == 0:
            app.saw(key, "the first", lambda log: log.at("begin"))
    assert statuses(runs_of(app, events, "ranked")) == ["Completed"] * len(ranks)
    # What is no whole number counts as 0, what is more than 12 hours as 12 hours; equals keep their order.
    assert [span.n for span in spans(app.log(key))] == [0, 8, 9, 5, 3, 6, 1, 2, 7, 4]


@on_both
@side_by_side
def test_singleton_skips_while_a_run_lives_also_asleep(app: App) -> None:
    key = new_key()
    [first] = send(app, "single-skip", key, {"n": 0, "user": key, "sleep": 1.5})
    worked(app, key, 1)
    later = send(app, "single-skip", key, {"n": 1, "user": key}, {"n": 2, "user": f"{key} other"})
    skipped, other = runs_of(app, later, "single-skip")
    [holder] = runs_of(app, [first], "single-skip")
    assert statuses([holder, skipped, other]) == ["Completed", "Skipped", "Completed"]
    fields = "{ run(runID: $run) { trace { skipReason skipExistingRunID } } }"
    query = {"query": f"query ($run: String!) {fields}", "variables": {"run": skipped["run_id"]}}
    shown = app.server.http.post("/v0/gql", json=query).json()
    assert shown["data"]["run"]["trace"] == {"skipReason": "Singleton", "skipExistingRunID": holder["run_id"]}
    [third] = send(app, "single-skip", key, {"n": 3, "user": key})
    assert statuses(runs_of(app, [third], "single-skip")) == ["Completed"]
    assert sorted({span.n for span in spans(app.log(key))}) == [0, 2, 3]


@on_both
@side_by_side
def test_singleton_leaves_events_alone_whose_key_is_false_or_missing(app: App) -> None:
    key = new_key()
    many = {"user": key, "many": True, "sleep": 0.5}
    events = send(app, "single-skip", key, many, many, {"sleep": 0.5}, {"sleep": 0.5})
    assert statuses(runs_of(app, events, "single-skip")) == ["Completed"] * 4


@on_both
@side_by_side
def test_singleton_cancels_the_run_before(app: App) -> None:
    key = new_key()
    [first] = send(app, "single-cancel", key, {"n": 0, "user": key, "sleep": 3})
    worked(app, key, 1)
    sent_at = time.time()
    [second] = send(app, "single-cancel", key, {"n": 1, "user": key})
    runs = runs_of(app, [first, second], "single-cancel")
    assert statuses(runs) == ["Cancelled", "Completed"]
    assert ended_after(runs[0], sent_at) < LATE_S
    saw_cancelled(app, key, [runs[0]["run_id"]])
    assert [(span.n, span.part) for span in spans(app.log(key))] == [
        (0, "first"),
        (1, "first"),
        (1, "second"),
    ]


@on_both
@side_by_side
def test_singleton_lets_the_last_of_a_burst_live(app: App) -> None:
    key = new_key()
    events = send_singly(app, "single-cancel", key, *({"n": n, "user": key, "sleep": 0.3} for n in range(5)))
    runs = runs_of(app, events, "single-cancel")
    assert statuses(runs) == ["Cancelled"] * 4 + ["Completed"]
    saw_cancelled(app, key, [run["run_id"] for run in runs[:4]])
    assert [span.n for span in spans(app.log(key)) if span.part == "second"] == [4]


@on_both
@side_by_side
def test_run_that_has_not_begun_in_time_is_cancelled_then(app: App) -> None:
    key = new_key()
    [holder] = send(app, "start-by", key, {"n": 0, "seconds": 2.2})
    app.saw(key, "the first", lambda log: log.at("begin"))
    sent_at = time.time()
    [late] = send(app, "start-by", key, {"n": 1})
    [run] = runs_of(app, [late], "start-by")
    assert run["status"] == "Cancelled"
    assert 1 - EARLY_S < ended_after(run, sent_at) < 1 + LATE_S
    assert statuses(runs_of(app, [holder], "start-by")) == ["Completed"], "it had begun in time"
    saw_cancelled(app, key, [run["run_id"]])
    assert [span.n for span in spans(app.log(key))] == [0]


@on_both
@side_by_side
def test_timeout_of_start_counts_from_when_the_run_is_due(app: App) -> None:
    key = new_key()
    later = int((time.time() + 1.5) * 1000)
    [event] = app.server.send(
        {"name": f"{app.app_id}/start-by", "ts": later, "data": {"key": key, "seconds": 0}}
    )
    assert statuses(runs_of(app, [event], "start-by")) == ["Completed"]
    assert spans(app.log(key))[0].begin > later / 1000 - EARLY_S


@on_both
@side_by_side
def test_timeout_of_start_ends_those_whom_a_throttle_holds_back(app: App) -> None:
    """A start each 1.5 s, a timeout of 2 s: two of five begin."""
    key = new_key()
    events = send_singly(app, "start-paced", key, *({"n": n} for n in range(5)))
    runs = runs_of(app, events, "start-paced")
    assert statuses(runs) == ["Completed"] * 2 + ["Cancelled"] * 3
    time.sleep(1.5)
    assert [span.n for span in spans(app.log(key))] == [0, 1]


@on_both
@side_by_side
def test_run_that_has_not_ended_in_time_is_cancelled_while_it_sleeps(app: App) -> None:
    key = new_key()
    [event] = send(app, "finish-by", key, {"n": 0, "sleep": 3})
    [run] = runs_of(app, [event], "finish-by")
    began = spans(app.log(key))[0].begin
    assert run["status"] == "Cancelled"
    assert 1 - 0.3 < ended_after(run, began) < 1 + LATE_S, (
        "it counts from the first call, which comes a moment before"
    )
    saw_cancelled(app, key, [run["run_id"]])
    time.sleep(2)
    assert [span.part for span in spans(app.log(key))] == ["first"]
    [quick] = send(app, "finish-by", key, {"n": 1})
    assert statuses(runs_of(app, [quick], "finish-by")) == ["Completed"]


@on_both
@side_by_side
def test_run_that_has_not_ended_in_time_is_cancelled_while_the_app_works(app: App) -> None:
    """The app's code runs to its end, and its answer is ignored."""
    key = new_key()
    [event] = send(app, "finish-busy", key, {"n": 0, "seconds": 2})
    [run] = runs_of(app, [event], "finish-busy")
    [work] = spans(app.log(key))
    assert (run["status"], work.end) == ("Cancelled", None)
    assert ended_after(run, work.begin) < 1 + LATE_S
    worked(app, key, 1)
    saw_cancelled(app, key, [run["run_id"]])
    assert app.server.run(run["run_id"])["status"] == "Cancelled"


@on_both
@side_by_side
def test_event_cancels_all_runs_of_its_function(app: App) -> None:
    key = new_key()
    events = send(app, "cancel-any", key, *({"n": n, "sleep": 4} for n in range(2)))
    worked(app, key, 2)
    send(app, "stop-any", key, {})
    runs = runs_of(app, events, "cancel-any")
    assert statuses(runs) == ["Cancelled", "Cancelled"]
    saw_cancelled(app, key, [run["run_id"] for run in runs])
    [later] = send(app, "cancel-any", key, {"n": 2})
    assert statuses(runs_of(app, [later], "cancel-any")) == ["Completed"], "only what was there when it came"


@on_both
@side_by_side
def test_event_cancels_only_where_its_condition_holds(app: App) -> None:
    key = new_key()
    [event] = send(app, "cancel-if", key, {"n": 0, "sleep": 1.5})
    worked(app, key, 1)
    send(app, "stop-if", key, {"sure": False}, {})
    send(app, "stop-if", new_key(), {"sure": True})
    send(app, "stop-any", key, {"sure": True})
    assert statuses(runs_of(app, [event], "cancel-if")) == ["Completed"]
    [second] = send(app, "cancel-if", key, {"n": 1, "sleep": 4})
    worked(app, key, 3)
    sent_at = time.time()
    send(app, "stop-if", key, {"sure": True})
    [run] = runs_of(app, [second], "cancel-if")
    assert run["status"] == "Cancelled"
    assert ended_after(run, sent_at) < LATE_S
    saw_cancelled(app, key, [run["run_id"]])


@on_both
@side_by_side
def test_any_of_two_events_cancels_by_match(app: App) -> None:
    keys = [new_key(), new_key(), new_key()]
    events = [send(app, "cancel-match", key, {"sleep": 2})[0] for key in keys]
    for key in keys:
        worked(app, key, 1)
    send(app, "stop-a", keys[0], {})
    send(app, "stop-b", keys[1], {})
    runs = runs_of(app, events, "cancel-match")
    assert statuses(runs) == ["Cancelled", "Cancelled", "Completed"]


@on_both
@side_by_side
def test_cancelling_event_counts_until_its_timeout(app: App) -> None:
    key, other = new_key(), new_key()
    [late] = send(app, "cancel-soon", key, {"sleep": 2})
    [soon] = send(app, "cancel-soon", other, {"sleep": 2})
    worked(app, other, 1)
    send(app, "stop-soon", other, {})
    time.sleep(1.3)
    send(app, "stop-soon", key, {})
    assert statuses(runs_of(app, [late, soon], "cancel-soon")) == ["Completed", "Cancelled"]


@on_both
@side_by_side
def test_event_cancels_a_run_that_waits_in_line(app: App) -> None:
    key = new_key()
    events = send_singly(app, "cancel-queued", key, {"n": 0, "seconds": 1.2}, {"n": 1}, {"n": 2})
    app.saw(key, "the first", lambda log: log.at("begin"))
    send(app, "stop-queued", key, {"n": 1})
    runs = runs_of(app, events, "cancel-queued")
    assert statuses(runs) == ["Completed", "Cancelled", "Completed"]
    assert [span.n for span in spans(app.log(key))] == [0, 2]


@on_both
@side_by_side
def test_event_before_the_run_cancels_nothing(app: App) -> None:
    key = new_key()
    name = app.app_id
    data = {"key": key, "sleep": 0.5}
    # In one request, just before the event that starts the run.
    _, event = app.server.send(
        {"name": f"{name}/stop-a", "data": data}, {"name": f"{name}/cancel-match", "data": data}
    )
    assert statuses(runs_of(app, [event], "cancel-match")) == ["Completed"]

"""Throttle, rate limit and idempotency through the SDKs: when runs start, and which events start none."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from tests.sdk.driver import App
from tests.sdk.flow import (
    EARLY_S,
    Span,
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
"""How late something may be on a busy machine."""


def on_schedule(due: list[float], sent_at: float, work: list[Span]) -> None:
    """Check that the n-th start came when it was due (seconds after the events were sent), and not before.

    Spaces between two starts in the app would tell less: the way there is not equally long each time.
    """
    times = [span.begin - sent_at for span in work]
    assert len(times) == len(due)
    assert all(at - EARLY_S < time < at + LATE_S for time, at in zip(times, due, strict=True)), (times, due)


@on_both
@side_by_side
def test_throttle_spaces_starts_evenly(app: App) -> None:
    """Two in two seconds are one a second, and not two at once."""
    key = new_key()
    sent_at = time.time()
    events = send(app, "paced", key, *({"n": n} for n in range(4)))
    assert statuses(runs_of(app, events, "paced")) == ["Completed"] * 4
    on_schedule([0, 1, 2, 3], sent_at, spans(app.log(key)))


@on_both
@side_by_side
def test_throttle_burst_lets_one_more_start_at_once(app: App) -> None:
    key = new_key()
    sent_at = time.time()
    events = send(app, "paced-burst", key, *({"n": n} for n in range(4)))
    assert statuses(runs_of(app, events, "paced-burst")) == ["Completed"] * 4
    on_schedule([0, 0, 1, 2], sent_at, spans(app.log(key)))


@on_both
@side_by_side
def test_throttle_has_a_schedule_for_each_key(app: App) -> None:
    key = new_key()
    sent_at = time.time()
    send(app, "paced-users", key, *({"user": user} for user in "aabb"))
    work = worked(app, key, 4)
    for user in "ab":
        on_schedule([0, 2], sent_at, [span for span in work if span.user == user])


@on_both
@side_by_side
def test_throttle_counts_no_steps_and_no_retries(app: App) -> None:
    """One start in ten seconds; its three calls and its retry after a second are not held up."""
    run = app.run("paced-steps")
    assert run.status == "Completed"
    assert run.log.attempts("flaky") == [0, 1]
    began, ended = run.log.at("flaky")[0], run.log.at("end")[-1]
    assert ended - began < 5


@on_both
@side_by_side
def test_rate_limit_lets_all_of_a_period_come_at_once(app: App) -> None:
    """Where the reference server would let two through and then one every 0.3 s."""
    key = new_key()
    sent_at = time.time()
    events = send(app, "ten", key, *({"n": n} for n in range(13)))
    work = worked(app, key, 10)
    assert work[-1].begin - sent_at < 1.5
    time.sleep(0.5)
    assert [span.n for span in sorted(spans(app.log(key)), key=lambda span: span.n)] == list(range(10))
    assert [len(app.server.runs(event)) for event in events] == [1] * 10 + [0] * 3
    time.sleep(max(0.0, sent_at + 3.3 - time.time()))
    [again] = send(app, "ten", key, {"n": 13})
    assert statuses(runs_of(app, [again], "ten")) == ["Completed"]


def received(app: App, event_id: str) -> float:
    """When the server received an event, in seconds since 1970."""
    answer: dict[str, Any] = app.server.http.get(f"/v1/events/{event_id}").json()["data"]
    return datetime.fromisoformat(answer["received_at"].replace("Z", "+00:00")).timestamp()


def allowed(times: list[float], limit: int, period: float) -> list[int]:
    """1 for each event that starts a run, by the words of the promise: at most `limit` in any period."""
    taken: list[float] = []
    result = []
    for at in times:
        close = [place for place in taken if abs(at - place - period) < EARLY_S]
        assert not close, "an event came just when a place became free: the machine is too busy to tell"
        free = sum(at - place < period for place in taken) < limit
        result.append(int(free))
        taken += [at] * free
    return result


@on_both
@side_by_side
def test_rate_limit_holds_in_any_window(app: App) -> None:
    """Two in two seconds. A place is free again one period after it was taken, not at the period's end."""
    key = new_key()
    begin = time.time()
    events = []
    for at in (0, 1.2, 1.5, 2.4, 2.7, 3.6):
        time.sleep(max(0.0, begin + at - time.time()))
        events += send(app, "any-window", key, {"n": at})
    expected = allowed([received(app, event) for event in events], limit=2, period=2)
    assert expected.count(0) >= 1
    worked(app, key, expected.count(1))
    time.sleep(0.3)
    assert [len(app.server.runs(event)) for event in events] == expected


@on_both
@side_by_side
def test_rate_limit_has_places_for_each_key_and_none_for_false_or_missing(app: App) -> None:
    key = new_key()
    mine, other = f"{app.app_id} a", f"{app.app_id} b"
    vip = {"user": mine, "vip": True}
    events = send(app, "rate-users", key, {"user": mine}, {"user": mine}, {"user": other}, vip, vip, {}, {})
    worked(app, key, 6)
    time.sleep(0.4)
    assert [len(app.server.runs(event)) for event in events] == [1, 0, 1, 1, 1, 1, 1]


@on_both
@side_by_side
def test_rate_limit_counts_null_as_a_value(app: App) -> None:
    key = new_key()
    # The empty bucket is one for all events of the function, so other tests leave it alone.
    events = send(app, "rate-two", key, *({"n": n, "user": None} for n in range(3)))
    worked(app, key, 2)
    time.sleep(0.4)
    assert [len(app.server.runs(event)) for event in events] == [1, 1, 0]


@on_both
@side_by_side
def test_event_that_is_sent_twice_takes_one_place(app: App) -> None:
    key = new_key()
    one = {"name": f"{app.app_id}/rate-two", "id": new_key(), "data": {"key": key, "user": key, "n": 0}}
    first, again = app.server.send(one, one)
    second, third = send(app, "rate-two", key, {"user": key, "n": 1}, {"user": key, "n": 2})
    worked(app, key, 2)
    time.sleep(0.4)
    assert [len(app.server.runs(event)) for event in (first, again, second, third)] == [1, 0, 1, 0]


@on_both
@side_by_side
def test_run_that_a_person_runs_again_passes_the_rate_limit(app: App) -> None:
    key = new_key()
    [event] = send(app, "rate-users", key, {"user": key, "n": 0})
    [run] = runs_of(app, [event], "rate-users")
    query = "mutation ($run: ULID!) { rerun(runID: $run) }"
    answer = app.server.http.post("/v0/gql", json={"query": query, "variables": {"run": run["run_id"]}})
    assert app.server.ended(answer.json()["data"]["rerun"])["status"] == "Completed"
    [dropped] = send(app, "rate-users", key, {"user": key, "n": 1})
    time.sleep(0.4)
    assert app.server.runs(dropped) == []
    assert [span.n for span in spans(app.log(key))] == [0, 0]


@on_both
@side_by_side
def test_event_that_was_dropped_may_pass_when_it_is_sent_again(app: App) -> None:
    key = new_key()
    name = f"{app.app_id}/rate-again"
    own_id = new_key()
    [first] = send(app, "rate-again", key, {"n": 0})
    event = {"name": name, "id": own_id, "data": {"key": key, "n": 1}}
    [dropped] = app.server.send(event)
    runs_of(app, [first], "rate-again")
    time.sleep(1.2)
    assert app.server.runs(dropped) == []
    [again] = app.server.send(event)
    assert statuses(runs_of(app, [again], "rate-again")) == ["Completed"]
    [duplicate] = app.server.send(event)
    time.sleep(0.4)
    assert app.server.runs(duplicate) == []
    assert [span.n for span in spans(app.log(key))] == [0, 1]


@on_both
@side_by_side
def test_idempotency_runs_once_for_the_same_value(app: App) -> None:
    key = new_key()
    cart = new_key()
    events = send_singly(app, "idempotent", key, {"cart": cart}, {"cart": cart}, {"cart": new_key()}, {}, {})
    worked(app, key, 4)
    time.sleep(0.4)
    assert [len(app.server.runs(event)) for event in events] == [1, 0, 1, 1, 1]

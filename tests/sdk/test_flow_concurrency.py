"""Concurrency through the SDKs: the limit is never exceeded by one, and nobody waits who need not."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.sdk.driver import App
from tests.sdk.flow import (
    APPS,
    EARLY_S,
    most_at_once,
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


@on_both
@side_by_side
def test_two_calls_are_never_under_way_and_all_get_their_turn(app: App) -> None:
    key = new_key()
    events = send_singly(app, "one", key, *({"n": n} for n in range(4)))
    assert statuses(runs_of(app, events, "one")) == ["Completed"] * 4
    work = spans(app.log(key))
    assert len(work) == 8
    assert most_at_once(work) == 1
    assert [span.n for span in work if span.part == "first"] == [0, 1, 2, 3], "first come, first served"


@on_both
@side_by_side
def test_events_of_one_request_go_in_their_order(app: App) -> None:
    key = new_key()
    send(app, "one-whole", key, *({"n": n, "seconds": 0} for n in range(8)))
    assert [span.n for span in worked(app, key, 8)] == list(range(8))


@on_both
@side_by_side
def test_run_that_sleeps_takes_no_place(app: App) -> None:
    key = new_key()
    [sleeper] = send(app, "one", key, {"n": 0, "sleep": 2})
    worked(app, key, 1)
    [other] = send(app, "one", key, {"n": 1})
    assert statuses(runs_of(app, [sleeper, other], "one")) == ["Completed", "Completed"]
    work = spans(app.log(key))
    assert [(span.n, span.part) for span in work] == [
        (0, "first"),
        (1, "first"),
        (1, "second"),
        (0, "second"),
    ]


@on_both
@side_by_side
def test_each_key_has_its_own_limit(app: App) -> None:
    key = new_key()
    send(app, "per-user", key, *({"user": user, "seconds": 0.5} for user in "aabb"))
    work = worked(app, key, 4)
    assert [most_at_once(span for span in work if span.user == user) for user in "ab"] == [1, 1]
    assert most_at_once(work) == 2, "users do not wait for one another"


@on_both
@side_by_side
def test_two_limits_hold_at_once(app: App) -> None:
    key = new_key()
    send(app, "two-limits", key, *({"user": user, "seconds": 0.4} for user in "aaabcd"))
    work = worked(app, key, 6)
    assert most_at_once(span for span in work if span.user == "a") == 1
    assert most_at_once(work) == 2, "two go at once, not fewer and not more"


@on_both
@side_by_side
def test_keys_take_turns_whatever_is_queued_before_them(app: App) -> None:
    key = new_key()
    send(app, "in-turns", key, *({"user": "a", "seconds": 0.05} for _ in range(20)))
    send(app, "in-turns", key, *({"user": user, "seconds": 0.05} for user in "bbcc"))
    users = [span.user for span in worked(app, key, 24)]
    after = users[users.index("b") :]
    assert users.index("b") < 12, "most of the first key were still to come"
    assert sorted(after[:4]).count("a") <= 2, after
    assert set(after[:6]) == {"a", "b", "c"}, after
    assert after[:7].count("b") == after[:7].count("c") == 2, after


@pytest.mark.node
def test_account_scope_is_shared_by_apps_in_both_languages(apps: Callable[[str], App]) -> None:
    key = new_key()
    both = [apps(app_id) for app_id in APPS]
    for app in both:
        send(app, "shared", key, {"n": 0}, {"n": 1})
    for app in both:
        worked(app, key, 2)
    work = spans(*(app.log(key) for app in both))
    assert len(work) == 4
    assert most_at_once(work) == 1


@on_both
@side_by_side
def test_env_scope_is_shared_by_functions_and_keyed(app: App) -> None:
    key = new_key()
    # The apps have the same expression and so share its counters.
    mine, other = f"{app.app_id} a", f"{app.app_id} b"
    for fn in ("env-first", "env-second"):
        send(app, fn, key, {"user": mine}, {"user": mine}, {"user": other})
    work = worked(app, key, 6)
    assert [most_at_once(span for span in work if span.user == user) for user in (mine, other)] == [1, 1]
    assert most_at_once(work) == 2


@on_both
@side_by_side
def test_limit_of_zero_is_none(app: App) -> None:
    key = new_key()
    send(app, "unlimited", key, *({"n": n, "seconds": 0.8} for n in range(4)))
    assert most_at_once(worked(app, key, 4)) == 4


@on_both
@side_by_side
def test_run_that_waits_for_its_next_try_takes_no_place(app: App) -> None:
    key = new_key()
    [failing] = send(app, "one-flaky", key, {"n": 0, "fails": True})
    app.saw(key, "the first try", lambda log: log.at("failed"))
    [other] = send(app, "one-flaky", key, {"n": 1})
    assert statuses(runs_of(app, [failing, other], "one-flaky")) == ["Completed", "Completed"]
    assert [span.n for span in spans(app.log(key))] == [1, 0]


@on_both
@side_by_side
def test_limit_on_runs_counts_a_run_that_sleeps(app: App) -> None:
    """The SDKs have no option for it, so a person sets it."""
    slug = app.slug("one-run")
    answer = app.server.http.put(
        f"/v1/functions/{slug}/overrides", json={"concurrency": {"fn": [{"limit": 1}]}}
    )
    assert answer.status_code == 200, answer.text
    key = new_key()
    events = send_singly(app, "one-run", key, *({"n": n, "sleep": 0.7} for n in range(3)))
    assert statuses(runs_of(app, events, "one-run")) == ["Completed"] * 3
    work = spans(app.log(key))
    assert [(span.n, span.part) for span in work] == [
        (n, part) for n in range(3) for part in ("first", "second")
    ]


@on_both
@side_by_side
def test_cancelling_the_holder_lets_the_next_one_go(app: App) -> None:
    """The code of the cancelled run goes on in the app to its end, so overlap is to be expected there, not more."""
    key = new_key()
    events = send_singly(app, "one", key, {"n": 0, "seconds": 1.5}, {"n": 1, "seconds": 0.1})
    app.saw(key, "the first", lambda log: log.at("begin"))
    assert app.server.cancel(app.server.run_of(events[0], app.slug("one"))["run_id"]) == 200
    cancelled_at = time.time()
    first, second = runs_of(app, events, "one")
    assert statuses([first, second]) == ["Cancelled", "Completed"]
    after = [span for span in spans(app.log(key)) if span.n == 1]
    assert cancelled_at - EARLY_S - 0.2 < after[0].begin
    assert [span.part for span in worked(app, key, 3) if span.n == 0] == ["first"], (
        "its second step never runs"
    )

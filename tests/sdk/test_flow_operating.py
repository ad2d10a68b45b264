"""What a person does while runs are under way: pause and resume, change limits, cancel in bulk; and schedules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sdk.bare_app import Answer, Call, Scripted, function_config, register
from tests.sdk.driver import App, Server, until
from tests.sdk.flow import (
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


def post(app: App, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> dict[str, Any]:
    """An answer of the HTTP API, which must be good."""
    answer = app.server.http.request(method, path, json=body or {})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def now() -> str:
    return datetime.now(UTC).isoformat()


@on_both
@side_by_side
def test_paused_function_holds_new_runs_and_lets_others_end(app: App) -> None:
    key, function = new_key(), f"/v1/functions/{app.slug('pausable')}"
    [under_way] = send(app, "pausable", key, {"n": 0, "sleep": 0.6})
    worked(app, key, 1)
    try:
        assert post(app, f"{function}/pause")["paused"] == "hold"
        held = send_singly(app, "pausable", key, {"n": 1}, {"n": 2})
        assert statuses(runs_of(app, [under_way], "pausable")) == ["Completed"]
        time.sleep(0.5)
        assert {span.n for span in spans(app.log(key))} == {0}
        assert statuses(app.server.run_of(event, app.slug("pausable")) for event in held) == ["Scheduled"] * 2
    finally:
        resumed = time.time()
        assert post(app, f"{function}/resume")["paused"] is None
    assert statuses(runs_of(app, held, "pausable")) == ["Completed", "Completed"]
    begun = [span for span in spans(app.log(key)) if span.n != 0 and span.part == "first"]
    assert sorted(span.n for span in begun) == [1, 2]
    assert min(span.begin for span in begun) > resumed - EARLY_S


@on_both
@side_by_side
def test_paused_function_skips_new_runs_if_told_so(app: App) -> None:
    key, function = new_key(), f"/v1/functions/{app.slug('pausable')}"
    [under_way] = send(app, "pausable", key, {"n": 0, "sleep": 0.6})
    worked(app, key, 1)
    try:
        assert post(app, f"{function}/pause", {"mode": "skip"})["paused"] == "skip"
        skipped = send(app, "pausable", key, {"n": 1}, {"n": 2})
        assert statuses(runs_of(app, skipped, "pausable")) == ["Skipped", "Skipped"]
        assert statuses(runs_of(app, [under_way], "pausable")) == ["Completed"]
    finally:
        post(app, f"{function}/resume")
    [after] = send(app, "pausable", key, {"n": 3})
    assert statuses(runs_of(app, [after], "pausable")) == ["Completed"]
    assert {span.n for span in spans(app.log(key))} == {0, 3}


@on_both
@side_by_side
def test_caller_is_told_that_the_function_it_invokes_is_paused(app: App) -> None:
    key, function = new_key(), f"/v1/functions/{app.slug('pausable')}"
    try:
        post(app, f"{function}/pause", {"mode": "skip"})
        [event] = send(app, "call", key, {"function": "pausable"})
        [run] = runs_of(app, [event], "call")
    finally:
        post(app, f"{function}/resume")
    assert run["output"] == {"name": "Error", "message": "invoked function was skipped: FunctionPaused"}
    assert spans(app.log(key)) == []


@on_both
@side_by_side
def test_limit_that_is_set_at_run_time_holds_and_survives_a_sync(app: App) -> None:
    key, function = new_key(), f"/v1/functions/{app.slug('adjusted')}"
    shown = post(app, f"{function}/overrides", {"concurrency": 1}, "PUT")
    assert (shown["overrides"], "concurrency" in shown["config"]) == ({"concurrency": 1}, False)
    assert app.sync().status_code == 200
    send(app, "adjusted", key, *({"n": n} for n in range(3)))
    assert most_at_once(worked(app, key, 6)) == 1
    assert post(app, f"{function}/overrides", method="DELETE")["overrides"] is None
    other = new_key()
    send(app, "adjusted", other, *({"n": n, "seconds": 0.5} for n in range(3)))
    assert most_at_once(worked(app, other, 6)) == 3


@on_both
@side_by_side
def test_runs_are_cancelled_in_bulk_by_function_time_and_condition(app: App) -> None:
    key = new_key()
    [before] = send(app, "bulk", key, {"n": 0, "sleep": 2.5})
    time.sleep(0.2)
    since = now()
    events = send(app, "bulk", key, *({"n": n, "sleep": 2.5} for n in range(1, 5)))
    [elsewhere] = send(app, "pausable", key, {"n": 9, "sleep": 2.5})
    worked(app, key, 6)
    wanted = {
        "app_id": app.app_id,
        "function_id": app.slug("bulk"),
        "started_after": since,
        "started_before": now(),
        "if": f"event.data.key == '{key}' && event.data.n != 3",
    }
    job = post(app, "/v1/cancellations", wanted)
    assert (job["function_id"], job["if"]) == (app.slug("bulk"), wanted["if"])
    over = until(
        "the end of the job",
        lambda: (
            shown
            if (shown := app.server.http.get(f"/v1/cancellations/{job['id']}").json()["data"])["ended_at"]
            else None
        ),
    )
    assert (over["seen"], over["done"]) == (4, 3)
    listed = app.server.http.get("/v1/cancellations").json()["data"]
    assert job["id"] in [one["id"] for one in listed]
    found = runs_of(app, [before, *events], "bulk")
    assert statuses(found) == ["Completed", "Cancelled", "Cancelled", "Completed", "Cancelled"]
    assert statuses(runs_of(app, [elsewhere], "pausable")) == ["Completed"]
    assert {span.n for span in spans(app.log(key)) if span.part == "second"} == {0, 3, 9}


@on_both
@side_by_side
def test_runs_that_are_held_are_cancelled_in_bulk_and_never_begin(app: App) -> None:
    key, function = new_key(), f"/v1/functions/{app.slug('bulk')}"
    try:
        post(app, f"{function}/pause")
        held = send(app, "bulk", key, {"n": 0}, {"n": 1})
        time.sleep(0.3)
        wanted = {
            "function_id": app.slug("bulk"),
            "started_before": now(),
            "if": f"event.data.key == '{key}'",
        }
        post(app, "/v1/cancellations", wanted)
        assert statuses(runs_of(app, held, "bulk")) == ["Cancelled", "Cancelled"]
    finally:
        post(app, f"{function}/resume")
    time.sleep(0.4)
    assert spans(app.log(key)) == []


@on_both
def test_schedules_are_registered_as_written(app: App) -> None:
    function = post(app, f"/v1/functions/{app.slug('scheduled')}", method="GET")
    assert function["config"]["triggers"] == [
        {"cron": "TZ=Europe/Paris 0 9 * * 1-5", "jitter": "30s"},
        {"cron": "*/10 3 1 1 *"},
    ]


@pytest.fixture
def ticking(app: App, apps: Callable[[str], App]) -> Iterator[App]:
    """The app of the same SDK with a schedule, archived afterwards."""
    cron = apps(f"{app.app_id}-cron")
    assert cron.sync().status_code == 200
    yield cron
    cron.server.http.delete(f"/v1/apps/{cron.app_id}")


def ticks(app: App) -> list[dict[str, Any]]:
    return app.log("every-second").notes


@on_both
def test_schedule_of_every_second_fires_once_a_second_until_its_app_is_archived(ticking: App) -> None:
    until("four ticks", lambda: len(ticks(ticking)) >= 4, 8)
    assert ticking.server.http.delete(f"/v1/apps/{ticking.app_id}").status_code == 200
    time.sleep(0.3)
    seen = ticks(ticking)
    assert {tick["event"] for tick in seen} == {"inngest/scheduled.timer"}
    assert {tick["data"]["cron"] for tick in seen} == {"* * * * * *"}
    due = [
        datetime.fromisoformat(tick["data"]["scheduledAt"].replace("Z", "+00:00")).timestamp()
        for tick in seen
    ]
    assert due == [due[0] + n for n in range(len(due))]
    late = [tick["at"] - at for tick, at in zip(seen, due, strict=True)]
    assert all(-EARLY_S < seconds < 1 for seconds in late), late
    time.sleep(1.5)
    assert len(ticks(ticking)) == len(seen)


def test_schedule_that_is_changed_takes_effect_at_the_next_sync(
    scripted: Callable[..., Scripted], server: Server
) -> None:
    def answer(call: Call) -> Answer:
        return Answer(200, None)

    every_second, once_a_year = "* * * * * *", "0 0 1 1 *"
    fn = scripted(answer, triggers=[{"cron": once_a_year}])
    time.sleep(1.2)
    assert fn.calls == []

    def sync(*crons: str) -> None:
        triggers = [{"cron": cron} for cron in crons]
        config = function_config(fn.app, fn.slug, url=f"{fn.app.origin}/{fn.slug}", triggers=triggers)
        register(server, fn.app, fn.slug, [config], url=f"{fn.app.origin}/{fn.slug}")

    sync(once_a_year, every_second)
    until("two ticks", lambda: len(fn.calls) >= 2, 6)
    sync(once_a_year, every_second)
    before = len(fn.calls)
    until("a tick after a sync that changes nothing", lambda: len(fn.calls) > before, 3)
    sync(once_a_year)
    time.sleep(0.2)
    seen = len(fn.calls)
    time.sleep(1.5)
    assert len(fn.calls) == seen
    assert len({int(call.at) for call in fn.calls}) == seen, "once a second, over all syncs"

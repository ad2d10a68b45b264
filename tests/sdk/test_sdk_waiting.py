"""Sleeps, waits for events, and cancellation of what sleeps or runs."""

from __future__ import annotations

import base64
import secrets
import time

import pytest

from tests.sdk.driver import App, Sent


def test_sleep(app: App) -> None:
    run = app.run_among_peers("sleep")
    assert (run.status, run.output) == ("Completed", "rested")
    assert run.log.steps() == ["before", "after"]
    assert 0.9 < run.log.at("after")[0] - run.log.at("before")[0] < 2.5
    assert len(run.log.calls) == (2 if app.checkpoints else 4)


def test_sleep_until(app: App) -> None:
    until = time.time() + 1.3
    run = app.run("sleep-until", until=until)
    assert (run.status, run.output) == ("Completed", "rested")
    assert until - 0.01 < run.log.at("after")[0] < until + 1.2


def test_sleep_until_the_past_goes_on_at_once(app: App) -> None:
    started = time.time()
    run = app.run("sleep-until", until=started - 3600)
    assert run.status == "Completed"
    assert run.log.at("after")[0] < started + 2


def answer(app: App, sent: Sent, seed_shift_s: float | None = None, **data: object) -> str:
    """Send the event that `wait` of this app waits for; with a seed of a clock that is wrong by some seconds."""
    headers = {}
    if seed_shift_s is not None:
        millis = int((time.time() + seed_shift_s) * 1000)
        entropy = base64.b64encode(secrets.token_bytes(10)).decode()
        headers["x-inngest-event-id-seed"] = f"{millis},{entropy}"
    event = {"name": f"{app.app_id}/answer", "data": {"key": sent.key, **data}}
    return app.server.send(event, headers=headers)[0]


def test_wait_takes_the_first_event_that_matches(app: App) -> None:
    sent = app.trigger("wait")
    app.paused(sent, "WaitForEvent")
    answer(app, Sent("of-another", ""), n=1)
    app.server.send({"name": f"{app.app_id}/other", "data": {"key": sent.key, "n": 2}})
    time.sleep(0.2)
    matching = answer(app, sent, n=3)
    answer(app, sent, n=4)
    run = app.wait(sent, "wait")
    assert run.status == "Completed"
    assert run.output["data"] == {"key": sent.key, "n": 3}
    assert run.output["name"] == f"{app.app_id}/answer"
    assert run.output["id"] == matching
    assert run.output["ts"] > 0


@pytest.mark.apps("js", "js-plain", "js-stream", "js3", "js3-wait")
def test_wait_by_match(app: App) -> None:
    sent = app.trigger("wait-match")
    app.paused(sent, "WaitForEvent")
    answer(app, Sent("of-another", ""), n=1)
    answer(app, sent, n=3)
    run = app.wait(sent, "wait-match")
    assert (run.status, run.output["data"]["n"]) == ("Completed", 3)


def test_wait_times_out(app: App) -> None:
    run = app.run_among_peers("wait", timeout=1)
    assert (run.status, run.output) == ("Completed", None)
    assert 0.9 < run.log.calls[-1]["at"] - run.log.calls[0]["at"] < 2.5


def wait_briefly(app: App, key: str) -> Sent:
    """Start `wait` with a timeout of one second and a given key."""
    ids = app.server.send({"name": f"{app.app_id}/wait", "data": {"key": key, "timeout": 1}})
    return Sent(key, ids[0])


@pytest.mark.apps("fastapi", "js", "js3")
@pytest.mark.parametrize(
    "shift", [None, -600.0, 600.0], ids=["now", "clock-10-min-behind", "clock-10-min-ahead"]
)
def test_event_sent_before_the_wait_is_lost(app: App, shift: float | None) -> None:
    key = secrets.token_hex(8)
    answer(app, Sent(key, ""), shift, n=1)
    sent = wait_briefly(app, key)
    run = app.wait(sent, "wait")
    assert (run.status, run.output) == ("Completed", None)


@pytest.mark.apps("fastapi", "flask", "js", "js3")
def test_event_sent_while_an_earlier_step_runs_is_lost(app: App) -> None:
    sent = app.trigger("wait-later")
    app.saw(sent.key, "the slow step", lambda log: "slow" in log.steps())
    answer(app, sent, n=1)
    run = app.wait(sent, "wait-later")
    assert (run.status, run.output) == ("Completed", None)


@pytest.mark.apps("fastapi", "js", "js3")
@pytest.mark.parametrize("shift", [-600.0, 600.0], ids=["clock-10-min-behind", "clock-10-min-ahead"])
def test_what_the_senders_clock_says_does_not_matter(app: App, shift: float) -> None:
    sent = app.trigger("wait")
    app.paused(sent, "WaitForEvent")
    answer(app, sent, shift, n=5)
    run = app.wait(sent, "wait")
    assert run.status == "Completed"
    assert run.output is not None
    assert run.output["data"]["n"] == 5


@pytest.mark.apps("fastapi", "js")
def test_one_event_resumes_all_that_wait_for_it(app: App) -> None:
    first = app.trigger("wait")
    second = Sent(first.key, app.server.send({"name": f"{app.app_id}/wait", "data": {"key": first.key}})[0])
    app.saw(first.key, "two waits", lambda log: log.ops().count("WaitForEvent") == 2)
    time.sleep(0.25)
    matching = answer(app, first, n=6)
    assert [app.wait(sent, "wait").output["id"] for sent in (first, second)] == [matching, matching]


def test_cancel_while_sleeping(app: App) -> None:
    sent = app.trigger("sleep", seconds=1)
    app.paused(sent, "Sleep")
    run = app.server.run_of(sent.event_id, app.slug("sleep"))
    assert run["status"] == "Running"
    assert app.server.cancel(run["run_id"]) in {200, 204}
    ended = app.wait(sent, "sleep")
    assert ended.status == "Cancelled"
    time.sleep(1.1)
    assert app.log(sent.key).steps() == ["before"]


def test_cancel_while_a_step_runs(app: App) -> None:
    sent = app.trigger("slow-step", seconds=0.6)
    app.saw(sent.key, "the slow step", lambda log: "slow" in log.steps())
    run = app.server.run_of(sent.event_id, app.slug("slow-step"))
    assert app.server.cancel(run["run_id"]) in {200, 204}
    assert app.server.run(run["run_id"])["status"] == "Cancelled"
    time.sleep(0.9)
    log = app.log(sent.key)
    assert log.steps() == ["slow"]
    assert len(log.calls) == 1
    assert app.server.run(run["run_id"])["status"] == "Cancelled"


@pytest.mark.apps("fastapi")
def test_cancelling_again_or_after_the_end_changes_nothing(app: App) -> None:
    ended = app.run("no-steps")
    assert app.server.cancel(ended.run_id) in {200, 204}
    assert app.server.run(ended.run_id)["status"] == "Completed"
    assert app.server.cancel("01M86GK8V62YF2MX9KZ505TM13") == 404
    assert app.server.cancel("not-an-id") == 400

"""What only Perdure's own SDK has, or has in its own way: signals, fetch, timeouts, groups that fail."""

from __future__ import annotations

import time

import pytest

from tests.sdk.driver import App

pytestmark = pytest.mark.apps(
    "own", "own-sync", "own-connect", "own-connect-sync", "own-plain", "own-embedded", "own-embedded-sync"
)


def test_a_signal_wakes_the_run_that_waits_for_it(app: App) -> None:
    waiting = app.trigger("wait-for-signal")
    app.paused(waiting, "WaitForSignal")
    sender = app.run("send-signal", signal=waiting.key)
    woken = app.wait(waiting, "wait-for-signal")
    assert (woken.status, woken.output) == ("Completed", [waiting.key, {"n": 7}])
    assert sender.output == woken.run_id
    assert app.run("send-signal", signal="nobody waits").output is None


def test_fetch_brings_the_response_whatever_its_status(app: App) -> None:
    run = app.run("fetch", url=f"{app.process.url}/log")
    assert run.status == "Completed"
    assert run.output[0] == 422, "the log route misses its parameter"
    assert "key" in run.output[1]


@pytest.mark.apps("own", "own-connect")
def test_a_step_that_a_timeout_cancels_fails_its_attempts_and_the_handler_sees_a_timeout(app: App) -> None:
    run = app.run("timeout")
    assert (run.status, run.output) == ("Completed", "too slow")
    assert run.log.steps() == ["slow", "slow", "instead"]


@pytest.mark.apps("own", "own-connect")
def test_a_failing_sibling_in_a_group_is_caught_and_the_run_goes_on(app: App) -> None:
    run = app.run("failing-sibling")
    assert (run.status, run.output) == ("Completed", ["ValueError", "rescued"])
    assert run.log.steps().count("rescue") == 1


def test_lookback_takes_an_event_that_came_before_the_wait(app: App) -> None:
    sent = app.trigger("looking-back")
    app.saw(sent.key, "the slow step", lambda log: "slow" in log.steps())
    app.server.send({"name": f"{app.app_id}/answer", "data": {"key": sent.key, "n": 1}})
    run = app.wait(sent, "looking-back")
    assert (run.status, run.output["n"]) == ("Completed", 1)


@pytest.mark.apps(
    "own", "own-sync", "own-flask", "own-connect", "own-connect-sync", "own-embedded", "own-embedded-sync"
)
def test_types_survive_steps_invokes_and_events(app: App) -> None:
    run = app.run("typed")
    assert run.status == "Completed", run.output
    assert run.output["same"] is True
    time.sleep(0)

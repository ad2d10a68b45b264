"""Processes are killed (SIGKILL) at the moments that lose work. The old way loses the call, this way finishes it.

For each moment the same is done to both ways. What an app without a job server has forgotten, no time brings back; the
tests look at it for longer than this way took to finish.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.example.conftest import Gemini, Said
from tests.example.processes import (
    OLD_WAY,
    THIS_WAY,
    Deployment,
    Gate,
    deployed,
    upload_and_forget,
)

pytestmark = pytest.mark.slow

Kill = Callable[[Deployment], str]


def slow(gemini: Gemini, seconds: float, times: int = 1) -> None:
    """Gemini takes so long to answer these times, and says something useless then."""
    gemini.say(*(Said({}, after=seconds) for _ in range(times)))


def kill_after_response(deployment: Deployment) -> str:
    """Upload, and kill the app as soon as it has answered."""
    slow(deployment.gemini, 3)
    call_id = deployment.upload()
    deployment.app.kill()
    return call_id


def kill_in_the_middle(deployment: Deployment) -> str:
    """Upload, and kill the app while Gemini is thinking."""
    slow(deployment.gemini, 60)
    call_id = deployment.upload()
    deployment.asked(1)
    deployment.app.kill()
    return call_id


@pytest.mark.parametrize("kill", [kill_after_response, kill_in_the_middle])
def test_the_app_is_killed(tmp_path: Path, gemini: Gemini, kill: Kill) -> None:
    with deployed(tmp_path / "new", gemini, THIS_WAY) as this_way:
        this_way.start()
        call_id = kill(this_way)
        this_way.start_app()
        seconds = this_way.completed(call_id)
        this_way.ran_once(call_id)
    with deployed(tmp_path / "old", gemini, OLD_WAY) as old_way:
        old_way.start_app()
        call_id = kill(old_way)
        left = old_way.status(call_id)
        assert left in ("pending", "parsing")
        asked = len(gemini.requests)
        old_way.start_app()
        # Whoever would finish it would ask Gemini or change the record. Nobody does.
        time.sleep(seconds + 2)
        assert (old_way.status(call_id), len(gemini.requests)) == (left, asked)


def test_a_host_kills_each_worker_after_its_response(tmp_path: Path, gemini: Gemini) -> None:
    gemini.say()
    texts = [f"Buyer: Delivery {number} was late." for number in range(4)]
    with deployed(tmp_path / "new", gemini, THIS_WAY, on_serverless_host=True) as this_way:
        this_way.start()
        calls = [this_way.upload(text) for text in texts]
        seconds = this_way.completed(*calls, seconds=150)
    slow(gemini, 1, len(texts))
    with deployed(tmp_path / "old", gemini, OLD_WAY, on_serverless_host=True) as old_way:
        old_way.start_app()
        calls = [old_way.upload(text) for text in texts]
        time.sleep(min(seconds, 20))
        left = {old_way.status(call_id) for call_id in calls}
        assert left <= {"pending", "parsing"}


@pytest.mark.parametrize("arrives", [False, True], ids=["before the event is out", "before its answer is in"])
def test_the_app_is_killed_between_storing_and_sending(tmp_path: Path, gemini: Gemini, arrives: bool) -> None:
    gemini.say()
    with deployed(tmp_path / "tracker", gemini) as tracker:
        gate = Gate(tracker.app.environment["PERDURE_URL"], arrives, tracker.app.kill)
        direct = tracker.app.environment["PERDURE_URL"]
        try:
            tracker.start()
            tracker.app.kill()
            tracker.app.environment["PERDURE_URL"] = gate.url
            tracker.start_app()
            upload_and_forget(tracker)
        finally:
            gate.close()
        assert len(gate.events) == 1
        (call,) = tracker.records.unfinished(float("inf"))
        assert (call.status, call.sent_at) == ("pending", None)
        tracker.app.environment["PERDURE_URL"] = direct
        tracker.start_app()
        tracker.completed(call.id)
        # Sent twice or once, the job has run once.
        tracker.ran_once(call.id)
        assert len(gemini.requests) == 1


@pytest.mark.parametrize("app_too", [False, True], ids=["the app lives", "the app is killed too"])
def test_the_server_is_down_at_the_upload(tmp_path: Path, gemini: Gemini, app_too: bool) -> None:
    gemini.say()
    with deployed(tmp_path / "tracker", gemini) as tracker:
        tracker.start()
        tracker.server.kill()
        calls = [tracker.upload("Buyer: One."), tracker.upload("Buyer: Two.")]
        assert [tracker.status(call_id) for call_id in calls] == ["pending", "pending"]
        if app_too:
            tracker.app.kill()
            tracker.start_app()
        tracker.start_server()
        tracker.completed(*calls)
        assert len(gemini.requests) == 2


@pytest.mark.parametrize("app_too", [False, True], ids=["the app lives", "the app is killed too"])
def test_the_server_is_killed_in_the_middle(tmp_path: Path, gemini: Gemini, app_too: bool) -> None:
    slow(gemini, 4)
    with deployed(tmp_path / "tracker", gemini) as tracker:
        tracker.start()
        call_id = tracker.upload()
        tracker.asked(1)
        assert tracker.status(call_id) == "parsing"
        tracker.server.kill()
        if app_too:
            tracker.app.kill()
            tracker.start_app()
        tracker.start_server()
        tracker.completed(call_id)
        tracker.ran_once(call_id)


def test_the_server_loses_all_its_data_in_the_middle(tmp_path: Path, gemini: Gemini) -> None:
    slow(gemini, 60)
    with deployed(tmp_path / "tracker", gemini) as tracker:
        tracker.start()
        call_id = tracker.upload()
        tracker.asked(1)
        tracker.server.kill()
        tracker.app.kill()
        # The sweep at the app's start is for calls that have not changed for a while.
        time.sleep(float(tracker.app.environment["TRACKER_STUCK_AFTER"]))
        tracker.start_with_new_server()
        tracker.completed(call_id)

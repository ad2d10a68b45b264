"""No call waits for ever: the server is down at the upload, or the app dies around the sending of its event."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.example.conftest import TRANSCRIPT, Gemini, Running, Said, Starter
from tests.sdk.driver import Server, free_port, until


def stored(app: Running, transcript: str = TRANSCRIPT) -> str:
    """A call as a process leaves it that was killed after the commit and before the send."""
    call_id = app.records.add_call(app.records.opportunity_named("Killed"), "Killed", transcript)
    assert call_id is not None
    return call_id


def age(app: Running, call_id: str, seconds: float) -> None:
    """Make a call look as if nothing had happened to it for so long."""
    call = app.records.call(call_id)
    assert call is not None
    assert app.records._update(call_id, call.tries, changed_at=app.records.now() - seconds)


def runs(server: Server, app: Running, call_id: str) -> int:
    """How many runs the events of a call have started, whichever of its events was recorded."""
    events = [
        event for event in server.events("call/transcript.uploaded") if event["data"]["call_id"] == call_id
    ]
    return sum(len(server.runs(event["internal_id"])) for event in events)


def test_a_server_that_is_down_at_the_upload(tmp_path: Path, start: Starter, fresh_gemini: Gemini) -> None:
    port = free_port()
    app = start(
        f"http://127.0.0.1:{port}",
        database_url=f"sqlite:///{tmp_path / 'tracker.db'}",
        send_timeout=0.3,
        stuck_after=1.0,
    )
    answer = app.http.post("/api/calls", json={"transcript": TRANSCRIPT})
    assert answer.status_code == 202
    assert answer.json()["status"] == "pending"
    assert answer.json()["event_id"] is None
    call_id = answer.json()["id"]
    server = Server.start(tmp_path / "server", port=port)
    try:
        app.register()
        call = app.settled(call_id, "completed")
        assert call["tries"] == 1
        assert runs(server, app, call_id) == 1
    finally:
        server.stop()
        app.stop()


def test_killed_between_commit_and_send(app: Running, server: Server, fresh_gemini: Gemini) -> None:
    call_id = stored(app)
    app.settled(call_id, "completed")
    assert runs(server, app, call_id) == 1


def test_killed_between_send_and_writing_it_down(app: Running, server: Server, fresh_gemini: Gemini) -> None:
    call_id = stored(app)
    event = {"name": "call/transcript.uploaded", "id": f"call-{call_id}-1"}
    server.send({**event, "data": {"call_id": call_id, "try_number": 1}})
    app.settled(call_id, "completed")
    # The app has sent it again, or does so now: either way one run.
    server.send({**event, "data": {"call_id": call_id, "try_number": 1}})
    assert until("the runs", lambda: runs(server, app, call_id)) == 1
    assert len(fresh_gemini.requests) == 1


@pytest.mark.parametrize("status", ["pending", "parsing"])
async def test_the_sweep_at_the_start_sends_old_ones_again(
    app: Running, server: Server, fresh_gemini: Gemini, status: str
) -> None:
    """As after a loss of the server's data: the events were sent, and nothing knows of them any more."""
    old, young = stored(app), stored(app)
    for call_id in (old, young):
        app.records.sent(call_id, 1, "01JDZZZZZZZZZZZZZZZZZZZZZZ")
        app.records._update(call_id, 1, status=status)
    age(app, old, 61)
    age(app, young, 30)
    before = {call_id: app.call(call_id)["status"] for call_id in (old, young)}
    assert set(before.values()) == {status}
    assert await app.tracker.sender.sweep() == 1
    app.settled(old, "completed")
    assert app.call(young)["status"] == status
    assert runs(server, app, young) == 0


async def test_the_sweep_starts_nothing_twice(app: Running, server: Server, fresh_gemini: Gemini) -> None:
    call_id = app.upload()
    app.settled(call_id, "completed")
    app.records._update(call_id, 1, status="parsing")
    age(app, call_id, 61)
    assert await app.tracker.sender.sweep() >= 1
    # The server has the event already; nothing runs a second time.
    assert runs(server, app, call_id) == 1
    assert app.call(call_id)["status"] == "parsing"
    app.records._update(call_id, 1, status="completed")


def test_each_try_is_an_event_of_its_own(app: Running, server: Server, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(Said({"promptFeedback": {"blockReason": "SAFETY"}}))
    call_id = app.upload()
    app.settled(call_id, "failed")
    app.http.post(f"/api/calls/{call_id}/retry")
    app.settled(call_id, "completed")
    names = {
        event["id"]
        for event in server.events("call/transcript.uploaded")
        if event["data"]["call_id"] == call_id
    }
    assert names == {f"call-{call_id}-1", f"call-{call_id}-2"}

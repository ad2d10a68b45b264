"""The mend script tells a stuck call from one in work by asking the server, and re-drives or marks what is stuck."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from examples.opportunity_tracker import mend_calls
from examples.opportunity_tracker.mend_calls import Mender, ServerError
from examples.opportunity_tracker.settings import Settings
from examples.opportunity_tracker.tracker import Tracker
from tests.example.conftest import SUMMARY, TRANSCRIPT, Gemini, Running, Said, Starter, candidate
from tests.sdk.driver import Server, free_port, until

REFUSES = Said({"promptFeedback": {"blockReason": "SAFETY"}})
UNKNOWN_EVENT = "01JDZZZZZZZZZZZZZZZZZZZZZZ"


@pytest.fixture(scope="module")
def app(start: Starter) -> Running:
    """An app that does not send again by itself, so that what is stuck stays so."""
    return start(resend_every=3600.0)


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


async def mend(
    app: Running, http: httpx2.AsyncClient, call_id: str, mark: bool = False, dry: bool = False
) -> str:
    """What was done with a call that has not changed for 61 seconds."""
    call = app.records.call(call_id)
    assert call is not None
    app.records._update(call_id, call.tries, changed_at=app.records.now() - 61)
    findings = await Mender(app.tracker, http, mark, dry).mend(60)
    return next(str(finding) for finding in findings if finding.call_id == call_id)


def stored(app: Running, **columns: object) -> str:
    """A call that nobody works on, with these columns."""
    call_id = app.records.add_call(app.records.opportunity_named("Mended"), "Mended", TRANSCRIPT)
    assert call_id is not None
    if columns:
        app.records._update(call_id, 1, **columns)
    return call_id


async def test_a_call_in_work_is_left_alone(
    app: Running, fresh_gemini: Gemini, http: httpx2.AsyncClient
) -> None:
    fresh_gemini.say(Said(candidate("{}"), after=2.0))
    call_id = app.upload()
    until("the second step", lambda: fresh_gemini.requests)
    said = await mend(app, http, call_id)
    assert f"call {call_id} (parsing): run {app.call(call_id)['run_id']} is running; left alone" == said
    assert (await mend(app, http, call_id, mark=True)).endswith("left alone")
    assert app.settled(call_id, "completed")["tries"] == 1


async def test_a_call_whose_event_was_never_sent(
    app: Running, fresh_gemini: Gemini, http: httpx2.AsyncClient
) -> None:
    call_id = stored(app)
    said = await mend(app, http, call_id)
    assert said == f"call {call_id} (pending): its event has not reached the server; sent again"
    assert app.settled(call_id, "completed")["tries"] == 1


@pytest.mark.parametrize("status", ["pending", "parsing"])
async def test_a_call_of_which_the_server_has_no_run(
    app: Running, fresh_gemini: Gemini, http: httpx2.AsyncClient, status: str
) -> None:
    call_id = stored(app, status=status, sent_at=1.0, event_id=UNKNOWN_EVENT, run_id=UNKNOWN_EVENT)
    said = await mend(app, http, call_id)
    assert said == f"call {call_id} ({status}): the server has its event and no run of it; sent again"
    assert app.settled(call_id, "completed")["tries"] == 2


async def test_a_call_whose_run_has_failed(
    app: Running, fresh_gemini: Gemini, http: httpx2.AsyncClient
) -> None:
    fresh_gemini.say(REFUSES)
    call_id = app.upload()
    app.settled(call_id, "failed")
    app.records._update(call_id, 1, status="parsing", error=None)
    assert (await mend(app, http, call_id)).endswith("has ended as failed; marked as failed")
    call = app.settled(call_id, "failed")
    assert "Gemini refused to parse this transcript" in call["error"]


async def test_a_call_whose_run_was_cancelled(
    app: Running, server: Server, fresh_gemini: Gemini, http: httpx2.AsyncClient
) -> None:
    fresh_gemini.say(*(Said(candidate("{}"), 503) for _ in range(4)))
    call_id = app.upload()
    run_id = until("the run", lambda: app.call(call_id)["run_id"])
    assert server.cancel(run_id) in (200, 202, 204)
    server.ended(run_id)
    assert app.call(call_id)["status"] == "parsing"
    assert (await mend(app, http, call_id)).endswith("has ended as cancelled; marked as failed")
    assert app.settled(call_id, "failed")["error"].startswith("Its run was cancelled")


async def test_a_call_whose_run_has_a_result(
    app: Running, fresh_gemini: Gemini, http: httpx2.AsyncClient
) -> None:
    call_id = app.upload(opportunity="Restored")
    app.settled(call_id, "completed")
    # As after a backup of the database, from before the result, was put back.
    until("the end of the run", lambda: app.history(app.call(call_id)["opportunity_id"])["calls_parsed"])
    app.records._update(call_id, 1, status="parsing", summary=None)
    until("the end", lambda: "Completed" in str(app.tracker and _runs(app, call_id)))
    assert (await mend(app, http, call_id)).endswith("saved its result: completed")
    assert app.call(call_id)["summary"] == SUMMARY


def _runs(app: Running, call_id: str) -> str:
    url = app.tracker.jobs.settings.api_url
    return httpx2.get(f"{url}/v1/runs/{app.call(call_id)['run_id']}").text


async def test_marking_instead_of_sending(
    app: Running, fresh_gemini: Gemini, http: httpx2.AsyncClient
) -> None:
    call_id = stored(app)
    assert (await mend(app, http, call_id, mark=True)).endswith("marked as failed")
    assert app.call(call_id)["status"] == "failed"
    assert "Retry parsing" in app.http.get(f"/calls/{call_id}").text


@pytest.mark.parametrize("mark", [False, True])
async def test_a_dry_run_changes_nothing(app: Running, http: httpx2.AsyncClient, mark: bool) -> None:
    call_id = stored(app)
    said = await mend(app, http, call_id, mark=mark, dry=True)
    assert "(dry run)" in said
    assert app.call(call_id)["status"] == "pending"
    app.records.fail(call_id, 1, "done with it")


async def test_young_calls_are_not_looked_at(app: Running, http: httpx2.AsyncClient) -> None:
    call_id = stored(app)
    assert [one for one in await Mender(app.tracker, http).mend(60) if one.call_id == call_id] == []
    app.records.fail(call_id, 1, "done with it")


async def test_a_server_that_is_down_changes_nothing(
    app: Running, http: httpx2.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_id = stored(app, sent_at=1.0, event_id=UNKNOWN_EVENT, changed_at=1.0)
    monkeypatch.setenv("PERDURE_URL", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServerError, match="cannot be reached"):
        await Mender(Tracker(dataclasses.replace(settings)), http).mend(60)
    assert app.call(call_id)["status"] == "pending"
    app.records.fail(call_id, 1, "done with it")


@pytest.mark.parametrize("arguments", [[], ["--dry-run"], ["--mark"]])
def test_the_command(
    app: Running,
    fresh_gemini: Gemini,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.setenv("DATABASE_URL", app.settings.database_url)
    monkeypatch.setenv("PERDURE_URL", app.tracker.jobs.settings.api_url)
    call_id = stored(app, changed_at=1.0)
    assert mend_calls.main(arguments) == 0
    expected = {"": "sent again", "--dry-run": "would be sent again", "--mark": "marked as failed"}
    assert expected["".join(arguments)] in capsys.readouterr().out
    if not arguments:
        app.settled(call_id, "completed")
    app.records.fail(call_id, 1, "done with it")
    assert mend_calls.main(["--older-than", "1000"]) == 0


def test_the_command_without_a_server(
    app: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", app.settings.database_url)
    monkeypatch.setenv("PERDURE_URL", f"http://127.0.0.1:{free_port()}")
    call_id = stored(app, sent_at=1.0, event_id=UNKNOWN_EVENT, changed_at=1.0)
    assert mend_calls.main([]) == 1
    assert "cannot be reached" in capsys.readouterr().err
    app.records.fail(call_id, 1, "done with it")


@pytest.mark.parametrize("url", ["nonsense", "mysql://localhost/x"])
def test_the_command_without_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    assert mend_calls.main([]) == 1
    assert "DATABASE_URL" in capsys.readouterr().err


async def test_a_server_with_keys(
    start: Starter, tmp_path: Path, fresh_gemini: Gemini, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script proves who it is by the app's own signing key, and the job runs signed from end to end."""
    key = "signkey-test-" + "ab" * 32
    server = Server.start(tmp_path / "server", "--signing-key", key, "--event-key", "secret")
    monkeypatch.setenv("PERDURE_EVENT_KEY", "secret")
    app = start(
        server.url, database_url=f"sqlite:///{tmp_path / 'tracker.db'}", resend_every=3600.0, signing_key=key
    )
    try:
        app.register()
        fresh_gemini.say(Said(candidate("{}"), after=2.0))
        call_id = app.upload()
        until("the second step", lambda: fresh_gemini.requests)
        async with httpx2.AsyncClient(timeout=20) as http:
            assert "is running; left alone" in await mend(app, http, call_id)
        app.settled(call_id, "completed")
    finally:
        app.stop()
        server.stop()

"""The example's jobs under `perdure.testing`: no server, no Gemini, no mail server, no waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.opportunity_tracker.database import Database
from examples.opportunity_tracker.jobs import EmailWanted, TranscriptUploaded, make_jobs
from examples.opportunity_tracker.records import Records
from examples.opportunity_tracker.settings import Settings
from examples.opportunity_tracker.summary import CallSummary
from perdure.testing import SyncServer, replay_export
from tests.example.conftest import SUMMARY, TRANSCRIPT

FOUND = CallSummary.model_validate(SUMMARY)
PARSE = "parse-transcript"


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    database = Database(f"sqlite:///{tmp_path / 'tracker.db'}")
    yield Records(database)
    database.close()


@pytest.fixture
def jobs(records: Records) -> Iterator[SyncServer]:
    with SyncServer(make_jobs(Settings(), records)) as server:
        yield server


@pytest.fixture
def call_id(records: Records) -> str:
    made = records.add_call(records.opportunity_named("Acme"), "First call", TRANSCRIPT)
    assert made is not None
    return made


def test_a_transcript(jobs: SyncServer, records: Records, call_id: str) -> None:
    asked = jobs.mock_step(PARSE, PARSE, returns=FOUND)
    (run,) = jobs.send(TranscriptUploaded(call_id=call_id))
    assert run.output == FOUND
    run.assert_steps("update-status-parsing", PARSE, "save-results", "update-opportunity-history")
    call = records.call(call_id)
    assert call is not None
    assert (call.status, len(asked.calls)) == ("completed", 1)


def test_gemini_fails_twice(jobs: SyncServer, records: Records, call_id: str) -> None:
    jobs.mock_step(PARSE, PARSE, returns=FOUND)
    jobs.fail_step(PARSE, PARSE, times=2, error=ConnectionError("no line to Gemini"))
    (run,) = jobs.send(TranscriptUploaded(call_id=call_id))
    jobs.finish(run)
    assert len(run.step(PARSE).attempts) == 3
    assert len(run.step("update-status-parsing").attempts) == 1, "it is not run again"
    assert run.output == FOUND


def test_gemini_fails_for_good(jobs: SyncServer, records: Records, call_id: str) -> None:
    jobs.mock_step(PARSE, PARSE, raises=ConnectionError("no line to Gemini"))
    (run,) = jobs.send(TranscriptUploaded(call_id=call_id))
    jobs.finish(run)
    run.assert_failed(ConnectionError)
    call = records.call(call_id)
    assert call is not None
    assert (call.status, call.error) == ("failed", "no line to Gemini")


def test_a_recorded_run_is_replayed(jobs: SyncServer, records: Records, call_id: str) -> None:
    jobs.mock_step(PARSE, PARSE, returns=FOUND)
    (run,) = jobs.send(TranscriptUploaded(call_id=call_id))
    replay_export(run.export(), make_jobs(Settings(), records)).assert_same()


def test_an_email(jobs: SyncServer) -> None:
    mail = jobs.mock_step("send-email", "send-email", returns="<id@example.com>")
    jobs.send(EmailWanted(to="ann@example.com", subject="Hello", body="…"))
    ((_, *sent, _),) = [asked.args for asked in mail.calls]
    assert sent == ["ann@example.com", "Hello", "…"]

"""The example app by itself, driven over the protocol by a caller of a few lines, without any server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from examples.call_transcripts import job
from examples.call_transcripts.app import create_app
from examples.call_transcripts.parsing import PARSER, parse_transcript
from examples.call_transcripts.records import CallRecords
from tests.repo.running import free_port

STEPS = ["update-status-parsing", "parse-transcript", "save-parsed-results", "update-opportunity-history"]
TRANSCRIPT = (
    "Ann: Our manual process is slow. We lose deals.\n"
    "Bob: Great, I will send you a demo next week!\n"
    "Ann: We have $12,000, but I am worried about the price."
)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setenv("CALLS_DB", str(tmp_path / "calls.db"))
    monkeypatch.setenv("INNGEST_BASE_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("examples.call_transcripts.app.SEND_SECONDS", 0.05)
    with TestClient(create_app()) as client:
        yield client


def upload(app: TestClient, **fields: Any) -> str:
    answer = app.post("/calls", json={"transcript": TRANSCRIPT, **fields})
    assert answer.status_code == 202
    return str(answer.json()["id"])


def drive(app: TestClient, call_id: str) -> tuple[list[str], Any]:
    """Call the job until it ends, as a server does; the steps in the order of their tries, and the result."""
    memos: dict[str, Any] = {}
    tried: list[str] = []
    event = {"name": job.EVENT, "id": "e", "ts": 1, "data": {"call_id": call_id, "opportunity": "Acme"}}
    for _ in range(20):
        context = {
            "attempt": 0,
            "run_id": "r",
            "disable_immediate_execution": False,
            "use_api": False,
            "stack": {"stack": list(memos)},
        }
        body = {"ctx": context, "event": event, "events": [event], "steps": memos, "use_api": False}
        query = f"fnId={job.APP_ID}-{job.JOB_ID}&stepId=step"
        answer = app.post(f"/api/inngest?{query}", content=json.dumps(body))
        if answer.status_code == 200:
            return tried, answer.json()
        assert answer.status_code == 206, answer.text
        (op,) = answer.json()
        tried.append(op["displayName"])
        if op["op"] == "StepRun":
            memos[op["id"]] = {"data": op["data"]}
        else:
            assert op["op"] == "StepError", op
    raise AssertionError(f"no end after {tried}")


def test_the_job_has_four_steps(app: TestClient) -> None:
    call_id = upload(app)
    tried, result = drive(app, call_id)
    assert tried == STEPS
    assert result["call_id"] == call_id
    call = app.get(f"/calls/{call_id}").json()
    assert call["status"] == "completed"
    assert call["result"] == parse_transcript(TRANSCRIPT)
    assert call["step_tries"] == dict.fromkeys(STEPS, 1)


def test_the_second_step_fails_as_often_as_asked(app: TestClient) -> None:
    call_id = upload(app, fail_first=2)
    tried, _ = drive(app, call_id)
    assert tried == [STEPS[0], STEPS[1], STEPS[1], *STEPS[1:]]
    assert app.get(f"/calls/{call_id}").json()["step_tries"] == {**dict.fromkeys(STEPS, 1), STEPS[1]: 3}


def test_history_is_written_once_however_often_the_job_runs(app: TestClient) -> None:
    first, second = upload(app, opportunity="Acme"), upload(app, opportunity="Acme")
    for call_id in (first, second, first):
        drive(app, call_id)
    history = app.get(f"/calls/{second}").json()["opportunity_history"]
    assert [entry["call_id"] for entry in history] == [first, second]


def test_a_call_whose_event_was_not_taken_waits_to_be_sent(app: TestClient, tmp_path: Path) -> None:
    call_id = upload(app)
    records = CallRecords(tmp_path / "calls.db")
    assert records.unsent(float("inf")) == [call_id]
    assert app.get(f"/calls/{call_id}").json()["status"] == "pending"
    records.sent(call_id, "01J")
    assert records.unsent(float("inf")) == []


@pytest.mark.parametrize(
    "body", [{}, {"transcript": " "}, {"transcript": "x", "fail_first": -1}, {"transcript": 5}]
)
def test_bad_uploads_are_refused_with_the_field(app: TestClient, body: dict[str, Any]) -> None:
    answer = app.post("/calls", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"][1] in ("transcript", "fail_first")


def test_an_unknown_call_is_not_found(app: TestClient) -> None:
    assert app.get("/calls/none").status_code == 404


def test_parsing_finds_what_is_there() -> None:
    parsed = parse_transcript(TRANSCRIPT)
    assert parsed["parser"] == PARSER
    assert parsed["speakers"] == ["Ann", "Bob"]
    assert parsed["budget"] == ["$12,000"]
    assert parsed["pain_points"] == ["Our manual process is slow.", "We lose deals."]
    assert parsed["next_steps"] == ["Great, I will send you a demo next week!"]
    assert parsed["objections"] == ["We have $12,000, but I am worried about the price."]
    assert parsed["words"] == len(TRANSCRIPT.split())


def test_parsing_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        parse_transcript(" \n")

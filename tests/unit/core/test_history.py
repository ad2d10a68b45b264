"""What history writes down: small, and readable as JSON."""

from __future__ import annotations

import json

import msgspec

from perdure.core import history
from tests.unit.core.runs import NOW, called, discovery


def test_a_call_that_went_well_is_short() -> None:
    body = history.call_note(discovery(), 206, [], None, 0, False)
    assert json.loads(body) == {
        "item": 1,
        "attempt": 0,
        "generation": 1,
        "queued": NOW,
        "sent": 0,
        "status": 206,
    }


def test_a_call_that_failed() -> None:
    note = json.loads(
        history.call_note(called(2, "a", attempt=1), 500, [], b'{"message":"no"}', NOW + 5, False)
    )
    assert (note["step"], note["name"], note["attempt"]) == ("a", "a", 1)
    assert (note["error"], note["retry"]) == ({"message": "no"}, NOW + 5)


def test_no_answer_and_an_error_are_two_things() -> None:
    note = json.loads(history.call_note(discovery(), 0, [], None, 0, True))
    assert "error" not in note
    assert "status" not in note
    assert note["end"] is True


def test_a_long_error_is_cut() -> None:
    error = msgspec.json.encode({"message": "é" * history.MAX_ERROR_BYTES})
    body = history.call_note(discovery(), 500, [], error, 0, True)
    assert len(body) < 3 * history.MAX_ERROR_BYTES
    note = json.loads(body)
    assert note["error"]["cut"] == len(error)
    assert note["error"]["message"].startswith('{"message":"éé')


def test_an_error_just_within_the_bound_is_kept_as_it_is() -> None:
    error = b'"' + b"x" * (history.MAX_ERROR_BYTES - 2) + b'"'
    assert error in history.call_note(discovery(), 500, [], error, 0, True)


def test_defaults_are_left_out() -> None:
    assert history.encode(history.OpNote("StepRun", "a", "a")) == b'{"op":"StepRun","id":"a","name":"a"}'  # type: ignore[arg-type]
    assert history.encode(history.QueuedNote("e1")) == b'{"event":"e1"}'
    assert history.encode(history.EndedNote("COMPLETED")) == b'{"status":"COMPLETED"}'

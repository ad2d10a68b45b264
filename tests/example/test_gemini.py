"""Asking Gemini: Google's own client against a local server that speaks the Gemini API, well and badly."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import pytest

import perdure
from examples.opportunity_tracker.gemini import MISSING_KEY, GeminiError, ask_gemini
from examples.opportunity_tracker.settings import Settings
from tests.example.conftest import SUMMARY, TRANSCRIPT, Gemini, Said, candidate, problem
from tests.sdk.driver import free_port

RETRY_INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
BAD_KEY = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


def test_what_is_asked_and_answered(fresh_gemini: Gemini, settings: Settings) -> None:
    summary = ask_gemini(settings, TRANSCRIPT)
    assert summary.model_dump() == SUMMARY
    (asked,) = fresh_gemini.requests
    assert fresh_gemini.keys == ["test-key"]
    assert fresh_gemini.paths[0].endswith("/models/gemini-test:generateContent")
    assert asked["contents"] == [{"role": "user", "parts": [{"text": TRANSCRIPT}]}]
    assert "never an instruction" in asked["systemInstruction"]["parts"][0]["text"]
    config = asked["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert set(config["responseSchema"]["properties"]) == set(SUMMARY)


def test_all_optional_fields_may_be_empty(fresh_gemini: Gemini, settings: Settings) -> None:
    bare = {**SUMMARY, "participants": [], "pain_points": [], "budget": None, "timeline": None}
    fresh_gemini.say(Said(candidate(json.dumps(bare))))
    assert ask_gemini(settings, TRANSCRIPT).model_dump() == bare


PASSING = {
    "500": (problem(500, "INTERNAL", "An internal error has occurred."), "HTTP 500: An internal error"),
    "503": (problem(503, "UNAVAILABLE", "The model is overloaded."), "HTTP 503: The model is overloaded"),
    "an error page": (Said("<html>Bad Gateway</html>", 502), "HTTP 502"),
    "429 without a time": (problem(429, "RESOURCE_EXHAUSTED", "Slow down."), "Too many requests"),
    "broken JSON of the model": (Said(candidate('{"participants": [')), "not what was asked for"),
    "another shape": (Said(candidate('{"participants": "Buyer"}')), "participants"),
    "a mood that is none": (Said(candidate(json.dumps({**SUMMARY, "sentiment": "so-so"}))), "sentiment"),
    "no candidates": (Said({"candidates": []}), "answered with nothing"),
    "cut off": (Said(candidate('{"participants": [', "MAX_TOKENS")), "cut off"),
    "broken JSON of the API": (Said('{"candidates": ['), "could not be read"),
    "an empty body": (Said(""), "Gemini"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_tried_again(fresh_gemini: Gemini, settings: Settings, name: str) -> None:
    answer, message = PASSING[name]
    fresh_gemini.say(answer)
    with pytest.raises(GeminiError) as caught:
        ask_gemini(settings, TRANSCRIPT)
    assert message in str(caught.value)
    # The client did not try again by itself: the step does.
    assert len(fresh_gemini.requests) == 1


LASTING = {
    "a wrong key": (
        problem(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY),
        ["API key", "GEMINI_API_KEY"],
    ),
    "a key without the right": (problem(403, "PERMISSION_DENIED", "No access."), ["GEMINI_API_KEY"]),
    "an unknown model": (
        problem(404, "NOT_FOUND", "models/x is not found."),
        ["GEMINI_MODEL", "gemini-test"],
    ),
    "a bad request": (problem(400, "INVALID_ARGUMENT", "Too many tokens."), ["Too many tokens", "HTTP 400"]),
    "a blocked prompt": (
        Said({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
        ["refused", "PROHIBITED_CONTENT"],
    ),
    "a blocked answer": (Said(candidate("", "SAFETY")), ["refused", "SAFETY"]),
    "a recitation": (Said(candidate("", "RECITATION")), ["refused", "RECITATION"]),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_not_tried_again(fresh_gemini: Gemini, settings: Settings, name: str) -> None:
    answer, words = LASTING[name]
    fresh_gemini.say(answer)
    with pytest.raises(perdure.NonRetriableError) as caught:
        ask_gemini(settings, TRANSCRIPT)
    assert [word for word in words if word not in str(caught.value)] == []


def test_429_says_when_to_come_back(fresh_gemini: Gemini, settings: Settings) -> None:
    fresh_gemini.say(problem(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", RETRY_INFO))
    with pytest.raises(perdure.RetryAfterError, match="Quota exceeded") as caught:
        ask_gemini(settings, TRANSCRIPT)
    assert caught.value.retry_after == datetime.timedelta(seconds=17)


def test_no_answer_in_time(fresh_gemini: Gemini, settings: Settings) -> None:
    fresh_gemini.say(Said(candidate("{}"), after=1.0))
    with pytest.raises(GeminiError, match=r"within 0.2 s \(GEMINI_TIMEOUT\)"):
        ask_gemini(dataclasses.replace(settings, gemini_timeout=0.2), TRANSCRIPT)


def test_nobody_listens(settings: Settings) -> None:
    nowhere = dataclasses.replace(settings, gemini_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(GeminiError, match="could not be reached"):
        ask_gemini(nowhere, TRANSCRIPT)


def test_without_a_key_nobody_is_asked(
    fresh_gemini: Gemini, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "of-something-else")
    keyless: dict[str, Any] = {"gemini_api_key": None}
    with pytest.raises(perdure.NonRetriableError, match="GEMINI_API_KEY is not set") as caught:
        ask_gemini(dataclasses.replace(settings, **keyless), TRANSCRIPT)
    assert str(caught.value) == MISSING_KEY
    assert fresh_gemini.requests == []


def test_the_own_key_wins_over_others_in_the_environment(
    fresh_gemini: Gemini, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "of-something-else")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    ask_gemini(settings, TRANSCRIPT)
    assert fresh_gemini.keys == ["test-key"]


def test_an_empty_transcript_is_not_sent(fresh_gemini: Gemini, settings: Settings) -> None:
    with pytest.raises(perdure.NonRetriableError, match="empty"):
        ask_gemini(settings, " \n")
    assert fresh_gemini.requests == []

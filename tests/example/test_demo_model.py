"""The demo model: asked by Google's own client, what it finds, and misbehaving on request."""

from __future__ import annotations

import dataclasses
import datetime
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import perdure
from examples.opportunity_tracker.demo_model import Server
from examples.opportunity_tracker.extraction import summarise
from examples.opportunity_tracker.gemini import GeminiError, ask_gemini
from examples.opportunity_tracker.settings import Settings, SettingsError, read_settings
from tests.example.conftest import sample

SAMPLES = sorted(
    path.stem
    for path in (Path(__file__).parents[2] / "examples" / "opportunity_tracker" / "transcripts").glob("*.txt")
)
BODY = "Buyer: We do it by hand, and our budget is $9,000.\nAccount executive: I will send you an offer."


@pytest.fixture(scope="module")
def model() -> Iterator[Settings]:
    """Settings that ask a running demo model."""
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.port}"
        yield read_settings({"TRACKER_MODEL": "demo", "TRACKER_DEMO_URL": url, "GEMINI_API_KEY": "not-used"})
        server.shutdown()


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in ("slow", "flaky", "refused")])
def test_every_sample_is_parsed(model: Settings, name: str) -> None:
    assert ask_gemini(model, sample(name)) == summarise(sample(name))


def test_what_is_found() -> None:
    found = summarise(sample("discovery"))
    assert [person.name for person in found.participants] == [
        "Account executive", "Operations lead", "Finance manager",
    ]  # fmt: skip
    assert found.budget == "The budget is 18,000 euros for the first year, set-up included."
    assert found.timeline == "Before the season, so by the end of March."
    assert "I am worried about the price." in found.objections
    assert "I will send you a list of the data that we need, today." in found.next_steps
    assert found.sentiment == "positive"
    assert summarise(sample("objections")).sentiment == "negative"


def test_the_long_one_and_the_messy_one() -> None:
    assert len(sample("quarterly_review").split()) > 1500
    names = [person.name for person in summarise(sample("quarterly_review")).participants]
    assert names == [
        "Customer success manager", "Head of logistics", "IT architect", "Account executive", "Finance director",
    ]  # fmt: skip
    assert len(summarise(sample("messy")).participants) == 3


def test_one_that_is_not_in_english() -> None:
    found = summarise(sample("german"))
    assert [person.name for person in found.participants] == ["Einkäufer", "Vertrieb", "Buchhaltung"]
    assert found.budget == "900 Euro im Monat, ohne Einrichtung."


def test_nearly_nothing() -> None:
    found = summarise(sample("empty_call"))
    assert len(found.participants) == 1
    assert (found.pain_points, found.next_steps, found.budget, found.sentiment) == ([], [], None, "neutral")
    assert summarise("").participants == []


MISBEHAVING = {
    "fail": (GeminiError, "HTTP 503"),
    "malformed": (GeminiError, "not what was asked for"),
    "refuse": (perdure.NonRetriableError, "SAFETY"),
    "quota": (perdure.RetryAfterError, "Too many requests"),
}


@pytest.mark.parametrize("kind", MISBEHAVING)
def test_it_misbehaves_as_often_as_asked_each_time(model: Settings, kind: str) -> None:
    transcript = f"[demo: {kind} 2]\n{BODY}"
    error, message = MISBEHAVING[kind]
    for _ in range(2):
        for _ in range(2):
            with pytest.raises(error, match=message):
                ask_gemini(model, transcript)
        assert ask_gemini(model, transcript) == summarise(BODY)


def test_without_a_number_it_never_stops(model: Settings) -> None:
    for _ in range(4):
        with pytest.raises(GeminiError):
            ask_gemini(model, f"[demo: fail]\n{BODY}")


def test_quota_says_when_to_come_back(model: Settings) -> None:
    with pytest.raises(perdure.RetryAfterError) as caught:
        ask_gemini(model, "[demo: quota 1]\nBuyer: Quota.")
    assert caught.value.retry_after == datetime.timedelta(seconds=1)


def test_slow(model: Settings) -> None:
    with pytest.raises(GeminiError, match=r"did not answer within 0\.3 s"):
        ask_gemini(dataclasses.replace(model, gemini_timeout=0.3), f"[demo: slow 1]\n{BODY}")


def test_directives_are_not_part_of_the_call(model: Settings) -> None:
    found = ask_gemini(model, f"[demo: slow 0]\n{BODY}")
    assert [person.name for person in found.participants] == ["Buyer", "Account executive"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1beta/models/any:generateContent", b"{", 400),
        ("/v1beta/models/any:generateContent", b"{}", 400),
        ("/v1beta/models/any:generateContent", b'{"contents": [{"parts": [{}]}]}', 400),
        ("/v1beta/models/any:streamGenerateContent", b"{}", 404),
        ("/", b"{}", 404),
    ],
)
def test_what_it_does_not_take(model: Settings, path: str, body: bytes, status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{model.gemini_url}{path}", body, timeout=5)
    assert caught.value.code == status
    assert json.loads(caught.value.read())["error"]["code"] == status


def test_settings_of_the_demo_model() -> None:
    demo = read_settings({"TRACKER_MODEL": "demo"})
    assert (demo.gemini_url, demo.gemini_model, demo.gemini_api_key) == (
        "http://127.0.0.1:8301", "demo-model", "demo",
    )  # fmt: skip


def test_settings_of_gemini() -> None:
    bare = read_settings({})
    assert (bare.model, bare.gemini_api_key, bare.gemini_url) == ("gemini", None, None)
    given = read_settings(
        {"GEMINI_API_KEY": " key ", "GEMINI_MODEL": "m", "SMTP_PORT": "2525", "SMTP_STARTTLS": "1"}
    )
    assert (given.gemini_api_key, given.gemini_model) == ("key", "m")
    assert (given.mail.port, given.mail.starttls) == (2525, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TRACKER_MODEL", "gpt"), ("SMTP_PORT", "mail"), ("GEMINI_TIMEOUT", "-1"), ("TRACKER_STUCK_AFTER", "a")],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}'"):
        read_settings({name: value})

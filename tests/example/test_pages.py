"""The pages of a call that is in work: the part that changes by itself, and how it says that it is settled."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from examples.opportunity_tracker import outbox
from examples.opportunity_tracker.settings import Mail
from tests.example.conftest import Gemini, Running, Said, Starter, candidate, sample
from tests.sdk.driver import until


def settled(part: str) -> str:
    (said,) = re.findall(r'data-settled="(\w+)"', part)
    return str(said)


def test_the_part_of_a_call_says_when_it_is_settled(app: Running, fresh_gemini: Gemini) -> None:
    fresh_gemini.say(Said(candidate("{}"), 503))
    call_id = app.upload(title="Watched", opportunity="Pages")
    page = app.http.get(f"/calls/{call_id}").text
    assert f'data-live="/calls/{call_id}/live"' in page
    seen: list[tuple[str, str]] = []

    def look() -> bool:
        part = app.http.get(f"/calls/{call_id}/live").text
        assert "<html" not in part
        (status,) = re.findall(r'data-status="(\w+)"', part)
        if not seen or seen[-1][0] != status:
            seen.append((status, settled(part)))
        return status == "completed"

    until("the end", look)
    assert seen[-2:] == [("parsing", "no"), ("completed", "yes")]
    part = app.http.get(f"/calls/{call_id}/live").text
    for text in (
        "12,000 dollars a year",
        "this quarter",
        "Deliveries are logged by hand.",
        "The price.",
        "seller",
    ):
        assert text in part
    run_id = app.call(call_id)["run_id"]
    assert f'href="{app.tracker.jobs.settings.api_url}/runs/{run_id}"' in part


@pytest.mark.parametrize("path", ["/live", "/opportunities/{}/live"])
def test_lists_are_settled_when_all_calls_are(app: Running, fresh_gemini: Gemini, path: str) -> None:
    fresh_gemini.say(Said(candidate("{}"), 503))
    call_id = app.upload(opportunity="Pages")
    url = path.format(app.call(call_id)["opportunity_id"])
    assert settled(app.http.get(url).text) == "no"
    app.settled(call_id, "completed")
    assert settled(app.http.get(url).text) == "yes"


def test_long_lists_are_folded(app: Running, fresh_gemini: Gemini) -> None:
    summary = {
        "participants": [], "next_steps": [], "objections": [], "budget": None, "timeline": None,
        "pain_points": [f"Pain number {n}." for n in range(8)], "sentiment": "neutral",
    }  # fmt: skip
    fresh_gemini.say(Said(candidate(json.dumps(summary))))
    call_id = app.upload()
    app.settled(call_id, "completed")
    page = app.http.get(f"/calls/{call_id}").text
    assert "<summary>3 more</summary>" in page
    assert page.count("Pain number") == 8
    assert "Nobody was recognised." in page


def test_an_opportunity_from_its_form_to_its_first_call(app: Running, fresh_gemini: Gemini) -> None:
    answer = app.http.post("/opportunities", data={"name": "Müller & <Söhne>"}, follow_redirects=True)
    assert "<h1>Müller &amp; &lt;Söhne&gt;</h1>" in answer.text
    assert "No calls yet." in answer.text
    (action,) = re.findall(r'action="(/opportunities/\d+/calls)"', answer.text)
    file = {"file": ("discovery.txt", sample("discovery").encode())}
    answer = app.http.post(action, data={"transcript": "", "title": ""}, files=file, follow_redirects=True)
    assert "<h1>discovery.txt</h1>" in answer.text
    call_id = str(answer.url).rpartition("/")[2]
    app.settled(call_id, "completed")
    assert "Müller &amp; &lt;Söhne&gt;" in app.http.get("/").text


def test_the_outbox_shows_what_was_caught(start: Starter, tmp_path: Path) -> None:
    mail = tmp_path / "outbox" / "new"
    mail.mkdir(parents=True)
    (mail / "1").write_bytes(
        b"From: tracker@example.com\r\nTo: you@example.com\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n<b>Hello</b>\r\n"
    )
    (mail / "2").write_bytes(b"\xff\xfe no mail at all")
    found = outbox.mails(tmp_path / "outbox")
    assert len(found) == 2
    app = start("http://127.0.0.1:9", mail=dataclasses.replace(Mail(), outbox=tmp_path / "outbox"))
    page = app.http.get("/outbox").text
    assert "Grüße" in page
    assert "&lt;b&gt;Hello&lt;/b&gt;" in page
    assert 'href="/outbox"' in app.http.get("/").text
    app.stop()

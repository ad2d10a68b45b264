"""Uploads, with no server at all: what is a transcript, what is refused and how, and that a call waits to be sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from examples.opportunity_tracker.app import create_app
from examples.opportunity_tracker.settings import Settings
from examples.opportunity_tracker.tracker import Tracker
from examples.opportunity_tracker.uploads import LARGEST_BODY, LONGEST_TRANSCRIPT
from tests.example.conftest import TRANSCRIPT
from tests.sdk.driver import free_port


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The app, with nobody where its server should be."""
    folder = tmp_path_factory.mktemp("uploads")
    settings = Settings(
        database_url=f"sqlite:///{folder / 'tracker.db'}", model="demo", send_timeout=0.05, resend_every=60
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PERDURE_URL", f"http://127.0.0.1:{free_port()}")
        app = create_app(settings)
    with TestClient(app, follow_redirects=False) as client:
        yield client


@pytest.fixture(scope="module")
def tracker(web: TestClient) -> Tracker:
    found: Tracker = web.app.state.tracker  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def opportunity(tracker: Tracker) -> int:
    return tracker.records.opportunity_named("Uploads")


def form(
    web: TestClient, opportunity: int, file: tuple[str, bytes] | None = None, **fields: str
) -> httpx.Response:
    files = {"file": file} if file else {"file": ("", b"")}
    answer: httpx.Response = web.post(f"/opportunities/{opportunity}/calls", data=fields, files=files)
    return answer


def call_of(tracker: Tracker, answer: httpx.Response) -> Any:
    assert answer.status_code == 303, answer.text
    call = tracker.records.call(answer.headers["location"].rpartition("/")[2])
    assert call is not None
    return call


def test_a_pasted_text(web: TestClient, tracker: Tracker, opportunity: int) -> None:
    call = call_of(tracker, form(web, opportunity, transcript=f"\n{TRANSCRIPT}\n", title=" Discovery "))
    assert (call.transcript, call.title, call.status) == (TRANSCRIPT, "Discovery", "pending")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file(web: TestClient, tracker: Tracker, opportunity: int, encoding: str) -> None:
    text = "Einkäufer: Grüße und 日本語 🎧"
    call = call_of(tracker, form(web, opportunity, ("gespräch.txt", text.encode(encoding))))
    assert (call.transcript, call.title) == (text, "gespräch.txt")


def test_a_long_text_in_the_form(web: TestClient, tracker: Tracker, opportunity: int) -> None:
    text = "Ä" * LONGEST_TRANSCRIPT
    assert call_of(tracker, form(web, opportunity, transcript=text)).transcript == text


REFUSED: dict[str, tuple[str, tuple[str, bytes] | None, dict[str, str], str]] = {
    "nothing": ("transcript", None, {}, "Paste a transcript"),
    "blanks": ("transcript", None, {"transcript": " \n "}, "Paste a transcript"),
    "an empty file": ("file", ("a.txt", b" \n"), {}, "a.txt is empty"),
    "no text": ("file", ("a.mp3", bytes(range(128, 256))), {}, "a.mp3 is not a text file in UTF-8"),
    "broken UTF-16": ("file", ("a.txt", b"\xff\xfea"), {}, "is not a text file"),
    "NUL": ("file", ("a.txt", b"a\0b"), {}, "NUL"),
    "both": ("file", ("a.txt", b"Buyer: Hi."), {"transcript": "Buyer: Hi."}, "leave one of them out"),
    "too long": ("transcript", None, {"transcript": "a" * (LONGEST_TRANSCRIPT + 1)}, "1,000,001"),
    "a long title": ("title", None, {"transcript": "a", "title": "t" * 201}, "At most 200"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_form_comes_back_with_the_field(web: TestClient, opportunity: int, name: str) -> None:
    field, file, fields, message = REFUSED[name]
    answer = form(web, opportunity, file, **fields)
    assert answer.status_code == 422
    before = answer.text.partition(message)[0]
    assert message in answer.text
    # The message stands under the field that it is about, which is marked.
    assert before.rindex('aria-invalid="true"') > before.rindex(f'name="{field}"')
    if fields.get("transcript") and len(fields["transcript"]) < 100:
        assert fields["transcript"] in answer.text


@pytest.mark.parametrize("name", ["", "  ", "n" * 201])
def test_a_bad_name_of_an_opportunity(web: TestClient, name: str) -> None:
    answer = web.post("/opportunities", data={"name": name})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text


def test_an_opportunity_is_made_once(web: TestClient) -> None:
    first, second = (web.post("/opportunities", data={"name": " Twice "}) for _ in range(2))
    assert first.status_code == 303
    assert first.headers["location"] == second.headers["location"]


BODIES: dict[str, tuple[Any, str]] = {
    "no transcript": ({}, "transcript"),
    "blanks": ({"transcript": " "}, "transcript"),
    "a number": ({"transcript": 5}, "transcript"),
    "NUL": ({"transcript": "a\0b"}, "transcript"),
    "too long": ({"transcript": "a" * (LONGEST_TRANSCRIPT + 1)}, "transcript"),
    "no name": ({"transcript": "a", "opportunity": " "}, "opportunity"),
    "a long title": ({"transcript": "a", "title": "t" * 201}, "title"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_of_the_api_names_the_field(web: TestClient, name: str) -> None:
    body, field = BODIES[name]
    answer = web.post("/api/calls", json=body)
    assert answer.status_code == 422
    assert [error["loc"] for error in answer.json()["detail"]] == [["body", field]]


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"transcript": "\\ud800"}', b"\xff"])
def test_a_body_that_is_no_json(web: TestClient, raw: bytes) -> None:
    answer = web.post("/api/calls", content=raw, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500


def test_what_is_too_large_is_not_read(web: TestClient, opportunity: int) -> None:
    answer = form(web, opportunity, ("a.txt", b"a" * LARGEST_BODY))
    assert answer.status_code == 413
    assert "Too Large" in answer.text


def test_what_is_too_large_and_does_not_say_so(web: TestClient) -> None:
    pieces = (b" " * 1_000_000 for _ in range(6))
    assert web.post("/api/calls", content=pieces).status_code == 413


@pytest.mark.parametrize(
    "path", ["/opportunities/999", "/opportunities/999/live", "/calls/999", "/calls/999/live", "/calls/%00"]
)
def test_pages_of_what_is_not_there(web: TestClient, path: str) -> None:
    answer = web.get(path)
    assert answer.status_code == 404
    assert "There is no" in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/calls/999"), ("POST", "/api/calls/999/retry"), ("GET", "/api/opportunities/999"),
        ("POST", "/opportunities/999/calls"), ("POST", "/calls/999/email"), ("GET", "/calls/none"), ("GET", "/outbox"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(web: TestClient, method: str, path: str) -> None:
    assert web.request(method, path, data={}).status_code == 404


def test_what_people_typed_is_text_on_the_page(web: TestClient, tracker: Tracker, opportunity: int) -> None:
    evil = "<script>alert(1)</script>"
    call = call_of(tracker, form(web, opportunity, transcript=f"Buyer: {evil}", title=evil))
    page = web.get(f"/calls/{call.id}").text
    assert evil not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_call_whose_event_no_server_took_says_so(
    web: TestClient, tracker: Tracker, opportunity: int
) -> None:
    call = call_of(tracker, form(web, opportunity, transcript=TRANSCRIPT))
    assert (call.status, call.sent_at, call.event_id) == ("pending", None, None)
    assert "as soon as the server can be reached" in web.get(f"/calls/{call.id}").text


def test_the_demo_model_is_labelled_on_every_page(web: TestClient, opportunity: int) -> None:
    for path in ("/", f"/opportunities/{opportunity}"):
        assert '<span class="label demo"' in web.get(path).text
        assert "understands nothing" in web.get(path).text


def test_static_files_are_there(web: TestClient) -> None:
    page = web.get("/").text
    static = Path(__file__).parents[2] / "examples" / "opportunity_tracker" / "static"
    for name in ("style.css", "live.js", "icon.svg"):
        assert f"/static/{name}" in page
        assert web.get(f"/static/{name}").content == (static / name).read_bytes()

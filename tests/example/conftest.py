"""One server for the whole folder, and an app of each module: in this process, so that a test can look at its records.

Gemini and the mail server are real servers on the loopback address, asked by the real clients.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from aiosmtpd.controller import Controller

from examples.opportunity_tracker.app import create_app
from examples.opportunity_tracker.settings import Mail, Settings
from examples.opportunity_tracker.tracker import Tracker
from tests.sdk.driver import Server, free_port, until

SUMMARY: dict[str, Any] = {
    "participants": [{"name": "Buyer", "role": "buyer"}, {"name": "Account executive", "role": "seller"}],
    "pain_points": ["Deliveries are logged by hand."],
    "next_steps": ["An offer on Thursday."],
    "objections": ["The price."],
    "budget": "12,000 dollars a year",
    "timeline": "this quarter",
    "sentiment": "positive",
}
TRANSCRIPT = "Buyer: We log each delivery by hand.\nAccount executive: You get an offer on Thursday."


class Said:
    """One scripted answer of the fake Gemini: a status, a body that is JSON or text, and seconds before it comes."""

    def __init__(self, body: Any, status: int = 200, after: float = 0.0) -> None:
        self.status = status
        self.body = body if isinstance(body, str) else json.dumps(body)
        self.after = after


def candidate(text: str, finish: str = "STOP", **more: Any) -> dict[str, Any]:
    """A response with one candidate, as the Gemini API gives it."""
    parts = {"content": {"role": "model", "parts": [{"text": text}]}} if text else {}
    return {"candidates": [{**parts, "finishReason": finish, "index": 0}], **more}


def problem(code: int, status: str, message: str, *details: dict[str, Any]) -> Said:
    """An error as Google's APIs answer it."""
    error = {"code": code, "status": status, "message": message, "details": list(details)}
    return Said({"error": error}, code)


class Gemini:
    """A local server that speaks the Gemini API: the scripted answers in their order, then good ones."""

    def __init__(self) -> None:
        self.answers: list[Said] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                outer.requests.append(json.loads(self.rfile.read(length)))
                outer.keys.append(self.headers.get("x-goog-api-key"))
                outer.paths.append(self.path)
                said = outer.answers.pop(0) if outer.answers else Said(candidate(json.dumps(SUMMARY)))
                time.sleep(said.after)
                data = said.body.encode()
                self.send_response(said.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def say(self, *answers: Said) -> None:
        """Forget what was asked and scripted before; these are the next answers."""
        self.answers, self.requests, self.keys, self.paths = list(answers), [], [], []

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class Mailbox:
    """What an SMTP server took; `refusal` makes it answer that to each recipient instead."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []
        self.refusal: str | None = None

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.refusal:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.envelopes.append(envelope)
        return "250 taken"


class Running:
    """The app, listening, with what it works with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.web = create_app(settings)
        self.tracker: Tracker = self.web.state.tracker
        self.records = self.tracker.records
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._server = uvicorn.Server(uvicorn.Config(self.web, port=port, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until("the app's start", lambda: self._server.started)
        self.http = httpx.Client(base_url=self.url, timeout=20)

    def register(self) -> None:
        """Tell the server of its jobs."""
        answer = self.http.put("/api/inngest")
        assert answer.status_code == 200, answer.text

    def upload(self, transcript: str = TRANSCRIPT, **fields: Any) -> str:
        answer = self.http.post("/api/calls", json={"transcript": transcript, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def call(self, call_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/api/calls/{call_id}").json())

    def settled(self, call_id: str, status: str) -> dict[str, Any]:
        """The call, once nothing more happens to it: then it must have this status."""

        def look() -> dict[str, Any] | None:
            call = self.call(call_id)
            return call if call["status"] in ("completed", "failed") else None

        call = until(f"the end of call {call_id}", look)
        assert call["status"] == status, call
        return call

    def history(self, opportunity_id: int) -> dict[str, Any]:
        return dict(self.http.get(f"/api/opportunities/{opportunity_id}").json())

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self.http.close()


Starter = Callable[..., Running]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def gemini() -> Iterator[Gemini]:
    fake = Gemini()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def smtp() -> Iterator[tuple[Mailbox, int]]:
    """A mail server: what it took, and its port."""
    mailbox = Mailbox()
    port = free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield mailbox, port
    controller.stop()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, gemini: Gemini, smtp: tuple[Mailbox, int]) -> Settings:
    """Settings of an app with a database of its own, which asks the fake Gemini."""
    folder = tmp_path_factory.mktemp("tracker")
    return Settings(
        database_url=f"sqlite:///{folder / 'tracker.db'}",
        gemini_api_key="test-key",
        gemini_model="gemini-test",
        gemini_url=gemini.url,
        gemini_timeout=5.0,
        resend_every=0.2,
        mail=Mail(port=smtp[1]),
    )


@pytest.fixture(scope="module")
def start(server: Server, settings: Settings) -> Iterator[Starter]:
    """Gives a function that starts an app, by default on the running server; options are settings that differ."""
    running: list[Running] = []

    def begin(url: str | None = None, signing_key: str = "", **differences: Any) -> Running:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("PERDURE_URL", url or server.url)
            environment.setenv("PERDURE_SIGNING_KEY", signing_key)
            one = Running(dataclasses.replace(settings, **differences))
        running.append(one)
        if url is None:
            one.register()
        return one

    yield begin
    for one in running:
        one.stop()


@pytest.fixture(scope="module")
def app(start: Starter) -> Running:
    """The module's app on the running server."""
    return start()


@pytest.fixture
def fresh_gemini(gemini: Gemini) -> Gemini:
    """The fake Gemini, with nothing scripted."""
    gemini.say()
    return gemini


def sample(name: str) -> str:
    """The text of a sample transcript."""
    folder = Path(__file__).parents[2] / "examples" / "opportunity_tracker" / "transcripts"
    return (folder / f"{name}.txt").read_text()

"""The example as processes that can be killed: an app (this way, the old way, or either on the host that kills its
workers), the server, and what stands between the two."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from examples.opportunity_tracker.database import Database
from examples.opportunity_tracker.records import Records
from tests.example.conftest import Gemini
from tests.repo.running import free_port, request, started, wait_for

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = "examples.opportunity_tracker"
THIS_WAY = f"{EXAMPLE}.app:create_app"
OLD_WAY = f"{EXAMPLE}.old_way:create_app"
# Long enough that an app which is started again on a busy machine is there before the last of four attempts.
RETRY_SECONDS = "5"
ENDED = ("completed", "failed")


class Process:
    """A command that can be killed as `kill -9` does, and started again."""

    def __init__(self, command: list[str], folder: Path, name: str, environment: dict[str, str]) -> None:
        self._command = command
        self._folder = folder
        self._name = name
        self.environment = environment
        self._stack = ExitStack()
        self._starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it has printed since its last start."""
        return self._folder / f"{self._name}{self._starts}.log"

    def start(self) -> None:
        """Start it."""
        assert self._process is None
        self._starts += 1
        self._process = self._stack.enter_context(
            started(self._command, self._folder, self.log, self.environment)
        )

    def kill(self) -> None:
        """SIGKILL for it and all that it has started."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Nothing is left of it."""
        self._stack.close()
        self._process = None


class Deployment:
    """An app, the server, and the database; each on a port of its own, so that it is found again after a restart."""

    def __init__(self, folder: Path, gemini: Gemini, app: str, on_serverless_host: bool = False) -> None:
        self.folder = folder
        self.gemini = gemini
        self.app_port, self.server_port = free_port(), free_port()
        self.database_url = f"sqlite:///{folder / 'tracker.db'}"
        self.records = Records(Database(self.database_url))
        serve = (
            ["-m", f"{EXAMPLE}.serverless_host", "--app", app]
            if on_serverless_host
            else ["-m", "uvicorn", "--factory", app, "--log-level", "info"]
        )
        self.app = Process(
            [sys.executable, *serve, "--port", str(self.app_port)], folder, "app", self._settings()
        )
        self.server = Process(self._serve("data"), folder, "server", {})

    def _settings(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.database_url,
            "TRACKER_MODEL": "gemini",
            "GEMINI_API_KEY": "test-key",
            "GEMINI_BASE_URL": self.gemini.url,
            "PERDURE_URL": f"http://127.0.0.1:{self.server_port}",
            "TRACKER_RESEND_EVERY": "0.5",
            "TRACKER_STUCK_AFTER": "1",
        }

    def _serve(self, data: str) -> list[str]:
        return [
            str(Path(sys.executable).with_name("perdure")), "dev", "--no-open", "--no-discovery",
            "--port", str(self.server_port), "--data-dir", str(self.folder / data), "--poll-interval", "1",
            "--retry-interval", RETRY_SECONDS, "-u", f"{self.app_url}/api/inngest",
        ]  # fmt: skip

    @property
    def app_url(self) -> str:
        return f"http://127.0.0.1:{self.app_port}"

    def start_app(self) -> None:
        """Start the app, and wait until it answers."""
        self.app.start()
        wait_for("the app", lambda: request(f"{self.app_url}/health"), 60, self.app.log)

    def start_server(self) -> None:
        """Start the server, and wait until it answers."""
        self.server.start()
        wait_for("the server", lambda: self.ask("/health"), 60, self.server.log)

    def start(self) -> None:
        """Start both, and wait until the server knows the app."""
        self.start_app()
        self.start_server()
        wait_for("the app's jobs", lambda: self.ask("/dev")["functions"], 60, self.server.log)

    def start_with_new_server(self) -> None:
        """Start both; the server has lost all its data."""
        self.server.close()
        self.server = Process(self._serve("new"), self.folder, "new-server", {})
        self.start_server()
        self.start_app()

    def ask(self, path: str) -> Any:
        """What the server answers."""
        return request(f"http://127.0.0.1:{self.server_port}{path}")

    def upload(self, text: str = "Buyer: We log each delivery by hand.") -> str:
        """Upload a transcript; the call's id."""
        answer = request(f"{self.app_url}/api/calls", {"transcript": text})
        assert answer["status"] == "pending"
        return str(answer["id"])

    def asked(self, times: int) -> None:
        """Wait until Gemini has been asked so often."""
        wait_for("questions to Gemini", lambda: len(self.gemini.requests) >= times, 60, self.app.log)

    def status(self, call_id: str) -> str:
        """The call's status in the database, whoever is up."""
        call = self.records.call(call_id)
        assert call is not None
        return call.status

    def completed(self, *calls: str, seconds: float = 90) -> float:
        """Wait until these are completed and no call is left open; how many seconds that took."""
        begun = time.monotonic()
        wait_for(
            "the end of each call",
            lambda: all(self.status(call_id) in ENDED for call_id in calls),
            seconds,
            self.server.log,
        )
        for call_id in calls:
            call = self.records.call(call_id)
            assert call is not None
            assert (call.status, call.error) == ("completed", None)
        assert self.records.unfinished(float("inf")) == []
        return time.monotonic() - begun

    def ran_once(self, call_id: str) -> None:
        """The server knows one run of the call, which has come to its end, or comes to it now."""
        wait_for("the end of the run", lambda: self._ended_runs(call_id), 30, self.server.log)
        assert self._runs(call_id) == ["Completed"]

    def _ended_runs(self, call_id: str) -> bool:
        runs = self._runs(call_id)
        return bool(runs) and "Running" not in runs

    def _runs(self, call_id: str) -> list[str]:
        events = self.ask("/v1/events?limit=100")["data"]
        mine = [event["internal_id"] for event in events if event["id"] == f"call-{call_id}-1"]
        return [run["status"] for one in mine for run in self.ask(f"/v1/events/{one}/runs")["data"]]

    def close(self) -> None:
        """End what is running."""
        self.app.close()
        self.server.close()
        self.records.database.close()


class Gate:
    """Stands before the server for the sending of events: the moment at which a process is killed.

    `pass_on` says whether the server gets the event before `then` is called; the sender gets no answer either way.
    """

    def __init__(self, server_url: str, pass_on: bool, then: Callable[[], None]) -> None:
        outer = self
        self.events: list[Any] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                # The app also tells the server what functions it has; that is to be lost.
                if not self.path.startswith("/e/"):
                    return
                outer.events.append(json.loads(body))
                if pass_on:
                    headers = {"Content-Type": "application/json"}
                    onward = urllib.request.Request(server_url + self.path, body, headers)
                    with urllib.request.urlopen(onward, timeout=10) as answer:
                        assert answer.status == 200
                then()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Take no more."""
        self._http.shutdown()
        self._http.server_close()


@contextlib.contextmanager
def deployed(
    folder: Path, gemini: Gemini, app: str = THIS_WAY, on_serverless_host: bool = False
) -> Iterator[Deployment]:
    """A deployment in a folder of its own, not started yet; nothing is left of it at the end."""
    folder.mkdir(exist_ok=True)
    deployment = Deployment(folder, gemini, app, on_serverless_host)
    try:
        yield deployment
    finally:
        deployment.close()


def upload_and_forget(deployment: Deployment, text: str = "Buyer: Hello.") -> None:
    """Upload over a bare socket to an app that will be killed before it answers."""
    body = json.dumps({"transcript": text}).encode()
    with socket.create_connection(("127.0.0.1", deployment.app_port), 10) as connection:
        connection.settimeout(60)
        connection.sendall(
            b"POST /api/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b"", "the app was to be killed before it answers"

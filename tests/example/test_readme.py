"""The messages that the example's README quotes are those that a person really sees."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import BaseModel

import perdure
from examples.opportunity_tracker import jobs
from tests.example.conftest import Gemini, Running, Said, Starter, problem
from tests.repo.running import free_port, request, started, wait_for

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "examples" / "opportunity_tracker" / "README.md").read_text()
KEY = "ab" * 32


class Pair:
    """The app and a server as processes, whose output is in files."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.port, self.app_port = free_port(), free_port()
        self.app_log, self.server_log = folder / "app.log", folder / "server.log"

    def start_app(self, **settings: str) -> None:
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--factory",
            "examples.opportunity_tracker.app:create_app",
        ]
        environment = {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": f"sqlite:///{self._folder / 'tracker.db'}",
            "TRACKER_MODEL": "demo",
            "TRACKER_DEMO_URL": f"http://127.0.0.1:{free_port()}",
            "PERDURE_URL": f"http://127.0.0.1:{self.port}",
            **settings,
        }
        port = ["--port", str(self.app_port)]
        self._stack.enter_context(started([*command, *port], self._folder, self.app_log, environment))
        wait_for("the app", lambda: request(f"http://127.0.0.1:{self.app_port}/health"), 30, self.app_log)

    def start_server(self, *options: str, path: str = "/api/inngest") -> None:
        command = [
            str(Path(sys.executable).with_name("perdure")), "dev", "--port", str(self.port), "--no-discovery",
            "--no-open", "--poll-interval", "1", "-u", f"http://127.0.0.1:{self.app_port}{path}", *options,
        ]  # fmt: skip
        self._stack.enter_context(started(command, self._folder, self.server_log, {}))
        wait_for("the server", lambda: "is ready" in self.server_log.read_text(), 30, self.server_log)

    def upload(self) -> str:
        answer = request(f"http://127.0.0.1:{self.app_port}/api/calls", {"transcript": "Buyer: Hello."})
        return str(answer["id"])

    def says(self, log: Path, message: str) -> None:
        assert message in README
        wait_for(message, lambda: message in log.read_text(), 30, log)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path, stack)


def on_page(app: Running, call_id: str, message: str) -> None:
    assert message in README
    page = app.http.get(f"/calls/{call_id}").text
    assert message in re.sub(r"\s+", " ", page)


def test_the_server_is_not_running(start: Starter, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # In a database of its own, as other apps would send the call.
    database = f"sqlite:///{tmp_path / 'tracker.db'}"
    app = start(f"http://127.0.0.1:{free_port()}", send_timeout=0.2, database_url=database)
    on_page(app, app.upload(), "Its job starts as soon as the server can be reached.")
    assert "was not taken" in README
    assert "was not taken" in caplog.text


def test_the_server_does_not_know_the_job(pair: Pair) -> None:
    pair.start_app()
    pair.start_server(path="/api/jobs")
    call_id = pair.upload()
    text = httpx.get(f"http://127.0.0.1:{pair.app_port}/calls/{call_id}").text
    assert "Its job is about to start." in README
    assert "Its job is about to start." in text


KEYS: dict[str, tuple[Callable[[Starter], Running], Said | None, str]] = {
    "no key": (lambda start: start(gemini_api_key=None), None, "GEMINI_API_KEY is not set"),
    "a wrong key": (
        lambda start: start(),
        problem(403, "PERMISSION_DENIED", "API key not valid."),
        "Gemini refused the API key",
    ),
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_gemini(start: Starter, fresh_gemini: Gemini, name: str) -> None:
    make, answer, message = KEYS[name]
    app = make(start)
    if answer is not None:
        fresh_gemini.say(answer)
    call_id = app.upload()
    assert message in app.settled(call_id, "failed")["error"]
    on_page(app, call_id, message)


def test_the_quota_is_used_up(start: Starter, fresh_gemini: Gemini) -> None:
    app = start()
    fresh_gemini.say(*(problem(429, "RESOURCE_EXHAUSTED", "Quota exceeded.") for _ in range(4)))
    call_id = app.upload()
    app.settled(call_id, "failed")
    on_page(app, call_id, "Too many requests to Gemini")


def test_a_server_with_keys(pair: Pair) -> None:
    pair.start_app()
    pair.start_server("--signing-key", KEY, "--event-key", "secret")
    pair.upload()
    pair.says(pair.app_log, "refused the event key")


def test_a_server_with_a_signing_key(pair: Pair) -> None:
    pair.start_app(PERDURE_EVENT_KEY="secret")
    pair.start_server("--signing-key", KEY, "--event-key", "secret")
    wait_for("the sync", lambda: "is synced" in pair.server_log.read_text(), 30, pair.server_log)
    pair.upload()
    pair.says(pair.app_log, "was refused (HTTP 401")


def test_the_app_is_not_running(pair: Pair) -> None:
    pair.start_server()
    pair.says(pair.server_log, "cannot be reached")


def test_the_jobs_are_at_another_path(pair: Pair) -> None:
    pair.start_app()
    pair.start_server(path="/api/jobs")
    pair.says(pair.server_log, "answered with HTTP 404")


def test_two_jobs_of_one_id() -> None:
    app = perdure.App(jobs.APP)

    def job(event: dict[str, object]) -> None: ...

    app.function("a", id="one")(job)
    with pytest.raises(perdure.UsageError) as caught:
        app.function("b", id="one")(job)
    message = "Two functions of opportunity-tracker have the id"
    assert message in README
    assert message in str(caught.value)


def test_the_recipe_is_the_code() -> None:
    """The second job as the README shows it is the one in jobs.py."""
    (recipe,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    flat = re.sub(r"\s+", "", (ROOT / "examples" / "opportunity_tracker" / "jobs.py").read_text())
    flat = flat.replace('"""Anemailtobesent."""', "")
    for part in re.split(r"\n\s*\n", recipe):
        assert re.sub(r"\s+", "", part) in flat, part
    assert issubclass(jobs.EmailWanted, BaseModel)


def test_every_variable_is_one_that_is_read() -> None:
    folder = ROOT / "examples" / "opportunity_tracker"
    read = "\n".join(path.read_text() for path in (folder / "settings.py", ROOT / "docs" / "sdk.md"))
    named = set(re.findall(r"\b(?:TRACKER|GEMINI|SMTP|MAIL|PERDURE|DATABASE)_[A-Z_]+\b", README))
    assert len(named) > 8
    assert [name for name in sorted(named) if name not in read] == []

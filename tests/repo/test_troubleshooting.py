"""The messages that the README's troubleshooting quotes are those that a person really sees."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.repo.running import free_port, request, started, wait_for
from tests.repo.tracked import ROOT

KEY = "ab" * 32
APP = """
import os
import fastapi
import inngest
import inngest.fast_api

client = inngest.Inngest(app_id="asked-for-help")

@client.create_function(fn_id="job", trigger=inngest.TriggerEvent(event="a"))
async def job(ctx):
    return 1

@client.create_function(fn_id="nightly", trigger=inngest.TriggerCron(cron=os.environ.get("CRON", "0 3 * * *")))
async def nightly(ctx):
    return 1

app = fastapi.FastAPI()
inngest.fast_api.serve(app, client, [job, nightly])

@app.get("/send")
async def send():
    try:
        return await client.send(inngest.Event(name="a"))
    except Exception as error:
        return str(error)
"""


@dataclass
class Mistake:
    """One thing done wrong, and the message that it should bring, said by the server or by the app."""

    message: str
    said_by: str
    app_settings: dict[str, str] = field(default_factory=dict)
    server_options: tuple[str, ...] = ()
    path: str = "/api/inngest"
    app_runs: bool = True


MISTAKES = {
    "app not in development mode": Mistake("SigningKeyMissingError", "app", {"INNGEST_DEV": "0"}),
    "server with keys, app in development mode": Mistake(
        "the app expects another kind of server", "server", server_options=("--signing-key", KEY)
    ),
    "another event key": Mistake(
        "Event key not found",
        "answer to /send",
        {"INNGEST_DEV": "0", "INNGEST_SIGNING_KEY": KEY, "INNGEST_EVENT_KEY": "mine"},
        ("--signing-key", KEY, "--event-key", "theirs"),
    ),
    "app not started": Mistake("cannot be reached", "server", app_runs=False),
    "wrong path": Mistake("answered with HTTP 404", "server", path="/api/wrong"),
    "a schedule that is none": Mistake("At least one function is invalid", "server", {"CRON": "at night"}),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_message_is_shown_and_explained(name: str, tmp_path: Path) -> None:
    mistake = MISTAKES[name]
    assert mistake.message in (ROOT / "README.md").read_text()
    port, app_port = free_port(), free_port()
    (tmp_path / "asking.py").write_text(APP)
    app_log, server_log = tmp_path / "app.log", tmp_path / "server.log"
    app = [sys.executable, "-m", "uvicorn", "asking:app", "--port", str(app_port)]
    app_env = {"INNGEST_DEV": "1", "INNGEST_BASE_URL": f"http://127.0.0.1:{port}", **mistake.app_settings}
    server = [
        str(Path(sys.executable).with_name("perdure")), "dev", "--port", str(port), "--no-discovery", "--no-open",
        "--poll-interval", "1", "-u", f"http://127.0.0.1:{app_port}{mistake.path}", *mistake.server_options,
    ]  # fmt: skip
    if not mistake.app_runs:
        app = [sys.executable, "-c", "import time; time.sleep(60)"]
    with started(app, tmp_path, app_log, app_env), started(server, tmp_path, server_log):
        if mistake.said_by == "answer to /send":
            answer = wait_for("an answer", lambda: request(f"http://127.0.0.1:{app_port}/send"), 30, app_log)
            assert mistake.message in answer
        else:
            log = app_log if mistake.said_by == "app" else server_log
            wait_for(mistake.message, lambda: mistake.message in log.read_text(), 30, log)


def test_without_a_mistake_the_job_is_in_the_list(tmp_path: Path) -> None:
    port, app_port = free_port(), free_port()
    (tmp_path / "asking.py").write_text(APP)
    log = tmp_path / "server.log"
    base = f"http://127.0.0.1:{port}"
    app = [sys.executable, "-m", "uvicorn", "asking:app", "--port", str(app_port)]
    server = [
        str(Path(sys.executable).with_name("perdure")), "dev", "--port", str(port), "--no-discovery", "--no-open",
        "--poll-interval", "1", "-u", f"http://127.0.0.1:{app_port}/api/inngest",
    ]  # fmt: skip
    with (
        started(app, tmp_path, tmp_path / "app.log", {"INNGEST_DEV": "1", "INNGEST_BASE_URL": base}),
        started(server, tmp_path, log),
    ):
        functions = wait_for("the list", lambda: request(f"{base}/dev")["functions"], 30, log)
    assert {function["slug"] for function in functions} == {"asked-for-help-job", "asked-for-help-nightly"}

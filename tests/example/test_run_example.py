"""What `make run` starts, without its installing: with the switch that turns the demo model off, and no key."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from examples.opportunity_tracker.gemini import MISSING_KEY
from tests.repo.running import free_port, request, started, wait_for

ROOT = Path(__file__).resolve().parents[2]


def test_the_switch_shows_what_a_missing_key_does(tmp_path: Path) -> None:
    port, app_port, log = free_port(), free_port(), tmp_path / "log"
    command = [
        sys.executable, str(ROOT / "scripts" / "run_example.py"), "--port", str(port), "--app-port", str(app_port),
        "--data-dir", str(tmp_path / "data"), "--no-discovery",
    ]  # fmt: skip
    environment = {"TRACKER_MODEL": "gemini", "GEMINI_API_KEY": "", "SMTP_HOST": "mail.example.com"}
    with started(command, ROOT, log, environment) as example:
        wait_for("the greeting", lambda: "<- open this" in log.read_text(), 60, log)
        printed = log.read_text()
        assert "Gemini. GEMINI_API_KEY is not set: jobs will fail and say so." in printed
        # Neither stand-in was started: there is a mail server, and no demo model is wanted.
        assert "model   |" not in printed
        assert "mail    |" not in printed
        url = f"http://127.0.0.1:{app_port}"
        call_id = request(f"{url}/api/calls", {"transcript": "Buyer: Hello."})["id"]
        watch = f"{url}/api/calls/{call_id}"
        wait_for("the end", lambda: request(watch)["status"] == "failed", 20, log)
        assert request(watch)["error"] == MISSING_KEY
        os.killpg(example.pid, signal.SIGINT)
        assert example.wait(30) == 0
        assert "Stopped." in log.read_text()

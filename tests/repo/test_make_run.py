"""`make run` as a newcomer meets it: a copy of the repository with nothing set up, one command, and the example's job.

The example's job ends and REST shows it, a taken port is named, Ctrl-C leaves nothing running, and a second `make run`
installs nothing. What happens when its processes are killed is in tests/example/test_newcomer.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.repo.running import free_port, request, started, wait_for
from tests.repo.tracked import ROOT, tracked

INSTALL_SECONDS = 300
READY_SECONDS = 60
# The retries that follow a killed process are a second apart here; a newcomer waits longer, as the protocol has it.
QUICK_RETRIES = "--retry-interval 1 --no-discovery"

pytestmark = pytest.mark.slow


@dataclass
class Copy:
    """A copy of the repository, and where its processes listen."""

    folder: Path
    port: int
    app_port: int

    @property
    def log(self) -> Path:
        return self.folder.parent / "log"

    def command(self) -> list[str]:
        return [
            "make", "run", f"PYTHON={sys.executable}", f"PORT={self.port}", f"APP_PORT={self.app_port}",
            f"ARGS={QUICK_RETRIES}",
        ]  # fmt: skip

    def ready(self, seconds: float) -> None:
        wait_for("the greeting", lambda: "<- open this" in self.log.read_text(), seconds, self.log)

    def upload(self, transcript: str) -> Any:
        return request(f"http://127.0.0.1:{self.app_port}/api/calls", {"transcript": transcript})

    def call(self, call_id: str) -> Any:
        return request(f"http://127.0.0.1:{self.app_port}/api/calls/{call_id}")

    def completed(self, call_id: str, seconds: float = 60) -> Any:
        """The call, once its job has saved what it found."""

        def done() -> Any:
            call = self.call(call_id)
            assert call["status"] != "failed", call
            return call if call["status"] == "completed" else None

        return wait_for(f"the job of call {call_id}", done, seconds, self.log)

    def process(self, name: str) -> int:
        """The newest process of that name, as the output tells it."""
        return int(
            re.findall(rf"^{name} *\| started as process (\d+)$", self.log.read_text(), re.MULTILINE)[-1]
        )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    folder = tmp_path_factory.mktemp("newcomer") / "perdure"
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    return Copy(folder, free_port(), free_port())


@pytest.fixture(scope="module")
def running(copy: Copy) -> Iterator[Copy]:
    env = {"PYTHONPATH": "", "VIRTUAL_ENV": ""}
    with started(copy.command(), copy.folder, copy.log, env) as make:
        try:
            copy.ready(INSTALL_SECONDS)
            yield copy
        finally:
            end(make, copy)


def end(make: subprocess.Popen[bytes], copy: Copy) -> None:
    """What Ctrl-C in a terminal does: the signal goes to every process of the group."""
    children = [copy.process(name) for name in ("perdure", "app", "model", "mail")]
    os.killpg(make.pid, signal.SIGINT)
    make.wait(40)
    assert "Stopped." in copy.log.read_text()
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_the_first_job_succeeds_without_a_key_and_rest_shows_its_run(running: Copy) -> None:
    uploaded = running.upload(
        "Buyer: Doing this by hand is slow.\nAccount executive: I will send you an offer."
    )
    assert uploaded["status"] == "pending"
    call = running.completed(uploaded["id"])
    assert call["model"] == "demo-model"
    assert call["summary"]["pain_points"] == ["Doing this by hand is slow."]
    url = f"http://127.0.0.1:{running.port}/v1/events/{uploaded['event_id']}/runs"
    (run,) = wait_for(
        "the end of the run",
        lambda: [run for run in request(url)["data"] if run["status"] == "Completed"],
        20,
        running.log,
    )
    assert run["output"] == call["summary"]


def test_an_email_lands_in_the_outbox(running: Copy) -> None:
    data = {"to": "somebody@example.com", "subject": "A first mail", "body": "Good morning."}
    request(f"http://127.0.0.1:{running.port}/e/any", {"name": "email/send", "data": data})
    page = f"http://127.0.0.1:{running.app_port}/outbox"

    def shown() -> bool:
        with urllib.request.urlopen(page, timeout=10) as answer:
            return "A first mail" in answer.read().decode()

    wait_for("the mail", shown, 30, running.log)


def test_a_taken_port_is_named_with_the_way_out(running: Copy) -> None:
    done = subprocess.run(running.command(), cwd=running.folder, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"Port {running.port} is taken by a server of this protocol" in done.stderr
    assert f"make run PORT={running.port + 10}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_second_time_nothing_is_installed(running: Copy) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/environment.py", "run"],
        cwd=running.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""

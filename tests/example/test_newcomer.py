"""A newcomer's first minutes: clone, `make run`, and what its greeting says to try, command by command.

What is run are the printed commands themselves. The retry is 1 second away instead of 15 to 45, and the slow model
takes 4 seconds instead of 20; all else is as a newcomer has it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.integration.durability.ledger import Ledger
from tests.sdk.driver import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["update-status-parsing", "parse-transcript", "save-results", "update-opportunity-history"]
INSTALL_S = 300
JOB_S = 40
T = TypeVar("T")


class Terminal:
    """`make run` in a clone, what it has printed, and its commands."""

    def __init__(self, clone: Path, log: Path) -> None:
        self.clone = clone
        self.log = log
        self.database = clone / ".perdure" / "perdure.db"

    def printed(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, what: str, look: Callable[[], T], seconds: float) -> T:
        """Ask until the answer is true. Fails with what was printed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if answer := look():
                    return answer
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"{what}: not within {seconds:g} s. Printed so far:\n{self.printed()}")

    def command(self, *holding: str) -> str:
        """The one printed command that holds all these."""
        lines = [line.strip() for line in self.printed().splitlines() if line.startswith("    ")]
        (found,) = [line for line in lines if ".venv/bin/" in line and all(part in line for part in holding)]
        return found

    def run(self, command: str) -> Run:
        """Start a command in the clone, as a shell reads it."""
        return Run(self, command)

    def runs(self) -> Any:
        """What `perdure runs` prints as JSON. OSError if it gets no answer."""
        command = f"{self.command('perdure runs')} --json"
        done = subprocess.run(
            command, shell=True, cwd=self.clone, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(done.stderr)
        return json.loads(done.stdout)

    def steps(self, run_id: str) -> dict[str, Any]:
        """The results that the server has recorded for a run, with their times, by step."""
        ledger = Ledger.read(self.database)
        return {row[0]: row for (one, _), row in ledger.steps.items() if one == run_id}

    def process(self, name: str) -> int:
        """The newest process of that name."""
        return int(re.findall(rf"^{name} *\| started as process (\d+)$", self.printed(), re.MULTILINE)[-1])


class Run:
    """`run_transcript`, running: what it prints, and the run at the server that belongs to its call."""

    def __init__(self, shell: Terminal, command: str) -> None:
        self._shell = shell
        self._log = shell.log.with_name(f"run-{time.monotonic_ns()}")
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command, shell=True, cwd=shell.clone, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def printed(self) -> str:
        return self._log.read_text()

    def run_id(self) -> str:
        """The id of its run, once the job has begun."""
        return str(self._shell.until("the start of the job", self._find_run, JOB_S))

    def _find_run(self) -> Any:
        found = re.search(r"call (\w+), pending +(http\S+)/calls/", self.printed())
        if found is None:
            return None
        with urllib.request.urlopen(f"{found[2]}/api/calls/{found[1]}", timeout=10) as answer:
            return json.load(answer)["run_id"]

    def succeeds(self) -> str:
        """Wait for its good end; what it has printed."""
        code = self._process.wait(JOB_S)
        assert code == 0, f"{self.printed()}\n{self._shell.printed()}"
        return self.printed()


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    folder = tmp_path_factory.mktemp("newcomer")
    clone, log = folder / "perdure", folder / "log"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, timeout=60)
    command = [
        "make", "run", f"PYTHON={sys.executable}", f"PORT={free_port()}", f"APP_PORT={free_port()}",
        "ARGS=--retry-interval 1",
    ]  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("wb") as output:
        make = subprocess.Popen(
            command, cwd=clone, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip
    shell = Terminal(clone, log)
    try:
        shell.until("the greeting", lambda: "Ctrl-C stops all" in shell.printed(), INSTALL_S)
        yield shell
        os.killpg(make.pid, signal.SIGINT)
        make.wait(30)
        assert "Stopped." in shell.printed()
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
        for name in ("perdure", "app", "model", "mail"):
            kill_if_there(shell, name)


def kill_if_there(shell: Terminal, name: str) -> None:
    """Each of them is in a session of its own, which outlives `make` if that was killed."""
    try:
        os.kill(shell.process(name), signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return


def test_the_first_transcript(terminal: Terminal) -> None:
    run = terminal.run(terminal.command("discovery"))
    printed = run.succeeds()
    assert "3 participants" in printed
    assert "18,000 euros" in printed
    ended = terminal.until(
        "the end of the run",
        lambda: [
            one for one in terminal.runs() if one["id"] == run.run_id() and one["status"] == "COMPLETED"
        ],
        JOB_S,
    )
    assert list(terminal.steps(ended[0]["id"])) == STEPS


def test_the_model_fails_once(terminal: Terminal) -> None:
    run = terminal.run(terminal.command("flaky"))
    run.succeeds()
    terminal.until("all steps", lambda: list(terminal.steps(run.run_id())) == STEPS, JOB_S)


@pytest.mark.parametrize("victim", ["app", "perdure"])
def test_killed_in_the_second_step(terminal: Terminal, victim: str) -> None:
    slow = terminal.clone / "examples" / "opportunity_tracker" / "transcripts" / "slow.txt"
    quicker = terminal.log.with_name("quicker.txt")
    quicker.write_text(slow.read_text().replace("[demo: slow 20]", "[demo: slow 4]"))
    run = terminal.run(re.sub(r" slow$", f" {quicker}", terminal.command(" slow")))
    run_id = run.run_id()
    before = terminal.until("the first step's result", lambda: terminal.steps(run_id), JOB_S)
    assert list(before) == STEPS[:1]
    pid = terminal.process(victim)
    os.kill(pid, signal.SIGKILL)
    terminal.until("a new process", lambda: terminal.process(victim) != pid, 20)
    run.succeeds()
    terminal.until("all steps", lambda: list(terminal.steps(run_id)) == STEPS, JOB_S)
    assert {name: terminal.steps(run_id)[name] for name in before} == before

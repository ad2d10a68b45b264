"""A newcomer's first minutes: clone, `make run`, and what its greeting says to try, command by command.

What is uploaded and watched are the printed commands themselves, read as a shell reads them. The retry is 1 second
away instead of 15 to 45, and the slow step takes 4 instead of 20; all else is as a newcomer has it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
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

ROOT = Path(__file__).resolve().parents[3]
STEPS = ["update-status-parsing", "parse-transcript", "save-parsed-results", "update-opportunity-history"]
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

    def commands(self) -> list[list[str]]:
        """The curl commands of the greeting, as their words."""
        greeting = self.printed().replace("\\\n", " ")
        return [shlex.split(line) for line in greeting.splitlines() if line.startswith("    curl ")]

    def command(self, *holding: str) -> list[str]:
        """The one command that holds all these."""
        (found,) = [words for words in self.commands() if all(part in " ".join(words) for part in holding)]
        return found

    def upload(self, words: list[str]) -> Any:
        """Run a command that uploads a transcript."""
        answer = run_curl(words)
        assert answer["status"] == "pending"
        return answer

    def watch(self, call: Any) -> tuple[Any, Any]:
        """Run both commands that watch: the app's record of the call, and the server's runs of its event."""
        runs = self.perdure("runs")
        record = run_curl([word.replace("ID", call["id"]) for word in self.command("/calls/ID")])
        return record, [run for run in runs if call["event_id"] in run["event_ids"]]

    def perdure(self, name: str) -> Any:
        """What a command of the terminal that the greeting names prints as JSON. OSError if it gets no answer."""
        lines = [line.strip() for line in self.printed().splitlines()]
        (found,) = [line for line in lines if re.search(rf"/bin/perdure {name}$", line)]
        done = subprocess.run(
            f"{found} --json", shell=True, cwd=self.clone, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise OSError(done.stderr)
        return json.loads(done.stdout)

    def finished(self, call: Any) -> Any:
        """Watch until both say that the job is done; the app's record."""

        def done() -> Any:
            record, runs = self.watch(call)
            assert record["status"] != "failed", record
            return record if [run["status"] for run in runs] == ["COMPLETED"] else None

        record = self.until(f"the job of call {call['id']}", done, JOB_S)
        assert record["status"] == "completed"
        assert record["result"]["words"] > 0
        return record

    def in_second_step(self, call: Any) -> None:
        """Watch until the second step has begun."""
        self.until("the second step", lambda: self.watch(call)[0]["step_tries"].get(STEPS[1]), JOB_S)

    def steps(self, call: Any) -> dict[str, Any]:
        """The results that the server has recorded for the job of the call, with their times, by step."""
        ledger = Ledger.read(self.database)
        (run,) = [run for run in ledger.runs.values() if run["event_id"] == call["event_id"]]
        return {row[0]: row for (run_id, _), row in ledger.steps.items() if run_id == run["id"]}

    def process(self, name: str) -> int:
        """The newest process of that name."""
        return int(re.findall(rf"^{name} *\| started as process (\d+)$", self.printed(), re.MULTILINE)[-1])


def run_curl(words: list[str]) -> Any:
    """What `curl URL [-H header] [-d body]` prints, decoded."""
    url, *options = words[1:]
    given = dict(zip(options[::2], options[1::2], strict=True))
    headers = dict([given["-H"].split(": ", 1)]) if "-H" in given else {}
    body = given["-d"].encode() if "-d" in given else None
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
        return json.loads(answer.read())


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
        shell.until("the greeting", lambda: "Ctrl-C stops both" in shell.printed(), INSTALL_S)
        yield shell
        os.killpg(make.pid, signal.SIGINT)
        make.wait(30)
        assert "Stopped." in shell.printed()
    finally:
        if make.poll() is None:
            os.killpg(make.pid, signal.SIGKILL)
        for name in ("perdure", "app"):
            kill_if_there(shell, name)


def kill_if_there(shell: Terminal, name: str) -> None:
    """Each of the two is in a session of its own, which outlives `make` if that was killed."""
    try:
        os.kill(shell.process(name), signal.SIGKILL)
    except (IndexError, ProcessLookupError):
        return


def test_the_first_transcript(terminal: Terminal) -> None:
    record = terminal.finished(terminal.upload(terminal.command("Doing this by hand")))
    assert record["step_tries"] == dict.fromkeys(STEPS, 1)
    assert record["result"]["budget"] == ["$12,000"]


def test_the_second_step_fails_once(terminal: Terminal) -> None:
    call = terminal.upload(terminal.command('"fail_first": 1'))
    record = terminal.finished(call)
    assert record["step_tries"] == {**dict.fromkeys(STEPS, 1), STEPS[1]: 2}
    assert list(terminal.steps(call)) == STEPS


@pytest.mark.parametrize("victim", ["app", "perdure"])
def test_killed_in_the_second_step(terminal: Terminal, victim: str) -> None:
    slow = [
        word.replace('"takes_seconds": 20', '"takes_seconds": 4')
        for word in terminal.command("takes_seconds")
    ]
    call = terminal.upload(slow)
    terminal.in_second_step(call)
    before = terminal.steps(call)
    assert list(before) == STEPS[:1]
    pid = terminal.process(victim)
    os.kill(pid, signal.SIGKILL)
    terminal.until("a new process", lambda: terminal.process(victim) != pid, 20)
    record = terminal.finished(call)
    after = terminal.steps(call)
    assert list(after) == STEPS
    assert {name: after[name] for name in before} == before
    assert record["step_tries"] == {**dict.fromkeys(STEPS, 1), STEPS[1]: 2}

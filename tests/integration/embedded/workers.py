"""Processes of the app that is killed, and what they wrote down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.integration.durability.ledger import opened

WORKER = Path(__file__).parent / "apps" / "worker.py"
STALL_S = 20.0
T = TypeVar("T")


class Crew:
    """The processes of one app on one database."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "jobs.db"
        self._journal = folder / "journal"
        self._output = folder / "output"
        self.children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, first: int, last: int, *flags: str) -> int:
        """Start a process that sends the events of a range; its id."""
        command = [
            sys.executable,
            str(WORKER),
            "--database",
            str(self.database),
            "--journal",
            str(self._journal),
        ]
        command += ["--first", str(first), "--last", str(last), *flags]
        with self._output.open("ab") as output:
            child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        self.children[child.pid] = child
        return child.pid

    def kill(self, pid: int) -> None:
        """SIGKILL, and wait until it is gone."""
        child = self.children.pop(pid)
        child.send_signal(signal.SIGKILL)
        child.wait()

    def stop(self) -> list[int]:
        """SIGTERM to all, and their exit codes."""
        children, self.children = list(self.children.values()), {}
        for child in children:
            child.terminate()
        return [child.wait(20) for child in children]

    def lines(self, what: str) -> list[dict[str, Any]]:
        """The lines of one kind in the journal."""
        if not self._journal.exists():
            return []
        whole = self._journal.read_bytes().rpartition(b"\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if line["what"] == what]

    def wait_for_steps(self, count: int) -> None:
        """Wait until so many steps have run."""
        self.until(f"{count} steps", lambda: len(self.lines("ran")) >= count)

    def steps_since(self, line: int) -> set[tuple[str, str]]:
        """Run and name of the steps that have run since the journal had so many lines of steps."""
        return {(step["run"], step["step"]) for step in self.lines("ran")[line:]}

    def leader(self) -> int | None:
        """The process that said last that it leads, if it lives."""
        leading = [line["pid"] for line in self.lines("role") if line["role"] == "leader"]
        return leading[-1] if leading and leading[-1] in self.children else None

    def completed(self) -> int:
        """Number of runs that have ended well."""
        return self._count("SELECT count(*) FROM runs WHERE status='COMPLETED'")

    def runs(self) -> int:
        """Number of runs."""
        return self._count("SELECT count(*) FROM runs")

    def _count(self, statement: str) -> int:
        if not self.database.exists():
            return 0
        with opened(self.database) as connection:
            count: int = connection.execute(statement).fetchone()[0]
            return count

    def until(self, what: str, look: Callable[[], T | None]) -> T:
        """Wait until `look` gives something truthy, for as long as the journal grows."""
        last, size = time.monotonic(), -1
        while not (seen := look()):
            now = os.path.getsize(self._journal) if self._journal.exists() else 0
            if now != size:
                last, size = time.monotonic(), now
            dead = [child.args for child in self.children.values() if child.poll() is not None]
            if dead or time.monotonic() - last > STALL_S:
                raise AssertionError(f"{what}: {seen!r}; dead: {dead}\n{self._output.read_text()[-4000:]}")
            time.sleep(0.02)
        return seen

    def close(self) -> None:
        """Kill what still lives."""
        for pid in list(self.children):
            self.kill(pid)

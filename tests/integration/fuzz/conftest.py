"""A server under fuzz, watched: its memory stays bounded, it stays healthy, and nothing lands in quarantine.

FUZZ_MINUTES is how long the fuzz of requests and that of answers may each take (0.3 by default).
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.sdk.driver import Process, Server

MIB = 1024 * 1024
RSS_BOUND = 400 * MIB
PATIENCE_S = 5.0


def seconds() -> float:
    """How long a fuzz of requests or of answers goes on."""
    return float(os.environ.get("FUZZ_MINUTES", "0.3")) * 60


class Watched:
    """A server, its data, and what its process uses."""

    def __init__(self, folder: Path) -> None:
        self.server = Server.start(folder, "--log-level", "warning")
        self.database = folder / "data" / "perdure.db"
        self.log = folder / "server.log"
        self.started_with = self.rss()

    def rss(self) -> int:
        """Resident memory of the server's process, in bytes."""
        status = Path(f"/proc/{pid_of(self.server.process)}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def quarantined(self) -> list[str]:
        """Commands that the server could not decide, with their tracebacks."""
        with sqlite3.connect(f"file:{self.database}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT command, traceback FROM quarantine").fetchall()
        return [f"{command}\n{traceback}" for command, traceback in rows]

    def check(self) -> None:
        """Healthy, within its memory, and with no trace of an accident."""
        assert httpx.get(f"{self.server.url}/health", timeout=PATIENCE_S).status_code == 200
        assert self.rss() < RSS_BOUND, f"{self.rss() // MIB} MiB"
        assert self.quarantined() == []
        log = self.log.read_text(errors="replace")
        assert "Traceback" not in log, log[-6000:]


def pid_of(process: Process) -> int:
    """The process id of a child."""
    return int(process._child.pid)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    one = Watched(tmp_path_factory.mktemp("fuzzed"))
    try:
        yield one
        one.check()
    finally:
        one.server.stop()


def until_time_is_up(work: Callable[[], None], limit: float | None = None) -> int:
    """Call `work` again and again; how often it was."""
    end = time.monotonic() + (seconds() if limit is None else limit)
    count = 0
    while time.monotonic() < end:
        work()
        count += 1
    return count

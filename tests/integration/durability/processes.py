"""The victims: a server and an app that are killed, told to stop, and started again where they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.sdk.driver import free_port

ROOT = Path(__file__).resolve().parents[3]
READY_S = 30.0
T = TypeVar("T")


def until(what: str, look: Callable[[], T], seconds: float, log: Callable[[], str] = lambda: "") -> T:
    """Call `look` until it gives something truthy; network errors count as not yet. Fails with `what` and the log."""
    end = time.monotonic() + seconds
    seen: object = None
    while time.monotonic() < end:
        try:
            if answer := look():
                return answer
            seen = answer
        except (OSError, ValueError) as error:
            seen = error
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds:g} s; last seen: {seen!r}\n{log()}")


def get(url: str) -> tuple[int, Any, dict[str, str]]:
    """GET: status, decoded JSON, headers by lower-case name."""
    return _ask(urllib.request.Request(url))


def post(url: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, Any, dict[str, str]]:
    """POST a JSON body: status, decoded JSON, headers by lower-case name."""
    data = json.dumps(body).encode()
    return _ask(urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}))


def _ask(request: urllib.request.Request) -> tuple[int, Any, dict[str, str]]:
    try:
        answer = urllib.request.urlopen(request, timeout=15)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status or 0, json.loads(body) if body else None, headers


class Victim:
    """A program on a fixed port. Its output goes to one file, over all of its lives."""

    def __init__(self, command: Sequence[str], port: int, ready_path: str, log: Path) -> None:
        self.command = list(command)
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._ready_path = ready_path
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it answers with 200."""
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                start_new_session=True,
            )
        if wait:
            until("the start", self._answers, READY_S, self.tail)

    def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise AssertionError(f"{self.command} ended with {self._child.returncode}:\n{self.tail()}")
        return get(self.url + self._ready_path)[0] == 200

    def kill(self) -> None:
        """SIGKILL, which nothing can catch."""
        self.send(signal.SIGKILL)
        self.wait(10)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._child is not None
        self._child.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Its exit code; fails if it is still there after so long."""
        assert self._child is not None
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s:\n{self.tail()}") from None

    def end(self) -> None:
        """Leave nothing behind."""
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()

    def tail(self, lines: int = 60) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Site:
    """A server and an app with its journal, in one folder. `database` is the server's file."""

    def __init__(self, folder: Path, app: str, *flags: str, prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.journal_path = folder / "journal"
        self.database = self.data / "perdure.db"
        port, app_port = free_port(), free_port()
        app_command = [
            sys.executable, "-m", f"tests.integration.durability.apps.{app}",
            str(app_port), f"http://127.0.0.1:{port}", str(self.journal_path),
        ]  # fmt: skip
        self.app = Victim(app_command, app_port, "/api/inngest", folder / "app.log")
        self.server = Victim(
            [
                *prefix, sys.executable, "-m", "perdure", "dev", "--port", str(port), "--data-dir", str(self.data),
                "--no-discovery", "--no-poll", "--no-open", "--retry-interval", "1",
                "-u", f"{self.app.url}/api/inngest", *flags,
            ],
            port,
            "/health",
            folder / "server.log",
        )  # fmt: skip

    def start(self) -> None:
        """Start both, and wait until the server knows the functions."""
        self.app.start()
        self.server.start()
        until(
            "the functions", lambda: get(f"{self.server.url}/dev")[1]["functions"], READY_S, self.server.tail
        )

    def end(self) -> None:
        """Kill what is left of both."""
        self.server.end()
        self.app.end()


@contextmanager
def site(folder: Path, app: str, *flags: str, prefix: Sequence[str] = ()) -> Iterator[Site]:
    """A running server and app; both are gone afterwards."""
    running = Site(folder, app, *flags, prefix=prefix)
    try:
        running.start()
        yield running
    finally:
        running.end()

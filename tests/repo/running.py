"""Running programs of this project in tests: free ports, waiting for an answer, and ending what was started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(url: str, body: object = None) -> Any:
    """GET a URL, or POST a JSON body to it; the decoded answer."""
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        return json.loads(answer.read())


def wait_for(what: str, ask: Callable[[], Any], seconds: float, log: Path) -> Any:
    """Ask until the answer is true; give it back. Network errors count as "not yet". Fails with the log."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, ValueError):
            if answer := ask():
                return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s. Output so far:\n{log.read_text()}")
        time.sleep(0.05)


@contextlib.contextmanager
def started(
    command: list[str], cwd: Path, log: Path, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, its output in `log`; whatever is left of it is killed at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""One server and one bare app for the whole folder, and the command line as a person or a script calls it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.sdk.driver import PERDURE, Server


@dataclass(frozen=True)
class Done:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Terminal:
    """`perdure` with PERDURE_URL set."""

    url: str

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        """Start a command."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
        return subprocess.Popen(
            [str(PERDURE), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**clean, "PERDURE_URL": self.url, **env},
        )

    def __call__(self, *arguments: str, given: str = "", **env: str) -> Done:
        """Run a command to its end; `given` is its standard input."""
        process = self.start(*arguments, **env)
        out, err = process.communicate(given.encode(), 60)
        assert b"Traceback" not in err, err.decode()
        return Done(process.returncode, out.decode(), err.decode())

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with `--json`."""
        done = self(*arguments, "--json")
        assert done.code == code, done
        return json.loads(done.out)

    def error(self, *arguments: str, code: int = 1, **env: str) -> str:
        """The one sentence of a command that fails. Nothing is on standard output."""
        done = self(*arguments, **env)
        assert (done.code, done.out) == (code, ""), done
        return done.err


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def terminal(server: Server) -> Terminal:
    return Terminal(server.url)

"""A PostgreSQL for one round: initdb, start, stop, gone. fsync and synchronous_commit stay on, as they come."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.peers.install import PeerMissing
from bench.processes import Process, free_port

DEBIAN = Path("/usr/lib/postgresql")


def programs() -> Path:
    """The folder of initdb and postgres: Debian's newest, or the one on the path."""
    found = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise PeerMissing("no PostgreSQL found; install Debian's `postgresql` to measure on it")
    return Path(on_path).resolve().parent


class Postgres:
    """A running server; as root it runs as the user `postgres`, which PostgreSQL insists on."""

    def __init__(self, folder: Path) -> None:
        self._programs = programs()
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        self._port = free_port()
        self._log = folder / "postgres.log"
        self._folder = folder
        self.pid = 0

    def __enter__(self) -> Self:
        # Not inside `folder`: the user postgres may not be allowed to reach it.
        self._data = Path(tempfile.mkdtemp(prefix="perdure-bench-postgres-"))
        if self._as_user:
            shutil.chown(self._data, "postgres")
        self._run("initdb", "-D", str(self._data), "-U", "bench", "--auth=trust", "-E", "UTF8")
        options = ["-D", str(self._data), "-p", str(self._port), "-h", "127.0.0.1", "-k", str(self._data)]
        command = [*self._as_user, str(self._programs / "postgres"), *options]
        self._server = Process(command, self._log, cwd=Path("/"))
        self.pid = self._server.pid
        self._server.wait_for_port(self._port)
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "bench", "dbos")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop()
        shutil.rmtree(self._data, ignore_errors=True)

    def url(self, database: str) -> str:
        """How psycopg reaches a database of it."""
        return f"postgresql://bench@127.0.0.1:{self._port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")

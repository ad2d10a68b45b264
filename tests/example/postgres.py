"""A PostgreSQL of one's own for tests, from the programs of this machine; it refuses to be run by root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.sdk.driver import free_port

START_SECONDS = 30


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`, on the path or where Debian puts them; None if there are none."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


def unprivileged() -> str | None:
    """A user to run it as, if this is root; None if it can be run as it is. Raises KeyError if there is none."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise KeyError("neither postgres nor nobody is a user of this machine")


@contextmanager
def running(bin_folder: Path) -> Iterator[str]:
    """Start one with an empty database; its URL."""
    user = unprivileged()
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        if user is not None:
            shutil.chown(folder, user)
        data, port = folder / "data", free_port()
        run = [
            str(bin_folder / "initdb"),
            "-D",
            str(data),
            "-U",
            "tracker",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
        ]
        subprocess.run(run, user=user, cwd=folder, check=True, capture_output=True, timeout=60)
        serve = [
            str(bin_folder / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1",
            "-F",
        ]  # fmt: skip
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(serve, user=user, cwd=folder, stdout=log, stderr=log)
        try:
            url = f"postgresql://tracker@127.0.0.1:{port}/postgres"
            wait_until_up(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            server.wait(30)


def wait_until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until it takes connections. Raises AssertionError with its log if it ends, or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
            return
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start: {error}\n{log.read_text()}") from None
        time.sleep(0.05)

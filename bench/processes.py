"""Start and stop the processes under measurement, and only those."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """One child process, with its output in a log file."""

    def __init__(
        self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
                start_new_session=True,
            )
        self.pid = self._child.pid

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self._child.poll() is not None:
            tail = self.log.read_text(errors="replace")[-2000:]
            raise RuntimeError(
                f"{shlex.join(self.argv)} ended with {self._child.returncode}; its last output:\n{tail}"
            )

    def wait_for_port(self, port: int, timeout: float = 30.0) -> float:
        """Wait until something accepts on the port; gives the seconds that took."""
        start = time.monotonic()
        while time.monotonic() - start < timeout:
            self.check()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return time.monotonic() - start
            time.sleep(0.002)
        raise TimeoutError(f"{shlex.join(self.argv)} did not listen on port {port} within {timeout} s")

    def stop(self, timeout: float = 15.0) -> None:
        """SIGTERM, and SIGKILL to its session if it does not obey in time."""
        if self._child.poll() is None:
            self._child.terminate()
            try:
                self._child.wait(timeout)
            except subprocess.TimeoutExpired:
                os.killpg(self.pid, signal.SIGKILL)
                self._child.wait()


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours in this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def listener(url: str) -> int | None:
    """The process that listens on the URL's port on this machine, or None if it is not ours to see."""
    port = urlsplit(url).port or 80
    wanted = _listening_inodes(port)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            for link in (entry / "fd").iterdir():
                if os.readlink(link) in wanted:
                    return int(entry.name)
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found

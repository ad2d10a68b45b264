"""The server under test: ours by default, or whatever command or URL is named."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.processes import Process, free_port

DEFAULT_COMMAND = (
    f"{Path(sys.executable).parent / 'perdure'} dev --no-discovery --no-poll --no-open "
    "--host 127.0.0.1 --port {port} --data-dir {data_dir}"
)


@dataclass
class RunningServer:
    """A server that the benchmark started, with a data folder of its own."""

    url: str
    process: Process
    data_dir: Path

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def check(self) -> None:
        """Raise if it has ended."""
        self.process.check()

    def stop(self) -> None:
        """Stop it and remove its data."""
        self.process.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)


@dataclass
class ServerLauncher:
    """Starts fresh servers, all on one port, so that apps need not be told anew.

    `command` may hold `{port}` and `{data_dir}`. `folder` is where data goes: a disk whose fsync is real.
    """

    command: str
    folder: Path
    logs: Path
    port: int

    @classmethod
    def of(cls, command: str, folder: Path, logs: Path) -> ServerLauncher:
        """A launcher on a free port."""
        return cls(command, folder, logs, free_port())

    @property
    def url(self) -> str:
        """Where its servers answer."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> RunningServer:
        """Start one; it may not listen yet."""
        data_dir = Path(tempfile.mkdtemp(prefix="server-", dir=self.folder))
        argv = shlex.split(self.command.format(port=self.port, data_dir=shlex.quote(str(data_dir))))
        return RunningServer(self.url, Process(argv, self.logs / "server.log"), data_dir)

    def start_ready(self) -> RunningServer:
        """Start one and wait until it listens."""
        server = self.start()
        server.process.wait_for_port(self.port)
        return server

"""A server as `perdure dev` starts it, and a plain HTTP client: what any program in any language sees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.sdk.bare_app import Scripted
from tests.sdk.driver import Process, Server, free_port

Make = Callable[..., Scripted]
SLOW_PAGES = """
import asyncio
from perdure.server import jobs
jobs.PAGE = 2
step = jobs.JobDriver._step
async def slowly(self, job):
    await asyncio.sleep(0.05)
    return await step(self, job)
jobs.JobDriver._step = slowly
"""
"""Pages so small and far apart that something can happen in between."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def http(server: Server) -> httpx.Client:
    return server.http


def start_with(folder: Path, patch: str, *flags: str) -> Server:
    """`perdure dev` in a process that runs a line of Python first, to make a rare state last."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    program = f"import sys\n{patch}\nfrom perdure.cli import main\nmain(sys.argv[1:], prog_name='perdure')"
    command = [
        sys.executable, "-c", program, "dev", "--port", str(port), "--data-dir", str(folder / "data"),
        "--no-discovery", "--no-poll", *flags,
    ]  # fmt: skip
    process = Process(command, f"http://127.0.0.1:{port}", folder / "server.log")
    process.wait_ready("/health")
    return Server(process)

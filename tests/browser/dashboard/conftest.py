"""One server and one shop for the tests of a module, and `read` for visits that look for mistakes of the pages."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.driver import Process, Server, free_port, until

ROOT = Path(__file__).resolve().parents[3]


@dataclass
class Demo:
    """A server with the shop."""

    server: Server
    app: Process

    @property
    def url(self) -> str:
        """Where the pages are."""
        return self.server.url

    def run(self, name: str, **data: Any) -> str:
        """Send an event, and give the id of the run that it starts."""
        (event_id,) = self.server.send({"name": name, "data": data})
        runs = until(f"a run of {name}", lambda: self.server.runs(event_id))
        return str(runs[0]["run_id"])

    def ended(self, name: str, **data: Any) -> str:
        """`run`, and wait for its end."""
        run_id = self.run(name, **data)
        self.server.ended(run_id)
        return run_id

    def waits(self, run_id: str) -> None:
        """Come back when the run waits for an event: one that is sent before is not seen by it."""

        def look() -> bool:
            lines = self.server.http.get(f"/api/runs/{run_id}").json()["lines"]
            return any(line["kind"] == "event" for line in lines)

        until(f"run {run_id} to wait for an event", look)


def start_shop(server_url: str, folder: Path, port: int) -> Process:
    """The shop as a process; it is not yet known to a server."""
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT), "tests.browser.dashboard.shop:web",
        "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip
    env = {"PERDURE_URL": server_url}
    app = Process(command, url, folder / f"shop-{port}.log", env)
    app.wait_ready("/api/inngest")
    return app


@contextmanager
def running_demo(folder: Path, *flags: str) -> Iterator[Demo]:
    """A server and the shop, synced."""
    server = Server.start(folder, *flags)
    try:
        app = start_shop(server.url, folder, free_port())
        try:
            sync(server, app)
            yield Demo(server, app)
        finally:
            app.stop()
    finally:
        server.stop()


def sync(server: Server, app: Process) -> None:
    """Make the app known to the server."""
    answer = server.http.post("/api/apps/sync", json={"url": f"{app.url}/api/inngest"})
    assert answer.json()["problem"] is None, answer.text
    until("the functions of the shop", server.functions)


@pytest.fixture(scope="module")
def demo(chromium: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A server and the shop. Without a browser nothing is started."""
    with running_demo(tmp_path_factory.mktemp("demo")) as running:
        yield running

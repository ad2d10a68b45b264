"""The driver's hold on an app under measurement: start it, wait for its runs, read its times."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path

from bench.connection import Pool
from bench.peers import install
from bench.processes import BENCH, Process, free_port, python_module

WAIT_S = 300.0
"""Longest wait for one workload's runs, in s; longer means that runs are lost or the system does not work.

A contestant that is known to be slow where a disk is slow may ask for more.
"""

PYTHON_APPS = {
    "own": ("bench.apps.own_sdk",),
    "own-ten": ("bench.apps.own_sdk", "10"),
    "own-connect": ("bench.apps.own_connect",),
    "python": ("bench.apps.python_sdk",),
    "bare": ("bench.apps.bare",),
}
"""Module and further arguments of the apps in Python, by kind."""

KINDS = (*PYTHON_APPS, "js")


@dataclass(frozen=True)
class Times:
    """CLOCK_MONOTONIC in ns by run index, and how often a run's last line was reached again."""

    asked: dict[int, int]
    first: dict[int, int]
    last: dict[int, int]
    repeated: int


class App:
    """An app that answers the control routes of `bench.apps.marks`. `patience` is how long its runs may take, in s."""

    def __init__(self, url: str, process: Process, patience: float = WAIT_S) -> None:
        self.url = url
        self.patience = patience
        self.process = process
        self.pid = process.pid
        self._control = Pool(url, 2)

    async def reset(self) -> None:
        """Forget all runs seen so far."""
        await self._control.post("/bench/reset", b"")

    def ended(self, count: int) -> asyncio.Task[None]:
        """Ask to be told, once, when `count` runs have ended since the reset. Done with TimeoutError if they do not."""
        return asyncio.create_task(self._wait(count))

    async def _wait(self, count: int) -> None:
        answer = await self._control.get(f"/bench/wait?count={count}&timeout={self.patience}")
        state = json.loads(answer.body)
        if not state["reached"]:
            raise TimeoutError(f"{state['ended']} of {count} runs ended within {self.patience:.0f} s")

    async def times(self) -> Times:
        """All that was seen since the reset."""
        answer = await self._control.get("/bench/marks")
        seen = json.loads(answer.body)
        asked, first, last = (
            {int(index): ns for index, ns in seen[name].items()} for name in ("asked", "first", "last")
        )
        return Times(asked, first, last, seen["repeated"])

    def stop(self) -> None:
        """Stop the app."""
        self._control.close()
        self.process.stop()


def start_app(kind: str, server_url: str, logs: Path) -> App:
    """Start the app of a kind, one of `KINDS`, that serves the workloads' functions to a server."""
    port = free_port()
    if kind == "js":
        install.javascript_app()
        argv = ["node", str(BENCH / "js" / "app.mjs"), str(port), server_url]
    else:
        module, *more = PYTHON_APPS[kind]
        argv = python_module(module, str(port), server_url, *more)
    env = {"INNGEST_DEV": "1", "NODE_ENV": "production"} if kind == "js" else {}
    process = Process(argv, logs / f"app-{kind}.log", env)
    process.wait_for_port(port)
    return App(f"http://127.0.0.1:{port}", process)

"""Restate: its server from npm with default settings (its log is fsynced), its Python SDK on one Granian worker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

from bench.app import App
from bench.connection import Pool
from bench.measure import rss_mb
from bench.peers import install
from bench.processes import Process, free_port
from bench.rig import Rig
from bench.session import WORKLOADS
from bench.targets import CONNECTIONS, each

IDLE_S = 2.0
READY_S = 60.0


class RestateTarget:
    """Runs are asked for by one-way calls at Restate's ingress."""

    def __init__(self, ingress: str) -> None:
        self._pool = Pool(ingress, CONNECTIONS)

    async def start(self, function: str, index: int) -> None:
        """Send one call; done when Restate has accepted it."""
        answer = await self._pool.post(f"/Bench/{function}/send", b'{"i":%d}' % index)
        if answer.status != 202:
            raise RuntimeError(f"Restate refused a call: {answer.status} {answer.body.decode()}")

    async def start_many(self, function: str, indexes: Iterable[int]) -> None:
        """Send the calls one a request."""
        await each(lambda index: self.start(function, index), indexes, CONNECTIONS)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


async def measure(wanted: set[str], folder: Path) -> dict[str, float]:
    """One round of the workloads."""
    server_program, python = install.restate_server(), install.python()
    ports = {name: free_port() for name in ("ingress", "admin", "fabric", "app")}
    config = folder / "restate.toml"
    config.write_text(_config(folder / "restate-data", ports))
    server = Process([str(server_program), "--config-file", str(config)], folder / "restate.log")
    app = App(f"http://127.0.0.1:{ports['app']}", _start_worker(python, ports["app"], folder))
    target = RestateTarget(f"http://127.0.0.1:{ports['ingress']}")
    try:
        app.process.wait_for_port(ports["app"])
        server.wait_for_port(ports["ingress"])
        await _register(f"http://127.0.0.1:{ports['admin']}", app.url)
        rig = Rig(target, app, {"server": server.pid, "app": app.pid})
        await asyncio.sleep(IDLE_S)
        figures = {"rss_idle_mb": rss_mb(server.pid)}
        for name, workload in WORKLOADS.items():
            if name in wanted:
                figures |= await workload(rig)
        return figures | {"rss_after_mb": rss_mb(server.pid)}
    finally:
        target.close()
        app.stop()
        server.stop()


def _config(data: Path, ports: dict[str, int]) -> str:
    """Everything but places and ports as Restate has it by itself."""
    return f"""\
base-dir = "{data}"
bind-address = "127.0.0.1:{ports["fabric"]}"
advertised-address = "http://127.0.0.1:{ports["fabric"]}/"
listen-mode = "tcp"
log-filter = "warn"
disable-telemetry = true
[ingress]
bind-address = "127.0.0.1:{ports["ingress"]}"
[admin]
bind-address = "127.0.0.1:{ports["admin"]}"
"""


def _start_worker(python: Path, port: int, folder: Path) -> Process:
    options = ["--interface", "asgi", "--workers", "1", "--loop", "uvloop", "--no-ws"]
    command = [str(python), "-m", "granian", *options, "--port", str(port), "bench.peers.restate_app:app"]
    return Process(command, folder / "restate-app.log")


async def _register(admin: str, app_url: str) -> None:
    """Tell Restate of the worker, as soon as it listens to that."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_S
    reason = "nothing answered"
    async with Pool(admin, 1) as pool:
        while loop.time() < deadline:
            try:
                answer = await pool.post("/deployments", json.dumps({"uri": app_url}).encode())
            except OSError as error:
                reason = str(error)
            else:
                if answer.status in (200, 201):
                    return
                reason = f"{answer.status} {answer.body.decode()}"
            await asyncio.sleep(0.2)
    raise TimeoutError(f"Restate did not take the worker within {READY_S:.0f} s: {reason}")

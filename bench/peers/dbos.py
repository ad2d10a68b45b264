"""DBOS: a library that keeps its state in a database. In process, on SQLite and on PostgreSQL, default settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from bench.app import App
from bench.connection import Pool
from bench.measure import pss_mb
from bench.peers import install
from bench.peers.postgres import Postgres
from bench.processes import Process, free_port
from bench.rig import Rig
from bench.session import WORKLOADS

IDLE_S = 2.0
START_S = 60.0
PATIENCE_S = 1_800.0
"""It commits each start and each step by itself: minutes where the disk is busy."""


class DbosTarget:
    """Asks the process to start workflows in itself; it notes when, so the way there is not counted."""

    def __init__(self, url: str) -> None:
        self._pool = Pool(url, 2)

    async def start(self, function: str, index: int) -> None:
        """Start one workflow."""
        await self._start(function, index, 1)

    async def start_many(self, function: str, indexes: Iterable[int]) -> None:
        """Start many with one request."""
        all_of_them = list(indexes)
        await self._start(function, all_of_them[0], len(all_of_them))

    async def _start(self, function: str, first: int, count: int) -> None:
        answer = await self._pool.get(f"/bench/start?function={function}&first={first}&count={count}")
        if answer.status != 200:
            raise RuntimeError(f"the DBOS process answered {answer.status}")

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


async def on_sqlite(wanted: set[str], folder: Path) -> dict[str, float]:
    """One round on a SQLite file."""
    return await _measure(wanted, folder, f"sqlite:///{folder / 'dbos.sqlite'}", {})


async def on_postgres(wanted: set[str], folder: Path) -> dict[str, float]:
    """One round on a PostgreSQL of its own, with the settings that PostgreSQL comes with."""
    with Postgres(folder) as database:
        return await _measure(wanted, folder, database.url("dbos"), {"database": database.pid})


async def _measure(
    wanted: set[str], folder: Path, database_url: str, pids: dict[str, int]
) -> dict[str, float]:
    port = free_port()
    command = [str(install.python()), "-m", "bench.peers.dbos_app", str(port), database_url]
    app = App(f"http://127.0.0.1:{port}", Process(command, folder / "dbos.log"), PATIENCE_S)
    target = DbosTarget(app.url)
    try:
        app.process.wait_for_port(port, START_S)
        rig = Rig(target, app, {"app": app.pid} | pids)
        await asyncio.sleep(IDLE_S)
        idle = sum(pss_mb(pid) for pid in rig.pids.values())
        figures = {"rss_idle_mb": idle}
        for name, workload in WORKLOADS.items():
            if name in wanted:
                figures |= await workload(rig)
        return figures | {"rss_after_mb": sum(pss_mb(pid) for pid in rig.pids.values())}
    finally:
        target.close()
        app.stop()

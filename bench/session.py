"""One round of the workloads for one contestant: which processes run, in which order what is measured."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.app import App, start_app
from bench.measure import rss_mb
from bench.processes import listener
from bench.rig import Rig
from bench.server import ServerLauncher
from bench.targets import DirectTarget, ServerTarget
from bench.workloads import w1_first_line, w2_step_to_step, w3_runs, w4_steps, w5_ingest, w7_parallel

Figures = dict[str, float]
Measure = Callable[[Rig], Awaitable[Figures]]

WORKLOADS: dict[str, Measure] = {
    "W1": w1_first_line.measure,
    "W2": w2_step_to_step.measure,
    "W7": w7_parallel.measure,
    "W3": w3_runs.measure,
    "W4": w4_steps.measure,
}
"""In the order in which a round measures them: what needs a quiet server first."""

COMPARED = ("W3", "W4")
"""Workloads that are measured once more without a server, just before, for the ratio."""

IDLE_S = 2.0


@asynccontextmanager
async def running_server(source: ServerLauncher | str) -> AsyncIterator[tuple[str, int | None]]:
    """(URL, process) of a fresh server, or of the foreign one at a URL, which is left as it is."""
    if isinstance(source, str):
        yield source, listener(source)
        return
    server = source.start_ready()
    try:
        yield server.url, server.pid
        server.check()
    finally:
        server.stop()


async def protocol_round(
    source: ServerLauncher | str, kind: str, wanted: set[str], logs: Path
) -> tuple[Figures, Figures]:
    """(figures of the server with an app of this kind, figures of that app without a server)."""
    url = source if isinstance(source, str) else source.url
    app = start_app(kind, url, logs)
    direct = DirectTarget(app.url)
    try:
        await direct.warm()
        async with running_server(source) as (_, server_pid):
            return await _measure(ServerTarget(url), direct, app, server_pid, kind, wanted)
    finally:
        direct.close()
        app.stop()


async def _measure(
    target: ServerTarget, direct: DirectTarget, app: App, server_pid: int | None, kind: str, wanted: set[str]
) -> tuple[Figures, Figures]:
    if kind == "own-connect":
        await target.connected("bench-five")
    else:
        await target.sync(app.url)
    pids = {"app": app.pid} | ({"server": server_pid} if server_pid else {})
    rig = Rig(target, app, pids, direct=direct)
    bare = Rig(direct, app, {"app": app.pid})
    figures: Figures = {}
    alone: Figures = {}
    if server_pid:
        await asyncio.sleep(IDLE_S)
        figures["rss_idle_mb"] = rss_mb(server_pid)
    for name, measure in WORKLOADS.items():
        if name not in wanted:
            continue
        if name in COMPARED and kind != "js":
            alone |= await measure(bare)
        figures |= await measure(rig)
    if server_pid:
        figures["rss_after_mb"] = rss_mb(server_pid)
    await _ended_well(target)
    target.close()
    return figures | _shares(figures, alone), alone


def _shares(figures: Figures, alone: Figures) -> Figures:
    keys = {"w3_share": "w3_runs_s", "w4_share": "w4_steps_s"}
    return {name: figures[key] / alone[key] for name, key in keys.items() if key in figures and key in alone}


async def _ended_well(target: ServerTarget) -> None:
    """Ask the server itself how the last run ended: a fast server that loses the end is not fast."""
    if not target.last_event_id:
        return
    status = await target.run_status(target.last_event_id)
    if status not in {"", "Completed"}:
        raise RuntimeError(f"the run of event {target.last_event_id} is {status}, not Completed")
    if not status:
        print("note: the server does not tell how a run ended; only the app was asked")


async def ingest_round(source: ServerLauncher | str, logs: Path) -> Figures:
    """W5 on fresh servers: first events that nothing listens to, then events that start runs of the bare app."""
    figures: Figures = {}
    async with running_server(source) as (url, pid):
        figures |= await w5_ingest.measure(url, pid, "bench/unheard", "quiet")
    app = start_app("bare", source if isinstance(source, str) else source.url, logs)
    try:
        async with running_server(source) as (url, pid):
            target = ServerTarget(url)
            await target.sync(app.url)
            figures |= await w5_ingest.measure(url, pid, "bench/instant", "starting")
            target.close()
    finally:
        app.stop()
    return figures

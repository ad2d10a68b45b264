"""One machine with much at rest: a million sleeping runs and a million queued ones.

    python -m bench.scale [--sleeping 1000000] [--queued 1000000] [--keep FOLDER]

Fills a database (`bench.fill`), then starts the server on it, kills it with SIGKILL, starts it again, and measures:
how long until it accepts an event, how long until an event's function runs, its memory, and W1, beside W1 of a server
on an empty database in the same run. `--keep` names a folder whose filled database is kept and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench import report
from bench.app import App, start_app
from bench.connection import Pool
from bench.fill import fill
from bench.measure import load_average, machine, rss_mb
from bench.processes import BENCH, Process, free_port, python_module
from bench.rig import Rig
from bench.server import DEFAULT_COMMAND, RunningServer, ServerLauncher
from bench.targets import DirectTarget, ServerTarget
from bench.workloads import w1_first_line, w3_runs

RSS_MB, READY_S, W1_FACTOR = 600, 10, 2.0
"""Goals: memory at most, from start to ready at most, W1 at most so many times that of an empty database."""

READY_DEADLINE_S = 120.0
REST_S = 5.0


@dataclass(frozen=True)
class Setting:
    """What the measurement works with."""

    launcher: ServerLauncher
    app: App
    data_dir: Path


async def ready(server: RunningServer) -> float:
    """Seconds from now until the server has stored an event."""
    begun = time.monotonic()
    event = json.dumps({"name": "bench/unheard", "data": {}}).encode()
    async with Pool(server.url, 1) as pool:
        while time.monotonic() - begun < READY_DEADLINE_S:
            server.check()
            try:
                if (await pool.post("/e/bench", event)).status == 200:
                    return time.monotonic() - begun
            except OSError:
                pass
            await asyncio.sleep(0.005)
    raise TimeoutError(f"the server took no event within {READY_DEADLINE_S} s; see {server.process.log}")


async def measure_one(setting: Setting, server: RunningServer) -> dict[str, float]:
    """Start to ready, to the first run, memory, W1 and W3 of a server that was started just now."""
    figures = {"ready_s": await ready(server)}
    begun = time.monotonic()
    target = ServerTarget(server.url)
    await target.sync(setting.app.url)
    direct = DirectTarget(setting.app.url)
    rig = Rig(target, setting.app, {"server": server.pid, "app": setting.app.pid}, direct=direct)
    await rig.burst("instant", 1)
    figures["first_run_s"] = time.monotonic() - begun
    await asyncio.sleep(REST_S)
    figures["rss_ready_mb"] = rss_mb(server.pid)
    figures |= await w1_first_line.measure(rig)
    figures |= await w3_runs.measure(rig)
    figures["rss_after_mb"] = rss_mb(server.pid)
    target.close()
    direct.close()
    return figures


async def empty(setting: Setting) -> dict[str, float]:
    """The same on an empty database."""
    server = setting.launcher.start()
    try:
        return await measure_one(setting, server)
    finally:
        server.stop()


async def full(setting: Setting) -> dict[str, float]:
    """On the filled database, after a SIGKILL."""
    before = start_on(setting)
    await ready(before)
    os.kill(before.pid, signal.SIGKILL)
    before.process.stop()
    server = start_on(setting)
    try:
        return await measure_one(setting, server)
    finally:
        server.process.stop()


def start_on(setting: Setting) -> RunningServer:
    """A server on the filled database."""
    argv = setting.launcher.command.format(port=setting.launcher.port, data_dir=setting.data_dir).split()
    process = Process(argv, setting.launcher.logs / "server-full.log")
    return RunningServer(setting.launcher.url, process, setting.data_dir)


def verdict(figures: dict[str, dict[str, float]]) -> list[str]:
    """One line a goal."""
    much, little = figures["full"], figures["empty"]
    peak = max(much["rss_ready_mb"], much["rss_after_mb"])
    factor = much["w1_p50_ms"] / little["w1_p50_ms"]
    checks = (
        (f"memory {peak:.0f} MB", peak <= RSS_MB, f"<= {RSS_MB}"),
        (f"restart to ready {much['ready_s']:.2f} s", much["ready_s"] <= READY_S, f"<= {READY_S}"),
        (f"W1 {factor:.2f} x that of an empty database", factor <= W1_FACTOR, f"<= {W1_FACTOR}"),
    )
    return [f"{'reached    ' if good else 'NOT reached'} {text} ({bound})" for text, good, bound in checks]


async def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Fill if need be, and measure."""
    data_dir: Path = options.keep or folder / "data"
    database = data_dir / options.database
    silent_port = options.silent_port or free_port()
    record: dict[str, Any] = {"machine": machine(folder), "load_before": load_average()}
    if not database.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        await fill(database, f"http://127.0.0.1:{silent_port}", options.sleeping, options.queued)
        record["fill_s"] = round(time.monotonic() - begun, 1)
    record["database_mb"] = round(sum(file.stat().st_size for file in data_dir.iterdir()) / 1e6)
    launcher = ServerLauncher.of(options.server_command, folder, folder)
    silent = Process(python_module("bench.apps.silent", str(silent_port)), folder / "silent.log")
    app = start_app(options.app, launcher.url, folder)
    try:
        silent.wait_for_port(silent_port)
        setting = Setting(launcher, app, data_dir)
        record["empty"] = await empty(setting)
        record["full"] = await full(setting)
    finally:
        app.stop()
        silent.stop()
    return record | {"load_after": load_average()}


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--sleeping", type=int, default=1_000_000)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--app", default="python", choices=("python", "bare"), help="the app of W1 and W3")
    parser.add_argument("--keep", type=Path, help="data folder to fill once and use again")
    parser.add_argument("--silent-port", type=int, help="port of the silent app; the same one with --keep")
    parser.add_argument("--database", default="perdure.db", help="the database's name in the data folder")
    parser.add_argument("--server-command", default=DEFAULT_COMMAND)
    parser.add_argument("--folder", type=Path, default=BENCH / ".results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir=options.folder))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        record = runner.run(run(options, folder))
    record |= {"sleeping": options.sleeping, "queued": options.queued}
    report.write_json(options.folder / f"scale-{time.strftime('%Y%m%d-%H%M%S')}.json", record)
    print(json.dumps(record, indent=1))
    print("\n".join(verdict(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

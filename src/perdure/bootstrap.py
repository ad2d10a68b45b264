"""Wires a server together.

The only place that knows all parts, the wall clock and the source of random bytes.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from perdure import __version__
from perdure.config import ServerConfig
from perdure.core.settings import Settings
from perdure.errors import ConfigError
from perdure.server.app import Application, build_app
from perdure.server.auth import Keys
from perdure.server.connecting import Connecting
from perdure.server.context import Server
from perdure.server.http import Intake
from perdure.server.jobs import JobDriver
from perdure.server.metrics import Gauges
from perdure.server.rollups import Rollups
from perdure.server.step_logs import StepLogs
from perdure.server.syncing import Syncing
from perdure.shard.loop import Shard
from perdure.shard.ports import Clock, Entropy, Transport
from perdure.stores.sqlite.reader import SqliteReader
from perdure.stores.sqlite.store import SqliteStore
from perdure.transports import HttpTransport
from perdure.transports.by_scheme import BySchemeTransport
from perdure.transports.connect import Gateway, GatewaySettings
from perdure.transports.connect.gateway import Doors

log = logging.getLogger("perdure")

DATABASE = "perdure.db"
ENTROPY_BLOCK = 4096
SWITCH_INTERVAL_S = 0.0005
SLOW_SLICE_S = 0.05
FILES_WANTED = 65_536
COLLECT_S = 60


class WallClock:
    """The time of day."""

    def now(self) -> int:
        """Ms since the epoch."""
        return time.time_ns() // 1_000_000


class Random:
    """Random bytes from the system, taken in blocks: a call a few bytes costs more than the bytes."""

    def __init__(self) -> None:
        self._block = b""
        self._at = 0

    def __call__(self, count: int) -> bytes:
        """So many random bytes."""
        at = self._at
        if at + count > len(self._block):
            if count > ENTROPY_BLOCK:
                return os.urandom(count)
            self._block, at = os.urandom(ENTROPY_BLOCK), 0
        self._at = at + count
        return self._block[at : self._at]


class RunningServer:
    """A server whose parts are running; `app` is its ASGI application."""

    def __init__(
        self, app: Application, server: Server, syncing: Syncing, gateway: Gateway, connecting: Connecting
    ) -> None:
        self.app = app
        self.server = server
        self.syncing = syncing
        self.gateway = gateway
        self.connecting = connecting


@asynccontextmanager
async def running(
    config: ServerConfig,
    *,
    database: str = DATABASE,
    carry: Callable[[Transport], Transport] | None = None,
    settings: Settings | None = None,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    gathers: bool = False,
) -> AsyncIterator[RunningServer]:
    """Run all parts of a server but the HTTP listener. Leaving ends them and loses nothing.

    `database` is the file in the data folder. `carry` puts a transport in front of that for HTTP. `settings`
    (default: the configuration's), `clock` and `entropy` (default: the system's) are the engine's; `gathers` lets
    its batches wait a moment for more (`shard.gathering`).
    """
    _make_folder(config.data_dir)
    path = config.data_dir / database
    wal = path.with_name(f"{path.name}-wal")
    store = SqliteStore.open(path)
    reader = SqliteReader.open(path)
    http = HttpTransport(user_agent="Inngest")
    clock, entropy = clock or WallClock(), entropy or Random()
    gateway = Gateway(
        GatewaySettings.of_lease(config.connect_lease * 1000), WallClock(), entropy, secret=os.urandom(32)
    )
    transport: Transport = BySchemeTransport(http if carry is None else carry(http), gateway)
    signing_key = config.signing_keys[0] if config.signing_keys else None
    shard = Shard(
        store,
        transport,
        clock,
        entropy,
        settings or config.engine_settings(),
        kind=config.kind,
        signing_key=signing_key,
        gathers=gathers,
        workers=gateway,
    )
    try:
        await shard.start()
        server = Server(
            config,
            Keys(config.event_keys, config.signing_keys),
            shard,
            reader,
            reader,
            reader,
            clock,
            entropy,
            lambda: str(uuid.uuid4()),
            __version__,
            Gauges(lambda: _size(wal)),
            Intake(),
        )
        syncing = Syncing(server, http)
        server.sync = syncing.sync
        jobs = JobDriver(server)
        server.drive_jobs = jobs.look
        step_logs = StepLogs(server)
        server.take_logs = step_logs.take
        rollups = Rollups(server, reader, reader)
        shard.on_commit.append(rollups.committed)
        await rollups.start()
        shard.before_end += [step_logs.close, rollups.close]
        jobs.look()
        watchdog = asyncio.get_running_loop().create_task(_watch(server.gauges, shard))
        connecting = Connecting(server, gateway)
        gateway.doors = Doors(connecting.register, connecting.wanted, connecting.checkpoints, connecting.logs)
        server.workers = gateway.records
        app = build_app(server, connecting.routes())
        try:
            yield RunningServer(app, server, syncing, gateway, connecting)
        finally:
            watchdog.cancel()
            await jobs.close()
            await syncing.close()
            await shard.stop()
    finally:
        await gateway.close()
        await http.close()
        await reader.close()
        await store.close()


def _make_folder(folder: Path) -> None:
    """Raises `ConfigError` if the data cannot be kept there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--data-dir {folder} cannot be used ({error.strerror}). Name a folder that you may write to."
        ) from None


def tune_process() -> None:
    """Settings of the interpreter and the process that a server wants.

    Threads hand over the interpreter lock more often, since the writer's thread needs it in between;
    objects made at the start are left out of garbage collections, which come more rarely; and as many files
    as the system allows may be open, one a call.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


async def _watch(gauges: Gauges, shard: Shard) -> None:
    """Measure how late the event loop is, and write into the log when something held it up.

    Cycles of old objects are collected in a quiet moment: by count their turn would hardly ever come.
    """
    loop = asyncio.get_running_loop()
    collect_at = loop.time() + COLLECT_S
    while True:
        if loop.time() >= collect_at and not shard.calls_in_flight and not shard.waiting:
            gc.collect()
            collect_at = loop.time() + COLLECT_S
        before = loop.time()
        await asyncio.sleep(0.5)
        late = loop.time() - before - 0.5
        gauges.note_lag(late)
        if late > SLOW_SLICE_S:
            log.debug("the event loop was held up for %.0f ms", late * 1000)

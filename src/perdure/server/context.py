"""What every endpoint works with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from perdure.config import ServerConfig
from perdure.errors import RequestError, ShardClosed
from perdure.protocol.syncs import SyncOutcome
from perdure.reading.port import Reader
from perdure.reading.rollups import RollupReader
from perdure.reading.timers import TimerReader
from perdure.server.auth import Keys
from perdure.server.http import Intake
from perdure.server.metrics import Gauges
from perdure.shard.commands import Command
from perdure.shard.loop import Shard
from perdure.shard.ports import Clock, Entropy
from perdure.shard.workers import WorkerRecord


async def _nobody(_: bytes) -> bytes:
    raise RequestError(503, "Log lines of steps are not taken here.")


@dataclass(slots=True)
class Server:
    """The parts of a running server.

    `new_uuid` gives random UUIDs. `gauges` are measured by whoever runs the process.
    """

    config: ServerConfig
    keys: Keys
    shard: Shard
    reader: Reader
    rollups: RollupReader
    timers: TimerReader
    clock: Clock
    entropy: Entropy
    new_uuid: Callable[[], str]
    version: str
    gauges: Gauges
    intake: Intake
    sync: Callable[[str], Coroutine[Any, Any, SyncOutcome]] | None = None
    """Syncs the app at a URL, once whoever does that is there."""

    registrations: int = 0
    """How many registrations have reached this server, taken or refused."""

    drive_jobs: Callable[[], None] = lambda: None
    """Has jobs that have just begun driven, once whoever does that is there."""

    take_logs: Callable[[bytes], Awaitable[bytes]] = _nobody
    """Takes a body of `protocol.step_logs` and gives the answer's, once whoever does that is there."""

    workers: Callable[[], list[WorkerRecord]] = list
    """The workers that are connected, once a gateway is there."""

    def submit(self, command: Command) -> asyncio.Future[object]:
        """Give a command to the shard. Raises `RequestError` 503 if it takes none now."""
        try:
            return self.shard.submit(command)
        except ShardClosed as error:
            raise RequestError(503, f"Try again in a moment: {error}") from None

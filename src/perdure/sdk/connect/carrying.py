"""Finished steps over the connection, where the gateway takes them; else, and in need, over HTTP.

A step is taken once, however often it comes: so whatever is not answered, since the connection was lost or the
gateway asked to try again, is simply posted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.protocol.connect.messages import MAX_FRAME_BYTES, CheckpointAck, CheckpointEntry
from perdure.sdk import world
from perdure.sdk.checkpointing import SAVED, STALE, Carrier, Receipt, refused
from perdure.sdk.connect.connection import Connection
from perdure.sdk.job import Job

MAX_STEPS = MAX_FRAME_BYTES // 4
"""Longer steps are posted over HTTP, in bytes: a frame has to hold those of other calls as well."""
PATIENCE_S = 30.0
"""How long the gateway may take to save steps, before they are posted over HTTP."""


class ConnectCarrier:
    """Brings the steps of all calls to the server. `current` tells the worker's connection, `http` is the other way."""

    def __init__(self, current: Callable[[], Connection | None], http: Carrier) -> None:
        self._current = current
        self._http = http
        self._loop = asyncio.get_running_loop()
        self._last = 0
        self._waiting: dict[int, tuple[asyncio.Future[CheckpointAck | None], Connection, float]] = {}

    async def carry(self, job: Job, steps: bytes) -> Receipt:
        """Have the steps of a call saved. Raises OSError, TimeoutError or ValueError if no way leads to the server."""
        connection = self._current()
        if connection is None or not connection.agreed.checkpoints or len(steps) > MAX_STEPS:
            return await self._http.carry(job, steps)
        self._last = seq = self._last + 1
        answered: asyncio.Future[CheckpointAck | None] = self._loop.create_future()
        self._waiting[seq] = (answered, connection, self._loop.time() + PATIENCE_S)
        connection.send_checkpoint(
            CheckpointEntry(
                seq,
                job.run_id,
                job.fn_id or "",
                job.qi_id or "",
                job.request_id or "",
                job.generation,
                steps,
                max(world.now_ms() - job.begun_ms, 0) if job.begun_ms else None,
            )
        )
        try:
            ack = await answered
        finally:
            self._waiting.pop(seq, None)
        if ack is not None and ack.status == 200:
            return SAVED
        if ack is not None and ack.status == 409:
            return STALE
        if ack is None or ack.status >= 500 or ack.status == 429:
            return await self._http.carry(job, steps)
        return refused(f"{ack.status}: {ack.message}")

    def answered(self, acks: list[CheckpointAck]) -> None:
        """The gateway has told of steps."""
        for ack in acks:
            waiting = self._waiting.get(ack.seq)
            if waiting is not None and not waiting[0].done():
                waiting[0].set_result(ack)

    def lost(self, connection: Connection) -> None:
        """Nothing will be answered on a connection any more."""
        for answered, sent_on, _ in self._waiting.values():
            if sent_on is connection and not answered.done():
                answered.set_result(None)

    def look(self) -> None:
        """Give up waiting for what is overdue."""
        now = self._loop.time()
        for answered, _, until in self._waiting.values():
            if until > now:
                return  # they stand in the order in which they were sent
            if not answered.done():
                answered.set_result(None)

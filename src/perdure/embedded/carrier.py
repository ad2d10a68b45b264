"""Finished steps on their way to the shard, as commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perdure.embedded.crossing import Crossing
from perdure.errors import RequestError, ShardClosed
from perdure.protocol.ops import OpsError, read_ops
from perdure.sdk.checkpointing import SAVED, STALE, Receipt, refused
from perdure.sdk.job import Job
from perdure.shard.calls import read_queue_item_id
from perdure.shard.commands import Checkpoint
from perdure.shard.loop import Shard


class ShardCarrier:
    """A `sdk.checkpointing.Carrier` within the process.

    `carry` is used on the app's loop; the shard is reached through `to_shard`, and answers through `to_app`.
    """

    def __init__(self, shard: Callable[[], Shard], to_shard: Crossing, to_app: Crossing) -> None:
        self._shard = shard
        self._to_shard = to_shard
        self._to_app = to_app

    async def carry(self, job: Job, steps: bytes) -> Receipt:
        """Have steps saved. Raises ConnectionError if the shard takes nothing now, or has ended."""
        passage = _Passage(self, job, steps, asyncio.get_running_loop().create_future())
        try:
            self._to_shard.put(_Passage.submit, passage)
        except RuntimeError:
            raise ConnectionError("the embedded engine has ended") from None
        return await passage.receipt

    def submit(self, passage: _Passage) -> None:
        """On the shard's loop: give it the steps."""
        job = passage.job
        item = read_queue_item_id(job.qi_id or "")
        if item is None or item[0] != job.run_id:
            passage.give_back(STALE)
            return
        try:
            ops = read_ops(passage.steps)
            command = Checkpoint(run=job.run_id, n=item[1], generation=job.generation, ops=ops)
            saved = self._shard().submit(command)
        except OpsError as error:
            passage.give_back(refused(error.message))
        except ShardClosed as error:
            passage.give_back(ConnectionError(str(error)))
        else:
            saved.add_done_callback(passage.saved)

    def give_back(self, passage: _Passage) -> None:
        """On the shard's loop: tell the call what came of it."""
        try:
            self._to_app.put(_Passage.arrive, passage)
        except RuntimeError:
            return  # the app's loop is closed, and nobody waits any more


class _Passage:
    """Steps of one call on their way."""

    __slots__ = ("_carrier", "fate", "job", "receipt", "steps")

    def __init__(
        self, carrier: ShardCarrier, job: Job, steps: bytes, receipt: asyncio.Future[Receipt]
    ) -> None:
        self._carrier = carrier
        self.job = job
        self.steps = steps
        self.receipt = receipt
        self.fate: Receipt | Exception = SAVED

    def submit(self) -> None:
        self._carrier.submit(self)

    def saved(self, outcome: asyncio.Future[object]) -> None:
        """The shard has decided, and what it decided is on disk."""
        if outcome.cancelled():
            self.give_back(ConnectionError("the embedded engine has ended"))
            return
        error = outcome.exception()
        if error is None:
            self.give_back(SAVED)
        elif isinstance(error, RequestError) and error.status == 409:
            self.give_back(STALE)
        elif isinstance(error, RequestError) and error.status != 503:
            self.give_back(refused(error.message))
        else:
            self.give_back(ConnectionError(str(error)))

    def give_back(self, fate: Receipt | Exception) -> None:
        self.fate = fate
        self._carrier.give_back(self)

    def arrive(self) -> None:
        if self.receipt.done():
            return
        if isinstance(self.fate, Exception):
            self.receipt.set_exception(self.fate)
        else:
            self.receipt.set_result(self.fate)

"""Finished steps on their way to the shard, as commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import cast

from perdure.embedded.crossing import Crossing
from perdure.errors import RequestError, ShardClosed
from perdure.protocol.ops import OpsError, read_ops
from perdure.sdk.checkpointing import SAVED, STALE, Receipt, refused
from perdure.sdk.job import Job
from perdure.shard.calls import read_queue_item_id
from perdure.shard.commands import Checkpoint
from perdure.shard.loop import Shard

# The steps of a call come with the same id, one after the other.
_item_of = lru_cache(maxsize=4096)(read_queue_item_id)


class ShardCarrier:
    """A `sdk.checkpointing.Carrier` within the process.

    `carry` is used on the app's loop; the shard is reached through `to_shard`, and answers through `to_app`.
    """

    def __init__(self, shard: Callable[[], Shard], to_shard: Crossing, to_app: Crossing) -> None:
        self.shard = shard
        self._to_shard = to_shard
        self.to_app = to_app

    async def carry(self, job: Job, steps: bytes) -> Receipt:
        """Have steps saved. Raises ConnectionError if the shard takes nothing now, or has ended."""
        receipt: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        try:
            self._to_shard.put(_Passage.submit, _Passage(self, job, steps, receipt))
        except RuntimeError:
            raise ConnectionError("the embedded engine has ended") from None
        return await receipt


class _Passage:
    """Steps of one call on their way. `arrive` is called on the app's loop, all else on the shard's."""

    __slots__ = ("_carrier", "_decided", "_fate", "_job", "_receipt", "_steps")

    def __init__(
        self, carrier: ShardCarrier, job: Job, steps: bytes, receipt: asyncio.Future[Receipt]
    ) -> None:
        self._carrier = carrier
        self._job = job
        self._steps = steps
        self._receipt = receipt
        self._decided = False
        self._fate: Receipt | Exception = SAVED

    def submit(self) -> None:
        """Give the steps to the shard."""
        job = self._job
        item = _item_of(job.qi_id or "")
        if item is None or item[0] != job.run_id:
            self._give_back(STALE)
            return
        try:
            ops = read_ops(self._steps)
            command = Checkpoint(run=job.run_id, n=item[1], generation=job.generation, ops=ops)
            self._carrier.shard().submit(command, cast("asyncio.Future[object]", self))
        except OpsError as error:
            self._give_back(refused(error.message))
        except ShardClosed as error:
            self._give_back(ConnectionError(str(error)))

    # What the shard does with a command's future: the news goes on from there at once, not a round of the loop later.

    def done(self) -> bool:
        """Whether the shard has decided, and what it decided is on disk."""
        return self._decided

    def set_result(self, _: object) -> None:
        """The steps are on disk."""
        self._give_back(SAVED)

    def set_exception(self, error: BaseException) -> None:
        """They are not, and will not be."""
        if not isinstance(error, RequestError) or error.status == 503:
            self._give_back(ConnectionError(str(error)))
        elif error.status == 409:
            self._give_back(STALE)
        else:
            self._give_back(refused(error.message))

    def _give_back(self, fate: Receipt | Exception) -> None:
        self._decided = True
        self._fate = fate
        try:
            self._carrier.to_app.put(_Passage.arrive, self)
        except RuntimeError:
            return  # the app's loop is closed, and nobody waits any more

    def arrive(self) -> None:
        """Tell the call what came of it."""
        if self._receipt.done():
            return
        if isinstance(self._fate, Exception):
            self._receipt.set_exception(self._fate)
        else:
            self._receipt.set_result(self._fate)

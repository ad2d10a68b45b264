"""Posting finished steps while the function goes on: when, and who carries them.

*When* is the function's option (`Pace`): after so many steps, and how long a call may go on. *Who* is a
`Carrier`. Over HTTP that is `posting.HttpCarrier`, the app's own (`App.carrier`). Whoever brings a call another
way, over a socket or in process, gives `calling.run_job` a carrier of its own for that call:

    class SocketCarrier:
        async def carry(self, job: Job, steps: bytes) -> Receipt:
            ...  # send the steps, wait until they are on the server's disk
            return SAVED

    await run_job(app, function, job, carrier=SocketCarrier(...))

A carrier gives back SAVED only when the steps are on disk; STALE if another call has taken over the run, or it
has ended, and the function must stop; `refused(message)` if the server will not have them. If it could not
reach the server it raises OSError, TimeoutError or ValueError. What was not saved becomes the answer of the
call, so nothing is lost. A carrier may be asked by many calls at once, never twice at once for the same call.
"""

from __future__ import annotations

import enum
import logging
from typing import Protocol

import msgspec

from perdure.sdk import ops
from perdure.sdk.durations import milliseconds
from perdure.sdk.job import Job
from perdure.sdk.options import Checkpoint
from perdure.sdk.saving import Stale

log = logging.getLogger("perdure")


class Fate(enum.Enum):
    """What the server has done with steps."""

    SAVED = "saved"
    STALE = "stale"
    REFUSED = "refused"


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The fate of steps that were carried; a refusal says why."""

    fate: Fate
    message: str = ""


SAVED = Receipt(Fate.SAVED)
STALE = Receipt(Fate.STALE)


def refused(message: str) -> Receipt:
    """The server will not have the steps, for a reason."""
    return Receipt(Fate.REFUSED, message)


class Carrier(Protocol):
    """Brings finished steps to the server."""

    async def carry(self, job: Job, steps: bytes) -> Receipt:
        """Have the steps of a call, a JSON array of ops, saved.

        Raises OSError, TimeoutError or ValueError if the server cannot be reached.
        """


class Pace:
    """When steps are posted: `limit` at a time; a call goes on for `max_runtime_ns` (None: as long as it likes)."""

    __slots__ = ("limit", "max_runtime_ns")

    def __init__(self, option: Checkpoint) -> None:
        self.limit = max(1, option.steps)
        runtime = option.max_runtime
        self.max_runtime_ns = None if runtime is None else milliseconds(runtime, "max_runtime") * 1_000_000


class CheckpointPoster:
    """Posts the steps of one call at its function's pace."""

    __slots__ = ("_carrier", "limit", "max_runtime_ns")

    def __init__(self, pace: Pace, carrier: Carrier) -> None:
        self._carrier = carrier
        self.limit = pace.limit
        self.max_runtime_ns = pace.max_runtime_ns

    async def post(self, job: Job, steps: list[bytes]) -> bool:
        """True if the steps are saved. Raises Stale if another call has taken over the run, or it has ended."""
        try:
            receipt = await self._carrier.carry(job, ops.array(steps))
        except (OSError, TimeoutError, ValueError) as error:
            log.warning(
                "A checkpoint of run %s could not be posted (%s); it comes with the answer.",
                job.run_id,
                error,
            )
            return False
        if receipt.fate is Fate.STALE:
            log.info("Run %s goes on in another call, or was cancelled; this call stops.", job.run_id)
            raise Stale
        if receipt.fate is Fate.REFUSED:
            log.warning("A checkpoint of run %s was refused (%s)", job.run_id, receipt.message)
        return receipt.fate is Fate.SAVED

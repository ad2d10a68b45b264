"""What a shard needs from the world: a store, a transport, a clock and a source of random bytes.

Stores and transports implement these; simulation and tests pass their own. Nothing in the engine reaches
past them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.shard.changes import Changes
from perdure.shard.rows import EventRow, ItemRef, KeyRef, Recovered, StoredRun, WaitLookup, WaitRef


class Store(Protocol):
    """Durable state, by shard. One process writes a shard: the one whose epoch is the newest.

    Reads see at least every batch whose commit has been reported done when the read starts. All methods may
    raise `StoreUnavailable` (nothing was written; later may work).
    """

    async def claim(self, shard: int) -> int:
        """Become the owner of the shard; give back its new epoch, above every earlier one (from 1)."""

    def commit(self, shard: int, epoch: int, changes: Changes) -> asyncio.Future[None] | None:
        """Write the batch in one durable transaction, if `epoch` is still the shard's epoch.

        None means that it is already on disk; otherwise the future is done when it is. Raises (or the
        future fails with) `EpochLost` if another owner has claimed the shard, `StoreUnavailable` if nothing
        could be written. The caller commits one batch of a shard at a time.
        """

    async def recover(self, shard: int, kinds: Sequence[str]) -> Recovered:
        """What a shard needs to start, with all keys of these kinds."""

    async def load_runs(self, shard: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        """The runs that exist among `run_ids`, with all that belongs to them."""

    async def load_queue(
        self, shard: int, function_id: str, part: str, after: ItemRef, limit: int
    ) -> list[ItemRef]:
        """The first items in a queue of a function that are not in flight, after `after` in queue order."""

    async def load_parts(self, shard: int, function_id: str, after: str, limit: int) -> list[str]:
        """The queues of a function that hold items not in flight: their names after `after`, in order."""

    async def find_waits(self, shard: int, lookups: Sequence[WaitLookup], limit: int) -> list[WaitRef]:
        """Waits that the lookups find, for each lookup in the order of (run id, n), at most `limit` a
        lookup.
        """

    async def find_keys(self, shard: int, keys: Sequence[KeyRef], now: int) -> dict[KeyRef, bytes]:
        """The values of those of `keys` that exist and have not expired at `now`."""

    async def load_events(self, shard: int, receipts: Sequence[int]) -> dict[int, EventRow]:
        """Stored events by receipt."""

    async def recent_events(self, shard: int, name: str, since: int, limit: int) -> list[EventRow]:
        """Events of a name that were received at `since` (ms) or later and are not the server's own.

        In order of receipt; of more than `limit` the newest by id. Events whose id is more than ten minutes
        older than their receipt may be left out.
        """


class ResumedCall(NamedTuple):
    """A call that was under way when the process before this one ended. `sdk` is that of its app (`py:v0.5.19`)."""

    request_id: str
    app: str
    slug: str
    run_id: str
    n: int
    generation: int
    sdk: str


class CallHandle(Protocol):
    """A call under way."""

    def cancel(self) -> None:
        """Give it up; its `done` is called with a failure of code `cancelled`."""


class Transport(Protocol):
    """Carries calls to apps and requests to the world."""

    def start(self, call: Call, done: Callable[[CallAnswer | CallFailure], None]) -> CallHandle:
        """Start a call; `done` is called exactly once, later, on the event loop.

        Never raises for reasons of the network.
        """


class Workers(Protocol):
    """Workers that connect by themselves, and through which the functions of some apps are called."""

    def free(self, app: str, slug: str) -> int | None:
        """How many more calls of a function the workers take that are ready now; None if there is no worker."""

    def pace(self, app: str) -> tuple[int, int]:
        """How many calls of an app may have just begun, and how many may be under way (`core.pacing`)."""

    def resume(self, call: ResumedCall, done: Callable[[CallAnswer | CallFailure], None]) -> None:
        """Take up a call that an earlier process has made and whose worker may still answer.

        `done` is called exactly once, later, as for a call of `Transport.start`.
        """

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever there may be more room than before."""


class Clock(Protocol):
    """Time, as the shard sees it."""

    def now(self) -> int:
        """Wall clock, in ms since the epoch."""


Entropy = Callable[[int], bytes]
"""Gives so many random bytes."""

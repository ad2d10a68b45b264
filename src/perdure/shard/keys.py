"""What is remembered under keys: kinds of `KeyRow`, and the part of them that no read may miss.

A rule that has to remember something about a key (a rate limit, a singleton, an open batch) keeps it in one row. The
row is read for each event that asks, not kept in memory, so that a million keys at rest cost nothing. What a batch has
changed stays in memory until every read can see it (`Recent`), and wins over what was read.

A few kinds are in memory for as long as they exist, and are read at the start (`KEPT`).
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.shard.rows import KeyRef

TAKEN = "taken"
"""The function has run for an event with this id; the value is the run's id, empty if the event was held back."""
RATE = "rate"
SINGLETON = "singleton"
"""The value is the id of the live run that holds the key."""
DEBOUNCE = "debounce"
BATCH = "batch"
CLOSED_DEBOUNCE = "debounced"
"""A debounce that was over before a further event came: its run is still to be started."""
CLOSED_BATCH = "batched"
"""A batch that is complete, and not started yet."""
THROTTLE = "throttle"
PLACE = "place"
"""A run that has begun and holds places for its life; the value is its `RunFlow`."""
CRON = "cron"
LOOKBACK = "lookback"
"""A wait that is still to look at the recent past; only a timer, nothing is kept under it."""
CLOCK = "clock"
"""How far the clock is ahead, by travel in time."""
JOB = "job"
"""A bulk cancellation or a replay."""

KEPT = (THROTTLE, PLACE, CRON, CLOCK, JOB)


TIMER = "~"
"""The ids of timers of rules begin with it."""


def timer_id(ref: KeyRef) -> str:
    """The id of the timer of what stands under a key."""
    return f"{TIMER}{ref.kind}~{ref.owner}~{ref.key}"


def read_timer_id(timer: str) -> KeyRef:
    """The key that `timer_id` made an id of."""
    _, kind, owner, key = timer.split("~", 3)
    return KeyRef(kind, owner, key)


class Recent:
    """What batches have changed that some read under way, or still to be taken in, may not have seen."""

    __slots__ = ("_changed",)

    def __init__(self) -> None:
        self._changed: dict[KeyRef, tuple[bytes | None, int]] = {}

    def put(self, ref: KeyRef, value: bytes | None, batch: int) -> None:
        """A batch has written a key, or removed it (None)."""
        self._changed.pop(ref, None)
        self._changed[ref] = (value, batch)

    def value(self, ref: KeyRef, found: Mapping[KeyRef, bytes]) -> bytes | None:
        """What stands under a key now, given what was read."""
        changed = self._changed.get(ref)
        return found.get(ref) if changed is None else changed[0]

    def batch_of(self, ref: KeyRef) -> int:
        """Number of the batch that changed a key last; 0 if every read sees that."""
        changed = self._changed.get(ref)
        return 0 if changed is None else changed[1]

    def forget(self, oldest_snapshot: int) -> None:
        """Forget what every read from now on will see."""
        for ref, (_, batch) in list(self._changed.items()):
            if batch > oldest_snapshot:
                break
            del self._changed[ref]

    def forget_kind(self, kind: str) -> None:
        """Forget all keys of a kind, whether or not a read has seen them."""
        for ref in [ref for ref in self._changed if ref.kind == kind]:
            del self._changed[ref]

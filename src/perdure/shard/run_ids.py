"""Ids of runs: ULIDs that ascend also within one millisecond, so that runs stand in line in the order in which their
events came."""

from __future__ import annotations

from perdure.protocol.ids import new_ulid
from perdure.shard.ports import Entropy

_STEP_BYTES = 4
"""How far apart two ids of one millisecond are at most, as bytes of entropy: the next one cannot be guessed."""


class RunIds:
    """Gives the ids. `entropy` gives random bytes."""

    def __init__(self, entropy: Entropy) -> None:
        self._entropy = entropy
        self._at = -1
        self._tail = 0

    def next(self, now: int) -> str:
        """An id for a run that is created at `now` (ms)."""
        if now == self._at:
            self._tail += 1 + int.from_bytes(self._entropy(_STEP_BYTES))
        else:
            # Half of the numbers are left above, which no millisecond uses up.
            self._at, self._tail = now, int.from_bytes(self._entropy(10)) >> 1
        return new_ulid(now, self._tail.to_bytes(10, "big"))

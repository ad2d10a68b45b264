"""What a shard has done since the process started, for its metrics."""

from __future__ import annotations

from collections import Counter

from perdure.core.model import RunStatus
from perdure.shard.batch import Batch


class Counts:
    """Commits, the rows that they wrote or removed, and the ends of runs by status."""

    __slots__ = ("commits", "ended", "rows")

    def __init__(self) -> None:
        self.commits = 0
        self.rows = 0
        self.ended: Counter[RunStatus] = Counter()

    def add(self, batch: Batch) -> None:
        """Count a batch that is on disk."""
        size = batch.changes.size()
        if size:
            self.commits += 1
            self.rows += size
            if batch.ended:
                self.ended.update(batch.ended)

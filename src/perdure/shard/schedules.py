"""The schedules of functions, as they are in memory."""

from __future__ import annotations

from perdure.core.flow.stored import Stored
from perdure.shard.rows import KeyRef, KeyRow


class Schedule(Stored, frozen=True):
    """A schedule of a function. `scheduled` is the time (ms) for which it fires next, `due` when it really does.

    `since` is the last time that was handled, or when it began.
    """

    text: str
    scheduled: int
    due: int
    since: int


class Schedules:
    """All schedules of a shard, by key."""

    def __init__(self) -> None:
        self.all: dict[KeyRef, Schedule] = {}

    def restore(self, row: KeyRow) -> None:
        """Put back a schedule that was stored."""
        self.all[row.ref] = Schedule.decode(row.value)

    def of(self, function_id: str) -> list[Schedule]:
        """The schedules of a function."""
        return [schedule for ref, schedule in self.all.items() if ref.owner == function_id]

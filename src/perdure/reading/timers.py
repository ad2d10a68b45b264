"""What will happen at a time, by function: sleeps and waits that end, calls that are put off."""

from __future__ import annotations

from typing import Protocol

import msgspec


class TimerRecord(msgspec.Struct, frozen=True, gc=False):
    """Something that happens to a run at `due` (ms). `kind` is one of `core.model.ItemKind`, `name` the step's."""

    due: int
    run_id: str
    function_id: str
    kind: str
    name: str


class TimerReader(Protocol):
    """Reads timers. Raises `StoreUnavailable`."""

    async def timers(self, function_ids: list[str], since: int, until: int, limit: int) -> list[TimerRecord]:
        """What happens to runs of these functions from `since` on and before `until`, the soonest first."""

    async def newest_of_schedules(self, function_id: str, limit: int) -> list[str]:
        """Ids of the newest runs of a function that a schedule started, newest first, among its last 1,000."""

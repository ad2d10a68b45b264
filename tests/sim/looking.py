"""Waits that look back: which events from before a wait began may end it, and that one of them does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from perdure.shard.changes import Changes
from perdure.shard.keys import LOOKBACK, TIMER
from perdure.shard.rows import EventRow, WaitRow
from tests.sim.memory_store import Tables

if TYPE_CHECKING:
    from tests.sim.checks import Checks

_PREFIX = f"{TIMER}{LOOKBACK}~"


class LookingBack:
    """Follows the timers by which waits look back. `since` (ms) is from when on events count, by run and item."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.since: dict[tuple[str, int], int] = {}

    def committed(self, tables: Tables, changes: Changes) -> None:
        """A batch has been written."""
        for (timer, _), row in changes.items.items():
            if not timer.startswith(_PREFIX):
                continue
            run_id, n, since = timer.split("~", 3)[3].split(".")
            place = run_id, int(n)
            if row is not None:
                self.since[place] = int(since)
                continue
            # One whose decision was made to raise is in quarantine, and looks back no more.
            raising = self._checks.commits.oracle.raising
            wait = None if raising else tables.waits.get(run_id, {}).get(int(n))
            for event in tables.events.values() if wait is not None else ():
                if wait is not None and self._should_end(tables, wait, event):
                    text = f"{wait} has looked back to {since}, and still waits although event {event.receipt} came"
                    self._checks.fail("lookback", text, run_id)

    def _should_end(self, tables: Tables, wait: WaitRow, event: EventRow) -> bool:
        from tests.sim.commits import meets

        return self.allows(tables, wait, event) and meets(tables, wait, event)

    def allows(self, tables: Tables, wait: WaitRow, event: EventRow) -> bool:
        """Whether an event from before the wait began counts for it, if it meets it."""
        since = self.since.get((wait.run_id, wait.n))
        if since is None or event.internal or event.name != wait.event or event.receipt > wait.since:
            return False
        own = event.receipt in json.loads(tables.runs[wait.run_id].receipts)
        return event.received_at >= since and not own and event.id not in self._used(tables, wait)

    def _used(self, tables: Tables, wait: WaitRow) -> set[str]:
        """The ids of events that have ended other waits of the run, or that it has copied."""
        own = {step for step, n in self._steps_of(tables, wait.run_id).items() if n == wait.n}
        steps = tables.steps.get(wait.run_id, {}).values()
        memos = [json.loads(s.memo) for s in steps if s.op == "WaitForEvent" and s.step_id not in own]
        return {memo["id"] for memo in memos if isinstance(memo, dict) and "id" in memo}

    def _steps_of(self, tables: Tables, run_id: str) -> dict[str, int]:
        """The waits for events of a run that have ended, with the numbers of their items."""
        notes = [json.loads(e.body) for e in tables.history.get(run_id, {}).values() if e.kind == "resumed"]
        return {note["step"]: note["item"] for note in notes if note["how"] == "matched"}

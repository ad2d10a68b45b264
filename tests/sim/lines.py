"""Order and fairness: who is passed over by whom, while calls wait for places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.shard import lines
from perdure.shard.changes import Changes
from perdure.shard.rows import ItemRow
from tests.sim.memory_store import Tables

if TYPE_CHECKING:
    from tests.sim.checks import Checks

PATIENCE = 8
"""So many times a line is passed over before others make room for it."""
SLACK = 12


class Passing:
    """Counts, for each call that waits in a line, those that went before it although they stood behind it."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._waiting: dict[tuple[str, str], dict[tuple[str, int], int]] = {}
        self._passed: dict[tuple[str, int], int] = {}
        self.swift = True
        """Whether runs are read at once. While one whose turn it is is being read, any number may pass."""

    def before(self, tables: Tables, changes: Changes) -> None:
        """A batch is about to be written: who waits?"""
        self._waiting = {}
        if not self.swift or not any(row is not None and row.in_flight for row in changes.items.values()):
            return
        for items in tables.items.values():
            for item in items.values():
                if item.part.startswith(lines.PREFIX) and not item.in_flight:
                    line = self._waiting.setdefault((item.function_id, item.part), {})
                    line[item.run_id, item.n] = item.rank

    def committed(self, tables: Tables, entering: list[ItemRow], unsteady: set[str]) -> None:
        """Calls have come to their turns."""
        served = {(row.run_id, row.n) for row in entering}
        for row in entering:
            if not row.part.startswith(lines.PREFIX):
                continue
            line = self._waiting.get((row.function_id, row.part), {})
            mine = (row.rank, row.run_id, row.n)
            for (run_id, n), rank in line.items():
                if (rank, run_id, n) < mine and (run_id, n) not in served and _waits(tables, run_id, n):
                    count = self._passed[run_id, n] = self._passed.get((run_id, n), 0) + 1
                    if count > lines.MAX_TICKETS + SLACK:
                        self._checks.fail("order", f"item {n} was passed {count} times in its own line", run_id)


def _waits(tables: Tables, run_id: str, n: int) -> bool:
    item = tables.items.get(run_id, {}).get(n)
    return item is not None and not item.in_flight

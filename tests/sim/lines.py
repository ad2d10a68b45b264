"""Order and fairness: who is passed over by whom, while calls wait for places."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perdure.shard import lines
from perdure.shard.changes import Changes
from perdure.shard.rows import ItemRow
from tests.sim.memory_store import Tables

if TYPE_CHECKING:
    from tests.sim.checks import Checks

SLACK = 12
"""Calls that came to their turn within the same batches may be more than stood in turn."""
FAIR = 4
"""Where each key has room of its own, at most so many calls of others go before one of a key that waits."""


class Passing:
    """Counts, for each call that waits in a line, those that went before it although they stood behind it."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self._waiting: dict[tuple[str, str], dict[tuple[str, int], int]] = {}
        self._passed: dict[tuple[str, int], int] = {}
        self._overtaken: dict[str, int] = {}
        self.fair = ""
        """The function of which keys take turns, and none waits for anything but its turn."""
        self.swift = True
        """Whether runs are read at once. While one whose turn it is is being read, any number may pass."""

    def claimed(self) -> None:
        """A server reads its state: whose turn it was is not stored, so the keys begin their round anew."""
        self._overtaken.clear()

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
        self._count_turns(tables, entering)
        for row in entering:
            if not row.part.startswith(lines.PREFIX):
                continue
            line = self._waiting.get((row.function_id, row.part), {})
            mine = (row.rank, row.run_id, row.n)
            for (run_id, n), rank in line.items():
                if (rank, run_id, n) < mine and (run_id, n) not in served and _waits(tables, run_id, n):
                    count = self._passed[run_id, n] = self._passed.get((run_id, n), 0) + 1
                    if count > lines.MAX_TICKETS + SLACK:
                        self._checks.fail(
                            "order", f"item {n} was passed {count} times in its own line", run_id
                        )

    def _count_turns(self, tables: Tables, entering: list[ItemRow]) -> None:
        mine = [row.part for row in entering if self.fair and row.function_id == self.fair]
        for part in mine:
            for (function_id, other), line in self._waiting.items():
                waits = any(_waits(tables, run_id, n) for run_id, n in line)
                if function_id != self.fair or other == part or not waits:
                    continue
                count = self._overtaken[other] = self._overtaken.get(other, 0) + 1
                if count > FAIR:
                    self._checks.fail("fairness", f"{count} calls of other keys went before one that waits")
        for part in mine:
            self._overtaken.pop(part, None)


def _waits(tables: Tables, run_id: str, n: int) -> bool:
    item = tables.items.get(run_id, {}).get(n)
    return item is not None and not item.in_flight

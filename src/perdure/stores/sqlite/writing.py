"""Writes one batch in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import apsw

from perdure.errors import EpochLost
from perdure.shard.changes import Changes
from perdure.stores.sqlite import statements
from perdure.stores.sqlite.statements import Table

SWEEP_AFTER = 64
"""Keys written between two sweeps of expired ones."""

SWEEP_ROWS = 256
"""Keys that a sweep looks at: four for each written, so the expired stay a fraction of the living."""

EPOCH = "SELECT epoch FROM shards WHERE shard=?1"

SWEEP = (
    "SELECT kind,owner,key,expires_at FROM keys WHERE shard=?1 AND (kind,owner,key)>(?2,?3,?4)"
    " ORDER BY kind,owner,key LIMIT ?5"
)


class BatchWriter:
    """Writes batches on a connection of its own. Not to be used from two threads at once.

    Every method leaves the connection outside of a transaction, and nothing written if it raises.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._keys_written = 0
        self._swept: dict[int, tuple[str, str, str]] = {}
        self.now = 0
        """The latest time, in ms, that anybody asked about; keys that expired before it may go."""

    def claim(self, shard: int, owner: str) -> int:
        """Raise the epoch of the shard and give it back."""
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        try:
            execute(
                "INSERT INTO shards (shard, epoch, owner) VALUES (?1, 1, ?2)"
                " ON CONFLICT (shard) DO UPDATE SET epoch = epoch + 1, owner = excluded.owner",
                (shard, owner),
            )
            epoch = self._epoch(shard)
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return epoch

    def write(self, shard: int, epoch: int, changes: Changes) -> None:
        """Write all of `changes`, durably. Raises `EpochLost` if `epoch` is not the shard's any more."""
        execute = self._execute
        execute("BEGIN IMMEDIATE")
        try:
            current = self._epoch(shard)
            if current != epoch:
                raise EpochLost(
                    f"Shard {shard} has another owner (epoch {current}, ours is {epoch}); nothing was written."
                )
            self._put_all(shard, changes)
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _epoch(self, shard: int) -> int:
        for (epoch,) in self._execute(EPOCH, (shard,)):
            return int(epoch)
        return 0

    def _roll_back(self) -> None:
        # SQLite has already rolled back by itself after most failures of the disk.
        if self._connection.in_transaction:
            self._execute("ROLLBACK")

    def _put_all(self, shard: int, changes: Changes) -> None:
        if changes.events:
            self._insert(statements.EVENTS, shard, changes.events)
        if changes.runs:
            self._insert(statements.RUNS, shard, list(changes.runs.values()))
        if changes.steps:
            self._insert(statements.STEPS, shard, changes.steps)
        if changes.items:
            self._put(statements.ITEMS, shard, changes.items)
        if changes.waits:
            self._put(statements.WAITS, shard, changes.waits)
        if changes.history:
            self._insert(statements.HISTORY, shard, changes.history)
        if changes.run_events:
            self._insert(statements.RUN_EVENTS, shard, changes.run_events)
        if changes.keys:
            self._put(statements.KEYS, shard, changes.keys)
            self._keys_written += len(changes.keys)
            if self._keys_written >= SWEEP_AFTER:
                self._keys_written = 0
                self._sweep(shard)
        if changes.step_logs:
            self._insert(statements.STEP_LOGS, shard, changes.step_logs)
        if changes.step_reports:
            self._insert(statements.STEP_REPORTS, shard, list(changes.step_reports.values()))
        if changes.rollups:
            self._insert(statements.ROLLUPS, shard, list(changes.rollups.values()))
        if changes.outbox:
            self._put(statements.OUTBOX, shard, {(receipt,): row for receipt, row in changes.outbox.items()})
        if changes.apps:
            self._put(statements.APPS, shard, {(app,): row for app, row in changes.apps.items()})
        if changes.functions:
            self._insert(statements.FUNCTIONS, shard, list(changes.functions.values()))
        if changes.quarantine:
            self._insert(statements.QUARANTINE, shard, changes.quarantine)

    def _sweep(self, shard: int) -> None:
        """Remove expired ones among the next keys, going round the table in the order of its key."""
        after = self._swept.get(shard, ("", "", ""))
        seen: list[Any] = self._execute(SWEEP, (shard, *after, SWEEP_ROWS)).fetchall()
        self._swept[shard] = seen[-1][:3] if len(seen) == SWEEP_ROWS else ("", "", "")
        self._delete(statements.KEYS, shard, [row[:3] for row in seen if 0 < row[3] <= self.now])

    def _put(self, table: Table, shard: int, rows: Mapping[Any, tuple[Any, ...] | None]) -> None:
        kept = [row for row in rows.values() if row is not None]
        if kept:
            self._insert(table, shard, kept)
        if len(kept) < len(rows):
            self._delete(table, shard, [key for key, row in rows.items() if row is None])

    def _insert(self, table: Table, shard: int, rows: Sequence[tuple[Any, ...]]) -> None:
        at, end = 0, len(rows)
        while at < end:
            count = statements.chunk(end - at)
            self._execute(
                statements.insert(table, count), (shard, *chain.from_iterable(rows[at : at + count]))
            )
            at += count

    def _delete(self, table: Table, shard: int, keys: Sequence[tuple[Any, ...]]) -> None:
        at, end = 0, len(keys)
        while at < end:
            count = statements.chunk(end - at)
            self._execute(
                statements.delete(table, count), (shard, *chain.from_iterable(keys[at : at + count]))
            )
            at += count

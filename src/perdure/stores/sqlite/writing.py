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
"""Dedupe rows written between two sweeps of expired ones."""

SWEEP_ROWS = 256
"""Dedupe rows that a sweep looks at: four for each written, so the expired stay a fraction of the living."""

EPOCH = "SELECT epoch FROM shards WHERE shard=?1"

SWEEP = (
    "SELECT function_id,key,expires_at FROM dedupe WHERE shard=?1 AND (function_id,key)>(?2,?3)"
    " ORDER BY function_id,key LIMIT ?4"
)


class BatchWriter:
    """Writes batches on a connection of its own. Not to be used from two threads at once.

    Every method leaves the connection outside of a transaction, and nothing written if it raises.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._dedupe_written = 0
        self._swept: dict[int, tuple[str, str]] = {}
        self.now = 0
        """The latest time, in ms, that anybody asked about; dedupe rows that expired before it may go."""

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
        if changes.dedupe:
            self._insert(statements.DEDUPE, shard, changes.dedupe)
            self._dedupe_written += len(changes.dedupe)
            if self._dedupe_written >= SWEEP_AFTER:
                self._dedupe_written = 0
                self._sweep(shard)
        if changes.outbox:
            self._put(statements.OUTBOX, shard, {(receipt,): row for receipt, row in changes.outbox.items()})
        if changes.apps:
            self._put(statements.APPS, shard, {(app,): row for app, row in changes.apps.items()})
        if changes.functions:
            self._insert(statements.FUNCTIONS, shard, list(changes.functions.values()))
        if changes.quarantine:
            self._insert(statements.QUARANTINE, shard, changes.quarantine)

    def _sweep(self, shard: int) -> None:
        """Remove expired ones among the next dedupe rows, going round the table in the order of its key."""
        after = self._swept.get(shard, ("", ""))
        seen: list[Any] = self._execute(SWEEP, (shard, *after, SWEEP_ROWS)).fetchall()
        self._swept[shard] = seen[-1][:2] if len(seen) == SWEEP_ROWS else ("", "")
        self._delete(statements.DEDUPE, shard, [row[:2] for row in seen if row[2] <= self.now])

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

"""A run and all that belongs to it, read as of one commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import apsw
import msgspec

from perdure.reading.port import (
    EventRecord,
    HistoryRecord,
    ItemRecord,
    RunRecord,
    StepHead,
    WaitRecord,
    WholeRun,
)
from perdure.stores.sqlite.run_listing import run_record

R = TypeVar("R", bound=msgspec.Struct)

ERROR_MEMO = b'{"error":'
"""How the memo of a failed step begins; no other does (`perdure.protocol.memos`)."""


def _columns(record: type[msgspec.Struct]) -> str:
    return ",".join(record.__struct_fields__)


RUN = f"SELECT shard,receipts,{_columns(RunRecord)} FROM runs WHERE shard IN (SELECT shard FROM shards) AND id=?1"
EVENT = f"SELECT {_columns(EventRecord)} FROM events WHERE shard=?1 AND receipt=?2"
STEPS = (
    "SELECT step_id,position,name,op,at,substr(memo,1,?3)=?4 FROM steps"
    " WHERE shard=?1 AND run_id=?2 ORDER BY position"
)
ITEMS = f"SELECT {_columns(ItemRecord)} FROM items WHERE shard=?1 AND run_id=?2 ORDER BY n"
WAITS = f"SELECT {_columns(WaitRecord)} FROM waits WHERE shard=?1 AND run_id=?2 ORDER BY n"
HISTORY = f"SELECT {_columns(HistoryRecord)} FROM history WHERE shard=?1 AND run_id=?2 ORDER BY n LIMIT ?3"

STATEMENTS = (RUN, EVENT, STEPS, ITEMS, WAITS, HISTORY)


def whole_run(db: apsw.Connection, run_id: str, entries: int) -> WholeRun | None:
    """See `perdure.reading.port.Reader.whole_run`."""
    db.execute("BEGIN")
    try:
        return _read(db, run_id, entries)
    finally:
        db.execute("ROLLBACK")


def _read(db: apsw.Connection, run_id: str, entries: int) -> WholeRun | None:
    found: list[Any] = db.execute(RUN, (run_id,)).fetchall()
    if not found:
        return None
    shard, receipts, *columns = found[0]
    of_run = (shard, run_id)
    history = [HistoryRecord(*row) for row in _rows(db, HISTORY, (*of_run, entries + 1))]
    return WholeRun(
        run_record(columns),
        [
            _event(row)
            for receipt in msgspec.json.decode(receipts, type=list[int])
            for row in _rows(db, EVENT, (shard, receipt))
        ],
        [_flagged(StepHead, row) for row in _rows(db, STEPS, (*of_run, len(ERROR_MEMO), ERROR_MEMO))],
        [_flagged(ItemRecord, row) for row in _rows(db, ITEMS, of_run)],
        [WaitRecord(*row) for row in _rows(db, WAITS, of_run)],
        history[:entries],
        len(history) > entries,
    )


def _rows(db: apsw.Connection, text: str, bindings: tuple[Any, ...]) -> list[Any]:
    return db.execute(text, bindings).fetchall()


def _event(row: Any) -> EventRecord:
    *columns, internal, body = row
    return _make(EventRecord, *columns, bool(internal), body)


def _flagged(record: type[R], row: Any) -> R:
    """A record whose last column is yes or no."""
    *columns, flag = row
    return _make(record, *columns, bool(flag))


def _make(record: Callable[..., R], *columns: Any) -> R:
    return record(*columns)

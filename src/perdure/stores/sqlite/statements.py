"""The statements that write rows: text by table and by number of rows.

One statement writes many rows (`VALUES (..), (..)`), so that the interpreter's lock is given up and won back
once, not once a row. Statements come in a few sizes only, so that their prepared forms stay in the
connection's cache.
"""

from __future__ import annotations

from functools import cache
from typing import Literal, NamedTuple

from perdure.shard import rows

CHUNKS = (64, 8, 1)
"""Numbers of rows that a statement comes in."""


class Table(NamedTuple):
    """A table as the store writes it.

    `columns` are those after `shard`; the first `key` of them make its key. `conflict` is what happens to a
    row whose key exists: it fails the batch, is dropped, or takes the old row's place. Columns in `fixed`
    never change in the life of a row: an update that named those that are indexed would write their index again.
    """

    name: str
    columns: tuple[str, ...]
    key: int
    conflict: Literal["fail", "keep", "update"]
    fixed: frozenset[str] = frozenset()


APPS = Table("apps", rows.AppRow._fields, 1, "update")
FUNCTIONS = Table("functions", rows.FunctionRow._fields, 1, "update")
EVENTS = Table("events", rows.EventRow._fields, 1, "fail")
RUNS = Table(
    "runs",
    rows.RunRow._fields,
    1,
    "update",
    frozenset(("function_id", "event_id", "created_at", "flow", "batch_id", "cron", "from_step")),
)
STEPS = Table("steps", rows.StepRow._fields, 2, "keep")
ITEMS = Table("items", rows.ItemRow._fields, 2, "update")
WAITS = Table("waits", rows.WaitRow._fields, 2, "update")
KEYS = Table("keys", rows.KeyRow._fields, 3, "update")
RUN_EVENTS = Table("run_events", rows.RunEventRow._fields, 3, "keep")
HISTORY = Table("history", rows.HistoryRow._fields, 2, "fail")
STEP_LOGS = Table("step_logs", rows.StepLogRow._fields, 2, "keep")
STEP_REPORTS = Table("step_reports", rows.StepReportRow._fields, 2, "update")
ROLLUPS = Table("rollups", rows.RollupRow._fields, 3, "update")
OUTBOX = Table("outbox", rows.OutboxRow._fields, 1, "update")
QUARANTINE = Table("quarantine", rows.QuarantineRow._fields, 1, "update")

TABLES = (
    APPS, FUNCTIONS, EVENTS, RUNS, STEPS, ITEMS, WAITS, KEYS, RUN_EVENTS, HISTORY, STEP_LOGS, STEP_REPORTS, ROLLUPS,
    OUTBOX, QUARANTINE,
)  # fmt: skip


@cache
def insert(table: Table, count: int) -> str:
    """Write `count` rows. Bindings: the shard, then the columns of each row."""
    width = len(table.columns)
    values = ",".join(
        "(?1," + ",".join(f"?{2 + row * width + column}" for column in range(width)) + ")"
        for row in range(count)
    )
    text = f"INSERT INTO {table.name} (shard,{','.join(table.columns)}) VALUES {values}"
    key = f"(shard,{','.join(table.columns[: table.key])})"
    if table.conflict == "keep":
        return f"{text} ON CONFLICT {key} DO NOTHING"
    if table.conflict == "update":
        changed = [column for column in table.columns[table.key :] if column not in table.fixed]
        return f"{text} ON CONFLICT {key} DO UPDATE SET " + ",".join(f"{c}=excluded.{c}" for c in changed)
    return text


@cache
def delete(table: Table, count: int) -> str:
    """Remove `count` rows. Bindings: the shard, then the key of each row."""
    return f"DELETE FROM {table.name} WHERE shard=?1 AND {among(table.columns[: table.key], count)}"


@cache
def among(columns: tuple[str, ...], count: int, first: int = 2) -> str:
    """The condition that `columns` are one of `count` keys, bound from parameter number `first`.

    That of one key is plain equality: SQLite makes a table of a list first, even of one, which takes longer than the
    search itself.
    """
    width = len(columns)
    if count == 1:
        return " AND ".join(f"{column}=?{first + i}" for i, column in enumerate(columns))
    if width == 1:
        return f"{columns[0]} IN ({','.join(f'?{first + i}' for i in range(count))})"
    keys = ",".join(
        "(" + ",".join(f"?{first + row * width + column}" for column in range(width)) + ")"
        for row in range(count)
    )
    return f"({','.join(columns)}) IN (VALUES {keys})"


def chunk(left: int) -> int:
    """How many of the rows that are left the next statement takes."""
    for size in CHUNKS:
        if left >= size:
            return size
    raise ValueError("no rows left")

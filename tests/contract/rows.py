"""Rows with all columns filled, for tests that care about some of them."""

from __future__ import annotations

import json
from typing import Any

from perdure.shard.changes import Changes
from perdure.shard.ports import Store
from perdure.shard.rows import (
    AppRow,
    EventRow,
    FunctionRow,
    HistoryRow,
    ItemRow,
    KeyRef,
    KeyRow,
    RunEventRow,
    RunRow,
    StepLogRow,
    StepReportRow,
    StepRow,
    WaitRow,
)

FUNCTION = "f-1"


def app(id: str = "a-1", **other: Any) -> AppRow:
    row = AppRow(
        id, "shop", "http://localhost:3000/api", "py:v0.5.19", "fastapi", "", "POST", "c1", "", 5, 6, None
    )
    return row._replace(**other)


def function(id: str = FUNCTION, **other: Any) -> FunctionRow:
    return FunctionRow(id, "a-1", "shop-pay", "Pay", b'{"id":"shop-pay"}', 5, None)._replace(**other)


def event(receipt: int, **other: Any) -> EventRow:
    row = EventRow(receipt, f"01E{receipt:023d}", "shop/paid", "", 1000, 1001, 0, b'{"name":"shop/paid"}')
    return row._replace(**other)


def run(id: str, receipts: tuple[int, ...] = (), **other: Any) -> RunRow:
    ids = [f"01E{receipt:023d}" for receipt in receipts]
    row = RunRow(
        id=id,
        function_id=FUNCTION,
        status="QUEUED",
        event_id=ids[0] if ids else "",
        event_ids=json.dumps(ids),
        receipts=json.dumps(list(receipts)),
        event_name="shop/paid",
        created_at=1002,
        started_at=None,
        ended_at=None,
        version=-1,
        parallel=0,
        correlation=None,
        original_run_id=None,
        output=None,
    )
    return row._replace(**other)


def step(run_id: str, step_id: str = "s", position: int = 0, memo: bytes = b'{"data":1}') -> StepRow:
    return StepRow(run_id, step_id, position, "load the user", "StepRun", 1003, memo)


def item(run_id: str, n: int = 1, **other: Any) -> ItemRow:
    """An item in the queue `c`, where its rank is the time at which it is due if none is given."""
    row = ItemRow(
        run_id, n, FUNCTION, "discovery", "step", "first", 1000, 1000, 0, 0, 0, 0, 0, None, "c", 1000
    )
    return row._replace(**{"rank": other.get("due", 1000), **other})


def wait(run_id: str, n: int = 1, **other: Any) -> WaitRow:
    return WaitRow(run_id, n, "event", "shop/shipped", "data.id", '"7"', None, 3)._replace(**other)


def key(key: str, expires_at: int = 0, value: bytes = b"r-1", **other: Any) -> KeyRow:
    return KeyRow("taken", FUNCTION, key, value, expires_at)._replace(**other)


def ref(key: str, kind: str = "taken", owner: str = FUNCTION) -> KeyRef:
    return KeyRef(kind, owner, key)


def history(run_id: str, n: int, kind: str = "call", body: bytes = b'{"attempt":0}') -> HistoryRow:
    return HistoryRow(run_id, n, 1004, kind, body)


def line(run_id: str, n: int, **other: Any) -> StepLogRow:
    row = StepLogRow(run_id, n, "s", 0, 1005, "INFO", "shop", f"line {n}", b'{"a":1}')
    return row._replace(**other)


def report(run_id: str, step_id: str = "s", **other: Any) -> StepReportRow:
    return StepReportRow(run_id, step_id, "load", 0, 0.5, "half", 1006, 2, 80, 1)._replace(**other)


def changes(*written: Any, **gone: list[Any]) -> Changes:
    """A batch that writes these rows, and removes the keys given by table (`items=[("r-1", 1)]`)."""
    batch = Changes(1)
    for row in written:
        match row:
            case RunRow() | AppRow() | FunctionRow():
                table = {RunRow: batch.runs, AppRow: batch.apps, FunctionRow: batch.functions}[type(row)]
                table[row.id] = row
            case ItemRow() | WaitRow():
                table = {ItemRow: batch.items, WaitRow: batch.waits}[type(row)]
                table[row.run_id, row.n] = row
            case EventRow():
                batch.events.append(row)
            case StepRow():
                batch.steps.append(row)
            case StepLogRow():
                batch.step_logs.append(row)
            case StepReportRow():
                batch.step_reports[row.run_id, row.step_id] = row
            case HistoryRow():
                batch.history.append(row)
            case KeyRow():
                batch.keys[row.ref] = row
            case RunEventRow():
                batch.run_events.append(row)
            case _ if hasattr(row, "cursor"):
                batch.outbox[row.receipt] = row
            case _:
                batch.quarantine.append(row)
    for name, keys in gone.items():
        getattr(batch, name).update(dict.fromkeys(keys))
    return batch


async def commit(store: Store, epoch: int, batch: Changes, shard: int = 0) -> None:
    """Commit a batch and wait until it is done."""
    done = store.commit(shard, epoch, batch)
    if done is not None:
        await done

"""Reads what steps have told of themselves: their lines, and their reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from perdure.reading.port import RunReports, StepLine, StepReport

_HERE = "shard IN (SELECT shard FROM shards)"
LINES = (
    f"SELECT {','.join(StepLine.__struct_fields__)} FROM step_logs WHERE {_HERE} AND run_id=?1 AND n>?2"
    " ORDER BY n LIMIT ?3"
)
LINES_OF_STEP = (
    f"SELECT {','.join(StepLine.__struct_fields__)} FROM step_logs"
    f" WHERE {_HERE} AND run_id=?1 AND n>?2 AND step_id=?4 ORDER BY n LIMIT ?3"
)
STATUS = f"SELECT status FROM runs WHERE {_HERE} AND id=?1"
REPORTS = f"SELECT {','.join(StepReport.__struct_fields__)} FROM step_reports WHERE {_HERE} AND run_id=?1"

STATEMENTS = (LINES, LINES_OF_STEP, STATUS, REPORTS)


def lines_of_run(
    db: apsw.Connection, run_id: str, step_id: str | None, after: int, limit: int
) -> list[StepLine]:
    """See `perdure.reading.port.Reader.lines_of_run`."""
    if step_id is None:
        return [StepLine(*row) for row in _rows(db, LINES, (run_id, after, limit))]
    return [StepLine(*row) for row in _rows(db, LINES_OF_STEP, (run_id, after, limit, step_id))]


def step_reports(db: apsw.Connection, run_ids: Sequence[str]) -> dict[str, RunReports]:
    """See `perdure.reading.port.Reader.step_reports`."""
    found: dict[str, RunReports] = {}
    for run_id in run_ids:
        for (status,) in _rows(db, STATUS, (run_id,)):
            rows = [StepReport(*row) for row in _rows(db, REPORTS, (run_id,))]
            found[run_id] = RunReports(status, {row.step_id: row for row in rows})
    return found


def _rows(db: apsw.Connection, text: str, bindings: tuple[Any, ...]) -> list[Any]:
    return db.execute(text, bindings).fetchall()

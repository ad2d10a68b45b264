"""The app's own records, in a SQLite file of its own: they survive a restart of the app.

Every write can be repeated without harm. A step runs again when the app dies after the write and before its
answer arrived, so this is what an app of durable steps has to see to.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    id TEXT PRIMARY KEY,
    opportunity TEXT NOT NULL,
    transcript TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'parsing', 'completed', 'failed')),
    created_at REAL NOT NULL,
    event_id TEXT,
    fail_first INTEGER NOT NULL,
    takes_seconds REAL NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    error TEXT
);
CREATE TABLE IF NOT EXISTS step_tries (
    call_id TEXT NOT NULL, step TEXT NOT NULL, tries INTEGER NOT NULL,
    PRIMARY KEY (call_id, step)
);
CREATE TABLE IF NOT EXISTS opportunity_history (
    call_id TEXT PRIMARY KEY, opportunity TEXT NOT NULL, summary TEXT NOT NULL
);
"""


class CallRecords:
    """The calls and the history of their opportunities. All times are Unix seconds."""

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises OSError or sqlite3.Error if that is not possible."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        with self._transaction() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=10)
        db.row_factory = sqlite3.Row
        try:
            with db:
                yield db
        finally:
            db.close()

    def add(
        self,
        call_id: str,
        opportunity: str,
        transcript: str,
        fail_first: int,
        takes_seconds: float,
        now: float,
    ) -> None:
        """Store a new call as `pending`."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO calls"
                " (id, opportunity, transcript, status, created_at, fail_first, takes_seconds)"
                " VALUES (?, ?, ?, 'pending', ?, ?, ?)",
                (call_id, opportunity, transcript, now, fail_first, takes_seconds),
            )

    def find(self, call_id: str) -> dict[str, Any] | None:
        """The call with its result, how often each of its steps was tried, and its opportunity's history."""
        with self._transaction() as db:
            row = db.execute("SELECT * FROM calls WHERE id = ?", (call_id,)).fetchone()
            if row is None:
                return None
            tries = db.execute("SELECT step, tries FROM step_tries WHERE call_id = ?", (call_id,)).fetchall()
            history = db.execute(
                "SELECT call_id, summary FROM opportunity_history WHERE opportunity = ? ORDER BY rowid",
                (row["opportunity"],),
            ).fetchall()
        return {
            **dict(row),
            "result": json.loads(row["result"]) if row["result"] else None,
            "step_tries": {row["step"]: row["tries"] for row in tries},
            "opportunity_history": [dict(entry) for entry in history],
        }

    def unsent(self, created_before: float) -> list[str]:
        """Ids of the calls stored before that time whose event has not been accepted by the server."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT id FROM calls WHERE event_id IS NULL AND created_at < ?"
                " ORDER BY created_at LIMIT 100",
                (created_before,),
            ).fetchall()
        return [row["id"] for row in rows]

    def sent(self, call_id: str, event_id: str) -> None:
        """Note that the server has the call's event, under this id."""
        self._update(call_id, event_id=event_id)

    def parsing(self, call_id: str) -> None:
        """The job has begun."""
        self._update(call_id, status="parsing")

    def count_try(self, call_id: str, step: str) -> int:
        """Count a try of a step of this call; which one it is, from 1."""
        with self._transaction() as db:
            row = db.execute(
                "INSERT INTO step_tries VALUES (?, ?, 1)"
                " ON CONFLICT (call_id, step) DO UPDATE SET tries = tries + 1 RETURNING tries",
                (call_id, step),
            ).fetchone()
        return int(row["tries"])

    def take_failure(self, call_id: str) -> bool:
        """Whether this call was asked to fail once more; if so, that failure is used up."""
        with self._transaction() as db:
            done = db.execute(
                "UPDATE calls SET failures = failures + 1 WHERE id = ? AND failures < fail_first", (call_id,)
            )
        return done.rowcount == 1

    def complete(self, call_id: str, result: object) -> None:
        """Save the parsed results."""
        self._update(call_id, status="completed", result=json.dumps(result), error=None)

    def fail(self, call_id: str, error: str) -> None:
        """The job has given up; `error` is its last one."""
        self._update(call_id, status="failed", error=error)

    def add_history(self, call_id: str, opportunity: str, summary: str) -> None:
        """Add the call to the history of its opportunity, once however often this is called."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO opportunity_history VALUES (?, ?, ?)"
                " ON CONFLICT (call_id) DO UPDATE SET summary = excluded.summary",
                (call_id, opportunity, summary),
            )

    def _update(self, call_id: str, **columns: str | None) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        with self._transaction() as db:
            db.execute(f"UPDATE calls SET {names} WHERE id = ?", (*columns.values(), call_id))

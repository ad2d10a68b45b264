"""What is on disk, read straight from the database file with plain SQL, beside or after the server."""

from __future__ import annotations

import pickle
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FINISHED = "inngest/function.finished"
FAILED = "inngest/function.failed"


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        yield connection


@contextmanager
def copied(database: Path, scratch: Path) -> Iterator[Path]:
    """A copy of what a killed server left, in a folder `scratch` that is gone afterwards."""
    scratch.mkdir(parents=True, exist_ok=True)
    for suffix in ("", "-wal"):
        source = database.with_name(database.name + suffix)
        if source.exists():
            shutil.copy2(source, scratch / source.name)
    yield scratch / database.name
    shutil.rmtree(scratch)


@dataclass(frozen=True)
class Ledger:
    """Everything about runs in a database, at one moment. Steps and runs are keyed by their ids."""

    runs: dict[str, dict[str, Any]]
    steps: dict[tuple[str, str], tuple[Any, ...]]
    """(run, step id): name, operation, position, time, result."""
    history: dict[tuple[str, int], tuple[str, str]]
    """(run, n): kind and body."""
    events: dict[int, tuple[str, str, str]]
    """Receipt: internal id, name and body."""
    functions: dict[str, str]
    """Function id: its name, as the app calls it."""
    leftovers: dict[str, int]
    """Rows that must be gone when every run has ended, by table."""

    @classmethod
    def read(cls, database: Path) -> Ledger:
        """Read a database, which may be in use."""
        with opened(database) as connection:
            connection.execute("BEGIN")
            return cls._read(connection)

    @classmethod
    def read_behind(cls, prefix: Sequence[str], database: Path) -> Ledger:
        """Read a database by a process of its own, which `prefix` puts where the database is to be seen."""
        command = [*prefix, sys.executable, "-m", "tests.integration.durability.ledger", str(database)]
        return cls(*pickle.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))

    @classmethod
    def of_the_dead(cls, database: Path, scratch: Path) -> Ledger:
        """Read what a killed server left, from a copy, so that the next one finds it untouched."""
        with copied(database, scratch) as copy:
            return cls.read(copy)

    @classmethod
    def _read(cls, connection: sqlite3.Connection) -> Ledger:
        def rows(query: str) -> list[Any]:
            return connection.execute(query).fetchall()

        columns = "id, function_id, status, event_id, event_name, started_at, ended_at, correlation, output"
        names = columns.split(", ")
        return cls(
            {row[0]: dict(zip(names, row, strict=True)) for row in rows(f"SELECT {columns} FROM runs")},
            {
                row[:2]: row[2:]
                for row in rows("SELECT run_id, step_id, name, op, position, at, memo FROM steps")
            },
            {row[:2]: row[2:] for row in rows("SELECT run_id, n, kind, CAST(body AS TEXT) FROM history")},
            {
                row[0]: row[1:]
                for row in rows("SELECT receipt, internal_id, name, CAST(body AS TEXT) FROM events")
            },
            {row[0]: row[1].partition("-")[2] for row in rows("SELECT id, slug FROM functions")},
            {
                table: rows(f"SELECT count(*) FROM {table}")[0][0]
                for table in ("items", "waits", "outbox", "quarantine")
            },
        )

    @property
    def at_rest(self) -> bool:
        """Whether no run is under way and no event waits to be matched."""
        ended = all(run["ended_at"] is not None for run in self.runs.values())
        return ended and not self.leftovers["outbox"]

    def job(self, run: dict[str, Any]) -> str:
        """The name of the run's function."""
        return self.functions[run["function_id"]]

    def events_named(self, name: str) -> list[tuple[str, str]]:
        """Internal id and body of the events of a name."""
        return [(internal_id, body) for internal_id, given, body in self.events.values() if given == name]


def at_rest(database: Path) -> bool:
    """Whether no run is under way and no event waits to be matched."""
    unended = "SELECT count(*) FROM runs WHERE status IN ('QUEUED', 'RUNNING')"
    with opened(database) as connection:
        found = connection.execute(f"SELECT ({unended}) + (SELECT count(*) FROM outbox)").fetchone()
        return not found[0]


if __name__ == "__main__":
    sys.stdout.buffer.write(pickle.dumps(tuple(vars(Ledger.read(Path(sys.argv[1]))).values())))

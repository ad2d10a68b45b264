"""What a database says about functions under rules: runs with their times and events, and what rules remember."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.durability import rules
from tests.integration.durability.ledger import copied, opened

Call = tuple[str, int]
"""The item of a call, as apps know it, and its generation."""


@dataclass(frozen=True)
class Event:
    """An event that was sent for a function, as it was first received."""

    receipt: int
    internal_id: str
    received_at: int
    function: str
    who: str
    n: int


@dataclass(frozen=True)
class Run:
    """A run. `events` are the numbers of its events; `scheduled_at` is the time of the schedule that started it."""

    id: str
    function: str
    status: str
    who: str
    events: tuple[int, ...]
    created_at: int
    started_at: int | None
    ended_at: int | None
    holder: str = ""
    scheduled_at: str = ""


@dataclass(frozen=True)
class RulesLedger:
    """Everything about functions under rules in a database, at one moment."""

    runs: dict[str, Run]
    """By id, which is the order in which they were created."""
    events: dict[int, Event]
    """By number."""
    leftovers: dict[str, int]
    """Rows that must be gone when everything has ended, by what they are."""
    in_flight: frozenset[Call]
    """Calls under way."""

    @classmethod
    def read(cls, database: Path) -> RulesLedger:
        """Read a database, which may be in use."""
        with opened(database) as connection:
            connection.execute("BEGIN")
            return cls._read(connection)

    @classmethod
    def of_the_dead(cls, database: Path, scratch: Path) -> RulesLedger:
        """Read what a killed server left, from a copy, so that the next one finds it untouched."""
        with copied(database, scratch) as copy:
            return cls.read(copy)

    @classmethod
    def _read(cls, connection: sqlite3.Connection) -> RulesLedger:
        def rows(query: str) -> list[Any]:
            return connection.execute(query).fetchall()

        names = {row[0]: row[1].partition("-")[2] for row in rows("SELECT id, slug FROM functions")}
        bodies = rows("SELECT receipt, internal_id, received_at, name, CAST(body AS TEXT) FROM events")
        data = {row[1]: json.loads(row[4])["data"] for row in bodies}
        holders = {
            run_id: json.loads(body).get("holder", "")
            for run_id, body in rows("SELECT run_id, CAST(body AS TEXT) FROM history WHERE kind = 'ended'")
        }
        runs = [
            _run(row, names, data, holders)
            for row in rows(
                "SELECT id, function_id, status, event_ids, created_at, started_at, ended_at FROM runs ORDER BY id"
            )
        ]
        calls = rows("SELECT run_id || '.' || n, generation FROM items WHERE in_flight = 1")
        return cls({run.id: run for run in runs}, _events(bodies, data), _leftovers(rows), frozenset(calls))

    def of(self, *functions: str) -> list[Run]:
        """The runs of functions, in the order in which they were created."""
        return [run for run in self.runs.values() if run.function in functions]

    def by_who(self, function: str) -> dict[str, list[Run]]:
        """The runs of a function, by key."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.of(function):
            found[run.who].append(run)
        return found

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way and nothing is held back."""
        return not any(self.leftovers.values())


def _run(row: Any, names: dict[str, str], data: dict[str, Any], holders: dict[str, str]) -> Run:
    run_id, function_id, status, event_ids, created_at, started_at, ended_at = row
    met = [data[event_id] for event_id in json.loads(event_ids)]
    return Run(
        run_id,
        names[function_id],
        status,
        met[0].get("who", ""),
        tuple(each.get("n", -1) for each in met),
        created_at,
        started_at,
        ended_at,
        holders.get(run_id, ""),
        met[0].get("scheduledAt", ""),
    )


def _events(bodies: list[Any], data: dict[str, Any]) -> dict[int, Event]:
    events: dict[int, Event] = {}
    for receipt, internal_id, received_at, name, _ in sorted(bodies):
        app, _, function = name.partition("/")
        if app != rules.APP or function not in rules.CONFIGS:
            continue
        given = data[internal_id]
        event = Event(receipt, internal_id, received_at, function, given["who"], given["n"])
        events.setdefault(event.n, event)
    return events


def _leftovers(rows: Callable[[str], list[Any]]) -> dict[str, int]:
    lasting = "'taken', 'rate', 'throttle', 'cron', 'clock', 'job'"
    queries = {
        "runs that have not ended": "SELECT count(*) FROM runs WHERE ended_at IS NULL",
        "items": "SELECT count(*) FROM items WHERE run_id NOT LIKE '~cron~%'",
        "waits": "SELECT count(*) FROM waits",
        "events to be matched": "SELECT count(*) FROM outbox",
        "commands in quarantine": "SELECT count(*) FROM quarantine",
    }
    kinds = rows(f"SELECT kind, count(*) FROM keys WHERE kind NOT IN ({lasting}) GROUP BY kind")
    return {
        **{what: rows(query)[0][0] for what, query in queries.items()},
        **{f"keys of kind {kind}": count for kind, count in kinds},
    }

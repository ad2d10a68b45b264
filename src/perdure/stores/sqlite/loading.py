"""What the shard reads: each an indexed search, on a connection that only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import apsw
import msgspec

from perdure.protocol.ids import new_ulid
from perdure.shard.rows import (
    AppRow,
    EventRow,
    FunctionRow,
    ItemRef,
    ItemRow,
    KeyRef,
    KeyRow,
    OutboxRow,
    Recovered,
    RunRow,
    StepRow,
    StoredRun,
    WaitLookup,
    WaitRef,
    WaitRow,
)
from perdure.stores.sqlite.statements import among

CHUNKS = (1, 8, 64)
"""Numbers of keys that a search comes in. Keys are padded to them by repeating the last one, which finds
nothing more."""

OLD_IDS_MS = 600_000
"""How much older than its receipt the id of an event may be for `recent_events` to find it. A sender may give the time
in the ids; that of SDKs is when they first sent the event, and with it they send it again. Without a bound, every event
of the name would be passed over."""


class Search(NamedTuple):
    """A statement that reads rows by a list of keys; `keys` are the columns that they are compared with."""

    select: str
    keys: tuple[str, ...]
    order: str = ""


@cache
def text(search: Search, count: int, first: int) -> str:
    """The statement for `count` keys, bound from parameter `first` on; ?1 is the shard."""
    return f"{search.select} AND {among(search.keys, count, first)}{search.order}"


def _select(table: str, row: Any) -> str:
    return f"SELECT {','.join(row._fields)} FROM {table} WHERE shard=?1"


RUNS = Search(_select("runs", RunRow), ("id",))
STEPS = Search(_select("steps", StepRow), ("run_id",), " ORDER BY run_id, position")
ITEMS = Search(_select("items", ItemRow), ("run_id",), " ORDER BY run_id, n")
WAITS = Search(_select("waits", WaitRow), ("run_id",), " ORDER BY run_id, n")
LAST_HISTORY = Search("SELECT run_id, max(n) FROM history WHERE shard=?1", ("run_id",), " GROUP BY run_id")
EVENTS = Search(_select("events", EventRow), ("receipt",))
KEYS = Search(
    "SELECT kind, owner, key, value FROM keys WHERE shard=?1 AND (expires_at=0 OR expires_at>?2)",
    ("kind", "owner", "key"),
)

QUEUE = (
    "SELECT rank,run_id,n FROM items WHERE shard=?1 AND function_id=?2 AND part=?3 AND in_flight=0"
    " AND (rank,run_id,n)>(?4,?5,?6) ORDER BY rank,run_id,n LIMIT ?7"
)
NEXT_PART = "SELECT part FROM items WHERE shard=?1 AND function_id=?2 AND part>?3 AND in_flight=0 ORDER BY part LIMIT 1"
RECENT_EVENTS = (
    f"SELECT {','.join(EventRow._fields)} FROM events INDEXED BY events_by_name WHERE name=?1 AND internal=0"
    " AND internal_id>=?5 AND received_at>=?2 AND shard=?4 ORDER BY internal_id DESC LIMIT ?3"
)
FIND_WAITS = (
    "SELECT run_id,n FROM waits WHERE shard=?1 AND event=?2 AND path=?3 AND value=?4 AND (run_id,n)>(?5,?6)"
    " ORDER BY run_id,n LIMIT ?7"
)

ALL_APPS = _select("apps", AppRow)
ALL_FUNCTIONS = _select("functions", FunctionRow)
ALL_OUTBOX = _select("outbox", OutboxRow)
ALL_KEYS = f"{_select('keys', KeyRow)} AND kind=?2"
IN_FLIGHT = "SELECT DISTINCT run_id FROM items WHERE shard=?1 AND in_flight=1"
WAIT_COUNTS = "SELECT event,path,count(*) FROM waits WHERE shard=?1 GROUP BY event,path"
LAST_RECEIPT = "SELECT max(receipt) FROM events WHERE shard=?1"
"""Retention must leave the newest event: a receipt that came back would be older than waits that began after
it."""

SINGLE = (
    QUEUE,
    NEXT_PART,
    RECENT_EVENTS,
    FIND_WAITS,
    ALL_APPS,
    ALL_FUNCTIONS,
    ALL_OUTBOX,
    ALL_KEYS,
    IN_FLIGHT,
    WAIT_COUNTS,
    LAST_RECEIPT,
)
BY_KEYS = (RUNS, STEPS, ITEMS, WAITS, LAST_HISTORY, EVENTS, KEYS)


class Loader:
    """Reads on a connection of its own. Not to be used from two threads at once."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All that is read inside is of one moment, though a writer goes on meanwhile; and the lock on the log is
        taken once, which is half of the cost of a small search."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def _search(
        self, search: Search, fixed: tuple[Any, ...], keys: Sequence[tuple[Any, ...]]
    ) -> Iterator[Any]:
        at = 0
        while at < len(keys):
            part = keys[at : at + CHUNKS[-1]]
            size = next(size for size in CHUNKS if size >= len(part))
            padded = chain.from_iterable((*part, *(part[-1],) * (size - len(part))))
            yield from self._connection.execute(text(search, size, len(fixed) + 1), (*fixed, *padded))
            at += len(part)

    def recover(self, shard: int, kinds: Sequence[str]) -> Recovered:
        """What a shard needs to start."""
        execute, key = self._connection.execute, (shard,)
        with self._snapshot():
            return Recovered(
                next_receipt=(execute(LAST_RECEIPT, key).get or 0) + 1,
                apps=[AppRow._make(row) for row in execute(ALL_APPS, key)],
                functions=[FunctionRow._make(row) for row in execute(ALL_FUNCTIONS, key)],
                in_flight=[run_id for (run_id,) in execute(IN_FLIGHT, key)],
                wait_counts=list(execute(WAIT_COUNTS, key)),
                outbox=[OutboxRow._make(row) for row in execute(ALL_OUTBOX, key)],
                keys=[KeyRow._make(row) for kind in kinds for row in execute(ALL_KEYS, (shard, kind))],
            )

    def load_runs(self, shard: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        """The runs that exist among `run_ids`, with all that belongs to them."""
        fixed = (shard,)
        with self._snapshot():
            rows = [RunRow._make(row) for row in self._search(RUNS, fixed, [(run_id,) for run_id in run_ids])]
            runs = {row.id: StoredRun(row, [], [], [], [], 0) for row in rows}
            ids = [(run_id,) for run_id in runs]
            for step in map(StepRow._make, self._search(STEPS, fixed, ids)):
                runs[step.run_id].steps.append(step)
            last = dict(self._search(LAST_HISTORY, fixed, ids))
            for item in map(ItemRow._make, self._search(ITEMS, fixed, ids)):
                runs[item.run_id].items.append(item)
                last[item.run_id] = max(last.get(item.run_id, 0), item.n)
            for wait in map(WaitRow._make, self._search(WAITS, fixed, ids)):
                runs[wait.run_id].waits.append(wait)
            self._add_events(shard, runs)
        return {run_id: run._replace(last_n=last.get(run_id, 0)) for run_id, run in runs.items()}

    def _add_events(self, shard: int, runs: dict[str, StoredRun]) -> None:
        receipts = {
            run_id: msgspec.json.decode(run.run.receipts, type=list[int]) for run_id, run in runs.items()
        }
        wanted = dict.fromkeys(chain.from_iterable(receipts.values()))
        events = self._events(shard, list(wanted))
        for run_id, run in runs.items():
            run.events.extend(events[receipt].body for receipt in receipts[run_id] if receipt in events)

    def _events(self, shard: int, receipts: Sequence[int]) -> dict[int, EventRow]:
        found = self._search(EVENTS, (shard,), [(receipt,) for receipt in receipts])
        return {event.receipt: event for event in map(EventRow._make, found)}

    def load_events(self, shard: int, receipts: Sequence[int]) -> dict[int, EventRow]:
        """Stored events by receipt."""
        return self._events(shard, receipts)

    def load_queue(
        self, shard: int, function_id: str, part: str, after: ItemRef, limit: int
    ) -> list[ItemRef]:
        """The first items in a queue of a function after `after`."""
        rows = self._connection.execute(QUEUE, (shard, function_id, part, *after, limit))
        return list(map(ItemRef._make, rows))

    def load_parts(self, shard: int, function_id: str, after: str, limit: int) -> list[str]:
        """The queues of a function, by name: one search for each, however long it is."""
        parts: list[str] = []
        with self._snapshot():
            while len(parts) < limit:
                found = self._connection.execute(NEXT_PART, (shard, function_id, after)).get
                if found is None:
                    break
                parts.append(after := found)
        return parts

    def recent_events(self, shard: int, name: str, since: int, limit: int) -> list[EventRow]:
        """Events of a name received at `since` or later, the newest `limit`, in order of receipt."""
        oldest = new_ulid(max(since - OLD_IDS_MS, 0), bytes(10))
        rows = self._connection.execute(RECENT_EVENTS, (name, since, limit, shard, oldest))
        return sorted(map(EventRow._make, rows), key=lambda event: event.receipt)

    def find_waits(self, shard: int, lookups: Sequence[WaitLookup], limit: int) -> list[WaitRef]:
        """Waits that the lookups find."""
        found: list[WaitRef] = []
        with self._snapshot():
            for index, lookup in enumerate(lookups):
                rows = self._connection.execute(
                    FIND_WAITS, (shard, lookup.event, lookup.path, lookup.value, *lookup.after, limit)
                )
                found.extend(WaitRef(index, run_id, n) for run_id, n in rows)
        return found

    def find_keys(self, shard: int, keys: Sequence[KeyRef], now: int) -> dict[KeyRef, bytes]:
        """The values of keys that have not expired."""
        return {KeyRef(*row[:3]): row[3] for row in self._search(KEYS, (shard, now), keys)}

"""Answers to pages and APIs, read beside the writer.

Each thread of a small pool has a connection of its own, which cannot write. A question is one search by index
and one short look at the database: while a reader holds an old state of it, the write-ahead log cannot start
over, so what takes longer than a second is stopped.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from perdure.errors import StoreUnavailable
from perdure.reading.port import (
    MAX_COUNT,
    MAX_TRACED_ENTRIES,
    AppRecord,
    EventEffect,
    EventRecord,
    FunctionRecord,
    HistoryRecord,
    ItemRecord,
    ListedRun,
    RunFilter,
    RunPlace,
    RunRecord,
    RunReports,
    StepLine,
    StepRecord,
    WholeRun,
)
from perdure.reading.rollups import RollupRecord
from perdure.reading.timers import TimerRecord
from perdure.stores.sqlite import explaining, rollups, run_listing, step_logs, timers, whole_run
from perdure.stores.sqlite.connections import connect_reader, explain
from perdure.stores.sqlite.stepping_aside import held_lock, step_aside

THREADS = 2
"""Questions answered at once; more wait."""

DEADLINE_SECONDS = 1.0
"""A question that takes longer is stopped."""

_INSTRUCTIONS = 20_000
"""How often the deadline is looked at, in instructions of SQLite's machine: some hundred times a second."""

T = TypeVar("T")
R = TypeVar("R", bound=msgspec.Struct)

_LAST = "\x7f"
"""Above every id."""

_HERE = "shard IN (SELECT shard FROM shards)"
"""Ids are unique across shards. There are few of these, and keys start with them."""


def _columns(record: type[msgspec.Struct], **renamed: str) -> str:
    return ",".join(renamed.get(name, name) for name in record.__struct_fields__)


_EVENT = _columns(EventRecord)
_RUN = _columns(RunRecord)
_RUN_OF_EVENT = ",".join(f"r.{name}" for name in RunRecord.__struct_fields__)
_TIMES = "internal_id<?2 AND received_at>?3 AND received_at<?4"
_BY_ID = "events INDEXED BY events_by_internal_id"
# By whether a name is given, and whether the server's own count: only users' events are indexed by name.
_EVENTS = {
    (False, False): f"{_BY_ID} WHERE internal=0 AND {_TIMES}",
    (False, True): f"{_BY_ID} WHERE {_TIMES}",
    (True, False): f"events INDEXED BY events_by_name WHERE name=?1 AND internal=0 AND {_TIMES}",
    (True, True): f"{_BY_ID} WHERE name=?1 AND {_TIMES}",
}
LISTS = {
    kind: f"SELECT {_EVENT} FROM {walk} ORDER BY internal_id DESC, receipt DESC LIMIT ?5"
    for kind, walk in _EVENTS.items()
}
COUNTS = {kind: f"SELECT count(*) FROM (SELECT 1 FROM {walk} LIMIT ?5)" for kind, walk in _EVENTS.items()}
LIST_EVENTS = LISTS[False, False]
EVENT = f"SELECT {_EVENT} FROM events WHERE internal_id=?1 ORDER BY receipt LIMIT 1"
RUNS_OF_EVENT = f"SELECT {_RUN} FROM runs WHERE event_id=?1 AND id>?2 ORDER BY id LIMIT ?3"
# Of a batch the first event stands with the run, the others here.
FURTHER_RUNS_OF_EVENT = (
    f"SELECT {_RUN_OF_EVENT} FROM run_events e JOIN runs r ON r.shard=e.shard AND r.id=e.run_id"
    " WHERE e.shard=?4 AND e.event_id=?1 AND e.how='trigger' AND e.run_id>?2 ORDER BY e.run_id LIMIT ?3"
)
EFFECTS_OF_EVENT = (
    "SELECT e.how,r.id,r.function_id,r.status FROM run_events e JOIN runs r ON r.shard=e.shard AND r.id=e.run_id"
    " WHERE e.shard=?1 AND e.event_id=?2 AND e.how IN ('cancel','wait') ORDER BY e.how,e.run_id LIMIT ?3"
)
RUN = f"SELECT {_RUN} FROM runs WHERE {_HERE} AND id=?1"
# A run that has not ended has something left to happen to it. What begins with `~` is no run but a rule of a function.
LIVE_RUNS = (
    "SELECT DISTINCT run_id FROM items WHERE shard=?1 AND run_id>?2 AND run_id<'~' ORDER BY run_id LIMIT ?3"
)
SHARDS = "SELECT shard FROM shards"
RECEIPTS = f"SELECT shard,receipts FROM runs WHERE {_HERE} AND id=?1"
EVENT_BY_RECEIPT = f"SELECT {_EVENT} FROM events WHERE shard=?1 AND receipt=?2"
STEPS = (
    f"SELECT {_columns(StepRecord, id='step_id')} FROM steps WHERE {_HERE} AND run_id=?1 ORDER BY position"
)
STEP = f"SELECT {_columns(StepRecord, id='step_id')} FROM steps WHERE {_HERE} AND run_id=?1 AND step_id=?2"
ITEMS = f"SELECT {_columns(ItemRecord)} FROM items WHERE {_HERE} AND run_id=?1 ORDER BY n"
HISTORY = (
    f"SELECT {_columns(HistoryRecord)} FROM history WHERE {_HERE} AND run_id=?1 AND n>?2 ORDER BY n LIMIT ?3"
)
METADATA_SIZE = (
    f"SELECT ifnull(sum(length(body)),0) FROM history WHERE {_HERE} AND run_id=?1 AND kind='metadata'"
)
APPS = f"SELECT {_columns(AppRecord)} FROM apps WHERE {_HERE} ORDER BY id"
FUNCTIONS = (
    f"SELECT {_columns(FunctionRecord)} FROM functions WHERE {_HERE} AND ?1 IN ('',app_id) ORDER BY id"
)

STATEMENTS = (
    *LISTS.values(),
    *COUNTS.values(),
    *explaining.STATEMENTS,
    *run_listing.STATEMENTS,
    *step_logs.STATEMENTS,
    *rollups.STATEMENTS,
    *timers.STATEMENTS,
    *whole_run.STATEMENTS,
    EVENT,
    RUNS_OF_EVENT,
    FURTHER_RUNS_OF_EVENT,
    EFFECTS_OF_EVENT,
    RUN,
    LIVE_RUNS,
    RECEIPTS,
    EVENT_BY_RECEIPT,
    STEPS,
    STEP,
    ITEMS,
    HISTORY,
    METADATA_SIZE,
    APPS,
    FUNCTIONS,
)


class SqliteReader:
    """Implements `perdure.reading.port.Reader` on a SQLite file that a `SqliteStore` has open. Made by
    `open`."""

    def __init__(self, path: Path, deadline_seconds: float) -> None:
        self.path = path
        self._deadline_seconds = deadline_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="perdure-read")
        self._local = threading.local()
        self._connections: list[apsw.Connection] = []
        self._closed = False

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], *, deadline_seconds: float = DEADLINE_SECONDS
    ) -> SqliteReader:
        """Read the database at `path`. Connections are made at the first questions."""
        return cls(Path(path), deadline_seconds)

    async def list_events(
        self,
        *,
        name: str | None = None,
        internal: bool = False,
        received_after: int | None = None,
        received_before: int | None = None,
        before: str | None = None,
        limit: int = 20,
    ) -> list[EventRecord]:
        """Events, newest first by internal id."""
        statement = LISTS[name is not None, internal]
        page = (name, _LAST if before is None else before, *_times(received_after, received_before), limit)
        return await self._ask(lambda db: [_event(row) for row in db.execute(statement, page)])

    async def count_events(
        self,
        *,
        name: str | None = None,
        internal: bool = False,
        received_after: int | None = None,
        received_before: int | None = None,
        most: int = MAX_COUNT,
    ) -> int:
        """How many events there are, counted up to `most`."""
        statement = COUNTS[name is not None, internal]
        keys = (name, _LAST, *_times(received_after, received_before), most)
        (count,) = await self._ask(lambda db: [int(row[0]) for row in db.execute(statement, keys)])
        return count

    async def event(self, internal_id: str) -> EventRecord | None:
        """The event with this internal id; of several the one that came first."""
        found = await self._ask(lambda db: [_event(row) for row in db.execute(EVENT, (internal_id,))])
        return found[0] if found else None

    async def runs_of_event(self, internal_id: str, *, after: str = "", limit: int = 1000) -> list[RunRecord]:
        """Runs that the event started, alone or with others, in the order of their ids."""
        keys = (internal_id, after, limit)

        def read(db: apsw.Connection) -> list[RunRecord]:
            found = {row[0]: row for row in db.execute(RUNS_OF_EVENT, keys)}
            for (shard,) in db.execute(SHARDS).fetchall():
                found.update((row[0], row) for row in db.execute(FURTHER_RUNS_OF_EVENT, (*keys, shard)))
            return [run_listing.run_record(found[run_id]) for run_id in sorted(found)[:limit]]

        return await self._ask(read)

    async def effects_of_event(self, internal_id: str, *, limit: int = 1000) -> list[EventEffect]:
        """What the event did besides starting runs."""

        def read(db: apsw.Connection) -> list[EventEffect]:
            found = [
                EventEffect(*row)
                for (shard,) in db.execute(SHARDS).fetchall()
                for row in db.execute(EFFECTS_OF_EVENT, (shard, internal_id, limit))
            ]
            return sorted(found, key=lambda effect: (effect.how, effect.run_id))[:limit]

        return await self._ask(read)

    async def run(self, run_id: str) -> RunRecord | None:
        """One run."""
        found = await self._ask(
            lambda db: [run_listing.run_record(row) for row in db.execute(RUN, (run_id,))]
        )
        return found[0] if found else None

    async def whole_run(self, run_id: str, *, entries: int = MAX_TRACED_ENTRIES) -> WholeRun | None:
        """A run and all that belongs to it, read as of one commit."""
        return await self._ask(lambda db: whole_run.whole_run(db, run_id, entries))

    async def list_runs(
        self,
        wanted: RunFilter,
        *,
        after: RunPlace | None = None,
        limit: int = 100,
        payloads: bool = False,
    ) -> list[ListedRun]:
        """Runs in the order of `wanted`."""
        return await self._ask(lambda db: run_listing.list_runs(db, wanted, after, limit, payloads))

    async def count_runs(self, wanted: RunFilter, *, most: int = MAX_COUNT) -> int:
        """How many runs there are, counted up to `most`."""
        return await self._ask(lambda db: run_listing.count_runs(db, wanted, most))

    async def live_runs(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of runs that have not ended, in their order."""

        def read(db: apsw.Connection) -> list[str]:
            shards: list[Any] = db.execute(SHARDS).fetchall()
            found = [
                str(run_id)
                for (shard,) in shards
                for (run_id,) in db.execute(LIVE_RUNS, (shard, after, limit))
            ]
            return sorted(found)[:limit]

        return await self._ask(read)

    async def events_of_run(self, run_id: str) -> list[EventRecord]:
        """The events that started the run, in the order in which calls carry them."""

        def read(db: apsw.Connection) -> list[EventRecord]:
            found: list[Any] = db.execute(RECEIPTS, (run_id,)).fetchall()
            return [
                _event(row)
                for shard, receipts in found
                for receipt in msgspec.json.decode(receipts, type=list[int])
                for row in db.execute(EVENT_BY_RECEIPT, (shard, receipt))
            ]

        return await self._ask(read)

    async def steps_of_run(self, run_id: str) -> list[StepRecord]:
        """Finished steps, in the order in which they finished."""
        return await self._records(StepRecord, STEPS, run_id)

    async def step_of_run(self, run_id: str, step_id: str) -> StepRecord | None:
        """One finished step."""
        found = await self._records(StepRecord, STEP, run_id, step_id)
        return found[0] if found else None

    async def items_of_run(self, run_id: str) -> list[ItemRecord]:
        """What is still to happen to the run."""
        return await self._ask(lambda db: [_item(row) for row in db.execute(ITEMS, (run_id,))])

    async def history_of_run(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[HistoryRecord]:
        """What happened to the run."""
        return await self._records(HistoryRecord, HISTORY, run_id, after, limit)

    async def newest_history(self, run_id: str, kind: str, *, limit: int = 100) -> list[HistoryRecord]:
        """What happened to the run and is of this kind, newest first."""
        return await self._records(HistoryRecord, explaining.NEWEST_HISTORY, run_id, kind, limit)

    async def lines_of_run(
        self, run_id: str, *, step_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> list[StepLine]:
        """What the run's steps have logged, or one of them."""
        return await self._ask(lambda db: step_logs.lines_of_run(db, run_id, step_id, after, limit))

    async def step_reports(self, run_ids: Sequence[str]) -> dict[str, RunReports]:
        """The status and the step reports of those of the runs that exist."""
        return await self._ask(lambda db: step_logs.step_reports(db, run_ids))

    async def rollups(
        self, span: int, since: int, until: int, function_ids: Sequence[str] = ()
    ) -> list[RollupRecord]:
        """Rollups of a span of time."""
        return await self._ask(lambda db: rollups.rollups(db, span, since, until, function_ids))

    async def newest_rollup(self) -> int:
        """Up to when things have been summed up."""
        return await self._ask(rollups.newest)

    async def timers(self, function_ids: list[str], since: int, until: int, limit: int) -> list[TimerRecord]:
        """What happens to runs of these functions in a time."""
        return await self._ask(lambda db: timers.timers(db, function_ids, since, until, limit))

    async def newest_of_schedules(self, function_id: str, limit: int) -> list[str]:
        """The newest runs of a function that a schedule started."""
        return await self._ask(lambda db: timers.newest_of_schedules(db, function_id, limit))

    async def calls_ahead(
        self, function_id: str, part: str, rank: int, run_id: str, n: int, *, most: int = 1_000_000
    ) -> int:
        """How many items of a queue stand before a place, counted up to `most`."""
        keys = (function_id, part, rank, run_id, n, most)
        (count,) = await self._ask(
            lambda db: [int(row[0]) for row in db.execute(explaining.CALLS_AHEAD, keys)]
        )
        return count

    async def own_events_since(self, name: str, receipt: int, *, limit: int = 1000) -> list[EventRecord]:
        """The server's own events of a name with a higher receipt, newest first."""

        def read(db: apsw.Connection) -> list[EventRecord]:
            shards = [shard for (shard,) in db.execute(SHARDS)]
            return [_event(row) for row in explaining.own_events(db, shards, name, receipt, limit)]

        return await self._ask(read)

    async def remembered(
        self, keys: Sequence[tuple[str, str, str]], alive_at: int
    ) -> dict[tuple[str, str, str], bytes]:
        """What rules remember under keys."""
        return await self._ask(lambda db: explaining.remembered(db, keys, alive_at))

    async def metadata_size(self, run_id: str) -> int:
        """Bytes of all metadata that was attached to a run."""
        (size,) = await self._ask(lambda db: [int(row[0]) for row in db.execute(METADATA_SIZE, (run_id,))])
        return size

    async def apps(self) -> list[AppRecord]:
        """All apps, archived ones too."""
        return await self._records(AppRecord, APPS)

    async def functions(self, app_id: str | None = None) -> list[FunctionRecord]:
        """Functions of one app, or all, archived ones too."""
        return await self._records(FunctionRecord, FUNCTIONS, app_id or "")

    async def close(self) -> None:
        """Wait for the questions under way, and let go of the files. A second call does nothing."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        while self._connections:
            self._connections.pop().close()

    async def _records(self, record: type[R], statement: str, *keys: Any) -> list[R]:
        return await self._ask(lambda db: [record(*row) for row in db.execute(statement, keys)])

    async def _ask(self, read: Callable[[apsw.Connection], T]) -> T:
        if self._closed:
            raise StoreUnavailable(f"{self.path} has been closed; the server is stopping.")
        running = held_lock()
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._answer, read, running)
        step_aside(future, running)
        return await future

    def _answer(self, read: Callable[[apsw.Connection], T], running: threading.Lock) -> T:
        """In a thread of the pool."""
        try:
            connection = self._connection()
            self._local.deadline = time.monotonic() + self._deadline_seconds
            return read(connection)
        except apsw.Error as error:
            raise explain(error, self.path) from error
        finally:
            running.release()

    def _connection(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_reader(self.path)
            connection.set_progress_handler(self._too_late, _INSTRUCTIONS)
            self._local.connection = connection
            self._connections.append(connection)
        return connection

    def _too_late(self) -> bool:
        deadline: float = self._local.deadline
        return time.monotonic() > deadline


def _times(after: int | None, before: int | None) -> tuple[int, int]:
    return -1 if after is None else after, 2**63 - 1 if before is None else before


def _event(row: tuple[Any, ...]) -> EventRecord:
    *columns, internal, body = row
    return _make(EventRecord, *columns, bool(internal), body)


def _item(row: tuple[Any, ...]) -> ItemRecord:
    return _make(ItemRecord, *row[:-1], bool(row[-1]))


def _make(record: Callable[..., R], *columns: Any) -> R:
    return record(*columns)

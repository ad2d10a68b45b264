"""Listings of runs: which index is walked for which filter.

All walks are in the order of an index and end when the page is full, so that none costs more than what it
passes over. What the index does not hold is tried row by row. The index is chosen so that little is passed
over in vain:

- runs by creation: the id of a run begins with its time, so the table's own key is the order;
- of some functions: the index of each function, merged;
- that failed, were cancelled or skipped: an index of its own, since they are few among many that completed;
- that have not ended: the table of what is still to happen, which knows no others;
- by start or end: an index each.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import apsw
import msgspec

from perdure.core.model import RunStatus
from perdure.protocol.ids import new_ulid
from perdure.reading.port import ListedRun, RunFilter, RunPlace, RunRecord

MERGED_FUNCTIONS = 32
"""With more functions than this, all runs are walked and those of other functions passed over."""

LIVE = frozenset((RunStatus.QUEUED, RunStatus.RUNNING))
_BAD = frozenset((RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED))
_MAX_MS = 2**48 - 1

# ?1 what the walk is about, (?2, ?3) to (?4, ?5) the range of (time, id), ?6 and ?7 statuses and functions as text
# ('' for any; no status is part of another's name), ?8 the limit.
_PASSED = "(?6='' OR instr(?6,r.status)>0) AND (?7='' OR instr(?7,r.function_id)>0)"
_BY_ID = "r.id>=?3 AND r.id<?5"
_WALKS = {
    "all": f"runs r WHERE r.shard=?1 AND {_BY_ID} AND {_PASSED} ORDER BY r.id",
    "function": f"runs r INDEXED BY runs_by_function WHERE r.function_id=?1 AND {_BY_ID} AND {_PASSED} ORDER BY r.id",
    "bad": "runs r INDEXED BY runs_not_completed WHERE r.status=?1 AND r.status<>'COMPLETED'"
    f" AND r.ended_at IS NOT NULL AND {_BY_ID} AND {_PASSED} ORDER BY r.id",
    "one": f"runs r WHERE r.shard=?1 AND r.id=?3 AND {_PASSED} ORDER BY r.id",
    "started_at": "runs r INDEXED BY runs_by_start WHERE r.started_at IS NOT NULL AND (r.started_at,r.id)>=(?2,?3)"
    f" AND (r.started_at,r.id)<(?4,?5) AND {_PASSED} ORDER BY r.started_at {{order}}, r.id",
    "ended_at": "runs r INDEXED BY runs_by_end WHERE r.ended_at IS NOT NULL AND (r.ended_at,r.id)>=(?2,?3)"
    f" AND (r.ended_at,r.id)<(?4,?5) AND {_PASSED} ORDER BY r.ended_at {{order}}, r.id",
}
_COLUMNS = ",".join(f"r.{name}" for name in RunRecord.__struct_fields__)
_HEADS = _COLUMNS.replace("r.output", "NULL").replace("r.from_step", "NULL")
_LIVE_IDS = "SELECT DISTINCT run_id FROM items WHERE shard=?1 AND run_id>=?2 AND run_id<?3 ORDER BY run_id "
LIVE_IDS = {True: _LIVE_IDS + "ASC", False: _LIVE_IDS + "DESC"}
SHARDS = "SELECT shard FROM shards"
EVENT_BODY = "SELECT body FROM events WHERE shard=?1 AND receipt=?2"


def statement(walk: str, *, ascending: bool, payloads: bool) -> str:
    """A page of a walk."""
    order = "ASC" if ascending else "DESC"
    columns = _COLUMNS if payloads else _HEADS
    return f"SELECT r.shard,r.receipts,{columns} FROM {_WALKS[walk].format(order=order)} {order} LIMIT ?8"


def counting(walk: str) -> str:
    """The number of rows of a walk, up to a limit."""
    return f"SELECT count(*) FROM (SELECT 1 FROM {_WALKS[walk].format(order='DESC')} DESC LIMIT ?8)"


PAGES = tuple(
    statement(walk, ascending=ascending, payloads=payloads)
    for walk in _WALKS
    for ascending in (False, True)
    for payloads in (False, True)
)
STATEMENTS = (*PAGES, *map(counting, _WALKS), *LIVE_IDS.values(), EVENT_BODY)


class _Range(NamedTuple):
    """From and to (time, id); the first is in, the second is not."""

    low: tuple[int, str]
    high: tuple[int, str]


def list_runs(
    db: apsw.Connection, wanted: RunFilter, after: RunPlace | None, limit: int, payloads: bool
) -> list[ListedRun]:
    """A page of runs. See `perdure.reading.port.Reader.list_runs`."""
    walk, keys = _walk(db, wanted)
    places = _range(wanted, after)
    if walk == "one":
        pages = [_live(db, wanted, shard, places, limit, payloads) for shard in keys]
    else:
        text = statement(walk, ascending=wanted.ascending, payloads=payloads)
        pages = [
            [_listed(db, row, payloads) for row in db.execute(text, bindings)]
            for bindings in _bindings(wanted, keys, places, limit)
        ]
    if len(pages) == 1:
        return pages[0]

    def place(listed: ListedRun) -> tuple[int, str]:
        key = wanted.place(listed.run)
        return (0 if wanted.field == "created_at" else key.at, key.id)

    merged = heapq.merge(*pages, key=place, reverse=not wanted.ascending)
    return list(islice(merged, limit))


def _live(
    db: apsw.Connection, wanted: RunFilter, shard: int, places: _Range, limit: int, payloads: bool
) -> list[ListedRun]:
    """Runs of a shard that have something left to happen to them."""
    text = statement("one", ascending=wanted.ascending, payloads=payloads)
    ids = db.cursor().execute(LIVE_IDS[wanted.ascending], (shard, places.low[1], places.high[1]))
    found = (
        _listed(db, row, payloads)
        for (run_id,) in ids
        for row in db.execute(text, (shard, 0, run_id, 0, "", *_passed(wanted), 1))
    )
    return list(islice(found, limit))


def count_runs(db: apsw.Connection, wanted: RunFilter, most: int) -> int:
    """The number of runs, up to `most`."""
    walk, keys = _walk(db, wanted)
    places = _range(wanted, None)
    if walk == "one":
        return min(sum(len(_live(db, wanted, shard, places, most, False)) for shard in keys), most)
    total = 0
    for bindings in _bindings(wanted, keys, places, most):
        counted: list[Any] = db.execute(counting(walk), bindings).fetchall()
        total += int(counted[0][0])
    return min(total, most)


def _walk(db: apsw.Connection, wanted: RunFilter) -> tuple[str, list[Any]]:
    """Which walk serves a filter, and what it is about: one walk each."""
    if wanted.field != "created_at":
        return wanted.field, [None]
    statuses = frozenset(wanted.statuses)
    if statuses and statuses <= _BAD:
        return "bad", sorted(statuses)
    if not (statuses and statuses <= LIVE) and 0 < len(wanted.function_ids) <= MERGED_FUNCTIONS:
        return "function", sorted(set(wanted.function_ids))
    shards: list[Any] = db.execute(SHARDS).fetchall()
    return "one" if statuses and statuses <= LIVE else "all", [shard for (shard,) in shards]


def _range(wanted: RunFilter, after: RunPlace | None) -> _Range:
    if wanted.field == "created_at":
        low, high = (0, _first_id(wanted.since)), (0, _first_id(wanted.until))
        place = None if after is None else (0, after.id)
    else:
        low, high = (wanted.since, ""), (wanted.until, "")
        place = None if after is None else (after.at, after.id)
    if place is not None and wanted.ascending:
        low = max(low, (place[0], place[1] + " "))
    elif place is not None:
        high = min(high, place)
    return _Range(low, high)


def _first_id(at: int) -> str:
    """The lowest id of a run created at a time."""
    return new_ulid(min(max(at, 0), _MAX_MS), bytes(10))


def _bindings(wanted: RunFilter, keys: list[Any], places: _Range, limit: int) -> Iterator[tuple[Any, ...]]:
    for key in keys:
        yield (key, *places.low, *places.high, *_passed(wanted), limit)


def _passed(wanted: RunFilter) -> tuple[str, str]:
    return ",".join(wanted.statuses), ",".join(wanted.function_ids)


def _listed(db: apsw.Connection, row: tuple[Any, ...], payloads: bool) -> ListedRun:
    shard, receipts, *columns = row
    run = run_record(columns)
    if not payloads:
        return ListedRun(run)
    first = msgspec.json.decode(receipts, type=list[int])[:1]
    bodies = [body for receipt in first for (body,) in db.execute(EVENT_BODY, (shard, receipt))]
    return ListedRun(run, bodies[0] if bodies else None)


def run_record(row: list[Any] | tuple[Any, ...]) -> RunRecord:
    """A run from the columns of its record."""
    columns = [*row]
    columns[4] = msgspec.json.decode(columns[4], type=tuple[str, ...])
    return RunRecord(*columns)

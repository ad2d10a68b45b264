"""Reads timers, and the runs of schedules."""

from __future__ import annotations

import heapq
from itertools import islice

import apsw

from perdure.reading.timers import TimerRecord

LOOKED_AT = 1_000
_SHARDS = "shard IN (SELECT shard FROM shards)"
# Timers of rules stand in the same queues, under names that begin with `~`, which is above every run's id.
TIMERS = (
    "SELECT rank,run_id,function_id,kind,name FROM items INDEXED BY items_queued"
    f" WHERE {_SHARDS} AND function_id=?1 AND part='t' AND rank>=?2 AND rank<?3 AND in_flight=0 AND run_id<'~'"
    " ORDER BY rank,run_id,n LIMIT ?4"
)
OF_SCHEDULES = (
    "SELECT id FROM (SELECT id,cron FROM runs INDEXED BY runs_by_function WHERE function_id=?1"
    f" ORDER BY id DESC LIMIT {LOOKED_AT}) WHERE cron IS NOT NULL LIMIT ?2"
)
STATEMENTS = (TIMERS, OF_SCHEDULES)


def timers(
    db: apsw.Connection, function_ids: list[str], since: int, until: int, limit: int
) -> list[TimerRecord]:
    """See `perdure.reading.timers.TimerReader.timers`."""
    pages = [
        [TimerRecord(*row) for row in db.execute(TIMERS, (function_id, since, until, limit))]
        for function_id in function_ids
    ]
    return list(islice(heapq.merge(*pages, key=lambda timer: timer.due), limit))


def newest_of_schedules(db: apsw.Connection, function_id: str, limit: int) -> list[str]:
    """See `perdure.reading.timers.TimerReader.newest_of_schedules`."""
    return [run_id for (run_id,) in db.execute(OF_SCHEDULES, (function_id, limit))]

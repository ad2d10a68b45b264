"""Reads rollups."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from perdure.reading.rollups import RollupRecord, decode

MOST = 100_000
"""Rows of one answer: two hundred points of five hundred functions."""
_HERE = "shard IN (SELECT shard FROM shards)"
ALL = f"SELECT at,function_id,body FROM rollups WHERE {_HERE} AND span=?1 AND at>=?2 AND at<?3 ORDER BY at LIMIT {MOST}"
NEWEST = f"SELECT body FROM rollups WHERE {_HERE} AND span=0 AND at=0 AND function_id=''"

STATEMENTS = (ALL, NEWEST)


def rollups(
    db: apsw.Connection, span: int, since: int, until: int, function_ids: Sequence[str]
) -> list[RollupRecord]:
    """See `perdure.reading.rollups.RollupReader.rollups`."""
    wanted = frozenset(function_ids)
    found = []
    for at, function_id, body in db.execute(ALL, (span, since, until)):
        if not wanted or function_id in wanted:
            found.append(RollupRecord(span, at, function_id, decode(body)))
    return found


def newest(db: apsw.Connection) -> int:
    """See `perdure.reading.rollups.RollupReader.newest_rollup`."""
    return max((int(body) for (body,) in db.execute(NEWEST)), default=0)

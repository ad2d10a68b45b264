"""What explains why a run waits or what became of an event: each question one search by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import apsw

from perdure.reading.port import EventRecord, HistoryRecord

_HERE = "shard IN (SELECT shard FROM shards)"
_EVENT = ",".join(EventRecord.__struct_fields__)

NEWEST_HISTORY = (
    f"SELECT {','.join(HistoryRecord.__struct_fields__)} FROM history"
    f" WHERE {_HERE} AND run_id=?1 AND kind=?2 ORDER BY n DESC LIMIT ?3"
)
CALLS_AHEAD = (
    f"SELECT count(*) FROM (SELECT 1 FROM items WHERE {_HERE} AND function_id=?1 AND part=?2 AND in_flight=0"
    " AND (rank,run_id,n)<(?3,?4,?5) LIMIT ?6)"
)
# Only users' events are indexed by name: of the server's own the newest are looked through, in their order of arrival
# and without their bodies.
OWN_EVENTS = (
    f"SELECT {_EVENT} FROM events WHERE shard=?1 AND receipt IN (SELECT receipt FROM"
    " (SELECT receipt,name FROM events WHERE shard=?1 AND receipt>?2 ORDER BY receipt DESC LIMIT ?3)"
    " WHERE name=?4 LIMIT ?5) ORDER BY receipt DESC"
)
REMEMBERED = (
    f"SELECT value FROM keys WHERE {_HERE} AND kind=?1 AND owner=?2 AND key=?3"
    " AND (expires_at=0 OR expires_at>?4)"
)

STATEMENTS = (NEWEST_HISTORY, CALLS_AHEAD, OWN_EVENTS, REMEMBERED)

LOOKED_THROUGH = 10_000
"""So many of the newest events are looked through for those of the server's own."""

Key = tuple[str, str, str]


def remembered(db: apsw.Connection, keys: Sequence[Key], alive_at: int) -> dict[Key, bytes]:
    """See `perdure.reading.port.Reader.remembered`."""
    found: dict[Key, bytes] = {}
    for key in keys:
        for (value,) in _rows(db, REMEMBERED, (*key, alive_at)):
            found[key] = value
    return found


def own_events(
    db: apsw.Connection, shards: Sequence[int], name: str, after: int, limit: int
) -> Iterator[tuple[Any, ...]]:
    """Rows of the server's own events of a name with a receipt above `after`, newest first."""
    for shard in shards:
        yield from _rows(db, OWN_EVENTS, (shard, after, LOOKED_THROUGH, name, limit))


def _rows(db: apsw.Connection, statement: str, keys: tuple[Any, ...]) -> Iterator[Any]:
    yield from db.execute(statement, keys)

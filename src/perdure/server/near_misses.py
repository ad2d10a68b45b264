"""Near misses: events of the name that a run waits for, for which its expression was false, with what was compared.

They are computed when somebody asks, over the newest stored events since the wait began; the engine finds waits by
index, and never tries one to learn why it does not match. Only values that the expression compares are told.
"""

from __future__ import annotations

import asyncio

import msgspec

from perdure.core.expressions.comparing import Comparisons
from perdure.errors import ExpressionError
from perdure.reading.port import EventRecord, Reader
from perdure.shard.why import AwaitsEvent, NearMiss

LOOKED_AT = 1_000
"""So many of the newest events of the name are looked at."""
PAGE = 50
MAX_BYTES = 16 * 1024 * 1024
"""Or fewer, if their bodies come to so much."""
MAX_WAITS = 10
"""So many waits of one run are looked at."""
OWN = "inngest/"
"""The names of the server's own events begin with it."""


async def find_near_misses(reader: Reader, wait: AwaitsEvent, trigger: bytes, now: int, most: int) -> None:
    """Fill in the near misses of a wait, at most so many. `trigger` is the body of the run's first event."""
    events = await _newest(reader, wait.event, wait.after)
    wait.looked_at, wait.missed = len(events), 0
    if not events or wait.expression is None:
        return
    misses = await asyncio.to_thread(_misses, wait.expression, events, trigger, now, most)
    if misses is not None:
        wait.missed, wait.near_misses = misses


async def _newest(reader: Reader, name: str, after: int) -> list[EventRecord]:
    """The newest events of a name with a receipt above `after`, within the bounds."""
    if name.startswith(OWN):
        return await reader.own_events_since(name, after, limit=PAGE)
    found: list[EventRecord] = []
    before, size = None, 0
    while len(found) < LOOKED_AT and size < MAX_BYTES:
        page = await reader.list_events(name=name, before=before, limit=PAGE)
        fresh = [event for event in page if event.receipt > after]
        found += fresh
        size += sum(len(event.body) for event in page)
        if len(page) < PAGE or not fresh:
            break
        before = page[-1].internal_id
    return found


def _misses(
    text: str, events: list[EventRecord], trigger: bytes, now: int, most: int
) -> tuple[int, list[NearMiss]] | None:
    """How many events miss, and the first of them; None if the expression cannot be read."""
    try:
        comparisons = Comparisons(text)
    except ExpressionError:
        return None
    own = msgspec.json.decode(trigger or b"{}")
    count = 0
    told: list[NearMiss] = []
    for event in events:
        variables = {"event": own, "async": msgspec.json.decode(event.body)}
        error = None
        try:
            if comparisons.expression.is_true(variables, now):
                continue
        except ExpressionError as failed:
            error = failed.message
        count += 1
        if len(told) < most:
            compared = comparisons.of(variables, now)
            told.append(NearMiss(event.internal_id, event.received_at, compared, error))
    return count, told

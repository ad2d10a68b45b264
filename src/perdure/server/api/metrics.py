"""Charts: what happened over time, read from rollups only."""

from __future__ import annotations

import msgspec

from perdure.errors import RequestError
from perdure.reading.rollups import COUNTS, QUARTER, Histogram, Rollup, merged, span_for
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.naming import function_ids
from perdure.server.context import Server

DAY = 24 * 3_600_000
HOUR = 3_600_000
LONGEST = 400 * DAY
"""The longest time that one chart may show, in ms."""


class MetricsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Over which time (ms since the epoch; the last day if nothing is said), of which functions and apps."""

    since: int | None = None
    until: int | None = None
    function: tuple[str, ...] = ()
    app: tuple[str, ...] = ()


class Lengths(msgspec.Struct, frozen=True):
    """Lengths of time, in ms, point by point: half of them are not longer than `p50`, and so on. None where there
    are none."""

    p50: list[int | None]
    p95: list[int | None]
    p99: list[int | None]


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in steps of `step` ms. Every list has a value for each time in `at`.

    `waited` is from a run's creation to its start, `took` from there to its end, `answered` from a call's leaving to
    its answer. `depth` is the longest queue that was seen.
    """

    step: int
    at: list[int]
    queued: list[int]
    started: list[int]
    completed: list[int]
    failed: list[int]
    cancelled: list[int]
    skipped: list[int]
    calls: list[int]
    calls_failed: list[int]
    steps: list[int]
    depth: list[int]
    waited: Lengths
    took: Lengths
    answered: Lengths
    total: Total


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """The same over the whole time. Quantiles are in ms."""

    queued: int
    completed: int
    failed: int
    cancelled: int
    skipped: int
    steps: int
    waited_p50: int | None
    waited_p95: int | None
    took_p50: int | None
    took_p95: int | None
    took_p99: int | None
    answered_p50: int | None
    answered_p95: int | None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How a function has been doing in the last day: its runs hour by hour, and of those the failed ones."""

    function: str
    ended: list[int]
    failed: list[int]
    took_p50: int | None
    took_p95: int | None


class HealthList(msgspec.Struct, frozen=True):
    """The health of all functions to which something has happened in the last day."""

    at: list[int]
    functions: list[Health]


async def show_metrics(server: Server, asked: Asked[MetricsQuery, Nothing]) -> Metrics:
    """What happened over time: throughput, failures, queues, and how long things took."""
    query = asked.query
    until = server.shard.now() + 1 if query.until is None else query.until
    since = until - DAY if query.since is None else query.since
    if not 0 < until - since <= LONGEST:
        raise RequestError(
            400, f"since and until are {until - since} ms apart; it must be from 1 to {LONGEST}"
        )
    step = span_for(until - since)
    wanted = function_ids(server, query.function, query.app)
    first = since - since % step
    records = [] if wanted is None else await server.rollups.rollups(step, first, until, wanted)
    points: dict[int, Rollup] = {at: Rollup() for at in range(first, until, step)}
    for record in records:
        points[record.at].merge(record.rollup)
    total = merged(records)
    rollups = list(points.values())
    counts = {name: [getattr(one, name) for one in rollups] for name in (*COUNTS, "depth")}
    return Metrics(
        step=step,
        at=list(points),
        **counts,
        waited=_lengths([one.waited for one in rollups]),
        took=_lengths([one.took for one in rollups]),
        answered=_lengths([one.answered for one in rollups]),
        total=_total(total),
    )


def _lengths(histograms: list[Histogram]) -> Lengths:
    return Lengths(*([one.quantile(share) for one in histograms] for share in (0.5, 0.95, 0.99)))


def _total(rollup: Rollup) -> Total:
    return Total(
        queued=rollup.queued,
        completed=rollup.completed,
        failed=rollup.failed,
        cancelled=rollup.cancelled,
        skipped=rollup.skipped,
        steps=rollup.steps,
        waited_p50=rollup.waited.quantile(0.5),
        waited_p95=rollup.waited.quantile(0.95),
        took_p50=rollup.took.quantile(0.5),
        took_p95=rollup.took.quantile(0.95),
        took_p99=rollup.took.quantile(0.99),
        answered_p50=rollup.answered.quantile(0.5),
        answered_p95=rollup.answered.quantile(0.95),
    )


async def list_health(server: Server, _: Asked[Nothing, Nothing]) -> HealthList:
    """How each function has been doing in the last day."""
    now = server.shard.now()
    first = now - now % HOUR - DAY + HOUR
    hours = list(range(first, now + 1, HOUR))
    records = await server.rollups.rollups(QUARTER, first, now + 1)
    by_function: dict[str, list[Rollup]] = {}
    for record in records:
        rollups = by_function.setdefault(record.function_id, [Rollup() for _ in hours])
        rollups[(record.at - first) // HOUR].merge(record.rollup)
    functions = server.shard.state.functions.by_id
    return HealthList(
        hours,
        [_health(functions[one].slug, rollups) for one, rollups in by_function.items() if one in functions],
    )


def _health(slug: str, rollups: list[Rollup]) -> Health:
    took = Histogram()
    for rollup in rollups:
        took.merge(rollup.took)
    return Health(
        function=slug,
        ended=[one.completed + one.failed + one.cancelled for one in rollups],
        failed=[one.failed for one in rollups],
        took_p50=took.quantile(0.5),
        took_p95=took.quantile(0.95),
    )


ENDPOINTS = [
    Endpoint("GET", "/api/metrics", show_metrics, Metrics, query=MetricsQuery),
    Endpoint("GET", "/api/health", list_health, HealthList),
]

"""The limits of a function: what is in force, what its code says, and how much of them is taken now."""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.core.functions import Function
from perdure.protocol.function_rules import load_function
from perdure.protocol.functions import (
    Batch,
    Cancel,
    ConcurrencyLimit,
    Debounce,
    FunctionConfig,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
)
from perdure.reading.port import MAX_COUNT, RunFilter
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.context import Server
from perdure.server.operating import served_function

LOOKED_AT = 20_000
"""Counters that are looked at to say how much of a limit with a key is taken."""
BUSIEST = 5


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All rules of a function, with durations in ms.

    `concurrency` is of steps, `run_concurrency` of runs; `retries` are those after the first try.
    """

    concurrency: tuple[ConcurrencyLimit, ...]
    run_concurrency: ConcurrencyLimit | None
    throttle: Throttle | None
    rate_limit: RateLimit | None
    debounce: Debounce | None
    batch: Batch | None
    priority: str | None
    singleton: Singleton | None
    cancel: tuple[Cancel, ...]
    timeouts: Timeouts
    idempotency: str | None
    retries: int


class KeyUse(msgspec.Struct, frozen=True):
    """Places taken for one value of a key; `value` is empty if it is not known any more."""

    value: str
    taken: int


class LimitUse(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a concurrency limit is taken: in all, and for the values of its key that have most (`busiest`).

    `keys` is for how many values there are any; it is not `whole` if there are too many to look at all.
    """

    of: Literal["steps", "runs"]
    limit: int
    scope: str
    key: str | None
    taken: int
    keys: int
    busiest: list[KeyUse]
    whole: bool


class FunctionNow(msgspec.Struct, frozen=True):
    """What a function is busy with: runs that have not begun, runs under way (both counted up to `most`), and the
    places taken of its limits."""

    queued: int
    running: int
    most: int
    uses: list[LimitUse]


def limits_in_force(function: Function) -> Limits:
    """The limits that a function is run by."""
    return _limits(function.config, function.attempts - 1)


def limits_of_code(server: Server, function: Function) -> Limits:
    """The limits that the function's code has, whatever a person has set."""
    row = server.shard.state.function_rows[function.id]
    config = load_function(row.config)
    code = Function(function.id, function.app_id, config, server.shard.state.settings)
    return _limits(config, code.attempts - 1)


def _limits(config: FunctionConfig, retries: int) -> Limits:
    return Limits(
        concurrency=config.concurrency,
        run_concurrency=config.run_concurrency,
        throttle=config.throttle,
        rate_limit=config.rate_limit if config.idempotency is None else None,
        debounce=config.debounce,
        batch=config.batch,
        priority=config.priority,
        singleton=config.singleton,
        cancel=config.cancel,
        timeouts=config.timeouts,
        idempotency=config.idempotency,
        retries=retries,
    )


async def show_function_now(server: Server, asked: Asked[Nothing, Nothing]) -> FunctionNow:
    """What a function is busy with now, and how much of its limits is taken."""
    function = served_function(server, asked.path["slug"])
    counts = [
        await server.reader.count_runs(RunFilter(statuses=(status,), function_ids=(function.id,)))
        for status in ("QUEUED", "RUNNING")
    ]
    uses = [_use(server, function, name) for name in function.rules.concurrency.limits]
    return FunctionNow(counts[0], counts[1], MAX_COUNT, uses)


def _use(server: Server, function: Function, name: str) -> LimitUse:
    rules = function.rules.concurrency
    counters = server.shard.state.lines.turns.room.counters
    taken, whole = rules.taken(name, counters, LOOKED_AT)
    configured = rules.configured[name]
    busiest = sorted(taken, key=lambda use: -use[1])[:BUSIEST]
    return LimitUse(
        of="steps" if "/step/" in name else "runs",
        limit=rules.limits[name],
        scope=configured.scope,
        key=configured.key,
        taken=sum(count for _, count in taken),
        keys=len(taken),
        busiest=[] if configured.key is None else [KeyUse(*use) for use in busiest],
        whole=whole,
    )


ENDPOINTS = [Endpoint("GET", "/api/functions/{slug:path}/now", show_function_now, FunctionNow)]

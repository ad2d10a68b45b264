"""What schedules and sleeping runs will do, and how the last runs of schedules went."""

from __future__ import annotations

import msgspec

from perdure.core.cron import next_fire
from perdure.core.functions import Function
from perdure.errors import RequestError
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.runs import Run, shown_run
from perdure.server.context import Server

DAY = 86_400_000
LONGEST = 31 * DAY
MAX_FIRES = 400
"""Times of one schedule that are told; `more` says that there are others."""
MAX_TIMERS = 500
LAST_RUNS = 5


class SchedulesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Until when (ms since the epoch; a week from now if nothing is said)."""

    until: int | None = None


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule of a function: when it fires next, and its last runs, newest first."""

    function: str
    function_name: str
    app: str
    cron: str
    paused: bool
    next: list[int]
    more: bool
    last: list[Run]


class Timer(msgspec.Struct, frozen=True):
    """Something that will happen to a run: the end of a sleep or a wait, a call that is put off."""

    at: int
    run_id: str
    function: str
    function_name: str
    kind: str
    name: str


class Schedules(msgspec.Struct, frozen=True):
    """What will happen from `now` until a time. `more` says that there are more timers than are told."""

    now: int
    until: int
    schedules: list[Schedule]
    timers: list[Timer]
    more: bool


async def list_schedules(server: Server, asked: Asked[SchedulesQuery, Nothing]) -> Schedules:
    """What schedules and sleeping runs will do next."""
    now = server.shard.now()
    until = now + 7 * DAY if asked.query.until is None else asked.query.until
    if not now < until <= now + LONGEST:
        raise RequestError(400, f"until must be in the next {LONGEST // DAY} days")
    state = server.shard.state
    live = sorted(
        (one for one in state.functions.by_id.values() if not one.archived), key=lambda one: one.slug
    )
    schedules = [
        await _schedule(server, function, trigger.cron, now, until)
        for function in live
        for trigger in function.config.triggers
        if trigger.cron
    ]
    timers = await server.timers.timers([one.id for one in live], now, until, MAX_TIMERS + 1)
    shown = [
        Timer(
            one.due,
            one.run_id,
            state.functions.by_id[one.function_id].slug,
            state.function_rows[one.function_id].name,
            one.kind,
            one.name,
        )
        for one in timers[:MAX_TIMERS]
    ]
    return Schedules(now, until, schedules, shown, len(timers) > MAX_TIMERS)


async def _schedule(server: Server, function: Function, cron: str, now: int, until: int) -> Schedule:
    state = server.shard.state
    row = state.function_rows[function.id]
    app = state.apps.get(function.app_id)
    fires, more = _fires(cron, now, until)
    ids = await server.timers.newest_of_schedules(function.id, 20)
    runs = [run for run in [await server.reader.run(run_id) for run_id in ids] if run and run.cron == cron]
    return Schedule(
        function=function.slug,
        function_name=row.name,
        app="" if app is None else app.name,
        cron=cron,
        paused=bool(row.paused),
        next=fires,
        more=more,
        last=[shown_run(server, run) for run in runs[:LAST_RUNS]],
    )


def _fires(cron: str, now: int, until: int) -> tuple[list[int], bool]:
    """When a schedule fires, and whether there are more times than are told."""
    fires: list[int] = []
    at = next_fire(cron, now)
    while at is not None and at < until:
        if len(fires) == MAX_FIRES:
            return fires, True
        fires.append(at)
        at = next_fire(cron, at)
    return fires, False


ENDPOINTS = [Endpoint("GET", "/api/schedules", list_schedules, Schedules, query=SchedulesQuery)]

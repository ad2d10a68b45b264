"""`/dev/clock`: where the clock of the server stands, and travel in time. Only `perdure dev` without keys moves it."""

from __future__ import annotations

import logging
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.errors import RequestError
from perdure.protocol.durations import format_duration, format_time, parse_duration
from perdure.server.context import Server
from perdure.server.json import JsonResponse
from perdure.server.routing import read_request
from perdure.shard.commands import MoveClock
from perdure.shard.travel import Timer, Travel

log = logging.getLogger("perdure.server")


class ShownTimer(msgspec.Struct):
    """A `Timer` as it is shown: with the function's slug, and null for what there is not."""

    due_at: str
    kind: str
    function: str | None
    run_id: str | None
    step: str | None


class ShownClock(msgspec.Struct):
    """Where the clock stands, and what a move has brought about."""

    now: str
    ahead_ms: int
    ahead: str
    next: ShownTimer | None
    moved_ms: int | msgspec.UnsetType = msgspec.UNSET
    happened: list[ShownTimer] | msgspec.UnsetType = msgspec.UNSET
    more_happened: bool | msgspec.UnsetType = msgspec.UNSET


class _Move(msgspec.Struct, forbid_unknown_fields=True):
    by: str | None = None
    to: Literal["next"] | None = None


def clock_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    async def handle(request: Request) -> Response:
        if request.method == "POST":
            return await _move(server, request)
        return JsonResponse(_shown(server, await _ask(server, MoveClock())))

    return [Route("/dev/clock", handle, methods=["GET", "POST"])]


def shown_ahead(server: Server) -> dict[str, object]:
    """The clock as `/dev` shows it."""
    ahead = server.shard.state.ahead
    return {"now": format_time(server.shard.now()), "ahead_ms": ahead, "ahead": format_duration(ahead)}


async def _move(server: Server, request: Request) -> Response:
    """Move the clock by a duration, or to the next time at which something is due."""
    if server.config.mode != "dev" or server.config.kind != "dev":
        message = (
            "The clock can be moved by 'perdure dev' without keys only: with keys there may be somebody who counts "
            "on the time."
        )
        raise RequestError(403, message, "clock_fixed")
    wanted: _Move = await read_request(server, request, _Move)
    if (wanted.by is None) == (wanted.to is None):
        raise RequestError(400, 'give either by, a duration like {"by": "30d"}, or {"to": "next"}')
    travel = await _ask(server, MoveClock(by_ms=_duration(wanted.by), to_next=wanted.to is not None))
    shown = _shown(server, await _ask(server, MoveClock()))
    shown.moved_ms = travel.now - travel.before
    log.info("the clock was moved by %s, to %s", format_duration(shown.moved_ms), shown.now)
    shown.happened = [_shown_timer(server, timer) for timer in travel.passed]
    shown.more_happened = travel.more
    return JsonResponse(shown)


def _duration(text: str | None) -> int:
    try:
        return 0 if text is None else parse_duration(text)
    except ValueError as error:
        raise RequestError(400, f"by is wrong: {error}") from None


async def _ask(server: Server, command: MoveClock) -> Travel:
    travel = await server.submit(command)
    assert isinstance(travel, Travel)
    return travel


def _shown(server: Server, travel: Travel) -> ShownClock:
    following = None if travel.next is None else _shown_timer(server, travel.next)
    return ShownClock(format_time(travel.now), travel.ahead, format_duration(travel.ahead), following)


def _shown_timer(server: Server, timer: Timer) -> ShownTimer:
    function = server.shard.state.functions.by_id.get(timer.function_id)
    slug = None if function is None else function.slug
    return ShownTimer(format_time(timer.due), timer.kind, slug, timer.run_id or None, timer.name or None)

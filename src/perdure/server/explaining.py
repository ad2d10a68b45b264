"""Why a run waits: `GET /v1/runs/{id}/why`.

The shard answers by what is in memory, consistent with its decisions. What it leaves open is found in the store here: a
place far down a line, what the holders of places do, the error of the last attempt, the run of an invoked function (of
which it is told in turn why that one waits), events that nearly ended a wait, and how a run has ended.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.model import RunStatus
from perdure.errors import RequestError, StoreUnavailable
from perdure.protocol.durations import format_time
from perdure.protocol.ids import is_ulid
from perdure.reading.port import HistoryRecord
from perdure.server.context import Server
from perdure.server.near_misses import LOOKED_AT, MAX_WAITS, find_near_misses
from perdure.server.rest import wrapped
from perdure.shard.commands import ExplainRun
from perdure.shard.sentences import tell
from perdure.shard.why import AtGate, AwaitsEvent, AwaitsRun, Doing, InLine, PutOff, Queued, Why

NEAR_MISSES = 20
"""Near misses that are told if nobody says how many."""
_TIMES = frozenset(
    (
        "since",
        "until",
        "free_at",
        "next_at",
        "queued_at",
        "started_at",
        "ended_at",
        "at",
        "received_at",
        "synced_at",
    )
)
_INSIDE = frozenset(("trigger", "after"))
"""Fields that are of use in here only."""


def explaining_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    async def why(request: Request) -> Response:
        return await why_run(server, request)

    return [Route("/v1/runs/{run_id}/why", why, methods=["GET"])]


async def why_run(server: Server, request: Request) -> Response:
    """Why a run waits, or how it has ended. `near_misses` is how many of them are told for each wait (0 to 1,000)."""
    run_id: str = request.path_params["run_id"]
    if not is_ulid(run_id):
        raise RequestError(400, f"Invalid run ID: {run_id[:100]}")
    near = _number(request.query_params.get("near_misses"))
    why = await explained(server, run_id, near)
    if why is None:
        raise RequestError(404, f"Unable to load function run: {run_id}")
    return wrapped(server, shown(why))


def _number(text: str | None) -> int:
    if text is None:
        return NEAR_MISSES
    if not text.isascii() or not text.isdecimal() or len(text) > 4 or int(text) > LOOKED_AT:
        raise RequestError(400, f"near_misses is {text[:40]!r}; it must be a number from 0 to {LOOKED_AT}")
    return int(text)


async def explained(server: Server, run_id: str, near_misses: int, follow: bool = True) -> Why | None:
    """Why a run waits, with what only the store knows; None if there is no such run.

    With `follow`, also why a run waits that it waits for, and what those do that hold places.
    """
    why = cast("Why | None", await server.submit(ExplainRun(run=run_id)))
    if why is None:
        return None
    if why.ended_at is not None:
        await _how_it_ended(server, why)
    looked = 0
    for cause in why.causes:
        if isinstance(cause, InLine | AtGate) and cause.queued.ahead is None:
            await _count(server, cause.queued)
        if isinstance(cause, InLine) and follow:
            for limit in cause.limits:
                for holder in limit.holders:
                    await _holder(server, holder)
        elif isinstance(cause, PutOff):
            cause.error = await _last_error(server, run_id, cause.n)
        elif isinstance(cause, AwaitsEvent) and near_misses and looked < MAX_WAITS:
            looked += 1
            with suppress(StoreUnavailable):  # the rest of the answer holds without them
                await find_near_misses(server.reader, cause, why.trigger, server.shard.now(), near_misses)
        elif isinstance(cause, AwaitsRun):
            await _invoked(server, run_id, cause, follow)
            inner = None if cause.why is None else cause.why.next_at
            if inner is not None and (why.next_at is None or inner < why.next_at):
                why.next_at = inner
    return tell(why)


class _Ended(msgspec.Struct):
    reason: str = ""
    holder: str = ""


async def _how_it_ended(server: Server, why: Why) -> None:
    for entry in await server.reader.newest_history(why.run_id, "ended", limit=1):
        ended = msgspec.json.decode(entry.body, type=_Ended)
        why.reason, why.holder = ended.reason or None, ended.holder or None
    run = await server.reader.run(why.run_id) if why.status == RunStatus.FAILED else None
    if run is not None and run.output:
        why.error = error_text(msgspec.Raw(run.output))


async def _count(server: Server, queued: Queued) -> None:
    ref = queued.ref
    with suppress(StoreUnavailable):
        queued.ahead = await server.reader.calls_ahead(
            queued.function_id, queued.part, ref.rank, ref.run_id, ref.n
        )


async def _holder(server: Server, holder: Doing) -> None:
    """What a run does that holds a place and is not in memory."""
    if holder.doing is None:
        why = await explained(server, holder.run_id, 0, follow=False)
        if why is not None:
            holder.since = why.started_at if why.started_at is not None else why.queued_at
            holder.doing = why.text


class _Attempt(msgspec.Struct):
    item: int = 0
    run: str = ""
    error: msgspec.Raw = msgspec.Raw()


async def _last_error(server: Server, run_id: str, n: int) -> str | None:
    """The error of the last attempt of an item: history is the only place where it stands."""
    for kind in ("call", "request"):
        for entry in await server.reader.newest_history(run_id, kind):
            attempt = msgspec.json.decode(entry.body, type=_Attempt)
            if attempt.item == n and bytes(attempt.error):
                return error_text(attempt.error)
    return None


def error_text(raw: msgspec.Raw) -> str:
    """Name and message of an error, as an app or the server wrote it: alone, or under `error`."""
    try:
        found = msgspec.json.decode(raw)
    except msgspec.MsgspecError:
        return bytes(raw).decode("utf-8", "replace")
    inner = found.get("error") if isinstance(found, dict) else None
    error = inner if isinstance(inner, dict) else found
    if not isinstance(error, dict):
        return error if isinstance(error, str) else bytes(raw).decode("utf-8", "replace")
    name, message = (str(error.get(field) or "") for field in ("name", "message"))
    message = message or str(error.get("error") or "")
    named = name not in ("", "Error") and not message.startswith(f"{name}:")
    return f"{name}: {message}" if named and message else message or name or "Error"


async def _invoked(server: Server, run_id: str, cause: AwaitsRun, follow: bool) -> None:
    entries: list[HistoryRecord] = await server.reader.newest_history(run_id, "invoked", limit=1_000)
    for entry in entries:
        invoked = msgspec.json.decode(entry.body, type=_Attempt)
        if invoked.item == cause.n:
            cause.run_id = invoked.run
            if follow:
                cause.why = await explained(server, invoked.run, 0, follow=False)
            return


# As JSON


def shown(why: Why) -> dict[str, Any]:
    """The answer, with times as text."""
    fields: dict[str, Any] = msgspec.to_builtins(why)
    return cast("dict[str, Any]", _readable(fields))


def _readable(value: Any) -> Any:
    if isinstance(value, list):
        return [_readable(each) for each in value]
    if not isinstance(value, dict):
        return value
    fields: dict[str, Any] = {}
    for name, field in value.items():
        if name in _INSIDE:
            continue
        if name == "compared":
            fields[name] = field
        elif name == "queued":
            fields["place"] = None if field["ahead"] is None else field["ahead"] + 1
        elif name in _TIMES and type(field) is int:
            fields[name] = format_time(field)
        else:
            fields[name] = _readable(field)
    return fields

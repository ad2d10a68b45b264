"""Runs: the list, and what a person does with one or several of them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from typing import Literal

import msgspec

from perdure.core.expressions import Expression, compile_expression
from perdure.core.model import RunStatus
from perdure.errors import ExpressionError, RequestError
from perdure.protocol.ids import is_ulid
from perdure.reading.port import ListedRun, RunFilter, RunPlace, RunRecord
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.naming import function_ids
from perdure.server.context import Server
from perdure.server.rerunning import WantedStep, rerun_run
from perdure.server.searching import MAX_ROWS, MAX_SECONDS, SLICE, decoded, holds
from perdure.shard.commands import CancelRun

Status = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]
PAGE = 50
MAX_PAGE = 200
MAX_AT_ONCE = 200
"""Runs that one request may cancel or run again."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as lists show it. `function` is the slug; times are ms since the epoch."""

    id: str
    status: Status
    function: str
    function_name: str
    app: str
    trigger: Literal["event", "batch", "cron", "invoke"]
    event_name: str
    event_ids: tuple[str, ...]
    queued_at: int
    started_at: int | None
    ended_at: int | None
    cron: str | None = None
    original_run_id: str | None = None


class RunsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs: of any of these statuses, functions (slugs) and apps (names), by one of their times."""

    status: tuple[Status, ...] = ()
    function: tuple[str, ...] = ()
    app: tuple[str, ...] = ()
    time: Literal["queued_at", "started_at", "ended_at"] = "queued_at"
    since: int = 0
    until: int = 2**47
    ascending: bool = False
    cursor: str = ""
    limit: int = PAGE


class Runs(msgspec.Struct, frozen=True):
    """A page of runs. `cursor` goes on behind it, None at the end."""

    runs: list[Run]
    cursor: str | None


class SearchQuery(RunsQuery, frozen=True, kw_only=True):
    """The runs of a list for which an expression over `event` and `output` is true."""

    query: str


class Found(msgspec.Struct, frozen=True):
    """Runs that were found among `tried`. `cursor` goes on with the search, None when all have been tried; `reached`
    is the time of the last run that was."""

    runs: list[Run]
    cursor: str | None
    tried: int
    reached: int | None


class RunIds(msgspec.Struct, frozen=True):
    """Runs by their ids."""

    run_ids: tuple[str, ...]


class Outcome(msgspec.Struct, frozen=True):
    """What came of it for one run: the run that there is now, or why it could not be done."""

    run_id: str
    new_run_id: str | None = None
    problem: str | None = None


class Outcomes(msgspec.Struct, frozen=True):
    """What came of it, run by run."""

    outcomes: list[Outcome]


class RerunBody(msgspec.Struct, frozen=True, kw_only=True):
    """From which step on (its id or name; from the start if none), and with which arguments for that step."""

    from_step: str | None = None
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RunRef(msgspec.Struct, frozen=True):
    """A run."""

    run_id: str


def shown_run(server: Server, run: RunRecord) -> Run:
    """A run as lists show it."""
    state = server.shard.state
    function = state.functions.by_id.get(run.function_id)
    row = state.function_rows.get(run.function_id)
    app = None if function is None else state.apps.get(function.app_id)
    return Run(
        id=run.id,
        status=run.status,  # type: ignore[arg-type]
        function=run.function_id if function is None else function.slug,
        function_name=run.function_id if row is None else row.name,
        app="" if app is None else app.name,
        trigger=_trigger(run),
        event_name=run.event_name,
        event_ids=run.event_ids,
        queued_at=run.created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        cron=run.cron,
        original_run_id=run.original_run_id,
    )


def _trigger(run: RunRecord) -> Literal["event", "batch", "cron", "invoke"]:
    if run.cron is not None:
        return "cron"
    if run.batch_id is not None:
        return "batch"
    return "invoke" if run.event_name == "inngest/function.invoked" else "event"


async def list_runs(server: Server, asked: Asked[RunsQuery, Nothing]) -> Runs:
    """Runs, newest first unless asked otherwise."""
    query = asked.query
    if not 1 <= query.limit <= MAX_PAGE:
        raise RequestError(400, f"limit is {query.limit}; it must be from 1 to {MAX_PAGE}")
    wanted = _wanted(server, query)
    if wanted is None:
        return Runs([], None)
    after = read_cursor(query.cursor)
    listed = await server.reader.list_runs(wanted, after=after, limit=query.limit + 1)
    runs = [one.run for one in listed[: query.limit]]
    more = len(listed) > query.limit
    return Runs([shown_run(server, run) for run in runs], cursor_of(wanted.place(runs[-1])) if more else None)


def cursor_of(place: RunPlace) -> str:
    """A place in a list as text that says nothing to anybody else."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def read_cursor(text: str) -> RunPlace | None:
    """The place that a cursor names. Raises `RequestError` 400 if this server did not make it."""
    if not text:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text), type=RunPlace)
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        raise RequestError(
            400, "cursor is not one of this list; leave it out to begin at the start"
        ) from None


def checked(run_id: str) -> str:
    """A run's id. Raises `RequestError` 404 if it cannot be one."""
    if not is_ulid(run_id):
        raise RequestError(404, f"there is no run {run_id[:60]!r}: the id of a run has 26 letters and digits")
    return run_id.upper()


def no_run(run_id: str) -> RequestError:
    """There is no such run."""
    return RequestError(
        404, f"there is no run {run_id}; it may have been on another server, or in older data"
    )


def _wanted(server: Server, query: RunsQuery) -> RunFilter | None:
    """What a query asks the store for; None if it names functions or apps, and there is none of them."""
    functions = function_ids(server, query.function, query.app)
    if functions is None:
        return None
    return RunFilter(
        field={"queued_at": "created_at"}.get(query.time, query.time),  # type: ignore[arg-type]
        since=query.since,
        until=query.until,
        statuses=query.status,
        function_ids=functions,
        ascending=query.ascending,
    )


async def search_runs(server: Server, asked: Asked[SearchQuery, Nothing]) -> Found:
    """Look through runs for a second at most; whoever wants more goes on with the cursor."""
    query = asked.query
    try:
        expression = compile_expression(query.query)
    except ExpressionError as error:
        raise RequestError(
            400, f"this is no CEL expression over `event` and `output`: {error.message}", "bad_expression"
        ) from None
    wanted = _wanted(server, query)
    if wanted is None:
        return Found([], None, 0, None)
    place, tried, found = read_cursor(query.cursor), 0, list[RunRecord]()
    until = time.monotonic() + MAX_SECONDS
    more = True
    while more and tried < MAX_ROWS and len(found) < query.limit and time.monotonic() < until:
        rows = await server.reader.list_runs(wanted, after=place, limit=SLICE, payloads=True)
        # Beside the loop: an expression over large events takes its time.
        found += await asyncio.to_thread(_matching, expression, rows, server.shard.now())
        tried += len(rows)
        more = len(rows) == SLICE
        place = wanted.place(rows[-1].run) if rows else place
    runs = [shown_run(server, run) for run in found]
    return Found(
        runs, cursor_of(place) if more and place else None, tried, None if place is None else place.at
    )


def _matching(expression: Expression, rows: list[ListedRun], now: int) -> list[RunRecord]:
    return [
        row.run
        for row in rows
        if holds(expression, {"event": decoded(row.event), "output": decoded(row.run.output)}, now)
    ]


async def cancel_runs(server: Server, asked: Asked[Nothing, RunIds]) -> Outcomes:
    """Cancel runs. One that has ended stays as it is."""
    ids = _bounded(asked.body)
    pending = [server.submit(CancelRun(run=run_id)) for run_id in ids]
    return Outcomes([_cancelled(run_id, await one) for run_id, one in zip(ids, pending, strict=True)])


def _cancelled(run_id: str, before: object) -> Outcome:
    if before is None:
        return Outcome(run_id, problem=no_run(run_id).message)
    if before not in (RunStatus.QUEUED, RunStatus.RUNNING):
        return Outcome(run_id, problem=f"it had ended already: {str(before).lower()}")
    return Outcome(run_id, run_id)


async def rerun_runs(server: Server, asked: Asked[Nothing, RunIds]) -> Outcomes:
    """Run runs again, each from its start."""
    outcomes = []
    for run_id in _bounded(asked.body):
        try:
            new = await rerun_run(server, run_id)
        except RequestError as error:
            outcomes.append(Outcome(run_id, problem=error.message))
            continue
        problem = no_run(run_id).message if new is None else None
        outcomes.append(Outcome(run_id, new, problem))
    return Outcomes(outcomes)


def _bounded(body: RunIds) -> list[str]:
    if len(body.run_ids) > MAX_AT_ONCE:
        raise RequestError(
            400,
            f"{len(body.run_ids)} runs at once are too many (at most {MAX_AT_ONCE}): use a replay or bulk cancel",
        )
    return [checked(run_id) for run_id in dict.fromkeys(body.run_ids)]


async def rerun_one(server: Server, asked: Asked[Nothing, RerunBody]) -> RunRef:
    """Run a run again, from its start or from a step, perhaps with other arguments for that step."""
    run_id = checked(asked.path["run_id"])
    body = asked.body
    wanted = None
    if body.from_step is not None:
        wanted = WantedStep(body.from_step, None if body.input is msgspec.UNSET else bytes(body.input))
    new = await rerun_run(server, run_id, wanted)
    if new is None:
        raise no_run(run_id)
    return RunRef(new)


ENDPOINTS = [
    Endpoint("GET", "/api/runs", list_runs, Runs, query=RunsQuery),
    Endpoint("GET", "/api/runs/search", search_runs, Found, query=SearchQuery),
    Endpoint("POST", "/api/runs/cancel", cancel_runs, Outcomes, body=RunIds),
    Endpoint("POST", "/api/runs/rerun", rerun_runs, Outcomes, body=RunIds),
    Endpoint("POST", "/api/runs/{run_id}/rerun", rerun_one, RunRef, body=RerunBody),
]

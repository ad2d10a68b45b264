"""What a person does with many runs of a function: cancel them, or run them again.

`/v1/cancellations` is the protocol's; what it answers has fields about the progress besides. `/v1/replays` is Perdure's
own and looks the same. Both start a job, which `server.jobs` drives, and answer at once.

Fields that are not known are refused: a misspelt `if` must not cancel everything.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.expressions import compile_expression
from perdure.core.model import RunStatus
from perdure.errors import ExpressionError, RequestError
from perdure.protocol.durations import format_time, parse_time
from perdure.protocol.faults import explain
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID, is_ulid, new_ulid
from perdure.server.context import Server
from perdure.server.jobs import count_runs
from perdure.server.rest import wrapped
from perdure.server.routing import read_request, route_of
from perdure.shard.commands import StartJob, StopJob
from perdure.shard.job import Job, JobKind, JobState
from perdure.shard.rows import FunctionRow

LIVE = (RunStatus.QUEUED, RunStatus.RUNNING)
ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)
AHEAD_MS = 5_000
"""How far `started_before` may lie in the future, since clocks differ (the reference server's number)."""
MAX_RUNNING = 100
"""Most jobs that go on at once; each takes some milliseconds of the server for every page."""

_KINDS = {JobKind.CANCEL: "bulk_run", JobKind.REPLAY: "replay"}
"""The word for what a job does; the first is the reference server's."""


def bulk_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    route = partial(route_of, server)
    return [
        route("/v1/cancellations", GET=list_jobs, POST=start_cancellation),
        route("/v1/cancellations/{job_id}", GET=show_job, DELETE=stop_cancellation),
        route("/v1/replays", GET=list_jobs, POST=start_replay),
        route("/v1/replays/{job_id}", GET=show_job, DELETE=stop_replay),
    ]


# Starting


class _Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What both kinds of jobs are asked with. `dry_run` only counts the runs."""

    function_id: str = ""
    app_id: str = ""
    started_after: str | None = None
    started_before: str | None = None
    condition: str | None = msgspec.field(default=None, name="if")
    name: str | None = None
    dry_run: bool = False


class _ReplayRequest(_Request, forbid_unknown_fields=True, kw_only=True):
    statuses: list[str] = []


async def start_cancellation(server: Server, request: Request) -> Response:
    """Cancel the runs of a function that have not ended and were queued in a span of time."""
    wanted = await read_request(server, request, _Request)
    if not wanted.started_before:
        raise RequestError(400, "started_before is required")
    # Runs that are queued in this very millisecond are to be cancelled too.
    job = _job_of(server, JobKind.CANCEL, wanted, LIVE, server.shard.now() + 1)
    return await _start(server, job, wanted.dry_run)


async def start_replay(server: Server, request: Request) -> Response:
    """Run the runs of a function again that have ended, by time and status (`statuses`; failed ones if not given)."""
    wanted = await read_request(server, request, _ReplayRequest)
    statuses = tuple(dict.fromkeys(status.upper() for status in wanted.statuses)) or (RunStatus.FAILED,)
    for status in statuses:
        if status not in ENDED:
            raise RequestError(400, f"statuses has {status[:40]!r}; it can have {', '.join(ENDED)}")
    # What the replay starts is queued now or later, and so no part of it.
    job = _job_of(server, JobKind.REPLAY, wanted, statuses, server.shard.now())
    return await _start(server, job, wanted.dry_run)


def _job_of(server: Server, kind: JobKind, wanted: _Request, statuses: tuple[str, ...], newest: int) -> Job:
    """The job that is asked for. Raises `RequestError`."""
    if not wanted.function_id:
        raise RequestError(400, "function_id is required")
    since = _time("started_after", wanted.started_after) if wanted.started_after else 0
    until = _time("started_before", wanted.started_before) if wanted.started_before else newest
    now = server.shard.now()
    if until > now + AHEAD_MS:
        raise RequestError(400, "started_before must be in the past")
    if until <= since:
        raise RequestError(400, "started_after must be before started_before")
    if wanted.condition:
        check_condition(wanted.condition)
    span = (since, min(until, newest))
    function = _function_of(server, wanted, kind)
    return new_job(server, kind, function, span, statuses, wanted.condition or None, wanted.name)


def new_job(
    server: Server,
    kind: JobKind,
    function: FunctionRow,
    span: tuple[int, int],
    statuses: tuple[str, ...],
    condition: str | None,
    name: str | None = None,
) -> Job:
    """A job over the runs of a function that were queued in a span of time (ms; the end is not in it)."""
    return Job(
        id=new_ulid(server.clock.now(), server.entropy(10)),
        kind=kind,
        function_id=function.id,
        slug=function.slug,
        app_id=function.app_id,
        since=span[0],
        until=span[1],
        statuses=tuple(str(status) for status in statuses),
        created_at=server.shard.now(),
        condition=condition,
        name=name,
    )


async def start_job(server: Server, job: Job) -> Job:
    """Start a job. Raises `RequestError` 429 if too many are under way."""
    running = [known for known in server.shard.state.jobs.values() if known.state is JobState.RUNNING]
    if len(running) >= MAX_RUNNING:
        raise RequestError(429, f"{MAX_RUNNING} such jobs are under way; wait for one, or stop one")
    started = cast("Job", await server.submit(StartJob(job=job)))
    server.drive_jobs()
    return started


async def _start(server: Server, job: Job, dry_run: bool) -> Response:
    if dry_run:
        count = await count_runs(server.reader, job, server.shard.now())
        return wrapped(server, {"matching": count.matching, "whole": count.whole})
    return wrapped(server, shown_job(await start_job(server, job)))


def _function_of(server: Server, wanted: _Request, kind: JobKind) -> FunctionRow:
    """The function by its slug, or by its short name within the app. Runs of one that is archived may be cancelled."""
    state = server.shard.state
    app = next((app for app in state.apps.values() if wanted.app_id in (app.name, app.id)), None)
    names = (wanted.function_id, f"{wanted.app_id}-{wanted.function_id}" if wanted.app_id else "")
    rows = [row for row in state.function_rows.values() if row.slug in names or row.id == wanted.function_id]
    if wanted.app_id:
        rows = [row for row in rows if app is not None and row.app_id == app.id]
    rows.sort(
        key=lambda row: (row.archived_at is not None, names.index(row.slug) if row.slug in names else 2)
    )
    if not rows:
        raise RequestError(404, "function not found", "not_found")
    if rows[0].archived_at is not None and kind is JobKind.REPLAY:
        raise RequestError(409, "The function is not served any more. Sync its app first.")
    return rows[0]


def check_condition(text: str) -> None:
    """Raises `RequestError` 400 if a condition does not compile."""
    try:
        compile_expression(text)
    except ExpressionError as error:
        raise RequestError(400, f"if does not compile. {explain(text, error)}.") from None


def _time(name: str, text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise RequestError(400, f"{name} is {text[:60]!r}; it must be an RFC 3339 time") from None


# Progress


def shown_job(job: Job) -> dict[str, Any]:
    """A job and its progress, with the protocol's fields for a cancellation."""
    shown = {
        "id": job.id,
        "name": job.name,
        "account_id": ACCOUNT_ID,
        "environment_id": ENVIRONMENT_ID,
        "app_id": job.app_id,
        "function_internal_id": job.function_id,
        "function_id": job.slug,
        "kind": _KINDS[job.kind],
        "cause": "api",
        "created_at": format_time(job.created_at),
        "started_after": format_time(job.since) if job.since else None,
        "started_before": format_time(job.until),
        "statuses": list(job.statuses),
        "state": job.state.value,
        "seen": job.seen,
        "done": job.done,
        "refused": job.refused,
        "reason": job.reason or None,
        "ended_at": None if job.ended_at is None else format_time(job.ended_at),
    }
    if job.condition is not None:
        shown["if"] = job.condition
    return shown


def _kind(request: Request) -> JobKind:
    return JobKind.CANCEL if request.url.path.startswith("/v1/cancellations") else JobKind.REPLAY


async def list_jobs(server: Server, request: Request) -> Response:
    """Bulk cancellations, or replays; newest first."""
    kind = _kind(request)
    jobs = [job for job in server.shard.state.jobs.values() if job.kind is kind]
    return wrapped(server, [shown_job(job) for job in sorted(jobs, key=lambda job: job.id, reverse=True)])


def _job(server: Server, request: Request) -> Job:
    kind, job_id = _kind(request), request.path_params["job_id"].upper()
    word = "cancellation" if kind is JobKind.CANCEL else "replay"
    if not is_ulid(job_id):
        raise RequestError(400, f"Invalid {word} ID")
    job = server.shard.state.jobs.get(job_id)
    if job is None or job.kind is not kind:
        raise RequestError(404, f"{word.capitalize()} not found", "not_found")
    return job


async def show_job(server: Server, request: Request) -> Response:
    """A job and its progress."""
    return wrapped(server, shown_job(_job(server, request)))


async def stop_cancellation(server: Server, request: Request) -> Response:
    """Stop a bulk cancellation where it is; what it has cancelled stays so."""
    await server.submit(StopJob(job_id=_job(server, request).id))
    return wrapped(server, {"ok": True})


async def stop_replay(server: Server, request: Request) -> Response:
    """Stop a replay where it is; what it has started goes on."""
    job = cast("Job", await server.submit(StopJob(job_id=_job(server, request).id)))
    return wrapped(server, shown_job(job))

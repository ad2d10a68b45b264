"""What a person does with functions and many runs: pause, resume, change limits, cancel in bulk, replay.

`/v1/cancellations` is as the protocol has it; the rest is Perdure's own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.expressions import compile_expression
from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.core.model import RunStatus
from perdure.errors import ExpressionError, RequestError
from perdure.protocol.durations import format_time, parse_time
from perdure.protocol.faults import explain
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID, new_ulid
from perdure.protocol.payloads import NestedTooDeeply, json_text
from perdure.server.context import Server
from perdure.server.http import read_body
from perdure.server.rest import wrapped
from perdure.shard.commands import OverrideConfig, PauseFunction, RemoveApp, StartJob, StopJob
from perdure.shard.job import Job, JobKind

MAX_BYTES = 1024 * 1024
LIVE = (RunStatus.QUEUED, RunStatus.RUNNING)
ENDED = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)

Endpoint = Callable[[Server, Request], Awaitable[Response]]


def operating_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    def route(path: str, **endpoints: Endpoint) -> Route:
        async def handle(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            return await endpoints[method](server, request)

        return Route(path, handle, methods=list(endpoints))

    return [
        route("/v1/cancellations", GET=list_cancellations, POST=start_cancellation),
        route("/v1/cancellations/{job_id}", GET=show_job, DELETE=stop_cancellation),
        route("/v1/replays", GET=list_replays, POST=start_replay),
        route("/v1/replays/{job_id}", GET=show_job, DELETE=stop_replay),
        route("/v1/functions", GET=list_functions),
        route("/v1/functions/{slug:path}/pause", POST=pause),
        route("/v1/functions/{slug:path}/resume", POST=resume),
        route("/v1/functions/{slug:path}/overrides", PUT=put_overrides, DELETE=drop_overrides),
        route("/v1/functions/{slug:path}", GET=show_function),
        route("/v1/apps/{app_name:path}", DELETE=archive_app),
    ]


# Functions


def _function(server: Server, slug: str) -> Function:
    found = server.shard.state.functions.find(slug)
    if found is None:
        raise RequestError(404, f"function not found: {slug[:200]}", "not_found")
    return found


def function_state(server: Server, function: Function) -> dict[str, Any]:
    """What is in force for a function: what its code says, and what a person has set instead."""
    row = server.shard.state.function_rows[function.id]
    return {
        "id": function.slug,
        "internal_id": function.id,
        "app_id": function.app_id,
        "name": function.name,
        "paused": row.paused or None,
        "config": msgspec.Raw(row.config),
        "overrides": None if row.overrides is None else msgspec.Raw(row.overrides),
    }


async def list_functions(server: Server, _: Request) -> Response:
    """All functions that are served, by slug."""
    live = [f for f in server.shard.state.functions.by_id.values() if not f.archived]
    return wrapped(server, [function_state(server, f) for f in sorted(live, key=lambda f: f.slug)])


async def show_function(server: Server, request: Request) -> Response:
    """One function."""
    return wrapped(server, function_state(server, _function(server, request.path_params["slug"])))


class _Pause(msgspec.Struct):
    mode: Literal["hold", "skip"] = "hold"


async def pause(server: Server, request: Request) -> Response:
    """Let a function start no new runs: they are held until it is resumed, or skipped (`{"mode": "skip"}`)."""
    wanted = await _read(server, request, _Pause)
    return await _pause(server, request, Pause(wanted.mode))


async def resume(server: Server, request: Request) -> Response:
    """Let a function start runs again; those that were held begin now."""
    return await _pause(server, request, Pause.NO)


async def _pause(server: Server, request: Request, pause: Pause) -> Response:
    function = _function(server, request.path_params["slug"])
    await server.submit(PauseFunction(slug=function.id, pause=pause))
    return wrapped(server, function_state(server, function))


async def put_overrides(server: Server, request: Request) -> Response:
    """Put parts of a function's configuration in place of the code's. The body has the SDK's own fields."""
    function = _function(server, request.path_params["slug"])
    fields = await _read(server, request, dict[str, msgspec.Raw])
    body = msgspec.json.encode(fields)
    await server.submit(OverrideConfig(slug=function.id, overrides=body if fields else None))
    return wrapped(server, function_state(server, function))


async def drop_overrides(server: Server, request: Request) -> Response:
    """Go back to what the code says."""
    function = _function(server, request.path_params["slug"])
    await server.submit(OverrideConfig(slug=function.id, overrides=None))
    return wrapped(server, function_state(server, function))


async def archive_app(server: Server, request: Request) -> Response:
    """Archive an app (by name or id): its functions start no more runs, those under way go on."""
    name = request.path_params["app_name"]
    apps = server.shard.state.apps.values()
    found = [app for app in apps if name in (app.name, app.id) and app.archived_at is None]
    if not found:
        raise RequestError(404, f"app not found: {name[:200]}", "not_found")
    await server.submit(RemoveApp(app_id=found[0].id))
    return wrapped(server, {"id": found[0].id, "name": found[0].name, "archived": True})


# Jobs


class _JobRequest(msgspec.Struct):
    function_id: str = ""
    app_id: str = ""
    started_after: str | None = None
    started_before: str | None = None
    condition: str | None = msgspec.field(default=None, name="if")
    name: str | None = None
    statuses: list[str] = []


async def start_cancellation(server: Server, request: Request) -> Response:
    """Cancel the runs of a function that have not ended and were queued in a span of time."""
    wanted = await _read(server, request, _JobRequest)
    if not wanted.started_before:
        raise RequestError(400, "started_before is required")
    return await _start(server, JobKind.CANCEL, wanted, LIVE)


async def start_replay(server: Server, request: Request) -> Response:
    """Run the runs of a function again that have ended, by time and status (`statuses`; failed ones if not given)."""
    wanted = await _read(server, request, _JobRequest)
    statuses = tuple(status.upper() for status in wanted.statuses) or (RunStatus.FAILED,)
    for status in statuses:
        if status not in ENDED:
            raise RequestError(400, f"statuses has {status[:40]!r}; it can have {', '.join(ENDED)}")
    return await _start(server, JobKind.REPLAY, wanted, statuses)


async def _start(server: Server, kind: JobKind, wanted: _JobRequest, statuses: tuple[str, ...]) -> Response:
    if not wanted.function_id:
        raise RequestError(400, "function_id is required")
    function = _function_of(server, wanted)
    if wanted.condition:
        _check_condition(wanted.condition)
    now = server.shard.now()
    since = _time("started_after", wanted.started_after) if wanted.started_after else 0
    until = _time("started_before", wanted.started_before) if wanted.started_before else now
    if until <= since:
        raise RequestError(400, "started_before must be later than started_after")
    # Runs that a replay makes are created now or later, and so no part of it; those to be cancelled may be.
    newest = now if kind is JobKind.REPLAY else now + 1
    job = Job(
        id=new_ulid(server.clock.now(), server.entropy(10)),
        kind=kind,
        function_id=function.id,
        slug=function.slug,
        app_id=function.app_id,
        since=since,
        until=min(until, newest),
        statuses=tuple(str(status) for status in statuses),
        created_at=now,
        condition=wanted.condition or None,
        name=wanted.name,
    )
    started = cast("Job", await server.submit(StartJob(job=job)))
    server.drive_jobs()
    return wrapped(server, shown_job(started))


def _function_of(server: Server, wanted: _JobRequest) -> Function:
    """The function by its slug, or by its short name within the app."""
    functions = server.shard.state.functions
    found = functions.find(wanted.function_id) or functions.find(f"{wanted.app_id}-{wanted.function_id}")
    if found is None:
        raise RequestError(404, f"function not found: {wanted.function_id[:200]}")
    return found


def _check_condition(text: str) -> None:
    try:
        compile_expression(text)
    except ExpressionError as error:
        raise RequestError(400, f"if does not compile. {explain(text, error)}.") from None


def _time(name: str, text: str) -> int:
    try:
        return parse_time(text)
    except ValueError:
        raise RequestError(400, f"{name} is {text[:60]!r}; it must be an RFC 3339 time") from None


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
        "kind": job.kind.value,
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


def _jobs(server: Server, kind: JobKind) -> Response:
    jobs = [job for job in server.shard.state.jobs.values() if job.kind is kind]
    return wrapped(
        server, [shown_job(job) for job in sorted(jobs, key=lambda job: job.id, reverse=True)]
    )


async def list_cancellations(server: Server, _: Request) -> Response:
    """Bulk cancellations, newest first."""
    return _jobs(server, JobKind.CANCEL)


async def list_replays(server: Server, _: Request) -> Response:
    """Replays, newest first."""
    return _jobs(server, JobKind.REPLAY)


def _job(server: Server, request: Request) -> Job:
    job = server.shard.state.jobs.get(request.path_params["job_id"].upper())
    kind = JobKind.CANCEL if request.url.path.startswith("/v1/cancellations") else JobKind.REPLAY
    if job is None or job.kind is not kind:
        raise RequestError(404, f"not found: {request.path_params['job_id'][:60]}", "not_found")
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


async def _read(server: Server, request: Request, type: Any) -> Any:
    """The request body. Raises `RequestError` 400 that says what is wrong with it."""
    body = await read_body(request.receive, MAX_BYTES, server.intake)
    try:
        text = json_text(body or b"{}")
        if text is None:
            raise RequestError(400, "the request body is not JSON")
        return msgspec.json.decode(text, type=type)
    except (msgspec.MsgspecError, NestedTooDeeply) as error:
        raise RequestError(400, f"the request body is wrong: {error}") from None

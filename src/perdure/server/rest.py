"""REST: what SDKs fetch during a call (`/v0/runs`), and events, runs and jobs for people and programs
(`/v1`).

Nothing is cached: whoever reads after an answer sees what the answer told. Errors carry their true HTTP
status.
"""

from __future__ import annotations

from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.model import FIRST_ITEM, FromStep, RunStatus
from perdure.errors import RequestError
from perdure.protocol.durations import format_time, parse_time
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID, is_ulid
from perdure.protocol.payloads import NULL, NestedTooDeeply, json_text, without_lone_surrogates
from perdure.reading.port import EventRecord, ItemRecord, RunRecord, StepReport
from perdure.server.context import Server
from perdure.server.http import read_body
from perdure.server.json import JsonResponse
from perdure.server.routing import route_of
from perdure.shard.calls import edited_input, job_id
from perdure.shard.commands import CancelRun, SendSignal

MAX_PAGE = 51
"""Most events of a page: 50, and one to see whether there are more."""
DEFAULT_PAGE = 20
MAX_SIGNAL_BYTES = 4 * 1024 * 1024

_STATUS_WORDS = {
    RunStatus.QUEUED: "Scheduled",
    RunStatus.RUNNING: "Running",
    RunStatus.COMPLETED: "Completed",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    RunStatus.SKIPPED: "Skipped",
}
_KIND_WORDS = {"discovery": "edge", "step": "edge", "sleep": "sleep", "wait": "pause", "request": "edge"}


def rest_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    route = partial(route_of, server)
    return [
        route("/v0/runs/{run_id}/batch", GET=batch),
        route("/v0/runs/{run_id}/actions", GET=actions),
        route("/v0/runs/{run_id}", DELETE=cancel_v0),
        route("/v1/events", GET=list_events),
        route("/v1/events/{event_id}", GET=show_event),
        route("/v1/events/{event_id}/runs", GET=runs_of_event),
        route("/v1/runs/{run_id}", GET=show_run, DELETE=cancel_v1),
        route("/v1/runs/{run_id}/jobs", GET=jobs),
        route("/v1/runs/{run_id}/history", GET=history),
        route("/v1/signals", POST=send_signal),
        route("/v1/apps/{app_name:path}/functions", GET=functions_of_app),
    ]


def wrapped(server: Server, data: object) -> Response:
    """An answer of `/v1`: the data, and when it was read, by the clock of its records."""
    fetched = format_time(server.shard.now())
    return JsonResponse({"data": data, "metadata": {"fetched_at": fetched, "cached_until": None}})


def _ulid(request: Request, name: str, what: str) -> str:
    text: str = request.path_params[name]
    if not is_ulid(text):
        raise RequestError(400, f"Invalid {what} ID: {text[:100]}")
    return text


# What SDKs fetch


async def batch(server: Server, request: Request) -> Response:
    """The trigger events of a run, as an array."""
    run_id = _ulid(request, "run_id", "run")
    await _live(server, run_id)
    events = await server.reader.events_of_run(run_id)
    return Response(b"[" + b",".join(event.body for event in events) + b"]", media_type="application/json")


async def actions(server: Server, request: Request) -> Response:
    """The finished steps of a run: hash to memo, and the edited input of one that has not run."""
    run_id = _ulid(request, "run_id", "run")
    run = await _live(server, run_id)
    steps = await server.reader.steps_of_run(run_id)
    members = [msgspec.json.encode(step.id) + b":" + step.memo for step in steps]
    start = None if run.from_step is None else FromStep.decode(run.from_step)
    if start is not None and start.arguments is not None and all(step.id != start.id for step in steps):
        members.append(edited_input(start))
    return Response(b"{" + b",".join(members) + b"}", media_type="application/json")


async def _live(server: Server, run_id: str) -> RunRecord:
    run = await server.reader.run(run_id)
    if run is None or run.status not in (RunStatus.QUEUED, RunStatus.RUNNING):
        raise RequestError(410, f"runtime state is no longer available for runID: {run_id}")
    return run


async def cancel_v0(server: Server, request: Request) -> Response:
    """Cancel a run: 204; 404 if there is no such run, or it has ended otherwise."""
    run_id = _ulid(request, "run_id", "run")
    before = await server.submit(CancelRun(run=run_id))
    if before not in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLED):
        raise RequestError(404, "A function run with the given ID could not be found")
    return Response(status_code=204)


# Events


async def list_events(server: Server, request: Request) -> Response:
    """Events, newest first."""
    query = request.query_params
    cursor = query.get("cursor")
    if cursor is not None and not is_ulid(cursor):
        raise RequestError(400, f"cursor is {cursor[:100]!r}; it must be the internal_id of an event")
    events = await server.reader.list_events(
        name=query.get("name") or None,
        received_after=_time(query.get("received_after"), "received_after"),
        received_before=_time(query.get("received_before"), "received_before"),
        before=cursor,
        limit=_page(query.get("limit")),
    )
    return wrapped(server, [_event(event) for event in events])


def _page(text: str | None) -> int:
    if text is None or not text.strip():
        return DEFAULT_PAGE
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise RequestError(400, f"limit is {text[:40]!r}; it must be a number from 1 to {MAX_PAGE}")
    return min(int(text) or DEFAULT_PAGE, MAX_PAGE)


def _time(text: str | None, name: str) -> int | None:
    if text is None or not text.strip():
        return None
    try:
        return parse_time(text)
    except ValueError:
        raise RequestError(
            400, f"{name} is {text[:60]!r}; it must be a time like 2026-01-31T12:00:00Z"
        ) from None


async def show_event(server: Server, request: Request) -> Response:
    """One event."""
    event_id = _ulid(request, "event_id", "event")
    event = await server.reader.event(event_id)
    if event is None:
        raise RequestError(404, "Event not found")
    return wrapped(server, _event(event))


class _Delivered(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"{}")
    user: msgspec.Raw = msgspec.Raw(b"{}")
    v: str = ""


def _event(event: EventRecord) -> dict[str, object]:
    body = msgspec.json.decode(event.body, type=_Delivered)
    shown: dict[str, object] = {
        "internal_id": event.internal_id,
        "account_id": ACCOUNT_ID,
        "environment_id": ENVIRONMENT_ID,
        "source": "",
        "source_id": None,
        "received_at": format_time(event.received_at),
        "id": event.id or event.internal_id,
        "name": event.name,
        "data": body.data,
        "ts": event.ts,
    }
    if bytes(body.user) != b"{}":
        shown["user"] = body.user
    if body.v:
        shown["v"] = body.v
    return shown


async def runs_of_event(server: Server, request: Request) -> Response:
    """The runs that an event started."""
    event_id = _ulid(request, "event_id", "event")
    runs = await server.reader.runs_of_event(event_id)
    return wrapped(server, [_run(run) for run in runs])


# Runs


async def show_run(server: Server, request: Request) -> Response:
    """One run. `steps` is there if they have told of themselves: how far each is, and what its lines amount to."""
    run = await server.reader.run(_ulid(request, "run_id", "run"))
    if run is None:
        raise RequestError(404, f"Unable to load function run: {request.path_params['run_id']}")
    shown = _run(run)
    told = (await server.reader.step_reports([run.id])).get(run.id)
    if told is not None and told.steps:
        shown["steps"] = [shown_report(report) for report in told.steps.values()]
    return wrapped(server, shown)


def shown_report(report: StepReport) -> dict[str, object]:
    """A step's report as REST shows it."""
    return {
        "step": report.step_id or None,
        "name": report.name,
        "attempt": report.attempt,
        "progress": report.progress,
        "message": report.message,
        "at": format_time(report.at),
        "lines": report.lines,
        "dropped_lines": report.dropped,
    }


def _run(run: RunRecord) -> dict[str, object]:
    shown: dict[str, object] = {
        "run_id": run.id,
        "run_started_at": format_time(run.created_at),
        "function_id": run.function_id,
        "function_version": 0,
        "environment_id": ENVIRONMENT_ID,
        "event_id": run.event_id,
        "status": _STATUS_WORDS[RunStatus(run.status)],
        "ended_at": None if run.ended_at is None else format_time(run.ended_at),
    }
    if run.batch_id is not None:
        shown["batch_id"] = run.batch_id
    if run.cron is not None:
        shown["cron"] = run.cron
    if run.original_run_id is not None:
        shown["original_run_id"] = run.original_run_id
    if run.from_step is not None:
        shown["from_step"] = msgspec.Raw(run.from_step)
    if run.ended_at is not None:
        shown["output"] = msgspec.Raw(run.output if run.output is not None else NULL)
    return shown


async def cancel_v1(server: Server, request: Request) -> Response:
    """Cancel a run: 200 also if it has ended; 404 if there is none."""
    run_id = _ulid(request, "run_id", "run")
    if await server.submit(CancelRun(run=run_id)) is None:
        raise RequestError(404, f"Unable to load function run: {run_id}")
    return Response(status_code=200)


async def jobs(server: Server, request: Request) -> Response:
    """What is still to happen to a run."""
    run_id = _ulid(request, "run_id", "run")
    items = await server.reader.items_of_run(run_id)
    return wrapped(server, [_job(item, place) for place, item in enumerate(items)])


def _job(item: ItemRecord, place: int) -> dict[str, object]:
    first = item.n == FIRST_ITEM
    return {
        "JobID": job_id(item.run_id, item.n),
        "at": format_time(item.due),
        "position": place,
        "kind": "start" if first else _KIND_WORDS.get(item.kind, item.kind),
        "attempt": item.attempt,
        "Raw": {
            "id": job_id(item.run_id, item.n),
            "at": item.due,
            "genID": item.generation,
            "leaseID": None,
            "data": {
                "kind": item.kind,
                "identifier": {"runID": item.run_id, "workflowID": item.function_id},
                "payload": {"step_id": item.step_id, "name": item.name, "in_flight": item.in_flight},
            },
        },
    }


async def history(server: Server, request: Request) -> Response:
    """What happened to a run, in order; `after` (an `n`) continues a page of up to 1,000 entries."""
    run_id = _ulid(request, "run_id", "run")
    after = request.query_params.get("after", "0")
    if not after.isascii() or not after.isdecimal() or len(after) > 12:
        raise RequestError(400, f"after is {after[:40]!r}; it must be the n of an entry")
    entries = await server.reader.history_of_run(run_id, after=int(after))
    shown = [
        {"n": entry.n, "at": format_time(entry.at), "kind": entry.kind, "details": msgspec.Raw(entry.body)}
        for entry in entries
    ]
    return wrapped(server, shown)


# Signals


class _Signal(msgspec.Struct):
    signal: str
    data: msgspec.Raw = msgspec.Raw(NULL)


async def send_signal(server: Server, request: Request) -> Response:
    """Give a signal to the run that waits for it."""
    body = await read_body(request.receive, MAX_SIGNAL_BYTES, server.intake)
    try:
        text = json_text(body)
        if text is None:
            raise RequestError(400, "Invalid signal: the request body is not JSON")
        signal = msgspec.json.decode(without_lone_surrogates(text), type=_Signal)
    except (msgspec.MsgspecError, NestedTooDeeply) as error:
        raise RequestError(400, f"Invalid signal: {error}") from None
    if not signal.signal:
        raise RequestError(400, "signal is empty; it must be the name of a signal")
    run_id = await server.submit(SendSignal(signal=signal.signal, data=bytes(signal.data)))
    if run_id is None:
        raise RequestError(404, "No signal found")
    return wrapped(server, {"run_id": run_id})


# Functions


async def functions_of_app(server: Server, request: Request) -> Response:
    """The functions of an app, as a bare array; empty for an unknown app."""
    name = request.path_params["app_name"]
    apps = [app for app in server.shard.state.apps.values() if app.name == name]
    rows = [row for row in server.shard.state.function_rows.values() if apps and row.app_id == apps[0].id]
    shown = [
        {
            "internal_id": row.id,
            "env_id": ENVIRONMENT_ID,
            "app_id": row.app_id,
            "id": row.slug,
            "name": row.name,
            "config": msgspec.Raw(row.config),
            "paused": row.paused or None,
            "overrides": None if row.overrides is None else msgspec.Raw(row.overrides),
            "created_at": format_time(row.created_at),
            "archived_at": None if row.archived_at is None else format_time(row.archived_at),
        }
        for row in sorted(rows, key=lambda row: row.slug)
    ]
    return JsonResponse(shown)

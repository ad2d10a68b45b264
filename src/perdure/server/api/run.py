"""One run: its head, its trigger events, what it did and does, and the results of that."""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.core.model import FromStep
from perdure.errors import RequestError
from perdure.protocol.ids import is_ulid
from perdure.reading.metadata import Metadata
from perdure.reading.outputs import ErrorText, OutputName, read_output_name, trigger_payload
from perdure.reading.port import WholeRun
from perdure.reading.results import read_result
from perdure.reading.spans import activity_output, attempt_output
from perdure.reading.timeline import REQUESTS, Activity, Attempt, read_timeline
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.runs import Run, checked, no_run, shown_run
from perdure.server.context import Server
from perdure.server.explaining import NEAR_MISSES, explained, shown

MAX_LINES = 500
"""Log lines of one answer."""
Kind = Literal["step", "sleep", "event", "signal", "invoke", "request", "call"]
_KINDS: dict[str, Kind] = {
    "Sleep": "sleep",
    "WaitForEvent": "event",
    "WaitForSignal": "signal",
    "InvokeFunction": "invoke",
}


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt, from 0. It waited from `queued_at` (or from when it was due) until it was started."""

    number: int
    status: str
    queued_at: int
    due_at: int
    started_at: int | None
    ended_at: int | None
    http_status: int | None
    output: str | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a trace: a step, or calls of the function that were no step's (`call`).

    `output` names a result. `until` is when a sleep or wait ends at the latest, `event` the event or signal that is
    waited for, `target` the invoked function and `child` its run, `found` the event that ended the wait.
    """

    key: str
    kind: Kind
    name: str
    status: str
    queued_at: int
    started_at: int | None
    ended_at: int | None
    tries: list[Try]
    step_id: str | None = None
    output: str | None = None
    until: int | None = None
    event: str | None = None
    expression: str | None = None
    target: str | None = None
    child: str | None = None
    found: str | None = None
    timed_out: bool | None = None
    is_end: bool = False
    sdk_type: str | None = None
    copied_from: str | None = None
    metadata: list[Metadata] = []


class TriggerEvent(msgspec.Struct, frozen=True):
    """An event that started a run: its id on this server, and its payload as JSON."""

    internal_id: str
    name: str
    received_at: int
    payload: msgspec.Raw


class RunDetail(msgspec.Struct, frozen=True, kw_only=True):
    """All of a run but the results, which are asked for by name. `more` says that the trace is cut off."""

    run: Run
    events: list[TriggerEvent]
    lines: list[Line]
    output: str | None
    reason: str | None
    parent: str | None
    http_status: int | None
    metadata: list[Metadata]
    from_step: str | None
    now: int
    more: bool


class Result(msgspec.Struct, frozen=True):
    """A result: JSON text of what went in and came out, or the error."""

    input: str | None
    data: str | None
    error: ErrorText | None


class LogsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Of which step (its id on the wire), of all if none is named; from behind which line on."""

    step: str | None = None
    after: int = 0


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a step has logged; `step_id` is empty for the function's own code. `fields` is a JSON object."""

    n: int
    step_id: str
    attempt: int
    at: int
    level: str
    logger: str
    message: str
    fields: msgspec.Raw | None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What a step tells of itself: how far it is (0 to 1), when it last said something, lines that were too many."""

    step_id: str
    name: str
    progress: float | None
    message: str
    at: int
    lines: int
    dropped: int


class Logs(msgspec.Struct, frozen=True):
    """Lines in order, and what the steps tell. `after` goes on behind the last line, None at the end."""

    lines: list[LogLine]
    steps: list[Progress]
    after: int | None


class Waiting(msgspec.Struct, frozen=True):
    """Why a run waits, in the shape of `GET /v1/runs/{id}/why`."""

    why: dict[str, object]


async def show_run(server: Server, asked: Asked[Nothing, Nothing]) -> RunDetail:
    """One run with its trace."""
    run_id = checked(asked.path["run_id"])
    whole = await server.reader.whole_run(run_id)
    if whole is None:
        raise no_run(run_id)
    return run_detail(server, whole)


def run_detail(server: Server, whole: WholeRun) -> RunDetail:
    """A run that was read, as it is shown."""
    run, timeline = whole.run, read_timeline(whole)
    parent = (run.correlation or "").partition(".")[0]
    start = None if run.from_step is None else FromStep.decode(run.from_step)
    return RunDetail(
        run=shown_run(server, run),
        events=[
            TriggerEvent(one.internal_id, one.name, one.received_at, msgspec.Raw(trigger_payload(one)))
            for one in whole.events
        ],
        lines=[_line(run.id, one, timeline.metadata.get(one.step_id, [])) for one in timeline.activities],
        output=None if run.ended_at is None else OutputName(run.id, "end").text(),
        reason=timeline.reason or None,
        parent=parent if is_ulid(parent) else None,
        http_status=timeline.code,
        metadata=timeline.metadata.get("", []),
        from_step=None if start is None else start.name,
        now=server.shard.now(),
        more=whole.more,
    )


def _line(run_id: str, activity: Activity, metadata: list[Metadata]) -> Line:
    kind: Kind = "step" if activity.step_id else "call"
    kind = "request" if activity.op in REQUESTS else _KINDS.get(activity.op, kind)
    return Line(
        key=activity.key,
        kind=kind,
        name=activity.name,
        status=activity.status,
        queued_at=activity.queued,
        started_at=activity.started,
        ended_at=activity.ended,
        tries=[_try(run_id, activity, attempt, place) for place, attempt in enumerate(activity.attempts)],
        step_id=activity.step_id or None,
        output=activity_output(run_id, activity),
        until=activity.until or None,
        event=activity.event or None,
        expression=activity.expression or None,
        target=activity.function or None,
        child=activity.invoked_run or None,
        found=activity.found or None,
        timed_out=activity.timed_out,
        is_end=activity.end,
        sdk_type=activity.type or None,
        copied_from=activity.copied_from or None,
        metadata=metadata if activity.step_id else [],
    )


def _try(run_id: str, activity: Activity, attempt: Attempt, place: int) -> Try:
    return Try(
        number=attempt.number,
        status=attempt.status,
        queued_at=attempt.queued,
        due_at=attempt.scheduled,
        started_at=attempt.started,
        ended_at=attempt.ended,
        http_status=attempt.code,
        output=attempt_output(run_id, activity, attempt, place),
    )


async def show_result(server: Server, asked: Asked[Nothing, Nothing]) -> Result:
    """The result that a trace names."""
    try:
        name = read_output_name(asked.path["output"])
    except ValueError:
        raise RequestError(404, "there is no such result: its name was not made by this server") from None
    found = await read_result(server.reader, name)
    if found is None:
        raise RequestError(404, "there is no such result; its run may have been removed")
    return Result(found.input, found.data, found.error)


async def show_logs(server: Server, asked: Asked[LogsQuery, Nothing]) -> Logs:
    """What the steps of a run have logged, and how far they are."""
    run_id, query = checked(asked.path["run_id"]), asked.query
    reports = (await server.reader.step_reports([run_id])).get(run_id)
    if reports is None:
        raise no_run(run_id)
    found = await server.reader.lines_of_run(
        run_id, step_id=query.step, after=query.after, limit=MAX_LINES + 1
    )
    lines = [
        LogLine(
            n=one.n,
            step_id=one.step_id,
            attempt=one.attempt,
            at=one.at,
            level=one.level,
            logger=one.logger,
            message=one.message,
            fields=None if one.fields is None else msgspec.Raw(one.fields),
        )
        for one in found[:MAX_LINES]
    ]
    steps = [
        Progress(
            step_id=one.step_id,
            name=one.name,
            progress=one.progress,
            message=one.message,
            at=one.at,
            lines=one.lines,
            dropped=one.dropped,
        )
        for one in reports.steps.values()
    ]
    return Logs(lines, steps, lines[-1].n if len(found) > MAX_LINES else None)


async def show_waiting(server: Server, asked: Asked[Nothing, Nothing]) -> Waiting:
    """Why a run waits: the limit or the wait, who holds it, its place in line, and what can happen next."""
    run_id = checked(asked.path["run_id"])
    why = await explained(server, run_id, NEAR_MISSES)
    if why is None:
        raise no_run(run_id)
    return Waiting(shown(why))


ENDPOINTS = [
    Endpoint("GET", "/api/runs/{run_id}", show_run, RunDetail),
    Endpoint("GET", "/api/runs/{run_id}/logs", show_logs, Logs, query=LogsQuery),
    Endpoint("GET", "/api/runs/{run_id}/why", show_waiting, Waiting),
    Endpoint("GET", "/api/results/{output}", show_result, Result),
]

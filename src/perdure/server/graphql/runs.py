"""Runs: one, lists of them, their triggers and their results."""

from __future__ import annotations

from typing import Any

import msgspec
from graphql import GraphQLError

from perdure.core.model import FromStep, RunStatus
from perdure.protocol.ids import is_ulid
from perdure.reading.outputs import SpanOutput, read_output_name, trigger_payload
from perdure.reading.port import ListedRun, RunFilter, RunPlace, RunRecord
from perdure.reading.results import read_result
from perdure.reading.spans import Span, trace_id
from perdure.reading.trace import current_trace, older_trace
from perdure.server.graphql.apps import app_of, function_of
from perdure.server.graphql.searching import compile_query, search
from perdure.server.graphql.session import Session, checked_run_id, unknown_run
from perdure.server.graphql.values import Page, always, cursor, read_cursor, read_page, read_time, time_text
from perdure.server.searching import decoded

SCHEDULED = "inngest/scheduled.timer"
"""The event of a run that a schedule started (protocol §4.4)."""

_FIELDS = {"QUEUED_AT": "created_at", "STARTED_AT": "started_at", "ENDED_AT": "ended_at"}


class TracedSpan(msgspec.Struct):
    """A span with its run, and the span above it."""

    span: Span
    run: RunRecord
    parent: TracedSpan | None = None


# Lists


def runs(
    _: object,
    session: Session,
    first: int,
    filter: dict[str, Any],
    orderBy: list[dict[str, str]],
    after: str | None = None,
    preview: bool | None = None,  # noqa: ARG001
) -> Page:
    """A page of runs."""
    size = read_page(first)
    wanted = _filter(session, filter, orderBy)
    place = read_cursor(after, RunPlace)
    if wanted is None:
        return Page([], [], False, after is not None, None, lambda: 0)
    query = filter.get("query")
    if query:
        return _search(session, wanted, place, size, query)
    reader = session.server.reader
    # Outputs come with the row that is asked for, not with the list: they may be large.
    listed = session.ask(lambda: reader.list_runs(wanted, after=place, limit=size + 1))
    shown = [found.run for found in listed[:size]]
    cursors = [cursor(wanted.place(run)) for run in shown]
    return Page(
        [_Listed(run) for run in shown],
        cursors,
        len(listed) > size,
        after is not None,
        cursors[-1] if cursors else None,
        lambda: session.ask(lambda: reader.count_runs(wanted)),
    )


class _Listed(msgspec.Struct):
    """A run of a list, without its output."""

    run: RunRecord


def _filter(session: Session, given: dict[str, Any], order_by: list[dict[str, str]]) -> RunFilter | None:
    """The listing that is asked for, or None if nothing can be in it."""
    order = order_by[0] if order_by else {"field": given.get("timeField") or "QUEUED_AT", "direction": "DESC"}
    if len(order_by) > 1:
        raise GraphQLError("orderBy has more than one field; runs are ordered by one time, and then by id")
    time_field = given.get("timeField") or "QUEUED_AT"
    if order["field"] != time_field:
        raise GraphQLError(
            f"orderBy is by {order['field']} and filter.timeField is {time_field}; both must be the same time"
        )
    functions = list(given.get("functionIDs") or [])
    if given.get("appIDs"):
        of_apps = session.function_ids(given["appIDs"])
        functions = [id for id in functions if id in of_apps] if functions else of_apps
        if not functions:
            return None
    return RunFilter(
        field=_FIELDS[time_field],  # type: ignore[arg-type]
        since=read_time(given["from"], "filter.from") or 0,
        until=read_time(given.get("until"), "filter.until") or 2**47,
        statuses=tuple(given.get("status") or ()),
        function_ids=tuple(dict.fromkeys(functions)),
        ascending=order["direction"] == "ASC",
    )


def _search(session: Session, wanted: RunFilter, place: RunPlace | None, size: int, query: str) -> Page:
    expression = compile_query(query, ("event", "output"))
    reader = session.server.reader

    def fetch(last: ListedRun | None, limit: int) -> list[ListedRun]:
        after = place if last is None else wanted.place(last.run)
        return session.ask(lambda: reader.list_runs(wanted, after=after, limit=limit, payloads=True))

    def variables(listed: ListedRun) -> dict[str, object]:
        return {"event": decoded(listed.event), "output": decoded(listed.run.output)}

    found = search(session, fetch, variables, expression, size)
    shown = [listed.run for listed in found.rows]
    cursors = [cursor(wanted.place(run)) for run in shown]
    end = cursor(wanted.place(found.last.run)) if found.last is not None else None
    return Page(list(shown), cursors, not found.complete, place is not None, end, lambda: len(shown))


# One run


def run(_: object, session: Session, runID: str) -> RunRecord:
    """A run. One that is not there is an error: clients ask again."""
    found = session.run(checked_run_id(runID))
    if found is None:
        raise unknown_run(runID)
    return found


def full(listed: RunRecord | _Listed, session: Session) -> RunRecord:
    """The run itself, with its output."""
    if isinstance(listed, RunRecord):
        return listed
    found = session.run(listed.run.id)
    if found is None:
        raise unknown_run(listed.run.id)
    return found


def head(listed: RunRecord | _Listed) -> RunRecord:
    """The run as far as any list has it."""
    return listed if isinstance(listed, RunRecord) else listed.run


def output_text(found: RunRecord) -> str | None:
    """What a run gave, as JSON text; None until it has ended, and for one that gave nothing."""
    return None if found.output is None else found.output.decode()


def source_of(found: RunRecord) -> str | None:
    """The run whose step invoked this one."""
    parent = (found.correlation or "").partition(".")[0]
    return parent if is_ulid(parent) else None


def trigger(_: object, session: Session, runID: str) -> dict[str, object]:
    """The events that started a run."""
    whole = session.whole(checked_run_id(runID))
    events = whole.events
    return {
        "eventName": whole.run.event_name,
        "IDs": list(whole.run.event_ids),
        "payloads": [trigger_payload(event).decode() for event in events],
        "timestamp": time_text(events[0].ts if events else whole.run.created_at),
        "isBatch": whole.run.batch_id is not None,
        "batchID": whole.run.batch_id,
        "cron": whole.run.cron,
    }


def _reason(listed: RunRecord | _Listed, session: Session) -> str | None:
    if head(listed).ended_at is None:
        return None
    return session.timeline(head(listed).id).reason or None


# Traces and results


def trace(listed: RunRecord | _Listed, session: Session, preview: bool | None = None) -> TracedSpan:
    """The trace of a run: the current rendering if `preview`, else the older one."""
    run_id = head(listed).id
    whole, timeline = session.whole(run_id), session.timeline(run_id)
    if preview:
        return TracedSpan(current_trace(whole, timeline), whole.run)
    return TracedSpan(older_trace(whole, _slug(session, whole.run), timeline), whole.run)


def run_trace(_: object, session: Session, runID: str) -> TracedSpan:
    """The trace of a run by its id."""
    return trace(run(None, session, runID), session)


def _slug(session: Session, found: RunRecord) -> str:
    function = session.function(found.function_id)
    return function.slug if function is not None else found.function_id


def span_output(_: object, session: Session, outputID: str) -> SpanOutput:
    """The result that a span names."""
    try:
        name = read_output_name(outputID)
    except ValueError as error:
        raise GraphQLError(f"error parsing span identifier: {error}") from None
    found = session.ask(lambda: read_result(session.server.reader, name))
    if found is None:
        raise GraphQLError("there is no such output; its run may have been removed")
    return found


def from_step(found: RunRecord | None) -> FromStep | None:
    """Where a rerun began that did not begin at the start."""
    return None if found is None or found.from_step is None else FromStep.decode(found.from_step)


RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {
        "runs": runs,
        "run": run,
        "runTrigger": trigger,
        "runTrace": run_trace,
        "runTraceSpanOutputByID": span_output,
    },
    "FunctionRunV2": {
        "id": lambda run, _: head(run).id,
        "appID": lambda run, session: function_of(session, head(run).function_id).app_id,
        "app": lambda run, session: app_of(session, function_of(session, head(run).function_id).app_id),
        "functionID": lambda run, _: head(run).function_id,
        "function": lambda run, session: function_of(session, head(run).function_id),
        "traceID": lambda run, _: trace_id(head(run).id),
        "queuedAt": lambda run, _: time_text(head(run).created_at),
        "startedAt": lambda run, _: time_text(head(run).started_at),
        "endedAt": lambda run, _: time_text(head(run).ended_at),
        "status": lambda run, _: str(head(run).status),
        "sourceID": lambda run, _: source_of(head(run)),
        "triggerIDs": lambda run, _: list(head(run).event_ids),
        "eventName": lambda run, _: head(run).event_name,
        "isBatch": lambda run, _: head(run).batch_id is not None,
        "batchID": lambda run, _: head(run).batch_id,
        "batchCreatedAt": lambda run, _: time_text(head(run).batched_at),
        "cronSchedule": lambda run, _: head(run).cron,
        "output": lambda run, session: (
            None if head(run).ended_at is None else output_text(full(run, session))
        ),
        "trace": trace,
        "hasAI": lambda run, session: session.timeline(head(run).id).has_ai,
        "originalRunID": lambda run, _: head(run).original_run_id,
        "reason": _reason,
        "fromStep": lambda run, session: from_step(full(run, session)),
        "defers": always([]),
        "siblingDefers": always([]),
        "deferredFrom": always(None),
        "isDeferred": always(False),
    },
    "FromStep": {
        "stepID": lambda step, _: step.id,
        "name": lambda step, _: step.name,
        "input": lambda step, _: None if step.arguments is None else step.arguments.decode(),
    },
    "RunTraceSpanOutput": {
        "input": lambda output, _: output.input,
        "data": lambda output, _: output.data,
        "error": lambda output, _: output.error,
    },
    "StepError": {
        "message": lambda error, _: error.message,
        "name": lambda error, _: error.name,
        "stack": lambda error, _: error.stack,
        "cause": lambda error, _: error.cause,
    },
}

LIVE = (RunStatus.QUEUED, RunStatus.RUNNING)

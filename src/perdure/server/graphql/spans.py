"""Spans of a trace, field by field."""

from __future__ import annotations

from typing import Any

from graphql import GraphQLError

from perdure.reading.spans import (
    EventWaitInfo,
    InvokeInfo,
    RunInfo,
    SignalWaitInfo,
    SleepInfo,
    trace_id,
)
from perdure.server.graphql.apps import function_of
from perdure.server.graphql.runs import TracedSpan
from perdure.server.graphql.values import always, time_text

INFO_TYPES = {
    RunInfo: "RunStepInfo",
    SleepInfo: "SleepStepInfo",
    EventWaitInfo: "WaitForEventStepInfo",
    SignalWaitInfo: "WaitForSignalStepInfo",
    InvokeInfo: "InvokeStepInfo",
}


def info_type(info: object, *_: object) -> str:
    """The GraphQL type of what is shown of a step."""
    return INFO_TYPES[type(info)]  # type: ignore[index]


def _children(traced: TracedSpan, _: object) -> list[TracedSpan]:
    return [TracedSpan(child, traced.run, traced) for child in traced.span.children]


def _response(traced: TracedSpan, _: object) -> dict[str, object] | None:
    code = traced.span.code
    return None if code is None else {"statusCode": code, "headers": None}


def _metadata(traced: TracedSpan, _: object) -> list[dict[str, object]]:
    scope = "run" if traced.span.is_root else "step"
    return [
        {"scope": scope, "kind": one.kind, "values": one.values, "updatedAt": time_text(one.updated_at)}
        for one in traced.span.metadata
    ]


def _timeout(info: Any, _: object) -> str | None:
    if not info.timeout:
        raise GraphQLError("the step failed before its timeout was known")
    return time_text(info.timeout)


def _of_span(name: str) -> Any:
    def resolve(traced: TracedSpan, _: object) -> object:
        return getattr(traced.span, name)

    return resolve


def _time_of_span(name: str) -> Any:
    def resolve(traced: TracedSpan, _: object) -> str | None:
        ms: int | None = getattr(traced.span, name)
        return time_text(ms)

    return resolve


def _of(name: str) -> Any:
    def resolve(source: object, _: object) -> object:
        return getattr(source, name)

    return resolve


RESOLVERS: dict[str, dict[str, Any]] = {
    "RunTraceSpan": {
        "appID": lambda traced, session: function_of(session, traced.run.function_id).app_id,
        "functionID": lambda traced, _: traced.run.function_id,
        "runID": lambda traced, _: traced.run.id,
        "run": lambda traced, _: traced.run,
        "spanID": _of_span("span_id"),
        "traceID": lambda traced, _: trace_id(traced.run.id),
        "groupID": always(None),
        "name": _of_span("name"),
        "status": lambda traced, _: str(traced.span.status),
        "attempts": _of_span("attempts"),
        "duration": _of_span("duration"),
        "outputID": _of_span("output_id"),
        "queuedAt": _time_of_span("queued"),
        "scheduledAt": _time_of_span("scheduled"),
        "startedAt": _time_of_span("started"),
        "endedAt": _time_of_span("ended"),
        "childrenSpans": _children,
        "stepOp": _of_span("step_op"),
        "stepID": _of_span("step_id"),
        "stepInfo": _of_span("info"),
        "stepType": _of_span("step_type"),
        "isRoot": _of_span("is_root"),
        "parentSpanID": _of_span("parent_id"),
        "parentSpan": lambda traced, _: traced.parent,
        "isUserland": always(False),
        "userlandSpan": always(None),
        "debugRunID": always(None),
        "debugSessionID": always(None),
        "debugPaused": always(False),
        "skipReason": _of_span("skip_reason"),
        "skipExistingRunID": _of_span("skip_existing"),
        "copiedFrom": _of_span("copied_from"),
        "metadata": _metadata,
        "response": _response,
    },
    "RunStepInfo": {"type": _of("type")},
    "SleepStepInfo": {"sleepUntil": lambda info, _: time_text(info.until)},
    "WaitForEventStepInfo": {
        "eventName": _of("event"),
        "expression": _of("expression"),
        "timeout": _timeout,
        "foundEventID": _of("found"),
        "timedOut": _of("timed_out"),
    },
    "WaitForSignalStepInfo": {"signal": _of("signal"), "timeout": _timeout, "timedOut": _of("timed_out")},
    "InvokeStepInfo": {
        "triggeringEventID": _of("triggering_event"),
        "functionID": _of("function"),
        "timeout": _timeout,
        "returnEventID": _of("return_event"),
        "runID": _of("run"),
        "timedOut": _of("timed_out"),
    },
}

__all__ = ["RESOLVERS", "info_type"]

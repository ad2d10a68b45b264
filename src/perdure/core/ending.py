"""What is told of the end of a run: the server's own events about it."""

from __future__ import annotations

import msgspec

from perdure.core.model import Run, RunStatus
from perdure.core.plan import Outcome
from perdure.protocol import lifecycle

QUIET_EVENTS = (lifecycle.FAILED, lifecycle.FINISHED)
"""Runs that one of these events started send none themselves.

Otherwise a failure handler that fails would start itself.
"""


class EndEvent(msgspec.Struct, frozen=True, gc=False):
    """An event that tells of an end. `id` is None where it gets one of its own.

    `correlation` names the step that it answers, if it answers one.
    """

    name: str
    data: bytes
    id: str | None
    meta: bytes | None
    correlation: str | None


def end_events(run: Run, slug: str, outcome: Outcome) -> list[EndEvent]:
    """The events that tell of the end of a run of the function `slug`; none if nobody is to be told."""
    if run.event_name in QUIET_EVENTS or outcome.quiet:
        return []
    meta, correlation = _meta(run.events[0]), run.correlation
    data = _data(run, slug, outcome, run.events[0], correlation)
    events = [EndEvent(lifecycle.FINISHED, data, None, meta, correlation)]
    if outcome.status is RunStatus.FAILED:
        events.append(EndEvent(lifecycle.FAILED, data, run.id, meta, correlation))
    elif outcome.status is RunStatus.CANCELLED:
        events.append(EndEvent(lifecycle.CANCELLED, data, run.id, meta, correlation))
    if run.batch_id is not None and run.original_run_id is None:
        # Each step that has invoked the function by an event of the batch is answered (protocol, lifecycle events).
        for event in run.events[1:]:
            other = invoked_by(event)
            if other is not None:
                data = _data(run, slug, outcome, event, other)
                events.append(EndEvent(lifecycle.FINISHED, data, None, _meta(event), other))
    return events


def _data(run: Run, slug: str, outcome: Outcome, event: bytes, correlation: str | None) -> bytes:
    output = outcome.output or b"null"
    if outcome.error is not None:
        return lifecycle.failed_event_data(
            slug, run.id, event, run.events, output, outcome.error, correlation
        )
    if outcome.status is RunStatus.CANCELLED:
        return lifecycle.cancelled_event_data(slug, run.id, event, run.events, correlation)
    return lifecycle.finished_event_data(slug, run.id, event, run.events, output, correlation)


class _Invocation(msgspec.Struct):
    correlation_id: str | None = None


class _InvokedData(msgspec.Struct):
    invocation: _Invocation = msgspec.field(default_factory=_Invocation, name="_inngest")


class _Invoked(msgspec.Struct):
    name: str = ""
    data: _InvokedData = msgspec.field(default_factory=_InvokedData)


_INVOKED = msgspec.json.Decoder(_Invoked)


def invoked_by(event: bytes) -> str | None:
    """The step (run id and step id) that invoked a function by this event, the server's own; None if none did."""
    if b'"correlation_id"' not in event:
        return None
    try:
        invoked = _INVOKED.decode(event)
    except msgspec.ValidationError:
        return None  # somebody's own data under these names
    return invoked.data.invocation.correlation_id if invoked.name == lifecycle.INVOKED else None


class _WithMeta(msgspec.Struct, gc=False):
    meta: msgspec.Raw = msgspec.Raw()


_WITH_META = msgspec.json.Decoder(_WithMeta)


def _meta(event: bytes) -> bytes | None:
    """The sessions of a run's event, which the events of its end carry on."""
    meta = bytes(_WITH_META.decode(event).meta) if b'"meta":' in event else b""
    return meta if meta[:1] == b"{" else None

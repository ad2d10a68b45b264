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
    """An event that tells of an end. `id` is None where it gets one of its own."""

    name: str
    data: bytes
    id: str | None
    meta: bytes | None


def end_events(run: Run, slug: str, outcome: Outcome) -> list[EndEvent]:
    """The events that tell of the end of a run of the function `slug`; none if nobody is to be told."""
    if run.event_name in QUIET_EVENTS or outcome.quiet:
        return []
    first, rest = run.events[0], run.events
    meta = _meta(first)
    if outcome.error is not None:
        data = lifecycle.failed_event_data(
            slug, run.id, first, rest, outcome.output or b"null", outcome.error, run.correlation
        )
    elif outcome.status is RunStatus.CANCELLED:
        data = lifecycle.cancelled_event_data(slug, run.id, first, rest, run.correlation)
    else:
        data = lifecycle.finished_event_data(
            slug, run.id, first, rest, outcome.output or b"null", run.correlation
        )
    events = [EndEvent(lifecycle.FINISHED, data, None, meta)]
    if outcome.status is RunStatus.FAILED:
        events.append(EndEvent(lifecycle.FAILED, data, run.id, meta))
    elif outcome.status is RunStatus.CANCELLED:
        events.append(EndEvent(lifecycle.CANCELLED, data, run.id, meta))
    return events


class _WithMeta(msgspec.Struct, gc=False):
    meta: msgspec.Raw = msgspec.Raw()


_WITH_META = msgspec.json.Decoder(_WithMeta)


def _meta(event: bytes) -> bytes | None:
    """The sessions of a run's event, which the events of its end carry on."""
    meta = bytes(_WITH_META.decode(event).meta) if b'"meta":' in event else b""
    return meta if meta[:1] == b"{" else None

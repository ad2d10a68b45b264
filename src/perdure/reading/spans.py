"""The spans of a trace: what they hold, and what both renderings of a trace share."""

from __future__ import annotations

import hashlib

import msgspec
from ulid_transform import ulid_to_bytes

from perdure.reading.metadata import Metadata
from perdure.reading.outputs import OutputName
from perdure.reading.timeline import Activity, Attempt

STEP_OPS = {
    "StepRun": "RUN",
    "Step": "RUN",
    "StepError": "RUN",
    "StepPlanned": "RUN",
    "Sleep": "SLEEP",
    "WaitForEvent": "WAIT_FOR_EVENT",
    "WaitForSignal": "WAIT_FOR_SIGNAL",
    "InvokeFunction": "INVOKE",
    "Gateway": "AI_GATEWAY",
    "AIGateway": "AI_GATEWAY",
    "AiGateway": "AI_GATEWAY",
}
"""Operations as traces name them. A step that failed for good (`StepFailed`) has none."""


class RunInfo(msgspec.Struct, frozen=True):
    """What is shown of a step that ran in the app: the SDK's word for its kind, if it gave one."""

    type: str | None


class SleepInfo(msgspec.Struct, frozen=True):
    """Until when a step sleeps."""

    until: int


class EventWaitInfo(msgspec.Struct, frozen=True):
    """What a step waits for. `timed_out` is None while it does; `found` is the event's id."""

    event: str
    expression: str | None
    timeout: int
    found: str | None
    timed_out: bool | None


class SignalWaitInfo(msgspec.Struct, frozen=True):
    """The signal that a step waits for."""

    signal: str
    timeout: int
    timed_out: bool | None


class InvokeInfo(msgspec.Struct, frozen=True):
    """The function that a step invoked, as it was named; the events that started and ended its run."""

    triggering_event: str | None
    function: str
    timeout: int
    return_event: str | None
    run: str | None
    timed_out: bool | None


StepInfo = RunInfo | SleepInfo | EventWaitInfo | SignalWaitInfo | InvokeInfo


class Span(msgspec.Struct):
    """One line of a trace. Times are ms since the epoch; `code` is the HTTP status of the app's answer.

    `copied_from` is the run that a step was copied from, for a rerun from a later one.
    """

    key: str
    span_id: str
    parent_id: str | None
    name: str
    status: str
    queued: int
    attempts: int = 0
    output_id: str | None = None
    scheduled: int | None = None
    started: int | None = None
    ended: int | None = None
    step_op: str | None = None
    step_id: str | None = None
    step_type: str = ""
    info: StepInfo | None = None
    is_root: bool = False
    skip_reason: str | None = None
    skip_existing: str | None = None
    code: int | None = None
    metadata: list[Metadata] = []
    copied_from: str | None = None
    children: list[Span] = []

    @property
    def duration(self) -> int | None:
        """How long it took, in ms; None while it has not ended."""
        if self.ended is None or self.started is None:
            return None
        return max(0, self.ended - self.started)


def trace_id(run_id: str) -> str:
    """The trace of a run: its id in hex, as calls to the app carry it in `traceparent`."""
    return ulid_to_bytes(run_id).hex()


def span_id(run_id: str, key: str) -> str:
    """The id of a span, the same each time that it is asked for."""
    return hashlib.blake2b(f"{run_id}:{key}".encode(), digest_size=8).hexdigest()


def attempt_spans(run_id: str, parent: Span, activity: Activity) -> list[Span]:
    """A span for each attempt of an activity."""
    spans = []
    for place, attempt in enumerate(activity.attempts):
        key = f"{parent.key}/{place}"
        spans.append(
            Span(
                key,
                span_id(run_id, key),
                parent.span_id,
                f"Attempt {attempt.number}",
                attempt.status,
                attempt.queued,
                attempts=attempt.number,
                output_id=attempt_output(run_id, activity, attempt, place),
                scheduled=attempt.scheduled,
                started=attempt.started,
                ended=attempt.ended,
                step_id=activity.step_id or None,
                code=attempt.code,
            )
        )
    return spans


def attempt_output(run_id: str, activity: Activity, attempt: Attempt, place: int) -> str | None:
    """The last attempt's result is the activity's own; that of an earlier one its error."""
    if place == len(activity.attempts) - 1 and attempt.ended is not None:
        own = activity_output(run_id, activity)
        if own is not None:
            return own
    return OutputName(run_id, "entry", str(attempt.entry)).text() if attempt.entry else None


def activity_output(run_id: str, activity: Activity) -> str | None:
    """The name of an activity's result, or None if it has none."""
    if activity.end or activity.offending:
        return OutputName(run_id, "end").text()
    if activity.has_output:
        return OutputName(run_id, "step", activity.step_id).text()
    return None


def step_info(activity: Activity, expression: str | None) -> StepInfo | None:
    """What is shown of a step besides its times. `expression` is that of a wait, with its values filled in."""
    op = activity.op
    if op == "Sleep":
        return SleepInfo(activity.until)
    if op == "WaitForEvent" and activity.event:
        found = activity.found or None
        return EventWaitInfo(activity.event, expression, activity.until, found, activity.timed_out)
    if op == "WaitForSignal" and activity.event:
        return SignalWaitInfo(activity.event, activity.until, activity.timed_out)
    if op == "InvokeFunction" and activity.function:
        return InvokeInfo(
            activity.invoked_event or None,
            activity.function,
            activity.until,
            activity.found or None,
            activity.invoked_run or None,
            activity.timed_out,
        )
    return None

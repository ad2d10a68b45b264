"""What a run did, read from its history: one activity for each step and for each call that was no step's.

History is a list of what happened, in order: calls that ended, each with what the app answered; steps that a
running call posted; waits that ended. The trace of a run is about something else, its steps: when was each
planned, how often was it tried, what is it waiting for. This module turns one into the other. It goes once
through the entries and keeps, for each step, what was last said of it:

- an operation that **finished** a step adds an attempt, and ends the activity if the step is recorded;
- one that **failed** but is tried again adds an attempt, and remembers by the item which step it is about,
  since the next call for that item may name none (a discovery runs steps too);
- one that **plans** something opens an activity, which `resumed` ends;
- a call that failed as a whole is an attempt of the function itself, or of the step it was made for.

What is under way comes from the run's items at the end; and when a run has ended, whatever had not is
cancelled. All of it is read from one commit, so nothing here can disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from perdure.core import history
from perdure.core.history import CallNote, CheckpointNote, OpNote, RequestNote, ResumedNote
from perdure.core.model import CALLING, RunStatus
from perdure.core.operations import COMPLETE
from perdure.reading.metadata import Metadata, fold
from perdure.reading.port import HistoryRecord, ItemRecord, WholeRun

QUEUED, RUNNING, WAITING = "QUEUED", "RUNNING", "WAITING"
COMPLETED, FAILED, CANCELLED = "COMPLETED", "FAILED", "CANCELLED"
PENDING = frozenset((QUEUED, RUNNING, WAITING))

FINISHING = frozenset(("StepRun", "Step", "StepFailed", "StepError"))
REQUESTS = frozenset(("Gateway", "AIGateway", "AiGateway"))
_WAITING = frozenset(("Sleep", "WaitForEvent", "WaitForSignal"))
_PLANNED = _WAITING | REQUESTS | {"InvokeFunction"}


class Attempt(msgspec.Struct):
    """One try. `entry` is the `n` of the history entry that holds its error, 0 if none does."""

    number: int
    status: str
    queued: int
    scheduled: int
    started: int | None = None
    ended: int | None = None
    code: int | None = None
    op: str = ""
    entry: int = 0


class Activity(msgspec.Struct):
    """Something that a run did, does or waits for: a step, or (without `step_id`) calls that were no step's.

    `op` is the operation that last told of it, `type` the SDK's own word for the kind of step. `end` says that
    it ended the function, `server` that the server itself did. `has_output` whether there is a result.
    """

    key: str
    step_id: str
    name: str
    op: str
    status: str
    queued: int
    type: str = ""
    started: int | None = None
    ended: int | None = None
    attempts: list[Attempt] = []
    until: int = 0
    event: str = ""
    expression: str = ""
    function: str = ""
    invoked_event: str = ""
    invoked_run: str = ""
    found: str = ""
    timed_out: bool | None = None
    has_output: bool = False
    end: bool = False
    server: bool = False
    offending: bool = False
    copied_from: str = ""
    """The run that the step was copied from."""


class Timeline(msgspec.Struct):
    """What a run did, in the order in which it was planned.

    `code` is the HTTP status of the last call, `reason` why the run ended as it did, `holder` the run because of which
    it was skipped. `metadata` is by step, that of the run under the empty id.
    """

    activities: list[Activity]
    code: int | None
    reason: str
    metadata: dict[str, list[Metadata]] = {}
    holder: str = ""

    @property
    def has_ai(self) -> bool:
        """Whether a step used a model, through the server or in the app."""
        return any(a.op == "AIGateway" or a.type.startswith("step.ai.") for a in self.activities)


_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    "call": msgspec.json.Decoder(CallNote),
    "checkpoint": msgspec.json.Decoder(CheckpointNote),
    "cut": msgspec.json.Decoder(history.CutNote),
    "copied": msgspec.json.Decoder(history.CopiedNote),
    "invoked": msgspec.json.Decoder(history.InvokedNote),
    "resumed": msgspec.json.Decoder(ResumedNote),
    "request": msgspec.json.Decoder(RequestNote),
    "metadata": msgspec.json.Decoder(history.MetadataNote),
    "ended": msgspec.json.Decoder(history.EndedNote),
}


def read_timeline(whole: WholeRun) -> Timeline:
    """What a run did."""
    builder = _Builder(whole)
    for entry in whole.history:
        decoder = _DECODERS.get(entry.kind)
        if decoder is not None:
            _READERS[entry.kind](builder, entry, decoder.decode(entry.body))
    builder.finish()
    activities = list(builder.activities.values())
    return Timeline(activities, builder.code, builder.reason, fold(builder.metadata), builder.holder)


class _Builder:
    def __init__(self, whole: WholeRun) -> None:
        self.whole = whole
        self.recorded = {step.id: step for step in whole.steps}
        self.activities: dict[str, Activity] = {}
        self.code: int | None = None
        self.reason = self.holder = ""
        self.metadata: list[tuple[int, history.MetadataNote]] = []
        self._due: dict[int, int] = {}
        """When an item is tried again."""
        self._retried: dict[int, str] = {}
        """Steps that an item tries again although it was not made for them."""

    # Activities by what they are about

    def step(self, step_id: str) -> Activity | None:
        return self.activities.get(f"step:{step_id}")

    def open_step(self, op: OpNote, status: str, queued: int) -> Activity:
        known = self.step(op.id)
        if known is None:
            key = f"step:{op.id}"
            known = Activity(key, op.id, op.name, op.op, status, queued, op.type, attempts=[])
            self.activities[key] = known
        else:
            known.op, known.type = op.op, op.type or known.type
        return known

    def open_calls(self, item: int, queued: int) -> Activity:
        key = f"call:{item}"
        known = self.activities.get(key)
        if known is None:
            known = self.activities[key] = Activity(key, "", "", "", RUNNING, queued, attempts=[])
        return known

    # Entries

    def call(self, entry: HistoryRecord, note: CallNote) -> None:
        self.code = note.status
        due = self._due.pop(note.item, 0)
        attempt = Attempt(
            note.attempt, COMPLETED, note.queued, due or note.queued, note.sent or None, entry.at, note.status
        )
        if note.retry:
            self._due[note.item] = note.retry
        failed = note.error is not msgspec.UNSET
        if failed:
            attempt.entry = entry.n
        if failed and all(about_function(op) for op in note.ops):
            self._failed_call(entry, note, attempt)
            return
        for op in note.ops:
            self._op(entry, note, op, attempt)
        if note.end:
            self._end(entry, note, attempt)
        elif f"call:{note.item}" in self.activities:
            calls = self.open_calls(note.item, note.queued)
            _add(calls, attempt, COMPLETED)
            calls.ended = entry.at

    def cut(self, entry: HistoryRecord, note: history.CutNote) -> None:
        """A call that nobody has seen the end of: it is shown, and the next has the same number."""
        due = self._due.get(note.item, 0) or note.queued
        attempt = Attempt(note.attempt, CANCELLED, note.queued, due, due, entry.at, entry=entry.n)
        target = self.step(note.step or self._retried.get(note.item, ""))
        if target is None:
            target = self.open_calls(note.item, note.queued)
        target.attempts.append(attempt)
        target.started = target.started or due

    def _failed_call(self, entry: HistoryRecord, note: CallNote, attempt: Attempt) -> None:
        target = self.step(note.step) if note.step else None
        if target is not None:
            _add(target, attempt, FAILED)
            target.status = FAILED if note.end else RUNNING
            target.ended, target.has_output = (entry.at, False) if note.end else (None, False)
        if target is None or note.end:
            calls = self.open_calls(note.item, note.queued)
            _add(calls, attempt, FAILED)
            calls.status, calls.end = FAILED if note.end else RUNNING, note.end
            calls.ended = entry.at if note.end else None

    def _end(self, entry: HistoryRecord, note: CallNote, attempt: Attempt) -> None:
        """The call that ended the run."""
        calls = self.open_calls(note.item, note.queued)
        calls.end, calls.ended = True, entry.at
        if self.whole.run.status == RunStatus.COMPLETED:
            _add(calls, attempt, COMPLETED)
            return
        _add(calls, attempt, FAILED)
        last = note.ops[-1] if note.ops else None
        if last is not None and about_function(last):
            return
        calls.server = True
        if last is not None and last.op in _PLANNED:
            offender = self.open_step(last, FAILED, entry.at)
            offender.status, offender.started, offender.ended = FAILED, entry.at, entry.at
            offender.offending = True

    def _op(self, entry: HistoryRecord, note: CallNote, op: OpNote, attempt: Attempt) -> None:
        if op.planned and op.op != "StepPlanned":
            return
        if op.op == "StepPlanned":
            self.open_step(op, QUEUED, entry.at)
        elif op.op in FINISHING and not about_function(op):
            self._finished(entry, note, op, attempt)
        elif op.op in _PLANNED:
            self._planned(entry, note, op)

    def _finished(self, entry: HistoryRecord, note: CallNote, op: OpNote, attempt: Attempt) -> None:
        known = self.step(op.id)
        if known is not None and known.status not in PENDING:
            return
        step = self.open_step(op, RUNNING, note.queued)
        failed = op.op in ("StepFailed", "StepError")
        recorded = self.recorded.get(op.id)
        final = op.op != "StepError" or (recorded is not None and recorded.at <= entry.at)
        if recorded is not None and recorded.failed and final:
            failed = True
        copy = msgspec.structs.replace(attempt, op=op.op)
        _add(step, copy, FAILED if failed else COMPLETED)
        if final:
            step.ended, step.has_output = entry.at, True
        else:
            step.status = RUNNING
            self._retried[note.item] = op.id

    def _planned(self, entry: HistoryRecord, note: CallNote, op: OpNote) -> None:
        status = WAITING if op.op in _WAITING else RUNNING
        step = self.open_step(op, status, note.queued)
        step.status, step.started = status, entry.at
        step.until, step.event, step.expression, step.function = (
            op.until,
            op.event,
            op.expression,
            op.function,
        )
        recorded = self.recorded.get(op.id)
        if op.op == "InvokeFunction" and recorded is not None and recorded.at <= entry.at:
            # A function that nobody has registered: the step failed at once.
            step.status, step.ended, step.timed_out, step.has_output = FAILED, entry.at, False, True

    def checkpoint(self, entry: HistoryRecord, note: CheckpointNote) -> None:
        for op in note.ops:
            if op.planned or ((known := self.step(op.id)) is not None and known.status not in PENDING):
                continue
            started, ended = self._own_times(op, entry.at)
            step = self.open_step(op, RUNNING, started)
            recorded = self.recorded.get(op.id)
            failed = recorded is not None and recorded.failed
            if step.attempts:
                number = _after(step.attempts[-1])
                attempt = Attempt(number, COMPLETED, started, started, started, ended, op=op.op)
                _add(step, attempt, FAILED if failed else COMPLETED)
            step.started = step.started or started
            step.status, step.has_output = FAILED if failed else COMPLETED, True
            step.ended = ended

    def _own_times(self, op: OpNote, posted: int) -> tuple[int, int]:
        """When a posted step ran, by the app's clock; where that cannot be, so long before it was posted."""
        started, took = round(op.at), round(op.took)
        if (self.whole.run.started_at or self.whole.run.created_at) <= started and started + took <= posted:
            return started, started + took
        return posted - took, posted

    def copied(self, entry: HistoryRecord, note: history.CopiedNote) -> None:
        for step_id in note.steps:
            recorded = self.recorded.get(step_id)
            if recorded is None:
                continue
            key = f"step:{step_id}"
            status = FAILED if recorded.failed else COMPLETED
            step = Activity(key, step_id, recorded.name, recorded.op, status, entry.at, attempts=[])
            step.started = step.ended = entry.at
            step.has_output = recorded.op != "Sleep"
            step.copied_from = note.run
            self.activities[key] = step
        if note.edited:
            self.open_step(OpNote("StepPlanned", note.from_step, note.name), QUEUED, entry.at)

    def invoked(self, _: HistoryRecord, note: history.InvokedNote) -> None:
        step = self.step(note.step)
        if step is not None:
            step.invoked_event, step.invoked_run = note.event, note.run

    def request(self, entry: HistoryRecord, note: RequestNote) -> None:
        step = self.step(note.step)
        if step is None:
            return
        due = self._due.pop(note.item, 0) or step.started or entry.at
        step.attempts.append(
            Attempt(note.attempt, FAILED, due, due, due, entry.at, op=step.op, entry=entry.n)
        )
        self._due[note.item] = note.retry

    def resumed(self, entry: HistoryRecord, note: ResumedNote) -> None:
        step = self.step(note.step)
        if step is None:
            return
        step.ended = entry.at
        timed_out = note.how == "timeout"
        failed = note.how == "failed" or (timed_out and step.op == "InvokeFunction")
        step.status = FAILED if failed else COMPLETED
        step.has_output = note.how != "slept" and (failed or not timed_out)
        if step.op != "Sleep" and step.op not in REQUESTS:
            step.timed_out = timed_out
        step.found = note.event
        if step.attempts:
            due = self._due.pop(note.item, 0) or entry.at
            number = _after(step.attempts[-1])
            step.attempts.append(Attempt(number, step.status, due, due, due, entry.at, op=step.op))

    def attached(self, entry: HistoryRecord, note: history.MetadataNote) -> None:
        self.metadata.append((entry.at, note))

    def ended(self, _: HistoryRecord, note: history.EndedNote) -> None:
        self.reason, self.holder = note.reason, note.holder

    # What is under way, and what never came to an end

    def finish(self) -> None:
        run = self.whole.run
        if run.ended_at is None:
            for item in self.whole.items:
                self._under_way(item)
            return
        for activity in self.activities.values():
            if activity.status in PENDING:
                activity.status, activity.ended = CANCELLED, run.ended_at
        if run.status == RunStatus.FAILED and not any(a.end for a in self.activities.values()):
            calls = self.open_calls(0, run.ended_at)
            calls.status, calls.started, calls.ended = FAILED, run.ended_at, run.ended_at
            calls.end = calls.server = True

    def _under_way(self, item: ItemRecord) -> None:
        step = self.step(item.step_id or self._retried.get(item.n, ""))
        due = max(item.due, item.queued_at)
        status = RUNNING if item.in_flight else QUEUED
        started = due if item.in_flight else None
        if step is not None:
            if item.kind in CALLING:
                step.status = RUNNING if item.in_flight or step.attempts else QUEUED
                step.started = step.started or started
            if step.attempts:
                step.attempts.append(Attempt(item.attempt, status, item.queued_at, item.due, started))
        elif item.kind in CALLING and (item.in_flight or self.whole.run.status != RunStatus.QUEUED):
            calls = self.open_calls(item.n, item.queued_at)
            calls.attempts.append(Attempt(item.attempt, status, item.queued_at, item.due, started))
            calls.started = calls.started or started
            calls.status = RUNNING if item.in_flight or len(calls.attempts) > 1 else QUEUED


def about_function(op: OpNote) -> bool:
    """Whether an operation tells of the function itself: it has the id for that, and no name of a step."""
    return op.id == COMPLETE and op.name == op.id


def _after(attempt: Attempt) -> int:
    """The number of the next attempt: one that was cut off does not count."""
    return attempt.number + (attempt.status != CANCELLED)


def _add(activity: Activity, attempt: Attempt, status: str) -> None:
    """Add an attempt that has ended."""
    activity.attempts.append(msgspec.structs.replace(attempt, status=status))
    activity.started = activity.started or attempt.started or attempt.ended
    activity.status = status


_READERS: dict[str, Callable[[_Builder, HistoryRecord, Any], None]] = {
    "call": _Builder.call,
    "checkpoint": _Builder.checkpoint,
    "copied": _Builder.copied,
    "cut": _Builder.cut,
    "invoked": _Builder.invoked,
    "resumed": _Builder.resumed,
    "request": _Builder.request,
    "metadata": _Builder.attached,
    "ended": _Builder.ended,
}

"""The trace of a run: a tree of spans, in the two shapes that clients know.

Both are the same facts. The **current** one is what the JavaScript helpers and dashboards ask for, the
**older** one what the Python and Go helpers do. They differ in names, in when attempts are children, and in
what shows the end of the function:

                            current                                 older
    root                    `Run`                                   the function's slug
    a step tried once       one span, with the answer's status      one span
    a step tried again      children `Attempt 0`, `Attempt 1`, …    the same
    a step that failed      `Attempt`s only if tried again          `Attempt`s always, and counts them
    sleep under way         WAITING                                 RUNNING, with one `Attempt 0`
    invoke under way        RUNNING                                 RUNNING, with one `Attempt 0`
    a call under way        `Execution`, with its attempts          `execute`, with its attempts
    a call that is due      nothing                                 `Queued step`
    the end                 `Finalization`, and an                  `function success`, `function error`,
                            `executor.nonstep` for each attempt     or `execute` if it was tried again

Where the reference server shows what is not so (a step of a cancelled run that goes on waiting, an attempt
that never comes after an error that is not retried, a run failed by the server that looks completed), this
shows what is.
"""

from __future__ import annotations

import msgspec

from perdure.core.expressions import compile_expression, interpolate
from perdure.core.model import RunStatus
from perdure.errors import ExpressionError
from perdure.reading.outputs import OutputName
from perdure.reading.port import WholeRun
from perdure.reading.spans import (
    STEP_OPS,
    RunInfo,
    Span,
    StepInfo,
    activity_output,
    attempt_spans,
    span_id,
    step_info,
)
from perdure.reading.timeline import (
    COMPLETED,
    FAILED,
    QUEUED,
    REQUESTS,
    RUNNING,
    WAITING,
    Activity,
    Timeline,
    read_timeline,
)

NO_PARENT = "0" * 16
"""Parent of the root in the current rendering."""

SKIPPED_ROOT = "executor.run"
"""The root's name in the current rendering of a run that was skipped (protocol §6.9)."""


def current_trace(whole: WholeRun, timeline: Timeline | None = None) -> Span:
    """The trace of a run as `trace(preview: true)` gives it."""
    name = SKIPPED_ROOT if whole.run.status == RunStatus.SKIPPED else "Run"
    return _Current(whole, timeline or read_timeline(whole), name).render()


def older_trace(whole: WholeRun, slug: str, timeline: Timeline | None = None) -> Span:
    """The trace of a run as `trace` gives it; `slug` is that of its function."""
    return _Older(whole, timeline or read_timeline(whole), slug).render()


class _Rendering:
    """What both renderings share."""

    def __init__(self, whole: WholeRun, timeline: Timeline, name: str) -> None:
        self.whole = whole
        self.run = whole.run
        self.timeline = timeline
        run = whole.run
        self.root = Span(
            "root",
            span_id(run.id, "root"),
            None,
            name,
            run.status,
            run.created_at,
            scheduled=run.created_at,
            started=run.started_at,
            ended=run.ended_at,
            is_root=True,
            metadata=timeline.metadata.get("", []),
            children=[],
        )

    def render(self) -> Span:
        """The whole tree."""
        self.finish_root()
        if self.run.status == RunStatus.SKIPPED:
            self.root.skip_reason = self.timeline.reason or None
            self.root.skip_existing = self.timeline.holder or None
            return self.root
        for activity in self.timeline.activities:
            if activity.step_id:
                span = self.step(activity)
                span.metadata = self.timeline.metadata.get(activity.step_id, [])
                span.copied_from = activity.copied_from or None
                self.root.children.append(span)
            elif activity.end:
                self.root.children += self.end(activity)
            else:
                self.root.children += self.calls(activity)
        return self.root

    def finish_root(self) -> None:
        raise NotImplementedError

    def step(self, activity: Activity) -> Span:
        raise NotImplementedError

    def end(self, activity: Activity) -> list[Span]:
        raise NotImplementedError

    def calls(self, activity: Activity) -> list[Span]:
        raise NotImplementedError

    def child(self, activity: Activity, name: str, key: str = "") -> Span:
        """A span below the root."""
        key = key or activity.key
        return Span(
            key,
            span_id(self.run.id, key),
            self.root.span_id,
            name,
            activity.status,
            activity.queued,
            attempts=activity.attempts[-1].number if activity.attempts else 0,
            started=activity.started,
            ended=activity.ended,
            step_id=activity.step_id or None,
            children=[],
        )

    def info(self, activity: Activity) -> StepInfo | None:
        """What is shown of a step besides its times."""
        return step_info(activity, self.expression(activity))

    def expression(self, activity: Activity) -> str | None:
        """A wait's expression with the trigger's values filled in, None if it has none."""
        text = activity.expression
        if not text or not self.whole.events:
            return text or None
        try:
            trigger = msgspec.json.decode(self.whole.events[0].body, type=dict[str, object])
            return interpolate(compile_expression(text), trigger)
        except (ExpressionError, msgspec.DecodeError):
            return text


class _Current(_Rendering):
    def finish_root(self) -> None:
        root, run = self.root, self.run
        root.parent_id = NO_PARENT
        root.output_id = OutputName(run.id, "root").text()
        if run.ended_at is not None and run.status != RunStatus.SKIPPED:
            root.code = 0 if run.status == RunStatus.CANCELLED else self.timeline.code

    def step(self, activity: Activity) -> Span:
        span = self.child(activity, activity.name)
        tries = activity.attempts
        again = len(tries) > 1
        last = tries[-1].op if tries else activity.op
        op = STEP_OPS.get("StepRun" if again and activity.op not in REQUESTS else last or activity.op)
        self._mark(span, activity, op)
        span.output_id = activity_output(self.run.id, activity)
        if activity.until or activity.op in ("Sleep", "InvokeFunction"):
            span.queued = span.scheduled = activity.started or activity.queued
        elif tries:
            span.scheduled = tries[0].scheduled
        if again:
            span.children = attempt_spans(self.run.id, span, activity)
            for child, attempt in zip(span.children, tries, strict=True):
                self._mark(child, activity, STEP_OPS.get(attempt.op) if attempt.op else op)
        elif tries and tries[0].ended is not None:
            span.code = tries[0].code
        return span

    def _mark(self, span: Span, activity: Activity, op: str | None) -> None:
        span.step_op = op
        span.step_type = op or ""
        span.info = RunInfo(activity.type or None) if op == "RUN" else self.info(activity)

    def end(self, activity: Activity) -> list[Span]:
        spans = [] if activity.server else [self._finalization(activity)]
        for place, attempt in enumerate(activity.attempts):
            span = self.child(activity, "executor.nonstep", f"{activity.key}/nonstep/{place}")
            span.status, span.attempts = attempt.status, attempt.number
            span.queued, span.scheduled = attempt.queued, attempt.scheduled
            span.started, span.ended = attempt.started, attempt.ended
            last = place == len(activity.attempts) - 1
            name = OutputName(self.run.id, "end") if last else None
            if name is None and attempt.entry:
                name = OutputName(self.run.id, "entry", str(attempt.entry))
            span.output_id = name.text() if name is not None else None
            spans.append(span)
        if not activity.attempts:
            span = self.child(activity, "executor.nonstep")
            span.output_id = activity_output(self.run.id, activity)
            spans.append(span)
        return spans

    def _finalization(self, activity: Activity) -> Span:
        span = self.child(activity, "Finalization")
        span.step_type = "FINALIZATION"
        if len(activity.attempts) > 1 or activity.status == FAILED:
            span.children = attempt_spans(self.run.id, span, activity)
        elif activity.attempts:
            span.code = activity.attempts[0].code
        return span

    def calls(self, activity: Activity) -> list[Span]:
        if activity.status == QUEUED:
            return []
        span = self.child(activity, "Execution")
        span.children = attempt_spans(self.run.id, span, activity)
        return [span]


class _Older(_Rendering):
    def finish_root(self) -> None:
        if self.run.status in (RunStatus.COMPLETED, RunStatus.FAILED):
            self.root.output_id = OutputName(self.run.id, "root").text()
        self.root.scheduled = None

    def step(self, activity: Activity) -> Span:
        span = self.child(activity, activity.name)
        tries = activity.attempts
        failed = activity.status == FAILED and bool(tries)
        last = tries[-1].op if tries else activity.op
        span.step_op = STEP_OPS.get(last or activity.op)
        span.info = self.info(activity) or (RunInfo(activity.type) if activity.type else None)
        span.output_id = activity_output(self.run.id, activity)
        if failed:
            span.attempts = len(tries)
        if failed or len(tries) > 1:
            span.children = attempt_spans(self.run.id, span, activity)
            for child in span.children:
                child.step_op, child.code, child.scheduled = span.step_op, None, None
        elif activity.op in ("Sleep", "InvokeFunction") and activity.status in (WAITING, RUNNING):
            span.status = RUNNING
            span.children = [self._waiting(span, activity)]
        return span

    def _waiting(self, parent: Span, activity: Activity) -> Span:
        key = f"{parent.key}/0"
        return Span(
            key,
            span_id(self.run.id, key),
            parent.span_id,
            "Attempt 0",
            RUNNING,
            activity.started or activity.queued,
            started=activity.started,
            step_op=parent.step_op,
            info=parent.info,
        )

    def end(self, activity: Activity) -> list[Span]:
        tries = activity.attempts
        failed = activity.status == FAILED
        name = "function success"
        if failed:
            name = "execute" if len(tries) > 1 and not activity.server else "function error"
        span = self.child(activity, name)
        span.output_id = activity_output(self.run.id, activity)
        if failed and not activity.server:
            span.attempts = len(tries)
        if (failed and not activity.server) or len(tries) > 1:
            span.children = self._attempts(span, activity)
        return [span]

    def calls(self, activity: Activity) -> list[Span]:
        if activity.status == QUEUED:
            return [self.child(activity, "Queued step")]
        span = self.child(activity, "execute")
        if activity.status == COMPLETED or len(activity.attempts) > 1 or activity.status == RUNNING:
            span.children = self._attempts(span, activity)
        return [span]

    def _attempts(self, span: Span, activity: Activity) -> list[Span]:
        children = attempt_spans(self.run.id, span, activity)
        for child in children:
            child.code, child.scheduled = None, None
        return children

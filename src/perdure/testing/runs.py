"""Runs as a test looks at them. Nothing here is a copy: each look shows how things are now."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

import msgspec

import perdure
from perdure.core.model import CALLING, ItemKind
from perdure.protocol.ids import hash_step_id
from perdure.reading.outputs import read_error
from perdure.reading.port import HistoryRecord, StepRecord, WholeRun
from perdure.reading.timeline import Activity, read_timeline
from perdure.sdk import codec
from perdure.sdk.events import Event, read_event
from perdure.sdk.memo import read_memo
from perdure.testing.clock import moment
from perdure.testing.failures import Failure, UnknownStep, near
from perdure.testing.timeline import draw

if TYPE_CHECKING:
    from perdure.testing.engine import Engine

Out = TypeVar("Out")
Status = Literal["queued", "running", "completed", "failed", "cancelled", "skipped"]
StepStatus = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
_USES = 1_000
"""So many uses of one step id are told apart by number."""

_KINDS = {
    "Sleep": "sleep",
    "WaitForEvent": "wait_for_event",
    "WaitForSignal": "wait_for_signal",
    "InvokeFunction": "invoke",
    "Gateway": "fetch",
    "AIGateway": "ai.infer",
}
_WAITS = {"event": "event", "invoke": "function", "signal": "signal"}


class RunError(NamedTuple):
    """An error as it was recorded: the name of the exception, its message, and its traceback as text."""

    name: str
    message: str
    stack: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.message}"


class Attempt(NamedTuple):
    """One try of a step. `number` counts from 0."""

    number: int
    status: StepStatus
    error: RunError | None
    at: datetime


class Wait(NamedTuple):
    """Something that a run waits for, until `until` at the latest.

    `kind` is `event`, `signal`, `function` (an invoked one), `sleep`, or `retry`. `name` is that of the event or the
    signal, or the slug of the function; `expression` the condition that an event must meet.
    """

    kind: str
    step: str
    name: str
    until: datetime
    expression: str | None = None


class RunStep:
    """A step of a run.

    `kind` is `run`, `sleep`, `wait_for_event`, `wait_for_signal`, `invoke`, `fetch`, `ai.infer` or `ai.wrap`; `index`
    numbers the uses of one id from 0.
    """

    def __init__(self, run: Run[Any], activity: Activity, memo: bytes | None) -> None:
        self._run = run
        self._activity = activity
        self._memo = memo
        self.id = activity.name
        self.index = _index(activity)
        self.kind = "ai.wrap" if activity.type == "step.ai.wrap" else _KINDS.get(activity.op, "run")
        self.status = cast("StepStatus", activity.status.lower())
        self.timed_out = bool(activity.timed_out)
        """Whether a wait ended without what was waited for."""

    def __repr__(self) -> str:
        return f"<step {self.id!r} {self.status}>"

    @property
    def output(self) -> Any:
        """What it gave, as plain JSON; of a wait the event. None until it has ended, and if it failed."""
        if self._memo is None:
            return None
        wrapped = None if self._activity.op == "WaitForEvent" else read_memo(self._memo)
        if wrapped is None:
            return codec.plain(self._memo)
        return None if wrapped.data is msgspec.UNSET else codec.plain(bytes(wrapped.data))

    @property
    def error(self) -> RunError | None:
        """Why it failed: for good, or (while it is tried again) the last time."""
        wrapped = None if self._memo is None else read_memo(self._memo)
        if wrapped is not None and wrapped.error is not msgspec.UNSET:
            return read_run_error(bytes(wrapped.error))
        if self._memo is not None:
            return None
        return next((one.error for one in reversed(self.attempts) if one.error is not None), None)

    @property
    def attempts(self) -> list[Attempt]:
        """Its tries, the one under way included. A sleep or a wait has none."""
        return [
            Attempt(
                one.number,
                cast("StepStatus", one.status.lower()),
                self._run._error_of(one.entry),
                moment(one.ended or one.started or one.scheduled),
            )
            for one in self._activity.attempts
        ]

    @property
    def until(self) -> datetime | None:
        """When a sleep or a wait ends at the latest."""
        return moment(self._activity.until) if self._activity.until else None

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return None if self._activity.ended is None else moment(self._activity.ended)

    @property
    def child(self) -> Run[Any] | None:
        """The run that an invoke started."""
        child = self._activity.invoked_run
        return Run(self._run._engine, child) if child else None


class Run(Generic[Out]):
    """A run. What `output` gives is of the type that the function is annotated to return."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine = engine
        self.id = run_id

    def __repr__(self) -> str:
        return f"<run of {self.function}: {self.status}, {len(self.steps)} steps>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    # What it is

    @property
    def function(self) -> str:
        """The slug of its function."""
        return self._engine.slug_of(self._whole.run.function_id)

    @property
    def status(self) -> Status:
        """`queued`, `running`, `completed`, `failed`, `cancelled` or `skipped`."""
        return cast("Status", self._whole.run.status.lower())

    @property
    def ended(self) -> bool:
        """Whether it will never change again."""
        return self._whole.run.ended_at is not None

    @property
    def output(self) -> Out:
        """What the function returned. Raises `Failure` if it has not (yet)."""
        run = self._whole.run
        if run.status != "COMPLETED" or run.output is None:
            raise self._failure("has no output, since it has not completed")
        function = self._engine.function(self.function)
        decode = codec.plain if function is None else function.decode_output
        return cast("Out", decode(run.output))

    @property
    def error(self) -> RunError | None:
        """Why it failed; None if it has not."""
        run = self._whole.run
        return read_run_error(run.output) if run.status == "FAILED" and run.output is not None else None

    @property
    def events(self) -> list[Event[Any]]:
        """The events that started it, with plain data."""
        return [read_event(event.body, codec.plain) for event in self._whole.events]

    # What it did and does

    @property
    def steps(self) -> list[RunStep]:
        """Its steps, in the order in which the code came to them."""
        memos = {step.id: step for step in self._memos}
        return [
            RunStep(self, one, memos[one.step_id].memo if one.step_id in memos else None)
            for one in read_timeline(self._whole).activities
            if one.step_id
        ]

    def step(self, step_id: str, index: int = 0) -> RunStep:
        """A step by its id, the use number `index` of it. Raises `UnknownStep`."""
        steps = self.steps
        for step in steps:
            if (step.id, step.index) == (step_id, index):
                return step
        same = [step.index for step in steps if step.id == step_id]
        hint = f" It has the uses {same} of it." if same else near(step_id, (step.id for step in steps))
        use = f" number {index}" if index else ""
        raise UnknownStep(
            f'The run of {self.function} has no step "{step_id}"{use}.{hint}\n\n{self.timeline()}'
        )

    def has_step(self, step_id: str) -> bool:
        """Whether its code has come to a step."""
        return any(step.id == step_id for step in self.steps)

    @property
    def waits(self) -> list[Wait]:
        """What it waits for."""
        whole = self._whole
        waits = {wait.n: wait for wait in whole.waits}
        activities = {one.step_id: one for one in read_timeline(whole).activities}
        tried = {one.attempts[-1].scheduled: one.name for one in activities.values() if one.attempts}
        found = []
        for item in whole.items:
            until = moment(item.due)
            activity = activities.get(item.step_id)
            if item.kind == ItemKind.SLEEP:
                found.append(Wait("sleep", item.name, "", until))
            elif item.kind == ItemKind.WAIT and item.n in waits:
                wait = waits[item.n]
                kind = _WAITS.get(wait.kind, wait.kind)
                name = wait.event
                if activity is not None and kind != "event":
                    name = activity.function if kind == "function" else activity.event
                found.append(Wait(kind, item.name, name, until, wait.expression))
            elif item.due > self._engine.clock.ms and item.kind in (*CALLING, ItemKind.REQUEST):
                step = item.name or tried.get(item.due, "")
                found.append(Wait("retry" if item.attempt else "start", step, "", until))
        return found

    @property
    def sent(self) -> list[Event[Any]]:
        """The events that its code has sent, with plain data."""
        ids = self._engine.sent.get(self.id, [])
        found = {event.internal_id: event for event in self._engine.reads.events()}
        return [read_event(found[one].body, codec.plain) for one in ids if one in found]

    @property
    def children(self) -> list[Run[Any]]:
        """The runs that its steps invoked."""
        return [child for step in self.steps if (child := step.child) is not None]

    # Looking closely

    def timeline(self) -> str:
        """What happened to it, for people: each step with its time, its tries, and what came of it."""
        return draw(self, self._engine.clock.ms, self._whole.run.created_at)

    def export(self) -> dict[str, Any]:
        """All that is known of it as one document, as `perdure export` writes it: `replay_export` takes it."""
        from perdure.server.exporting import export_document

        engine, whole = self._engine, self._whole
        state = engine.shard.state
        row = state.function_rows[whole.run.function_id]
        raw = export_document(
            whole, self._memos, row, state.apps.get(row.app_id), perdure.__version__, engine.clock.ms
        )
        document: dict[str, Any] = msgspec.json.decode(raw)
        return document

    def assert_completed(self) -> Run[Out]:
        """Fails with the timeline if the run has not completed. Gives the run back."""
        if self.status != "completed":
            raise self._failure("should have completed")
        return self

    def assert_failed(self, error: str | type[BaseException] = "", *, match: str = "") -> RunError:
        """Fails with the timeline if the run has not failed, by an error of this name, whose message has `match` in
        it (a regular expression). Gives the error back.
        """
        name = error if isinstance(error, str) else error.__name__
        found = self.error
        if found is None:
            raise self._failure("should have failed")
        if name and found.name != name:
            raise self._failure(f"should have failed with {name}, not {found.name}")
        if match and not re.search(match, found.message):
            raise self._failure(f"should have failed with a message that has {match!r} in it")
        return found

    def assert_waits_for(self, name: str) -> Wait:
        """Fails with the timeline if the run does not wait for this event or signal, or in this step. Gives the wait
        back.
        """
        for wait in self.waits:
            if name in (wait.name, wait.step):
                return wait
        raise self._failure(f'should wait for "{name}"')

    def assert_steps(self, *step_ids: str) -> None:
        """Fails with the timeline if these are not the ids of the steps that have finished, in the order in which they
        did.
        """
        activities = {one.step_id: one.name for one in read_timeline(self._whole).activities}
        found = [activities.get(step.id, step.name) for step in self._memos]
        if found != list(step_ids):
            raise self._failure(f"should have finished the steps {list(step_ids)}, not {found}")

    def _failure(self, what: str) -> Failure:
        return Failure(f"The run of {self.function} {what}.\n\n{self.timeline()}")

    @property
    def _whole(self) -> WholeRun:
        return self._engine.whole(self.id)

    @property
    def _memos(self) -> list[StepRecord]:
        return self._engine.reads.steps(self.id)

    def _error_of(self, entry: int) -> RunError | None:
        """The error that an entry of the history holds."""
        found: HistoryRecord | None = next((one for one in self._whole.history if one.n == entry), None)
        if not entry or found is None:
            return None
        raw = _NOTE.decode(found.body).error
        return None if raw is msgspec.UNSET else read_run_error(bytes(raw))


class _Note(msgspec.Struct):
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_NOTE = msgspec.json.Decoder(_Note)


def read_run_error(raw: bytes) -> RunError:
    """An error from the JSON that an app or the server gave for it."""
    read = read_error(raw)
    return RunError(read.name, read.message, read.stack)


def _index(activity: Activity) -> int:
    """Which use of its id a step is."""
    ids: Callable[[int], str] = lambda index: hash_step_id(activity.name, index)  # noqa: E731
    return next((index for index in range(_USES) if ids(index) == activity.step_id), 0)

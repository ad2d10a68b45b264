"""Runs as a test looks at them. Nothing here is a copy: each look shows how things are now."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

import msgspec

import perdure
from perdure.core.model import CALLING, ItemKind
from perdure.reading.port import HistoryRecord, StepRecord, WholeRun
from perdure.reading.timeline import read_timeline
from perdure.sdk import codec
from perdure.sdk.events import Event, read_event
from perdure.sdk.middleware import Chain, Payload
from perdure.testing.clock import moment
from perdure.testing.failures import Failure, UnknownStep, near
from perdure.testing.logs import LogLine
from perdure.testing.run_steps import RunError, RunStep, read_run_error
from perdure.testing.timeline import draw

if TYPE_CHECKING:
    from perdure.testing.engine import Engine

Out = TypeVar("Out")
Status = Literal["queued", "running", "completed", "failed", "cancelled", "skipped"]
_WAITS = {"event": "event", "invoke": "function", "signal": "signal"}


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
        return cast("Out", decode(self._incoming(run.output, Payload("function", self.function))))

    @property
    def error(self) -> RunError | None:
        """Why it failed; None if it has not."""
        run = self._whole.run
        return read_run_error(run.output) if run.status == "FAILED" and run.output is not None else None

    @property
    def events(self) -> list[Event[Any]]:
        """The events that started it, with plain data."""
        return [read_event(self._event_in(event.body), codec.plain) for event in self._whole.events]

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
        return [read_event(self._event_in(found[one].body), codec.plain) for one in ids if one in found]

    @property
    def children(self) -> list[Run[Any]]:
        """The runs that its steps invoked."""
        return [child for step in self.steps if (child := step.child) is not None]

    @property
    def logs(self) -> list[LogLine]:
        """What its code has logged, from INFO on, each line once."""
        return list(self._engine.logs.lines[self.id])

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

    def _incoming(self, raw: bytes, payload: Payload) -> bytes:
        """A value as the function's code gets it: middleware may have changed what the engine keeps."""
        function = self._engine.function(self.function)
        chain = None if function is None else function.chain
        return raw if chain is None else chain.incoming(raw, payload)

    def _event_in(self, raw: bytes) -> bytes:
        function = self._engine.function(self.function)
        return event_in(None if function is None else function.chain, raw)

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


def event_in(chain: Chain | None, raw: bytes) -> bytes:
    """An event as code gets it."""
    if chain is None or raw[:1] != b"{":
        return raw
    name = msgspec.json.decode(raw, type=_Named).name
    return chain.member_in(raw, "data", Payload("event", name))


class _Named(msgspec.Struct):
    name: str = ""

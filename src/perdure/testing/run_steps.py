"""The steps of a run, as a test looks at them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import msgspec

from perdure.protocol.ids import hash_step_id
from perdure.reading.outputs import read_error
from perdure.reading.timeline import Activity
from perdure.sdk import codec
from perdure.sdk.memo import read_memo
from perdure.sdk.middleware import Payload
from perdure.testing.clock import moment
from perdure.testing.logs import LogLine, Progress

if TYPE_CHECKING:
    from perdure.testing.runs import Run

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
_TRIED = frozenset(("run", "ai.wrap"))


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
        if self._activity.op == "WaitForEvent":
            return codec.plain(self._run._event_in(self._memo))
        wrapped = read_memo(self._memo)
        if wrapped is None:
            return codec.plain(self._memo)
        if wrapped.data is msgspec.UNSET:
            return None
        return codec.plain(self._run._incoming(bytes(wrapped.data), Payload("step", self.id)))

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
        """Its tries, the one under way included. A sleep, a wait, and a step that a rerun has copied have none."""
        found = [
            Attempt(
                one.number,
                cast("StepStatus", one.status.lower()),
                self._run._error_of(one.entry),
                moment(one.ended or one.started or one.scheduled),
            )
            for one in self._activity.attempts
        ]
        if not found and self.kind in _TRIED and self.ended_at is not None and not self._activity.copied_from:
            # The only try of a step that a running call has posted is not kept apart from the step.
            return [Attempt(0, self.status, None, self.ended_at)]
        return found

    @property
    def logs(self) -> list[LogLine]:
        """What it has logged."""
        return [line for line in self._run.logs if line.step == self.id]

    @property
    def progress(self) -> Progress | None:
        """How far it has said to be, with `step.progress`."""
        return self._run._engine.logs.progress.get((self._run.id, self._activity.step_id))

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
        return type(self._run)(self._run._engine, child) if child else None


def read_run_error(raw: bytes) -> RunError:
    """An error from the JSON that an app or the server gave for it."""
    read = read_error(raw)
    return RunError(read.name, read.message, read.stack)


def _index(activity: Activity) -> int:
    """Which use of its id a step is."""
    uses = range(_USES)
    return next((use for use in uses if hash_step_id(activity.name, use) == activity.step_id), 0)

"""What the server tells, as these commands use it, and as `--json` prints it.

The queries name each field as it is called here, so that one set of names serves for reading and printing.
Times are RFC 3339 text, durations milliseconds; statuses are the server's words in capitals.
"""

from __future__ import annotations

import msgspec

COMPLETED = "COMPLETED"
ENDED = frozenset((COMPLETED, "FAILED", "CANCELLED", "SKIPPED"))
"""Statuses of runs and spans to which nothing more will happen."""
NULL = msgspec.Raw(b"null")


class ErrorText(msgspec.Struct):
    """An error of an app or of the server."""

    name: str
    message: str
    stack: str | None = None


class FunctionName(msgspec.Struct):
    """Which function."""

    id: str
    slug: str
    name: str


class StepInfo(msgspec.Struct, omit_defaults=True):
    """What is known of a step besides its times; which fields there are goes by `kind`."""

    kind: str
    until: str | None = None
    event_name: str | None = None
    expression: str | None = None
    signal: str | None = None
    function: str | None = None
    run_id: str | None = None
    found_event_id: str | None = None
    timeout: str | None = None
    timed_out: bool | None = None


class HttpAnswer(msgspec.Struct):
    """The app's answer to a call."""

    status: int


class FromStep(msgspec.Struct):
    """The step that a rerun began at; `input` is JSON text if it was edited."""

    id: str
    name: str
    input: str | None = None


class Span(msgspec.Struct, kw_only=True):
    """One line of a trace. `attempt` counts from 0; `op` is None for what is no step.

    `copied_from` is the run that the step was copied from. `input` is there for a step whose input was edited.
    """

    name: str
    status: str
    op: str | None = None
    step_id: str | None = None
    attempt: int | None = None
    queued_at: str
    scheduled_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    duration_ms: int | None = None
    http: HttpAnswer | None = None
    info: StepInfo | None = None
    copied_from: str | None = None
    input: msgspec.Raw = NULL
    skipped_for: str | None = None
    output_id: str | msgspec.UnsetType | None = msgspec.UNSET
    output: msgspec.Raw = NULL
    error: ErrorText | None = None
    children: list[Span] = []


class Run(msgspec.Struct, kw_only=True):
    """A run, as lists show it."""

    id: str
    status: str
    function: FunctionName
    event_name: str | None = None
    event_ids: list[str]
    cron: str | None = None
    queued_at: str
    started_at: str | None = None
    ended_at: str | None = None
    original_run_id: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED


class StepReport(msgspec.Struct):
    """What a step tells of itself: how far it is (0 to 1), its last sign of life, and what its lines amount to.

    `step` is None for the function's own code.
    """

    step: str | None
    name: str
    attempt: int = 0
    progress: float | None = None
    message: str = ""
    at: str = ""
    lines: int = 0
    dropped_lines: int = 0


class LogLine(msgspec.Struct):
    """A line that a step has logged. `fields` is what was given besides the message, an object or null."""

    n: int
    at: str
    step: str | None
    attempt: int
    level: str
    logger: str
    message: str
    fields: msgspec.Raw = NULL


class LogPage(msgspec.Struct):
    """Lines of a run, in order; there is `more` after the last one."""

    lines: list[LogLine]
    steps: list[StepReport]
    more: bool = False


class TracedRun(Run, kw_only=True):
    """A run with all that happened to it. `events` are those that started it, `reason` is why it ended as it did."""

    batch_id: str | None = None
    reason: str | None = None
    from_step: FromStep | None = None
    events: msgspec.Raw = NULL
    output: msgspec.Raw = NULL
    error: ErrorText | None = None
    trace: Span | None = None
    steps: list[StepReport] = []
    """What its steps tell of themselves."""
    logs: list[LogLine] | msgspec.UnsetType = msgspec.UNSET
    """Their lines, where they were asked for."""


class Trigger(msgspec.Struct):
    """What starts a function: an event's name or a schedule."""

    type: str
    value: str
    condition: str | None = None


class Function(msgspec.Struct):
    """A function that an app has registered. `paused` is what happens to its new runs: `hold` or `skip`.

    `overrides` (an object, or null) are the parts of its configuration that a person has set in place of the code's.
    """

    id: str
    slug: str
    name: str
    triggers: list[Trigger] | None
    paused: str | None = None
    overrides: msgspec.Raw = NULL


class App(msgspec.Struct):
    """An app with its functions. `error` is why its last sync was refused."""

    id: str
    name: str
    url: str | None
    sdk_language: str
    sdk_version: str
    error: str | None
    functions: list[Function]


class SentEvent(msgspec.Struct):
    """An event that was taken, and the runs that it has started; None where they may not be read."""

    id: str
    name: str
    runs: list[str] | None

"""What can be asked of a shard.

A command from outside carries a future that is answered after the commit of what it caused. Commands are
decided again, as they are, when the batch they were decided in turns out void: whatever they need to be
recognised then (ids, receipts) is given to them before the first decision.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec

from perdure.core.flow.admission import NO_KEYS, Keys, Origin, Pause
from perdure.core.functions import Function
from perdure.core.model import FromStep
from perdure.protocol.calls import CallAnswer, CallFailure
from perdure.protocol.events import IncomingEvent
from perdure.protocol.metadata import MetadataRequest
from perdure.protocol.ops import Op
from perdure.protocol.registration import Registration
from perdure.protocol.replies import Reply
from perdure.shard.job import Job
from perdure.shard.rows import AppRow, EventRow, ItemRef, KeyRef
from perdure.shard.travel import Timer

NO_KEY = KeyRef("", "", "")
NO_ITEM = ItemRef(0, "", 0)


@dataclass(slots=True, eq=False)
class Command:
    """Root of all commands.

    `future` is answered when its outcome is on disk; `faults` is 2 once applying it has broken the state in
    memory.
    """

    future: asyncio.Future[object] | None = None
    faults: int = 0
    redo: bool = False
    """Whether it was decided before in a batch that is void now."""
    loaded: bool = False
    """Whether the store has been asked for its run."""

    def again(self) -> None:
        """Make ready for another decision from fresh state."""
        self.redo, self.loaded = True, False

    @property
    def run_id(self) -> str | None:
        """The run it is about, if it is about one."""
        return None

    def cost(self) -> int:
        """Roughly how many bytes it holds."""
        return 256


@dataclass(slots=True, eq=False)
class ReceiveEvents(Command):
    """Store events and match them. The answer is None; ids were given before.

    `receipts` holds the receipt of each event once the shard has drained the command. `target` names the
    one function that an invocation is for.
    """

    events: list[IncomingEvent] = field(default_factory=list)
    received_at: int = 0
    internal: bool = False
    target: str | None = None
    receipts: list[int] = field(default_factory=list)
    landed: bool = False
    """Whether it turned out to be on disk already, although its commit seemed to fail."""
    matches: list[EventMatch] = field(default_factory=list)

    def again(self) -> None:
        Command.again(self)
        self.matches = []

    def cost(self) -> int:
        """Size of the bodies."""
        return sum(len(event.body) for event in self.events) + 256


class ParsedEvent:
    """An event that is decoded when something first needs its values, and then once."""

    __slots__ = ("_value", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._value: dict[str, object] | None = None

    def value(self) -> dict[str, object]:
        """The event as expressions see it."""
        if self._value is None:
            self._value = msgspec.json.decode(self.body, type=dict[str, object])
        return self._value


class Target(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The one function that an event is for: invoked by a step (`correlation`), or by its schedule (`cron`)."""

    function_id: str
    correlation: str | None = None
    cron: str | None = None

    def encode(self) -> str:
        """As an outbox row keeps it."""
        return msgspec.json.encode(self).decode()


@dataclass(slots=True, eq=False)
class ContinueEvent(Command):
    """Go on matching an event that is stored already.

    From its triggers (`stage` 0), or with waits after `after`; or start its `target` only.
    """

    receipt: int = 0
    stage: int = 0
    after: tuple[str, str, int] = ("", "", 0)
    event: EventRow | None = None
    match: EventMatch | None = None
    target: Target | None = None


@dataclass(slots=True, eq=False)
class EventMatch:
    """What the store was asked about one event: functions it starts, and waits it may end."""

    functions: list[Function] = field(default_factory=list)
    flow_keys: dict[str, Keys] = field(default_factory=dict)
    """The keys of the rules of those functions that have such, by function."""
    found: dict[KeyRef, bytes] = field(default_factory=dict)
    """What stands under these keys, and under those of the event itself."""
    parsed: ParsedEvent | None = None
    """The event, decoded if that was needed."""
    waits: list[tuple[str, int]] = field(default_factory=list)
    more: tuple[str, str, int] | None = None
    """Path, run id and n from where to go on, if not all waits were found."""


@dataclass(slots=True, eq=False)
class FireRule(Command):
    """A rule of a function is due: events that it held back are to start a run. `ref` is the key of its state.

    The fields after it are what was read: the state, the events, and what stands under the keys of the first.
    """

    function_id: str = ""
    ref: KeyRef = NO_KEY
    timer: str = ""
    item: ItemRef = NO_ITEM
    state: bytes | None = None
    events: list[EventRow] = field(default_factory=list)
    origin: Origin = Origin.DEBOUNCE
    keys: Keys = NO_KEYS
    found: dict[KeyRef, bytes] = field(default_factory=dict)
    ready: bool = False


@dataclass(slots=True, eq=False)
class TellInvoker(Command):
    """A step has invoked a function that does not run, and its run has left memory: it is read, and told so."""

    run: str = ""
    correlation: str = ""
    memo: bytes = b""

    @property
    def run_id(self) -> str | None:
        return self.run


@dataclass(slots=True, eq=False)
class LookBack(Command):
    """A wait looks at events of its name that were received at `since` (ms) or later, before it began."""

    run: str = ""
    n: int = 0
    since: int = 0
    ref: KeyRef = NO_KEY
    item: ItemRef = NO_ITEM
    events: list[EventRow] = field(default_factory=list)
    behind: bool = False
    """Whether the events received before the wait began have been decided."""
    ready: bool = False

    @property
    def run_id(self) -> str | None:
        return self.run


@dataclass(slots=True, eq=False)
class CallEnded(Command):
    """A call to an app, or a request for a run, has ended."""

    run: str = ""
    n: int = 0
    generation: int = 0
    result: CallAnswer | CallFailure | None = None
    signals: dict[str, tuple[str, int] | None] | None = None
    """Who waits for the signals that the answer names, once the store was asked."""
    reply: Reply | None = None
    """The answer as it was read; None for requests, and until it is read."""

    def again(self) -> None:
        Command.again(self)
        self.signals = None

    @property
    def run_id(self) -> str | None:
        return self.run

    def cost(self) -> int:
        """Size of the answer."""
        return 256 + (len(self.result.body) if isinstance(self.result, CallAnswer) else 0)


@dataclass(slots=True, eq=False)
class Checkpoint(Command):
    """A running call posts finished steps. The answer is None, or a `RequestError` is raised.

    `took` is how long (ms) the app had the call until then, by its own clock, if it says.
    """

    run: str = ""
    n: int = 0
    generation: int | None = None
    ops: list[Op] = field(default_factory=list)
    took: int | None = None

    @property
    def run_id(self) -> str | None:
        return self.run

    def cost(self) -> int:
        """Size of the step results."""
        return 256 + sum(len(op.data) for op in self.ops)


@dataclass(slots=True, eq=False)
class CallWanted(Command):
    """Ask whether a call under way is still wanted: its run lives, and no other call has taken it over.

    The answer says so.
    """

    run: str = ""
    n: int = 0
    generation: int = 0

    @property
    def run_id(self) -> str | None:
        return self.run


@dataclass(slots=True, eq=False)
class ExplainRun(Command):
    """Say why a run waits; nothing changes. The answer is a `shard.why.Why`, or None if the run is unknown."""

    run: str = ""

    @property
    def run_id(self) -> str | None:
        return self.run


@dataclass(slots=True, eq=False)
class CancelRun(Command):
    """Cancel a run. The answer is its status before, or None if it is unknown.

    No event tells of a `quiet` one.
    """

    run: str = ""
    quiet: bool = False

    @property
    def run_id(self) -> str | None:
        return self.run


@dataclass(slots=True, eq=False)
class Rerun(Command):
    """Run a run again from its events. The answer is the new run's id, or None if the old one is unknown.

    With `from_step` the steps that finished before that one are copied; if it has not finished, all that have.
    """

    run: str = ""
    from_step: FromStep | None = None
    memos: dict[str, bytes] = field(default_factory=dict)
    """Results of the old run's steps that memory may have dropped."""
    flow_keys: dict[str, Keys] = field(default_factory=dict)
    """The keys of the function's rules, by run; and what was read under them."""
    found: dict[KeyRef, bytes] = field(default_factory=dict)
    asked: bool = False
    made: str = ""
    """The run that it has created. If that commit landed although it seemed to fail, there is not to be another."""

    def again(self) -> None:
        Command.again(self)
        self.asked = False

    @property
    def run_id(self) -> str | None:
        return self.run

    def cost(self) -> int:
        """Size of the edited input."""
        return 256 + (len(self.from_step.arguments or b"") if self.from_step is not None else 0)


@dataclass(slots=True, eq=False)
class AddMetadata(Command):
    """Attach values to a run, or to a step of it. The answer says whether the run is known."""

    run: str = ""
    request: MetadataRequest | None = None

    @property
    def run_id(self) -> str | None:
        return self.run

    def cost(self) -> int:
        """Size of the values."""
        updates = self.request.updates if self.request is not None else ()
        return 256 + sum(update.size() for update in updates)


@dataclass(slots=True, eq=False)
class SendSignal(Command):
    """Give a signal to its waiter.

    The answer is the run's id, or None if nobody waits. `data` is raw JSON.
    """

    signal: str = ""
    data: bytes = b"null"
    holder: tuple[str, int] | None = None
    looked: bool = False

    def again(self) -> None:
        Command.again(self)
        self.looked = False

    def cost(self) -> int:
        """Size of the data."""
        return 256 + len(self.data)


@dataclass(slots=True, eq=False)
class RegisterApp(Command):
    """Take in an app's registration. The answer is a `Registered`."""

    registration: Registration | None = None
    method: str = "SERVE"

    def cost(self) -> int:
        """Size of the configurations."""
        functions = self.registration.functions if self.registration is not None else ()
        return 256 + sum(len(function.raw) for function in functions)


@dataclass(slots=True, eq=False)
class PutApp(Command):
    """Store what came of a failed sync. The answer is None.

    An app that is known keeps all of its row but the error and the time.
    """

    app: AppRow | None = None


@dataclass(slots=True, eq=False)
class RemoveApp(Command):
    """Archive an app and its functions. The answer says whether it was known."""

    app_id: str = ""


@dataclass(slots=True, eq=False)
class OverrideLimits(Command):
    """Set (or with None remove) the limits of steps and state of one function.

    The answer says whether it was found.
    """

    slug: str = ""
    steps: int | None = None
    state_bytes: int | None = None
    change: str = ""


@dataclass(slots=True, eq=False)
class PauseFunction(Command):
    """Let a function take no new runs, or take them again (`Pause.NO`). The answer says whether it was found."""

    slug: str = ""
    pause: Pause = Pause.HOLD


@dataclass(slots=True, eq=False)
class OverrideConfig(Command):
    """Put a part of a function's configuration in place of the code's; None goes back to the code.

    The answer says whether the function was found. A part that is refused raises `RequestError` 400.
    """

    slug: str = ""
    overrides: bytes | None = None


@dataclass(slots=True, eq=False)
class StartJob(Command):
    """Begin a job over many runs. The answer is the `Job`."""

    job: Job | None = None


@dataclass(slots=True, eq=False)
class StepJob(Command):
    """Act on a page of the runs of a job, which was at `before` and then is at `cursor`. The answer is the `Job`.

    It is not acted upon if the job is somewhere else by now, as after a commit that landed though it seemed to
    fail. `last` says that there are no more runs.
    """

    job_id: str = ""
    before: tuple[int, str] | None = None
    cursor: tuple[int, str] | None = None
    run_ids: list[str] = field(default_factory=list)
    last: bool = False
    flow_keys: dict[str, Keys] = field(default_factory=dict)
    found: dict[KeyRef, bytes] = field(default_factory=dict)
    asked: bool = False

    def again(self) -> None:
        Command.again(self)
        self.asked = False


@dataclass(slots=True, eq=False)
class StopJob(Command):
    """End a job where it is. The answer is the `Job`, or None if it is unknown.

    `reason` is there if nobody wished it: the job cannot go on.
    """

    job_id: str = ""
    reason: str = ""


@dataclass(slots=True, eq=False)
class MoveClock(Command):
    """Move the clock on by `by_ms`, or to the next time at which something is due. The answer is a `Travel`.

    With 0 it only tells where the clock stands. Raises `RequestError` if it cannot go there.
    """

    by_ms: int = 0
    to_next: bool = False
    ahead: int | None = None
    """How far ahead (ms) the clock is to be, once that has been found out."""
    timers: list[Timer] = field(default_factory=list)
    ready: bool = False

    def again(self) -> None:
        Command.again(self)
        self.ready = False


@dataclass(slots=True, eq=False)
class CatchUp(Command):
    """Wait until every event accepted before has been matched. The answer is the receipt after the last of them.

    Two with the same answer, one after the other: nothing was accepted between them, by the server itself neither.
    """

    receipt: int = 0


@dataclass(slots=True, eq=False)
class ForgetKeys(Command):
    """From now on every function may run again for every key (a help for tests). The answer is None.

    Limits that were set for single functions go as well.
    """


@dataclass(slots=True, frozen=True)
class Registered:
    """Outcome of a registration."""

    app_id: str
    modified: bool

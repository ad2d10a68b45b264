"""A plan: what one decision about one run would change.

Planning reads a `Run` and fills a `Plan`; nothing of the run changes until the shard applies it. A plan
that raises on the way is simply dropped, which is what keeps one bad answer from harming anything but its
own run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from perdure.core.model import Group, Item, ItemKind, Run, RunStatus, WaitKind
from perdure.core.settings import Settings
from perdure.protocol.failures import ErrorInfo, OpError


class SavedStep(msgspec.Struct, frozen=True, gc=False):
    """A step to record. `memo` is the JSON that later calls carry for it."""

    id: str
    name: str
    op: str
    memo: bytes


class NewWait(msgspec.Struct, frozen=True, gc=False):
    """The wait that stands beside a new item of kind WAIT.

    Events received up to `lookback` ms before it end it too.
    """

    kind: WaitKind
    event: str
    path: str = ""
    value: str = ""
    expression: str | None = None
    lookback: int = 0


class Invocation(msgspec.Struct, frozen=True, gc=False):
    """A run of another function to start for a step. `payload` parts are raw JSON."""

    function_id: str
    data: bytes
    user: bytes
    v: str | None
    meta: bytes | None
    expires_at: int


class NewItem(msgspec.Struct, frozen=True):
    """An item to add. `invocation` is set when adding it also starts the invoked run."""

    kind: ItemKind
    step_id: str
    name: str
    due: int
    attempt: int = 0
    group: int = Group.NONE
    data: bytes | None = None
    wait: NewWait | None = None
    invocation: Invocation | None = None


class Retry(msgspec.Struct, frozen=True, gc=False):
    """An item that will be tried again."""

    n: int
    due: int
    attempt: int


class Outcome(msgspec.Struct, frozen=True):
    """How a run ends. `output` is its raw JSON output; `error` the texts that failure events carry.

    No event tells of a `quiet` end. `reason` says in words why it was cancelled.
    """

    status: RunStatus
    output: bytes | None = None
    error: ErrorInfo | None = None
    quiet: bool = False
    reason: str = ""


def failure(error: OpError) -> Outcome:
    """How a run ends that the server itself must fail."""
    return Outcome(RunStatus.FAILED, error.output(), error.info())


@dataclass(slots=True, frozen=True)
class Context:
    """What planning needs to know besides the run.

    `receipt` is the newest receipt of the shard: only later events can end a wait that begins now.
    `attempts` is the number of tries of the function. `find_function` gives the id of a function by slug or
    id, or None. `jitter` gives a random number in [0, 1). `signals` says who waits for the signals that the
    answer names: (run id, n), or None for nobody.
    `ahead` is how far (ms) `now` is ahead of the clocks of apps, by travel in time.
    """

    now: int
    receipt: int
    attempts: int
    settings: Settings
    find_function: Callable[[str], str | None]
    jitter: Callable[[], float]
    signals: Mapping[str, tuple[str, int] | None]
    ahead: int = 0

    @property
    def app_now(self) -> int:
        """The time (ms) by the clocks of apps.

        A time that an app names is read by its clock, and so lies `ahead` later by ours: a Python app says `sleep for
        30 days` as the time at which they are over.
        """
        return self.now - self.ahead

    def by_our_clock(self, moment: int | None) -> int | None:
        """A time (ms) by the clocks of apps, by ours."""
        return None if moment is None else moment + self.ahead


@dataclass(slots=True)
class Plan:
    """The changes to one run, in the order in which they were decided."""

    run: Run
    now: int
    saved: list[SavedStep] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    retried: list[Retry] = field(default_factory=list)
    added: list[NewItem] = field(default_factory=list)
    history: list[tuple[str, bytes]] = field(default_factory=list)
    freed_signals: list[tuple[str, int]] = field(default_factory=list)
    """Waits of other runs (run id, n) that lose their signal to this one."""
    version: int | None = None
    parallel: bool = False
    reset_attempt: int | None = None
    """`n` of an item in flight whose attempts start anew."""
    idle_replies: int | None = None
    """What the run's count becomes; None leaves it as it is."""
    outcome: Outcome | None = None
    saved_ids: set[str] = field(default_factory=set)
    busy: set[str] | None = None
    """Ids of steps with something under way; made on first use."""

    def knows(self, step_id: str) -> bool:
        """Whether the step is recorded, or recorded by this plan."""
        return step_id in self.run.steps or step_id in self.saved_ids

    def pending(self, step_id: str) -> bool:
        """Whether something is already under way for the step."""
        if self.busy is None:
            self.busy = {
                item.step_id for item in self.run.items.values() if item.kind is not ItemKind.DISCOVERY
            }
        return step_id in self.busy

    def add(self, item: NewItem) -> None:
        """Add an item for a step."""
        self.added.append(item)
        if self.busy is not None:
            self.busy.add(item.step_id)

    def left(self) -> Iterator[Item]:
        """Items of the run that this plan does not end, and that lead on."""
        ended = self.ended
        return (
            item
            for n, item in self.run.items.items()
            if item.kind is not ItemKind.DEADLINE and n not in ended
        )

    def retry(self, item: Item, due: int, attempt: int) -> None:
        """Try an item again at `due`."""
        self.retried.append(Retry(item.n, due, attempt))

    def stack_size(self) -> int:
        """Number of finished steps once the plan is applied."""
        return len(self.run.steps) + len(self.saved)

    def save(self, step_id: str, name: str, op: str, memo: bytes) -> bool:
        """Record a step unless it is recorded already: the first result wins. Says whether it was new."""
        if self.knows(step_id):
            return False
        self.saved.append(SavedStep(step_id, name, op, memo))
        self.saved_ids.add(step_id)
        self.idle_replies = 0
        return True

    def discover(self) -> None:
        """Ask the app what is next, at most once for one state of the stack."""
        size = b"%d" % self.stack_size()
        for item in self.added:
            if item.kind is ItemKind.DISCOVERY and item.data == size:
                return
        for known in self.left():
            if (
                known.kind is ItemKind.DISCOVERY
                and not known.in_flight
                and known.attempt == 0
                and known.data == size
            ):
                return
        self.added.append(NewItem(ItemKind.DISCOVERY, "", "", self.now, data=size))

    def finish_item(self, item: Item) -> None:
        """End an item whose step has finished, and ask what is next where its group says so.

        A lone step is followed by a discovery at once; a step of a WAIT group when it is the last of the
        set; one of a RACE group always.
        """
        self.ended.append(item.n)
        if not (item.group == Group.WAIT and self.group_left()):
            self.discover()

    def group_left(self) -> bool:
        """Whether steps of a parallel set are still under way."""
        return any(item.group for item in self.left()) or any(item.group for item in self.added)

    def stuck(self) -> bool:
        """Whether nothing more would happen to the run."""
        return not self.added and next(self.left(), None) is None

    def check_limits(self, settings: Settings) -> None:
        """Fail the run if what the plan records brings it over the limits of steps or state."""
        if not self.saved or self.outcome is not None:
            return
        if self.stack_size() > settings.steps_per_run:
            limit = f"The function run exceeded the step limit of {settings.steps_per_run} steps."
            self.outcome = failure(OpError("InngestErrFunctionOverflowed", limit))
        elif self.run.state_bytes + sum(len(step.memo) for step in self.saved) > settings.state_bytes:
            limit = f"The function run exceeded the state size limit of {settings.state_bytes} bytes."
            self.outcome = failure(OpError("InngestErrStateOverflowed", limit))

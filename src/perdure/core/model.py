"""The nouns of the engine: runs, their steps, items and waits, as they live in memory.

A **run** is one execution of a function. What it has finished are its **steps** (in the order in which they
finished: the stack). What is still to happen to it are its **items**: a call to make, a sleep to end, a
wait to time out, a request to send for it. A **wait** stands beside the item that times it out, and says
which event ends it sooner. A live run always has at least one item that leads on: that is what makes a stuck run
impossible. Beside these may stand **guards**: a deadline (an item that cancels the run), and waits for
events that cancel it.

Only the shard changes these objects, and only by applying a `core.plan.Plan`; planning itself reads them.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.core.flow.admission import RunFlow


class RunStatus(StrEnum):
    """Status of a run. The last four are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"

    @property
    def ended(self) -> bool:
        """Whether a run in this status will never change again."""
        return self not in (RunStatus.QUEUED, RunStatus.RUNNING)


class ItemKind(StrEnum):
    """What an item makes happen when it is due."""

    DISCOVERY = "discovery"
    """Call the app to find out what is next (`stepId=step`)."""
    STEP = "step"
    """Call the app to run one planned step (`stepId=<hash>`)."""
    SLEEP = "sleep"
    """Record that a sleep is over."""
    WAIT = "wait"
    """Time out a wait for an event, an invoked function or a signal."""
    REQUEST = "request"
    """Make an HTTP request on behalf of the run (`step.fetch`, `step.ai.infer`)."""
    DEADLINE = "deadline"
    """Cancel the run: it has not begun, or not ended, in time. `data` says which, `start` or `finish`."""
    RULE = "rule"
    """A rule of a function is due: a schedule, or an event that was held back. Belongs to no run."""


FIRST_ITEM = 2
"""`n` of the item that a run starts with: 1 is the entry of its history that says it was queued."""

CALLING = frozenset((ItemKind.DISCOVERY, ItemKind.STEP))
"""Kinds of items that call the app, and so take a place in the app's gate."""


class Part:
    """The queues of a function. Any other name is a line: calls that need the same places, and wait for them."""

    TIMERS = "t"
    """What happens at a time: the end of a sleep or a wait, a deadline, a call that is put off, a rule."""
    CALLS = "c"
    """Calls that need no places."""
    REQUESTS = "r"
    HELD = "h"
    """First calls of runs that wait until their function is resumed."""


STANDARD_PARTS = frozenset((Part.TIMERS, Part.CALLS, Part.REQUESTS, Part.HELD))


class Group:
    """How an item belongs to a set of parallel steps: one of these numbers."""

    NONE = 0
    """It stands alone."""
    WAIT = 1
    """One discovery follows when the last of the set has finished."""
    RACE = 2
    """A discovery follows each that finishes."""


class WaitKind(StrEnum):
    """What ends a wait."""

    EVENT = "event"
    INVOKE = "invoke"
    SIGNAL = "signal"
    CANCEL = "cancel"
    """It ends the run."""


class Step(msgspec.Struct, gc=False):
    """A finished step. `memo` is the JSON that calls carry for it; None when it is not kept in memory."""

    id: str
    position: int
    name: str
    op: str
    memo: bytes | None
    size: int
    at: int


class Item(msgspec.Struct):
    """Something that will happen to a run at `due` (ms since the epoch).

    `n` numbers what belongs to a run; it never repeats. `attempt` counts from 0. `generation` is the number
    of times that this item was sent to an app: it rises, and is committed, before each call, so that an
    answer to an older call can be told. `recoveries` counts restarts of the server that found the call
    under way. `group` is one of `Group`; `data` holds what the kind needs (JSON). `part` is the queue that it
    stands in, `rank` its place there.
    """

    n: int
    kind: ItemKind
    step_id: str
    name: str
    due: int
    queued_at: int
    attempt: int = 0
    generation: int = 0
    recoveries: int = 0
    in_flight: bool = False
    group: int = Group.NONE
    data: bytes | None = None
    sent_at: int = 0
    part: str = ""
    rank: int = 0


class Wait(msgspec.Struct, gc=False):
    """A wait of a run; it shares `n` with the item that times it out. One that cancels has none, but ends at
    `until` (ms; 0 for never).

    Only events with a receipt above `since` can end it. `path` and `value` are the equality by which it is
    found (`data.userId`, `"7"`), both empty if its expression has none. `expression` is CEL, or None.
    """

    n: int
    kind: WaitKind
    event: str
    path: str
    value: str
    expression: str | None
    since: int
    until: int = 0


class FromStep(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where a rerun begins: at the step `id`. `input` is the JSON list of arguments to run it with, if edited."""

    id: str
    name: str
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    def encode(self) -> bytes:
        """As it is stored."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, stored: bytes) -> FromStep:
        """From what `encode` made."""
        return _FROM_STEP.decode(stored)

    @property
    def arguments(self) -> bytes | None:
        """The edited input, as JSON."""
        return None if self.input is msgspec.UNSET else bytes(self.input)


_FROM_STEP = msgspec.json.Decoder(FromStep)


class Run(msgspec.Struct):
    """One execution of a function, as it lives in memory.

    `receipts` are the shard's numbers of its trigger events, in order of arrival: before and after are
    decided by them, never by the time in an event's ULID, which comes from the client's clock. `events` are
    their bodies. `version` is the request version that the app's SDK pinned, -1 until then; `parallel`
    whether parallel steps were ever planned. `correlation` is set when the run was invoked by a step:
    `<run id>.<step hash>`. `state_bytes` is the size of all memos together. `seq` is the next `n` of an item
    or history entry. `idle_replies` counts answers in a row that brought nothing new. `flow` is what the run
    keeps of its admission, None if no rule bears on it; `flow_row` is the same as it is stored. `batch_id` is set
    for a batch, `cron` is the schedule that started it. `from_step` is where a rerun began that was
    not to begin at the start.
    """

    id: str
    function_id: str
    status: RunStatus
    receipts: list[int]
    event_ids: list[str]
    events: list[bytes]
    event_name: str
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None
    version: int = -1
    parallel: bool = False
    correlation: str | None = None
    original_run_id: str | None = None
    output: bytes | None = None
    flow: RunFlow | None = None
    flow_row: bytes | None = None
    batch_id: str | None = None
    cron: str | None = None
    from_step: FromStep | None = None
    steps: dict[str, Step] = {}
    items: dict[int, Item] = {}
    waits: dict[int, Wait] = {}
    state_bytes: int = 0
    memos_resident: bool = True
    idle_replies: int = 0
    seq: int = 1
    commit: int = 0
    """Number of the last batch that changed the run."""

    @property
    def edited_step(self) -> FromStep | None:
        """The step that is to run with edited input, until it has finished."""
        step = self.from_step
        if step is None or step.input is msgspec.UNSET or step.id in self.steps:
            return None
        return step

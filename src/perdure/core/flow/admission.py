"""Admission: what becomes of an event that met a function. The order of all rules, in one place.

It takes two steps, since a pure function cannot look anything up. `ask` computes the keys of the rules that may
apply; the caller reads what is stored under them; `admit` decides. All in the order of the protocol:

     1  the trigger's expression                   has been tried before: `core.functions`
     2  the event was taken by the function before dropped
     3  batch, if its `if` holds                   collected; nothing further applies
     4  rate limit, idempotency                    dropped if there is no place
     5  debounce                                   held; nothing further applies
     6  singleton                                  skipped, or the holder is cancelled
     7  the function is paused                     skipped, or started but held
     8  a run is created                           its timeout of start begins, its cancellations are armed
     9  in its turn: throttle, then concurrency    `turns`

(2) stands first, where the protocol has it behind the singleton: the caller remembers the event ids that each
function took, so an event delivered twice takes no second place of a rate limit and joins no second batch. Ids
of events that were dropped are not remembered: sent again later they may pass.

A rate limit counts every event before it is debounced. When a debounce fires, and when a person runs a run again,
3, 4 and 5 have been passed; when a batch fires, 2 to 6 have been, and neither cancellations nor the timeout of
start apply to it. A pause is looked at before a holder is cancelled: a run that will not execute takes nobody's
place.

A decision about a debounce or a batch can carry another that was over before this event (`fires`); the caller
starts that one first, by admitting its event again with the origin DEBOUNCE or BATCH.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from perdure.core.flow import batch, debounce, rate_limit, singleton
from perdure.core.flow.batch import BatchDecision, BatchState
from perdure.core.flow.concurrency import Need
from perdure.core.flow.debounce import DebounceDecision, DebounceState
from perdure.core.flow.keys import Key
from perdure.core.flow.rate_limit import RateState
from perdure.core.flow.rules import FlowRules
from perdure.core.flow.singleton import SingletonAction
from perdure.core.flow.stored import Arrival, Stored
from perdure.core.flow.timeouts import start_deadline


class Origin(StrEnum):
    """Where a run would come from."""

    EVENT = "event"
    """An event, an invocation or a schedule."""
    DEBOUNCE = "debounce"
    """A debounce that is over."""
    BATCH = "batch"
    """A batch that is complete; its first event stands for it."""
    RERUN = "rerun"
    """A person runs a run again."""


class Pause(StrEnum):
    """What a paused function does with new runs."""

    NO = "no"
    SKIP = "skip"
    HOLD = "hold"


class Keys(msgspec.Struct, frozen=True, gc=False):
    """The keys under which the caller looks. None: that rule does not apply to the event."""

    batch: Key | None = None
    rate_limit: Key | None = None
    debounce: Key | None = None
    singleton: Key | None = None
    problems: tuple[str, ...] = ()


class Known(msgspec.Struct, frozen=True, gc=False):
    """What the caller found.

    `taken` whether the function took an event with this id before, `holder` the live run that has the singleton's
    key, the others what is stored under their keys.
    """

    taken: bool = False
    batch: BatchState | None = None
    rate_limit: RateState | None = None
    debounce: DebounceState | None = None
    holder: str | None = None
    pause: Pause = Pause.NO


class RunFlow(Stored, frozen=True):
    """What a run keeps of its admission, computed once.

    `order` is its place in line (ms; the smallest first) and that of all its calls, so that runs which began
    first end first; `start_at` when it is due. `singleton` is the key that it holds. `problems` are keys that
    could not be computed, in words, to be shown on the run. `ranked` tells that its place in line was computed from
    its event, so that its calls stand in line even if they need nothing.
    """

    order: int
    start_at: int
    steps: tuple[Need, ...] = ()
    runs: tuple[Need, ...] = ()
    throttle: Need | None = None
    singleton: Key | None = None
    problems: tuple[str, ...] = ()
    ranked: bool = False

    @property
    def matters(self) -> bool:
        """Whether there is anything in it that a run must keep."""
        return bool(
            self.steps or self.runs or self.throttle or self.singleton or self.problems or self.ranked
        )


class Drop(msgspec.Struct, frozen=True, gc=False):
    """No run, and the event's id is not remembered.

    `reason` is `duplicate`, or `rate_limited`: then `free_at` is when (ms) a place is free again. `rate_limit` is
    to be stored, if there is one.
    """

    reason: str
    key: Key | None = None
    free_at: int = 0
    rate_limit: tuple[Key, RateState] | None = None


class Collect(msgspec.Struct, frozen=True, gc=False):
    """The event is part of a batch: store, or run, what `decision` says."""

    key: Key
    decision: BatchDecision


class Hold(msgspec.Struct, frozen=True, gc=False):
    """The event is debounced: store what `decision` says. `rate_limit` is to be stored too, if there is one."""

    key: Key
    decision: DebounceDecision
    rate_limit: tuple[Key, RateState] | None


class Skip(msgspec.Struct, frozen=True, gc=False):
    """A run record that says it was skipped. `reason` is `Singleton` (with the holder) or `FunctionPaused`."""

    reason: str
    holder: str | None
    rate_limit: tuple[Key, RateState] | None


class Start(msgspec.Struct, frozen=True, gc=False):
    """A run is created.

    `cancel` is a run that must be ended first. `held` is a start that waits until the function is resumed.
    `deadline` is when (ms) it is cancelled if it has not begun. `cancellable` is False for a batch: its
    function's cancellations are not armed.
    """

    flow: RunFlow
    cancel: str | None
    held: bool
    deadline: int | None
    cancellable: bool
    rate_limit: tuple[Key, RateState] | None


Admission = Drop | Collect | Hold | Skip | Start

NO_KEYS = Keys()


def ask(rules: FlowRules, event: dict[str, object], origin: Origin, now: int) -> Keys:
    """The keys of the rules that may apply to the event."""
    fresh = origin is Origin.EVENT
    if fresh and rules.batch is not None and rules.batch_condition.collects(event, now):
        key = rules.batch_key.bucket(event, now)
        return Keys(batch=key, problems=_problems(key))
    limited = held = single = None
    if fresh and rules.rate_limit is not None:
        limited = rules.rate_key.bucket_if_any(event, now)
    if fresh and rules.debounce is not None:
        held = rules.debounce_key.bucket(event, now)
    if rules.singleton is not None and origin is not Origin.BATCH:
        single = rules.singleton_key.bucket_if_any(event, now)
    if limited is held is single is None:
        return NO_KEYS
    problems = _problems(limited, held, single)
    if single is not None and single.problem is not None:
        # A singleton whose key fails leaves the event alone.
        single = None
    return Keys(None, limited, held, single, problems)


def admit(
    rules: FlowRules,
    keys: Keys,
    known: Known,
    event: Mapping[str, object],
    arrival: Arrival,
    origin: Origin,
    now: int,
    batch_id: str = "",
    ahead: int = 0,
) -> Admission:
    """What becomes of the event. `keys` are those of `ask`; `batch_id` is the id of a batch that it opens.

    `ahead` is how far (ms) `now` is ahead of the clock by which its sender wrote `arrival.ts`.
    """
    if known.taken:
        return Drop("duplicate")
    if keys.batch is not None and rules.batch is not None:
        return Collect(keys.batch, batch.add(rules.batch, known.batch, arrival, now, batch_id))
    place = None
    if keys.rate_limit is not None and rules.rate_limit is not None:
        limited = rate_limit.take(rules.rate_limit, known.rate_limit, now)
        place = (keys.rate_limit, limited.state) if limited.changed else None
        if not limited.allowed:
            return Drop("rate_limited", keys.rate_limit, limited.free_at, place)
    if keys.debounce is not None and rules.debounce is not None:
        return Hold(keys.debounce, debounce.add(rules.debounce, known.debounce, arrival, now), place)
    cancel = None
    if keys.singleton is not None and rules.singleton is not None:
        single = singleton.decide(rules.singleton, known.holder)
        if single.action is SingletonAction.SKIP:
            return Skip("Singleton", single.holder, place)
        cancel = single.holder
    if known.pause is Pause.SKIP:
        return Skip("FunctionPaused", None, place)
    return start(
        rules, event, arrival.ts + ahead, origin, now, known.pause is Pause.HOLD, keys, cancel, place
    )


def start(
    rules: FlowRules,
    event: Mapping[str, object],
    due: int,
    origin: Origin,
    now: int,
    held: bool = False,
    keys: Keys = NO_KEYS,
    cancel: str | None = None,
    rate_limit: tuple[Key, RateState] | None = None,
) -> Start:
    """The start of a run that no rule with a key has stopped: all that there is to decide where there are none.

    `due` is the time (ms) of its event.
    """
    of_batch = origin is Origin.BATCH
    start_at = now if of_batch or due < now else due
    order = rules.priority.order(event, start_at, now) if rules.ranked else start_at
    needs = rules.concurrency.needs(event, now)
    problems = keys.problems + needs.problems
    throttle = None
    if rules.throttle is not None:
        throttle, problem = rules.throttle_need(event, now)
        problems += () if problem is None else (problem,)
    flow = RunFlow(order, start_at, needs.steps, needs.runs, throttle, keys.singleton, problems, rules.ranked)
    deadline = None if of_batch else start_deadline(rules.timeouts, start_at)
    return Start(flow, cancel, held, deadline, not of_batch, rate_limit)


def _problems(*keys: Key | None) -> tuple[str, ...]:
    return tuple(key.problem for key in keys if key is not None and key.problem is not None)

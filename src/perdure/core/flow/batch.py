"""Batch: events of a function are collected, and one run gets them all.

Each key has a buffer. The first event opens it and starts its timer. The run starts when the buffer holds
`max_size` events, when their bodies come to 10 MiB, or when the timer ends, whichever is first; a buffer whose
timer ends with a single event is a batch of one. The order within a batch is that of arrival. An event for which
`if` is false, or cannot be computed, is not collected and starts a run of its own at once.

Why no event is lost or in two batches. A buffer is one row; an event is added in the commit that stores it, and
the row is deleted in the commit that creates the run. An id that is in the buffer already is not added again, and
the caller remembers the ids that the function took before (as for every other run). An event that arrives when
the timer is over, but was not handled yet, finds that buffer complete (`fires`) and opens the next one, so what a
batch holds does not depend on how busy the server was.

A buffer that is longer than a `max_size` lowered in the meantime runs as it is.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.core.expressions import Expression, compile_expression
from perdure.core.flow.stored import Arrival, Stored
from perdure.errors import ExpressionError
from perdure.protocol.functions import Batch

MAX_BYTES = 10 * 1024 * 1024
"""Bytes of bodies at which a batch runs (protocol, limits). The event that reaches it is still part of it."""


class BatchAction(StrEnum):
    """What an event does to a batch."""

    OPENED = "opened"
    ADDED = "added"
    FULL = "full"
    DUPLICATE = "duplicate"


class BatchState(Stored, frozen=True):
    """A buffer. `events` are ids and receipts in order of arrival; times are in ms since 1970."""

    id: str
    created_at: int
    due: int
    bytes: int
    events: dict[str, int]


class BatchDecision(msgspec.Struct, frozen=True, gc=False):
    """What an event does to the batch of its key.

    `state` is the buffer with the event: to be stored, or to be run if `action` is FULL (then nothing is stored).
    `fires` is an earlier buffer whose time was over: it runs now too, before. `sooner` tells that the buffer is due
    before the time that was set for it, as when the rule has become shorter meanwhile.
    """

    action: BatchAction
    state: BatchState
    fires: BatchState | None = None
    sooner: bool = False


class BatchCondition:
    """The `if` of a batch, compiled once."""

    __slots__ = ("_expression", "_text")

    def __init__(self, text: str | None) -> None:
        self._text = text
        self._expression: Expression | None = None
        if text is not None:
            try:
                self._expression = compile_expression(text)
            except ExpressionError:
                self._expression = None

    def collects(self, event: dict[str, object], now: int) -> bool:
        """Whether an event is collected; False if it runs alone."""
        if self._text is None:
            return True
        if self._expression is None:
            return False
        try:
            return self._expression.is_true({"event": event}, now)
        except ExpressionError:
            return False


def add(rule: Batch, state: BatchState | None, event: Arrival, now: int, batch_id: str) -> BatchDecision:
    """Take an event into the batch of its key. `batch_id` is the id of the batch if this one opens it."""
    if state is not None and event.id in state.events:
        return BatchDecision(BatchAction.DUPLICATE, state)
    fires = None
    if state is not None and (now >= state.due or is_full(rule, state)):
        fires, state = state, None
    sooner = False
    if state is None:
        state = BatchState(batch_id, now, now + rule.timeout_ms, event.size, {event.id: event.receipt})
        action = BatchAction.OPENED
    else:
        events = {**state.events, event.id: event.receipt}
        # Also if the clock was set back, nobody waits for longer than the rule says.
        due = min(state.due, now + rule.timeout_ms)
        sooner = due < state.due
        state = BatchState(state.id, state.created_at, due, state.bytes + event.size, events)
        action = BatchAction.ADDED
    return BatchDecision(BatchAction.FULL if is_full(rule, state) else action, state, fires, sooner)


def is_full(rule: Batch, state: BatchState) -> bool:
    """Whether the batch runs without waiting for its timer."""
    return len(state.events) >= rule.max_size or state.bytes >= MAX_BYTES

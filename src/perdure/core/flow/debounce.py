"""Debounce: of a flurry of events only the last starts a run, when the flurry is over.

The first event of a key opens a debounce that is due one `period` later. Each further event takes the place of the
one that is held and moves the due time to one period from then, but not beyond `timeout` after the first event.
When it is due, one run starts, with the event that is held.

Last means last by the event's own `ts`, not by arrival: an event that is older than the one held is ignored
altogether, and does not move the due time either. Of two with the same `ts` the one that arrived later counts.

At the cap, a second of grace is left before the run starts (the protocol's smallest remaining time), so that two
events that arrive together there do not make two runs. It is granted once: whatever comes, the run starts at
most a second after `timeout`. Granted to each event, a steady stream would put the run off for ever.

A clock that was set back since the first event counts from where it is now, so it puts no run off by its jump once
another event comes.

Why it fires exactly once. The state of a key is one row; the run is created, and the row deleted, in one commit.
What the rule says depends on the times of the events alone, not on how busy the server was: an event that arrives
when the debounce is due already, but its timer was not handled yet, finds it over (`fires`) and opens the next.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from perdure.core.flow.stored import Arrival, Stored
from perdure.protocol.functions import Debounce

GRACE_MS = 1_000
"""Least time until the run starts when an event arrives at the cap (protocol, debounce)."""


class DebounceAction(StrEnum):
    """What an event does to a debounce."""

    OPENED = "opened"
    REPLACED = "replaced"
    IGNORED = "ignored"


class DebounceState(Stored, frozen=True):
    """A debounce that is open.

    `event` is the one that is held, `first_at` when the first came, `due` when the run starts (ms), `events` how
    many came so far, with those that were ignored.
    """

    event: Arrival
    first_at: int
    due: int
    events: int = 1


class DebounceDecision(msgspec.Struct, frozen=True, gc=False):
    """What an event does to the debounce of its key.

    `state` is what to store, `fires` a debounce that was over before this event: its run starts now. `sooner` tells
    that it is due before the time that was set for it, as when the rule has become shorter meanwhile. `left_out` is
    an event that will start nothing, because another has its place.
    """

    action: DebounceAction
    state: DebounceState
    fires: DebounceState | None = None
    sooner: bool = False
    left_out: Arrival | None = None


def add(rule: Debounce, state: DebounceState | None, event: Arrival, now: int) -> DebounceDecision:
    """Take an event into the debounce of its key."""
    if state is None:
        return DebounceDecision(DebounceAction.OPENED, _opened(rule, event, now))
    if now >= state.due:
        return DebounceDecision(DebounceAction.OPENED, _opened(rule, event, now), fires=state)
    first_at, events = min(state.first_at, now), state.events + 1
    if event.ts < state.event.ts:
        due = min(state.due, now + rule.period_ms)
        ignored = DebounceState(state.event, first_at, due, events)
        return DebounceDecision(DebounceAction.IGNORED, ignored, sooner=due < state.due, left_out=event)
    due = _due(rule, first_at, now)
    replaced = DebounceState(event, first_at, due, events)
    return DebounceDecision(DebounceAction.REPLACED, replaced, sooner=due < state.due, left_out=state.event)


def _opened(rule: Debounce, event: Arrival, now: int) -> DebounceState:
    return DebounceState(event, now, _due(rule, now, now))


def _due(rule: Debounce, first_at: int, now: int) -> int:
    due = now + rule.period_ms
    if rule.timeout_ms is None:
        return due
    cap = first_at + rule.timeout_ms
    if due <= cap:
        return due
    return min(max(cap, now + GRACE_MS), cap + GRACE_MS)

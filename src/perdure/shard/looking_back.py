"""Waits that see the recent past.

An event that arrives just before a wait for it begins is lost by the protocol's rule: only later events count. A server
can be told to look back a little, and so can a single wait. Such a wait has a timer of a rule beside it that is due at
once: the events of its name that were received in that time are read, and the first that meets it ends it, as though it
had come later. No event ends two waits of one run, and the run's own events end none.
"""

from __future__ import annotations

import msgspec

from perdure.core.model import Run, WaitKind
from perdure.core.planning import plan_match
from perdure.shard.commands import LookBack, ParsedEvent
from perdure.shard.keys import timer_id
from perdure.shard.matching import holds
from perdure.shard.rows import KeyRef
from perdure.shard.state import State


def look_back(state: State, command: LookBack) -> None:
    """End the wait with the first of the events that meets it, if there is one."""
    state.drop_timer(timer_id(command.ref))
    run = state.memory.get(command.run)
    wait = run.waits.get(command.n) if run is not None else None
    if run is None or wait is None or wait.kind is not WaitKind.EVENT:
        return
    used = set(run.receipts)
    seen = _ids_of_matched(run)
    for event in command.events:
        if event.receipt > wait.since or event.receipt in used or event.id in seen:
            continue
        if holds(run, wait, ParsedEvent(event.body), state.now):
            settings = state.settings_for(run)
            state.apply(plan_match(run, wait, event.body, event.internal_id, state.now, settings))
            state.note_effect(event.internal_id, run, "wait")
            return


class _Event(msgspec.Struct):
    id: str = ""


def _ids_of_matched(run: Run) -> set[str]:
    """The ids of the events that have ended waits of the run: their bodies are what those steps hold."""
    found: set[str] = set()
    for step in run.steps.values():
        if step.op == "WaitForEvent" and step.memo not in (None, b"null"):
            assert step.memo is not None
            found.add(msgspec.json.decode(step.memo, type=_Event).id)
    return found


def read_lookback(ref: KeyRef) -> LookBack:
    """The command that the timer gives."""
    run_id, n, since = ref.key.split(".")
    return LookBack(run=run_id, n=int(n), since=int(since), ref=ref)

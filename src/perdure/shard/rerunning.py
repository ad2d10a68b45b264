"""Running a run again: a new run of the same function, from the same events.

A rerun from a step begins with the results of the steps that finished before it, in the order of the stack; the step
itself and all after it run again. They are copied when the rerun is decided, so the old run may live on, or go.
If the input of the step was edited, every call says so until the step has finished (`Run.edited_step`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from perdure.core.flow.admission import Keys, Origin
from perdure.core.functions import Function
from perdure.core.model import Run
from perdure.core.plan import SavedStep
from perdure.errors import RequestError
from perdure.protocol.events import IncomingEvent
from perdure.shard.admitting import start_function
from perdure.shard.beginning import ORDINARY, Beginning
from perdure.shard.commands import Rerun
from perdure.shard.rows import KeyRef
from perdure.shard.state import State


class _Head(msgspec.Struct):
    """The part of a stored event that a run needs besides its body."""

    name: str
    id: str
    ts: int


_HEAD = msgspec.json.Decoder(_Head)


def create_rerun(state: State, command: Rerun) -> str | None:
    """Create the new run; its id, or None if the old one is unknown.

    Raises `RequestError` 409 if the function is not served any more. A step that invoked the old run is not
    told of the new one, which has no part in the parent's waiting.
    """
    old = state.memory.get(command.run)
    if old is None:
        return None
    if command.made and state.memory.get(command.made) is not None:
        return command.made
    function: Function | None = state.functions.by_id.get(old.function_id)
    if function is None or function.archived:
        raise RequestError(409, "The function of this run is not served any more. Sync its app first.")
    how = ORDINARY
    if command.from_step is not None:
        copied = tuple(_steps_before(old, command.from_step.id, command.memos))
        how = Beginning(from_step=command.from_step, copied=copied)
    run = start_rerun(state, function, old, command.flow_keys.get(old.id), command.found, how)
    command.made = run.id
    return run.id


def start_rerun(
    state: State,
    function: Function,
    old: Run,
    keys: Keys | None,
    found: Mapping[KeyRef, bytes],
    how: Beginning = ORDINARY,
) -> Run:
    """A new run from the events of another, by the rules that bear on reruns: it may be held, or skipped."""
    how = msgspec.structs.replace(how, original_run_id=old.id, since=state.next_receipt - 1)
    origin = Origin.RERUN
    if old.batch_id is not None:
        how = msgspec.structs.replace(how, batch_id=state.new_id())
        origin = Origin.BATCH
    run, _ = start_function(state, function, _trigger_events(old), keys, found, how, origin)
    assert run is not None, "only fresh events are dropped or held back"
    return run


def _steps_before(run: Run, step_id: str, memos: Mapping[str, bytes]) -> Iterator[SavedStep]:
    """The steps that finished before this one; all if it has not finished. `memos` are for what memory has dropped."""
    for step in run.steps.values():
        if step.id == step_id:
            return
        yield SavedStep(step.id, step.name, step.op, memos[step.id] if step.memo is None else step.memo)


def _trigger_events(run: Run) -> list[tuple[int, IncomingEvent]]:
    events = []
    for receipt, internal_id, body in zip(run.receipts, run.event_ids, run.events, strict=True):
        head = _HEAD.decode(body)
        events.append((receipt, IncomingEvent(internal_id, head.name, head.id, True, head.ts, body)))
    return events

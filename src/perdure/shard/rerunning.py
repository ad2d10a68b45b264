"""Running a run again: a new run of the same function, from the same events."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perdure.core.flow.admission import Keys, Origin
from perdure.core.functions import Function
from perdure.core.model import Run
from perdure.errors import RequestError
from perdure.protocol.events import IncomingEvent
from perdure.shard.admitting import start_function
from perdure.shard.beginning import Beginning
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
    function: Function | None = state.functions.by_id.get(old.function_id)
    if function is None or function.archived:
        raise RequestError(409, "The function of this run is not served any more. Sync its app first.")
    return start_rerun(state, function, old, command.flow_keys.get(old.id), command.found).id


def start_rerun(
    state: State, function: Function, old: Run, keys: Keys | None, found: Mapping[KeyRef, bytes]
) -> Run:
    """A new run from the events of another, by the rules that bear on reruns: it may be held, or skipped."""
    how, origin = Beginning(original_run_id=old.id, since=state.next_receipt - 1), Origin.RERUN
    if old.batch_id is not None:
        how = msgspec.structs.replace(how, batch_id=state.new_id())
        origin = Origin.BATCH
    run, _ = start_function(state, function, _trigger_events(old), keys, found, how, origin)
    assert run is not None, "only fresh events are dropped or held back"
    return run


def _trigger_events(run: Run) -> list[tuple[int, IncomingEvent]]:
    events = []
    for receipt, internal_id, body in zip(run.receipts, run.event_ids, run.events, strict=True):
        head = _HEAD.decode(body)
        events.append((receipt, IncomingEvent(internal_id, head.name, head.id, True, head.ts, body)))
    return events

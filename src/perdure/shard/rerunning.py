"""Running a run again: a new run of the same function, from the same events."""

from __future__ import annotations

import msgspec

from perdure.core.functions import Function
from perdure.core.model import Run
from perdure.errors import RequestError
from perdure.protocol.events import IncomingEvent
from perdure.shard.commands import Rerun
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
    new = state.create_run(function, _trigger_events(old))
    new.original_run_id = old.id
    return new.id


def _trigger_events(run: Run) -> list[tuple[int, IncomingEvent]]:
    events = []
    for receipt, internal_id, body in zip(run.receipts, run.event_ids, run.events, strict=True):
        head = _HEAD.decode(body)
        events.append((receipt, IncomingEvent(internal_id, head.name, head.id, True, head.ts, body)))
    return events

"""Starting a run of one function, whatever its triggers."""

from __future__ import annotations

from perdure.core.functions import Function
from perdure.protocol.events import InvokeRequest, internal_event
from perdure.protocol.ids import new_ulid
from perdure.protocol.lifecycle import INVOKED, Invocation, invoked_event_data
from perdure.server.context import Server
from perdure.shard.commands import ReceiveEvents


async def invoke_function(
    server: Server, function: Function, request: InvokeRequest, internal_id: str | None = None
) -> str:
    """Start a run of the function, and give back the internal id of its event (a new one if none is given)."""
    now = server.clock.now()
    internal_id = internal_id or new_ulid(now, server.entropy(10))
    data = invoked_event_data(request.data, Invocation(fn_id=function.slug))
    event = internal_event(
        INVOKED, data, internal_id, internal_id, request.ts or now, request.user, request.meta, request.v
    )
    await server.submit(ReceiveEvents(events=[event], received_at=now, internal=True, target=function.id))
    return internal_id

"""Event ingestion: `POST /e/{key}`, and `POST /invoke/{slug}`.

Events are read while they arrive, lined up for the shard, and answered when they are on disk. Those ahead
of a bad one are kept, and their ids are in the answer.
"""

from __future__ import annotations

import asyncio

import msgspec

from perdure.errors import RequestError
from perdure.protocol.events import EventReader, IncomingEvent, event_response, internal_event, read_invoke
from perdure.protocol.ids import new_ulid, parse_seed, seed_ulid
from perdure.protocol.lifecycle import INVOKED, Invocation, invoked_event_data
from perdure.server.context import Server
from perdure.server.http import (
    TEXT_JSON,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    respond,
)
from perdure.shard.commands import ReceiveEvents

EVENTS_AT_ONCE = 100
"""Events of one request are decided in parts, so that a large request does not hold up the others."""
MAX_INVOKE_BYTES = 3 * 1024 * 1024 + 64 * 1024


async def receive_events(server: Server, scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Take in the events of a request."""
    if scope["method"] != "POST":
        await respond(send, 405, b"", TEXT_JSON)
        return
    now = server.clock.now()
    seed = parse_seed(header(scope, b"x-inngest-event-id-seed"))
    reader = EventReader(seed, now, server.entropy, header(scope, b"content-type") or "")
    try:
        server.keys.check_event_key(key)
        if not await _read(reader, receive):
            return
        await store(server, reader.events, now)
        error = reader.error
    except RequestError as refusal:
        error = refusal
        reader.events.clear()
    status, body = event_response([event.internal_id for event in reader.events], error)
    extra: Headers | None = [(b"retry-after", b"1")] if status == 503 else None
    await respond(send, status, body, TEXT_JSON, extra)


async def _read(reader: EventReader, receive: Receive) -> bool:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return False
        body = message.get("body", b"")
        if body:
            reader.feed(body)
        if reader.error is not None or not message.get("more_body"):
            reader.finish()
            return True


async def store(server: Server, events: list[IncomingEvent], now: int) -> None:
    """Give events to the shard, and wait until they are on disk.

    Raises `RequestError` 503 if it takes none.
    """
    if len(events) <= EVENTS_AT_ONCE:
        if events:
            await server.submit(ReceiveEvents(events=events, received_at=now))
        return
    parts = [events[at : at + EVENTS_AT_ONCE] for at in range(0, len(events), EVENTS_AT_ONCE)]
    await asyncio.gather(*[server.submit(ReceiveEvents(events=part, received_at=now)) for part in parts])


async def invoke(server: Server, scope: Scope, receive: Receive, send: Send, slug: str) -> None:
    """Start a run of one function. An unknown function is an error: nothing would ever come of it."""
    body = await read_body(receive, MAX_INVOKE_BYTES)
    request = read_invoke(body)
    function = server.shard.state.functions.find(slug)
    if function is None:
        raise RequestError(404, f"could not find function with ID: {slug}")
    now = server.clock.now()
    seed = parse_seed(header(scope, b"x-inngest-event-id-seed"))
    internal_id = seed_ulid(seed, 0) if seed is not None else new_ulid(now, server.entropy(10))
    data = invoked_event_data(request.data, Invocation(fn_id=function.slug))
    event = internal_event(
        INVOKED, data, internal_id, internal_id, request.ts or now, request.user, request.meta, request.v
    )
    await server.submit(ReceiveEvents(events=[event], received_at=now, internal=True, target=function.id))
    await respond(send, 200, msgspec.json.encode({"id": internal_id, "status": 200}), TEXT_JSON)

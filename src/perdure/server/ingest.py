"""Event ingestion: `POST /e/{key}`, and `POST /invoke/{slug}`.

Events are read while they arrive, lined up for the shard, and answered when they are on disk. Those ahead
of a bad one are kept, and their ids are in the answer.
"""

from __future__ import annotations

import asyncio

import msgspec

from perdure.errors import RequestError
from perdure.protocol.events import EventReader, IncomingEvent, event_response, read_invoke
from perdure.protocol.ids import parse_seed, seed_ulid
from perdure.server.context import Server
from perdure.server.http import (
    RETRY_AFTER_S,
    TEXT_JSON,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    read_parts,
    respond,
)
from perdure.server.invoking import invoke_function
from perdure.shard.commands import ReceiveEvents

EVENTS_AT_ONCE = 100
"""Events of one request are decided in parts, so that a large request does not hold up the others."""
MAX_INVOKE_BYTES = 3 * 1024 * 1024 + 64 * 1024


async def receive_events(server: Server, scope: Scope, receive: Receive, send: Send, key: str) -> None:
    """Take in the events of a request."""
    now = server.clock.now()
    refusal = server.keys.refuses_event_key(key)
    if refusal is not None:
        body = msgspec.json.encode({"status": refusal.status, "message": "", "error": refusal.message})
        await respond(send, refusal.status, body, TEXT_JSON)
        return
    seed = parse_seed(header(scope, b"x-inngest-event-id-seed"))
    reader = EventReader(seed, now, server.entropy, header(scope, b"content-type") or "")
    try:
        await _read(server, reader, receive)
        status, body = await _stored(server, reader, now)
    except RequestError as trouble:
        status, body = event_response([], _without_frames(trouble))
    extra: Headers | None = None
    if status == 503:
        extra = [(b"retry-after", b"%d" % RETRY_AFTER_S)]
    await respond(send, status, body, TEXT_JSON, extra)


async def accept(server: Server, body: bytes, seed_text: str | None) -> tuple[int, bytes]:
    """Take in the events of a body that came without HTTP: status and body of what would be the answer."""
    now = server.clock.now()
    reader = EventReader(parse_seed(seed_text), now, server.entropy, "application/json")
    reader.feed(body)
    reader.finish()
    try:
        return await _stored(server, reader, now)
    except RequestError as trouble:
        return event_response([], _without_frames(trouble))


async def _stored(server: Server, reader: EventReader, now: int) -> tuple[int, bytes]:
    """Store what was read. Raises RequestError if that cannot be done at all."""
    stored, error = await store_events(server, reader.events, now)
    ids = [event.internal_id for event in reader.events[:stored]]
    return event_response(ids, error or reader.error)


async def _read(server: Server, reader: EventReader, receive: Receive) -> None:
    """Read the body until it ends or something is wrong with it."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body = message.get("body", b"")
    if message.get("more_body"):

        def feed(part: bytes) -> bool:
            reader.feed(part)
            return reader.error is None

        await read_parts(receive, body, feed, server.intake)
    else:
        reader.feed(body)
    reader.finish()


async def store_events(
    server: Server, events: list[IncomingEvent], now: int
) -> tuple[int, RequestError | None]:
    """Give events to the shard, and wait until they are on disk.

    How many are, from the first on; and why the next ones are not.
    """
    if not events:
        return 0, None
    if len(events) <= EVENTS_AT_ONCE:
        await server.submit(ReceiveEvents(events=events, received_at=now))
        return len(events), None
    taken: list[asyncio.Future[object]] = []
    error: RequestError | None = None
    for at in range(0, len(events), EVENTS_AT_ONCE):
        try:
            part = events[at : at + EVENTS_AT_ONCE]
            taken.append(server.submit(ReceiveEvents(events=part, received_at=now)))
        except RequestError as refusal:
            error = _without_frames(refusal)
            break
    outcomes = await asyncio.gather(*taken, return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, BaseException):
            if not isinstance(outcome, RequestError):
                raise outcome
            return number * EVENTS_AT_ONCE, _without_frames(outcome)
    return min(len(taken) * EVENTS_AT_ONCE, len(events)), error


def _without_frames(error: RequestError) -> RequestError:
    """An error that is kept in a variable of a frame it came through would keep that frame, and so the body
    that was read there, until the next collection of cycles, which counts objects and not bytes.
    """
    error.__traceback__ = None
    return error


async def invoke(server: Server, scope: Scope, receive: Receive, send: Send, slug: str) -> None:
    """Start a run of one function. An unknown function is an error: nothing would ever come of it."""
    body = await read_body(receive, MAX_INVOKE_BYTES, server.intake)
    request = read_invoke(body)
    function = server.shard.state.functions.find(slug)
    if function is None:
        raise RequestError(404, f"could not find function with ID: {slug}")
    seed = parse_seed(header(scope, b"x-inngest-event-id-seed"))
    internal_id = await invoke_function(
        server, function, request, None if seed is None else seed_ulid(seed, 0)
    )
    await respond(send, 200, msgspec.json.encode({"id": internal_id, "status": 200}), TEXT_JSON)

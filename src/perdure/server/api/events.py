"""Events: the list, and what one did."""

from __future__ import annotations

import msgspec

from perdure.errors import RequestError
from perdure.protocol.events import EventReader
from perdure.protocol.ids import is_ulid
from perdure.reading.outputs import trigger_payload
from perdure.reading.port import EventRecord
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.runs import MAX_PAGE, PAGE, Run, shown_run
from perdure.server.context import Server
from perdure.server.event_fates import event_fates
from perdure.server.ingest import store_events


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """An event. `id` is the sender's own id; the payload is JSON."""

    internal_id: str
    id: str | None
    name: str
    ts: int
    received_at: int
    internal: bool
    payload: msgspec.Raw


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which events: of a name, received in a span of time, the server's own too if `internal`."""

    name: str = ""
    since: int = 0
    until: int = 2**47
    internal: bool = False
    cursor: str = ""
    limit: int = PAGE


class Events(msgspec.Struct, frozen=True):
    """A page of events. `cursor` goes on behind it, None at the end."""

    events: list[Event]
    cursor: str | None


class Effect(msgspec.Struct, frozen=True):
    """A run that an event did not start: it ended a `wait` of it, or it was its end (`cancel`)."""

    how: str
    run_id: str
    status: str


class EventDetail(msgspec.Struct, frozen=True):
    """An event, the runs that it started, and what else it did."""

    event: Event
    runs: list[Run]
    effects: list[Effect]


class Fate(msgspec.Struct, frozen=True):
    """What became of an event for one function that it met: a word (`run`, `skipped`, …) and a sentence."""

    function: str
    fate: str
    text: str
    run_ids: list[str]


class EventWhy(msgspec.Struct, frozen=True):
    """What became of an event, function by function."""

    fates: list[Fate]


class EventsBody(msgspec.Struct, frozen=True):
    """Events as an app sends them: objects with `name`, and perhaps `data`, `id`, `ts`, `user`."""

    events: list[msgspec.Raw]


class EventIds(msgspec.Struct, frozen=True):
    """The ids that the server gave to events, in their order."""

    ids: list[str]


def _event(event: EventRecord) -> Event:
    return Event(
        internal_id=event.internal_id,
        id=event.id or None,
        name=event.name,
        ts=event.ts,
        received_at=event.received_at,
        internal=event.internal,
        payload=msgspec.Raw(trigger_payload(event)),
    )


async def list_events(server: Server, asked: Asked[EventsQuery, Nothing]) -> Events:
    """Events, newest first."""
    query = asked.query
    if not 1 <= query.limit <= MAX_PAGE:
        raise RequestError(400, f"limit is {query.limit}; it must be from 1 to {MAX_PAGE}")
    if query.cursor and not is_ulid(query.cursor):
        raise RequestError(400, "cursor is not one of this list; leave it out to begin at the start")
    found = await server.reader.list_events(
        name=query.name or None,
        internal=query.internal,
        received_after=query.since - 1 if query.since else None,
        received_before=query.until,
        before=query.cursor or None,
        limit=query.limit + 1,
    )
    shown = found[: query.limit]
    return Events([_event(one) for one in shown], shown[-1].internal_id if len(found) > query.limit else None)


async def show_event(server: Server, asked: Asked[Nothing, Nothing]) -> EventDetail:
    """One event, the runs that it started, and what else it did."""
    event = await _found(server, asked.path["event_id"])
    runs = await server.reader.runs_of_event(event.internal_id)
    effects = await server.reader.effects_of_event(event.internal_id)
    return EventDetail(
        _event(event),
        [shown_run(server, run) for run in runs],
        [Effect(one.how, one.run_id, one.status) for one in effects],
    )


async def explain_event(server: Server, asked: Asked[Nothing, Nothing]) -> EventWhy:
    """What became of an event, for each function that it met."""
    event = await _found(server, asked.path["event_id"])
    fates = await event_fates(server, event)
    return EventWhy([Fate(one.function, one.fate, one.text, one.run_ids) for one in fates])


async def _found(server: Server, event_id: str) -> EventRecord:
    event = await server.reader.event(event_id.upper()) if is_ulid(event_id) else None
    if event is None:
        raise RequestError(
            404, f"there is no event {event_id[:60]}; its id here is the one that sending it gave"
        )
    return event


async def send_events(server: Server, asked: Asked[Nothing, EventsBody]) -> EventIds:
    """Send events: all of them, or none if one of them is wrong."""
    now = server.clock.now()
    reader = EventReader(None, now, server.entropy, "application/json")
    reader.feed(msgspec.json.encode(asked.body.events))
    reader.finish()
    if reader.error is not None:
        raise reader.error
    _, error = await store_events(server, reader.events, now)
    if error is not None:
        raise error
    return EventIds([event.internal_id for event in reader.events])


ENDPOINTS = [
    Endpoint("GET", "/api/events", list_events, Events, query=EventsQuery),
    Endpoint("POST", "/api/events", send_events, EventIds, body=EventsBody),
    Endpoint("GET", "/api/events/{event_id}/why", explain_event, EventWhy),
    Endpoint("GET", "/api/events/{event_id}", show_event, EventDetail),
]

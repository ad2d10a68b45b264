"""Event types: the names of events that functions know and that have come, and what the newest of them looked like."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec

from perdure.core.functions import Function, trigger_names
from perdure.errors import RequestError
from perdure.reading.observed import Field, observe
from perdure.reading.outputs import trigger_payload
from perdure.reading.port import EventRecord
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.context import Server

MOST = 2_000
"""Events that are looked at to say which names there are, the newest ones."""
PAYLOADS = 100
"""Payloads of a name that its schema is made of, the newest ones."""
PAGE = 100
MAX_SECONDS = 1.0
MAX_BYTES = 16 * 1024 * 1024
MAX_SHOWN = 500


class EventUse(msgspec.Struct, frozen=True):
    """A function that knows an event: it is started by it, or its runs are cancelled by it. `pattern` is how its code
    names the event, if that has a `*`."""

    function: str
    function_name: str
    how: Literal["start", "cancel"]
    pattern: str | None
    expression: str | None


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """A name of events. `count` of the newest events have it, the last one came at `last_at` (None: none of these)."""

    name: str
    count: int
    last_at: int | None
    uses: list[EventUse]


class EventTypes(msgspec.Struct, frozen=True):
    """Names by how often they come. `events` events were looked at, back to `since` (None if there were none)."""

    types: list[EventType]
    events: int
    since: int | None
    whole: bool


class EventTypeDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A name of events, with the fields that the data of the newest `payloads` of them had, and the newest one.

    `more` says that there are further fields.
    """

    name: str
    uses: list[EventUse]
    fields: list[Field]
    payloads: int
    more: bool
    last_at: int | None
    example: msgspec.Raw | None


async def list_event_types(server: Server, _: Asked[Nothing, Nothing]) -> EventTypes:
    """The names of events: those that functions are started by, and those of the newest events."""
    found, whole = await _newest(server, None, MOST)
    counts: dict[str, list[int]] = {}
    for event in found:
        counts.setdefault(event.name, []).append(event.received_at)
    names = list(counts) + [name for name in _known_names(server) if name not in counts]
    types = [
        EventType(
            name=name,
            count=len(counts.get(name, ())),
            last_at=max(counts[name]) if name in counts else None,
            uses=_uses(server, name),
        )
        for name in names
    ]
    types.sort(key=lambda one: (-one.count, one.name))
    return EventTypes(types[:MAX_SHOWN], len(found), found[-1].received_at if found else None, whole)


async def show_event_type(server: Server, asked: Asked[Nothing, Nothing]) -> EventTypeDetail:
    """One name of events: who uses it, and what its newest payloads have in common."""
    name = asked.path["name"]
    found, _ = await _newest(server, name, PAYLOADS)
    uses = _uses(server, name)
    if not found and not uses:
        raise RequestError(404, f"there is no event named {name[:200]!r}, and no function that knows it")
    observed = await asyncio.to_thread(lambda: observe([_data(event) for event in found]))
    return EventTypeDetail(
        name=name,
        uses=uses,
        fields=observed.fields,
        payloads=observed.payloads,
        more=observed.more,
        last_at=found[0].received_at if found else None,
        example=msgspec.Raw(trigger_payload(found[0])) if found else None,
    )


async def _newest(server: Server, name: str | None, most: int) -> tuple[list[EventRecord], bool]:
    """The newest events within the bounds, without the server's own unless one is named, and whether these are all."""
    found: list[EventRecord] = []
    before, size = None, 0
    deadline = time.monotonic() + MAX_SECONDS
    while len(found) < most and size < MAX_BYTES and time.monotonic() < deadline:
        page = await server.reader.list_events(
            name=name, internal=name is not None, before=before, limit=PAGE
        )
        found += page
        size += sum(len(event.body) for event in page)
        if len(page) < PAGE:
            return found, True
        before = page[-1].internal_id
    return found[:most], False


class _Body(msgspec.Struct):
    data: object = None


_BODY = msgspec.json.Decoder(_Body)


def _data(event: EventRecord) -> object:
    return _BODY.decode(event.body).data


def _served(server: Server) -> list[Function]:
    functions = server.shard.state.functions.by_id.values()
    return sorted((one for one in functions if not one.archived), key=lambda one: one.slug)


def _known_names(server: Server) -> list[str]:
    """The events that functions name in full."""
    names = [
        name
        for function in _served(server)
        for name in (
            *(trigger.event for trigger in function.config.triggers),
            *(cancel.event for cancel in function.config.cancel),
        )
        if name and not name.endswith("*")
    ]
    return list(dict.fromkeys(names))


def _uses(server: Server, name: str) -> list[EventUse]:
    uses = []
    patterns = set(trigger_names(name))
    for function in _served(server):
        shown = server.shard.state.function_rows[function.id].name
        for trigger in function.config.triggers:
            if trigger.event in patterns:
                pattern = trigger.event if trigger.event != name else None
                uses.append(EventUse(function.slug, shown, "start", pattern, trigger.expression or None))
        uses += [
            EventUse(function.slug, shown, "cancel", None, cancel.condition)
            for cancel in function.config.cancel
            if cancel.event == name
        ]
    return uses


ENDPOINTS = [
    Endpoint("GET", "/api/event-types", list_event_types, EventTypes),
    Endpoint("GET", "/api/event-types/{name:path}", show_event_type, EventTypeDetail),
]

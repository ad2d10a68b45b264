"""Events, with the runs that they started; the stream of both; and runs in the shape of older clients."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import Any

import msgspec
from graphql import GraphQLError

from perdure.core.model import RunStatus
from perdure.protocol.ids import ENVIRONMENT_ID
from perdure.reading.outputs import trigger_payload
from perdure.reading.port import EventRecord, RunRecord
from perdure.server.graphql.histories import history_items
from perdure.server.graphql.runs import LIVE, SCHEDULED, output_text
from perdure.server.graphql.searching import compile_query, search
from perdure.server.graphql.session import Session, checked_run_id, unknown_run
from perdure.server.graphql.values import Page, always, cursor, read_cursor, read_page, read_time, time_text
from perdure.server.searching import decoded

EVENTS_PAGE = 50
"""Events of a list that cannot be asked for another number."""
INTERNAL = "inngest/"
MAX_NAMES = 20


class EventPlace(msgspec.Struct):
    """Where an event stands in a listing."""

    id: str


# One event


def _event(session: Session, event_id: str) -> EventRecord:
    found = session.event(event_id)
    if found is None:
        raise GraphQLError(f"event not found: {event_id[:40]}")
    return found


def event(_: object, session: Session, query: dict[str, str]) -> EventRecord:
    """One event; an unknown one is an error."""
    return _event(session, query["eventId"])


def event_v2(_: object, session: Session, id: str) -> EventRecord:
    """One event; an unknown one is an error."""
    return _event(session, id)


# Lists


def events(_: object, session: Session, query: dict[str, str]) -> list[EventRecord]:
    """The newest 50 events; with `lastEventId`, the 50 before that one."""
    return _list(session, before=query.get("lastEventId"), limit=EVENTS_PAGE)


def _list(
    session: Session,
    *,
    names: list[str] | None = None,
    internal: bool = False,
    since: int | None = None,
    until: int | None = None,
    before: str | None = None,
    limit: int,
) -> list[EventRecord]:
    reader = session.server.reader

    def one(name: str | None) -> list[EventRecord]:
        return session.ask(
            lambda: reader.list_events(
                name=name,
                internal=internal and (name is None or name.startswith(INTERNAL)),
                received_after=None if since is None else since - 1,
                received_before=until,
                before=before,
                limit=limit,
            )
        )

    if not names:
        return one(None)
    lists = [one(name) for name in dict.fromkeys(names)]
    merged = heapq.merge(*lists, key=lambda found: (found.internal_id, found.receipt), reverse=True)
    return list(islice(merged, limit))


def events_v2(
    _: object,
    session: Session,
    first: int,
    filter: dict[str, Any],
    after: str | None = None,
) -> Page:
    """A page of events, newest first."""
    size = read_page(first)
    place = read_cursor(after, EventPlace)
    names = filter.get("eventNames") or []
    if len(names) > MAX_NAMES:
        raise GraphQLError(f"filter.eventNames has {len(names)} names; {MAX_NAMES} are allowed")
    wanted: dict[str, Any] = {
        "names": names,
        "internal": bool(filter.get("includeInternalEvents")),
        "since": read_time(filter["from"], "filter.from"),
        "until": read_time(filter.get("until"), "filter.until"),
    }
    before = place.id if place is not None else None
    query = filter.get("query")
    if query:
        return _search(session, wanted, before, size, query)
    listed = _list(session, **wanted, before=before, limit=size + 1)
    shown = listed[:size]
    cursors = [cursor(EventPlace(found.internal_id)) for found in shown]
    end = cursors[-1] if cursors else None
    return Page(
        list(shown), cursors, len(listed) > size, before is not None, end, lambda: _count(session, wanted)
    )


def _count(session: Session, wanted: dict[str, Any]) -> int:
    reader = session.server.reader
    since: int | None = wanted["since"]

    def one(name: str | None) -> int:
        return session.ask(
            lambda: reader.count_events(
                name=name,
                internal=wanted["internal"] and (name is None or name.startswith(INTERNAL)),
                received_after=None if since is None else since - 1,
                received_before=wanted["until"],
            )
        )

    return sum(map(one, dict.fromkeys(wanted["names"]))) if wanted["names"] else one(None)


def _search(session: Session, wanted: dict[str, Any], before: str | None, size: int, query: str) -> Page:
    expression = compile_query(query, ("event",))

    def fetch(last: EventRecord | None, limit: int) -> list[EventRecord]:
        return _list(session, **wanted, before=before if last is None else last.internal_id, limit=limit)

    found = search(session, fetch, lambda row: {"event": decoded(row.body)}, expression, size)
    cursors = [cursor(EventPlace(row.internal_id)) for row in found.rows]
    end = cursor(EventPlace(found.last.internal_id)) if found.last is not None else None
    return Page(
        list(found.rows), cursors, not found.complete, before is not None, end, lambda: len(found.rows)
    )


def stream(_: object, session: Session, query: dict[str, Any]) -> list[EventRecord]:
    """The newest events, or those before or after one, newest first."""
    limit = read_page(query["limit"])
    internal = bool(query.get("includeInternalEvents"))
    found = _list(session, internal=internal, before=query.get("before"), limit=limit)
    after = query.get("after")
    return [row for row in found if row.internal_id > after] if after else found


# What is shown of an event


def _event_status(found: EventRecord, session: Session) -> str:
    statuses = [run.status for run in session.runs_of_event(found.internal_id)]
    if not statuses:
        return "NO_FUNCTIONS"
    if any(status in LIVE for status in statuses):
        return "RUNNING"
    failed = sum(status == RunStatus.FAILED for status in statuses)
    if not failed:
        return "COMPLETED"
    return "FAILED" if failed == len(statuses) else "PARTIALLY_FAILED"


class _Body(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"{}")
    user: msgspec.Raw = msgspec.Raw(b"{}")
    v: str | None = None


def _body(found: EventRecord) -> _Body:
    return msgspec.json.decode(found.body, type=_Body)


def _raw(found: EventRecord, _: Session) -> str:
    """The event as its sender gave it, with what the server added."""
    body = _body(found)
    shown: dict[str, object] = {
        "data": body.data,
        "id": found.id or found.internal_id,
        "name": found.name,
        "ts": found.ts,
    }
    if bytes(body.user) not in (b"{}", b"null"):
        shown["user"] = body.user
    shown["v"] = body.v
    return msgspec.json.encode(shown).decode()


# Runs as older clients know them


def function_run(_: object, session: Session, query: dict[str, str]) -> RunRecord:
    """A run; one that is not there is an error."""
    found = session.run(checked_run_id(query["functionRunId"]))
    if found is None:
        raise unknown_run(query["functionRunId"])
    return found


def _trigger_events(run: RunRecord, session: Session) -> list[EventRecord]:
    found = (session.event(event_id) for event_id in run.event_ids)
    return [one for one in found if one is not None]


RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {
        "event": event,
        "events": events,
        "eventV2": event_v2,
        "eventsV2": events_v2,
        "stream": stream,
        "functionRun": function_run,
    },
    "Event": {
        "id": lambda event, _: event.internal_id,
        "externalID": lambda event, _: event.id or event.internal_id,
        "name": lambda event, _: event.name,
        "createdAt": lambda event, _: time_text(event.received_at),
        "payload": lambda event, _: bytes(_body(event).data).decode(),
        "schema": always(None),
        "status": _event_status,
        "pendingRuns": lambda event, session: sum(
            run.status in LIVE for run in session.runs_of_event(event.internal_id)
        ),
        "totalRuns": lambda event, session: len(session.runs_of_event(event.internal_id)),
        "raw": lambda event, _: trigger_payload(event).decode(),
        "functionRuns": lambda event, session: session.runs_of_event(event.internal_id),
    },
    "EventV2": {
        "envID": always(ENVIRONMENT_ID),
        "id": lambda event, _: event.internal_id,
        "idempotencyKey": lambda event, _: event.id or event.internal_id,
        "name": lambda event, _: event.name,
        "occurredAt": lambda event, _: time_text(event.ts),
        "receivedAt": lambda event, _: time_text(event.received_at),
        "raw": _raw,
        "runs": lambda event, session: session.runs_of_event(event.internal_id),
        "source": always(None),
        "version": lambda event, _: _body(event).v or "",
    },
    "StreamItem": {
        "id": lambda event, _: event.internal_id,
        "trigger": lambda event, _: event.name,
        "type": lambda event, _: "CRON" if event.name == SCHEDULED else "EVENT",
        "createdAt": lambda event, _: time_text(event.received_at),
        "runs": lambda event, session: session.runs_of_event(event.internal_id),
        "inBatch": lambda event, session: any(
            run.batch_id is not None for run in session.runs_of_event(event.internal_id)
        ),
    },
    "FunctionRun": {
        "id": lambda run, _: run.id,
        "functionID": lambda run, _: run.function_id,
        "function": lambda run, session: session.function(run.function_id),
        "event": lambda run, session: session.event(run.event_id),
        "events": _trigger_events,
        "batchID": lambda run, _: run.batch_id,
        "batchCreatedAt": lambda run, _: time_text(run.batched_at),
        "status": lambda run, _: str(run.status),
        "startedAt": lambda run, _: time_text(run.started_at),
        "finishedAt": lambda run, _: time_text(run.ended_at),
        "output": lambda run, _: output_text(run),
        "history": lambda run, session: history_items(session.whole(run.id)),
        "eventID": lambda run, _: run.event_id,
        "cron": lambda run, _: run.cron,
    },
}

"""What became of an event: `GET /v1/events/{id}/why`, for each function that it met, and for other runs.

An event that a rule holds back has no run that could be asked about. What is told comes from the runs, and from what
the rules remember under their keys: an open debounce or batch, the places of a rate limit, the ids that were taken.
All of that is forgotten in time, and the functions are those of now; where nothing is left to tell by, the answer
says so. Runs that it did not start, but whose wait it ended or which it cancelled, are remembered by the event.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.flow.admission import Keys, Origin, ask
from perdure.core.flow.batch import BatchState
from perdure.core.flow.debounce import GRACE_MS, DebounceState
from perdure.core.flow.rate_limit import RateState, take
from perdure.core.functions import Function
from perdure.core.model import RunStatus
from perdure.errors import RequestError
from perdure.protocol.durations import format_time
from perdure.protocol.ids import is_ulid
from perdure.protocol.lifecycle import INVOKED
from perdure.protocol.skipping import skipped_because
from perdure.reading.port import EventRecord, RunRecord
from perdure.server.context import Server
from perdure.server.rest import wrapped
from perdure.shard.admitting import key_refs
from perdure.shard.keys import BATCH, DEBOUNCE, RATE, TAKEN
from perdure.shard.rows import KeyRef

MAX_EFFECTS = 100
"""Of more runs whose waits it ended, or which it cancelled, is not told."""

UNKNOWN = (
    "no run, and nothing is remembered: a rule let it drop, or the function was not there or archived then, or met"
    " other events; or it was taken so long ago that this has been forgotten"
)


NOTHING = "it meets no function that is served now, has started no run, and no run waited for it or was cancelled by it"


TAKEN_BEFORE = (
    "it was taken and held back: it is part of what another event of its key started, or starts just now; or it was"
    " dropped, as an event of the same id was taken and held back before"
)


class Fate(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What became of an event for one function.

    `fate` is `run`, `skipped`, `debounced`, `replaced`, `collected`, `rate_limited`, `duplicate`, `taken` or `unknown`.
    `key` is the expression of the rule that it tells of, and `value` what that gave. `free_at` is when
    a rate limit that is full now has a place again. Times are RFC 3339.
    """

    function: str
    fate: str
    text: str
    run_ids: list[str] = []
    key: str | None = None
    value: str | None = None
    due_at: str | None = None
    free_at: str | None = None
    position: int | None = None
    collected: int | None = None
    most: int | None = None
    waiting_events: int | None = None


class Effect(msgspec.Struct, kw_only=True):
    """What an event did to a run that it did not start: `how` is `wait` (it ended a wait of it) or `cancel`."""

    how: str
    run_id: str
    function: str
    text: str


def event_fate_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    async def why(request: Request) -> Response:
        event_id: str = request.path_params["event_id"]
        if not is_ulid(event_id):
            raise RequestError(400, f"Invalid event ID: {event_id[:100]}")
        event = await server.reader.event(event_id)
        if event is None:
            raise RequestError(404, "Event not found")
        fates = await event_fates(server, event)
        effects, more = await event_effects(server, event.internal_id)
        told = [f"{fate.function}: {fate.text}" for fate in fates] + [effect.text for effect in effects]
        told += [f"more runs than these {MAX_EFFECTS}"] if more else []
        return wrapped(
            server,
            {
                "internal_id": event.internal_id,
                "name": event.name,
                "received_at": format_time(event.received_at),
                "text": "; ".join(told) or NOTHING,
                "functions": fates,
                "effects": effects,
                "more_effects": more,
            },
        )

    return [Route("/v1/events/{event_id}/why", why, methods=["GET"])]


async def event_effects(server: Server, internal_id: str) -> tuple[list[Effect], bool]:
    """What an event did besides starting runs, at most `MAX_EFFECTS`, and whether there is more of it."""
    found = await server.reader.effects_of_event(internal_id, limit=MAX_EFFECTS + 1)
    effects = []
    for effect in found[:MAX_EFFECTS]:
        function = server.shard.state.functions.by_id.get(effect.function_id)
        slug = function.slug if function is not None else effect.function_id
        did = "cancelled run" if effect.how == "cancel" else "ended a wait of run"
        now = "" if effect.how == "cancel" else f" ({effect.status.lower()})"
        text = f"{did} {effect.run_id} of {slug}{now}"
        effects.append(Effect(how=effect.how, run_id=effect.run_id, function=slug, text=text))
    return effects, len(found) > MAX_EFFECTS


async def event_fates(server: Server, event: EventRecord) -> list[Fate]:
    """What became of an event, by function.

    What rules remember is read before the runs: what stops being held in between is a run by then.
    """
    body = msgspec.json.decode(event.body, type=dict[str, object])
    now = server.shard.now()
    met = {function.id: function for function in _met(server, event, body)}
    asked = {id: ask(function.rules, body, Origin.EVENT, now) for id, function in met.items()}
    # Rules remember times by a clock that travel in time may have moved since the event came.
    by_our_clock = msgspec.structs.replace(event, received_at=event.received_at + server.shard.state.ahead)
    event_id = event.id or event.internal_id
    refs = [KeyRef(TAKEN, id, event_id) for id in met]
    refs += [ref for id, keys in asked.items() for ref in key_refs(id, keys)]
    found = await server.reader.remembered(refs, now)
    runs = await server.reader.runs_of_event(event.internal_id)
    by_function: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_function.setdefault(run.function_id, []).append(run)
    fates = [await _of_runs(server, id, started) for id, started in by_function.items()]
    for id, function in met.items():
        if id not in by_function:
            taken = found.get((TAKEN, id, event_id))
            fates.append(_held_back(function, by_our_clock, asked[id], found, taken, now))
    return sorted(fates, key=lambda fate: fate.function)


def _met(server: Server, event: EventRecord, body: dict[str, Any]) -> list[Function]:
    """The functions that the event meets as they are now; that of an invocation is named in it."""
    functions = server.shard.state.functions
    if event.name == INVOKED:
        inner = body.get("data")
        own = inner.get("_inngest") if isinstance(inner, dict) else None
        function = functions.find(str(own.get("fn_id"))) if isinstance(own, dict) else None
        return [] if function is None else [function]
    return functions.started_by(event.name, body, server.shard.now())


class _Ended(msgspec.Struct):
    reason: str = ""
    holder: str = ""


async def _of_runs(server: Server, function_id: str, runs: list[RunRecord]) -> Fate:
    function = server.shard.state.functions.by_id.get(function_id)
    slug = function.slug if function is not None else function_id
    ids = [run.id for run in runs]
    if len(runs) > 1 or runs[0].status != RunStatus.SKIPPED:
        each = ", ".join(f"run {run.id} ({run.status.lower()})" for run in runs)
        return Fate(function=slug, fate="run", text=f"started {each}", run_ids=ids)
    reason = ""
    for entry in await server.reader.newest_history(runs[0].id, "ended", limit=1):
        ended = msgspec.json.decode(entry.body, type=_Ended)
        reason = f": {skipped_because(ended.reason, ended.holder)}"
    return Fate(function=slug, fate="skipped", text=f"run {ids[0]} was skipped{reason}", run_ids=ids)


def _held_back(
    function: Function,
    event: EventRecord,
    keys: Keys,
    found: dict[tuple[str, str, str], bytes],
    taken: bytes | None,
    now: int,
) -> Fate:
    """What became of it where it has no run."""

    def read(kind: str, id: str) -> bytes | None:
        return found.get((kind, function.id, id))

    if keys.batch is not None and (row := read(BATCH, keys.batch.id)) is not None:
        fate = _collected(function, event, BatchState.decode(row), keys.batch.value)
        if fate is not None:
            return fate
    if keys.debounce is not None and (row := read(DEBOUNCE, keys.debounce.id)) is not None:
        state = DebounceState.decode(row)
        # Ids of invocations are not remembered; what else was not taken was dropped before it came to a debounce.
        if state.event.id == (event.id or event.internal_id) and state.event.receipt != event.receipt:
            return _duplicate(function, "held by a debounce")
        if state.event.receipt == event.receipt or taken is not None or event.name == INVOKED:
            fate = _debounced(function, event, state, keys.debounce.value)
            if fate is not None:
                return fate
    if taken:
        run_id = taken.decode()
        text = f"an event of the same id was taken before, by run {run_id}"
        return Fate(function=function.slug, fate="duplicate", text=text, run_ids=[run_id])
    if taken is not None:
        return Fate(function=function.slug, fate="taken", text=TAKEN_BEFORE)
    if keys.rate_limit is not None and (row := read(RATE, keys.rate_limit.id)) is not None:
        fate = _rate_limited(function, event, RateState.decode(row), keys.rate_limit.value, now)
        if fate is not None:
            return fate
    return Fate(function=function.slug, fate="unknown", text=UNKNOWN)


def _duplicate(function: Function, where: str) -> Fate:
    text = f"an event of the same id was taken before, and is {where}: this one is dropped"
    return Fate(function=function.slug, fate="duplicate", text=text)


def _collected(function: Function, event: EventRecord, state: BatchState, value: str) -> Fate | None:
    rule = function.config.batch
    receipts = sorted(state.events.values())
    if rule is None or event.receipt not in receipts:
        earlier = state.events.get(event.id or event.internal_id)
        return None if earlier is None else _duplicate(function, "collected in a batch")
    position, due = receipts.index(event.receipt) + 1, format_time(state.due)
    text = f"collected in a batch{_keyed(rule.key, value)}, {position} of {len(receipts)} so far"
    return Fate(
        function=function.slug,
        fate="collected",
        text=f"{text}; it runs with {rule.max_size}, or at {due}",
        key=rule.key,
        value=value,
        due_at=due,
        position=position,
        collected=len(receipts),
        most=rule.max_size,
    )


def _debounced(function: Function, event: EventRecord, state: DebounceState, value: str) -> Fate | None:
    rule = function.config.debounce
    if rule is None:
        return None
    due, mine = format_time(state.due), state.event.receipt == event.receipt
    # An event of the debounce before is at least so much older: that one was over when this one was opened.
    if not mine and state.first_at - event.received_at >= GRACE_MS:
        return None
    key = _keyed(rule.key, value)
    if mine:
        text = f"held by a debounce{key} until {due}, the last of {state.events} so far"
    else:
        text = f"another event has its place in a debounce{key}, and starts a run at {due}"
    return Fate(
        function=function.slug,
        fate="debounced" if mine else "replaced",
        text=text,
        key=rule.key,
        value=value,
        due_at=due,
        waiting_events=state.events,
    )


def _rate_limited(
    function: Function, event: EventRecord, state: RateState, value: str, now: int
) -> Fate | None:
    """Whether all places of the rate limit were taken when the event came, as far as it is still known."""
    rule = function.config.rate_limit
    if rule is None:
        return None
    came = event.received_at
    places = zip(state.times, state.counts, strict=True)
    taken = sum(count for at, count in places if came - rule.period_ms < at <= came)
    if taken < rule.limit:
        return None
    key = _keyed(rule.key, value)
    if function.config.idempotency is not None:
        text = f"dropped by idempotency{key}: an event of that key started a run in the 24 hours before"
    else:
        text = f"dropped by a rate limit{key}: all places of its period were taken (limit {rule.limit})"
    later = take(rule, state, now)
    free_at = None if later.allowed else format_time(later.free_at)
    return Fate(
        function=function.slug,
        fate="rate_limited",
        text=text if free_at is None else f"{text}; the next that can start one is from {free_at} on",
        key=rule.key,
        value=value,
        free_at=free_at,
        most=rule.limit,
    )


def _keyed(key: str | None, value: str) -> str:
    return "" if key is None else f" with key {value or '(empty)'}"

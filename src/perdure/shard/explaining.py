"""Why a run waits: a look at the state of the shard and at what the dispatcher has under way.

It changes nothing, and may take longer than a decision: it is for people. What is not in memory is left open (a
place far down a line, what the holder of a place does, the error of the last attempt); whoever asked finds that in
the store.

Each item of a run is one cause. For a call the obstacles are looked at in the order in which it meets them: a
pause, the time at which it is due, the limits of its function in their line, and at last the gate of its app.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from perdure.core.expressions import compile_expression, interpolate
from perdure.core.flow.admission import Pause
from perdure.core.flow.concurrency import Need
from perdure.core.functions import Function
from perdure.core.model import CALLING, STANDARD_PARTS, Item, ItemKind, Part, Run, RunStatus, WaitKind
from perdure.core.pacing import Gate
from perdure.core.requests import build_request
from perdure.errors import ExpressionError
from perdure.protocol.failures import OpError
from perdure.protocol.functions import Throttle
from perdure.shard.calls import job_id
from perdure.shard.dispatch import GIVE_UP, Dispatcher
from perdure.shard.lines import Line, needs_of
from perdure.shard.queues import Queue
from perdure.shard.rows import ItemRef
from perdure.shard.sentences import sentence, tell
from perdure.shard.state import State
from perdure.shard.why import (
    AnyCause,
    AppState,
    Asleep,
    AtGate,
    AwaitsEvent,
    AwaitsRun,
    AwaitsSignal,
    Called,
    Cancellation,
    Deadline,
    Doing,
    Held,
    InLine,
    Limit,
    PutOff,
    Queued,
    Requested,
    Scheduled,
    SetAside,
    Why,
)

MAX_CAUSES = 50
"""More of one run are only counted."""
MAX_HOLDERS = 10

_ORDER = (Called, Requested, SetAside, Held, InLine, AtGate, PutOff, Scheduled)
"""What is nearest to the next step of a run stands first; then what comes by itself, soonest first."""


def explain(state: State, dispatcher: Dispatcher, run: Run) -> Why:
    """Why a run waits, by what is in memory."""
    function = state.functions.by_id[run.function_id]
    why = Why(
        run_id=run.id,
        function=function.slug,
        status=run.status.value,
        queued_at=run.created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        trigger=run.events[0] if run.events else b"",
    )
    if run.status.ended:
        return tell(why)
    look = _Look(state, dispatcher)
    causes = look.causes(run)
    why.causes, why.more = causes[:MAX_CAUSES], max(0, len(causes) - MAX_CAUSES)
    why.guards = _guards(run)
    why.app = _app(state, function)
    why.notes = _notes(run, function, why.app)
    times = [_next(cause) for cause in causes]
    times += [guard.at for guard in why.guards if isinstance(guard, Deadline)]
    why.next_at = min((time for time in times if time is not None), default=None)
    return tell(why)


class _Look:
    """One look. `with_holders` is False for runs that are only looked at because they hold a place."""

    def __init__(self, state: State, dispatcher: Dispatcher, with_holders: bool = True) -> None:
        self._state = state
        self._dispatcher = dispatcher
        self._with_holders = with_holders

    def causes(self, run: Run) -> list[AnyCause]:
        """What a run waits for."""
        items = [item for item in run.items.values() if item.kind is not ItemKind.DEADLINE]
        return sorted((self.cause(run, item) for item in items), key=_importance)

    def cause(self, run: Run, item: Item) -> AnyCause:
        """What an item of a run waits for."""
        cause = self._cause(run, item)
        cause.n, cause.step = item.n, item.name
        return cause

    def _cause(self, run: Run, item: Item) -> AnyCause:
        if self._dispatcher.faults.get(_ref(run, item), 0) >= GIVE_UP:
            return SetAside()
        if item.kind in CALLING:
            return self._call(run, item)
        if item.kind is ItemKind.REQUEST:
            return self._request(run, item)
        if item.kind is ItemKind.SLEEP:
            return Asleep(until=item.due)
        return _wait(run, item)

    # Calls and requests

    def _call(self, run: Run, item: Item) -> AnyCause:
        state = self._state
        function = state.functions.by_id[run.function_id]
        app = _app_name(state, function)
        if item.in_flight:
            since, attempts = self._since(run, item), function.attempts
            return Called(
                app=app, since=since, attempt=item.attempt + 1, attempts=attempts, recoveries=item.recoveries
            )
        if item.part == Part.HELD and state.pause_of(function.id) is not Pause.NO:
            return Held(function=function.slug)
        if item.due > state.now:
            return _put_off(run, item, function)
        of, gate = f"app {app}", state.gate(function.app_id)
        if item.part in STANDARD_PARTS:
            queue = state.queues.all.get((function.id, item.part))
            return self._at_gate(of, gate, queue, _queued(function.id, queue, run, item))
        return self._in_line(run, item, of, gate)

    def _request(self, run: Run, item: Item) -> AnyCause:
        state = self._state
        function = state.functions.by_id[run.function_id]
        if item.in_flight:
            method, host = _target(item)
            return Requested(
                method=method,
                host=host,
                since=self._since(run, item),
                attempt=item.attempt + 1,
                attempts=function.attempts,
            )
        if item.due > state.now:
            return _put_off(run, item, function)
        queue = state.queues.all.get((function.id, item.part))
        queued = _queued(function.id, queue, run, item)
        return self._at_gate("another host (of all runs)", state.request_gate, queue, queued)

    def _since(self, run: Run, item: Item) -> int:
        live = self._dispatcher.live.get((run.id, item.n))
        entered = None if live is None else live.gate.in_flight.get(live.number)
        return item.sent_at or (entered[1] if entered is not None else item.queued_at)

    def _at_gate(self, of: str, gate: Gate, queue: Queue | None, queued: Queued) -> AtGate:
        full = "" if queue is None else self._dispatcher.fullness(queue, gate)
        free_at = None
        if full == "young":
            free_at = max(gate.next_room() or 0, self._state.now)
        return AtGate(
            of=of,
            full=full,
            calls=len(gate.in_flight),
            most=gate.hard_limit,
            young=gate.young(self._state.now),
            young_most=gate.young_calls,
            queued=queued,
            free_at=free_at,
        )

    # Lines

    def _in_line(self, run: Run, item: Item, of: str, gate: Gate) -> AnyCause:
        state = self._state
        line = state.queues.all.get((run.function_id, item.part))
        turns = state.queues.all.get((run.function_id, ""))
        if turns is not None and _ref(run, item) in turns.heap:
            # It has had its turn, and holds its places already.
            return self._at_gate(of, gate, turns, _queued(run.function_id, turns, run, item))
        queued = _queued(run.function_id, line, run, item)
        limits = self._limits(run, item, line)
        closed = [limit for limit in limits if not limit.open]
        if not closed and turns is not None and self._dispatcher.fullness(turns, gate):
            return self._at_gate(of, gate, turns, queued)
        waits = [limit.free_at for limit in closed]
        free_at = None
        if waits and None not in waits:
            free_at = max(time for time in waits if time is not None)
        return InLine(limits=limits, queued=queued, free_at=free_at)

    def _limits(self, run: Run, item: Item, line: Queue | None) -> list[Limit]:
        needs = needs_of(run)
        if needs is None:
            return []
        places = self._line_places(run, item, line)
        throttle = () if needs.throttle is None else (needs.throttle,)
        return [self._limit(run, need, places) for need in (*throttle, *needs.steps, *needs.runs)]

    def _line_places(self, run: Run, item: Item, line: Queue | None) -> dict[str, tuple[int, int]]:
        """Where the line stands among how many that take turns, by counter. All tickets of a line tell the same."""
        state = self._state
        ticket = state.lines.ticket(run.id, item.n)
        if ticket is None and isinstance(line, Line):
            for ref in line.fed.values():
                ticket = ticket or state.lines.ticket(ref.run_id, ref.n)
        told = None if ticket is None else state.lines.turns.explain(ticket, state.now, 0)
        return (
            {} if told is None else {each.need.counter: (each.place, each.lines) for each in told.obstacles}
        )

    def _limit(self, run: Run, need: Need, places: dict[str, tuple[int, int]]) -> Limit:
        state = self._state
        room, now = state.lines.turns.room, state.now
        place, lines = places.get(need.counter, (0, 0))
        found = Limit(kind="throttle", value=need.value, line_place=place, lines=lines)
        found.open = room.has(need.counter, need.limit, now)
        limit = room.limit(need.limit)
        if isinstance(limit, Throttle):
            found.key, found.limit, found.period_ms = limit.key, limit.limit, limit.period_ms
            found.free_at = room.opens_at(need.counter, need.limit, now)
            return found
        if need.counter.startswith("throttle/"):
            return found
        configured = state.functions.by_id[run.function_id].rules.concurrency.configured.get(need.limit)
        if configured is not None:
            found.scope, found.key = configured.scope, configured.key
        found.kind = "run_concurrency" if need.counter.startswith("run/") else "concurrency"
        found.limit, found.taken = limit or 0, room.counters.count(need.counter)
        if self._with_holders:
            names = room.counters.holders(need.counter, MAX_HOLDERS)
            found.holders = [self._holder(name) for name in names]
        return found

    def _holder(self, name: str) -> Doing:
        """Who holds a place: a call (run and number), or a run for its life."""
        run_id, _, n = name.partition(".")
        run = self._state.memory.runs.get(run_id)
        if run is None:
            return Doing(run_id=run_id)
        look = _Look(self._state, self._dispatcher, with_holders=False)
        item = run.items.get(int(n)) if n else None
        if item is not None:
            since = self._since(run, item) if item.in_flight else item.queued_at
            return Doing(run_id=run_id, since=since, doing=sentence(look.cause(run, item)))
        causes = look.causes(run)
        since = run.started_at if run.started_at is not None else run.created_at
        return Doing(run_id=run_id, since=since, doing=sentence(causes[0]) if causes else "")


def _ref(run: Run, item: Item) -> ItemRef:
    return ItemRef(item.rank, run.id, item.n)


def _queued(function_id: str, queue: Queue | None, run: Run, item: Item) -> Queued:
    """The place of an item in its queue, if all that goes before it is in memory."""
    ref = _ref(run, item)
    queued = Queued(function_id=function_id, part=item.part, ref=ref)
    if queue is None or queue.reading or queue.loading or ref > queue.edge:
        return queued
    before = [other for other in queue.heap if other < ref]
    if isinstance(queue, Line):
        before += [other for other in queue.fed.values() if other < ref]
        if queue.gone:
            before = [other for other in before if job_id(other.run_id, other.n) not in queue.gone]
    queued.ahead = len(before)
    return queued


def _put_off(run: Run, item: Item, function: Function) -> PutOff | Scheduled:
    if item.attempt == 0 and run.status is RunStatus.QUEUED:
        return Scheduled(until=item.due)
    return PutOff(until=item.due, attempt=item.attempt + 1, attempts=function.attempts)


def _target(item: Item) -> tuple[str, str]:
    """Method and host of a request. Paths, queries and headers may hold secrets, and are not told."""
    try:
        call = build_request(item.data or b"{}")
    except (OpError, msgspec.MsgspecError):
        return "", ""
    return call.method, urlsplit(call.url).hostname or ""


def _wait(run: Run, item: Item) -> AwaitsEvent | AwaitsRun | AwaitsSignal:
    wait = run.waits.get(item.n)
    if wait is None:
        return AwaitsSignal(signal="", until=item.due, taken=True)
    if wait.kind is WaitKind.SIGNAL:
        return AwaitsSignal(signal=wait.value, until=item.due)
    if wait.kind is WaitKind.INVOKE:
        return AwaitsRun(until=item.due)
    return AwaitsEvent(
        event=wait.event,
        expression=wait.expression,
        shown=_with_values(run, wait.expression),
        path=wait.path,
        value=wait.value,
        since=item.queued_at,
        after=wait.since,
        until=item.due,
    )


def _with_values(run: Run, expression: str | None) -> str | None:
    if expression is None:
        return None
    try:
        compiled = compile_expression(expression)
        return interpolate(compiled, msgspec.json.decode(run.events[0], type=dict[str, object]))
    except (ExpressionError, msgspec.MsgspecError):
        return expression


def _guards(run: Run) -> list[Deadline | Cancellation]:
    found: list[Deadline | Cancellation] = [
        Deadline(which=(item.data or b"").decode(), at=item.due)
        for item in run.items.values()
        if item.kind is ItemKind.DEADLINE
    ]
    for wait in run.waits.values():
        if wait.kind is WaitKind.CANCEL:
            shown = _with_values(run, wait.expression)
            found.append(Cancellation(event=wait.event, expression=shown, until=wait.until or None))
    return found


def _app_name(state: State, function: Function) -> str:
    app = state.apps.get(function.app_id)
    return app.name if app is not None else function.app_id


def _app(state: State, function: Function) -> AppState | None:
    app = state.apps.get(function.app_id)
    if app is None:
        return None
    return AppState(name=app.name, url=app.url, error=app.error, synced_at=app.synced_at)


def _notes(run: Run, function: Function, app: AppState | None) -> list[str]:
    notes = list(run.flow.problems) if run.flow is not None else []
    if function.archived:
        notes.append(f"Function {function.slug} is archived: it starts no more runs, those that exist go on.")
    if app is not None and app.error:
        notes.append(f"The last sync of app {app.name} failed: {app.error}")
    return notes


def _next(cause: AnyCause) -> int | None:
    """When something happens to an item by itself, as far as is known."""
    if isinstance(cause, InLine | AtGate):
        return cause.free_at
    return getattr(cause, "until", None)


def _importance(cause: AnyCause) -> tuple[int, int, int]:
    kinds = [place for place, kind in enumerate(_ORDER) if isinstance(cause, kind)]
    return (kinds[0] if kinds else len(_ORDER), _next(cause) or 0, cause.n)

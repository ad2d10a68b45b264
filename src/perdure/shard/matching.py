"""What an event meets: functions that it starts, and waits that it ends.

Both take two moments. `ask` looks at the event and says what must be asked of the store: which functions took
this event already, what their rules remember about it, and which waits stand under its name and values. `decide`
then acts on the answers, by the state in memory at that time: a wait that is gone is passed over, and so is
one that began after the event was received.

Waits are found by equality. For each path that any wait for this event name uses, the event's own value
there is one lookup; waits without an equality are found by the empty path. The full expression is tried on
what was found, and only on that.
"""

from __future__ import annotations

import logging

import msgspec

from perdure.core.expressions import compile_expression, equality_value
from perdure.core.flow.admission import Origin
from perdure.core.flow.admission import ask as ask_rules
from perdure.core.functions import Function
from perdure.core.model import Run, Wait, WaitKind
from perdure.core.planning import plan_cancel, plan_match
from perdure.errors import ExpressionError
from perdure.protocol.events import IncomingEvent
from perdure.protocol.memos import data_memo, plain_error_memo
from perdure.shard.admitting import key_refs, start_function, start_target
from perdure.shard.commands import ContinueEvent, EventMatch, ParsedEvent, ReceiveEvents, Target
from perdure.shard.keys import TAKEN
from perdure.shard.rows import EventRow, KeyRef, OutboxRow, WaitLookup
from perdure.shard.state import ApplyFault, State

log = logging.getLogger("perdure.shard")

WAITS_AT_ONCE = 500
"""Waits of one event that one decision looks at; more are taken by further decisions, between others."""


class Question(msgspec.Struct):
    """What must be asked of the store about one event."""

    match: EventMatch
    keys: list[KeyRef]
    lookups: list[WaitLookup]


def ask(
    state: State,
    name: str,
    event_id: str,
    parsed: ParsedEvent,
    target: str | None,
    after: tuple[str, str, int] = ("", "", 0),
    with_triggers: bool = True,
) -> Question:
    """What must be asked of the store about an event.

    `after` (path, run id, n) goes on behind an earlier page of waits.
    """
    match = EventMatch(parsed=parsed)
    keys: list[KeyRef] = []
    functions = state.functions
    if target is not None:
        function = functions.find(target)
        if function is not None:
            match.functions = [function]
    elif with_triggers and functions.has_triggers(name):
        body = parsed.value() if functions.needs_body(name) else None
        match.functions = functions.started_by(name, body, state.now)
        keys = [KeyRef(TAKEN, function.id, event_id) for function in match.functions]
    for function in match.functions:
        if function.rules.keyed:
            flow_keys = ask_rules(function.rules, parsed.value(), Origin.EVENT, state.now)
            match.flow_keys[function.id] = flow_keys
            keys += key_refs(function.id, flow_keys)
    return Question(match, keys, _lookups(state, name, parsed, after))


def ask_target(state: State, parsed: ParsedEvent, target: Target) -> Question:
    """What must be asked of the store about an event that is for one function only."""
    function = state.functions.by_id.get(target.function_id)
    if function is None:
        return Question(EventMatch(), [], [])
    flow_keys = ask_rules(function.rules, parsed.value(), Origin.EVENT, state.now)
    match = EventMatch([function], {function.id: flow_keys}, parsed=parsed)
    return Question(match, key_refs(function.id, flow_keys), [])


def _lookups(state: State, name: str, parsed: ParsedEvent, after: tuple[str, str, int]) -> list[WaitLookup]:
    lookups = []
    for path in sorted(state.memory.wait_counts.get(name, ())):
        if path < after[0]:
            continue
        value = equality_value(parsed.value(), path) if path else ""
        if value is not None:
            place = (after[1], after[2]) if path == after[0] else ("", 0)
            lookups.append(WaitLookup(name, path, value, place))
    return lookups


def decide_received(state: State, command: ReceiveEvents) -> None:
    """Store the events of a command, start the runs and end the waits that they meet."""
    for event, receipt, match in zip(command.events, command.receipts, command.matches, strict=True):
        state.store_event(event, internal=command.internal, receipt=receipt, received_at=command.received_at)
        row = state.batch.changes.events[-1]
        try:
            _start_runs(state, match, receipt, event, deduplicate=command.target is None)
            parsed = match.parsed or ParsedEvent(event.body)
            _end_waits(state, match, receipt, event.name, parsed, event.internal_id)
        except ApplyFault:
            raise
        except Exception as error:
            state.quarantine(f"event {event.internal_id} {event.name}", None, error)
        if match.more is not None:
            _go_on_later(state, receipt, match.more, row)


def decide_continued(state: State, command: ContinueEvent) -> None:
    """Go on with an event that is stored already."""
    row, match = command.event, command.match
    if row is None or match is None:
        state.batch.changes.outbox[command.receipt] = None
        return
    event = IncomingEvent(row.internal_id, row.name, row.id, True, row.ts, row.body)
    if command.target is not None:
        for function in match.functions:
            keys = match.flow_keys.get(function.id)
            start_target(
                state, function, (row.receipt, event), command.target, keys, match.found, match.parsed
            )
        state.batch.changes.outbox[row.receipt] = None
        return
    _start_runs(state, match, row.receipt, event, deduplicate=True)
    _end_waits(state, match, row.receipt, row.name, match.parsed or ParsedEvent(row.body), row.internal_id)
    if match.more is not None:
        _go_on_later(state, row.receipt, match.more, row)
    else:
        state.batch.changes.outbox[row.receipt] = None


def _go_on_later(state: State, receipt: int, after: tuple[str, str, int], row: EventRow) -> None:
    state.batch.changes.outbox[receipt] = OutboxRow(receipt, msgspec.json.encode(after).decode())
    state.follow_ups.append(ContinueEvent(receipt=receipt, stage=1, after=after, event=row))


def _start_runs(
    state: State, match: EventMatch, receipt: int, event: IncomingEvent, *, deduplicate: bool
) -> None:
    for function in match.functions:
        current: Function | None = state.functions.by_id.get(function.id)
        if current is None or current.archived:
            continue
        if deduplicate and state.key(KeyRef(TAKEN, function.id, event.id), match.found) is not None:
            continue
        keys = match.flow_keys.get(function.id)
        run, taken = start_function(
            state, current, [(receipt, event)], keys, match.found, parsed=match.parsed
        )
        if deduplicate and taken:
            state.take_event(current, event.id, run)


def _end_waits(
    state: State, match: EventMatch, receipt: int, name: str, parsed: ParsedEvent, internal_id: str
) -> None:
    for run_id, n in [*match.waits, *_armed_since(state, match, name, parsed)]:
        run = state.memory.get(run_id)
        wait = run.waits.get(n) if run is not None else None
        if run is None or wait is None or wait.since >= receipt or wait.event != name:
            continue
        try:
            _end_wait(state, run, wait, parsed, internal_id)
        except ApplyFault:
            raise
        except Exception as error:
            state.quarantine(f"event {internal_id} {name} for wait {n}", run_id, error)


def _end_wait(state: State, run: Run, wait: Wait, parsed: ParsedEvent, internal_id: str) -> None:
    settings = state.settings_for(run)
    if wait.kind is WaitKind.INVOKE:
        memo, failed = _invoke_memo(parsed.body)
        state.apply(plan_match(run, wait, memo, internal_id, state.now, settings, failed))
        state.note_effect(internal_id, run, "wait")
    elif wait.kind is WaitKind.EVENT and holds(run, wait, parsed, state.now):
        state.apply(plan_match(run, wait, parsed.body, internal_id, state.now, settings))
        state.note_effect(internal_id, run, "wait")
    elif (
        wait.kind is WaitKind.CANCEL
        and _still_cancels(wait, state.now)
        and holds(run, wait, parsed, state.now)
    ):
        state.apply(plan_cancel(run, state.now, f"The event {wait.event} ({internal_id}) cancelled it."))
        state.note_effect(internal_id, run, "cancel")


def _armed_since(state: State, match: EventMatch, name: str, parsed: ParsedEvent) -> list[tuple[str, int]]:
    """Waits that cancel and were armed after the store was asked, by a run of an event received before this one.

    Those runs are in memory: none that is newer than a read under way leaves it.
    """
    found: set[tuple[str, int]] = set()
    memory = state.memory
    for path in memory.wait_counts.get(name, ()):
        value = equality_value(parsed.value(), path) if path else ""
        if value is not None:
            found |= memory.waits_in_memory(name, path, value)
    new = found.difference(match.waits)
    return sorted(p for p in new if memory.runs[p[0]].waits[p[1]].kind is WaitKind.CANCEL) if new else []


def _still_cancels(wait: Wait, now: int) -> bool:
    return not wait.until or now <= wait.until


def holds(run: Run, wait: Wait, parsed: ParsedEvent, now: int) -> bool:
    """Whether the expression of a wait holds for an event; False if it cannot be computed."""
    if wait.expression is None:
        return True
    trigger = msgspec.json.decode(run.events[0])
    try:
        return compile_expression(wait.expression).is_true({"event": trigger, "async": parsed.value()}, now)
    except ExpressionError as error:
        log.info("run %s: expression of its wait for %s failed: %s", run.id, wait.event, error.message)
        return False


class _End(msgspec.Struct):
    result: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _EndEvent(msgspec.Struct):
    data: _End


_END = msgspec.json.Decoder(_EndEvent)


def _invoke_memo(body: bytes) -> tuple[bytes, bool]:
    """What a step that invoked a function gets from the event that tells its end, and whether it is an
    error.
    """
    end = _END.decode(body).data
    if bytes(end.error):
        return b'{"error":' + bytes(end.error) + b"}", True
    if bytes(end.result):
        return data_memo(bytes(end.result)), False
    return plain_error_memo("Error", "the invoked function was cancelled"), True

"""Carrying out an admission: what `core.flow.admission` decides about an event becomes rows, timers and runs.

The caller has read what stands under the keys of the function's rules; what batches have changed since is in memory and
wins. Everything that an event changes is in one commit: the state of its rules, and the run.

Debounces and batches that wait are one row each, and a timer of a rule (an item that belongs to no run). When the timer
is due, or the batch is full, their events are read and a run starts (`fire`). A row that is over although its timer
was not handled yet is put aside under a key of its own when the next event opens another.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perdure.core.ending import invoked_by
from perdure.core.flow import debounce
from perdure.core.flow.admission import (
    NO_KEYS,
    Admission,
    Collect,
    Drop,
    Hold,
    Keys,
    Known,
    Origin,
    Pause,
    Skip,
    Start,
    admit,
    ask,
    start,
)
from perdure.core.flow.batch import BatchAction, BatchState
from perdure.core.flow.debounce import DebounceState
from perdure.core.flow.keys import Key
from perdure.core.flow.rate_limit import RateState
from perdure.core.flow.stored import Arrival
from perdure.core.functions import Function
from perdure.core.model import Item, Run, WaitKind
from perdure.core.planning import plan_cancel, plan_match
from perdure.protocol.events import IncomingEvent
from perdure.protocol.memos import plain_error_memo, rate_limited_memo
from perdure.shard.beginning import ORDINARY, Beginning, TriggerEvent
from perdure.shard.commands import FireRule, ParsedEvent, Target, TellInvoker
from perdure.shard.keys import (
    BATCH,
    CLOSED_BATCH,
    CLOSED_DEBOUNCE,
    DEBOUNCE,
    RATE,
    SINGLETON,
    timer_id,
)
from perdure.shard.rows import EventRow, KeyRef
from perdure.shard.state import State

_REPLACED = "invoked function was debounced: another event has taken the place of this one"
NOTHING_KNOWN = Known()
NO_EVENT: dict[str, object] = {}
"""Stands for the event where no rule looks into it."""


def key_refs(function_id: str, keys: Keys) -> list[KeyRef]:
    """What must be read for an event that has these keys."""
    kinds = (
        (BATCH, keys.batch),
        (RATE, keys.rate_limit),
        (DEBOUNCE, keys.debounce),
        (SINGLETON, keys.singleton),
    )
    return [KeyRef(kind, function_id, key.id) for kind, key in kinds if key is not None]


def holders(found: Mapping[KeyRef, bytes]) -> list[str]:
    """The runs that what was read may concern: a holder of a singleton, which may be ended, and a run whose step
    has invoked the function by an event that a debounce holds, which may be told that another takes its place.
    """
    runs = [value.decode() for ref, value in found.items() if ref.kind == SINGLETON]
    held = [DebounceState.decode(value) for ref, value in found.items() if ref.kind == DEBOUNCE]
    return runs + [invoker_of(state.event.correlation) for state in held if state.event.correlation]


def start_function(
    state: State,
    function: Function,
    events: list[TriggerEvent],
    keys: Keys | None,
    found: Mapping[KeyRef, bytes],
    how: Beginning = ORDINARY,
    origin: Origin = Origin.EVENT,
    parsed: ParsedEvent | None = None,
) -> tuple[Run | None, bool]:
    """Let events meet a function: the run that starts or is written down, and whether the events were taken.

    `keys` are None if the function had no such rules when the store was read.
    """
    rules, pause = function.rules, state.pause_of(function.id)
    if rules.plain and pause is Pause.NO:
        return state.create_run(function, events, how), True
    receipt, first = events[0]
    body = (parsed or ParsedEvent(first.body)).value() if rules.reads_event else NO_EVENT
    ahead = 0 if origin is Origin.RERUN else state.ahead
    if not rules.keyed and pause is not Pause.SKIP:
        held = pause is Pause.HOLD
        admitted = start(rules, body, first.ts + ahead, origin, state.now, held)
        return state.create_run(function, events, how, admitted), True
    if keys is None and not rules.keyed:
        keys = NO_KEYS
    elif keys is None:
        keys = ask(rules, body, origin, state.now)
    known = _known(state, function.id, keys, found, pause)
    arrival = Arrival(receipt, first.id, first.ts, len(first.body), how.correlation)
    batch_id = state.run_ids.next(state.now) if keys.batch is not None else ""
    decision = admit(rules, keys, known, body, arrival, origin, state.now, batch_id, ahead)
    return _carry_out(state, function, events, decision, how)


def _known(state: State, function_id: str, keys: Keys, found: Mapping[KeyRef, bytes], pause: Pause) -> Known:
    if keys is NO_KEYS and pause is Pause.NO:
        return NOTHING_KNOWN

    def read(kind: str, key: Key | None) -> bytes | None:
        return None if key is None else state.key(KeyRef(kind, function_id, key.id), found)

    collected, limited = read(BATCH, keys.batch), read(RATE, keys.rate_limit)
    held, holder = read(DEBOUNCE, keys.debounce), read(SINGLETON, keys.singleton)
    return Known(
        batch=None if collected is None else BatchState.decode(collected),
        rate_limit=None if limited is None else RateState.decode(limited),
        debounce=None if held is None else DebounceState.decode(held),
        holder=None if holder is None else holder.decode(),
        pause=pause,
    )


def _carry_out(
    state: State, function: Function, events: list[TriggerEvent], decision: Admission, how: Beginning
) -> tuple[Run | None, bool]:
    if not isinstance(decision, Collect) and decision.rate_limit is not None:
        _put_rate(state, function, *decision.rate_limit)
    if isinstance(decision, Drop):
        _refuse_invoker(state, how.correlation, rate_limited_memo())
        return None, False
    if isinstance(decision, Collect):
        _collect(state, function, decision)
        return None, True
    if isinstance(decision, Hold):
        _hold(state, function, decision)
        if decision.decision.left_out is not None:
            _refuse_invoker(
                state, decision.decision.left_out.correlation, plain_error_memo("Error", _REPLACED)
            )
        return None, True
    if isinstance(decision, Skip):
        skipped = (decision.reason, decision.holder or "")
        run = state.create_run(function, events, msgspec.structs.replace(how, skipped=skipped))
        text = f"invoked function was skipped: {decision.reason}"
        _refuse_invoker(state, how.correlation, plain_error_memo("Error", text))
        return run, True
    return _start(state, function, events, decision, how), True


def _start(
    state: State, function: Function, events: list[TriggerEvent], decision: Start, how: Beginning
) -> Run:
    if decision.cancel is not None:
        holder = state.memory.get(decision.cancel)
        if holder is not None and not holder.status.ended:
            reason = "Singleton: another run of the same key has taken its place."
            state.apply(plan_cancel(holder, state.now, reason))
            state.note_effect(events[-1][1].internal_id, holder, "cancel")
    return state.create_run(function, events, how, decision)


def _put_rate(state: State, function: Function, key: Key, rate: RateState) -> None:
    rule = function.rules.rate_limit
    expires = state.now if rule is None else rate.expires_at(rule)
    state.put_key(KeyRef(RATE, function.id, key.id), rate.encode(), max(expires, 1))


def invoker_of(correlation: str) -> str:
    """The run whose step invoked a function."""
    return correlation.partition(".")[0]


def _invoking_step(state: State, correlation: str) -> tuple[Run, Item] | None:
    """The run whose step invoked a function and that step's item, if the run is in memory and waits still."""
    step = correlation.partition(".")[2]
    parent = state.memory.get(invoker_of(correlation))
    for item in parent.items.values() if parent is not None else ():
        if parent is not None and item.step_id == step:
            return parent, item
    return None


def _refuse_invoker(state: State, correlation: str | None, memo: bytes) -> None:
    """Tell the step that invoked a function that there is no run.

    Its run was read with what the rules remember; but what they hold may have changed since, and be another's.
    """
    if correlation is not None and state.memory.get(invoker_of(correlation)) is None:
        state.follow_ups.append(TellInvoker(run=invoker_of(correlation), correlation=correlation, memo=memo))
        return
    found = None if correlation is None else _invoking_step(state, correlation)
    if found is None:
        return
    parent, item = found
    wait = parent.waits.get(item.n)
    if wait is not None and wait.kind is WaitKind.INVOKE:
        settings = state.settings_for(parent)
        state.apply(plan_match(parent, wait, memo, "", state.now, settings, failed=True))


def tell_invoker(state: State, command: TellInvoker) -> None:
    """The run has been read: tell its step, unless there is no such run."""
    if state.memory.get(command.run) is not None:
        _refuse_invoker(state, command.correlation, command.memo)


# Events that are held back


def _hold(state: State, function: Function, decision: Hold) -> None:
    held = decision.decision
    ref = KeyRef(DEBOUNCE, function.id, decision.key.id)
    if held.fires is not None:
        _put_aside(state, KeyRef(CLOSED_DEBOUNCE, function.id, state.new_id()), held.fires.encode())
    state.put_key(ref, held.state.encode())
    if held.action is debounce.DebounceAction.OPENED or held.sooner:
        # A due time that moves on is not written again: the timer looks at it when it fires.
        state.set_timer(timer_id(ref), function.id, held.state.due)


def _collect(state: State, function: Function, decision: Collect) -> None:
    collected = decision.decision
    ref = KeyRef(BATCH, function.id, decision.key.id)
    if collected.action is BatchAction.DUPLICATE:
        return
    if collected.fires is not None:
        _put_aside(state, KeyRef(CLOSED_BATCH, function.id, collected.fires.id), collected.fires.encode())
    if collected.action is BatchAction.FULL:
        _put_aside(state, KeyRef(CLOSED_BATCH, function.id, collected.state.id), collected.state.encode())
        state.drop_key(ref)
        state.drop_timer(timer_id(ref))
        return
    state.put_key(ref, collected.state.encode())
    if collected.action is BatchAction.OPENED or collected.sooner:
        state.set_timer(timer_id(ref), function.id, collected.state.due)


def _put_aside(state: State, ref: KeyRef, value: bytes) -> None:
    """What is over starts its run at once, by a timer that is due now."""
    state.put_key(ref, value)
    state.set_timer(timer_id(ref), ref.owner, state.now)


def receipts_of(ref: KeyRef, value: bytes) -> list[int]:
    """The receipts of the events that are held back under a key, in order of arrival."""
    if ref.kind in (DEBOUNCE, CLOSED_DEBOUNCE):
        return [DebounceState.decode(value).event.receipt]
    return sorted(BatchState.decode(value).events.values())


def due_of(ref: KeyRef, value: bytes) -> int:
    """When (ms) what is held back under a key starts a run."""
    if ref.kind == DEBOUNCE:
        return DebounceState.decode(value).due
    return BatchState.decode(value).due if ref.kind == BATCH else 0


def origin_of(ref: KeyRef) -> Origin:
    """Where a run would come from that starts for what is held back under a key."""
    return Origin.BATCH if ref.kind in (BATCH, CLOSED_BATCH) else Origin.DEBOUNCE


def fire(state: State, command: FireRule) -> None:
    """Start the run of what was held back; what was read is what stands there now."""
    ref, value = command.ref, command.state
    if value is None:
        state.drop_timer(command.timer)
        return
    due = due_of(ref, value)
    if due > state.now:
        state.set_timer(command.timer, ref.owner, due)
        return
    if len(command.events) < len(receipts_of(ref, value)):
        raise RuntimeError(f"events that {ref.kind} {ref.key} holds back are missing in the store")
    state.drop_key(ref)
    state.drop_timer(command.timer)
    function = state.functions.by_id.get(ref.owner)
    events = [(row.receipt, _incoming(row)) for row in command.events]
    if function is None or function.archived or not events:
        gone = plain_error_memo("Error", "the invoked function is not served any more")
        for row in command.events:
            _refuse_invoker(state, correlation_of(row), gone)
        return
    how = Beginning(since=state.next_receipt - 1, correlation=correlation_of(command.events[0]))
    if command.origin is Origin.BATCH:
        how = msgspec.structs.replace(how, batch_id=BatchState.decode(value).id)
    start_function(state, function, events, command.keys, command.found, how, command.origin)


def _incoming(row: EventRow) -> IncomingEvent:
    return IncomingEvent(row.internal_id, row.name, row.id, True, row.ts, row.body)


def correlation_of(row: EventRow) -> str | None:
    """The step that invoked the function, if the event is the server's own and says so."""
    return invoked_by(row.body) if row.internal else None


def start_target(
    state: State,
    function: Function,
    event: TriggerEvent,
    target: Target,
    keys: Keys | None,
    found: Mapping[KeyRef, bytes],
    parsed: ParsedEvent | None,
) -> None:
    """Start the one function that a step has invoked or whose schedule has come."""
    how = Beginning(target.correlation, cron=target.cron)
    run, _ = start_function(state, function, [event], keys, found, how, parsed=parsed)
    found_step = (
        None if run is None or target.correlation is None else _invoking_step(state, target.correlation)
    )
    if run is not None and found_step is not None:
        state.note_invoked(*found_step, event[1].internal_id, run)

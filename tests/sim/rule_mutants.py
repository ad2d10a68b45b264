"""Rules of flow control, broken one at a time, and mistakes in them that the simulation has found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from perdure.core.flow import debounce
from perdure.core.flow.debounce import DebounceAction
from perdure.core.flow.waiting import Node
from perdure.core.model import RunStatus, WaitKind
from perdure.core.pacing import Gate
from perdure.protocol.ids import ulid_time_ms
from perdure.shard import matching, memory, scheduling
from perdure.shard.batch import TIMER_ITEM
from perdure.shard.dispatch import Dispatcher
from perdure.shard.flow_loads import FlowLoads
from perdure.shard.keys import BATCH, CLOSED_BATCH, RATE, SINGLETON, THROTTLE, Recent, timer_id
from perdure.shard.lines import Lines, needs_of
from perdure.shard.rows import KeyRef
from perdure.shard.state import State

Patch = tuple[object, str, Any]


def place_kept_after_cancel() -> list[Patch]:
    """The places of a run that is cancelled stay taken."""
    real_end, real_leave = State._end, Lines.leave
    cancelled: set[str] = set()

    def end(self: State, run: Any, outcome: Any) -> None:
        if outcome.status is RunStatus.CANCELLED:
            cancelled.add(run.id)
        real_end(self, run, outcome)

    def leave(self: Lines, run: Any, item: Any, now: int) -> None:
        if run.id not in cancelled or not item.in_flight:
            real_leave(self, run, item, now)

    return [(State, "_end", end), (Lines, "leave", leave)]


def place_not_held_after_restart() -> list[Patch]:
    """A server that reads its state takes all places for free."""
    return [
        (Lines, "hold", lambda self, run, item: None),
        (Lines, "hold_run", lambda self, run_id, flow: None),
    ]


def _unwritten(kind: str) -> list[Patch]:
    real = State.put_key

    def put_key(self: State, ref: KeyRef, value: bytes, expires_at: int = 0) -> None:
        if ref.kind != kind:
            real(self, ref, value, expires_at)
        elif kind != THROTTLE:
            self.memory.keys.put(ref, value, self.batch.number)

    return [(State, "put_key", put_key)]


def throttle_not_stored() -> list[Patch]:
    """The schedules of throttles are in memory only."""
    return _unwritten(THROTTLE)


def rate_not_stored() -> list[Patch]:
    """The places that rate limits have given are in memory only, until it forgets them."""
    return _unwritten(RATE)


def _never_dropped(*kinds: str) -> list[Patch]:
    real = State.drop_key

    def drop_key(self: State, ref: KeyRef) -> None:
        if ref.kind not in kinds:
            real(self, ref)

    return [(State, "drop_key", drop_key)]


def batch_not_removed() -> list[Patch]:
    """The row of a batch stays when its run starts."""
    return _never_dropped(BATCH, CLOSED_BATCH)


def debounce_keeps_the_first() -> list[Patch]:
    """A debounce starts its run with the first event instead of the last."""
    real = debounce.add

    def add(rule: Any, state: Any, event: Any, now: int) -> Any:
        decision = real(rule, state, event, now)
        if decision.action is not DebounceAction.REPLACED:
            return decision
        kept = type(decision.state)(state.event, decision.state.first_at, decision.state.due)
        return type(decision)(decision.action, kept)

    return [(debounce, "add", add)]


def singleton_not_removed() -> list[Patch]:
    """The key of a singleton stays when its run ends."""
    return _never_dropped(SINGLETON)


def singleton_removed_early() -> list[Patch]:
    """The key of a singleton is free as soon as its run has begun."""
    real = State.begin

    def begin(self: State, run: Any) -> None:
        real(self, run)
        if run.flow is not None and run.flow.singleton is not None:
            self.drop_key(KeyRef(SINGLETON, run.function_id, run.flow.singleton.id))

    return [(State, "begin", begin)]


def cancelled_by_ulid() -> list[Patch]:
    """Whether an event came after the run that it cancels is told by the time in its ULID, the client's claim."""
    real = matching._end_wait

    def end_wait(state: State, run: Any, wait: Any, parsed: Any, internal_id: str) -> None:
        if wait.kind is not WaitKind.CANCEL or ulid_time_ms(internal_id) >= run.created_at:
            real(state, run, wait, parsed, internal_id)

    return [(matching, "_end_wait", end_wait)]


def schedule_not_advanced() -> list[Patch]:
    """The commit of a firing leaves the schedule as it was; its next time is in memory only."""
    real = scheduling.fire_schedule

    def fire_schedule(state: State, ref: KeyRef) -> None:
        real(state, ref)
        state.batch.changes.keys.pop(ref, None)
        state.batch.items.pop((timer_id(ref), TIMER_ITEM), None)

    from perdure.shard import dispatch

    return [(dispatch, "fire_schedule", fire_schedule)]


def same_key_again() -> list[Patch]:
    """A key that had its turn is the next again, as long as it has somebody who waits."""
    real = Node.join

    def join(self: Node, child: Node, *, first: bool = False) -> None:
        real(self, child, first=True)

    return [(Node, "join", join)]


def read_keys_win() -> list[Patch]:
    """What was read under a key wins over what batches have changed since."""

    def value(self: Recent, ref: KeyRef, found: Mapping[KeyRef, bytes]) -> bytes | None:
        changed = self._changed.get(ref)
        return found.get(ref) or (None if changed is None else changed[0])

    return [(Recent, "value", value)]


# Mistakes that it has found


def fired_before_the_commit() -> list[Patch]:
    """A batch or a debounce starts its run before its last events are on disk, and without them."""

    def flush_rules(self: FlowLoads) -> None:
        rules, self._rules = self._rules, []
        self._start(self._load_rules(rules), rules)

    real_batch_of = Recent.batch_of

    def batch_of(self: Recent, ref: KeyRef) -> int:
        return 0 if ref.kind in (BATCH, CLOSED_BATCH) else real_batch_of(self, ref)

    return [(FlowLoads, "_flush_rules", flush_rules), (Recent, "batch_of", batch_of)]


def numbers_of_waits_reused() -> list[Patch]:
    """A run that is read again gives the numbers of its cancelling waits to others."""
    real = memory.run_from_rows

    def run_from_rows(stored: Any) -> Any:
        run = real(stored)
        run.seq = stored.last_n + 1
        return run

    from perdure.shard import flow_loads, loads, recovery

    places = [each for each in (memory, flow_loads, loads, recovery) if hasattr(each, "run_from_rows")]
    return [(each, "run_from_rows", run_from_rows) for each in places]


def needs_of_one_that_left() -> list[Patch]:
    """A line learns what it needs from a call that has left it, and needs less."""

    def learn(self: Dispatcher, line: Any, ref: Any) -> None:
        run = self._state.memory.get(ref.run_id)
        if run is None:
            line.blocked = True
            self._loads.want_run_for(line, ref)
            return
        item = run.items.get(ref.n)
        if item is not None and item.part == line.part:
            line.needs = needs_of(run)
            line.put_back(ref)
        self._state.lines.touched[line] = None

    return [(Dispatcher, "_learn", learn)]


def half_of_one_place() -> list[Patch]:
    """Of a gate with one place a function may have none while another waits, and the other neither."""

    def holds_half(self: Gate, function_id: str) -> bool:
        return self._by_function.get(function_id, 0) >= self.hard_limit // 2

    return [(Gate, "holds_half", holds_half)]


def one_page_read_twice() -> list[Patch]:
    """A page of the names of a function's lines is read a second time before the first read begins."""

    def parts(self: FlowLoads, function_id: str) -> None:
        self._start(self._load_parts(function_id))

    return [(FlowLoads, "parts", parts)]


def effects_forgotten() -> list[Patch]:
    """Nobody can tell by an event what it did to runs."""
    return [(State, "note_effect", lambda self, event_id, run, how: None)]


RULE_MUTANTS: dict[str, Callable[[], list[Patch]]] = {
    each.__name__: each
    for each in (
        place_kept_after_cancel,
        place_not_held_after_restart,
        throttle_not_stored,
        rate_not_stored,
        batch_not_removed,
        debounce_keeps_the_first,
        singleton_not_removed,
        singleton_removed_early,
        cancelled_by_ulid,
        schedule_not_advanced,
        same_key_again,
        read_keys_win,
        effects_forgotten,
    )
}
RULE_RELAPSES: dict[str, Callable[[], list[Patch]]] = {
    each.__name__: each
    for each in (
        fired_before_the_commit,
        numbers_of_waits_reused,
        needs_of_one_that_left,
        half_of_one_place,
        one_page_read_twice,
    )
}

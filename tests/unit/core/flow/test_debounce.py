"""Debounce: against a plain simulation that knows all events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from perdure.core.flow.debounce import GRACE_MS, DebounceAction, DebounceState, add
from perdure.core.flow.stored import Arrival
from perdure.protocol.functions import Debounce
from tests.unit.core.unhurried import unhurried

RULE = Debounce(5_000)


def event(receipt: int, ts: int) -> Arrival:
    return Arrival(receipt, f"e{receipt}", ts, 10)


def test_the_last_event_wins_and_each_moves_the_time() -> None:
    first = add(RULE, None, event(1, 100), 1_000)
    assert (first.action, first.state.due) == (DebounceAction.OPENED, 6_000)
    second = add(RULE, first.state, event(2, 200), 4_000)
    assert (second.action, second.state.due, second.state.event.receipt) == (
        DebounceAction.REPLACED,
        9_000,
        2,
    )
    assert second.state.first_at == 1_000
    assert second.state.due > 8_999
    assert second.state.due <= 9_000


def test_an_older_event_is_ignored_altogether() -> None:
    """One sent for the future wins over those sent later with an older time."""
    held = add(RULE, None, event(1, 9_000), 1_000).state
    older = add(RULE, held, event(2, 8_999), 3_000)
    assert older.action is DebounceAction.IGNORED
    assert (older.state.event.receipt, older.state.due, older.state.events) == (1, 6_000, 2)
    same = add(RULE, held, event(3, 9_000), 3_000)
    assert (same.action, same.state.event.receipt) == (DebounceAction.REPLACED, 3)


def test_the_timeout_caps_the_delay_with_one_grace() -> None:
    rule = Debounce(5_000, timeout_ms=8_000)
    state = add(rule, None, event(1, 0), 0).state
    state = add(rule, state, event(2, 0), 4_000).state
    assert state.due == 8_000
    state = add(rule, state, event(3, 0), 7_900).state
    assert state.due == 7_900 + GRACE_MS
    for receipt, now in ((4, 8_300), (5, 8_800)):
        state = add(rule, state, event(receipt, 0), now).state
        assert state.due <= 8_000 + GRACE_MS


def test_a_period_above_the_timeout_is_capped_from_the_start() -> None:
    assert add(Debounce(60_000, timeout_ms=10_000), None, event(1, 0), 0).state.due == 10_000


def test_an_event_after_the_time_finds_the_debounce_over() -> None:
    held = add(RULE, None, event(1, 0), 0).state
    late = add(RULE, held, event(2, 5), 5_000)
    assert late.action is DebounceAction.OPENED
    assert late.fires == held
    assert (late.state.event.receipt, late.state.first_at, late.state.due) == (2, 5_000, 10_000)


def simulated(rule: Debounce, events: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(when, which) of each run, from the whole list of (now, ts): groups first, then the last of each."""
    runs: list[tuple[int, int]] = []
    at = 0
    while at < len(events):
        first, due, best = events[at][0], 0, at
        cap = None if rule.timeout_ms is None else first + rule.timeout_ms
        member = at
        while member < len(events) and (member == at or events[member][0] < due):
            now, ts = events[member]
            if member == at or ts >= events[best][1]:
                best = member
                due = now + rule.period_ms
                if cap is not None and due > cap:
                    due = min(max(cap, now + GRACE_MS), cap + GRACE_MS)
            member += 1
        runs.append((due, best))
        at = member
    return runs


arrivals = st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 50)), min_size=1, max_size=80)


@unhurried
@given(st.integers(1_000, 5_000), st.none() | st.integers(1_000, 12_000), arrivals, st.integers(0, 3_000))
def test_runs_are_those_of_the_simulation_however_late_timers_are(
    period: int, timeout: int | None, gaps: list[tuple[int, int]], lag: int
) -> None:
    """Timers are handled up to `lag` ms late, or only when the next event comes."""
    rule = Debounce(period, timeout_ms=timeout)
    events, now = [], 0
    for gap, ts in gaps:
        now += gap
        events.append((now, ts))
    state: DebounceState | None = None
    runs: list[tuple[int, int]] = []
    for receipt, (now, ts) in enumerate(events):
        if state is not None and now >= state.due + lag and now >= state.due:
            runs.append((state.due, state.event.receipt))
            state = None
        decision = add(rule, state, event(receipt, ts), now)
        if decision.fires is not None:
            runs.append((decision.fires.due, decision.fires.event.receipt))
        state = DebounceState.decode(decision.state.encode())
    assert state is not None
    runs.append((state.due, state.event.receipt))
    assert runs == simulated(rule, events)


def test_a_clock_set_back_puts_nothing_off_by_its_jump() -> None:
    state = add(Debounce(5_000, timeout_ms=8_000), None, event(1, 10), 10_000_000).state
    back = add(Debounce(5_000, timeout_ms=8_000), state, event(2, 10), 1_000_000)
    assert (back.state.first_at, back.state.due) == (1_000_000, 1_005_000)
    ignored = add(RULE, state, event(2, 5), 1_000_000)
    assert (ignored.action, ignored.state.due) == (DebounceAction.IGNORED, 1_005_000)


@unhurried
@given(st.integers(1_000, 5_000), st.integers(1_000, 12_000), st.integers(1, 900))
def test_a_stream_without_end_does_not_put_the_run_off_for_ever(period: int, timeout: int, gap: int) -> None:
    rule = Debounce(period, timeout_ms=timeout)
    state = add(rule, None, event(0, 0), 0).state
    now, receipt = 0, 0
    while True:
        now, receipt = now + gap, receipt + 1
        decision = add(rule, state, event(receipt, now), now)
        if decision.fires is not None:
            assert decision.fires.due <= timeout + GRACE_MS
            return
        state = decision.state
        assert now <= timeout + GRACE_MS + gap

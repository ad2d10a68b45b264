"""Rate limit: against a plain list of all times."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.flow.rate_limit import EXACT, SLICES, RateState, take
from perdure.protocol.functions import DAY, HOUR, RateLimit
from tests.unit.core.unhurried import unhurried

steps = st.lists(st.integers(0, 400), min_size=1, max_size=200)


def most_in_any_period(times: list[int], period: int) -> int:
    return max((sum(1 for other in times if time <= other < time + period) for time in times), default=0)


@unhurried
@given(st.integers(1, 8), st.integers(50, 2_000), steps)
def test_small_limits_are_exact(limit: int, period: int, gaps: list[int]) -> None:
    """Allowed when, and only when, fewer than `limit` were allowed in the period up to now."""
    rule = RateLimit(limit, period)
    state: RateState | None = None
    allowed: list[int] = []
    now = 1_700_000_000_000
    for gap in gaps:
        now += gap
        expected = sum(1 for time in allowed if time > now - period) < limit
        decision = take(rule, state, now)
        assert decision.allowed == expected
        if decision.allowed:
            allowed.append(now)
            state = RateState.decode(decision.state.encode())
        else:
            assert decision.free_at == sorted(allowed)[-limit] + period
    assert most_in_any_period(allowed, period) <= limit


@settings(unhurried, max_examples=30)
@given(
    st.integers(EXACT + 1, 100),
    st.integers(200, 5_000),
    st.lists(st.integers(0, 60), min_size=300, max_size=500),
)
def test_large_limits_never_let_one_too_many_and_are_late_by_a_slice_at_most(
    limit: int, period: int, gaps: list[int]
) -> None:
    rule = RateLimit(limit, period)
    state: RateState | None = None
    allowed: list[int] = []
    now = 1_700_000_000_000
    late = max(1, period // SLICES)
    for gap in gaps:
        now += gap
        decision = take(rule, state, now)
        if decision.allowed:
            allowed.append(now)
            state = decision.state
        else:
            assert sum(1 for time in allowed if time > now - period - late) >= limit
            assert decision.free_at > now
    assert most_in_any_period(allowed, period) <= limit


@pytest.mark.parametrize("limit", [1, 10, EXACT, EXACT + 1, 1_000])
def test_all_places_can_be_taken_at_once(limit: int) -> None:
    rule, state = RateLimit(limit, HOUR), None
    for _ in range(limit):
        decision = take(rule, state, 1_000)
        assert decision.allowed
        state = decision.state
    assert not take(rule, state, 1_000).allowed
    assert not take(rule, state, 1_000 + HOUR - 1).allowed
    assert take(rule, state, 1_000 + HOUR).allowed


@pytest.mark.parametrize("limit", [EXACT, EXACT + 1, 100_000, 1_000_000_000])
def test_the_state_of_a_key_stays_small(limit: int) -> None:
    rule = RateLimit(limit, DAY)
    state: RateState | None = None
    now = 1_700_000_000_000
    longest = 0
    for _ in range(400):
        now += DAY // 333
        decision = take(rule, state, now)
        state = decision.state
        if limit > EXACT:
            state = RateState(state.times, (*state.counts[:-1], limit // 45))
        longest = max(longest, len(state.encode()))
    assert longest <= 1_024


def test_a_place_that_was_refused_costs_nothing() -> None:
    rule = RateLimit(1, 1_000)
    state = take(rule, None, 0).state
    for now in range(10, 1_000, 10):
        assert not take(rule, state, now).allowed
    assert take(rule, state, 1_000).allowed


def test_the_next_moment_follows_a_limit_that_was_lowered() -> None:
    state: RateState | None = None
    for now in (0, 100, 200):
        state = take(RateLimit(3, 1_000), state, now).state
    refused = take(RateLimit(1, 1_000), state, 300)
    assert not refused.allowed
    assert refused.free_at == 1_200
    assert take(RateLimit(1, 1_000), state, 1_200).allowed


@unhurried
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 300), st.integers(-50_000, 50_000)), max_size=80))
def test_a_clock_that_jumps_exceeds_nothing_backwards_and_blocks_for_a_period_at_most(
    limit: int, moves: list[tuple[int, int]]
) -> None:
    """`real` is elapsed time, `clock` what the server reads. A jump ahead makes places free early: no clock of the
    wall can tell that from a pause."""
    period = 1_000
    rule = RateLimit(limit, period)
    state: RateState | None = None
    real, offset = 0, 10**9
    allowed: list[int] = []
    for gap, jump in moves:
        real += gap
        offset -= abs(jump)
        decision = take(rule, state, real + offset)
        assert decision.allowed or decision.free_at <= real + offset + period
        if decision.allowed:
            allowed.append(real)
        if decision.changed:
            state = decision.state
    assert most_in_any_period(allowed, period) <= limit


@unhurried
@given(st.integers(1, 3), st.integers(1, 10**9), st.integers(1, 700))
def test_a_clock_set_back_blocks_for_a_period_however_often_it_is_asked(
    limit: int, jump: int, look: int
) -> None:
    rule, state, now = RateLimit(limit, 1_000), None, 10**12
    for _ in range(limit):
        state = take(rule, state, now).state
    now = back = now - jump
    while not (decision := take(rule, state, now)).allowed:
        state = decision.state if decision.changed else state
        now += look
    assert back + 1_000 <= now < back + 1_000 + look


def test_a_key_with_nothing_left_to_remember_can_be_forgotten() -> None:
    rule = RateLimit(2, 1_000)
    state = take(rule, take(rule, None, 0).state, 500).state
    assert state.expires_at(rule) == 1_500
    assert take(rule, state, 1_500).state == take(rule, None, 1_500).state

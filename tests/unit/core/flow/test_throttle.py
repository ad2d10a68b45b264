"""Throttle: against a plain list of all starts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.flow.concurrency import Need
from perdure.core.flow.room import Room
from perdure.core.flow.throttle import NANOS, ThrottleState, cut, next_start, start
from perdure.core.flow.waiting import Ticket
from perdure.protocol.functions import Throttle
from tests.unit.core.unhurried import unhurried

T0 = 1_700_000_000_000


def run(rule: Throttle, wanted: list[int]) -> list[int]:
    """Start one run as soon as possible for each time at which one becomes ready, in order."""
    state: ThrottleState | None = None
    starts: list[int] = []
    now = 0
    for ready in wanted:
        now = max(now, ready)
        now = next_start(rule, state, now)
        assert next_start(rule, state, now) == now
        state = ThrottleState.decode(start(rule, state, now).encode())
        starts.append(now)
    return starts


def most_in_any_period(times: list[int], period: int) -> int:
    return max((sum(1 for other in times if time <= other < time + period) for time in times), default=0)


@unhurried
@given(
    st.integers(1, 7),
    st.integers(0, 5),
    st.integers(1_000, 3_000),
    st.lists(st.integers(0, 900), min_size=1, max_size=120),
)
def test_at_most_limit_and_burst_in_any_period(limit: int, burst: int, period: int, gaps: list[int]) -> None:
    wanted, now = [], T0
    for gap in gaps:
        now += gap
        wanted.append(now)
    starts = run(Throttle(limit, period, burst), wanted)
    assert most_in_any_period(starts, period) <= limit + burst


@unhurried
@given(
    st.integers(1, 7),
    st.integers(0, 5),
    st.integers(1_000, 3_000),
    st.lists(st.integers(0, 900), min_size=1, max_size=60),
)
def test_it_starts_as_early_as_the_exact_rule_allows(
    limit: int, burst: int, period: int, gaps: list[int]
) -> None:
    """The same rule in fractions: each start in the very millisecond in which the exact one falls."""
    rule = Throttle(limit, period, burst)
    interval = Fraction(period, limit)
    state: ThrottleState | None = None
    on_pace: Fraction | None = None
    now = T0
    for gap in gaps:
        now += gap
        exact = Fraction(now) if on_pace is None else max(Fraction(now), on_pace - burst * interval)
        allowed_at = next_start(rule, state, now)
        # Rounding the interval up by less than a nanosecond can carry a start into the next millisecond.
        assert int(exact) <= allowed_at <= int(exact + Fraction(len(gaps) + burst, 10**6))
        now = allowed_at
        state = start(rule, state, now)
        moment = max(Fraction(now), exact)
        on_pace = (moment if on_pace is None else max(moment, on_pace)) + interval


@pytest.mark.parametrize(("limit", "burst", "count"), [(1, 0, 1), (1, 1, 2), (5, 3, 4), (2, 10, 11)])
def test_a_rested_key_starts_burst_and_one_at_once(limit: int, burst: int, count: int) -> None:
    starts = run(Throttle(limit, 5_000, burst), [T0] * (count + 2))
    assert starts[:count] == [T0] * count
    assert starts[count] == T0 + 5_000 // limit
    assert starts[count + 1] == T0 + 2 * 5_000 // limit


@pytest.mark.parametrize("limit", [1_000, 10_000, 250_000])
def test_more_than_one_in_a_millisecond(limit: int) -> None:
    starts = run(Throttle(limit, 1_000), [T0] * 2_000)
    per_ms = limit // 1_000
    assert starts == [T0 + n // per_ms for n in range(2_000)]


def test_seven_a_second_is_seven_in_every_second() -> None:
    starts = run(Throttle(7, 1_000), [T0] * 71)
    assert most_in_any_period(starts, 1_000) == 7
    assert starts[70] - starts[0] == 10_000


@unhurried
@given(st.integers(1, 5), st.integers(0, 3), st.integers(1, 10**9), st.integers(1, 30_000))
def test_a_clock_set_back_blocks_for_burst_and_one_intervals_at_most(
    limit: int, burst: int, jump: int, look: int
) -> None:
    """However often somebody looks meanwhile."""
    period = 60_000
    rule = Throttle(limit, period, burst)
    state: ThrottleState | None = None
    for _ in range(burst + 1):
        assert next_start(rule, state, T0) == T0
        state = start(rule, state, T0)
    assert state is not None
    now = back = T0 - jump
    while True:
        state = cut(rule, state, now)
        if next_start(rule, state, now) == now:
            break
        now += look
    assert now <= back + (burst + 1) * period // limit + 2 + look


def test_a_schedule_that_can_be_right_is_not_cut() -> None:
    rule = Throttle(10_000, 1_000, 3)
    state: ThrottleState | None = None
    while next_start(rule, state, T0) == T0:
        state = start(rule, state, T0)
        assert cut(rule, state, T0) is state


def test_a_limit_that_was_raised_takes_effect_at_once() -> None:
    state = start(Throttle(1, 3_600_000), None, T0)
    assert next_start(Throttle(1, 3_600_000), state, T0) == T0 + 3_600_000
    raised = Throttle(3_600, 3_600_000)
    assert next_start(raised, cut(raised, state, T0), T0) <= T0 + 1_001


def test_a_rested_key_can_be_forgotten() -> None:
    rule = Throttle(1, 1_000, 2)
    state = start(rule, None, T0)
    assert state.expires_at() == T0 + 1_000
    assert start(rule, state, T0 + 1_000) == start(rule, None, T0 + 1_000)


class TestStartsThatComeLate:
    """A start that was let through and leaves later, as its run is read first or its app has no room."""

    NEED = Need("c", "t")

    def room(self, burst: int = 9) -> Room:
        room = Room()
        room.set_limits("F", {"t": Throttle(limit=1, period_ms=1_000, burst=burst)})
        return room

    def let_through(self, room: Room, starts: int, now: int) -> None:
        for n in range(starts):
            assert room.has("c", "t", now)
            ticket = Ticket("F", f"r{n}", f"i{n}", 0, throttle=self.NEED)
            room.take(ticket.item, ticket.run, ticket, now)
            room.expect(self.NEED)

    def test_those_that_leave_at_once_change_nothing(self) -> None:
        room = self.room()
        self.let_through(room, 3, T0)
        ahead = room.throttles["c"]
        for _ in range(3):
            assert room.left(self.NEED, T0) == ("c", ahead)

    def test_those_that_leave_together_count_from_then(self) -> None:
        room = self.room()
        self.let_through(room, 5, T0)
        for _ in range(5):
            room.left(self.NEED, T0 + 700)
        assert room.throttles["c"].on_pace_at == (T0 + 700 + 5_000) * NANOS

    def test_until_they_leave_they_may_leave_at_any_moment(self) -> None:
        room = self.room(burst=1)
        self.let_through(room, 2, T0)
        for later in (0, 999, 1_000, 50_000):
            assert not room.has("c", "t", T0 + later), "three would leave within a second"
        room.left(self.NEED, T0 + 50_000)
        assert not room.has("c", "t", T0 + 50_999)
        room.left(self.NEED, T0 + 50_400)
        assert room.opens_at("c", "t", T0 + 50_400) == T0 + 51_000

    def test_one_that_was_forgotten_meanwhile(self) -> None:
        room = self.room()
        self.let_through(room, 1, T0)
        room.forget_rested(T0 + 5_000)
        assert room.throttles == {}
        room.left(self.NEED, T0 + 5_000)
        room.forget_rested(T0 + 5_999)
        assert room.throttles["c"].on_pace_at == (T0 + 6_000) * NANOS
        room.forget_rested(T0 + 6_000)
        assert room.throttles == {}

    @given(
        st.integers(0, 4),
        st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 5_000)), min_size=1, max_size=40),
    )
    @unhurried
    def test_never_more_leave_than_the_promise_says(self, burst: int, wanted: list[tuple[int, int]]) -> None:
        """Each is let through as soon as it may be, and leaves after a delay of its own."""
        room, now = self.room(burst), T0
        waiting: list[int] = []
        left: list[int] = []

        def go_to(time: int) -> None:
            for due in sorted(each for each in waiting if each <= time):
                waiting.remove(due)
                left.append(due)
                room.left(self.NEED, due)

        for gap, delay in wanted:
            now += gap
            go_to(now)
            while not room.has("c", "t", now):
                now = min([room.opens_at("c", "t", now) or 0, *waiting])
                go_to(now)
            self.let_through(room, 1, now)
            waiting.append(now + delay)
        go_to(now + 10_000)
        for first in left:
            assert sum(1 for time in left if first <= time < first + 1_000) <= 1 + burst

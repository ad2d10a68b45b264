"""How many calls an app gets at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.pacing import HARD_LIMIT, QUICK_MS, YOUNG_CALLS, YOUNG_MS, Gate

NOW = 1_700_000_000_000


def filled(count: int, function: str = "f", now: int = NOW, **limits: int) -> Gate:
    gate = Gate(**limits)
    for number in range(count):
        gate.enter(number, function, now)
    return gate


def test_young_calls_are_few() -> None:
    gate = filled(YOUNG_CALLS - 1)
    assert gate.has_room("f", NOW, False)
    gate.enter(99, "f", NOW)
    assert not gate.has_room("f", NOW, False)
    assert not gate.has_room("g", NOW, False)


def test_one_that_ends_makes_room() -> None:
    gate = filled(YOUNG_CALLS)
    gate.leave(3)
    assert gate.has_room("f", NOW, False)
    gate.leave(3)
    gate.leave(1_000)
    assert len(gate.in_flight) == YOUNG_CALLS - 1


def test_old_calls_do_not_count() -> None:
    gate = filled(YOUNG_CALLS)
    assert gate.next_room() == NOW + YOUNG_MS
    assert not gate.has_room("f", NOW + YOUNG_MS - 1, False)
    assert gate.has_room("f", NOW + YOUNG_MS, False)


def test_calls_that_post_count_a_quarter() -> None:
    gate = filled(YOUNG_CALLS)
    gate.posted(0, NOW)
    gate.posted(0, NOW)
    gate.posted(1_000, NOW)
    assert not gate.has_room("f", NOW, False)
    assert (gate.free(NOW), gate.young(NOW)) == (0, YOUNG_CALLS)
    assert gate.next_room() == NOW + YOUNG_MS
    for number in range(1, 4):
        gate.posted(number, NOW + QUICK_MS)
    assert gate.has_room("f", NOW, False)
    assert (gate.free(NOW), gate.young(NOW)) == (3, YOUNG_CALLS - 3)
    for number in range(24, 27):
        gate.enter(number, "f", NOW + 1)
    assert not gate.has_room("f", NOW + 1, False)
    assert gate.young(NOW + 1) == YOUNG_CALLS


def test_slow_calls_that_post_count_in_full() -> None:
    gate = filled(YOUNG_CALLS)
    for number in range(YOUNG_CALLS):
        gate.posted(number, NOW + QUICK_MS + 1)
    assert not gate.has_room("f", NOW + QUICK_MS + 1, False)


def test_the_apps_own_word_of_its_time_counts() -> None:
    gate = filled(YOUNG_CALLS)
    for number in range(8):
        gate.posted(number, NOW + 100, QUICK_MS)
    assert gate.free(NOW + 100) == 6
    for number in range(8, 16):
        gate.posted(number, NOW + 1, QUICK_MS + 1)
    assert gate.free(NOW + 100) == 6


def test_no_more_than_four_times_as_many_post() -> None:
    gate, number = Gate(), 0
    while gate.has_room("f", NOW, False):
        gate.enter(number, "f", NOW)
        gate.posted(number, NOW)
        number += 1
    assert number == 4 * YOUNG_CALLS - 3
    assert gate.next_room() == NOW + YOUNG_MS
    assert gate.has_room("f", NOW + YOUNG_MS, False), "those that are old do not count"
    assert gate.free(NOW + YOUNG_MS) == YOUNG_CALLS
    for old in range(number):
        gate.leave(old)
    assert not gate.in_flight


def test_age_is_unknown_when_the_clock_was_set_back() -> None:
    assert filled(YOUNG_CALLS).has_room("f", NOW - 3_600_000, False)


def test_the_hard_limit_counts_every_call() -> None:
    gate = filled(HARD_LIMIT, now=NOW - 3_600_000)
    assert not gate.has_room("f", NOW, False)
    assert gate.next_room() is None
    gate.leave(0)
    assert gate.has_room("f", NOW, False)


def test_no_time_is_named_when_there_is_room() -> None:
    assert Gate().next_room() is None
    assert filled(1).next_room() is None


def test_one_function_takes_half_while_others_wait() -> None:
    gate = filled(5, hard_limit=10, young_calls=10)
    assert gate.has_room("f", NOW, False)
    assert not gate.has_room("f", NOW, True)
    assert gate.has_room("g", NOW, True)
    gate.leave(0)
    assert gate.has_room("f", NOW, True)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.sampled_from("fg"),
            st.sampled_from(["in", "out", "post"]),
            st.integers(0, 100),
        )
    )
)
def test_the_counts_hold(events: list[tuple[int, str, str, int]]) -> None:
    """Whatever comes and goes: never more than the limits, and nothing is left when all have gone."""
    gate = Gate(hard_limit=6, young_calls=3)
    started: dict[int, tuple[str, int]] = {}
    now = NOW
    posting: set[int] = set()
    for number, function, what, pause in events:
        now += pause
        if what == "in" and number not in started and gate.has_room(function, now, True):
            gate.enter(number, function, now)
            started[number] = (function, now)
        elif what == "post":
            gate.posted(number, now)
            if number in started and now - started[number][1] <= QUICK_MS:
                posting.add(number)
        elif what == "out":
            gate.leave(number)
            started.pop(number, None)
            posting.discard(number)
        assert gate.in_flight == started
        assert len(started) <= 6
        young = {number for number, (_, at) in started.items() if now - at < YOUNG_MS}
        assert len(young - posting) + len(young & posting) / 4 <= 3
        assert all(sum(f == name for f, _ in started.values()) <= 3 for name in "fg")
    for number in list(started):
        gate.leave(number)
    assert gate.has_room("f", now, True)
    assert gate.next_room() is None


@pytest.mark.parametrize("limit", [1, 2])
def test_a_tiny_limit_still_lets_one_in(limit: int) -> None:
    assert Gate(hard_limit=limit).has_room("f", NOW, limit > 1)

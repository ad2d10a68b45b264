"""Singleton, priority and timeouts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.flow.priority import MAX_FACTOR, SOON_MS, Priority, factor_of
from perdure.core.flow.singleton import SingletonAction, decide
from perdure.core.flow.timeouts import finish_deadline, start_deadline
from perdure.protocol.functions import Singleton, Timeouts
from tests.unit.core.unhurried import unhurried


@pytest.mark.parametrize("mode", ["skip", "cancel"])
def test_a_free_key_lets_the_run_proceed(mode: str) -> None:
    assert decide(Singleton(mode), None).action is SingletonAction.PROCEED


def test_a_held_key_skips_the_new_run_or_cancels_the_old() -> None:
    skipped = decide(Singleton("skip"), "R1")
    assert (skipped.action, skipped.holder) == (SingletonAction.SKIP, "R1")
    cancelled = decide(Singleton("cancel"), "R1")
    assert (cancelled.action, cancelled.holder) == (SingletonAction.CANCEL, "R1")


@pytest.mark.parametrize(
    ("text", "factor"),
    [
        (None, 0),
        ("120", 120),
        ("-5", -5),
        ("event.data.vip ? 600 : 0", 600),
        ("event.data.n", 7),
        ("event.data.whole", 7),
        ("event.data.half", 0),
        ("event.data.nil", 0),
        ("event.data.gone", 0),
        ("event.data.vip", 0),
        ("'7'", 0),
        ("1 / 0", 0),
        ("event.data.", 0),
        ("99999999", MAX_FACTOR),
        ("-99999999", -MAX_FACTOR),
    ],
)
def test_only_whole_numbers_count_and_are_bounded(text: str | None, factor: int) -> None:
    event = {"data": {"vip": True, "n": 7, "whole": 7.0, "half": 7.5, "nil": None}}
    assert Priority(text).factor(event, 0) == factor


@unhurried
@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_any_value_gives_a_bounded_factor(value: object) -> None:
    assert -MAX_FACTOR <= factor_of(value) <= MAX_FACTOR


def test_the_order_is_the_due_time_moved_by_the_factor() -> None:
    event: dict[str, object] = {"data": {}}
    assert Priority("60").order(event, 100_000, 100_000) == 40_000
    assert Priority("-60").order(event, 100_000, 100_000) == 160_000
    assert Priority(None).order(event, 100_000, 100_000) == 100_000


def test_a_run_due_later_is_not_moved() -> None:
    event: dict[str, object] = {"data": {}}
    assert Priority("60").order(event, 100_000 + SOON_MS, 100_000) == 40_000 + SOON_MS
    assert Priority("60").order(event, 100_001 + SOON_MS, 100_000) == 100_001 + SOON_MS


def test_deadlines() -> None:
    assert start_deadline(Timeouts(start_ms=5_000), 1_000) == 6_000
    assert finish_deadline(Timeouts(finish_ms=5_000), 1_000) == 6_000
    assert start_deadline(Timeouts(), 1_000) is None
    assert finish_deadline(Timeouts(start_ms=1), 1_000) is None

"""Batch: no event in two batches, and none lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.flow.batch import (
    MAX_BYTES,
    BatchAction,
    BatchCondition,
    BatchState,
    add,
    is_full,
)
from perdure.core.flow.stored import Arrival
from perdure.protocol.functions import Batch
from tests.unit.core.unhurried import unhurried

RULE = Batch(3, 5_000)


def event(receipt: int, size: int = 10, id: str | None = None) -> Arrival:
    return Arrival(receipt, id or f"e{receipt}", 0, size)


def test_it_runs_when_it_is_full() -> None:
    first = add(RULE, None, event(1), 1_000, "B1")
    assert first.action is BatchAction.OPENED
    assert first.state == BatchState("B1", 1_000, 6_000, 10, {"e1": 1})
    second = add(RULE, first.state, event(2), 2_000, "B2")
    assert (second.action, second.state.due) == (BatchAction.ADDED, 6_000)
    third = add(RULE, second.state, event(3), 3_000, "B3")
    assert third.action is BatchAction.FULL
    assert (third.state.id, list(third.state.events.values())) == ("B1", [1, 2, 3])


def test_it_runs_when_its_time_is_over_with_what_it_has() -> None:
    state = add(RULE, None, event(1), 0, "B1").state
    assert state.due > 4_999
    assert state.due <= 5_000


def test_it_runs_when_it_is_heavy_with_the_event_that_made_it_so() -> None:
    rule = Batch(100, 5_000)
    state = add(rule, None, event(1, MAX_BYTES - 1), 0, "B1").state
    assert not is_full(rule, state)
    heavy = add(rule, state, event(2, 1), 0, "B2")
    assert heavy.action is BatchAction.FULL
    assert list(heavy.state.events) == ["e1", "e2"]
    assert add(rule, None, event(1, MAX_BYTES), 0, "B1").action is BatchAction.FULL


def test_an_id_is_taken_once() -> None:
    state = add(RULE, None, event(1, id="x"), 0, "B1").state
    again = add(RULE, state, event(2, id="x"), 10, "B2")
    assert (again.action, again.state) == (BatchAction.DUPLICATE, state)


def test_an_event_after_the_time_opens_the_next() -> None:
    state = add(RULE, None, event(1), 0, "B1").state
    late = add(RULE, state, event(2), 5_000, "B2")
    assert (late.action, late.fires, late.state.id) == (BatchAction.OPENED, state, "B2")


def test_a_clock_set_back_makes_nobody_wait_for_longer() -> None:
    state = add(RULE, None, event(1), 10_000_000, "B1").state
    assert add(RULE, state, event(2), 1_000_000, "B2").state.due == 1_005_000


def test_a_size_that_was_lowered_runs_the_buffer_as_it_is() -> None:
    state = None
    for receipt in range(4):
        state = add(Batch(10, 5_000), state, event(receipt), 0, "B1").state
    lowered = add(Batch(2, 5_000), state, event(9), 1, "B2")
    assert (lowered.action, lowered.fires) == (BatchAction.OPENED, state)
    assert list(lowered.state.events) == ["e9"]


@pytest.mark.parametrize(
    ("text", "collected"),
    [
        (None, True),
        ("event.data.batch", True),
        ("event.data.batch == true", True),
        ("!event.data.batch", False),
        ("event.data.gone", False),
        ("event.data.n", False),
        ("1 / 0 == 1", False),
        ("event.data.", False),
    ],
)
def test_only_events_for_which_the_condition_holds_are_collected(text: str | None, collected: bool) -> None:
    assert BatchCondition(text).collects({"data": {"batch": True, "n": 1}}, 0) is collected


arrivals = st.lists(
    st.tuples(st.integers(0, 3_000), st.integers(0, 30), st.integers(1, 4 * 1024 * 1024)),
    min_size=1,
    max_size=120,
)


@unhurried
@given(st.integers(2, 6), st.integers(1_000, 8_000), arrivals, st.booleans())
def test_every_event_is_in_one_batch(
    size: int, timeout: int, gaps: list[tuple[int, int, int]], prompt: bool
) -> None:
    """Also when timers are handled late (`prompt` is False: only the next event shows that time is over)."""
    rule = Batch(size, timeout)
    state: BatchState | None = None
    done: list[BatchState] = []
    sent: dict[str, int] = {}
    last_of: dict[str, int] = {}
    now = 0
    for receipt, (gap, id_, weight) in enumerate(gaps):
        now += gap
        if prompt and state is not None and now >= state.due:
            done.append(state)
            state = None
        name = f"id{id_}"
        decision = add(rule, state, Arrival(receipt, name, 0, weight), now, f"B{receipt}")
        if decision.fires is not None:
            done.append(decision.fires)
        if decision.action is BatchAction.DUPLICATE:
            assert last_of[name] == len(done)
        else:
            sent[f"{name}/{receipt}"] = receipt
            last_of[name] = len(done)
        state = BatchState.decode(decision.state.encode())
        if decision.action is BatchAction.FULL:
            done.append(state)
            state = None
    if state is not None:
        done.append(state)
    collected = [receipt for batch in done for receipt in batch.events.values()]
    assert collected == sorted(sent.values())
    assert all(len(batch.events) <= size for batch in done)
    assert len({batch.id for batch in done}) == len(done)

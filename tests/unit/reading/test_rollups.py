"""Rollups: quantiles are near the truth, and sums do not depend on how things were put together."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.reading.rollups import (
    MINUTE,
    QUARTER,
    SPANS,
    WATCH,
    Histogram,
    Rollup,
    RollupRecord,
    bucket_of,
    decode,
    encode,
    merged,
    middle_of,
    span_for,
)

LENGTHS = st.lists(st.integers(0, 10**11), min_size=1, max_size=200)
OFF = 0.095
"""How far a quantile may be off: half the distance of two buckets."""


@given(LENGTHS, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_near_the_truth(lengths: list[int], share: float) -> None:
    histogram = Histogram()
    for length in lengths:
        histogram.add(length)
    rank = max(1, -(-len(lengths) * int(share * 100) // 100))
    truth = sorted(lengths)[rank - 1]
    found = histogram.quantile(share)
    assert found is not None
    assert abs(found - truth) <= max(1, truth * OFF)


def test_of_nothing_there_is_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None


@given(st.integers(1, 10**12))
def test_the_middle_of_a_bucket_is_in_it_or_rounds_into_it(length: int) -> None:
    middle = middle_of(bucket_of(length))
    assert abs(middle - length) <= max(1, length * OFF)


@given(LENGTHS, st.integers(0, 2**32))
def test_sums_do_not_depend_on_the_parts(lengths: list[int], seed: int) -> None:
    whole = Rollup()
    parts = [Rollup() for _ in range(3)]
    chance = random.Random(seed)
    for length in lengths:
        for rollup in (whole, chance.choice(parts)):
            rollup.completed += 1
            rollup.took.add(length)
    chance.shuffle(parts)
    summed = merged(RollupRecord(MINUTE, 0, "f", one) for one in parts)
    assert summed == merged([RollupRecord(MINUTE, 0, "f", whole)])


def test_depth_is_the_largest() -> None:
    assert merged([RollupRecord(MINUTE, 0, "f", Rollup(depth=depth)) for depth in (2, 7, 3)]).depth == 7


def test_what_is_stored_comes_back() -> None:
    rollup = Rollup(queued=3, failed=1)
    rollup.waited.add(250)
    assert decode(encode(rollup)) == rollup


@pytest.mark.parametrize(
    ("length", "span"),
    [(3_600_000, MINUTE), (86_400_000, QUARTER), (30 * 86_400_000, WATCH), (10**12, WATCH)],
)
def test_charts_have_some_hundred_points_at_most(length: int, span: int) -> None:
    assert span_for(length) == span
    assert list(SPANS) == sorted(SPANS)

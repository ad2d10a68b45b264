"""A thousand histories."""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.sim.histories import Found, replay_command, run_several
from tests.sim.scenario import FAULTS

SEEDS = 1_000
AT_ONCE = 20
ALL = frozenset(FAULTS)


@pytest.fixture(scope="module")
def results(pool: ProcessPoolExecutor) -> list[Future[list[Found]]]:
    """All histories, under way; each entry is so many seeds in a row."""
    return [
        pool.submit(run_several, list(range(first, first + AT_ONCE)), ALL)
        for first in range(0, SEEDS, AT_ONCE)
    ]


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_nothing_is_found_in_these_histories(first: int, results: list[Future[list[Found]]]) -> None:
    found = results[first // AT_ONCE].result()

    failed = [each for each in found if each.checker]
    told = [f"{replay_command(each.seed, ALL, '')}: {each.checker}: {each.text}" for each in failed]
    assert not failed, "\n".join(told)
    assert [each.seed for each in found] == list(range(first, first + AT_ONCE))

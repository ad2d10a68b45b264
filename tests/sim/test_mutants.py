"""Broken rules and old mistakes must be noticed, each within a bounded number of seeds.

The same seeds find nothing in the engine as it is (`test_seeds`).
"""

from __future__ import annotations

from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.sim.histories import Found, first_failure
from tests.sim.mutants import MUTANTS
from tests.sim.relapses import RELAPSES
from tests.sim.rule_mutants import RULE_MUTANTS, RULE_RELAPSES

SEEDS = 400
"""More than any needs at present, so that a change of the simulation does not lose one by chance."""
PLAIN, RULED = (*MUTANTS, *RELAPSES), (*RULE_MUTANTS, *RULE_RELAPSES)


@pytest.fixture(scope="module")
def noticed(pool: ProcessPoolExecutor) -> dict[str, Future[Found | None]]:
    plain = {name: pool.submit(first_failure, name, range(SEEDS)) for name in PLAIN}
    return plain | {name: pool.submit(first_failure, name, range(1, SEEDS, 2)) for name in RULED}


@pytest.mark.parametrize("name", [*PLAIN, *RULED])
def test_a_broken_rule_is_noticed(name: str, noticed: dict[str, Future[Found | None]]) -> None:
    assert noticed[name].result() is not None, f"{name} was not noticed in {SEEDS} seeds"

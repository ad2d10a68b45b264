"""One seed is one history: the same in every process, whatever the order in which Python hashes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.sim.histories import run_one
from tests.sim.scenario import FAULTS, draw

PROGRAM = """
from tests.sim.histories import run_one
from tests.sim.scenario import FAULTS
for seed in {seeds}:
    print(run_one(seed, frozenset(FAULTS)).trace.digest())
"""


def digests(seeds: list[int], hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", PROGRAM.format(seeds=seeds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split()


def test_a_seed_gives_the_same_history_in_two_processes() -> None:
    seeds = list(range(0, 24, 2))

    first, second = digests(seeds, "1"), digests(seeds, "2")

    assert first == second
    assert len(set(first)) == len(seeds)


@pytest.mark.parametrize("seed", [1, 3])
def test_a_seed_gives_the_same_history_twice_in_one_process(seed: int) -> None:
    assert run_one(seed, frozenset(FAULTS)).trace.digest() == run_one(seed, frozenset(FAULTS)).trace.digest()


def test_scenarios_differ() -> None:
    assert len({draw(seed) for seed in range(50)}) == 50


def test_every_family_of_faults_is_met() -> None:
    met = frozenset().union(*(draw(seed).faults for seed in range(50)))

    assert met == frozenset(FAULTS)

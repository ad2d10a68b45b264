"""Letting histories happen, one or many, and telling what was found."""

from __future__ import annotations

import faulthandler
import logging
import signal
from dataclasses import dataclass

from tests.sim.mutants import mutated
from tests.sim.scenario import FAULTS, draw
from tests.sim.world import Outcome, simulate

HANG_S = 120
"""A history takes less than a second of work."""


@dataclass(frozen=True)
class Found:
    """A seed, and the checker and text of its failure, if it failed."""

    seed: int
    checker: str = ""
    text: str = ""


def run_one(seed: int, faults: frozenset[str], mutant: str = "") -> Outcome:
    """One history."""
    logging.disable(logging.CRITICAL)
    with mutated(mutant):
        return simulate(draw(seed, faults))


def _watched(seed: int, faults: frozenset[str], mutant: str) -> Outcome:
    """One history in a process of its own, which ends with a traceback if nothing else would end it."""
    faulthandler.dump_traceback_later(HANG_S, exit=True)
    try:
        return run_one(seed, faults, mutant)
    finally:
        faulthandler.cancel_dump_traceback_later()


def run_several(seeds: list[int], faults: frozenset[str], mutant: str = "") -> list[Found]:
    """What came of each of some histories."""
    found = []
    for seed in seeds:
        failure = _watched(seed, faults, mutant).failure
        found.append(Found(seed) if failure is None else Found(seed, failure.checker, failure.text))
    return found


def first_failure(mutant: str, seeds: range) -> Found | None:
    """What the first of these seeds found that found anything, with one rule of the engine broken."""
    for seed in seeds:
        failure = _watched(seed, frozenset(FAULTS), mutant).failure
        if failure is not None:
            return Found(seed, failure.checker, failure.text)
    return None


def story(outcome: Outcome, lines: int) -> str:
    """What happened to the run that a failure concerns, and what was found."""
    scenario, failure = outcome.scenario, outcome.failure
    assert failure is not None
    told = list(outcome.trace.story(failure.run, lines))
    head = f"seed {scenario.seed}, faults: {', '.join(sorted(scenario.faults)) or 'none'}\n{scenario.limits}"
    return "\n".join([head, *(line[:400] for line in told), f"checker {failure.checker}: {failure.text}"])


def replay_command(seed: int, faults: frozenset[str], mutant: str) -> str:
    """What to type to see a history again."""
    words = [f"--seed {seed}"]
    if faults != frozenset(FAULTS):
        words.append(f"--faults {','.join(sorted(faults)) or 'none'}")
    if mutant:
        words.append(f"--mutant {mutant}")
    return f'make sim ARGS="{" ".join(words)}"'


def ignore_interrupts() -> None:
    """For worker processes: Ctrl-C is for the one that started them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

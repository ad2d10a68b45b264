"""`python -m tests.sim`: let histories happen until told to stop, or replay one.

    --seed N        one history, with its story if it fails
    --seeds N       so many histories
    --minutes M     so many minutes of real time
    --first N       the seed to begin with; a random one if it is not given
    --faults a,b    only these families of faults (see `tests.sim.scenario.FAULTS`); `none` for none
    --mutant NAME   with one rule of the engine broken (see `tests.sim.mutants`)
    --lines N       length of the story

Without any of them it runs until Ctrl-C.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

from tests.sim.histories import Found, ignore_interrupts, replay_command, run_one, run_several, story
from tests.sim.mutants import MUTANTS
from tests.sim.relapses import RELAPSES
from tests.sim.scenario import FAULTS

AT_ONCE = 20
"""Seeds that a process takes at once."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--seeds", type=int, help="so many histories")
    parser.add_argument("--minutes", type=float, help="so many minutes of real time")
    parser.add_argument("--first", type=int, help="the seed to begin with (random)")
    parser.add_argument("--faults", default=",".join(FAULTS), help=f"of {', '.join(FAULTS)}; or none")
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS, *RELAPSES], help="a rule to break")
    parser.add_argument("--lines", type=int, default=60, help="length of the story")
    return parser.parse_args()


def _faults(text: str) -> frozenset[str]:
    names = frozenset(text.split(",")) - {"", "none"}
    unknown = names - frozenset(FAULTS)
    if unknown:
        sys.exit(f"unknown faults: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    return names


def _batches(first: int, count: int | None, deadline: float | None) -> Iterator[list[int]]:
    for at in itertools.count(first, AT_ONCE):
        if deadline is not None and time.monotonic() > deadline:
            return
        end = at + AT_ONCE if count is None else min(at + AT_ONCE, first + count)
        if end <= at:
            return
        yield list(range(at, end))


def _many(options: argparse.Namespace, faults: frozenset[str]) -> list[Found]:
    """Run batches of seeds in as many processes as there are cores, until something fails or all is done."""
    first = options.first if options.first is not None else int.from_bytes(os.urandom(4)) % 10**8
    deadline = None if options.minutes is None else time.monotonic() + options.minutes * 60
    cores = os.cpu_count() or 1
    done = 0
    with ProcessPoolExecutor(cores, multiprocessing.get_context("spawn"), ignore_interrupts) as pool:
        waiting: list[Future[list[Found]]] = []
        for seeds in _batches(first, options.seeds, deadline):
            waiting.append(pool.submit(run_several, seeds, faults, options.mutant))
            if len(waiting) <= cores:
                continue
            found = waiting.pop(0).result()
            done += len(found)
            print(f"\r{done} histories from seed {first}", end="", flush=True)
            if any(each.checker for each in found):
                waiting.insert(0, _ended(found))
                break
        rest = [each for future in waiting for each in future.result()]
    print(f"\r{done + len(rest)} histories from seed {first}")
    return [each for each in rest if each.checker]


def _ended(found: list[Found]) -> Future[list[Found]]:
    future: Future[list[Found]] = Future()
    future.set_result(found)
    return future


def main() -> int:
    """Run, and say what was found; 1 if anything was."""
    options = _arguments()
    faults = _faults(options.faults)
    if options.seed is None:
        try:
            failed = _many(options, faults)
        except KeyboardInterrupt:
            print("\nstopped")
            return 0
        if not failed:
            print("nothing found")
            return 0
        options.seed = failed[0].seed
        for each in failed[1:]:
            print(f"also failed: seed {each.seed}, checker {each.checker}")
    outcome = run_one(options.seed, faults, options.mutant)
    if outcome.failure is None:
        print(
            f"seed {options.seed}: nothing found; {outcome.runs} runs, {outcome.batches} batches, "
            f"{outcome.calls} calls, {outcome.lives} lives of the server, history {outcome.trace.digest()[:16]}"
        )
        return 0
    print(story(outcome, options.lines))
    print(f"replay: {replay_command(options.seed, faults, options.mutant)}")
    return 1


if __name__ == "__main__":
    sys.exit(main())

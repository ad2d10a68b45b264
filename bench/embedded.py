"""What a step costs when the engine is in the app's own process.

    python -m bench.embedded [--runs 2000] [--at-once 50] [--repeat 5] [--asyncio]

Functions of ten steps which do nothing, each step on disk (`synchronous=FULL`) before the next one starts. First
`--at-once` runs at once, each sent when the one before it has ended, then one at a time; each with the engine in a
thread of its own, which is the default, and on the app's loop. Steps a second by the clock on the wall, and CPU of the
whole process beside them, the sending of the events included. Goals: at least 15,000 steps a second at 50 runs at
once, at most 0.5 ms a step with one. The app's loop is uvloop, as uvicorn has it, unless `--asyncio` is given.

The time of one `fdatasync` on the same disk is measured too: it bounds what one run can do.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import uvloop

import perdure
from bench.measure import fdatasync_ms, load_average

STEPS = 10
GOAL_RATE, GOAL_MS = 15_000, 0.5


class Work:
    """The app, and who waits for the end of each run."""

    def __init__(self) -> None:
        self.app = perdure.App("bench")
        self._ended: dict[int, asyncio.Future[None]] = {}
        self._keys: Iterator[int] = count()

        async def one(number: int) -> int:
            return number

        @self.app.function("bench/ten", retries=0)
        async def ten(event: dict[str, int], step: perdure.Step) -> int:
            total = 0
            for number in range(STEPS):
                total += await step.run(f"step-{number}", one, number)
            self._ended.pop(event["key"]).set_result(None)
            return total

    async def run(self, runs: int) -> None:
        """Runs, one after the other."""
        for _ in range(runs):
            key = next(self._keys)
            ended = self._ended[key] = asyncio.get_running_loop().create_future()
            await self.app.send(perdure.Event("bench/ten", {"key": key}))
            await ended


async def measure(
    own_thread: bool, at_once: int, runs: int, repeat: int, where: str | None = None
) -> tuple[float, float]:
    """Steps a second, and CPU in us a step: the median of so many repeats, after a warm-up."""
    work = Work()
    rates, cpus = [], []
    with tempfile.TemporaryDirectory(dir=where) as folder:
        async with work.app.run_embedded(f"sqlite:///{folder}/jobs.db", own_thread=own_thread):
            await work.run(20)
            for _ in range(repeat):
                cpu, wall = time.process_time(), time.perf_counter()
                await asyncio.gather(*(work.run(runs // at_once) for _ in range(at_once)))
                steps = runs // at_once * at_once * STEPS
                rates.append(steps / (time.perf_counter() - wall))
                cpus.append((time.process_time() - cpu) / steps * 1e6)
    return statistics.median(rates), statistics.median(cpus)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--asyncio", action="store_true")
    parser.add_argument(
        "--folder", help="where the database is; on tmpfs nothing is durable: it tells CPU from disk"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(f"load {load_average()}, fdatasync {fdatasync_ms(Path(folder)):.2f} ms")
    start = asyncio.run if options.asyncio else uvloop.run
    for at_once, runs in ((options.at_once, options.runs), (1, max(options.runs // 20, 20))):
        for own_thread in (True, False):
            rate, cpu = start(measure(own_thread, at_once, runs, options.repeat, options.folder))
            where = "own thread" if own_thread else "app's loop"
            goal = f"{GOAL_RATE:,} steps/s" if at_once > 1 else f"{GOAL_MS} ms a step"
            reached = rate >= GOAL_RATE if at_once > 1 else 1000 / rate <= GOAL_MS
            print(
                f"{at_once:>3} at once, {where}: {rate:>7,.0f} steps/s, {1000 / rate:.3f} ms a step by the clock, "
                f"{cpu:.0f} us of CPU a step, {1e6 / cpu:,.0f} steps a CPU second "
                f"(goal {goal}: {'reached' if reached else 'missed'})",
                flush=True,
            )


if __name__ == "__main__":
    main()

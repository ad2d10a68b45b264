"""What flow control costs in the engine: the real shard on the real store, apps played inside this process.

    python -m bench.flow_engine [--runs 100000] [--repeat 7] [--open 500] [--queued 1000000] [--only NAME]

First, CPU a run, from its event to its end, of one function without limits and of the same with one, with 10 and with
100,000 keys; the cases take turns, the median counts. At most `--open` runs are sent and not ended, so that it is the
start of a run that is measured; with 0 all are sent as fast as they are taken, which measures a queue that grows
until most of it is on disk only. Goals: a limit adds at most 20 us; 100,000 keys cost at most a tenth more than 10.
The garbage collector is set as a server sets it. Then the rate at which runs start behind a limit of 10 when a million
wait, against that of a queue of `--started` runs. Goal: at least 80 %. It is CPU time of the whole process, writer's
thread included, so that a busy machine disturbs less; the rate is by the clock on the wall, with CPU beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.fill import HEADERS, WallClock, registration, send_events
from bench.measure import load_average, machine
from bench.processes import BENCH
from perdure.bootstrap import tune_process
from perdure.core.settings import Settings
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.events import EventReader
from perdure.protocol.registration import read_registration
from perdure.shard.commands import ReceiveEvents, RegisterApp
from perdure.shard.loop import Shard
from perdure.stores.sqlite.store import SqliteStore

SLUG = "limited"
CHUNK = 50
"""Events in a command."""
WAITING = 100
"""Commands that wait to be decided, at most."""
ADDED_US, GROWTH, KEPT_RATE = 20.0, 1.10, 0.80
ANSWER = CallAnswer(200, HEADERS, b"null", "http://app")
BY_KEY = {"concurrency": [{"limit": 100, "key": "event.data.key"}]}


class _Handle:
    def cancel(self) -> None:
        """Nothing is under way that could be given up."""


class PlayedApp:
    """Transport: answers every call on the next turn of the loop while it is `open`; calls before that stay open."""

    def __init__(self) -> None:
        self.answered = 0
        self.open = True

    def start(self, _: Call, done: Callable[[CallAnswer | CallFailure], None]) -> _Handle:
        """Answer, or not."""
        if self.open:
            self.answered += 1
            asyncio.get_running_loop().call_soon(done, ANSWER)
        return _Handle()


@dataclass(frozen=True)
class Case:
    """A function's rules, and how many keys its events have."""

    rules: dict[str, Any]
    keys: int = 1


CASES = {
    "no limit": Case({}),
    "concurrency": Case({"concurrency": 100}),
    "concurrency by key, 10 keys": Case(BY_KEY, 10),
    "concurrency by key, 100,000 keys": Case(BY_KEY, 100_000),
    "two limits, one by key": Case({"concurrency": [{"limit": 100}, *BY_KEY["concurrency"]]}, 10),
    "throttle by key": Case({"throttle": {"limit": 1_000_000, "period": "1s", "key": "event.data.key"}}, 10),
    "rate limit by key": Case(
        {"rateLimit": {"limit": 1_000_000, "period": "1h", "key": "event.data.key"}}, 1_000
    ),
    "priority": Case({"priority": {"run": "event.data.i % 10"}}),
    "singleton by key": Case({"singleton": {"mode": "skip", "key": "event.data.i"}}),
    "timeouts": Case({"timeouts": {"start": "1h", "finish": "1h"}}),
    "cancelOn": Case({"cancel": [{"event": "stop", "if": "event.data.key == async.data.key"}]}, 10),
}


class Bench:
    """A shard on a database file, and the app that it calls."""

    def __init__(self, database: Path) -> None:
        self.app = PlayedApp()
        self.rng = random.Random(1)
        self.store = SqliteStore.open(database)
        self.shard = Shard(self.store, self.app, WallClock(), self.rng.randbytes, Settings())

    async def register(self, rules: dict[str, Any]) -> None:
        """Sync the one function with these rules."""
        body = registration(SLUG, "http://127.0.0.1:1", **rules)
        read = read_registration(body, check_expression=lambda _: None, check_cron=lambda _: None)
        await self.shard.submit(RegisterApp(registration=read))

    async def send(self, runs: int, keys: int, most_open: int) -> None:
        """Send events for so many runs, `CHUNK` in a command."""
        clock = WallClock()
        for sent in range(0, runs, CHUNK):
            while most_open and sent - self.app.answered > most_open - CHUNK:
                await asyncio.sleep(0.0005)
            numbers = range(sent, min(sent + CHUNK, runs))
            reader = EventReader(None, clock.now(), self.rng.randbytes, "application/json")
            events = [{"name": SLUG, "data": {"i": i, "key": f"c-{i % keys}"}} for i in numbers]
            reader.feed(msgspec.json.encode(events))
            reader.finish()
            while self.shard.waiting > WAITING:
                await asyncio.sleep(0.0005)
            self.shard.submit(ReceiveEvents(events=reader.events, received_at=clock.now()))

    async def until_answered(self, count: int) -> None:
        """Wait until so many calls were answered and their ends are on disk."""
        while self.app.answered < count or self.shard.calls_in_flight or self.shard.waiting:
            await asyncio.sleep(0.002)

    async def close(self) -> None:
        """End it at once."""
        await self.shard.stop(grace_s=0)
        await self.store.close()


async def cpu_of_runs(case: Case, runs: int, folder: Path, most_open: int = 0) -> float:
    """CPU us a run, from its event to its end."""
    bench = Bench(folder / f"{time.monotonic_ns()}.db")
    await bench.shard.start()
    await bench.register(case.rules)
    gc.collect()
    begun = time.process_time()
    await bench.send(runs, case.keys, most_open)
    await bench.until_answered(runs)
    spent = time.process_time() - begun
    await bench.close()
    return spent * 1e6 / runs


async def queue_up(database: Path, waiting: int) -> None:
    """Fill a database with so many runs that wait behind a limit of 10."""
    bench = Bench(database)
    bench.app.open = False
    await bench.shard.start()
    await bench.register({"concurrency": 10})
    await send_events(bench.shard, SLUG, waiting, bench.rng, keys=1)
    await bench.close()


async def start_rate(database: Path, started: int) -> tuple[float, float]:
    """Runs a second, and CPU us a run, of `started` starts from the queue in the database."""
    bench = Bench(database)
    begun, cpu = time.monotonic(), time.process_time()
    await bench.shard.start()
    while bench.app.answered < started:
        await asyncio.sleep(0.001)
    rate = bench.app.answered / (time.monotonic() - begun)
    spent = (time.process_time() - cpu) * 1e6 / bench.app.answered
    await bench.close()
    return rate, spent


async def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure all that is asked for."""
    record: dict[str, Any] = {"machine": machine(folder), "load_before": load_average()}
    cases = {name: case for name, case in CASES.items() if options.only in (None, name) or name == "no limit"}
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.repeat):
        for name, case in cases.items():
            taken[name].append(await cpu_of_runs(case, options.runs, folder, options.open))
    record["us_a_run"] = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    if options.queued:
        rates: dict[str, list[tuple[float, float]]] = {"short": [], "long": []}
        for name, waiting in (("short", options.started), ("long", options.queued)):
            database = folder / f"{name}.db"
            # Each measurement starts some more than it waits for: the last one must not run out of runs.
            await queue_up(database, waiting + options.started * 4)
            for _ in range(3):
                rates[name].append(await start_rate(database, options.started))
        record["starts"] = {
            name: {"rate": round(max(rate for rate, _ in pairs)), "us": round(min(us for _, us in pairs), 1)}
            for name, pairs in rates.items()
        }
    return record | {"load_after": load_average()}


def verdict(record: dict[str, Any]) -> list[str]:
    """One line a goal."""
    us = record["us_a_run"]
    checks = [
        (
            f"{name} adds {value - us['no limit']:.1f} us",
            value - us["no limit"] <= ADDED_US,
            f"<= {ADDED_US:.0f}",
        )
        for name, value in us.items()
        if name != "no limit"
    ]
    few, many = "concurrency by key, 10 keys", "concurrency by key, 100,000 keys"
    if few in us and many in us:
        growth = us[many] / us[few]
        checks.append((f"100,000 keys cost {growth:.2f} x 10", growth <= GROWTH, f"<= {GROWTH}"))
    if "starts" in record:
        kept = record["starts"]["long"]["rate"] / record["starts"]["short"]["rate"]
        checks.append(
            (f"a long queue keeps {kept:.0%} of the rate", kept >= KEPT_RATE, f">= {KEPT_RATE:.0%}")
        )
    return [f"{'reached    ' if good else 'NOT reached'} {text} ({bound})" for text, good, bound in checks]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.flow_engine", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--open", type=int, default=500)
    parser.add_argument("--queued", type=int, default=1_000_000)
    parser.add_argument("--started", type=int, default=20_000)
    parser.add_argument("--only", choices=tuple(CASES))
    parser.add_argument("--folder", type=Path, default=BENCH / ".results")
    options = parser.parse_args()
    tune_process()
    options.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="flow-", dir=options.folder) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        record = runner.run(run(options, Path(folder)))
    print(json.dumps(record, indent=1))
    print("\n".join(verdict(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

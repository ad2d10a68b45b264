"""One process of an app with an embedded engine, to be killed: it sends events, runs jobs, and writes down both.

Lines of the journal: `role` (this process leads or follows), `sent` (an event is acknowledged), `ran` (the code of a
step has run), `end` (that of a function).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
from collections.abc import Sequence
from typing import Any

import perdure

STEPS = 5
WINDOW = 100
"""Events that are sent at once."""


class Journal:
    """A file to which each line is appended by one call of the system, so that it outlives a kill right after it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, what: str, **fields: Any) -> None:
        os.write(self._file, json.dumps({"what": what, "pid": os.getpid(), **fields}).encode() + b"\n")


def declare(app: perdure.App, journal: Journal) -> None:
    """The job: steps one after the other, a sleep between them, and two steps side by side at the end."""

    @app.function("job/wanted", id="job", retries=3)
    async def job(event: dict[str, Any], step: perdure.Step) -> list[int]:
        key: int = event["key"]

        async def work(name: str, value: int) -> int:
            await asyncio.sleep(0.005 + (key * 7 + value) % 10 / 500)
            journal.write("ran", run=step.run_id, step=name, key=key)
            return value

        done = [await step.run(f"one-{n}", work, f"one-{n}", n) for n in range(STEPS)]
        await step.sleep("pause", 0.05)
        done += await asyncio.gather(
            *(step.run(f"beside-{n}", work, f"beside-{n}", n) for n in range(STEPS, STEPS + 2))
        )
        journal.write("end", run=step.run_id, key=key)
        return [key, *done]


async def send(app: perdure.App, journal: Journal, keys: Sequence[int]) -> None:
    """Send an event of its own for each key, some at a time; a key that was sent before is taken once."""
    waiting = list(reversed(keys))

    async def one_after_the_other() -> None:
        while waiting:
            key = waiting.pop()
            await app.send(perdure.Event("job/wanted", {"key": key}, id=f"job-{key}"))
            journal.write("sent", key=key)

    await asyncio.gather(*(one_after_the_other() for _ in range(WINDOW)))


async def main(options: argparse.Namespace) -> None:
    journal = Journal(options.journal)
    app = perdure.App("victim")
    declare(app, journal)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with app.run_embedded(f"sqlite:///{options.database}", own_thread=not options.one_loop) as engine:
        journal.write("role", role=engine.role)
        sending = asyncio.create_task(send(app, journal, range(options.first, options.last)))
        while not stopped.is_set():
            before = engine.role
            await asyncio.sleep(0.01)
            if engine.role != before:
                journal.write("role", role=engine.role)
        sending.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--journal", required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--last", type=int, default=0, help="events with keys from first up to this one are sent"
    )
    parser.add_argument("--one-loop", action="store_true")
    asyncio.run(main(parser.parse_args()))

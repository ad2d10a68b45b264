"""The workloads' functions on Perdure's own SDK: a plain ASGI app, async functions, one uvicorn process with uvloop.

Run as `python -m bench.apps.own_sdk PORT SERVER_URL [STEPS]`: finished steps are posted STEPS at a time (default 1).
"""

from __future__ import annotations

import asyncio
import sys
from typing import TypedDict

import uvicorn

import perdure
from bench.apps.control import with_control
from bench.apps.marks import Marks
from perdure.sdk.serve import asgi

PARALLEL_STEP_S = 0.1


class Numbered(TypedDict):
    """Data of the workloads' events."""

    i: int


async def _value(number: int) -> int:
    return number


async def _slow(number: int) -> int:
    await asyncio.sleep(PARALLEL_STEP_S)
    return number


def declare(app: perdure.App, marks: Marks) -> None:
    """`instant`, `five`, `ten` and `parallel`, each started by the event `bench/<name>`."""

    def steps_in_a_row(name: str, count: int) -> None:
        @app.function(perdure.event(f"bench/{name}", Numbered), id=name, retries=3)
        async def steps(event: Numbered, step: perdure.Step) -> int:
            index = event["i"]
            marks.begin(index)
            for number in range(count):
                await step.run(f"step-{number}", _value, number)
            marks.end(index)
            return index

    @app.function(perdure.event("bench/parallel", Numbered), id="parallel", retries=3)
    async def parallel(event: Numbered, step: perdure.Step) -> int:
        index = event["i"]
        marks.begin(index)
        await asyncio.gather(*(step.run(f"branch-{n}", _slow, n) for n in range(4)))
        marks.end(index)
        return index

    steps_in_a_row("instant", 0)
    steps_in_a_row("five", 5)
    steps_in_a_row("ten", 10)


def main(port: int, server_url: str, steps: int) -> None:
    """Serve until killed."""
    marks = Marks()
    app = perdure.App("bench", url=server_url, dev=True, checkpoint=perdure.Checkpoint(steps=steps))
    declare(app, marks)
    uvicorn.run(
        with_control(asgi(app), marks),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1)

"""The workloads' functions on the official Python SDK: FastAPI, async functions, one uvicorn process with uvloop.

Run as `python -m bench.apps.python_sdk PORT SERVER_URL`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import fastapi
import inngest
import inngest.fast_api
import uvicorn

from bench.apps.control import with_control
from bench.apps.marks import Marks

PARALLEL_STEP_S = 0.1


def _index(ctx: inngest.Context) -> int:
    return cast("int", ctx.event.data["i"])


async def _value(number: int) -> int:
    return number


async def _slow(number: int) -> int:
    await asyncio.sleep(PARALLEL_STEP_S)
    return number


def functions(client: inngest.Inngest, marks: Marks) -> list[inngest.Function[Any]]:
    """`instant`, `five`, `ten` and `parallel`, each started by the event `bench/<name>`."""

    def steps_in_a_row(name: str, count: int) -> inngest.Function[Any]:
        @client.create_function(fn_id=name, trigger=inngest.TriggerEvent(event=f"bench/{name}"), retries=3)
        async def steps(ctx: inngest.Context) -> int:
            index = _index(ctx)
            marks.begin(index)
            for number in range(count):
                await ctx.step.run(f"step-{number}", _value, number)
            marks.end(index)
            return index

        return steps

    @client.create_function(fn_id="parallel", trigger=inngest.TriggerEvent(event="bench/parallel"), retries=3)
    async def parallel(ctx: inngest.Context) -> int:
        index = _index(ctx)
        marks.begin(index)
        await ctx.group.parallel(
            tuple(lambda n=n: ctx.step.run(f"branch-{n}", _slow, n) for n in range(4))  # type: ignore[misc]
        )
        marks.end(index)
        return index

    return [steps_in_a_row("instant", 0), steps_in_a_row("five", 5), steps_in_a_row("ten", 10), parallel]


def main(port: int, server_url: str) -> None:
    """Serve until killed."""
    marks = Marks()
    client = inngest.Inngest(
        app_id="bench", is_production=False, api_base_url=server_url, event_api_base_url=server_url
    )
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, functions(client, marks))
    uvicorn.run(
        with_control(app, marks),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

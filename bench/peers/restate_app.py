"""The workloads' functions on Restate's Python SDK, to be served by Granian. Runs in the peers' own environment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import restate  # type: ignore[import-not-found,unused-ignore]

from bench.apps.control import with_control
from bench.apps.marks import Marks

PARALLEL_STEP_S = 0.1

marks = Marks()
service = restate.Service("Bench")


async def _value(number: int) -> int:
    return number


async def _slow(number: int) -> int:
    await asyncio.sleep(PARALLEL_STEP_S)
    return number


def _steps_in_a_row(count: int) -> Callable[[restate.Context, Any], Awaitable[int]]:
    async def steps(ctx: restate.Context, event: Any) -> int:
        index = int(event["i"])
        marks.begin(index)
        for number in range(count):
            await ctx.run_typed(f"step-{number}", _value, number=number)
        marks.end(index)
        return index

    return steps


async def _parallel(ctx: restate.Context, event: Any) -> int:
    index = int(event["i"])
    marks.begin(index)
    await restate.gather(*(ctx.run_typed(f"branch-{n}", _slow, number=n) for n in range(4)))
    marks.end(index)
    return index


for name, handler in {
    "instant": _steps_in_a_row(0),
    "five": _steps_in_a_row(5),
    "ten": _steps_in_a_row(10),
    "parallel": _parallel,
}.items():
    service.handler(name)(handler)

app = with_control(restate.app([service]), marks)

"""W2: ten steps in a row, one run at a time: first line to last line of the function, by ten."""

from __future__ import annotations

import asyncio
import statistics

from bench.rig import Rig

RUNS = 20
WARM_UP = 3
STEPS = 10


async def measure(rig: Rig) -> dict[str, float]:
    """`w2_step_ms`: median over the runs."""
    taken = []
    for round_ in range(WARM_UP + RUNS):
        await rig.app.reset()
        ended = rig.app.ended(1)
        await asyncio.sleep(0.01)
        (index,) = rig.take(1)
        await rig.target.start("ten", index)
        await ended
        times = await rig.app.times()
        if round_ >= WARM_UP:
            taken.append((times.last[index] - times.first[index]) / 1e6 / STEPS)
    return {"w2_step_ms": statistics.median(taken)}

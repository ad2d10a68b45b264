"""W7: four parallel steps of 100 ms each: from the request for the run to the last line of its function."""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.rig import Rig

RUNS = 20
WARM_UP = 2


async def measure(rig: Rig) -> dict[str, float]:
    """`w7_end_ms`: median over the runs; 100 would be an engine that costs nothing."""
    taken = []
    for round_ in range(WARM_UP + RUNS):
        await rig.app.reset()
        ended = rig.app.ended(1)
        await asyncio.sleep(0.01)
        (index,) = rig.take(1)
        asked = time.monotonic_ns()
        await rig.target.start("parallel", index)
        await ended
        times = await rig.app.times()
        if round_ >= WARM_UP:
            taken.append((times.last[index] - times.asked.get(index, asked)) / 1e6)
    return {"w7_end_ms": statistics.median(taken)}

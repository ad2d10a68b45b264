"""W4: 500 runs of five steps, asked for as fast as they are taken. With it W6: what they cost."""

from __future__ import annotations

from bench.rig import Rig
from bench.workloads.cost import cost

RUNS = 500
STEPS = 5
WARM_UP = 50


async def measure(rig: Rig) -> dict[str, float]:
    """`w4_steps_s`, and `w4_*` of `cost`."""
    await rig.burst("five", WARM_UP)
    times, spent, seconds = await rig.burst("five", RUNS)
    return {"w4_steps_s": RUNS * STEPS / seconds, "w4_repeated": times.repeated} | cost(
        "w4", spent, RUNS, RUNS * STEPS
    )

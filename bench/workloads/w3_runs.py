"""W3: 2,000 runs without steps, asked for as fast as they are taken. With it W6: what they cost."""

from __future__ import annotations

from bench.rig import Rig
from bench.workloads.cost import cost

RUNS = 2_000
WARM_UP = 200


async def measure(rig: Rig) -> dict[str, float]:
    """`w3_runs_s`, and `w3_*` of `cost`."""
    await rig.burst("instant", WARM_UP)
    times, spent, seconds = await rig.burst("instant", RUNS)
    return {"w3_runs_s": RUNS / seconds, "w3_repeated": times.repeated} | cost("w3", spent, RUNS, RUNS)

"""W1: from the request for a run to the first line of its function, at random moments, nothing else going on.

Beside each run through the server stands a bare call to the same app, made in the same way a few ms before or after, so
that what the server adds is seen apart from what the app and a busy machine take.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from bench.measure import percentile
from bench.rig import Rig
from bench.targets import Target

RUNS = 200
WARM_UP = 20
GAP_S = (0.005, 0.045)
"""Pause before each request, drawn evenly between the two."""


async def measure(rig: Rig) -> dict[str, float]:
    """`w1_p50_ms`, `w1_p99_ms`; with a bare call to compare, `w1_bare_p50_ms` and `w1_added_ms`."""
    pairs: list[tuple[Target, list[float]]] = [(rig.target, [])]
    if rig.direct is not None:
        pairs.append((rig.direct, []))
    for round_ in range(WARM_UP + RUNS):
        for target, taken in pairs if round_ % 2 else reversed(pairs):
            delay = await _one(rig, target)
            if round_ >= WARM_UP:
                taken.append(delay)
    through = pairs[0][1]
    figures = {"w1_p50_ms": statistics.median(through), "w1_p99_ms": percentile(through, 0.99)}
    if rig.direct is not None:
        bare = statistics.median(pairs[1][1])
        figures |= {"w1_bare_p50_ms": bare, "w1_added_ms": figures["w1_p50_ms"] - bare}
    return figures


async def _one(rig: Rig, target: Target) -> float:
    await rig.app.reset()
    ended = rig.app.ended(1)
    await asyncio.sleep(rig.rng.uniform(*GAP_S))
    (index,) = rig.take(1)
    asked = time.monotonic_ns()
    await target.start("instant", index)
    await ended
    times = await rig.app.times()
    return (times.first[index] - times.asked.get(index, asked)) / 1e6

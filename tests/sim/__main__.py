from __future__ import annotations

import logging
import sys
import time

from tests.sim.scenario import draw
from tests.sim.world import simulate

logging.disable(logging.CRITICAL)
a, b = int(sys.argv[1]), int(sys.argv[2])
bad = {}
t = time.process_time()
tot = [0, 0, 0, 0]
for seed in range(a, b):
    o = simulate(draw(seed))
    tot[0] += o.runs
    tot[1] += o.batches
    tot[2] += o.calls
    tot[3] += o.lives
    if o.failure:
        bad.setdefault(o.failure.checker, []).append(seed)
        if b - a == 1:
            print(o.scenario)
            for l in o.trace.story(
                o.failure.run if len(sys.argv) < 4 else "", 80 if len(sys.argv) < 4 else int(sys.argv[3])
            ):
                print(l[:400])
            print(o.failure)
        else:
            print(
                seed,
                o.failure.checker,
                o.failure.text[:150].replace("\n", " "),
                o.scenario.faults and sorted(o.scenario.faults),
            )
print({k: len(v) for k, v in bad.items()}, (time.process_time() - t) / (b - a), tot)

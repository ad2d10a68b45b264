"""What it costs to collect events in a batch, by its size: the real shard on the real store.

    python -m bench.flow_batches [--events 1000] [--bytes 1024] [--sizes 10 100 1000] [--repeat 5]

Events arrive one in a request (each is its own command) and in requests of 100. CPU us an event, the whole process,
from its arrival until the batches have run. A batch is one row a key, which is written again for each commit that
adds to it: the cost of an event grows with the size of the batch by what is read, copied and written of it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import uvloop

from bench.fill import WallClock
from bench.flow_engine import SLUG, Bench
from bench.measure import load_average
from bench.processes import BENCH
from perdure.bootstrap import tune_process
from perdure.protocol.events import EventReader
from perdure.shard.commands import ReceiveEvents


async def collect(folder: Path, size: int, events: int, bytes_each: int, together: int) -> float:
    """CPU us an event."""
    bench = Bench(folder / f"{time.monotonic_ns()}.db")
    await bench.shard.start()
    await bench.register({"batchEvents": {"maxSize": size, "timeout": "60s"}} if size > 1 else {})
    clock, text = WallClock(), "x" * bytes_each
    gc.collect()
    begun = time.process_time()
    under_way: list[asyncio.Future[object]] = []
    for sent in range(0, events, together):
        reader = EventReader(None, clock.now(), bench.rng.randbytes, "application/json")
        reader.feed(
            msgspec.json.encode(
                [{"name": SLUG, "data": {"i": i, "text": text}} for i in range(sent, sent + together)]
            )
        )
        reader.finish()
        under_way.append(bench.shard.submit(ReceiveEvents(events=reader.events, received_at=clock.now())))
        if len(under_way) >= 50:
            await asyncio.gather(*under_way)
            under_way.clear()
    await asyncio.gather(*under_way)
    await bench.until_answered(events // size)
    spent = time.process_time() - begun
    await bench.close()
    return spent * 1e6 / events


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.flow_batches", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000)
    parser.add_argument("--bytes", type=int, default=1_024)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1_000])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    tune_process()
    folder = BENCH / ".results"
    folder.mkdir(parents=True, exist_ok=True)
    print(f"load {load_average()}")
    with (
        tempfile.TemporaryDirectory(prefix="batch-", dir=folder) as made,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        for together in (1, 100):
            for size in options.sizes:
                taken = [
                    runner.run(collect(Path(made), size, options.events, options.bytes, together))
                    for _ in range(options.repeat)
                ]
                print(
                    f"{together} in a request, batches of {size}: {statistics.median(taken):.1f} us an event"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a user's test costs: a function of four steps and a sleep of 30 days, with `perdure.testing`.

    python -m bench.testing_cost [--tests 200]

Each test is whole: the server in the test's process is started, the event sent, the month gone through, the output
looked at, and the server closed. pytest itself and the imports, which come once a session, are apart.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

STARTED = time.perf_counter()
import perdure  # noqa: E402
import perdure.testing  # noqa: E402

app = perdure.App("cost")


def charge(order_id: int) -> str:
    """A step in a thread."""
    return f"receipt-{order_id}"


async def book(receipt: str) -> int:
    """A step on the event loop."""
    return len(receipt)


@app.function("cost/order")
async def fulfil(data: dict[str, int], step: perdure.Step) -> int:
    """Four steps and a month."""
    receipt = await step.run("charge", charge, data["id"])
    booked = await step.run("book", book, receipt)
    await step.sleep("month", "30d")
    await step.run("ship", book, receipt)
    await step.run("mail", charge, booked)
    return booked


async def with_loop(number: int) -> None:
    """A test that is async."""
    async with perdure.testing.Server(app) as server:
        run = await server.start(fulfil, {"id": number})
        await server.advance("30d")
        assert run.output > 0


def plain(number: int) -> None:
    """A test that is not."""
    with perdure.testing.SyncServer(app) as server:
        run = server.start(fulfil, {"id": number})
        server.advance("30d")
        assert run.output > 0


def shown(name: str, taken: list[tuple[float, float]]) -> str:
    """Medians and worst of the tests but the first."""
    first, *times = (1000 * time for time, _ in taken)
    cpu = statistics.median(1000 * cpu for _, cpu in taken[1:])
    return (
        f"{name:<8} {len(times)} tests: {statistics.median(times):5.1f} ms each ({cpu:.1f} ms of CPU), "
        f"the slowest {max(times):5.1f} ms, the first {first:5.1f} ms"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tests", type=int, default=200)
    tests = parser.parse_args().tests
    for name in perdure.testing.__all__:
        getattr(perdure.testing, name)
    print(f"imports  {1000 * (time.perf_counter() - STARTED):.0f} ms, once a session", file=sys.stderr)
    times: dict[str, list[tuple[float, float]]] = {"async": [], "plain": []}
    for number in range(tests + 1):
        for name, taken in times.items():
            before, cpu = time.perf_counter(), time.process_time()
            if name == "async":
                asyncio.run(with_loop(number))
            else:
                plain(number)
            taken.append((time.perf_counter() - before, time.process_time() - cpu))
    for name, taken in times.items():
        print(shown(name, taken))


if __name__ == "__main__":
    main()

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


def shown(name: str, times: list[float]) -> str:
    """Median and worst of the tests but the first."""
    first, *rest = (1000 * one for one in times)
    return (
        f"{name:<8} {len(rest)} tests: {statistics.median(rest):5.1f} ms each, the slowest {max(rest):5.1f} ms, "
        f"the first {first:5.1f} ms"
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
    times: dict[str, list[float]] = {"async": [], "plain": []}
    for number in range(tests + 1):
        for name, taken in times.items():
            before = time.perf_counter()
            if name == "async":
                asyncio.run(with_loop(number))
            else:
                plain(number)
            taken.append(time.perf_counter() - before)
    for name, taken in times.items():
        print(shown(name, taken))


if __name__ == "__main__":
    main()

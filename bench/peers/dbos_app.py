"""The workloads' functions on DBOS, whose engine lives in this process. Runs in the peers' own environment.

Runs are started in process, as DBOS's users do from their web handlers; the request that asks for them is not counted.
Run as `python -m bench.peers.dbos_app PORT DATABASE_URL`.
"""

# mypy: disable-error-code="untyped-decorator,no-any-return"
# (DBOS is not in the environment where types are checked.)

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from dbos import DBOS  # type: ignore[import-not-found,unused-ignore]

from bench.apps import raw_http
from bench.apps.marks import PREFIX, Marks

PARALLEL_STEP_S = 0.1
STARTS_AT_ONCE = 32

marks = Marks()


@DBOS.step()
async def value(number: int) -> int:
    """A step that gives its argument."""
    return number


@DBOS.step()
async def slow(number: int) -> int:
    """A step that takes 100 ms."""
    await asyncio.sleep(PARALLEL_STEP_S)
    return number


def _steps_in_a_row(name: str, count: int) -> Callable[[int], Awaitable[int]]:
    @DBOS.workflow(name=name)
    async def steps(index: int) -> int:
        marks.begin(index)
        for number in range(count):
            await value(number)
        marks.end(index)
        return index

    return steps


@DBOS.workflow(name="parallel")
async def parallel(index: int) -> int:
    """Four slow steps at once."""
    marks.begin(index)
    await asyncio.gather(*(slow(number) for number in range(4)))
    marks.end(index)
    return index


WORKFLOWS = {
    "instant": _steps_in_a_row("instant", 0),
    "five": _steps_in_a_row("five", 5),
    "ten": _steps_in_a_row("ten", 10),
    "parallel": parallel,
}


async def start(function: str, first: int, count: int) -> None:
    """Start `count` workflows, with some starts under way at once."""
    workflow = WORKFLOWS[function]
    remaining = iter(range(first, first + count))

    async def starter() -> None:
        for index in remaining:
            marks.ask(index)
            await DBOS.start_workflow_async(workflow, index)

    await asyncio.gather(*(starter() for _ in range(min(count, STARTS_AT_ONCE))))


async def answer(path: str, query: str) -> raw_http.Answer:
    """`start?function=F&first=I&count=N` beside the usual control routes."""
    if path == PREFIX + "start":
        asked = parse_qs(query)
        await start(asked["function"][0], int(asked["first"][0]), int(asked["count"][0]))
        return 200, b"", b"{}"
    return 200, b"", await marks.control(path, query)


def main(port: int, database_url: str) -> None:
    """Serve until killed."""
    DBOS(config={"name": "bench", "system_database_url": database_url, "log_level": "WARNING"})

    async def launch() -> None:
        DBOS.launch()

    raw_http.serve(port, lambda _method, path, query, _body: answer(path, query), launch)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

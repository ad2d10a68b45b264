"""Half-read answers do not fill the memory, and do not block each other either."""

from __future__ import annotations

import asyncio

import pytest

from perdure.protocol.calls import Call, CallAnswer
from perdure.transports import HttpTransport
from perdure.transports.http_budget import SMALL_ANSWER, ReadBudget
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import Request, Wire, ok, until

KIB = 1024


class Counter:
    """A reader that only notes whether it may read."""

    def __init__(self) -> None:
        self.held = 0
        self.reads = True

    def pause(self) -> None:
        self.reads = False

    def resume(self) -> None:
        self.reads = True


async def test_above_the_limit_one_large_answer_goes_on() -> None:
    budget = ReadBudget(300 * KIB)
    first, second, third, small = (Counter() for _ in range(4))
    budget.hold(first, 200 * KIB)
    budget.hold(second, 150 * KIB)
    budget.hold(third, 150 * KIB)
    budget.hold(small, SMALL_ANSWER)
    # The second was the one that crossed the limit: it is favoured.
    assert [first.reads, second.reads, third.reads, small.reads] == [True, True, False, True]
    budget.hold(first, 201 * KIB)
    budget.hold(small, SMALL_ANSWER + 1)
    assert [first.reads, second.reads, third.reads, small.reads] == [False, True, False, False]
    budget.free(second)
    # Still above the limit: the one that waits longest is favoured now.
    assert [first.reads, third.reads, small.reads] == [False, True, False]
    budget.free(third)
    assert [first.reads, small.reads] == [True, True]
    budget.free(first)
    budget.free(small)
    assert budget.used == 0


async def test_a_favoured_answer_that_stalls_is_passed_over() -> None:
    budget = ReadBudget(100 * KIB, stall=0.03)
    stalled, moving, last = (Counter() for _ in range(3))
    for reader in (stalled, moving, last):
        budget.hold(reader, 100 * KIB)
    assert [moving.reads, last.reads] == [True, False]
    await asyncio.sleep(0.02)
    budget.hold(moving, 101 * KIB)
    await asyncio.sleep(0.02)
    assert last.reads is False
    await asyncio.sleep(0.03)
    assert last.reads is True
    budget.hold(moving, 102 * KIB)
    assert moving.reads is False
    for reader in (stalled, moving, last):
        budget.free(reader)
    assert budget.used == 0


@pytest.mark.parametrize("way", ["plain", "library"])
async def test_answers_beyond_the_budget_wait_in_the_apps(serve: Serve, way: str) -> None:
    """Forty answers of 1 MiB at once through 4 MiB: all arrive whole, and never much more is held."""
    transport = HttpTransport(max_reading_bytes=4 * KIB * KIB)
    body = bytes(range(256)) * 4 * KIB
    gate = asyncio.Event()

    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(ok(body)[:-1])
        await gate.wait()
        await wire.send(body[-1:])

    server = await serve(handler)
    host = server.who if way == "plain" else f"name@{server.who}"
    calls = [
        asyncio.ensure_future(transport.request(Call(url=f"http://{host}/", body=b"{}"))) for _ in range(40)
    ]
    await until(lambda: transport.budget.used > 4 * KIB * KIB)
    await asyncio.sleep(0.1)
    held = transport.budget.used
    # The limit, one favoured answer, and a read of at most 256 KiB each.
    assert 4 * KIB * KIB < held < (4 + 1 + 40 // 4 + 1) * KIB * KIB
    small = await serve(ok(b"s" * 60 * KIB))
    end = await asyncio.wait_for(transport.request(Call(url=small.url(), body=b"")), 1)
    assert isinstance(end, CallAnswer)
    gate.set()
    for end in await asyncio.wait_for(asyncio.gather(*calls), 5):
        assert isinstance(end, CallAnswer)
        assert end.body == body
    assert transport.budget.used == 0
    await transport.close()


async def test_whatever_ends_a_call_gives_its_bytes_back(transport: HttpTransport, serve: Serve) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(ok(b"x" * 200 * KIB)[: 100 * KIB])
        match request.body:
            case b"cut":
                wire.end()
            case b"flood":
                await wire.send(b"x" * 100 * KIB + b"HTTP/")
            case _:
                await wire.reader.read()

    server = await serve(handler)
    for url in (server.url(), f"http://name@{server.who}/"):
        calls = [Call(url=url, body=body, timeout=0.1) for body in (b"cut", b"late", b"flood")]
        await asyncio.gather(*(transport.request(call) for call in calls))
        caller = asyncio.ensure_future(transport.request(Call(url=url, body=b"cancelled")))
        await until(lambda: transport.budget.used > 0)
        caller.cancel()
        await asyncio.wait([caller])
        await until(lambda: transport.budget.used == 0)

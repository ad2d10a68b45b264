"""However a call ends, its end is told once, later, on the loop."""

from __future__ import annotations

import asyncio
import functools
import time

import pytest

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports import HttpTransport
from perdure.transports.http_connection import HttpConnection
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import RawServer, Request, Wire, ok, until

STAGES = ["start", "connecting", "sent", "headers", "body"]
SCHEMES = ["plain", "library"]


async def stuck_server(serve: Serve, stage: str) -> RawServer:
    async def handler(request: Request, wire: Wire) -> None:
        if stage == "headers":
            await wire.send(b"HTTP/1.1 200 OK\r\nA: b\r\n")
        elif stage == "body":
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort")
        await wire.reader.read()
        wire.end()

    return await serve(handler)


def address(server: RawServer, way: str) -> str:
    """A user name in the address sends the call the library's way."""
    host = server.who if way == "plain" else f"name:secret@{server.who}"
    return f"http://{host}/?token=secret"


async def reach(server: RawServer, stage: str) -> None:
    if stage == "connecting":
        await asyncio.sleep(0)
    elif stage != "start":
        await until(lambda: bool(server.requests))
        await asyncio.sleep(0.01)


async def test_the_end_never_comes_within_start(
    transport: HttpTransport, serve: Serve, ends: list[object]
) -> None:
    server = await serve(ok())
    await transport.request(Call(url=server.url(), body=b""))
    for url in (server.url(), "http://127.0.0.1:1/", "nonsense", "http://127.0.0.1:1/\n"):
        transport.start(Call(url=url, body=b"", headers=(("a", "b"),)), ends.append)
        transport.start(Call(url=url, body=b"", headers=(("a", "\n"),)), ends.append)
    assert ends == []
    await until(lambda: len(ends) == 8)
    assert sum(isinstance(end, CallAnswer) for end in ends) == 1


@pytest.mark.parametrize("way", SCHEMES)
@pytest.mark.parametrize("stage", STAGES)
async def test_cancelling(
    transport: HttpTransport, serve: Serve, ends: list[object], stage: str, way: str
) -> None:
    server = await stuck_server(serve, stage)
    handle = transport.start(Call(url=address(server, way), body=b"{}"), ends.append)
    await reach(server, stage)
    handle.cancel()
    handle.cancel()
    assert ends == []
    await asyncio.sleep(0.01)
    assert ends == [CallFailure("cancelled", f"The call to {server.who} was given up.")]
    handle.cancel()
    await asyncio.sleep(0.01)
    assert len(ends) == 1
    for wire in server.wires:
        await asyncio.wait_for(wire.closed.wait(), 1)
    assert transport.pool.connections == set()


async def test_cancelling_in_the_moment_of_connecting(
    serve: Serve, ends: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = HttpTransport()
    server = await stuck_server(serve, "sent")
    opened = transport.pool.opened

    def cancel(connection: HttpConnection) -> None:
        opened(connection)
        handle.cancel()

    monkeypatch.setattr(transport.pool, "opened", cancel)
    handle = transport.start(Call(url=server.url(), body=b"{}"), ends.append)
    await until(lambda: bool(ends))
    async with asyncio.timeout(2):
        await transport.close()
    assert ends == [CallFailure("cancelled", f"The call to {server.who} was given up.")]
    assert (server.requests, transport.pool.connections) == ([], set())


@pytest.mark.parametrize("way", SCHEMES)
async def test_cancelling_at_every_turn_of_the_loop(serve: Serve, ends: list[object], way: str) -> None:
    """A connection that is given up while it opens must not be waited for when everything closes."""
    server = await stuck_server(serve, "sent")
    for turns in range(25):
        transport = HttpTransport()
        handle = transport.start(Call(url=address(server, way), body=b"{}"), ends.append)
        for _ in range(turns):
            await asyncio.sleep(0)
        handle.cancel()
        async with asyncio.timeout(2):
            await transport.close()
        assert transport.pool.connections == set()
        assert len(ends) == turns + 1


@pytest.mark.parametrize("way", SCHEMES)
@pytest.mark.parametrize("stage", STAGES[2:])
async def test_too_late(transport: HttpTransport, serve: Serve, stage: str, way: str) -> None:
    # The library is loaded on first need; that is not the time measured here.
    await transport.request(Call(url=address(await serve(ok()), way), body=b"{}"))
    server = await stuck_server(serve, stage)
    began = time.monotonic()
    end = await transport.request(Call(url=address(server, way), body=b"{}", timeout=0.2))
    assert end == CallFailure("timeout", f"{server.who} gave no complete answer within 0.2 s.")
    assert 0.19 < time.monotonic() - began < 2
    await asyncio.wait_for(server.wires[0].closed.wait(), 1)


async def test_an_answer_that_only_trickles_is_too_late_too(transport: HttpTransport, serve: Serve) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await wire.send(b"1\r\n \r\n", gap=0.01)

    server = await serve(handler)
    end = await transport.request(Call(url=server.url(), body=b"", timeout=0.1))
    assert isinstance(end, CallFailure)
    assert end.code == "timeout"


async def test_a_late_answer_is_not_given_to_the_next_call(transport: HttpTransport, serve: Serve) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        if request.body == b"slow":
            await gate.wait()
        await wire.send(ok(request.body))

    gate = asyncio.Event()
    server = await serve(handler)
    await transport.request(Call(url=server.url(), body=b"first"))
    late = await transport.request(Call(url=server.url(), body=b"slow", timeout=0.02))
    assert isinstance(late, CallFailure)
    gate.set()
    end = await transport.request(Call(url=server.url(), body=b"next"))
    assert isinstance(end, CallAnswer)
    assert end.body == b"next"


async def test_cancelling_the_caller_of_request(transport: HttpTransport, serve: Serve) -> None:
    server = await stuck_server(serve, "body")
    caller = asyncio.ensure_future(transport.request(Call(url=server.url(), body=b"")))
    await reach(server, "body")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.wait_for(server.wires[0].closed.wait(), 1)


@pytest.mark.parametrize("way", SCHEMES)
@pytest.mark.parametrize("stage", STAGES)
async def test_closing_tells_every_call(
    transport: HttpTransport, serve: Serve, ends: list[object], stage: str, way: str
) -> None:
    idle = await serve(ok())
    await transport.request(Call(url=idle.url(), body=b""))
    server = await stuck_server(serve, stage)
    for _ in range(3):
        transport.start(Call(url=address(server, way), body=b"{}"), ends.append)
    await reach(server, stage)
    await transport.close()
    assert ends == [CallFailure("cancelled", f"The call to {server.who} was given up.")] * 3
    assert transport.pool.connections == set()
    await asyncio.wait_for(idle.wires[0].closed.wait(), 1)
    transport.start(Call(url=server.url(), body=b"{}"), ends.append)
    assert len(ends) == 3
    await asyncio.sleep(0)
    assert len(ends) == 4
    await transport.close()


async def test_a_defect_in_done_harms_no_other_call(serve: Serve) -> None:
    transport = HttpTransport()
    met: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: met.append(context["exception"]))
    server = await serve(ok())
    defect = ValueError("a defect")

    def done(end: object) -> None:
        raise defect

    transport.start(Call(url=server.url(), body=b""), done)
    await until(lambda: bool(met))
    assert met == [defect]
    assert isinstance(await transport.request(Call(url=server.url(), body=b"")), CallAnswer)
    assert len(server.wires) == 1
    await transport.close()


async def test_a_defect_of_ours_still_ends_the_call(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = HttpTransport()
    met: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: met.append(context["exception"]))
    server = await serve(ok())
    defect = LookupError("a defect")

    def broken(*_: object) -> None:
        raise defect

    with monkeypatch.context() as patch:
        patch.setattr(transport.pool, "connect", broken)
        end = await transport.request(Call(url=server.url(), body=b""))
        assert isinstance(end, CallFailure)
        assert "met a defect" in end.message
    with monkeypatch.context() as patch:
        patch.setattr("perdure.transports.http_answer.AnswerReader.feed", broken)
        end = await transport.request(Call(url=server.url(), body=b""))
        assert isinstance(end, CallFailure)
    assert met == [defect, defect]
    await transport.close()


async def test_a_thousand_calls_end_once_each_whatever_happens(serve: Serve) -> None:
    transport = HttpTransport()
    told = [0] * 1000

    async def handler(request: Request, wire: Wire) -> None:
        match int(request.body) % 5:
            case 0:
                wire.reset()
            case 1:
                await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
                wire.end()
            case 2:
                await wire.reader.read()
                wire.end()
            case _:
                await wire.send(ok(request.body))

    server = await serve(handler)

    def tell(number: int, end: CallAnswer | CallFailure) -> None:
        told[number] += 1
        if isinstance(end, CallAnswer):
            assert end.body == b"%d" % number

    handles = []
    for number in range(1000):
        call = Call(url=server.url(), body=b"%d" % number, timeout=0.05 + number % 7 / 20)
        handles.append(transport.start(call, functools.partial(tell, number)))
        if number % 50 == 0:
            await asyncio.sleep(0.001)
    for handle in handles[::11]:
        handle.cancel()
    await asyncio.sleep(0.1)
    await transport.close()
    assert told == [1] * 1000
    assert transport.pool.connections == set()

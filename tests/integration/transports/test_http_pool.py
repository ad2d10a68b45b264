"""Connections are used again when that is safe, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports import HttpTransport
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import Request, Wire, ok, until


async def ask(transport: HttpTransport, url: str) -> CallAnswer | CallFailure:
    return await transport.request(Call(url=url, body=b"{}"))


async def test_answers_meet_their_own_calls_under_load(transport: HttpTransport, serve: Serve) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await asyncio.sleep(0.001 * (len(server.requests) % 3))
        await wire.send(ok(request.body, f"X-Target: {request.target}"))

    server = await serve(handler)

    async def client(number: int) -> None:
        for turn in range(20):
            body = f"{number}.{turn}".encode()
            end = await transport.request(Call(url=server.url(f"/{number}/{turn}"), body=body))
            assert isinstance(end, CallAnswer)
            assert (end.body, end.headers["x-target"]) == (body, f"/{number}/{turn}")

    await asyncio.gather(*(client(number) for number in range(20)))
    assert len(server.wires) == 20
    assert len(server.requests) == 400


async def test_an_idle_connection_that_ends_is_dropped_at_once(
    transport: HttpTransport, serve: Serve
) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(ok())
        wire.end()

    server = await serve(handler)
    for count in (1, 2):
        assert isinstance(await ask(transport, server.url()), CallAnswer)
        await until(lambda: not transport.pool.connections)
        assert len(server.wires) == count


@contextlib.contextmanager
def blocking_server() -> Iterator[tuple[int, list[int]]]:
    """Answers one request on each connection and then closes it, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    served: list[int] = []

    def serve_all() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                with accepted:
                    while b"{}" not in accepted.recv(4096):
                        pass
                    served.append(1)
                    accepted.sendall(ok())

    thread = threading.Thread(target=serve_all)
    thread.start()
    yield listener.getsockname()[1], served
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


async def test_an_end_that_the_loop_has_not_heard_of_is_seen_before_sending(transport: HttpTransport) -> None:
    with blocking_server() as (port, served):
        for count in (1, 2, 3):
            assert isinstance(await ask(transport, f"http://127.0.0.1:{port}/"), CallAnswer)
            assert len(served) == count
            # The loop is kept from reading while the connection ends.
            time.sleep(0.02)


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_request_lost_on_a_used_connection_is_not_sent_again(
    transport: HttpTransport, serve: Serve, how: str
) -> None:
    """The app may have acted on it; only the engine may decide to repeat it."""

    async def handler(request: Request, wire: Wire) -> None:
        if len(server.requests) == 2:
            wire.end() if how == "end" else wire.reset()
        else:
            await wire.send(ok())

    server = await serve(handler)
    ends = [await ask(transport, server.url()) for _ in range(3)]
    message = f"{server.who} closed the connection before it answered."
    assert ends[1] == CallFailure("http_unreachable", message)
    assert isinstance(ends[0], CallAnswer)
    assert isinstance(ends[2], CallAnswer)
    assert [request.connection for request in server.requests] == [1, 1, 2]


async def test_bytes_that_nobody_asked_for_are_no_answer(transport: HttpTransport, serve: Serve) -> None:
    """An answer that comes before its question would be given to the next caller."""

    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(ok(request.body))
        await asyncio.sleep(0.01)
        await wire.send(ok(b"poison"))

    server = await serve(handler)
    for count in (1, 2, 3):
        end = await ask(transport, server.url())
        assert isinstance(end, CallAnswer)
        assert end.body == b"{}"
        await until(lambda: not transport.pool.connections)
        assert len(server.wires) == count


async def test_idle_connections_grow_old() -> None:
    transport = HttpTransport(max_idle=0.25)

    class Quiet(asyncio.Protocol):
        def connection_made(self, made: asyncio.BaseTransport) -> None:
            self.wire = made
            opened.append(self)

        def data_received(self, data: bytes) -> None:
            self.wire.write(ok())

    opened: list[Quiet] = []
    server = await asyncio.get_running_loop().create_server(Quiet, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    await asyncio.gather(*(ask(transport, url) for _ in range(3)))
    assert len(transport.pool.connections) == 3
    await asyncio.sleep(0.15)
    await ask(transport, url)
    assert len(opened) == 3
    await asyncio.sleep(0.15)
    # The two that were not used have gone, the third is young.
    assert len(transport.pool.connections) == 1
    await until(lambda: not transport.pool.connections)
    await transport.close()
    server.close()


async def test_an_old_connection_is_not_used_even_before_it_is_swept() -> None:
    transport = HttpTransport(max_idle=0.02)
    with blocking_answers() as (port, connections):
        for _ in range(2):
            assert isinstance(await ask(transport, f"http://127.0.0.1:{port}/"), CallAnswer)
            time.sleep(0.03)
        await transport.close()
        assert len(connections) == 2


@contextlib.contextmanager
def blocking_answers() -> Iterator[tuple[int, list[socket.socket]]]:
    """Keeps every connection open and answers on all, in threads."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve_one(accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), accepted:
            while accepted.recv(4096):
                accepted.sendall(ok())

    def accept_all() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = listener.accept()
                connections.append(accepted)
                threading.Thread(target=serve_one, args=(accepted,)).start()

    thread = threading.Thread(target=accept_all)
    thread.start()
    yield listener.getsockname()[1], connections
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.mark.parametrize(
    ("promise", "connections"), [("timeout=5, max=9", 1), ("timeout=1", 2), ("max=3", 1)]
)
async def test_the_promise_of_the_app_is_heeded(
    transport: HttpTransport, serve: Serve, promise: str, connections: int
) -> None:
    server = await serve(ok(b"", f"Keep-Alive: {promise}"))
    for _ in range(2):
        await ask(transport, server.url())
    assert len(server.wires) == connections


async def test_only_so_many_idle_connections_are_kept(
    transport: HttpTransport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.transports.http_pool.MAX_IDLE_PER_ORIGIN", 3)

    async def handler(request: Request, wire: Wire) -> None:
        await asyncio.sleep(0.01)
        await wire.send(ok())

    server = await serve(handler)
    await asyncio.gather(*(ask(transport, server.url()) for _ in range(8)))
    assert len(server.wires) == 8
    await until(lambda: len(transport.pool.connections) == 3)


async def test_a_call_made_within_an_answer_uses_its_connection(
    transport: HttpTransport, serve: Serve
) -> None:
    server = await serve(ok())
    finished = asyncio.get_running_loop().create_future()

    def again(end: CallAnswer | CallFailure) -> None:
        assert isinstance(end, CallAnswer)
        if len(server.requests) < 5:
            transport.start(Call(url=server.url(), body=b""), again)
        else:
            finished.set_result(None)

    transport.start(Call(url=server.url(), body=b""), again)
    await asyncio.wait_for(finished, 1)
    assert len(server.wires) == 1


async def test_a_name_is_asked_for_once_by_a_burst(
    transport: HttpTransport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await serve(ok())
    asked = []

    async def resolve(host: str, port: int) -> list[object]:
        asked.append(host)
        await asyncio.sleep(0.01)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr("perdure.transports.http_connect.resolve", resolve)
    url = f"http://app.test:{server.port}/"
    given_up = asyncio.ensure_future(ask(transport, url))
    await asyncio.sleep(0.002)
    given_up.cancel()
    for _ in range(2):
        ends = await asyncio.gather(*(ask(transport, url) for _ in range(5)))
        assert all(isinstance(end, CallAnswer) for end in ends)
        for connection in list(transport.pool.connections):
            connection.close()
    assert asked == ["app.test"]

"""Answers that are in order, in every shape HTTP/1.1 allows."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib

import aiohttp
import pytest

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports import HttpTransport
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import RawServer, Request, Wire, chunked, ok

PLAIN = b"HTTP/1.1 200 OK\r\n"


async def ask(transport: HttpTransport, url: str, method: str = "POST", body: bytes = b"{}") -> CallAnswer:
    end = await transport.request(Call(url=url, body=body, method=method))
    assert isinstance(end, CallAnswer), end
    return end


async def test_a_call_arrives_as_it_was_given(transport: HttpTransport, serve: Serve) -> None:
    server = await serve(ok(b"[]", "X-Inngest-Sdk: inngest-js:v4", status="206 Partial Content"))
    headers = (("Content-Type", "application/json"), ("X-Run-ID", "01M8"), ("x-odd", "käse"))
    call = Call(url=server.url("/api?fnId=a&stepId=b%20c"), body=b'{"a":1}', headers=headers)
    end = await transport.request(call)
    expected = {"content-length": "2", "x-inngest-sdk": "inngest-js:v4"}
    assert end == CallAnswer(206, expected, b"[]", call.url)
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/api?fnId=a&stepId=b%20c", b'{"a":1}')
    assert request.headers == {
        "host": server.who,
        "content-type": "application/json",
        "x-run-id": "01M8",
        "x-odd": "käse",
        "user-agent": "Perdure/0.1.0",
        "accept-encoding": "gzip",
        "content-length": "7",
    }


async def test_the_callers_agent_and_encoding_win_but_framing_is_ours(
    transport: HttpTransport, serve: Serve
) -> None:
    server = await serve(ok())
    headers = (
        *(("User-Agent", "Inngest"), ("accept-encoding", "br"), ("Content-Length", "99"), ("HOST", "evil")),
        *(("Transfer-Encoding", "chunked"), ("Connection", "close"), ("Expect", "100-continue")),
    )
    for _ in range(2):
        await transport.request(Call(url=server.url(), body=b"{}", headers=headers))
    for request in server.requests:
        assert request.headers == {
            "host": server.who,
            "user-agent": "Inngest",
            "accept-encoding": "br",
            "content-length": "2",
        }
    assert len(server.wires) == 1


async def test_a_get_has_no_body_and_a_bare_host_asks_for_the_root(
    transport: HttpTransport, serve: Serve
) -> None:
    server = await serve(ok())
    await ask(transport, f"http://{server.who}", "GET", b"")
    [request] = server.requests
    assert (request.method, request.target) == ("GET", "/")
    assert "content-length" not in request.headers


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (ok(b""), 200, b""),
        (PLAIN + b"content-LENGTH:2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (chunked(b"a" * 300, b"b"), 200, b"a" * 300 + b"b"),
        (PLAIN + b"Transfer-Encoding: chunked\r\n\r\n2;x=1\r\nok\r\n0\r\nStatus: 1\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", 204, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99000000\r\n\r\n", 304, b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"then"), 200, b"then"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 102 P\r\n\r\n" + ok(b"x"), 200, b"x"),
        (ok(b"no", status="500 Internal Server Error"), 500, b"no"),
        (ok(b"no", status="301 Moved"), 301, b"no"),
        (ok(b"no", "Location: /other", status="300 Choices"), 300, b"no"),
    ],
)
@pytest.mark.parametrize("cut", [0, 1])
async def test_whole_answers_keep_the_connection(
    transport: HttpTransport, serve: Serve, answer: bytes, status: int, body: bytes, cut: int
) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        if cut:
            await wire.send(answer[:9], answer[9:-1], answer[-1:], gap=0.002)
        else:
            await wire.send(answer)

    server = await serve(handler)
    for _ in range(2):
        end = await ask(transport, server.url())
        assert (end.status, end.body) == (status, body)
        assert "link" not in end.headers
        assert "status" not in end.headers
    assert len(server.wires) == 1


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (PLAIN + b"\r\nuntil the end", b"until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold", b"old"),
        (ok(b"bye", "Connection: close"), b"bye"),
        (ok(b"one") + ok(b"two"), b"one"),
        (ok(b"one") + b"rubbish", b"one"),
        (ok(b"one") + b"H", b"one"),
    ],
)
async def test_answers_after_which_the_connection_is_not_used_again(
    transport: HttpTransport, serve: Serve, answer: bytes, body: bytes
) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(answer)
        if b"ntent-" not in answer:
            wire.end()

    server = await serve(handler)
    for _ in range(2):
        assert (await ask(transport, server.url())).body == body
    assert [request.connection for request in server.requests] == [1, 2]
    await asyncio.wait_for(server.wires[0].closed.wait(), 1)


async def test_an_old_server_that_offers_keep_alive_is_kept(transport: HttpTransport, serve: Serve) -> None:
    server = await serve(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
    for _ in range(2):
        assert (await ask(transport, server.url())).body == b"ok"
    assert len(server.wires) == 1


async def test_head_has_no_body_whatever_the_headers_say(transport: HttpTransport, serve: Serve) -> None:
    server = await serve(PLAIN + b"Content-Length: 99000000\r\nContent-Encoding: gzip\r\n\r\n")
    end = await ask(transport, server.url(), "HEAD", b"")
    assert (end.status, end.body, end.headers["content-length"]) == (200, b"", "99000000")


async def test_of_repeated_headers_the_last_stands_and_odd_bytes_do_no_harm(
    transport: HttpTransport, serve: Serve
) -> None:
    server = await serve(PLAIN + b"A: 1\r\nX: \xff\r\na: 2\r\nY: \xc3\xa4\r\nE:\r\nContent-Length: 0\r\n\r\n")
    end = await ask(transport, server.url())
    assert end.headers == {"a": "2", "x": "ÿ", "y": "ä", "e": "", "content-length": "0"}


async def test_a_slow_answer_within_the_time_is_waited_for(transport: HttpTransport, serve: Serve) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        spaces = [b"1\r\n \r\n"] * 20
        head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
        await wire.send(head[:5], head[5:30], head[30:], *spaces, b"2\r\n{}\r\n", b"0\r\n\r\n", gap=0.005)

    server = await serve(handler)
    end = await ask(transport, server.url())
    assert (end.status, end.body) == (201, b" " * 20 + b"{}")


async def test_an_answer_before_the_request_was_read(transport: HttpTransport, serve: Serve) -> None:
    """The app refuses without reading: its answer counts, and the connection is not used again."""
    answered = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"too large", status="413 Content Too Large"))
        await answered.wait()
        writer.close()

    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1000)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    for _ in range(2):
        end = await ask(transport, url, body=b"x" * 20_000_000)
        assert (end.status, end.body) == (413, b"too large")
    assert len(connections) == 2
    answered.set()
    server.close()


async def test_a_large_body_arrives_whole(transport: HttpTransport, serve: Serve) -> None:
    server = await serve(ok())
    body = bytes(range(256)) * 20_000
    await ask(transport, server.url(), body=body)
    assert server.requests[0].body == body


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_localhost_is_whichever_loopback_address_the_app_listens_on(
    transport: HttpTransport, address: str
) -> None:
    server = RawServer(ok())
    try:
        await server.start(address)
    except OSError:
        pytest.skip(f"this machine has no {address}")
    assert (await ask(transport, f"http://localhost:{server.port}/")).body == b"ok"
    assert server.requests[0].headers["host"] == f"localhost:{server.port}"
    if address == "::1":
        assert (await ask(transport, f"http://[::1]:{server.port}/")).body == b"ok"
        assert server.requests[1].headers["host"] == f"[::1]:{server.port}"
    await server.stop()


async def test_sockets_do_not_wait_and_notice_a_dead_peer(transport: HttpTransport, serve: Serve) -> None:
    server = await serve(ok())
    await ask(transport, server.url())
    [connection] = transport.pool.connections
    opened = connection.get_socket()
    assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def by_library(url: str, method: str) -> tuple[int, dict[str, str], bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=b"{}" if method == "POST" else None) as response,
    ):
        body = await response.read()
        return response.status, {name.lower(): value for name, value in response.headers.items()}, body


COMPARED = [
    ok(b"plain", "A: b"),
    ok(b"x" * 300_000),
    ok(b"", status="500 Oh"),
    chunked(b"one", b"two", b"3" * 70_000),
    chunked(),
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"x"),
    PLAIN + b"Connection: close\r\n\r\nto the end",
    b"HTTP/1.0 200 OK\r\n\r\nold",
    ok(gzip.compress(b"zip" * 1000, mtime=0), "Content-Encoding: gzip"),
    ok(zlib.compress(b"zip" * 1000), "Content-Encoding: deflate"),
    ok(b"a", "X-A: 1", "x-a: 2", "Content-Type: text/html; charset=utf-8"),
    PLAIN + b"Content-Length: 10\r\n\r\nshort",
    PLAIN + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
    PLAIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nshort\r\n",
    PLAIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
    PLAIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    PLAIN + b"Content-Length: -2\r\n\r\nok",
    PLAIN + b"Content-Length: 2\r\nBad Name: x\r\n\r\nok",
    ok(b"not gzip", "Content-Encoding: gzip"),
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 2x0 OK\r\n\r\n",
    b"",
]


@pytest.mark.parametrize("answer", COMPARED)
async def test_the_same_as_the_library(transport: HttpTransport, serve: Serve, answer: bytes) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(answer)
        wire.end()

    server = await serve(handler)
    for method in ("POST", "GET"):
        body = b"{}" if method == "POST" else b""
        end = await transport.request(Call(url=server.url(), body=body, method=method))
        try:
            expected = await by_library(server.url(), method)
        except (aiohttp.ClientError, ValueError):
            assert isinstance(end, CallFailure)
            assert end.code == "http_unreachable"
        else:
            assert isinstance(end, CallAnswer)
            assert (end.status, end.headers, end.body) == expected

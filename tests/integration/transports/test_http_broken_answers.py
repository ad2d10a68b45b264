"""Answers that are not in order. Each must end the call with a sentence, and never reach another call."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import zlib

import brotli
import pytest

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports import HttpTransport
from tests.integration.transports.conftest import Serve
from tests.integration.transports.raw_server import Request, Wire, chunked, ok

PLAIN = b"HTTP/1.1 200 OK\r\n"
FLOOD = b"X-Flood: " + b"x" * 1000 + b"\r\n"


def packed(body: bytes) -> bytes:
    """The gzip form, the same at every second: these stand in the names of tests, which must not change."""
    return gzip.compress(body, mtime=0)


async def fail(transport: HttpTransport, url: str, **more: object) -> CallFailure:
    async with asyncio.timeout(5):
        end = await transport.request(Call(url=url, body=b"{}", **more))
    assert isinstance(end, CallFailure), end
    assert end.message.endswith(".")
    assert "secret" not in end.message
    return end


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "closed the connection before it answered"),
        (b"HTTP/1.1 2", "closed the connection before it answered"),
        (PLAIN + b"Content-Le", "closed the connection before it answered"),
        (
            PLAIN + b"Content-Length: 10\r\n\r\n",
            "closed the connection after 0 bytes of an unfinished answer",
        ),
        (PLAIN + b"Content-Length: 10\r\n\r\nshort", "after 5 bytes of an unfinished answer"),
        (
            PLAIN + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "after 5 bytes of an unfinished answer",
        ),
        (PLAIN + b"Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n", "after 5 bytes of an unfinished"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed the connection before it answered"),
    ],
)
async def test_an_answer_cut_short(
    transport: HttpTransport, serve: Serve, answer: bytes, said: str, how: str
) -> None:
    broken = True

    async def handler(request: Request, wire: Wire) -> None:
        if broken:
            # The pause lets the bytes arrive before the reset, which would throw them away.
            await wire.send(answer, gap=0.01)
            wire.end() if how == "end" else wire.reset()
        else:
            await wire.send(ok())

    server = await serve(handler)
    end = await fail(transport, server.url("/?token=secret"))
    assert (end.code, said in end.message, server.who in end.message) == ("http_unreachable", True, True)
    broken = False
    assert isinstance(await transport.request(Call(url=server.url(), body=b"")), CallAnswer)
    assert [request.connection for request in server.requests] == [1, 2]


async def test_a_reset_in_an_answer_that_ends_with_the_connection(
    transport: HttpTransport, serve: Serve
) -> None:
    async def handler(request: Request, wire: Wire) -> None:
        await wire.send(PLAIN + b"\r\npart", gap=0.01)
        wire.reset()

    end = await fail(transport, (await serve(handler)).url())
    assert "after 4 bytes of an unfinished answer" in end.message


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "answered with something that is not HTTP"),
        (b"<html>hello</html>", "answered with something that is not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS: its address should begin with https://"),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", "is not HTTP"),
        (PLAIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk", "is not HTTP"),
        (PLAIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "is not HTTP"),
        (PLAIN + b"Content-Length: -1\r\n\r\nok", "is not HTTP"),
        (PLAIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "broke off its answer with something"),
        (PLAIN + b"Transfer-Encoding: gzip\r\n\r\nxx", "the transfer coding 'gzip'"),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "another protocol"),
        (PLAIN + FLOOD * 70 + b"\r\n", "more than 65536 bytes of headers"),
        (PLAIN + b"X: " + b"y" * 70_000, "more than 65536 bytes of headers"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3000, "more than 65536 bytes of headers"),
        (PLAIN + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 700_000, "more than 65536 bytes"),
        (PLAIN + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + FLOOD * 70, "more than 65536 bytes"),
        (ok(b"x" * 50, "Content-Encoding: gzip"), "could not be decoded"),
        (ok(packed(b"x" * 99)[:-9], "Content-Encoding: gzip"), "within its compressed body"),
        (ok(zlib.compress(b"x") + b"more", "Content-Encoding: deflate"), "could not be decoded"),
        (ok(packed(b"") * 101, "Content-Encoding: gzip"), "could not be decoded"),
        (ok(b"\xff" * 20, "Content-Encoding: br"), "could not be decoded"),
        (ok(brotli.compress(b"xyz" * 99)[:-3], "Content-Encoding: br"), "within its compressed body"),
        (ok(b"x", "Content-Encoding: sdch"), "encoded as 'sdch', which cannot be read here"),
    ],
)
async def test_an_answer_that_cannot_be_believed(
    transport: HttpTransport, serve: Serve, answer: bytes, said: str
) -> None:
    server = await serve(answer)
    for count in (1, 2):
        end = await fail(transport, server.url("/?token=secret"))
        assert (end.code, said in end.message, server.who in end.message) == ("http_unreachable", True, True)
        await asyncio.wait_for(server.wires[count - 1].closed.wait(), 1)
    assert len(server.wires) == 2


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"x" * 1001),
        PLAIN + b"Content-Length: 1001\r\n\r\n",
        chunked(*[b"x" * 100] * 11),
        PLAIN + b"\r\n" + b"x" * 1001,
        ok(packed(b"x" * 1001), "Content-Encoding: gzip"),
        ok(packed(b"x" * 600) * 2, "Content-Encoding: gzip"),
        ok(zlib.compress(b"x" * 100_000_000), "Content-Encoding: deflate"),
        ok(brotli.compress(b"x" * 1001), "Content-Encoding: br"),
        chunked(*[packed(b"")[:10]] + [b"\x00\x00\x00\xff\xff"] * 300),
    ],
)
async def test_an_answer_that_is_too_large(transport: HttpTransport, serve: Serve, answer: bytes) -> None:
    server = await serve(answer)
    end = await fail(transport, server.url(), max_answer=1000)
    assert (end.code, "larger than the 1000 bytes" in end.message) == ("output_too_large", True)
    await asyncio.wait_for(server.wires[0].closed.wait(), 1)


async def test_an_answer_as_large_as_allowed(transport: HttpTransport, serve: Serve) -> None:
    bodies = [
        ok(b"x" * 1000),
        chunked(b"x" * 999, b"x"),
        ok(packed(b"x" * 400) + packed(b"x" * 600), "Content-Encoding: gzip"),
        ok(zlib.compress(b"x" * 1000)[2:-4], "Content-Encoding: deflate"),
        ok(brotli.compress(b"x" * 1000), "Content-Encoding: br"),
    ]
    for answer in bodies:
        server = await serve(answer)
        end = await transport.request(Call(url=server.url(), body=b"", max_answer=1000))
        assert isinstance(end, CallAnswer), end
        assert end.body == b"x" * 1000


@pytest.mark.parametrize("user", ["", "name@"])
async def test_an_endless_answer_is_not_read_for_ever(
    transport: HttpTransport, serve: Serve, user: str
) -> None:
    sent = 0

    async def handler(request: Request, wire: Wire) -> None:
        nonlocal sent
        await wire.send(PLAIN + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in itertools.count():
            await wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536

    server = await serve(handler)
    end = await fail(transport, f"http://{user}{server.who}/")
    assert end.code == "output_too_large"
    await asyncio.wait_for(server.wires[0].closed.wait(), 1)
    assert sent < 40_000_000


async def test_nobody_listens(transport: HttpTransport) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            end = await fail(transport, f"http://{host}:{port}/api?token=secret")
            assert end.code == "http_unreachable"
            assert end.message.startswith(f"Nothing listens at {host}:{port} (connection refused): ")


async def test_a_name_that_does_not_exist(transport: HttpTransport) -> None:
    ends = await asyncio.gather(*(fail(transport, "http://no-such-app.invalid/?t=secret") for _ in range(3)))
    for end in ends:
        assert end.code == "http_unreachable"
        assert "no-such-app.invalid:80 could not be resolved" in end.message


async def test_a_host_that_does_not_answer_the_telephone() -> None:
    """A listener whose queue is full lets further connections wait, as a dead host does."""
    transport = HttpTransport(connect_timeout=0.1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        for scheme in ("http", "https"):
            end = await fail(transport, f"{scheme}://127.0.0.1:{port}/?token=secret")
            expected = f"No connection to 127.0.0.1:{port} within 0.1 s."
            assert end == CallFailure("http_unreachable", expected)
        for filler in fillers:
            filler.close()
    await transport.close()


@pytest.mark.parametrize(
    ("url", "headers", "said"),
    [
        ("", (), "The address of the app begins with neither"),
        ("/api", (), "The address of the app begins with neither"),
        ("http://", (), "cannot be understood."),
        ("http:///path", (), "cannot be understood."),
        ("http://host:99999/", (), "cannot be understood."),
        ("http://host:port/", (), "cannot be understood."),
        ("http://[::1/", (), "cannot be understood."),
        ("ftp://host/", (), "The address of host begins with neither http:// nor https://."),
        ("http://..:1/", (), "could not be resolved"),
        ("http://127.0.0.1:1/", (("a", "b\r\nX-Evil: 1"),), "line break"),
        ("http://127.0.0.1:1/", (("a", "b\nX-Evil: 1"),), "line break"),
        ("http://127.0.0.1:1/", (("a", "b\rX-Evil: 1"),), "line break"),
        ("http://127.0.0.1:1/", (("a", "b\0"),), "NUL"),
        ("http://127.0.0.1:1/", (("a", "\ud800"),), "not valid Unicode"),
        ("http://127.0.0.1:1/", (("a: b\r\nX", "1"),), "header name 'a: b\\r\\nX' cannot be sent"),
        ("https://127.0.0.1:1/", (("a", "b\r\nX-Evil: 1"),), "line break"),
    ],
)
async def test_a_call_that_cannot_be_sent(
    transport: HttpTransport, url: str, headers: tuple[tuple[str, str], ...], said: str
) -> None:
    end = await fail(transport, url, headers=headers)
    assert (end.code, said in end.message) == ("http_unreachable", True), end


async def test_a_line_break_in_the_address_sends_nothing_of_its_own(
    transport: HttpTransport, serve: Serve
) -> None:
    server = await serve(ok())
    for path in ("/a\r\nX-Evil: 1\r\n", "/a b", "/ä?ö#frag", "/a#frag"):
        await transport.request(Call(url=server.url(path), body=b"", method="GET"))
    for request in server.requests:
        assert "x-evil" not in request.headers
        assert "#" not in request.target
    assert [request.target for request in server.requests][-3:] == ["/a%20b", "/%C3%A4?%C3%B6", "/a"]


async def test_a_method_that_cannot_be_sent(transport: HttpTransport) -> None:
    end = await fail(transport, "http://127.0.0.1:1/", method="GET / HTTP/1.1\r\n")
    assert "cannot be sent in HTTP" in end.message

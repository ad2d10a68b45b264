"""The SDK's small HTTP client against servers that behave in different ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from perdure.sdk.http import Origin

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[bool]]
"""Gets a request's head; says whether the connection goes on."""


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[Origin, list[bytes]]]:
    """A server on a free port; gives its origin and the first bytes of each request with its connection's number."""
    heads: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        number = connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(b"%d " % number + head)
                if not await handler(reader, writer, head):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield Origin(f"http://127.0.0.1:{port}"), heads


def length_of(head: bytes) -> int:
    line = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    return int(line.partition(b":")[2])


async def test_connections_are_kept() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        body = await reader.readexactly(length_of(head))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-One: a: b\r\n\r\n" % len(body) + body)
        return True

    async with serving(echo) as (origin, heads):
        for body in (b"one", b"", b"x" * 3_000_000):
            answer = await origin.request("POST", "/path?q=1", body, {"a": "b"})
            assert (answer.status, answer.body, answer.headers["x-one"]) == (200, body, "a: b")
        assert [head[:2] for head in heads] == [b"1 ", b"1 ", b"1 "]
        assert b"POST /path?q=1 HTTP/1.1\r\nhost: 127.0.0.1:" in heads[0]
        assert b"\r\na: b\r\n" in heads[0]
        await asyncio.gather(*(origin.request("POST", "/", b"x") for _ in range(5)))
        origin.close()


async def test_a_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        return False

    async with serving(once) as (origin, heads):
        for _ in range(3):
            assert (await origin.request("GET", "/")).body == b"ok"
        assert [head[:2] for head in heads] == [b"1 ", b"2 ", b"3 "]


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: 1\r\n\r\n", 200, b"abcde"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\ncontent-length: 1\r\n\r\nx", 404, b"x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
        (b"HTTP/1.1 409 \r\ncontent-length: 0\r\n\r\n", 409, b""),
    ],
    ids=["chunked", "continue", "no-content", "until-close", "no-reason"],
)  # fmt: skip
async def test_bodies_of_all_kinds(sent: bytes, status: int, body: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(sent)
        return False

    async with serving(answer) as (origin, _):
        got = await origin.request("GET", "/")
        assert (got.status, got.body) == (status, body)


async def test_what_is_no_answer_is_an_error() -> None:
    async def rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"SSH-2.0-x\r\n\r\n")
        return False

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        await asyncio.sleep(5)
        return False

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
        return False

    async with serving(rubbish) as (origin, _):
        with pytest.raises(ValueError, match="not HTTP"):
            await origin.request("GET", "/")
    async with serving(cut) as (origin, _):
        with pytest.raises(ConnectionError, match="closed before an answer"):
            await origin.request("GET", "/")
    async with serving(silent) as (origin, _):
        with pytest.raises(TimeoutError):
            await origin.request("GET", "/", timeout=0.1)


def test_each_event_loop_has_connections_of_its_own() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        return True

    origin = Origin("http://127.0.0.1:9")

    async def ask() -> int:
        async with serving(echo) as (here, _):
            origin.port = here.port
            status = (await origin.request("GET", "/")).status
            origin.close()
            return status

    assert [asyncio.run(ask()) for _ in range(2)] == [200, 200]

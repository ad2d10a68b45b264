"""A server that reads requests properly and answers with whatever bytes a test wants, good or bad."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Request:
    """What arrived. `connection` counts the server's connections from 1."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class Wire:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, *pieces: bytes, gap: float = 0.0) -> None:
        """Send pieces, each on its own if there is a gap between them."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(gap)

    def end(self) -> None:
        """Close in good order, after what was sent."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a reset (RST), as a crashed process or a firewall does."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Handler = Callable[[Request, Wire], Awaitable[None]]


class RawServer:
    """Serves on a free port of 127.0.0.1. Bytes as handler are the answer to everything."""

    def __init__(self, handler: Handler | bytes, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self.wires: list[Wire] = []
        self._tls = tls
        self._handler = handler
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(self._serve, host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for wire in self.wires:
            wire.writer.transport.abort()
        await asyncio.sleep(0)

    def url(self, path: str = "/api/inngest") -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}{path}"

    @property
    def who(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer, len(self.wires) + 1)
        self.wires.append(wire)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                request = await _read_request(reader, wire.number)
                self.requests.append(request)
                if isinstance(self._handler, bytes):
                    await wire.send(self._handler)
                else:
                    await self._handler(request, wire)
        wire.closed.set()


async def _read_request(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.split("\r\n")
    method, target, version = line.split(" ")
    assert version == "HTTP/1.1"
    headers = {}
    for header in rest[:-2]:
        name, _, value = header.partition(": ")
        assert name.lower() not in headers, f"{name} was sent twice"
        headers[name.lower()] = value
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body, connection)


def ok(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    """A well-formed answer in chunks."""
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n\r\n"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens on the loop, at most two seconds."""
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.002)

"""A small keep-alive HTTP/1.1 client on asyncio and httptools: about 15 µs a request, so that the driver takes
little of the machine that it measures."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, NamedTuple, Self, cast
from urllib.parse import urlsplit

import httptools


class Answer(NamedTuple):
    """A complete HTTP answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._answer: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport
        self.usable = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.usable = False
            self._transport.close()
        if self._answer is not None and not self._answer.done():
            status = self._parser.get_status_code()
            self._answer.set_result(Answer(status, self._headers, b"".join(self._body)))

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        if self.usable:
            self._transport.close()


class Pool:
    """At most `size` connections to one origin; further requests wait for one to be free."""

    def __init__(self, url: str, size: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._head = f"Host: {self._host}:{self._port}\r\n"
        self._free: list[_Connection] = []
        self._places = asyncio.Semaphore(size)
        self._size = size

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._free:
            connection.close()
        self._free = []

    async def warm(self) -> None:
        """Open all connections, so that no later request pays for it."""
        self._free += [await self._open() for _ in range(self._size - len(self._free))]

    async def post(self, path: str, body: bytes, headers: str = "") -> Answer:
        """POST a JSON body. `headers` are further header lines, each ended by CRLF."""
        return await self.request("POST", path, body, headers)

    async def get(self, path: str) -> Answer:
        """GET a path."""
        return await self.request("GET", path)

    async def request(self, method: str, path: str, body: bytes = b"", headers: str = "") -> Answer:
        """One request; raises ConnectionError if it cannot be sent or its answer is cut short."""
        request = (
            f"{method} {path} HTTP/1.1\r\n{self._head}{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        async with self._places:
            connection = await self._take()
            try:
                return await connection.send(request)
            finally:
                if connection.usable:
                    self._free.append(connection)

    async def _take(self) -> _Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        return await self._open()

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        return connection

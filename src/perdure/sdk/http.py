"""A small HTTP/1.1 client for requests to the server: connections are kept, nothing else is needed.

Importing an app must stay light and pull in no client library of its own, and a checkpoint is posted for each
step, so each request has to be cheap. A connection that the server has closed meanwhile is replaced once;
all requests made here may be sent twice (event ids come from a seed, a checkpoint is taken once).
Redirects are not followed and proxies are not used.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

MAX_IDLE = 32
"""Connections to one server that are kept open without a request, for each event loop."""
LIMIT = 64 * 1024
TIMEOUT_S = 30.0


class Answer(msgspec.Struct, frozen=True, gc=False):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """An open connection; `used` once it has carried a request."""

    __slots__ = ("reader", "used", "writer")

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.used = False

    def close(self) -> None:
        self.writer.close()


class Origin:
    """One server, for example `https://example.com:8288`, and the open connections to it of each event loop."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.tls = parts.scheme == "https"
        self.host = parts.hostname or "localhost"
        self.port = parts.port or (443 if self.tls else 80)
        self.prefix = parts.path.rstrip("/")
        default = 443 if self.tls else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        self._host_header = host if self.port == default else f"{host}:{self.port}"
        self._idle: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, list[Connection]] = (
            weakref.WeakKeyDictionary()
        )

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Answer:
        """Make a request. Raises OSError, TimeoutError or ValueError if there is no proper answer."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body or method in {"POST", "PUT"}:
            lines.append(f"content-length: {len(body)}")
        sent = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body
        async with asyncio.timeout(timeout):
            while True:
                connection = await self._connection()
                try:
                    answer, keep = await _exchange(connection, sent, method)
                except (ConnectionError, asyncio.IncompleteReadError) as error:
                    connection.close()
                    if connection.used:
                        continue  # it was closed while nobody used it
                    raise ConnectionError(
                        f"The connection was closed before an answer came: {error}"
                    ) from error
                except BaseException:
                    connection.close()
                    raise
                self._give_back(connection, keep)
                return answer

    async def _connection(self) -> Connection:
        idle = self._idle.get(asyncio.get_running_loop())
        while idle:
            connection = idle.pop()
            if not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.close()
        return await self.open()

    async def open(self) -> Connection:
        """A new connection. Raises OSError if there is none to be had."""
        context = ssl.create_default_context() if self.tls else None
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=context, limit=LIMIT)
        return Connection(reader, writer)

    def _give_back(self, connection: Connection, keep: bool) -> None:
        idle = self._idle.setdefault(asyncio.get_running_loop(), [])
        if keep and len(idle) < MAX_IDLE:
            connection.used = True
            idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close what the running loop keeps open."""
        for connection in self._idle.pop(asyncio.get_running_loop(), []):
            connection.close()


async def _exchange(connection: Connection, sent: bytes, method: str) -> tuple[Answer, bool]:
    reader, writer = connection.reader, connection.writer
    writer.write(sent)
    if len(sent) > LIMIT:
        await writer.drain()
    status, headers = 100, dict[str, str]()
    while 100 <= status < 200:
        status, headers = _head(await reader.readuntil(b"\r\n\r\n"))
    keep = headers.get("connection", "").lower() != "close"
    if method == "HEAD" or status in {204, 304}:
        return Answer(status, headers, b""), keep
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Answer(status, headers, await _chunks(reader)), keep
    if "content-length" in headers:
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"]))), keep
    return Answer(status, headers, await reader.read()), False


def _head(raw: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = raw[:-4].decode("latin-1").split("\r\n")
    parts = first.split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise ValueError(f"The answer is not HTTP: {first[:60]!r}")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(parts[1]), headers


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";", 1)[0], 16)
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)

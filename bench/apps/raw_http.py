"""A small HTTP/1.1 server on asyncio and httptools, for apps that should cost next to nothing themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httptools
import uvloop

Answer = tuple[int, bytes, bytes]
"""Status, further header lines (each ended by CRLF), body."""
Handle = Callable[[str, str, str, bytes], Answer | Awaitable[Answer]]
"""(method, path, query, body) -> answer; only what has to wait gives an awaitable."""


class _Connection(asyncio.Protocol):
    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._parser: Any = httptools.HttpRequestParser(self)
        self._url = b""
        self._body: list[bytes] = []
        self._transport: asyncio.Transport
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._url = b""
        self._body = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path, _, query = self._url.decode().partition("?")
        keep_alive = self._parser.should_keep_alive()
        method = self._parser.get_method().decode()
        answer = self._handle(method, path, query, b"".join(self._body))
        if isinstance(answer, tuple):
            self._send(answer, keep_alive)
            return
        task = asyncio.ensure_future(self._send_later(answer, keep_alive))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_later(self, answer: Awaitable[Answer], keep_alive: bool) -> None:
        self._send(await answer, keep_alive)

    def _send(self, answer: Answer, keep_alive: bool) -> None:
        if self._transport.is_closing():
            return
        status, headers, body = answer
        close = b"" if keep_alive else b"Connection: close\r\n"
        head = b"HTTP/1.1 %d OK\r\nContent-Type: application/json\r\n%s%sContent-Length: %d\r\n\r\n"
        self._transport.write(head % (status, headers, close, len(body)) + body)
        if not keep_alive:
            self._transport.close()


def serve(port: int, handle: Handle, setup: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serve on 127.0.0.1 until killed. `setup` runs first, on the loop that will serve."""

    async def run() -> None:
        if setup is not None:
            await setup()
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(handle), "127.0.0.1", port, backlog=1024
        )
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())

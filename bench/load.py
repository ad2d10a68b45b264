"""A load program for machines without wrk: posts one body over and over on many connections, in one process.

Run as `python -m bench.load URL SECONDS CONNECTIONS BODY_FILE`; prints JSON: requests answered 200, others, seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import uvloop


class _Poster(asyncio.Protocol):
    """Sends the next request as soon as the last one is answered, until the deadline."""

    def __init__(self, request: bytes, deadline: float, counts: dict[str, int]) -> None:
        self._request, self._deadline, self._counts = request, deadline, counts
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._counts["ok" if self._parser.get_status_code() == 200 else "other"] += 1
        if time.monotonic() < self._deadline:
            self._transport.write(self._request)
        else:
            self._transport.close()


async def load(url: str, seconds: float, connections: int, body: bytes) -> dict[str, float]:
    """Requests answered with 200 (`ok`), otherwise (`other`), and the seconds it took."""
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    counts = {"ok": 0, "other": 0}
    loop = asyncio.get_running_loop()
    start = time.monotonic()
    posters = [
        (
            await loop.create_connection(
                lambda: _Poster(request, start + seconds, counts),
                parts.hostname or "127.0.0.1",
                parts.port or 80,
            )
        )[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(poster.closed for poster in posters))
    return {**counts, "seconds": time.monotonic() - start}


def main(url: str, seconds: str, connections: str, body_file: str) -> None:
    """Load and print."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        done = runner.run(load(url, float(seconds), int(connections), Path(body_file).read_bytes()))
    print(json.dumps(done))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Requests to the pages of an engine that runs in another worker: handed on over its socket, and back as they come."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
from yarl import URL

from perdure.embedded.doorway import ROOT_HEADER
from perdure.embedded.mounting import below, refuse
from perdure.server.http import Receive, Scope, Send

CONNECT_S = 5.0
_OF_THE_HOP = frozenset(
    (b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"content-length", ROOT_HEADER.encode())
)


async def relay(socket: Path, scope: Scope, receive: Receive, send: Send) -> None:
    """Have a request answered by the engine behind a socket; 503 if nobody listens there."""
    inner = below(scope)
    query = scope["query_string"].decode("latin-1")
    url = URL.build(scheme="http", host="localhost", path=inner["path"]).with_query(None)
    url = URL(f"{url}?{query}" if query else str(url), encoded=True)
    headers = [
        (n.decode("latin-1"), v.decode("latin-1")) for n, v in scope["headers"] if n not in _OF_THE_HOP
    ]
    headers.append((ROOT_HEADER, scope.get("root_path", "")))
    watch: list[asyncio.Task[None]] = []

    async def body() -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client is gone")
            yield message.get("body", b"")
            more = message.get("more_body", False)

    started = False
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=os.fspath(socket)),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            ) as session,
            session.request(
                scope["method"],
                url,
                headers=headers,
                data=None if scope["method"] in {"GET", "HEAD", "OPTIONS"} else body(),
                allow_redirects=False,
            ) as answer,
        ):
            kept = [(n.lower(), v) for n, v in answer.raw_headers if n.lower() not in _OF_THE_HOP]
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            started = True
            watch.append(asyncio.create_task(_close_when_gone(receive, answer)))
            async for part in answer.content.iter_any():
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    except (aiohttp.ClientError, OSError) as error:
        if not started:
            await refuse(
                send,
                503,
                f"The worker that runs the engine cannot be reached; try again in a moment: {error}",
            )
    finally:
        for task in watch:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _close_when_gone(receive: Receive, answer: aiohttp.ClientResponse) -> None:
    """End an answer that may go on for ever when nobody reads it any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    answer.close()

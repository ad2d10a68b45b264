"""Serving as a plain ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from perdure.sdk.app import App
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import MAX_BODY, Request, Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class AsgiApp:
    """Answers every HTTP request that it gets."""

    def __init__(self, app: App, framework: str, *, streaming: bool = False) -> None:
        self.endpoint = Endpoint(app, framework, streaming=streaming)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"Perdure's functions are served over HTTP, not {scope['type']}.")
        body = await _body(receive)
        if body is None:
            return
        await send_response(await self.endpoint.handle(request_of(scope, body)), send)


async def send_response(response: Response, send: Send) -> None:
    """Send an answer, in one piece or as it comes."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()]
    if response.stream is None:
        headers.append((b"content-length", str(len(response.body)).encode()))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
        return
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for chunk in response.stream:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def request_of(scope: Scope, body: bytes) -> Request:
    """The request in an ASGI scope."""
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get("host") or ":".join(str(part) for part in scope.get("server") or ("localhost",))
    scheme = str(headers.get("x-forwarded-proto") or scope.get("scheme") or "http").partition(",")[0].strip()
    path = scope.get("raw_path") or scope["path"].encode()
    text = path.decode("latin-1").partition("?")[0]
    query = scope.get("query_string", b"").decode("latin-1")
    return Request(scope["method"], f"{scheme}://{host}{text}{'?' + query if query else ''}", headers, body)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None if the client went away."""
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise RuntimeError(f"The request's body is over {MAX_BODY} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else part


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        kind = message["type"].removeprefix("lifespan.")
        await send({"type": f"lifespan.{kind}.complete"})
        if kind == "shutdown":
            return

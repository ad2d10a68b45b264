"""Plain ASGI, as far as the hot routes need it: reading a body within bounds, and answering.

The other routes are on Starlette. Routes that every event and every step take are not: a framework's
request and response objects cost more than the work behind them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from perdure.errors import RequestError

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
TEXT_JSON = (b"content-type", b"text/plain; charset=utf-8")
"""The reference server labels some JSON answers so; SDKs read them all the same."""
RETRY_AFTER_S = 1


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


def header(scope: Scope, name: bytes) -> str | None:
    """A request header by its lower-case name; the first one if it is repeated."""
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return None


async def read_body(receive: Receive, limit: int) -> bytes:
    """The request's body. Raises `RequestError` 413 while it arrives, as soon as it is over `limit` bytes."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
    return b"".join(parts)


def too_large(limit: int) -> RequestError:
    """The error for a body over its limit."""
    return RequestError(413, f"Request body is over the max size: Max {limit} bytes")


async def respond(
    send: Send,
    status: int,
    body: bytes,
    content_type: tuple[bytes, bytes] = JSON,
    extra: Headers | None = None,
) -> None:
    """Send a complete answer."""
    headers = [content_type, (b"content-length", b"%d" % len(body))]
    if extra:
        headers += extra
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(error: RequestError) -> bytes:
    """The error envelope: `{"error","status","data"[,"code"]}`."""
    body: dict[str, object] = {"error": error.message, "status": error.status, "data": error.data}
    if error.code is not None:
        body["code"] = error.code
    return msgspec.json.encode(body)


async def respond_error(send: Send, error: RequestError) -> None:
    """Answer with an error envelope; one that may pass later says when to try again."""
    extra: Headers | None = None
    if error.status == 503:
        extra = [(b"retry-after", b"%d" % RETRY_AFTER_S)]
    await respond(send, error.status, error_body(error), JSON, extra)

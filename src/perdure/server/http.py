"""Plain ASGI, as far as the hot routes need it: reading a body within bounds, and answering.

The other routes are on Starlette. Routes that every event and every step take are not: a framework's
request and response objects cost more than the work behind them.
"""

from __future__ import annotations

import asyncio
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
TEXT = (b"content-type", b"text/plain; charset=utf-8")
TEXT_JSON = (b"content-type", b"text/plain; charset=utf-8")
"""The reference server labels some JSON answers so; SDKs read them all the same."""
RETRY_AFTER_S = 1
MAX_HELD_BYTES = 128 * 1024 * 1024
"""Bodies that arrive in pieces may hold so much memory together while they are read."""
BODY_TIMEOUT_S = 120
"""A body must be complete after so long: who sends it slower holds room that others need."""


class ClientGone(Exception):
    """The client closed its connection before its request was complete."""


def header(scope: Scope, name: bytes) -> str | None:
    """A request header by its lower-case name; the first one if it is repeated."""
    for key, value in scope["headers"]:
        if key == name:
            found: str = value.decode("latin-1")
            return found
    return None


class Intake:
    """Counts the bytes of bodies that are being read in pieces, over all requests."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        self.held = 0

    def take(self, count: int) -> None:
        """More has arrived. Raises `RequestError` 503 if that is more than can be held."""
        if self.held + count > MAX_HELD_BYTES:
            raise RequestError(503, "Too many large requests are being read; try again in a moment")
        self.held += count


async def read_body(receive: Receive, limit: int, intake: Intake) -> bytes:
    """The request's body.

    Raises `RequestError` while it arrives: 413 as soon as it is over `limit` bytes, 503 if too many others
    are being read, 408 if it takes too long.
    """
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts: list[bytes] = []
    room = limit

    def keep(part: bytes) -> bool:
        nonlocal room
        room -= len(part)
        parts.append(part)
        return room >= 0

    if not await read_parts(receive, body, keep, intake):
        raise too_large(limit)
    return b"".join(parts)


async def read_parts(receive: Receive, first: bytes, keep: Callable[[bytes], bool], intake: Intake) -> bool:
    """Read the rest of a body whose `first` part has arrived, and give each part to `keep`.

    False as soon as `keep` wants no more. Raises as `read_body` does.
    """
    held = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            part, more = first, True
            while True:
                intake.take(len(part))
                held += len(part)
                if not keep(part):
                    return False
                if not more:
                    return True
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part, more = message.get("body", b""), message.get("more_body", False)
    except TimeoutError:
        raise RequestError(408, f"The request body was not complete after {BODY_TIMEOUT_S} seconds") from None
    finally:
        intake.held -= held


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


def error_fields(error: RequestError) -> dict[str, object]:
    """The error envelope: `{"error","status","data"[,"code"]}`."""
    body: dict[str, object] = {"error": error.message, "status": error.status, "data": error.data}
    if error.code is not None:
        body["code"] = error.code
    return body


async def respond_error(send: Send, error: RequestError) -> None:
    """Answer with an error envelope; one that may pass later says when to try again."""
    extra: Headers | None = None
    if error.status == 503:
        extra = [(b"retry-after", b"%d" % RETRY_AFTER_S)]
    await respond(send, error.status, msgspec.json.encode(error_fields(error)), JSON, extra)

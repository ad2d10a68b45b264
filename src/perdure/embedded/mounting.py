"""The engine's HTTP API and pages under a path of the web app.

Requests come on the app's loop and are answered on the engine's. A mounted application sees the path below its own.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from perdure.embedded.engine import Engine
from perdure.sdk.embedded import Allow
from perdure.server.http import Message, Receive, Scope, Send, header

JSON = [(b"content-type", b"application/json")]


async def forward(engine: Engine | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Have a request answered by the engine; 503 if there is none in this process."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    if scope["type"] != "http":
        return
    if engine is None:
        text = "The embedded engine does not run in this process. Ask the one that leads, or try again in a moment."
        await refuse(send, 503, text)
        return
    inner = below(scope)
    outside = asyncio.get_running_loop()

    async def receive_there() -> Message:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_call(receive), outside))

    async def send_there(message: Message) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_call(send, message), outside))

    try:
        await engine.run(_call(engine.parts.app, inner, receive_there, send_there))
    except ConnectionError as error:
        await refuse(send, 503, f"Try again in a moment: {error}")


async def _call(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    return await function(*arguments)


def below(scope: Scope) -> Scope:
    """The scope with the path below the one that the application is mounted at."""
    root, path = scope.get("root_path", ""), scope["path"]
    inner = path[len(root) :] if root and path.startswith(root) else path
    return {**scope, "path": inner or "/"}


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def refuse(send: Send, status: int, text: str) -> None:
    """Answer with an error."""
    body = msgspec.json.encode({"error": text, "status": status})
    await send({"type": "http.response.start", "status": status, "headers": JSON})
    await send({"type": "http.response.body", "body": body})


_PROXIED = (b"forwarded", b"x-forwarded-for", b"x-real-ip")


def from_here(scope: Mapping[str, Any]) -> bool:
    """Whether a request was made on this machine, to its own name, and not handed on by a proxy."""
    if any(name in _PROXIED for name, _ in scope["headers"]):
        return False
    client = scope.get("client")
    return client is not None and _is_loopback(client[0]) and _is_loopback(_host(scope))


def _host(scope: Mapping[str, Any]) -> str:
    try:
        return urlsplit(f"//{header(dict(scope), b'host') or ''}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guarded:
    """An ASGI application that lets in whom `allow` says."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], allow: Allow | None, what: str
    ) -> None:
        self._app = app
        self._allow = allow or from_here
        self._hint = (
            f"{what} are open only to this machine itself, as no `allow` was given. Pass "
            "mount_dashboard(..., allow=...) a function that looks at the request and says who may see and change "
            "everything."
            if allow is None
            else "You may not see this."
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 403."""
        if scope["type"] == "http":
            verdict = self._allow(scope)
            if not (await verdict if inspect.isawaitable(verdict) else verdict):
                await refuse(send, 403, self._hint)
                return
        await self._app(scope, receive, send)

"""Requests of an app to the engine in its own process, or in that of a sibling: what stands in for HTTP to a server.

Within the process a request is an ASGI call on the engine's loop, without a socket: so everything that an app asks of
a server has the same routes, rules and answers as there. `Route` says which way is open at the moment.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from perdure.embedded.engine import Engine
from perdure.sdk.api import NoEngine, Requests
from perdure.sdk.http import Answer
from perdure.sdk.sending import SEED_HEADER
from perdure.server.ingest import accept

PATIENCE_S = 10.0
"""How long a request waits for an engine, while one worker takes over from another."""
PAUSE_S = 0.05


class EngineRequests:
    """Requests to the engine of this process."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make a request. Raises ConnectionError if the engine has ended."""
        if path.startswith("/e/") and method == "POST":
            return await self._engine.run(self._send(body, (headers or {}).get(SEED_HEADER)))
        return await self._engine.run(self._ask(method, path, body, headers or {}))

    async def _send(self, body: bytes, seed: str | None) -> Answer:
        """Events, which are most of all requests, take the short way."""
        status, answer = await accept(self._engine.parts.server, body, seed)
        return Answer(status, {}, answer)

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        plain, _, query = path.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(plain),
            "raw_path": plain.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "client": None,
            "server": None,
        }
        answered: list[Any] = []
        parts: list[bytes] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                answered.append(message)
            else:
                parts.append(message.get("body", b""))

        await self._engine.parts.app(scope, receive, send)
        start = answered[0]
        named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], named, b"".join(parts))


class Route:
    """Where an app's requests go: `target` changes as engines come and go, and may be None in between."""

    def __init__(self) -> None:
        self.target: Requests | None = None
        self.trouble = "no worker of the app runs the engine at the moment"
        self.closed = False

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make a request, waiting up to 10 s for an engine. Raises NoEngine if there is none."""
        if path.startswith("/fn/register"):
            return Answer(409, {}, _REGISTERED)
        end = time.monotonic() + PATIENCE_S
        while True:
            target = self.target
            try:
                if target is not None:
                    return await target.request(method, path, body, headers)
                trouble: object = self.trouble
            except (OSError, TimeoutError, ValueError) as error:
                trouble = error
            if self.closed or time.monotonic() > end:
                raise NoEngine(str(self.trouble if self.closed else trouble))
            await asyncio.sleep(PAUSE_S)


_REGISTERED = (
    b'{"code":"embedded","message":"The app runs its functions itself (run_embedded) and does not register elsewhere. '
    b'Set PERDURE_URL to the address of a server to move it there."}'
)

"""What modules of routes share: one route a path with an endpoint for each method, and reading a body of JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.errors import RequestError
from perdure.protocol.payloads import NestedTooDeeply, json_text
from perdure.server.context import Server
from perdure.server.http import read_body

MAX_BYTES = 1024 * 1024

Endpoint = Callable[[Server, Request], Awaitable[Response]]


def route_of(server: Server, path: str, **endpoints: Endpoint) -> Route:
    """The route of a path, with an endpoint for each method; HEAD is answered as GET is."""

    async def handle(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](server, request)

    return Route(path, handle, methods=list(endpoints))


async def read_request(server: Server, request: Request, type: Any) -> Any:
    """The request body; an empty one is `{}`. Raises `RequestError` 400 that says what is wrong with it."""
    body = await read_body(request.receive, MAX_BYTES, server.intake)
    try:
        text = json_text(body.strip() or b"{}")
        if text is None:
            raise RequestError(400, "the request body is not JSON")
        return msgspec.json.decode(text, type=type)
    except (msgspec.MsgspecError, NestedTooDeeply) as error:
        raise RequestError(400, f"the request body is wrong: {error}") from None

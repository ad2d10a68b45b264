"""The server's ASGI application: hot routes by hand, all others on Starlette.

Every answer says what kind of server this is, and carries the CORS headers that browsers ask for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perdure.errors import RequestError, StoreUnavailable
from perdure.server import checkpoints, development, ingest, registering
from perdure.server.auth import from_foreign_page
from perdure.server.context import Server
from perdure.server.http import ClientGone, Message, Receive, Scope, Send, header, respond, respond_error
from perdure.server.json import JsonResponse
from perdure.server.rest import rest_routes

log = logging.getLogger("perdure.server")

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN_PREFIXES = ("/e/", "/invoke/", "/health", "/v0/gql", "/metrics")
"""Paths that need no bearer token (those of events have a key of their own)."""
_CHECKPOINTS = ("/v1/checkpoint/", "/v1/http/runs/")


def build_app(server: Server) -> Application:
    """The application over the parts of a server."""
    rest = _rest(server)
    common = [(b"x-inngest-server-kind", server.config.kind.encode())]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        origin = header(scope, b"origin")
        extra = common if origin is None else [*common, *_cors(scope, origin)]

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            await _route(server, rest, scope, receive, send_marked)
        except RequestError as error:
            await respond_error(send_marked, error)
        except StoreUnavailable as error:
            await respond_error(send_marked, RequestError(503, f"Try again in a moment: {error}"))
        except (ClientGone, ClientDisconnect):
            return

    return app


async def _route(server: Server, rest: Application, scope: Scope, receive: Receive, send: Send) -> None:
    path: str = scope["path"]
    if scope["method"] == "OPTIONS":
        await respond(send, 200, b"")
        return
    if path.startswith("/e/"):
        await ingest.receive_events(server, scope, receive, send, path[3:].rstrip("/"))
        return
    if not path.startswith(_OPEN_PREFIXES) and path != "/" and not server.keys.has_bearer(scope):
        await rest_unauthorized(scope, receive, send)
        return
    if server.config.mode == "dev" and from_foreign_page(scope):
        raise RequestError(403, "A web page of another host may not change anything here.", "foreign_origin")
    if path.startswith(_CHECKPOINTS) and path.endswith("/async") and scope["method"] == "POST":
        await checkpoints.checkpoint(server, receive, send, path.rsplit("/", 2)[1])
    elif path.startswith("/invoke/") and scope["method"] == "POST":
        await ingest.invoke(server, scope, receive, send, unquote(path[8:].rstrip("/")))
    elif path == "/fn/register" and scope["method"] in ("POST", "PUT"):
        await registering.register(server, scope, receive, send)
    elif path == "/fn/remove" and scope["method"] == "DELETE":
        await registering.remove(server, scope, send)
    else:
        await rest(scope, receive, send)


async def rest_unauthorized(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer to a missing or wrong bearer token."""
    await PlainTextResponse("Authentication failed", 401)(scope, receive, send)


def _cors(scope: Scope, origin: str) -> list[tuple[bytes, bytes]]:
    asked = header(scope, b"access-control-request-headers")
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"access-control-allow-headers", (asked or "*").encode("latin-1")),
        (b"access-control-expose-headers", b"Link, Mcp-Session-Id"),
        (b"vary", b"Origin"),
    ]


def _rest(server: Server) -> Starlette:
    async def health(_: Request) -> Response:
        return development.health(server)

    async def info(_: Request) -> Response:
        return development.info(server)

    async def telemetry(_: Request) -> Response:
        return development.telemetry()

    async def front(_: Request) -> Response:
        return PlainTextResponse(
            f"Perdure {server.version}. What it knows is at /dev, runs at /v1/runs/{{id}}.\n"
        )

    routes = [
        Route("/", front),
        Route("/health", health),
        Route("/dev", info),
        Route("/v0/telemetry", telemetry, methods=["POST"]),
        *rest_routes(server),
    ]
    if server.config.mode == "dev":
        routes += _test_routes(server)
    return Starlette(
        routes=routes,
        exception_handlers={
            RequestError: _request_error,
            HTTPException: _http_error,
            Exception: _server_error,
        },
    )


def _test_routes(server: Server) -> list[Route]:
    async def step_limit(request: Request) -> Response:
        return await development.step_limit(server, request)

    async def state_size_limit(request: Request) -> Response:
        return await development.state_size_limit(server, request)

    async def cancel(request: Request) -> Response:
        return await development.cancel_for_test(server, request)

    async def queue_size(request: Request) -> Response:
        return development.queue_size(server, request)

    return [
        Route("/fn/step-limit", step_limit, methods=["POST", "DELETE"]),
        Route("/fn/state-size-limit", state_size_limit, methods=["POST", "DELETE"]),
        Route("/test/function/runs/cancel", cancel, methods=["POST"]),
        Route("/test/queue/function-queue-size", queue_size),
    ]


async def _request_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    body: dict[str, object] = {"error": error.message, "status": error.status, "data": error.data}
    if error.code is not None:
        body["code"] = error.code
    return JsonResponse(body, error.status, {"Retry-After": "1"} if error.status == 503 else None)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return Response(status_code=405)
    message = f"Nothing is served at {request.method} {request.url.path[:200]}."
    return JsonResponse({"error": message, "status": error.status_code, "data": None}, error.status_code)


async def _server_error(request: Request, error: Exception) -> Response:
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {"error": "The server failed to answer this; its log says why.", "status": 500, "data": None}
    return JsonResponse(body, 500)

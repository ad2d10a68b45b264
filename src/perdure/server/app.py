"""The server's ASGI application: hot routes by hand, all others on Starlette.

Every answer says what kind of server this is, and carries the CORS headers that browsers ask for.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from perdure.errors import RequestError, StoreUnavailable
from perdure.protocol.capabilities import CHECKPOINTS_PATH
from perdure.server import checkpoints, development, ingest, registering, test_api
from perdure.server.api.routes import api_routes
from perdure.server.auth import from_foreign_page
from perdure.server.bulk import bulk_routes
from perdure.server.clock import clock_routes
from perdure.server.context import Server
from perdure.server.event_fates import event_fate_routes
from perdure.server.explaining import explaining_routes
from perdure.server.exporting import export_routes
from perdure.server.graphql.route import GraphqlRoute
from perdure.server.http import (
    TEXT,
    ClientGone,
    Message,
    Receive,
    Scope,
    Send,
    error_fields,
    header,
    respond,
    respond_error,
)
from perdure.server.json import JsonResponse
from perdure.server.metadata import metadata_route
from perdure.server.metrics import CONTENT_TYPE, exposition
from perdure.server.operating import operating_routes
from perdure.server.pages.files import Pages
from perdure.server.pages.routes import PageRoutes, is_page, wants_page
from perdure.server.rerunning import rerun_route
from perdure.server.rest import rest_routes
from perdure.server.step_logs import step_log_routes

log = logging.getLogger("perdure.server")

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN = frozenset(("/", "/health", "/metrics", "/v0/gql", "/dev/traces"))
"""Paths that need no bearer token, nor do invocations (nor events, which have keys of their own)."""
_CHECKPOINTS = ("/v1/checkpoint/", "/v1/http/runs/")
_CHECKPOINT_END = "/async"


def build_app(server: Server, routes: Sequence[Route] = ()) -> Application:
    """The application over the parts of a server; `routes` are those of a part that it does not know."""
    rest = _rest(server, routes)
    common = [(b"x-inngest-server-kind", server.config.kind.encode())]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        origin = header(scope, b"origin")
        extra = common if origin is None else [*common, *_cors(scope, origin)]
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *extra]
                started = True
            await send(message)

        try:
            await _route(server, rest, scope, receive, send_marked)
        except (ClientGone, ClientDisconnect):
            return
        except Exception as error:
            await _fail(scope, None if started else send_marked, error)

    return app


async def _fail(scope: Scope, send: Send | None, error: Exception) -> None:
    """Answer with an error, if nothing has been answered yet, and write into the log what nobody expected."""
    trouble = _explained(error)
    if trouble.status == 500 and trouble is not error:
        log.error("%s %s failed", scope["method"], scope["path"][:200], exc_info=error)
    if send is not None:
        await respond_error(send, trouble)


def _explained(error: Exception) -> RequestError:
    """What the caller is told of an error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, StoreUnavailable):
        return RequestError(503, f"Try again in a moment: {error}")
    return RequestError(500, "The server failed to answer this; its log says why.")


async def _route(server: Server, rest: Application, scope: Scope, receive: Receive, send: Send) -> None:
    path: str = scope["path"]
    method: str = scope["method"]
    if method == "OPTIONS":
        await respond(send, 200, b"", TEXT)
        return
    if path.startswith("/e/"):
        if method == "POST":
            await ingest.receive_events(server, scope, receive, send, path[3:].rstrip("/"))
        else:
            await _wrong_method(send, b"POST")
        return
    invoke = path.startswith("/invoke/")
    if not invoke and not _is_open(method, path) and not server.keys.has_bearer(scope):
        await respond(send, 401, b"Authentication failed", TEXT)
        return
    if server.config.mode == "dev" and from_foreign_page(scope, server.config.host):
        raise RequestError(403, "A web page of another host may not change anything here.", "foreign_origin")
    run_id = _checkpointed(path)
    if run_id is not None or path == CHECKPOINTS_PATH:
        if method != "POST":
            await _wrong_method(send, b"POST")
        elif run_id is not None:
            await checkpoints.checkpoint(server, receive, send, run_id)
        else:
            await checkpoints.checkpoints(server, receive, send)
    elif invoke and method == "POST":
        await ingest.invoke(server, scope, receive, send, unquote(path[8:].rstrip("/")))
    elif invoke:
        await _wrong_method(send, b"POST")
    else:
        await rest(scope, receive, send)


def _is_open(method: str, path: str) -> bool:
    return path in _OPEN or (method in ("GET", "HEAD") and is_page(path))


def _checkpointed(path: str) -> str | None:
    """The run whose checkpoint is posted to this path, if it is such a path."""
    if not path.endswith(_CHECKPOINT_END):
        return None
    for prefix in _CHECKPOINTS:
        if path.startswith(prefix):
            run_id = path[len(prefix) : -len(_CHECKPOINT_END)]
            return run_id if "/" not in run_id else None
    return None


async def _wrong_method(send: Send, allowed: bytes) -> None:
    await respond(send, 405, b"", TEXT, [(b"allow", allowed)])


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


def _rest(server: Server, more: Sequence[Route]) -> Starlette:
    pages = PageRoutes(Pages())

    async def front(request: Request) -> Response:
        if wants_page(request):
            return await pages.show(request)
        return PlainTextResponse(
            f"Perdure {server.version}. What it knows is at /dev, runs at /v1/runs/{{id}}.\n"
        )

    async def health(_: Request) -> Response:
        return development.health(server)

    async def info(_: Request) -> Response:
        return development.info(server)

    async def metrics(request: Request) -> Response:
        if wants_page(request):
            return await pages.show(request)
        text = exposition(server.shard, server.gauges, server.intake.held, server.workers())
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def dropped(_: Request) -> Response:
        return PlainTextResponse("")

    routes = [
        Route("/", front),
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/dev", info),
        Route("/dev/traces", dropped, methods=["POST"]),
        Route("/v0/telemetry", dropped, methods=["POST"]),
        *api_routes(server),
        *pages.routes(),
        *registering.registration_routes(server),
        *rest_routes(server),
        *operating_routes(server),
        *bulk_routes(server),
        *explaining_routes(server),
        *event_fate_routes(server),
        *export_routes(server),
        rerun_route(server),
        Route("/v0/gql", GraphqlRoute(server)),
        metadata_route(server),
        *step_log_routes(server),
        *more,
    ]
    if server.config.mode == "dev":
        routes += [*clock_routes(server), *test_api.test_routes(server)]
    app = Starlette(
        routes=routes,
        exception_handlers={
            RequestError: _trouble,
            StoreUnavailable: _trouble,
            HTTPException: _http_error,
            Exception: _trouble,
        },
    )
    app.router.redirect_slashes = False
    return app


async def _trouble(_: Request, error: Exception) -> Response:
    """Errors become answers here; unexpected ones go on from here to the log."""
    trouble = _explained(error)
    headers = {"Retry-After": "1"} if trouble.status == 503 else None
    return JsonResponse(error_fields(trouble), trouble.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return Response(status_code=405, headers=error.headers)
    message = f"Nothing is served at {request.method} {request.url.path[:200]}."
    return JsonResponse({"error": message, "status": error.status_code, "data": None}, error.status_code)

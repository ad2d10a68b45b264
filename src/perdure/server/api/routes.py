"""All endpoints of the pages' API, and their document."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from perdure.server.api import (
    apps,
    event_types,
    events,
    failures,
    functions,
    jobs,
    metrics,
    run,
    runs,
    schedules,
)
from perdure.server.api.endpoint import Endpoint, routes_of
from perdure.server.api.live import Live, live_route
from perdure.server.api.openapi import document
from perdure.server.context import Server
from perdure.server.json import JsonResponse

_MODULES = (runs, run, functions, events, event_types, apps, metrics, schedules, failures, jobs)
ENDPOINTS: list[Endpoint] = [endpoint for module in _MODULES for endpoint in module.ENDPOINTS]


def api_routes(server: Server) -> list[BaseRoute]:
    """The routes of the API. Commits are told to its live stream from now on."""
    live = Live(server)
    server.shard.on_commit.append(live.committed)

    async def openapi(_: Request) -> Response:
        return JsonResponse(document(ENDPOINTS, server.version))

    return [
        Route("/api/openapi.json", openapi, methods=["GET"]),
        live_route(live),
        *routes_of(server, ENDPOINTS),
    ]

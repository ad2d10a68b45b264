"""What a person does with functions and apps: pause, resume, change limits, archive.

These routes are Perdure's own. Each takes effect with the commit that its answer tells of, and stays over restarts.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.errors import RequestError
from perdure.server.context import Server
from perdure.server.rest import wrapped
from perdure.server.routing import read_request, route_of
from perdure.shard.commands import OverrideConfig, PauseFunction, RemoveApp

log = logging.getLogger("perdure.server")

MAX_LOGGED = 500
"""Characters of limits that were set that stand in the log."""


def operating_routes(server: Server) -> list[Route]:
    """The routes of this module."""

    route = partial(route_of, server)
    return [
        route("/v1/functions", GET=list_functions),
        route("/v1/functions/{slug:path}/pause", POST=pause),
        route("/v1/functions/{slug:path}/resume", POST=resume),
        route("/v1/functions/{slug:path}/overrides", PUT=put_overrides, DELETE=drop_overrides),
        route("/v1/functions/{slug:path}", GET=show_function),
        route("/v1/apps/{app_name:path}", DELETE=archive_app),
    ]


def served_function(server: Server, slug: str) -> Function:
    """A function by its slug or id. Raises `RequestError` 404 if there is none."""
    found = server.shard.state.functions.find(slug)
    if found is None:
        raise RequestError(404, f"function not found: {slug[:200]}", "not_found")
    return found


def function_state(server: Server, function: Function) -> dict[str, Any]:
    """What is in force for a function: what its code says, and what a person has set instead."""
    row = server.shard.state.function_rows[function.id]
    return {
        "id": function.slug,
        "internal_id": function.id,
        "app_id": function.app_id,
        "name": row.name,
        "paused": row.paused or None,
        "config": msgspec.Raw(row.config),
        "overrides": None if row.overrides is None else msgspec.Raw(row.overrides),
    }


async def list_functions(server: Server, _: Request) -> Response:
    """All functions that are served, by slug."""
    live = [f for f in server.shard.state.functions.by_id.values() if not f.archived]
    return wrapped(server, [function_state(server, f) for f in sorted(live, key=lambda f: f.slug)])


async def show_function(server: Server, request: Request) -> Response:
    """One function."""
    return wrapped(server, function_state(server, served_function(server, request.path_params["slug"])))


class _Pause(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["hold", "skip"] = "hold"


async def pause(server: Server, request: Request) -> Response:
    """Let a function start no new runs: they are held until it is resumed, or skipped (`{"mode": "skip"}`)."""
    wanted = await read_request(server, request, _Pause)
    return await _pause(server, request, Pause(wanted.mode))


async def resume(server: Server, request: Request) -> Response:
    """Let a function start runs again; those that were held begin now."""
    return await _pause(server, request, Pause.NO)


async def _pause(server: Server, request: Request, pause: Pause) -> Response:
    function = served_function(server, request.path_params["slug"])
    await set_pause(server, function, pause)
    return wrapped(server, function_state(server, function))


async def put_overrides(server: Server, request: Request) -> Response:
    """Put parts of a function's configuration in place of the code's. The body has the SDK's own fields."""
    function = served_function(server, request.path_params["slug"])
    fields = await read_request(server, request, dict[str, msgspec.Raw])
    await set_overrides(server, function, fields)
    return wrapped(server, function_state(server, function))


async def drop_overrides(server: Server, request: Request) -> Response:
    """Go back to what the code says."""
    function = served_function(server, request.path_params["slug"])
    await set_overrides(server, function, {})
    return wrapped(server, function_state(server, function))


async def set_pause(server: Server, function: Function, pause: Pause) -> None:
    """Hold or skip new runs of a function, or start them again."""
    await server.submit(PauseFunction(slug=function.id, pause=pause))
    log.info("function %s is %s", function.slug, "resumed" if pause is Pause.NO else f"paused ({pause})")


async def set_overrides(server: Server, function: Function, fields: dict[str, msgspec.Raw]) -> None:
    """Put parts of a configuration in place of the code's; none to go back to what the code says."""
    if not fields:
        await server.submit(OverrideConfig(slug=function.id, overrides=None))
        log.info("function %s: limits are those of its code again", function.slug)
        return
    body = msgspec.json.encode(fields)
    await server.submit(OverrideConfig(slug=function.id, overrides=body))
    shown = " ".join(body.decode().split())[:MAX_LOGGED]
    log.info("function %s: limits are set by hand to %s", function.slug, shown)


async def archive_app(server: Server, request: Request) -> Response:
    """Archive an app (by name or id): its functions start no more runs, those that exist go on."""
    name = request.path_params["app_name"]
    apps = server.shard.state.apps.values()
    found = [app for app in apps if name in (app.name, app.id) and app.archived_at is None]
    if not found:
        raise RequestError(404, f"app not found: {name[:200]}", "not_found")
    await server.submit(RemoveApp(app_id=found[0].id))
    log.info("app %r is archived", found[0].name)
    return wrapped(server, {"id": found[0].id, "name": found[0].name, "archived": True})

"""Functions: what is in force for each, and what a person does with them."""

from __future__ import annotations

from typing import Literal

import msgspec

from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.protocol.events import read_invoke
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.flows import ENDPOINTS as FLOWS
from perdure.server.api.limits import ENDPOINTS as LIMITS
from perdure.server.api.limits import Limits, limits_in_force, limits_of_code
from perdure.server.context import Server
from perdure.server.invoking import invoke_function
from perdure.server.operating import served_function, set_overrides, set_pause


class Trigger(msgspec.Struct, frozen=True):
    """What starts a function: an event, perhaps only if an expression holds, or a schedule."""

    event: str | None
    expression: str | None
    cron: str | None


class FunctionHead(msgspec.Struct, frozen=True, kw_only=True):
    """A function as lists show it. `id` is the slug."""

    id: str
    name: str
    app: str
    app_id: str
    triggers: list[Trigger]
    paused: Literal["hold", "skip"] | None
    overridden: bool
    retries: int


class FunctionDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A function with its configuration: what its code says, and the parts that a person has set instead.
    `limits` are those in force."""

    head: FunctionHead
    config: msgspec.Raw
    overrides: msgspec.Raw | None
    limits: Limits
    limits_of_code: Limits
    url: str
    queued: int


class FunctionList(msgspec.Struct, frozen=True):
    """All functions that are served, by slug."""

    functions: list[FunctionHead]


class PauseBody(msgspec.Struct, frozen=True):
    """What happens to new runs: they are held, skipped, or (none) started."""

    mode: Literal["hold", "skip"] | None


class OverridesBody(msgspec.Struct, frozen=True):
    """Parts of the configuration, with the SDK's own fields; empty to go back to what the code says."""

    overrides: dict[str, msgspec.Raw]


class InvokeBody(msgspec.Struct, frozen=True):
    """What the run gets as the data of its event, and as its user: JSON objects."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    user: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class EventRef(msgspec.Struct, frozen=True):
    """An event, by its id on this server."""

    event_id: str


def _head(server: Server, function: Function) -> FunctionHead:
    state = server.shard.state
    row = state.function_rows[function.id]
    app = state.apps.get(function.app_id)
    config = function.config
    return FunctionHead(
        id=function.slug,
        name=row.name,
        app="" if app is None else app.name,
        app_id=function.app_id,
        triggers=[Trigger(t.event or None, t.expression or None, t.cron or None) for t in config.triggers],
        paused=row.paused or None,  # type: ignore[arg-type]
        overridden=row.overrides is not None,
        retries=function.attempts - 1,
    )


def _detail(server: Server, function: Function) -> FunctionDetail:
    row = server.shard.state.function_rows[function.id]
    return FunctionDetail(
        head=_head(server, function),
        config=msgspec.Raw(row.config),
        overrides=None if row.overrides is None else msgspec.Raw(row.overrides),
        limits=limits_in_force(function),
        limits_of_code=limits_of_code(server, function),
        url=function.config.url,
        queued=server.shard.state.queue_size(function.id),
    )


async def list_functions(server: Server, _: Asked[Nothing, Nothing]) -> FunctionList:
    """All functions that are served, by slug."""
    live = [one for one in server.shard.state.functions.by_id.values() if not one.archived]
    return FunctionList([_head(server, one) for one in sorted(live, key=lambda one: one.slug)])


async def show_function(server: Server, asked: Asked[Nothing, Nothing]) -> FunctionDetail:
    """One function, with its configuration."""
    return _detail(server, served_function(server, asked.path["slug"]))


async def pause_function(server: Server, asked: Asked[Nothing, PauseBody]) -> FunctionDetail:
    """Hold or skip a function's new runs, or start them again."""
    function = served_function(server, asked.path["slug"])
    await set_pause(server, function, Pause.NO if asked.body.mode is None else Pause(asked.body.mode))
    return _detail(server, function)


async def override_function(server: Server, asked: Asked[Nothing, OverridesBody]) -> FunctionDetail:
    """Put limits in place of those of the code, or take them back."""
    slug = asked.path["slug"]
    await set_overrides(server, served_function(server, slug), asked.body.overrides)
    return _detail(server, served_function(server, slug))


async def start_function(server: Server, asked: Asked[Nothing, InvokeBody]) -> EventRef:
    """Start a run of a function now, with data of one's own."""
    function = served_function(server, asked.path["slug"])
    return EventRef(await invoke_function(server, function, read_invoke(msgspec.json.encode(asked.body))))


ENDPOINTS = [
    Endpoint("GET", "/api/functions", list_functions, FunctionList),
    Endpoint("POST", "/api/functions/{slug:path}/start", start_function, EventRef, body=InvokeBody),
    Endpoint("POST", "/api/functions/{slug:path}/pause", pause_function, FunctionDetail, body=PauseBody),
    Endpoint(
        "PUT", "/api/functions/{slug:path}/overrides", override_function, FunctionDetail, body=OverridesBody
    ),
    *LIMITS,
    *FLOWS,
    Endpoint("GET", "/api/functions/{slug:path}", show_function, FunctionDetail),
]

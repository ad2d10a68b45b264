"""Apps: what the server knows of each, and what a person does with them. And the server itself."""

from __future__ import annotations

import msgspec

from perdure.errors import RequestError
from perdure.protocol.urls import normalize_app_url
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.context import Server
from perdure.shard.commands import RemoveApp
from perdure.shard.rows import AppRow
from perdure.shard.workers import STATUSES, WorkerRecord


class App(msgspec.Struct, frozen=True, kw_only=True):
    """An app. `error` says why its last sync failed; an app that has never answered has no name."""

    id: str
    name: str
    url: str
    sdk: str
    framework: str
    version: str
    connected: bool
    error: str | None
    created_at: int
    synced_at: int
    functions: list[str]
    workers: list[Worker]


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of an app that is connected. `capacity` is how many calls it takes at once, None without a limit."""

    id: str
    instance: str
    status: str
    version: str
    sdk: str
    address: str
    os: str
    cores: int
    memory: int
    capacity: int | None
    in_use: int
    connected_at: int
    heard_at: int


class Apps(msgspec.Struct, frozen=True):
    """All apps that are not archived, by name."""

    apps: list[App]


class AppUrl(msgspec.Struct, frozen=True):
    """Where an app is served."""

    url: str


class Synced(msgspec.Struct, frozen=True):
    """What came of a sync: nothing is wrong if there is no problem."""

    url: str
    problem: str | None


class AppRef(msgspec.Struct, frozen=True):
    """An app."""

    id: str


class ServerInfo(msgspec.Struct, frozen=True):
    """The server. `ahead` is how far its clock is ahead of the real one, in ms, after travel in time."""

    version: str
    mode: str
    now: int
    ahead: int
    apps: int
    functions: int


def _app(server: Server, app: AppRow) -> App:
    functions = server.shard.state.functions.by_id.values()
    return App(
        id=app.id,
        name=app.name,
        url=app.url,
        sdk=app.sdk,
        framework=app.framework,
        version=app.app_version,
        connected=app.method == "CONNECT",
        error=app.error or None,
        created_at=app.created_at,
        synced_at=app.synced_at,
        functions=sorted(one.slug for one in functions if one.app_id == app.id and not one.archived),
        workers=[
            _worker(one, app) for one in server.workers() if any(own.name == app.name for own in one.apps)
        ],
    )


def _worker(worker: WorkerRecord, app: AppRow) -> Worker:
    own = next(one for one in worker.apps if one.name == app.name)
    return Worker(
        id=worker.id,
        instance=worker.instance_id,
        status=STATUSES[worker.status].lower(),
        version=own.version,
        sdk=f"{worker.sdk_language} {worker.sdk_version}".strip(),
        address=worker.address,
        os=worker.os,
        cores=worker.cpu_cores,
        memory=worker.mem_bytes,
        capacity=worker.capacity or None,
        in_use=worker.in_use,
        connected_at=worker.connected_at,
        heard_at=worker.heard_at,
    )


def _live(server: Server) -> list[AppRow]:
    return [app for app in server.shard.state.apps.values() if app.archived_at is None]


async def list_apps(server: Server, _: Asked[Nothing, Nothing]) -> Apps:
    """All apps that are not archived, by name."""
    return Apps([_app(server, app) for app in sorted(_live(server), key=lambda app: (app.name, app.url))])


async def sync_app(server: Server, asked: Asked[Nothing, AppUrl]) -> Synced:
    """Sync the app at a URL: a new one, or one that is known."""
    if server.sync is None:
        raise RequestError(503, "Try again in a moment: the server does not sync apps yet.")
    if not asked.body.url.startswith(("http://", "https://")):
        raise RequestError(400, f"{asked.body.url[:200]!r} is no address; it begins with http:// or https://")
    url = normalize_app_url(asked.body.url)
    outcome = await server.sync(url)
    return Synced(url, outcome.message or outcome.error or None)


async def archive_app(server: Server, asked: Asked[Nothing, Nothing]) -> AppRef:
    """Archive an app: its functions start no more runs, those that exist go on."""
    app_id = asked.path["app_id"]
    if all(app.id != app_id for app in _live(server)):
        raise RequestError(404, f"there is no app with the id {app_id[:60]}")
    await server.submit(RemoveApp(app_id=app_id))
    return AppRef(app_id)


async def show_server(server: Server, _: Asked[Nothing, Nothing]) -> ServerInfo:
    """The server: its version, its clock, how much it serves."""
    state = server.shard.state
    functions = sum(not one.archived for one in state.functions.by_id.values())
    return ServerInfo(
        server.version, server.config.mode, server.shard.now(), state.ahead, len(_live(server)), functions
    )


ENDPOINTS = [
    Endpoint("GET", "/api/apps", list_apps, Apps),
    Endpoint("POST", "/api/apps/sync", sync_app, Synced, body=AppUrl),
    Endpoint("DELETE", "/api/apps/{app_id}", archive_app, AppRef),
    Endpoint("GET", "/api/server", show_server, ServerInfo),
]

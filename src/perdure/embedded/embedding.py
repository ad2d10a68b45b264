"""`App.run_embedded`: which process of an app runs the engine, and how the others reach it.

An app may run as several processes on one database (`uvicorn --workers 4`, `--reload`). The lock beside the database
elects one of them, the **leader**: the engine and all functions run there. The others are **followers**: what they
send goes over a Unix socket to the leader, which answers when it is on disk. Five times a second a follower looks
whether the lock is free; if the leader has died, one follower takes the lock, reads the database, and goes on with
whatever was under way. Requests made meanwhile wait. The epoch of the store keeps a leader that was only thought dead
from writing.

With the address of a server in place of a database nothing is started: the app serves its functions to that server.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

from perdure.embedded.doorway import SocketOrigin, socket_path
from perdure.embedded.engine import Engine, Options
from perdure.embedded.mounting import forward
from perdure.embedded.requests import PATIENCE_S, EngineRequests, Route
from perdure.errors import AlreadyRunning, ConfigError, PerdureError, StoreUnavailable
from perdure.sdk.app import App
from perdure.sdk.http import Origin
from perdure.sdk.settings import read_settings
from perdure.server.http import Receive, Scope, Send
from perdure.stores.sqlite.lock import DatabaseLock

log = logging.getLogger("perdure")

LOOK_S = 0.2
"""How often a follower looks whether the leader is gone, in seconds."""
DEFAULT = "sqlite:///perdure.db"
Role = Literal["stopped", "leader", "follower", "elsewhere"]

_ENGINES: dict[Path, tuple[Engine, set[Embedding]]] = {}
"""The engines of this process, with the apps that they run."""
_RUNNING: dict[App, Embedding] = {}


def database_of(url: str) -> Path:
    """The file that a URL such as `sqlite:///jobs.db` names; four slashes begin an absolute path, as in SQLAlchemy.

    Raises ConfigError if it names none.
    """
    prefix = "sqlite:///"
    name = unquote(url.removeprefix(prefix).partition("?")[0])
    if not url.startswith(prefix) or not name or name == ":memory:":
        raise ConfigError(
            f"{url!r} is no place for an embedded engine. Give it a file, such as sqlite:///jobs.db (from the current "
            "folder) or sqlite:////var/lib/app/jobs.db, or the http:// address of a server that runs already."
        )
    return Path(name).absolute()


class Embedding:
    """An app and the engine in its process.

    `await` starts it and gives it back, and `stop` ends it; `async with` does both.
    """

    def __init__(self, app: App, url: str | None, options: Options) -> None:
        self._app = app
        self._url = url or app.settings.database or (None if app.settings.has_server else DEFAULT)
        self._options = options
        self._route = Route()
        self._database: Path | None = None
        self._engine: Engine | None = None
        self._looking: asyncio.Task[None] | None = None
        self.role: Role = "stopped"
        """`leader` if the engine runs in this process, `follower` if in a sibling, `elsewhere` with a server."""

    def __await__(self) -> Generator[Any, None, Embedding]:
        return self._start().__await__()

    async def __aenter__(self) -> Embedding:
        return await self._start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The engine's HTTP API, as an ASGI application; everybody who reaches it may do everything."""
        if self.role == "follower" and self._database is not None and scope["type"] == "http":
            # Its client library takes a while to load, and few need it.
            relaying = importlib.import_module("perdure.embedded.relaying")
            await relaying.relay(socket_path(self._database), scope, receive, send)
        else:
            await forward(self._engine, scope, receive, send)

    async def _start(self) -> Embedding:
        if self._app in _RUNNING:
            raise ConfigError(f"The app {self._app.name} runs embedded already. Stop that first.")
        url = self._url
        if url is None or url.startswith(("http://", "https://")):
            self._go_elsewhere(url)
            return self
        self._database = database_of(url)
        _RUNNING[self._app] = self
        try:
            self._app.api.through(self._route)
            await self._take_part(self._database)
        except BaseException:
            _RUNNING.pop(self._app, None)
            raise
        return self

    def _go_elsewhere(self, url: str | None) -> None:
        """Functions run for a server at `url`, or at the address that the app knows."""
        if url is not None and url.rstrip("/") != self._app.settings.api_url:
            given = read_settings(url=url)
            self._app.settings = msgspec.structs.replace(
                self._app.settings, api_url=given.api_url, event_url=given.event_url
            )
            self._app.api.through(Origin(given.api_url))
        self.role = "elsewhere"

    async def _take_part(self, database: Path) -> None:
        """Lead if nobody does, else follow. Raises ConfigError if somebody has the database who cannot be followed."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                await self._lead(database)
                return
            except AlreadyRunning as error:
                if await _answers(database):
                    self._follow(database)
                    return
                if time.monotonic() > end:
                    raise ConfigError(
                        f"{error} What holds it does not answer at {socket_path(database)}, so it is no "
                        "embedded engine."
                    ) from None
            await asyncio.sleep(LOOK_S)

    async def _lead(self, database: Path) -> None:
        shared = _ENGINES.get(database)
        if shared is None:
            engine = Engine(database, self._options)
            await engine.start()
            shared = _ENGINES[database] = (engine, set())
        engine, embeddings = shared
        embeddings.add(self)
        self._engine = engine
        self._route.target = EngineRequests(engine)
        try:
            await engine.join(self._app)
        except BaseException:
            await self._leave()
            raise
        self.role = "leader"

    def _follow(self, database: Path) -> None:
        self._route.target = SocketOrigin(database)
        self.role = "follower"
        log.info(
            "The engine of %s runs in another process of this app; its functions run there. This one takes over "
            "if it ends.",
            database,
        )
        self._looking = asyncio.get_running_loop().create_task(self._look(database))

    async def _look(self, database: Path) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                DatabaseLock.take(database).release()
                await self._lead(database)
            except AlreadyRunning:
                continue
            except (PerdureError, OSError) as error:
                log.error(
                    "The engine of %s could not be taken over, which is tried again: %s", database, error
                )
                await asyncio.sleep(1.0 if isinstance(error, StoreUnavailable) else LOOK_S)
                continue
            log.info("This process runs the engine of %s now.", database)
            return

    async def stop(self) -> None:
        """Start no more calls, wait for those under way (`grace`), and end. What is left goes on at the next start."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        await self._leave()
        self._route.closed, self._route.trouble = True, "the embedded engine has been stopped"
        self.role = "stopped"
        _RUNNING.pop(self._app, None)

    async def _leave(self) -> None:
        """Let go of the engine; who is the last ends it."""
        engine, self._engine = self._engine, None
        if engine is not None and self._database is not None:
            _, embeddings = _ENGINES[self._database]
            embeddings.discard(self)
            if not embeddings:
                await engine.stop()
                _ENGINES.pop(self._database, None)
        self._route.target = None


async def _answers(database: Path) -> bool:
    """Whether an embedded engine listens beside the database."""
    try:
        answer = await SocketOrigin(database).request("GET", "/health", timeout=2.0)
    except (OSError, TimeoutError, ValueError):
        return False
    return answer.status == 200


def running_for(app: App) -> Embedding | None:
    """The embedding of an app that has been started."""
    return _RUNNING.get(app)

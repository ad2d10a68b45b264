"""The way to the engine for other processes of the same app: its HTTP API on a Unix socket beside the database.

Only the user whom the file belongs to can open it, so it needs no keys. The process that has the database's lock
owns the path: what a dead one has left there is removed.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from perdure.errors import ConfigError
from perdure.sdk.http import Connection, Origin
from perdure.server.app import Application
from perdure.server.http import Receive, Scope, Send, header

LONGEST_PATH = 100
"""Longest path of a Unix socket in bytes: the systems allow 103 to 107."""
CLOSE_S = 1.0
"""Requests under way at the end get so long, in seconds."""


def socket_path(database: Path) -> Path:
    """Where the engine of a database listens: beside it, or in a folder of the user's if that path is too long."""
    beside = database.with_name(f"{database.name}.sock")
    if len(os.fsencode(beside)) <= LONGEST_PATH:
        return beside
    name = hashlib.sha256(os.fsencode(database)).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"perdure-{os.getuid()}" / f"{name}.sock"


ROOT_HEADER = "x-perdure-root"
"""The path below which a worker has mounted the pages, in requests that it hands on."""


def _below_root(app: Application) -> Application:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        root = header(scope, ROOT_HEADER.encode()) if scope["type"] == "http" else None
        await app(scope if root is None else {**scope, "root_path": root}, receive, send)

    return answer


class Doorway:
    """Serves an application on the socket, as a context manager on the engine's loop."""

    def __init__(self, database: Path, app: Application) -> None:
        self._path = socket_path(database)
        self._config = uvicorn.Config(
            _below_root(app),
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
        )
        self._state = ServerState()
        self._server: asyncio.AbstractServer | None = None

    async def __aenter__(self) -> None:
        """Raises `ConfigError` if the socket cannot be made."""
        self._config.load()
        listener = _listen(self._path)
        # The protocol alone: uvicorn's own server wakes up ten times a second, and talks to the app's log.
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._protocol, sock=listener)

    def _protocol(self) -> asyncio.Protocol:
        return HttpToolsProtocol(config=self._config, server_state=self._state, app_state={})

    async def __aexit__(self, *_unused: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=CLOSE_S)
        with suppress(OSError):
            self._path.unlink()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.parent.name.startswith("perdure-"):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            if path.parent.stat().st_uid != os.getuid():
                raise ConfigError(f"{path.parent} belongs to another user. Give the database a shorter path.")
        with suppress(FileNotFoundError):
            path.unlink()
        listener.bind(os.fspath(path))
        path.chmod(0o600)  # nobody can connect before `listen`
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"The socket {path} cannot be made ({error.strerror}). Other workers of the app reach the engine "
            "there: keep the database in a folder on a local disk that you may write to."
        ) from None
    except ConfigError:
        listener.close()
        raise
    listener.listen(256)
    return listener


class SocketOrigin(Origin):
    """Requests to the engine of another process, over its socket."""

    def __init__(self, database: Path) -> None:
        super().__init__("http://localhost")
        self._path = os.fspath(socket_path(database))

    async def open(self) -> Connection:
        """A new connection. Raises OSError if nobody listens."""
        return Connection(*await asyncio.open_unix_connection(self._path))

"""The HTTP listener around a running server: uvicorn on uvloop, and an orderly end.

On the first SIGINT or SIGTERM no more calls start; requests are still answered, since apps in the middle of
a call post their steps; when the calls are over, or after ten seconds, the listener closes and the process
ends with code 0. A second signal ends it at once. Whatever was under way then is made again at the next
start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import cast

import uvicorn
import uvloop

from perdure.bootstrap import RunningServer, running, tune_process
from perdure.config import ServerConfig
from perdure.errors import ConfigError, EpochLost
from perdure.protocol.durations import format_duration

log = logging.getLogger("perdure")

KEEP_ALIVE_S = 75
BACKLOG = 2048
_SHOWN_AS_LOCALHOST = frozenset(("127.0.0.1", "0.0.0.0", "[::1]", "[::]"))
GRACE_S = 10.0
"""Calls under way have so long to end when the server is told to stop."""


def serve(config: ServerConfig) -> int:
    """Run until told to stop.

    Give back the process's exit code. Raises `ConfigError` if the port is taken.
    """
    listener = _bind(config)
    try:
        return uvloop.run(_run(config, listener))
    finally:
        listener.close()


def _bind(config: ServerConfig) -> socket.socket:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"port {config.port} on {config.host} cannot be used ({error.strerror}). "
            f"Stop the other program, or choose another port with --port."
        ) from None
    listener.listen(BACKLOG)
    return listener


class _GatewayListener:
    """The port of the Connect gateway's own. The main port serves the gateway too, so the server does without."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def open(self, parts: RunningServer, port: int) -> None:
        """Listen, if the port is free; `port` is the server's own."""
        config = parts.server.config
        parts.connecting.ports = (port, None)
        wanted = config.connect_port
        if wanted is None:
            wanted = port + 1 if config.port else 0
        try:
            listener = await asyncio.get_running_loop().create_server(
                parts.gateway.make_socket, config.host, wanted, backlog=BACKLOG
            )
        except (OSError, OverflowError) as error:
            log.warning(
                "port %d cannot be used for workers that connect (%s). They are told to use port %d instead; "
                "for another port give --connect-gateway-port.",
                wanted,
                getattr(error, "strerror", None) or error,
                port,
            )
            return
        self._server = listener
        parts.connecting.ports = (port, listener.sockets[0].getsockname()[1])


class _Listener(uvicorn.Server):
    """Uvicorn, with our own answer to signals."""

    def __init__(self, config: uvicorn.Config, parts: RunningServer) -> None:
        super().__init__(config)
        self._parts = parts
        self._gateway = _GatewayListener()
        self._draining: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._parts.syncing.start()
        tune_process()
        config = self._parts.server.config
        await self._gateway.open(self._parts, sockets[0].getsockname()[1] if sockets else config.port)
        host = f"[{config.host}]" if ":" in config.host else config.host
        shown = "localhost" if host in _SHOWN_AS_LOCALHOST else host
        port = config.port or (sockets[0].getsockname()[1] if sockets else 0)
        ahead = self._parts.server.shard.state.ahead
        if ahead:
            log.warning(
                "the clock is %s ahead of the real one, by 'perdure clock'; start with a new --data-dir to reset it",
                format_duration(ahead),
            )
        log.info("Perdure %s is ready at http://%s:%d", self._parts.server.version, shown, port)

    def stop_in_order(self) -> None:
        """What a signal does. A second one shortens the time that the first one gives."""
        again = bool(self._draining)
        if again:
            self.force_exit = True
        else:
            log.info(
                "stopping: no more calls start; waiting up to %g s for those under way (again to stop at once)",
                GRACE_S,
            )
        self._draining.append(asyncio.get_running_loop().create_task(self._drain(0.0 if again else GRACE_S)))

    async def _drain(self, grace_s: float) -> None:
        self._gateway.close()
        await self._parts.syncing.close()
        await self._parts.server.shard.stop(grace_s)
        await self._parts.gateway.close()
        self.should_exit = True


def _upgraded(parts: RunningServer) -> type[asyncio.Protocol]:
    """What uvicorn makes when a request asks for a WebSocket. The one thing served so is the gateway."""

    def make(config: object, server_state: object, app_state: object) -> asyncio.Protocol:
        del config, server_state, app_state
        return parts.gateway.make_socket()

    return cast("type[asyncio.Protocol]", make)


async def _run(config: ServerConfig, listener: socket.socket) -> int:
    async with running(config, gathers=True) as parts:
        uvicorn_config = uvicorn.Config(
            parts.app,
            http="httptools",
            ws=_upgraded(parts),
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=2,
            backlog=BACKLOG,
        )
        server = _Listener(uvicorn_config, parts)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(number, server.stop_in_order)
        serving = loop.create_task(server._serve([listener]))
        ended = parts.server.shard.ended
        await asyncio.wait([serving, ended], return_when=asyncio.FIRST_COMPLETED)
        if ended.done() and ended.exception() is not None:
            server.should_exit = True
            await serving
            return 3 if isinstance(ended.exception(), EpochLost) else 1
        await serving
    log.info("stopped")
    return 0

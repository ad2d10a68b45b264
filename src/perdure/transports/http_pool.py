"""Connections to apps: opening them, and keeping idle ones for the next request.

The most recently used idle connection goes first, so that a burst's extra connections grow old and are closed. None
is used after `max_idle` seconds: common servers close theirs after 5 (uvicorn, Node.js), and a request that crosses
their closing on the wire is lost.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
from collections import deque

import aiohappyeyeballs

from perdure.transports.http_budget import ReadBudget
from perdure.transports.http_connect import Addresses, open_socket
from perdure.transports.http_connection import HttpConnection
from perdure.transports.http_request import Origin, find_origin

MAX_IDLE_S = 4.0
"""How long an idle connection is kept, in seconds."""

MAX_IDLE_PER_ORIGIN = 256
"""How many idle connections to one host and port are kept."""

_SECOND_ADDRESS_AFTER_S = 0.25
_MAX_ORIGINS = 4096
_KEEP_ALIVE_TIMEOUT = re.compile(r"timeout\s*=\s*\"?(\d{1,6})", re.IGNORECASE)


class HttpPool:
    """Idle and busy connections by origin. Belongs to one event loop.

    `connections` are all whose socket is open.
    """

    def __init__(self, budget: ReadBudget, max_idle: float = MAX_IDLE_S) -> None:
        self._budget = budget
        self._max_idle = max_idle
        self._addresses = Addresses()
        self._origins: dict[str, Origin] = {}
        self._idle: dict[str, deque[HttpConnection]] = {}
        self.connections: set[HttpConnection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._all_lost: asyncio.Future[None] | None = None

    def origin(self, base: str) -> Origin | None:
        """The origin of `http://host[:port]`; None if it is not a plain one."""
        origin = self._origins.get(base)
        if origin is None:
            origin = find_origin(base)
            if origin is not None:
                if len(self._origins) >= _MAX_ORIGINS:
                    self._origins.clear()
                self._origins[base] = origin
        return origin

    def take(self, origin: Origin) -> HttpConnection | None:
        """An idle connection that is fit to be used, or None."""
        idle = self._idle.get(origin.who)
        if not idle:
            return None
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()
            connection.idle = False
            if now - connection.idle_since < connection.idle_limit and connection.usable():
                return connection
            connection.close()
        return None

    async def connect(self, origin: Origin) -> HttpConnection:
        """A new connection. Raises OSError if there can be none."""
        addresses = await self._addresses.find(origin.host, origin.port)
        opened = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_SECOND_ADDRESS_AFTER_S, socket_factory=open_socket
        )
        connection = HttpConnection(origin.who, self, self._budget)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, sock=opened)
        except BaseException:
            connection.abandon()
            opened.close()
            raise
        return connection

    async def close(self) -> None:
        """Close every connection and wait until all are closed."""
        self._closed = True
        self._addresses.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in list(self.connections):
            connection.close()
        if self.connections:
            self._all_lost = self._all_lost or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._all_lost)

    # ------------------------------------------------------------------ what connections report

    def opened(self, connection: HttpConnection) -> None:
        self.connections.add(connection)

    def freed(self, connection: HttpConnection) -> None:
        idle = self._idle.get(connection.who)
        if idle is None:
            idle = self._idle[connection.who] = deque()
        if self._closed or len(idle) >= MAX_IDLE_PER_ORIGIN:
            connection.close()
            return
        loop = asyncio.get_running_loop()
        connection.idle = True
        connection.idle_since = loop.time()
        connection.idle_limit = self._max_idle
        if connection.keep_alive is not None:
            connection.idle_limit = min(_promised_idle(connection.keep_alive), self._max_idle)
        idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._max_idle, self._sweep)

    def dropped(self, connection: HttpConnection) -> None:
        if connection.idle:
            connection.idle = False
            self._idle[connection.who].remove(connection)

    def lost(self, connection: HttpConnection) -> None:
        self.connections.discard(connection)
        if not self.connections and self._all_lost is not None and not self._all_lost.done():
            self._all_lost.set_result(None)

    def _sweep(self) -> None:
        """Close what has grown old; comes back when the next one will."""
        loop = asyncio.get_running_loop()
        born = loop.time() - self._max_idle
        oldest: float | None = None
        for who, idle in list(self._idle.items()):
            while idle and idle[0].idle_since <= born:
                idle[0].close()
            if not idle:
                del self._idle[who]
            elif oldest is None or idle[0].idle_since < oldest:
                oldest = idle[0].idle_since
        self._sweeper = None
        if oldest is not None:
            self._sweeper = loop.call_later(max(oldest - born, 0.01), self._sweep)


@functools.lru_cache(maxsize=64)
def _promised_idle(header: str) -> float:
    """How long an app promises to keep an idle connection, less a second for the way; endless if it does not say."""
    match = _KEEP_ALIVE_TIMEOUT.search(header)
    return math.inf if match is None else float(match[1]) - 1.0

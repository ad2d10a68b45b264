"""Connecting: which addresses a host name stands for, the sockets, and what to say when it fails.

`localhost` is both loopback addresses without asking anybody: apps listen on either, and a slow resolver must not hold
up calls to the same machine. Answers for other names are shared by all who ask at once and kept for some seconds, so
that a burst of calls to one app is one question.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from typing import Any

from perdure.protocol.calls import START_THE_APP

KEPT_S = 5.0
"""How long an answer of the resolver is used, in seconds."""

_MAX_KEPT = 1024

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""One row of `getaddrinfo`."""


class Addresses:
    """A small cache before the system's resolver. Belongs to one event loop."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}
        self._asked: dict[tuple[str, int], asyncio.Task[list[AddressInfo]]] = {}

    async def find(self, host: str, port: int) -> list[AddressInfo]:
        """The addresses of a host, in the order to try them. Raises OSError (gaierror) if there are none."""
        if host == "localhost" or host.endswith(".localhost"):
            return [_numeric("127.0.0.1", port), _numeric("::1", port)]
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return await self._ask(host, port)
        return [_numeric(host, port)]

    async def _ask(self, host: str, port: int) -> list[AddressInfo]:
        loop = asyncio.get_running_loop()
        key = (host, port)
        known = self._known.get(key)
        if known is not None and loop.time() - known[0] < KEPT_S:
            return known[1]
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = loop.create_task(resolve(host, port))
            task.add_done_callback(lambda done: self._answered(key, done))
        # One caller that gives up must not take the answer from the others.
        return await asyncio.shield(task)

    def _answered(self, key: tuple[str, int], task: asyncio.Task[list[AddressInfo]]) -> None:
        self._asked.pop(key, None)
        if task.cancelled() or task.exception() is not None:
            return
        if len(self._known) >= _MAX_KEPT:
            self._known.clear()
        self._known[key] = (asyncio.get_running_loop().time(), task.result())

    def close(self) -> None:
        """Stop asking."""
        for task in list(self._asked.values()):
            task.cancel()


async def resolve(host: str, port: int) -> list[AddressInfo]:
    """Ask the system. Raises OSError (gaierror) if it knows no address."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        # The IDNA codec refuses empty and overlong labels this way.
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from error
    return list(found)


def _numeric(host: str, port: int) -> AddressInfo:
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


def open_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for a connection to an app, for which the kernel asks after the peer when it is silent.

    A call may take two hours; without this a host that lost its power would be waited for all that time.
    """
    opened = socket.socket(info[0], info[1], info[2])
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return opened


def describe_connect_error(error: Exception, who: str) -> str:
    """One sentence that says why there is no connection to `who` (host:port)."""
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror):
        return f"The name of {who} could not be resolved ({error.strerror})."
    # Several addresses that failed in different ways come as one error without a number; refused says most.
    if number == errno.ECONNREFUSED or (number is None and f"Errno {errno.ECONNREFUSED}]" in str(error)):
        return f"Nothing listens at {who} (connection refused): {START_THE_APP}."
    if number in (errno.EMFILE, errno.ENFILE):
        return f"No connection to {who}: this server has too many files open (see ulimit -n)."
    return f"No connection to {who} ({getattr(error, 'strerror', None) or error or type(error).__name__})."

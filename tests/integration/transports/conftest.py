"""Every test of the transports runs on both event loops: the one Python brings, and the one the server uses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
import uvloop

from perdure.transports import HttpTransport
from tests.integration.transports.raw_server import Handler, RawServer

Serve = Callable[[Handler | bytes], Awaitable[RawServer]]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts servers that answer with what a handler sends, or always with the same bytes."""
    servers: list[RawServer] = []

    async def start(handler: Handler | bytes) -> RawServer:
        server = RawServer(handler)
        await server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.stop()


@pytest_asyncio.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """A transport whose loop must not have met an exception that nobody handled."""
    defects: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))
    made = HttpTransport()
    yield made
    await made.close()
    assert defects == []


@pytest.fixture
def ends() -> list[object]:
    """Where a test lets a call's end go."""
    return []

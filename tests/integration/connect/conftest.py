"""A server with leases of two seconds, and apps of a fresh name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.sdk.driver import Server

LEASE_S = 2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server.start(tmp_path_factory.mktemp("server"), "--connect-lease", str(LEASE_S))
    yield running
    running.stop()


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """The name of an app that no other test has."""
    return f"app{next(_numbers)}"


@pytest.fixture
def send(server: Server, name: str) -> Callable[..., str]:
    """Sends the event of a function of the test's app; gives back the event's id."""

    def send(fn: str = "run", **data: object) -> str:
        return server.send({"name": f"{name}/{fn}", "data": data})[0]

    return send

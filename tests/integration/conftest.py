"""The bare app, for folders whose tests script what an app answers; each has a `server` of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sdk.bare_app import BareApp, Scripted
from tests.sdk.driver import Server


@pytest.fixture(scope="session")
def bare() -> Iterator[BareApp]:
    app = BareApp()
    yield app
    app.close()


@pytest.fixture
def scripted(server: Server, bare: BareApp) -> Callable[..., Scripted]:
    """Gives a function that makes a scripted function of a fresh name."""

    def make(script: Any, **config: Any) -> Scripted:
        return Scripted.make(server, bare, script, **config)

    return make

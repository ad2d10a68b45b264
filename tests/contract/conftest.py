"""The stores that the contract is checked on. A store joins by one more entry in `FACTORIES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from perdure.shard.ports import Store
from perdure.stores.sqlite import SqliteSettings, SqliteStore
from tests.sim.memory_store import MemoryStore

OpenStore = Callable[[], Store]
"""Opens the same data each time, after the store that was opened before has been closed."""


def sqlite(folder: Path) -> OpenStore:
    return lambda: SqliteStore.open(folder / "perdure.db")


def sqlite_thread(folder: Path) -> OpenStore:
    """Every batch goes through the commit thread."""
    return lambda: SqliteStore.open(folder / "perdure.db", SqliteSettings(inline_rows=-1))


def memory(folder: Path) -> OpenStore:
    return _reopening(MemoryStore())


def memory_later(folder: Path) -> OpenStore:
    """Commits are done some turns of the loop after they were asked for."""
    return _reopening(MemoryStore(scheduler=lambda run: asyncio.get_running_loop().call_later(0.001, run)))


def _reopening(store: MemoryStore) -> OpenStore:
    def open_store() -> Store:
        store.reopen()
        return store

    return open_store


FACTORIES = {maker.__name__: maker for maker in (sqlite, sqlite_thread, memory, memory_later)}


@pytest.fixture(params=FACTORIES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    return FACTORIES[request.param](tmp_path)


@pytest_asyncio.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    store = open_store()
    yield store
    await store.close()

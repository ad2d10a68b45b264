"""Readers stand in nobody's way, and nobody reads for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import pytest_asyncio

from perdure.errors import StoreUnavailable
from perdure.stores.sqlite import SqliteReader, SqliteStore
from tests.contract.rows import changes, commit, event, run


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "perdure.db")
    yield store
    await store.close()


async def test_a_question_that_takes_too_long_is_stopped(store: SqliteStore):
    epoch = await store.claim(0)
    await commit(store, epoch, changes(*[event(n) for n in range(1, 20_001)]))
    reader = SqliteReader.open(store.path, deadline_seconds=0)
    with pytest.raises(StoreUnavailable, match="took too long"):
        await reader.list_events(received_after=10**15)
    assert len(await reader.list_events(limit=20)) == 20
    await reader.close()


async def test_a_question_under_way_does_not_hold_up_a_commit(store: SqliteStore):
    epoch = await store.claim(0)
    await commit(store, epoch, changes(*[event(n) for n in range(1, 20_001)]))
    reader = SqliteReader.open(store.path)
    question = asyncio.ensure_future(reader.list_events(limit=20_000))
    await asyncio.sleep(0.001)
    written = 0
    while not question.done():
        await commit(store, epoch, changes(run(f"r-{written}")))
        written += 1
        await asyncio.sleep(0)
    assert written > 0
    assert len(await question) == 20_000
    await reader.close()


async def test_a_reader_cannot_write(store: SqliteStore):
    reader = SqliteReader.open(store.path)
    await reader.apps()
    with pytest.raises(apsw.ReadOnlyError):
        reader._connections[0].execute("DELETE FROM shards")
    await reader.close()


async def test_a_database_that_is_not_there_is_reported_each_time(tmp_path: Path):
    reader = SqliteReader.open(tmp_path / "perdure.db")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            await reader.apps()
    await reader.close()

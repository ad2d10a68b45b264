"""A loop that never runs dry must not starve the threads that work for it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from perdure.stores.sqlite import SqliteReader, SqliteSettings, SqliteStore
from tests.contract.rows import changes, commit, event, item, run

LONG = 1.5
"""Seconds. Without stepping aside some of these take 2 to 50, with it all take hundredths."""


@pytest.fixture(autouse=True)
def default_switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield
    sys.setswitchinterval(before)


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "perdure.db", SqliteSettings(inline_rows=-1))
    yield store
    await store.close()


async def seconds_beside_work(job: Awaitable[object]) -> float:
    """How long a job takes while callbacks of 0.05 ms follow each other."""
    started = time.perf_counter()
    task = asyncio.ensure_future(job)
    while not task.done():
        until = time.perf_counter() + 0.00005
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)
    await task
    return time.perf_counter() - started


async def test_commits_get_on_beside_a_busy_loop(store: SqliteStore):
    epoch = await store.claim(0)
    for number in range(40):
        ids = [f"r-{number}-{n}" for n in range(100)]
        done = store.commit(0, epoch, changes(*[row for id in ids for row in (run(id), item(id))]))
        assert done is not None
        assert await seconds_beside_work(done) < LONG


async def test_questions_get_on_beside_a_busy_loop(store: SqliteStore):
    await commit(store, await store.claim(0), changes(*[event(n) for n in range(1, 2001)]))
    reader = SqliteReader.open(store.path)
    for _ in range(40):
        assert await seconds_beside_work(reader.list_events(limit=1000)) < LONG
    await reader.close()

"""The write-ahead log: bounded under load, no burden to commits, gone at idle."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw

from perdure.shard.changes import Changes
from perdure.stores.sqlite import SqliteSettings, SqliteStore
from tests.contract.rows import changes, commit, run, step

STEP = 256 * 1024


def open_store(folder: Path, idle_seconds: float = 60.0) -> SqliteStore:
    return SqliteStore.open(folder / "perdure.db", SqliteSettings(log_bytes=STEP, idle_seconds=idle_seconds))


def log_file(store: SqliteStore) -> int:
    return store.path.with_name(store.path.name + "-wal").stat().st_size


def batch(number: int) -> Changes:
    ids = [f"r-{number:05}-{n}" for n in range(10)]
    return changes(*[row for id in ids for row in (run(id), step(id, memo=b"x" * 1000))])


async def test_the_log_starts_over_under_steady_load(tmp_path: Path):
    store = open_store(tmp_path)
    epoch = await store.claim(0)
    for number in range(400):
        await commit(store, epoch, batch(number))
        await asyncio.sleep(0.001)
    written = store.path.stat().st_size
    assert written > 4_000_000
    assert log_file(store) < 8 * STEP
    assert len(await store.load_runs(0, [f"r-{number:05}-3" for number in range(400)])) == 400
    await store.close()


async def test_a_reader_that_stays_does_not_stop_commits(tmp_path: Path):
    store = open_store(tmp_path)
    epoch = await store.claim(0)
    await commit(store, epoch, batch(0))
    reader = apsw.Connection(str(store.path))
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM runs").get == 10
    for number in range(1, 100):
        await commit(store, epoch, batch(number))
    assert reader.execute("SELECT count(*) FROM runs").get == 10
    grown = store.log_bytes
    assert grown > 2 * STEP
    reader.close()
    for number in range(100, 300):
        await commit(store, epoch, batch(number))
        await asyncio.sleep(0.001)
    assert store.log_bytes < grown
    assert len(await store.load_runs(0, [f"r-{number:05}-3" for number in range(300)])) == 300
    await store.close()


async def test_the_log_is_cut_at_idle(tmp_path: Path):
    store = SqliteStore.open(tmp_path / "perdure.db", SqliteSettings(idle_seconds=0.1))
    epoch = await store.claim(0)
    for number in range(60):
        await commit(store, epoch, batch(number))
    assert log_file(store) > 1024 * 1024
    for _ in range(50):
        await asyncio.sleep(0.1)
        if not log_file(store) and not store.log_bytes:
            break
    assert (log_file(store), store.log_bytes) == (0, 0)
    await commit(store, epoch, batch(99))
    assert len(await store.load_runs(0, ["r-00001-3", "r-00099-3"])) == 2
    await store.close()


async def test_closing_leaves_one_file_and_the_lock(tmp_path: Path):
    store = open_store(tmp_path)
    await commit(store, await store.claim(0), batch(1))
    await store.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["perdure.db", "perdure.db.lock"]

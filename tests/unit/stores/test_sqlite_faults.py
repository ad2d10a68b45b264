"""A disk that fills up, a database that somebody else holds: nothing is half written, and it goes on when it can."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest
import pytest_asyncio

from perdure.errors import StoreUnavailable
from perdure.stores.sqlite import SqliteSettings, SqliteStore
from tests.contract.rows import changes, commit, event, item, key, ref, run, step

ROOT = Path(__file__).parents[3]


@pytest_asyncio.fixture(params=["inline", "thread"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    rows = -1 if request.param == "thread" else 1000
    store = SqliteStore.open(tmp_path / "perdure.db", SqliteSettings(inline_rows=rows, busy_seconds=0.3))
    yield store
    await store.close()


def big_batch(name: str):
    return changes(
        event(len(name)), run(name), item(name), *[step(name, f"s{n}", n, b"x" * 60_000) for n in range(20)]
    )


async def test_a_full_database_leaves_nothing_and_goes_on_when_there_is_room(store: SqliteStore):
    epoch = await store.claim(0)
    await commit(store, epoch, changes(run("r-1")))
    writer = store._connection
    writer.execute(f"PRAGMA max_page_count = {writer.pragma('page_count') + 20}")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await commit(store, epoch, big_batch("r-2"))
    assert await store.load_runs(0, ["r-2"]) == {}
    assert await store.load_events(0, [3]) == {}
    await commit(store, epoch, changes(run("r-1", status="RUNNING")))
    writer.execute("PRAGMA max_page_count = 1000000")
    await commit(store, epoch, big_batch("r-2"))
    stored = await store.load_runs(0, ["r-1", "r-2"])
    assert (stored["r-1"].run.status, len(stored["r-2"].steps)) == ("RUNNING", 20)


async def test_a_database_that_cannot_be_written_says_so(store: SqliteStore):
    epoch = await store.claim(0)
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await commit(store, epoch, changes(run("r-1")))
    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await store.claim(0)
    store._connection.execute("PRAGMA query_only = OFF")
    await commit(store, epoch, changes(run("r-1")))
    assert list(await store.load_runs(0, ["r-1"])) == ["r-1"]


async def test_a_lock_of_another_program_is_waited_for_beside_the_loop(store: SqliteStore):
    epoch = await store.claim(0)
    other = apsw.Connection(str(store.path))
    other.execute("BEGIN IMMEDIATE")
    started = time.perf_counter()
    done = store.commit(0, epoch, changes(run("r-1")))
    assert time.perf_counter() - started < 0.1
    assert done is not None
    await asyncio.sleep(0.05)
    assert not done.done()
    assert await store.load_runs(0, ["r-1"]) == {}
    other.execute("ROLLBACK")
    await done
    assert list(await store.load_runs(0, ["r-1"])) == ["r-1"]
    other.close()


async def test_a_lock_held_too_long_refuses_the_batch(store: SqliteStore):
    epoch = await store.claim(0)
    other = apsw.Connection(str(store.path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another program has locked"):
        await commit(store, epoch, changes(run("r-1")))
    other.close()
    await commit(store, epoch, changes(run("r-2")))
    assert list(await store.load_runs(0, ["r-1", "r-2"])) == ["r-2"]


async def test_batches_stay_in_order_behind_a_large_one(store: SqliteStore):
    epoch = await store.claim(0)
    large = store.commit(0, epoch, changes(*[run(f"r-{n}") for n in range(3000)]))
    small = store.commit(0, epoch, changes(run("r-7", status="CANCELLED")))
    for done in (large, small):
        if done is not None:
            await done
    assert (await store.load_runs(0, ["r-7"]))["r-7"].run.status == "CANCELLED"


async def test_on_a_slow_disk_the_thread_commits_and_the_loop_tries_again_later(tmp_path: Path):
    store = SqliteStore.open(tmp_path / "perdure.db", SqliteSettings(inline_seconds=1e-6))
    epoch = await store.claim(0)
    assert store.commit(0, epoch, changes(run("r-1"))) is None
    done = store.commit(0, epoch, changes(run("r-2")))
    assert done is not None
    await done
    in_thread = 0
    while (done := store.commit(0, epoch, changes(run("r-3")))) is not None and in_thread < 2000:
        await done
        in_thread += 1
    assert 1 < in_thread < 2000
    await store.close()


async def test_expired_keys_are_swept_out_and_no_others(store: SqliteStore):
    epoch = await store.claim(0)
    kept = [row for n in range(60) for row in (key(f"ever-{n}", 0), key(f"k-{n}", 0, kind="place"))]
    kept += [key(f"late-{n}", 200_000, owner="f-9") for n in range(60)]
    await commit(store, epoch, changes(*kept))
    for now in range(0, 100_000, 1000):
        await store.find_keys(0, [ref("none")], now)
        await commit(store, epoch, changes(*[key(f"k-{now}-{n}", now + 500) for n in range(50)]))
    reader = apsw.Connection(str(store.path))
    assert reader.execute("SELECT count(*) FROM keys WHERE expires_at BETWEEN 1 AND 100500").get < 500
    reader.close()
    assert len(await store.find_keys(0, [row.ref for row in kept], 100_000)) == 180


SMALL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from perdure.errors import StoreUnavailable
from perdure.stores.sqlite import SqliteSettings, SqliteStore
from tests.contract.rows import changes, commit, run, step

async def main():
    store = SqliteStore.open(sys.argv[1], SqliteSettings(inline_rows=int(sys.argv[2])))
    epoch = await store.claim(0)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    written, refused = [], 0
    for n in range(40):
        batch = changes(run(f"r-{n:02}"), *[step(f"r-{n:02}", f"s{k}", k, b"x" * 10_000) for k in range(10)])
        try:
            await commit(store, epoch, batch)
            written.append(f"r-{n:02}")
        except StoreUnavailable as error:
            assert "disk" in str(error), error
            refused += 1
    assert written and refused, (written, refused)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await commit(store, epoch, changes(run("r-99")))
    stored = await store.load_runs(0, [f"r-{n:02}" for n in range(40)] + ["r-99"])
    assert sorted(stored) == [*written, "r-99"], (sorted(stored), written)
    assert all(len(entry.steps) == 10 for run_id, entry in stored.items() if run_id != "r-99")
    await store.close()
    print("written", len(written), "refused", refused)

asyncio.run(main())
"""


@pytest.mark.parametrize("inline_rows", [-1, 1000])
def test_files_that_may_not_grow_refuse_whole_batches(tmp_path: Path, inline_rows: int):
    answer = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, tmp_path / "perdure.db", str(inline_rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("written")

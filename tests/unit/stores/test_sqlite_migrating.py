"""A database that an older version has filled goes on with all that is in it."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import pytest

from perdure.shard.rows import ItemRef, KeyRow, RunRow, WaitLookup, WaitRef
from perdure.stores.sqlite import SqliteReader, SqliteStore
from perdure.stores.sqlite.migrations import APPLICATION_ID, known_migrations
from tests.contract.rows import event, ref, run

KINDS = {"discovery": "c", "step": "c", "request": "r", "sleep": "t", "wait": "t"}
"""The queue in which an item of a kind goes on."""


def older_database(path: Path, number: int) -> apsw.Connection:
    """A database as the version with this many migrations made it."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    for migration in known_migrations()[:number]:
        connection.execute(migration.sql)
        connection.execute("INSERT INTO schema_migrations VALUES (?, ?)", (migration.number, migration.name))
    connection.execute(f"PRAGMA user_version = {number}")
    return connection


def fill(connection: apsw.Connection) -> None:
    insert(connection, "shards", 0, 4, "process 1")
    insert(connection, "functions", 0, "f-1", "a-1", "shop-pay", "Pay", b'{"id":"shop-pay"}', 5, None)
    insert(connection, "events", 0, *event(1))
    ids = json.dumps([event(1).internal_id])
    rest = (event(1).internal_id, ids, "[1]", "shop/paid", 1002, 1003, None, 2, 0, None, None, None)
    insert(connection, "runs", 0, "r-1", "f-1", "RUNNING", *rest)
    for n, kind in enumerate(KINDS, 1):
        columns = (f"s-{n}", "name", 1000 + n, 900 + n, 1, 2, 3, int(kind == "step"), 4, b"0")
        insert(connection, "items", 0, "r-1", n, "f-1", kind, *columns)
    insert(connection, "waits", 0, "r-1", 5, "event", "shop/shipped", "data.id", '"7"', None, 3)
    insert(connection, "dedupe", 0, "f-1", "order-7", "r-1", 86_400_000)
    insert(connection, "dedupe", 0, "f-1", "naïve \U0001f600", "r-2", 86_400_001)
    insert(connection, "dedupe", 3, "f-9", "order-7", "", 86_400_002)


def insert(connection: apsw.Connection, table: str, *columns: object) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(columns))})", columns)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    path = tmp_path / "perdure.db"
    connection = older_database(path, 2)
    fill(connection)
    connection.close()
    return path


async def test_items_go_on_in_the_queues_of_their_kinds(older: Path):
    store = SqliteStore.open(older)
    stored = (await store.load_runs(0, ["r-1"]))["r-1"]
    assert [(item.kind, item.part) for item in stored.items] == list(KINDS.items())
    assert [(item.rank, item.due) for item in stored.items] == [(1000 + n, 1000 + n) for n in range(1, 6)]
    last = stored.items[-1]
    assert last[:4] == ("r-1", 5, "f-1", "wait")
    assert last[4:14] == ("s-5", "name", 1005, 905, 1, 2, 3, 0, 4, b"0")
    assert await store.load_parts(0, "f-1", "", 9) == ["c", "r", "t"]
    queued = await store.load_queue(0, "f-1", "t", ItemRef(-1, "", 0), 9)
    assert queued == [ItemRef(1004, "r-1", 4), ItemRef(1005, "r-1", 5)]
    await store.close()


async def test_keys_take_the_place_of_what_was_taken(older: Path):
    store = SqliteStore.open(older)
    smile = "naïve \U0001f600"
    assert await store.find_keys(0, [ref("order-7"), ref(smile)], 5) == {
        ref("order-7"): b"r-1",
        ref(smile): b"r-2",
    }
    assert await store.find_keys(0, [ref("order-7"), ref(smile)], 86_400_000) == {ref(smile): b"r-2"}
    assert (await store.recover(3, ["taken"])).keys == [KeyRow("taken", "f-9", "order-7", b"", 86_400_002)]
    await store.close()


async def test_runs_waits_functions_and_events_are_as_they_were(older: Path):
    store = SqliteStore.open(older)
    stored = (await store.load_runs(0, ["r-1"]))["r-1"]
    assert (stored.run.status, stored.run.version, stored.events) == ("RUNNING", 2, [event(1).body])
    assert (stored.run.flow, stored.run.batch_id, stored.run.cron) == (None, None, None)
    assert [(wait.value, wait.since, wait.until) for wait in stored.waits] == [('"7"', 3, 0)]
    assert await store.find_waits(0, [WaitLookup("shop/shipped", "data.id", '"7"')], 9) == [
        WaitRef(0, "r-1", 5)
    ]
    recovered = await store.recover(0, ["taken", "place"])
    assert [(row.slug, row.paused, row.overrides) for row in recovered.functions] == [("shop-pay", "", None)]
    assert (recovered.in_flight, recovered.next_receipt, len(recovered.keys)) == (["r-1"], 2, 2)
    assert await store.claim(0) == 5
    reader = SqliteReader.open(older)
    assert [found.id for found in await reader.runs_of_event(event(1).internal_id)] == ["r-1"]
    await reader.close()
    await store.close()


async def test_runs_of_batches_are_found_by_their_further_events(tmp_path: Path):
    path = tmp_path / "perdure.db"
    connection = older_database(path, 4)
    insert(connection, "shards", 0, 4, "process 1")
    columns = ",".join(RunRow._fields)
    values = tuple(run("r-1", (1, 2)))
    marks = ",".join("?" * len(values))
    connection.execute(f"INSERT INTO runs (shard,{columns}) VALUES (0,{marks})", values)
    insert(connection, "run_events", 0, event(2).internal_id, "r-1")
    connection.close()
    await SqliteStore.open(path).close()
    reader = SqliteReader.open(path)
    assert [found.id for found in await reader.runs_of_event(event(2).internal_id)] == ["r-1"]
    assert await reader.effects_of_event(event(2).internal_id) == []
    await reader.close()


async def test_its_schema_is_that_of_a_new_database(older: Path, tmp_path: Path):
    """But for the order of columns, which no statement relies on."""
    await SqliteStore.open(older).close()
    new = tmp_path / "new.db"
    await SqliteStore.open(new).close()
    assert schema(older) == schema(new)
    assert ("dedupe", "shard") not in schema(older)


def schema(path: Path) -> set[tuple[object, ...]]:
    """Columns by table, and indexes with their text."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        columns = connection.execute(
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type='table'"
        )
        found: set[tuple[object, ...]] = set(columns)
        return found | set(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type='index'"))
    finally:
        connection.close()

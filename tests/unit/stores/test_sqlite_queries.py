"""No statement of the store may walk over a whole table, however large that grows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from perdure.protocol.ids import new_ulid
from perdure.stores.sqlite import SqliteStore, loading, reader, run_listing, statements, writing
from perdure.stores.sqlite.connections import connect_writer
from perdure.stores.sqlite.migrations import migrate
from tests.contract.rows import changes, commit, event

WHOLE_INDEX = {loading.WAIT_COUNTS}
"""Statements that read all of a shard's entries in an index, by design: once, at the start of a shard."""

SMALL = {
    loading.ALL_APPS,
    loading.ALL_FUNCTIONS,
    loading.ALL_OUTBOX,
    loading.IN_FLIGHT,
    reader.APPS,
    reader.FUNCTIONS,
}
"""Statements whose answer is all that there is, and bounded by its nature."""


def all_statements() -> list[str]:
    searches = [
        loading.text(search, count, 3 if search is loading.KEYS else 2)
        for search in loading.BY_KEYS
        for count in loading.CHUNKS
    ]
    deletes = [statements.delete(table, count) for table in statements.TABLES for count in statements.CHUNKS]
    inserts = [statements.insert(table, count) for table in statements.TABLES for count in statements.CHUNKS]
    return [*loading.SINGLE, *searches, *deletes, *inserts, *reader.STATEMENTS, writing.SWEEP, writing.EPOCH]


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apsw.Connection]:
    path: Path = tmp_path_factory.mktemp("plans") / "perdure.db"
    connection = connect_writer(path)
    migrate(connection, path)
    yield connection
    connection.close()


def plan(connection: apsw.Connection, statement: str) -> list[str]:
    parameters = max((int(number) for number in re.findall(r"\?(\d+)", statement)), default=0)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", (None,) * parameters)
    return [detail for *_, detail in rows]


SMALL_SCANS = r"CONSTANT ROW|VALUES CLAUSE|SCAN \(subquery-\d+\)$"


def walks(steps: list[str]) -> list[str]:
    """Steps that read a whole table or index.

    Rows given in the statement itself are none, nor is what a subquery gives: its own steps are looked at.
    """
    return [step for step in steps if step.startswith("SCAN") and not re.search(SMALL_SCANS, step)]


@pytest.mark.parametrize("statement", all_statements(), ids=lambda text: re.sub(r"\s+", " ", text)[:50])
def test_no_statement_walks_over_a_table(connection: apsw.Connection, statement: str):
    assert walks(plan(connection, statement)) == []


def test_a_walk_would_be_seen(connection: apsw.Connection):
    assert walks(plan(connection, "SELECT id FROM runs WHERE status=?1"))
    assert walks(plan(connection, "SELECT run_id FROM items WHERE due<?1"))


@pytest.mark.parametrize("statement", [loading.QUEUE, loading.NEXT_PART, loading.FIND_WAITS])
def test_pages_are_read_in_order_from_an_index_alone(connection: apsw.Connection, statement: str):
    (step,) = plan(connection, statement)
    assert "COVERING INDEX" in step


def test_recent_events_are_those_of_a_name_within_a_time(connection: apsw.Connection):
    (step,) = plan(connection, loading.RECENT_EVENTS)
    assert step == "SEARCH events USING INDEX events_by_name (name=? AND internal_id>?)"


@pytest.mark.parametrize("count", loading.CHUNKS)
def test_keys_are_found_by_their_whole_key(connection: apsw.Connection, count: int):
    steps = plan(connection, loading.text(loading.KEYS, count, 3))
    assert "SEARCH keys USING PRIMARY KEY (shard=? AND kind=? AND owner=? AND key=?)" in steps


@pytest.mark.parametrize(
    "statement",
    [reader.RUNS_OF_EVENT, *reader.LISTS.values(), *run_listing.PAGES],
    ids=lambda text: re.sub(r"\s+", " ", text)[-70:],
)
def test_listings_are_not_sorted_as_a_whole(connection: apsw.Connection, statement: str):
    assert not any(step == "USE TEMP B-TREE FOR ORDER BY" for step in plan(connection, statement))


def test_only_named_statements_read_all_of_a_shard(connection: apsw.Connection):
    assert any(step.endswith("(shard=? AND kind=?)") for step in plan(connection, loading.ALL_KEYS))
    whole = {
        statement
        for statement in all_statements()
        for step in plan(connection, statement)
        if re.search(r"\(shard=\?\)$", step)
    }
    newest = {loading.LAST_RECEIPT}
    assert whole == WHOLE_INDEX | SMALL | newest


def test_fixed_columns_are_those_that_an_update_leaves_alone():
    assert "function_id=excluded" not in statements.insert(statements.RUNS, 1)
    assert "status=excluded.status" in statements.insert(statements.RUNS, 1)


async def test_looking_back_does_not_pass_over_all_older_events(tmp_path: Path):
    """But for as far as the ids of events may be older than their receipt."""
    store = SqliteStore.open(tmp_path / "perdure.db")
    since = 1_795_515_000_000
    ages = (0, 1, loading.OLD_IDS_MS, loading.OLD_IDS_MS + 1)
    ids = [new_ulid(since - age, bytes(10)) for age in ages]
    rows = [event(n, internal_id=id, received_at=since) for n, id in enumerate(ids, 1)]
    await commit(store, await store.claim(0), changes(*rows))
    assert [row.receipt for row in await store.recent_events(0, "shop/paid", since, 9)] == [1, 2, 3]
    await store.close()

"""No statement of the store may walk over a whole table, however large that grows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from perdure.stores.sqlite import loading, reader, run_listing, statements, writing
from perdure.stores.sqlite.connections import connect_writer
from perdure.stores.sqlite.migrations import migrate

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
        loading.text(search, count, 3 if search is loading.DEDUPE else 2)
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


@pytest.mark.parametrize("statement", [loading.QUEUE, loading.FIND_WAITS])
def test_pages_are_read_in_order_from_an_index_alone(connection: apsw.Connection, statement: str):
    (step,) = plan(connection, statement)
    assert "COVERING INDEX" in step


@pytest.mark.parametrize(
    "statement",
    [reader.RUNS_OF_EVENT, *reader.LISTS.values(), *run_listing.PAGES],
    ids=lambda text: re.sub(r"\s+", " ", text)[-70:],
)
def test_listings_are_not_sorted_as_a_whole(connection: apsw.Connection, statement: str):
    assert not any(step == "USE TEMP B-TREE FOR ORDER BY" for step in plan(connection, statement))


def test_only_named_statements_read_all_of_a_shard(connection: apsw.Connection):
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

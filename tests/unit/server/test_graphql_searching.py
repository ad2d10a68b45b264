"""Searches by expression: what they find, and where they stop."""

from __future__ import annotations

from typing import Any

import pytest
from graphql import GraphQLError

from perdure.server.graphql.searching import Found, compile_query, search
from perdure.server.searching import decoded


class FakeSession:
    """A clock that goes on by `tick` seconds at each look."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0
        self.notices: list[str] = []
        self.fetched = 0
        self._time = 0.0
        self._tick = tick

    def time(self) -> float:
        self._time += self._tick
        return self._time


def run(
    query: str, rows: int, most: int = 10, session: FakeSession | None = None
) -> tuple[Found[int], FakeSession]:
    """Search the numbers from 1 to `rows`, in order, by an expression over `event.n`."""
    session = session or FakeSession()

    def fetch(last: int | None, limit: int) -> list[int]:
        session.fetched += 1
        start = (last or 0) + 1
        return list(range(start, min(start + limit, rows + 1)))

    def variables(row: int) -> dict[str, Any]:
        return {"event": {"n": row}}

    return search(session, fetch, variables, compile_query(query, ("event",)), most), session  # type: ignore[arg-type]


def test_all_rows_are_seen():
    found, session = run("event.n % 100 == 0", 350)
    assert found == Found([100, 200, 300], 350, True)
    assert session.notices == []


def test_a_full_page_ends_the_search():
    found, session = run("event.n > 5", 350, most=3)
    assert found == Found([6, 7, 8], 8, False)
    assert (session.notices, session.fetched) == ([], 1)


@pytest.mark.parametrize("rows", [0, 99, 100, 101, 200])
def test_the_end_is_noticed(rows: int):
    found, _ = run("event.n > 1000", rows)
    assert found.complete
    assert found.last == (rows or None)


def test_no_more_than_a_thousand_rows_are_tried():
    found, session = run("event.n == 1001", 5000)
    assert found == Found([], 1000, False)
    assert session.fetched == 10
    assert session.notices == [
        "query: 1000 rows were tried, and there are more; go on with after = pageInfo.endCursor"
    ]


def test_no_search_takes_more_than_a_second():
    found, session = run("event.n < 0", 5000, session=FakeSession(tick=0.1))
    assert found.last is not None
    assert found.last < 12
    assert not found.complete
    assert "go on with after" in session.notices[0]


def test_rows_that_the_query_cannot_be_computed_for_do_not_match():
    found, _ = run("event.n.nothing.of.it > 'x'", 20)
    assert found.rows == []


def test_a_query_that_is_no_expression_is_refused():
    with pytest.raises(GraphQLError, match="no CEL expression over `event` and `output`"):
        compile_query("event.data. ==", ("event", "output"))


def test_what_cannot_be_read_is_nothing():
    assert [decoded(body) for body in (None, b"{", b"[" * 100_000, b'{"a":1}')] == [
        None,
        None,
        None,
        {"a": 1},
    ]

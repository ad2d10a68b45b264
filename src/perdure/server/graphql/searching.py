"""Searching stored rows by an expression, within bounds.

Rows are tried newest first, in slices, until the page is full, 1,000 were tried or a second has passed. A
search that ends before it has seen all says so in `extensions.notices`, its `pageInfo.hasNextPage` is true,
and `endCursor` goes on behind the last row tried, whether or not that matched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec
from graphql import GraphQLError

from perdure.core.expressions import Expression, compile_expression
from perdure.errors import ExpressionError
from perdure.server.graphql.session import Session
from perdure.server.searching import MAX_ROWS, MAX_SECONDS, SLICE, holds

R = TypeVar("R")


class Found(msgspec.Struct, Generic[R]):
    """What a search gave. `last` is the last row tried; `complete` says that there are no more."""

    rows: list[R]
    last: R | None
    complete: bool


def compile_query(text: str, variables: tuple[str, ...]) -> Expression:
    """The expression of a query. Raises `GraphQLError` with the position of what is wrong with it."""
    try:
        return compile_expression(text)
    except ExpressionError as error:
        allowed = " and ".join(f"`{name}`" for name in variables)
        raise GraphQLError(f"query is no CEL expression over {allowed}: {error.message}") from None


def search(
    session: Session,
    fetch: Callable[[R | None, int], list[R]],
    variables: Callable[[R], dict[str, object]],
    query: Expression,
    most: int,
) -> Found[R]:
    """Rows for which the query is true, at most `most`.

    `fetch` gives the rows behind one, so many. A row for which the query cannot be computed does not match.
    """
    rows: list[R] = []
    last: R | None = None
    tried = 0
    until = session.time() + MAX_SECONDS
    while tried < MAX_ROWS and session.time() < until:
        part = fetch(last, SLICE)
        for row in part:
            last = row
            tried += 1
            if holds(query, variables(row), session.now):
                rows.append(row)
                if len(rows) == most:
                    return Found(rows, last, False)
            if session.time() >= until:
                break
        if len(part) < SLICE and (not part or last is part[-1]):
            return Found(rows, last, True)
    session.notices.append(
        f"query: {tried} rows were tried, and there are more; go on with after = pageInfo.endCursor"
    )
    return Found(rows, last, False)

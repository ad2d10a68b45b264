"""Trying an expression on stored rows, within bounds, so that a search can go on where it stopped."""

from __future__ import annotations

import msgspec

from perdure.core.expressions import Expression
from perdure.errors import ExpressionError

MAX_ROWS = 1_000
"""Rows that one request tries."""
MAX_SECONDS = 1.0
SLICE = 100
"""Rows that are read and tried at once."""


def holds(query: Expression, variables: dict[str, object], now: int) -> bool:
    """Whether a query is true for a row. One for which it cannot be computed does not match."""
    try:
        return query.is_true(variables, now)
    except ExpressionError:
        return False


def decoded(body: bytes | None) -> object:
    """A stored body as expressions see it; None if it is missing or cannot be read."""
    if body is None:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None

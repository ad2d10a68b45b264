"""Priority: a run is put in line as though it had been queued some seconds earlier, or later.

The factor is an expression that gives whole seconds; a bound of 12 hours either way keeps the line a line: a run
without priority waits at most so much longer (the protocol's bound; the user documentation of the SDKs speaks of
600 s, which is within it). Anything else than a whole number counts as 0. It orders runs that wait for one
another, within one key: it never delays a run that has room, and never carries one key past another's turn.

A run that is due only in the future is not moved: it has not begun to wait, and a place ahead of its own time
would mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from perdure.core.expressions import Expression, compile_expression
from perdure.errors import ExpressionError

MAX_FACTOR = 43_200
"""Seconds that a run can move in line, either way (protocol, limits)."""

SOON_MS = 2_000
"""Runs due later than this from now are not moved (protocol, priority)."""


class Priority:
    """The factor of a function, compiled once."""

    __slots__ = ("_expression",)

    def __init__(self, text: str | None) -> None:
        self._expression: Expression | None = None
        if text is not None:
            try:
                self._expression = compile_expression(text)
            except ExpressionError:
                self._expression = None

    def factor(self, event: Mapping[str, object], now: int) -> int:
        """Seconds by which a run of this event moves forward in line."""
        if self._expression is None:
            return 0
        try:
            return factor_of(self._expression.evaluate({"event": event}, now))
        except ExpressionError:
            return 0

    def order(self, event: Mapping[str, object], start_at: int, now: int) -> int:
        """The run's place in line (ms since 1970); the smallest is served first. `start_at` is when it is due."""
        if self._expression is None or start_at > now + SOON_MS:
            return start_at
        return start_at - self.factor(event, now) * 1_000


def factor_of(value: object) -> int:
    """The factor that an expression's value means. A JSON number such as 5.0 is whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    if isinstance(value, float):
        if not value.is_integer():
            return 0
        value = int(value)
    return max(-MAX_FACTOR, min(MAX_FACTOR, value))

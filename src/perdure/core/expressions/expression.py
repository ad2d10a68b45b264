"""Compiled expressions: what the rest of the core works with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from perdure.core.expressions.evaluator import Compiler
from perdure.core.expressions.interpolation import Insertion, insertions
from perdure.core.expressions.joins import Equality, candidates, first_equality
from perdure.core.expressions.parsing import parse
from perdure.core.expressions.values import MISSING, Frame, Unknown, plain, type_name
from perdure.errors import ExpressionError

CACHE_SIZE = 2_000
"""How many compiled expressions are kept; those used least recently go first."""


class Expression:
    """One compiled expression. It holds no state of an evaluation and may be used from several threads."""

    __slots__ = ("_candidates", "_evaluate", "_insertions", "_slots", "_tree", "text")

    def __init__(self, text: str) -> None:
        tree = parse(text)
        compiler = Compiler()
        self.text = text
        self._tree = tree
        self._evaluate = compiler.compile(tree.root)
        self._candidates = candidates(tree.root, compiler)
        self._insertions: tuple[Insertion, ...] | None = None
        self._slots = compiler.slots

    def evaluate(self, variables: Mapping[str, object], now_ms: int | None = None) -> object:
        """The value as JSON data: timestamps and durations as text, bytes as base64; a missing attribute is False.

        `variables` are `event`, `async`, `output`, each decoded JSON; `now_ms` is the clock of `now()`, in
        milliseconds since 1970. Raises ExpressionError if the expression cannot be computed for these variables.
        """
        frame = Frame(variables, now_ms, self._slots)
        try:
            value = self._evaluate(frame)
            if value is None or type(value) in (str, bool, int, float):
                return value
            if value is MISSING:
                return False
            if not isinstance(value, Unknown):
                return plain(value, frame)
        except RecursionError:
            raise ExpressionError("the data is nested too deeply to be compared") from None
        raise ExpressionError(value.error or "the expression has no value")

    def is_true(self, variables: Mapping[str, object], now_ms: int | None = None) -> bool:
        """The value as a condition: null and missing are false.

        Raises ExpressionError for any other type, and if the expression cannot be computed.
        """
        frame = Frame(variables, now_ms, self._slots)
        try:
            value = self._evaluate(frame)
        except RecursionError:
            raise ExpressionError("the data is nested too deeply to be compared") from None
        if value is True or value is False:
            return value
        if value is None or value is MISSING:
            return False
        if isinstance(value, Unknown):
            raise ExpressionError(value.error or "the expression has no value")
        raise ExpressionError(f"the expression gives a value of type {type_name(value)}, not true or false")

    def bind(self, event: Mapping[str, object]) -> BoundExpression:
        """The expression of a wait, with the event that started the run."""
        return BoundExpression(self, event)

    def equality(self, event: Mapping[str, object]) -> Equality | None:
        """See `equalities`."""
        return first_equality(self._candidates, Frame({"event": event}, None, self._slots))

    def insertions(self) -> tuple[Insertion, ...]:
        """Where attributes of `event` stand in the text; found out when first asked for."""
        if self._insertions is None:
            self._insertions = insertions(self._tree, self.text)
        return self._insertions

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class BoundExpression:
    """A wait's expression together with the run's trigger event."""

    __slots__ = ("event", "expression")

    def __init__(self, expression: Expression, event: Mapping[str, object]) -> None:
        self.expression = expression
        self.event = event

    def is_true(self, async_event: Mapping[str, object], now_ms: int | None = None) -> bool:
        """Whether the incoming event matches. Raises ExpressionError as `Expression.is_true` does."""
        return self.expression.is_true({"event": self.event, "async": async_event}, now_ms)

    def equality(self) -> Equality | None:
        """See `equalities`."""
        return equalities(self.expression, self.event)

    def text(self) -> str:
        """See `interpolate`."""
        return interpolate(self.expression, self.event)


@lru_cache(maxsize=CACHE_SIZE)
def compile_expression(text: str) -> Expression:
    """Compile, or take from the cache. Raises ExpressionError with the position of a fault in the text."""
    try:
        return Expression(text)
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None


def equalities(expression: Expression, event: Mapping[str, object]) -> Equality | None:
    """The equality that every incoming event must satisfy for the expression to be true, or None.

    Whenever `is_true({"event": event, "async": a})`, then `equality_value(a, e.path) == e.value`; so an index over
    (path, value) finds all waits that an event could resume. It may find more: the expression still decides.
    """
    return expression.equality(event)


def interpolate(expression: Expression, event: Mapping[str, object]) -> str:
    """The text with each `event.…` replaced by its value as a literal: `"09dcd8" == async.data.id`.

    For people only, as traces show it. A missing attribute becomes `null`; values longer than a line stay as written.
    """
    variables = {"event": event}
    parts: list[str] = []
    at = 0
    for insertion in expression.insertions():
        literal = insertion.literal(variables)
        if literal is not None:
            parts += (expression.text[at : insertion.start], literal)
            at = insertion.end
    return "".join(parts) + expression.text[at:]

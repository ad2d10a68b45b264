"""Expressions: the CEL dialect in which triggers, keys, waits, cancellations and filters are written.

`compile_expression` gives an `Expression`, `Expression.evaluate` and `Expression.is_true` run it over decoded JSON.
For waits, `equalities` and `equality_value` give the two sides of an index, and `interpolate` the text for a trace.
The dialect itself is described in `evaluator`.
"""

from __future__ import annotations

from perdure.core.expressions.expression import (
    BoundExpression,
    Expression,
    compile_expression,
    equalities,
    interpolate,
)
from perdure.core.expressions.joins import Equality, equality_value

__all__ = [
    "BoundExpression",
    "Equality",
    "Expression",
    "compile_expression",
    "equalities",
    "equality_value",
    "interpolate",
]

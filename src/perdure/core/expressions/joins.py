"""Equalities by which an incoming event finds the waits it could resume.

A million runs may wait for one event name; evaluating each expression is out of the question. Nearly all of them
say `async.data.id == <something of the run's own event>`, so that term is taken out and indexed. It may be
taken only if it cannot be false while the whole is true:

- The whole is true only if it is the bool true, and a chain of `&&` gives its first operand that is not truthy, or
  its last. So each operand of the outermost chain was truthy, and an operand that is an `==` was true. Operands of
  `||`, `?:` and `!` may be false, so nothing inside them counts.
- One side is a path below `async`, of text keys without a dot; the other side has no `async`, no `output` and no
  clock, so its value is known now.
- That value is a text, a number or a bool. Null is left alone, because it equals what is missing; lists and maps are
  left alone for their size; NaN and what JSON cannot say equal nothing.
- Numbers equal by value, whether int or double, and no other types equal one another: so the text of a value
  carries its type, and a number is written by value (`1` and `1.0` alike).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from perdure.core.expressions.evaluator import attribute_path
from perdure.core.expressions.macros import Closure, Scope
from perdure.core.expressions.syntax import (
    Call,
    Comprehension,
    Constant,
    Identifier,
    ListLiteral,
    MapLiteral,
    Node,
    Select,
)
from perdure.core.expressions.values import Frame, number_text
from perdure.errors import ExpressionError

MAX_VALUE = 200
"""Canonical texts longer than this are replaced by their SHA-256."""

_CLOCK = frozenset({"now", "now_plus", "now_minus"})
_BEST_FIRST = {"s": 0, "n": 1, "b": 2}


@dataclass(frozen=True, slots=True)
class Equality:
    """`path` is dotted and starts below `async`, such as "data.userId"; `value` is a canonical text."""

    path: str
    value: str


@dataclass(frozen=True, slots=True)
class EqualityCandidate:
    """An equality whose value is known once there is an event."""

    path: str
    value: Closure


def candidates(root: Node, scope: Scope) -> tuple[EqualityCandidate, ...]:
    """The equalities among the operands of the outermost `&&`."""
    found = []
    for term in _conjuncts(root):
        if isinstance(term, Call) and term.function == "_==_":
            left, right = term.args
            for side, other in ((left, right), (right, left)):
                path = _async_path(side)
                if path is not None and _known_beforehand(other, frozenset()):
                    found.append(EqualityCandidate(path, scope.compile(other)))
                    break
    return tuple(found)


def first_equality(found: tuple[EqualityCandidate, ...], frame: Frame) -> Equality | None:
    """The most telling equality for this event: a text before a number before a bool."""
    best: Equality | None = None
    for candidate in found:
        try:
            value = canonical(candidate.value(frame))
        except (ExpressionError, RecursionError):
            continue
        if value is not None and (best is None or _BEST_FIRST[value[0]] < _BEST_FIRST[best.value[0]]):
            best = Equality(candidate.path, value)
    return best


def equality_value(async_event: Mapping[str, object], path: str) -> str | None:
    """The canonical text of what `path` holds in an incoming event; None if it is missing or has none."""
    value: Any = async_event
    try:
        for key in path.split("."):
            value = value[key]
    except (KeyError, TypeError):
        return None
    return canonical(value)


def canonical(value: object) -> str | None:
    """Type and value as a text, such that equal values have equal texts; None for what is not indexed."""
    if isinstance(value, bool):
        return "b:true" if value else "b:false"
    if isinstance(value, str):
        text = "s:" + value
    elif isinstance(value, int | float) and value == value:  # noqa: PLR0124  NaN differs from itself
        text = "n:" + _exact(value)
    else:
        return None
    if len(text) <= MAX_VALUE:
        return text
    return f"{text[0]}#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _exact(value: int | float) -> str:
    """Like `number_text`, but a large double is written as the integer it is equal to."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return number_text(value)


def _conjuncts(node: Node) -> Iterator[Node]:
    if isinstance(node, Call) and node.function == "_&&_":
        for operand in node.args:
            yield from _conjuncts(operand)
    else:
        yield node


def _async_path(node: Node) -> str | None:
    path = attribute_path(node)
    if path is None or path[0] != "async" or len(path) < 2 or any("." in key for key in path):
        return None
    return ".".join(path[1:])


def _known_beforehand(node: Node | None, macro_variables: frozenset[str]) -> bool:
    """Whether the value depends on nothing but `event`, literals and the variables of macros inside it."""

    def known(*parts: Node | None) -> bool:
        return all(_known_beforehand(part, macro_variables) for part in parts)

    match node:
        case None | Constant():
            return True
        case Identifier(_, name):
            return name not in ("async", "output") or name in macro_variables
        case Select(_, operand):
            return known(operand)
        case Call(_, function, target, args):
            return function not in _CLOCK and known(target, *args)
        case ListLiteral(_, elements):
            return known(*elements)
        case MapLiteral(_, _, entries):
            return all(known(key, value) for key, value in entries)
        case Comprehension():
            inner = macro_variables | {node.variable, node.accumulator}
            return known(node.range) and _known_beforehand(node.step, inner)

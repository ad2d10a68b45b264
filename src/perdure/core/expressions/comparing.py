"""Why an expression is false for some data: its comparisons, each with the values of its two sides.

For people who ask, and only then: nothing here is kept, and the engine never looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import msgspec

from perdure.core.expressions.evaluator import Compiler, attribute_path
from perdure.core.expressions.expression import compile_expression
from perdure.core.expressions.macros import Closure
from perdure.core.expressions.parsing import parse
from perdure.core.expressions.syntax import (
    Call,
    Constant,
    Identifier,
    ListLiteral,
    MapLiteral,
    Node,
    Select,
)
from perdure.core.expressions.values import MISSING, Frame, Unknown, plain
from perdure.errors import ExpressionError

MAX_SHOWN = 300
"""Values whose JSON is longer, in characters, are cut and shown as text."""

_SIGNS = {
    "_==_": "==",
    "_!=_": "!=",
    "_<_": "<",
    "_<=_": "<=",
    "_>_": ">",
    "_>=_": ">=",
    "@in": "in",
}
_INFIX = {"_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%", **_SIGNS, "_&&_": "&&", "_||_": "||"}


class Side(msgspec.Struct, omit_defaults=True):
    """A side of a comparison: its text, and its value as JSON data.

    `missing` tells an attribute that is not there from a null, `error` why there is no value.
    """

    text: str
    value: object = msgspec.UNSET
    missing: bool = False
    error: str = ""


class Compared(msgspec.Struct, omit_defaults=True):
    """A comparison, and whether it holds. `right` is None for a condition of one part."""

    left: Side
    operator: str = ""
    right: Side | None = None
    holds: bool = False


class Comparisons:
    """The comparisons of an expression, ready to be made for one event after the other.

    Raises ExpressionError as `compile_expression` does. What stands inside a macro is part of that macro's side.
    """

    def __init__(self, text: str) -> None:
        self.expression = compile_expression(text)
        compiler = Compiler()
        self._parts: list[tuple[Closure, tuple[tuple[str, Closure], ...], str]] = []
        for node in _terms(parse(text).root):
            sign = _SIGNS.get(node.function, "") if isinstance(node, Call) else ""
            sides = node.args if sign and isinstance(node, Call) else (node,)
            told = tuple((source(side), compiler.compile(side)) for side in sides)
            self._parts.append((compiler.compile(node), told, sign))
        self._slots = compiler.slots

    def of(self, variables: Mapping[str, object], now_ms: int | None) -> list[Compared]:
        """Each comparison for these variables, in the order of the text."""
        frame = Frame(variables, now_ms, self._slots)
        made = []
        for whole, sides, sign in self._parts:
            told = [_side(text, closure, frame) for text, closure in sides]
            holds = _value(whole, frame) is True
            made.append(Compared(told[0], sign, told[1] if sign else None, holds))
        return made


def _terms(node: Node) -> Iterator[Node]:
    """What stands between `&&`, `||`, `!` and `?:`."""
    if isinstance(node, Call) and node.function in ("_&&_", "_||_", "!_", "_?_:_"):
        for part in node.args:
            yield from _terms(part)
    elif not isinstance(node, Constant):
        yield node


def _value(closure: Closure, frame: Frame) -> object:
    try:
        return closure(frame)
    except (ExpressionError, RecursionError) as error:
        return Unknown(str(error))


def _side(text: str, closure: Closure, frame: Frame) -> Side:
    value = _value(closure, frame)
    if value is MISSING:
        return Side(text, None, missing=True)
    if isinstance(value, Unknown):
        return Side(text, error=value.error or "it has no value")
    try:
        return Side(text, _shown(plain(value, frame)))
    except (ExpressionError, RecursionError) as error:
        return Side(text, error=str(error))


def _shown(value: object) -> object:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value if len(written) <= MAX_SHOWN else written[:MAX_SHOWN] + "…"


def source(node: Node) -> str:
    """The text of a node, as somebody would write it."""
    path = attribute_path(node)
    if path is not None:
        return path[0] + "".join(
            f".{key}" if key.isidentifier() else f"[{json.dumps(key, ensure_ascii=False)}]"
            for key in path[1:]
        )
    match node:
        case Constant(_, value):
            return repr(value) if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False)
        case Identifier(_, name):
            return name
        case Select(_, operand, field, test_only):
            return f"has({source(operand)}.{field})" if test_only else f"{source(operand)}.{field}"
        case ListLiteral(_, elements):
            return f"[{', '.join(map(source, elements))}]"
        case MapLiteral(_, _, entries):
            pairs = (f"{source(key)}: {source(value)}" for key, value in entries if key is not None)
            return f"{{{', '.join(pairs)}}}"
        case Call():
            return _call_source(node)
        case _:
            return f"(a macro over {source(node.range)})"


def _call_source(node: Call) -> str:
    args = [source(arg) for arg in node.args]
    match node.function, args:
        case "_[_]", [container, key]:
            return f"{container}[{key}]"
        case (("!_" | "-_"), [operand]):
            return f"{node.function[0]}{operand}"
        case "_?_:_", [condition, yes, no]:
            return f"{condition} ? {yes} : {no}"
        case name, [left, right] if name in _INFIX:
            return f"{left} {_INFIX[name]} {right}"
    called = f"{node.function}({', '.join(args)})"
    return called if node.target is None else f"{source(node.target)}.{called}"

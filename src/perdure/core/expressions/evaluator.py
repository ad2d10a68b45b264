"""The evaluator: a syntax tree becomes nested closures, and these own the dialect.

cel-expr-python parses and checks, but does not evaluate: in stock CEL `missing == null`, `missing < 3` and
`1 + 'x'` are errors, and nearly every row of the dialect's table differs. So each node is compiled once to a
Python closure that takes a `Frame` and returns a value; an attribute path such as `event.data.user` is one
closure, and the common case of each operator is its first line.

Three kinds of nothing
    null        a real null of the JSON.
    missing     an attribute that is not there, at any depth and of whatever is no map: `MISSING`.
    error       what could not be computed (`1 / 0`, `'a' < 1`, `int('x')`): an `Unknown` with the reason.
An error is a value, as in CEL, not an exception: to an operator or function it is the same as missing. That is how
the reference server behaves, and it makes a rule hold that users count on: a bad field makes its own comparison
false and leaves the rest of the expression alone. Only as the result of the whole does it become an
`ExpressionError`. What is raised at once is the limit of work, and the clock where there is none.

What the dialect's table leaves open, and what is done
    `1 == '1'`                  false: other types than numbers are never equal to one another, also inside lists.
    `1 < 'x'`, `[1] < [2]`      error. `null < null` too: there is no other side to take a zero value from.
    missing op missing          `==` false, `!=` true, `<` and `<=` true, `>` and `>=` false, `+` false.
    missing op null             `==` true, `!=` false; ordering as for any other operand.
    `x + missing`               x, as for `missing + x`; but an error on either side stays one.
    `1 + 2.5`                   3.5: int and double are numbers to `+` as they are to `==`. Also to `- * /`, so that an
                                expression does not depend on whether JSON said 2 or 2.5; the checker still refuses
                                `1 * 2.5` between literals, as CEL does. `5 / 2` is 2, as in CEL.
    `'n' + 5.0`, `'n' + null`   "n5", "nnull"; lists and maps as compact JSON; timestamps as RFC 3339.
    `true + false`, `{} + {}`   error: one type, but nothing to add. Two lists are joined.
    `a && b`, `a || b`          give an operand, as in JavaScript: the first that decides, else the last. Lists and
                                maps are true even if empty. An error is false.
    `!missing`, `-missing`      false, as for any function. `!null` and `!'x'` are errors: truthiness is for && and ||.
    `c ? a : b`                 c is a boolean context: null and missing choose b, other types are an error.
    has(a.b)                    true if the key is there, also for null; false if a is missing or no map.
    `a in missing`, `missing in a`, `missing.f()`, `f(missing)`, `f(x, missing)`, `missing.all(…)`    false.
    size(null), lowercase(5)    error, hence false in a comparison with `==`.
    `list[9]`, `map['no']`      missing, also for lists and maps made by the expression.
    `[missing]`, `{'k': missing}`                  hold null.
    macros                      exists and all take truthiness, as || and && do, and always give a bool; filter, map
                                with three arguments and exists_one want a bool or null, as `?:` does.
    the whole expression        missing gives false, not null, as in the reference server, where a singleton key that is
                                missing means "not a singleton". As a condition, null and missing are false, and any
                                other type is an error.
    strings                     order by code point; size() counts code points.

Why an evaluation ends
    CEL has no unbounded loop, but nested macros multiply. Each iteration of a macro costs the number of nodes of its
    body, and what walks data (`==` of lists, `in`, `contains`, `matches`, joins) costs its length; all of it comes
    out of one allowance (`values.MAX_WORK`). `matches` is RE2, which cannot backtrack. Depth is bounded by the parser.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from perdure.core.expressions import operators as op
from perdure.core.expressions.functions import function_named
from perdure.core.expressions.macros import Closure, compile_macro, condition
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
from perdure.core.expressions.values import MISSING, TYPES, Frame, Unknown
from perdure.errors import ExpressionError

_SAME_TYPE_EQUALITY = frozenset({str, int, float, bool})


class Compiler:
    """Compiles one tree; `slots` is then the number of macro variables a `Frame` must hold."""

    def __init__(self) -> None:
        self.slots = 0
        self._scope: dict[str, int] = {}

    def compile(self, node: Node) -> Closure:
        """The closure of a node. Raises ExpressionError for what CEL allows and the dialect does not."""
        match node:
            case Constant(_, value):
                return _constant(value)
            case Identifier(_, name):
                return self._identifier(name)
            case Select():
                return self._select(node)
            case Call():
                return self._call(node)
            case ListLiteral(_, elements):
                return _list_literal([self.compile(element) for element in elements])
            case MapLiteral():
                return self._map_literal(node)
            case Comprehension():
                return compile_macro(node, self)

    def bound(self, variable: str, body: Node) -> tuple[int, Closure]:
        """The slot of a macro's variable, and the body compiled with that variable in scope."""
        slot, outer = self.slots, self._scope
        self.slots += 1
        self._scope = {**outer, variable: slot}
        try:
            return slot, self.compile(body)
        finally:
            self._scope = outer

    def _identifier(self, name: str) -> Closure:
        slot = self._scope.get(name)
        if slot is not None:
            return lambda frame: frame.locals[slot]
        if name in TYPES:
            return _constant(TYPES[name])
        return lambda frame: frame.variables.get(name, MISSING)

    def _select(self, node: Select) -> Closure:
        path = None if node.test_only else attribute_path(node)
        if path is not None and path[0] not in self._scope:
            return _path_reader(path)
        operand, field = self.compile(node.operand), node.field
        if node.test_only:
            return lambda frame: _has(operand(frame), field)
        return lambda frame: op.item(operand(frame), field)

    def _map_literal(self, node: MapLiteral) -> Closure:
        if node.message:
            raise ExpressionError(f"the protobuf message {node.message!r} cannot be built here")
        pairs = [(self.compile(key), self.compile(value)) for key, value in node.entries if key is not None]

        def build(frame: Frame) -> object:
            made: dict[object, object] = {}
            for key, value in pairs:
                name, entry = op.key_of(key(frame)), _element(value(frame))
                if isinstance(name, Unknown):
                    return name
                if isinstance(entry, Unknown):
                    return entry
                if name in made:
                    return Unknown("a map literal has the same key twice")
                made[name] = entry
            return made

        return build

    def _call(self, node: Call) -> Closure:
        path = attribute_path(node)
        if path is not None and path[0] not in self._scope:
            return _path_reader(path)
        targets = () if node.target is None else (node.target,)
        args = [self.compile(arg) for arg in (*targets, *node.args)]
        make = _OPERATORS.get(node.function)
        if make is not None:
            return make(*args)
        function = function_named(node.function)
        if function is None:
            raise ExpressionError(f"the function {node.function!r} is not supported")
        return _function_call(function, args, 0 if node.function == "size" else False)


def _constant(value: object) -> Closure:
    return lambda frame: value  # noqa: ARG005


def attribute_path(node: Node) -> tuple[str, ...] | None:
    """`event.data["a b"].c` as ("event", "data", "a b", "c"); None if the node is anything else than such a path."""
    keys: list[str] = []
    while True:
        match node:
            case Identifier(_, name):
                return (name, *reversed(keys))
            case Select(_, operand, field, False):
                keys.append(field)
                node = operand
            case Call(_, "_[_]", None, (container, Constant(_, str(key)))):
                keys.append(key)
                node = container
            case _:
                return None


def _path_reader(path: tuple[str, ...]) -> Closure:
    """One closure for a whole path. What is no map refuses a text as its key with a TypeError."""
    match path:
        case (root, first):

            def read(frame: Frame) -> object:
                try:
                    return frame.variables[root][first]  # type: ignore[index]
                except (KeyError, TypeError):
                    return MISSING

        case (root, first, second):

            def read(frame: Frame) -> object:
                try:
                    return frame.variables[root][first][second]  # type: ignore[index]
                except (KeyError, TypeError):
                    return MISSING

        case (root, *keys):

            def read(frame: Frame) -> object:
                try:
                    value: Any = frame.variables[root]
                    for key in keys:
                        value = value[key]
                except (KeyError, TypeError):
                    return MISSING
                return value

        case _:
            raise AssertionError("a path has a root")
    return read


def _has(container: object, field: str) -> object:
    return type(container) is dict and field in container


def _element(value: object) -> object:
    return None if value is MISSING else value


def _list_literal(elements: list[Closure]) -> Closure:
    def build(frame: Frame) -> object:
        made = [_element(element(frame)) for element in elements]
        for value in made:
            if type(value) is Unknown:
                return value
        return made

    return build


def _function_call(function: Callable[..., object], args: list[Closure], if_missing: object) -> Closure:
    if len(args) == 1:
        (single,) = args

        def call_one(frame: Frame) -> object:
            value = single(frame)
            return if_missing if type(value) is Unknown else function(frame, value)

        return call_one

    def call(frame: Frame) -> object:
        values = [arg(frame) for arg in args]
        for value in values:
            if type(value) is Unknown:
                return if_missing
        return function(frame, *values)

    return call


def _equals(left: Closure, right: Closure) -> Closure:
    def evaluate(frame: Frame) -> object:
        a, b = left(frame), right(frame)
        kind = type(a)
        if kind is type(b) and kind in _SAME_TYPE_EQUALITY:
            return a == b
        return op.equal(a, b, frame)

    return evaluate


def _differs(left: Closure, right: Closure) -> Closure:
    return lambda frame: not op.equal(left(frame), right(frame), frame)


def _ordering(
    compare: Callable[[Any, Any], bool], if_left_missing: bool
) -> Callable[[Closure, Closure], Closure]:
    def make(left: Closure, right: Closure) -> Closure:
        def evaluate(frame: Frame) -> object:
            a, b = left(frame), right(frame)
            if type(a) is int and type(b) is int:
                return compare(a, b)
            return op.order(compare, a, b, if_left_missing=if_left_missing)

        return evaluate

    return make


def _both(left: Closure, right: Closure) -> Closure:
    def evaluate(frame: Frame) -> object:
        value = left(frame)
        return right(frame) if value is True or op.truthy(value) else value

    return evaluate


def _either(left: Closure, right: Closure) -> Closure:
    def evaluate(frame: Frame) -> object:
        value = left(frame)
        return value if value is True or op.truthy(value) else right(frame)

    return evaluate


def _conditional(test: Closure, then: Closure, otherwise: Closure) -> Closure:
    def evaluate(frame: Frame) -> object:
        chosen = condition(test(frame))
        if chosen is True:
            return then(frame)
        return otherwise(frame) if chosen is False else chosen

    return evaluate


def _binary(compute: Callable[[Any, Any], object]) -> Callable[[Closure, Closure], Closure]:
    return lambda left, right: lambda frame: compute(left(frame), right(frame))


def _binary_with_work(compute: Callable[[Any, Any, Frame], object]) -> Callable[[Closure, Closure], Closure]:
    return lambda left, right: lambda frame: compute(left(frame), right(frame), frame)


def _unary(compute: Callable[[Any], object]) -> Callable[[Closure], Closure]:
    return lambda operand: lambda frame: compute(operand(frame))


_OPERATORS: dict[str, Callable[..., Closure]] = {
    "_==_": _equals,
    "_!=_": _differs,
    "_<_": _ordering(operator.lt, True),
    "_<=_": _ordering(operator.le, True),
    "_>_": _ordering(operator.gt, False),
    "_>=_": _ordering(operator.ge, False),
    "_&&_": _both,
    "_||_": _either,
    "_?_:_": _conditional,
    "!_": _unary(op.invert),
    "-_": _unary(op.negate),
    "_+_": _binary_with_work(op.add),
    "_-_": _binary(op.subtract),
    "_*_": _binary(op.multiply),
    "_/_": _binary(op.divide),
    "_%_": _binary(op.remainder),
    "_[_]": _binary(op.item),
    "@in": _binary_with_work(op.contains),
}

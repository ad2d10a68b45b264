"""The macros `all`, `exists`, `exists_one`, `map` and `filter`.

The parser has expanded each to a fold. Run literally, `map` would copy its result for every element, so the five
shapes of fold are recognised and compiled to a loop each. There is no other way to write a fold in CEL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from perdure.core.expressions import operators as op
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
from perdure.core.expressions.values import MISSING, Frame, Unknown
from perdure.errors import ExpressionError

Closure = Callable[[Frame], object]
_Loop = Callable[[Frame, "list[object]"], object]


class Scope(Protocol):
    """What a macro needs of the compiler."""

    def compile(self, node: Node) -> Closure:
        """The closure of a node in the scope around the macro."""
        ...

    def bound(self, variable: str, body: Node) -> tuple[int, Closure]:
        """The slot of the macro's variable, and the body compiled with it in scope."""
        ...


def condition(value: object) -> object:
    """True, False, or an `Unknown`: a boolean context takes null and what is missing for false."""
    if type(value) is bool:
        return value
    if value is None or value is MISSING:
        return False
    return value if type(value) is Unknown else Unknown("a condition must be true, false or null")


def compile_macro(node: Comprehension, scope: Scope) -> Closure:
    """The closure of a macro. A missing range gives false."""
    values = scope.compile(node.range)
    loop = _loop_of(node, scope)

    def run(frame: Frame) -> object:
        elements = op.elements_of(values(frame))
        if elements is None:
            return False
        return elements if isinstance(elements, Unknown) else loop(frame, elements)

    return run


def _loop_of(node: Comprehension, scope: Scope) -> _Loop:
    accumulator = node.accumulator

    def is_accumulator(part: Node) -> bool:
        return isinstance(part, Identifier) and part.name == accumulator

    match node.initial, node.step:
        case Constant(_, True), Call(_, "_&&_", None, (first, predicate)) if is_accumulator(first):
            return _quantifier(node, predicate, scope, decisive=False)
        case Constant(_, False), Call(_, "_||_", None, (first, predicate)) if is_accumulator(first):
            return _quantifier(node, predicate, scope, decisive=True)
        case Constant(_, 0), Call(_, "_?_:_", None, (predicate, _, last)) if is_accumulator(last):
            return _exactly_one(node, predicate, scope)
        case ListLiteral(), Call(_, "_+_", None, (first, ListLiteral(_, (made,)))) if is_accumulator(first):
            return _collect(node, None, made, scope)
        case (
            ListLiteral(),
            Call(_, "_?_:_", None, (predicate, Call(_, "_+_", None, (first, ListLiteral(_, (made,)))), last)),
        ) if is_accumulator(first) and is_accumulator(last):
            return _collect(node, predicate, made, scope)
    raise ExpressionError("this macro is not supported; use all, exists, exists_one, map or filter")


def _quantifier(node: Comprehension, predicate: Node, scope: Scope, *, decisive: bool) -> _Loop:
    """`exists` (true decides) and `all` (false decides). An error counts only if nothing decides."""
    slot, test = scope.bound(node.variable, predicate)
    cost = weight(predicate)

    def loop(frame: Frame, elements: list[object]) -> object:
        undecided: object = not decisive
        for element in elements:
            frame.spend(cost)
            frame.locals[slot] = element
            value = test(frame)
            if isinstance(value, Unknown) and value.error:
                undecided = value
            elif op.truthy(value) is decisive:
                return decisive
        return undecided

    return loop


def _exactly_one(node: Comprehension, predicate: Node, scope: Scope) -> _Loop:
    slot, test = scope.bound(node.variable, predicate)
    cost = weight(predicate)

    def loop(frame: Frame, elements: list[object]) -> object:
        count = 0
        for element in elements:
            frame.spend(cost)
            frame.locals[slot] = element
            value = condition(test(frame))
            if isinstance(value, Unknown):
                return value
            count += value is True
        return count == 1

    return loop


def _collect(node: Comprehension, predicate: Node | None, made: Node, scope: Scope) -> _Loop:
    """`map`, and `filter`, which is a `map` of each element to itself under a condition."""
    slot, build = scope.bound(node.variable, made)
    # The two bodies are compiled apart, so the variable has two slots; both are set.
    test_slot, test = scope.bound(node.variable, predicate) if predicate is not None else (slot, None)
    cost = weight(made) + (weight(predicate) if predicate is not None else 0)

    def loop(frame: Frame, elements: list[object]) -> object:
        results: list[object] = []
        for element in elements:
            frame.spend(cost)
            frame.locals[slot] = frame.locals[test_slot] = element
            chosen = True if test is None else condition(test(frame))
            if isinstance(chosen, Unknown):
                return chosen
            if chosen:
                value = build(frame)
                if isinstance(value, Unknown):
                    if value.error:
                        return value
                    value = None
                results.append(value)
        return results

    return loop


def weight(node: Node | None) -> int:
    """How many nodes a tree has: what one evaluation of it costs."""
    match node:
        case Select(_, operand):
            return 1 + weight(operand)
        case Call(_, _, target, args):
            return 1 + weight(target) + sum(map(weight, args))
        case ListLiteral(_, elements):
            return 1 + sum(map(weight, elements))
        case MapLiteral(_, _, entries):
            return 1 + sum(weight(key) + weight(value) for key, value in entries)
        case Comprehension():
            return 1 + weight(node.range) + weight(node.step)
        case None:
            return 0
        case _:
            return 1

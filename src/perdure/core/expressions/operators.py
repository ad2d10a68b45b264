"""The operators of the dialect: equality, order, `+` and the other arithmetic, membership, access.

Each takes values and returns a value; what cannot be computed is an `Unknown` that carries the reason.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

from perdure.core.expressions.syntax import Uint
from perdure.core.expressions.values import (
    INT_MAX,
    INT_MIN,
    MISSING,
    UINT_MAX,
    BoolKey,
    Duration,
    Frame,
    Timestamp,
    Unknown,
    duration,
    text_of,
    timestamp,
    type_name,
)

NUMBERS = frozenset({int, float, Uint})
_ORDERED = frozenset({str, bool, bytes, Timestamp, Duration})
_ZEROS: dict[type, object] = {str: "", int: 0, float: 0.0, bool: False, Uint: 0, bytes: b""}
_BOOL_KEYS = {True: BoolKey(True), False: BoolKey(False)}


def truthy(value: object) -> bool:
    """JavaScript's idea of truth: false, null, 0, NaN, "" and what is unknown are false; all else is true."""
    kind = type(value)
    if kind is bool:
        return cast(bool, value)
    if value is None or kind is Unknown:
        return False
    if kind is str or kind in NUMBERS:
        return bool(value) and value == value  # noqa: PLR0124  NaN differs from itself
    return True


def equal(left: Any, right: Any, frame: Frame) -> bool:
    """`==`: a missing operand equals null only; numbers compare by value; other types differ."""
    kind, other = type(left), type(right)
    if kind is Unknown or other is Unknown:
        return left is None or right is None
    if kind is not other:
        return kind in NUMBERS and other in NUMBERS and left == right
    if kind is list:
        return len(left) == len(right) and _all_equal(zip(left, right, strict=True), len(left), frame)
    if kind is dict:
        if len(left) != len(right) or any(key not in right for key in left):
            return False
        return _all_equal(((value, right[key]) for key, value in left.items()), len(left), frame)
    return bool(left == right)


def _all_equal(pairs: Any, count: int, frame: Frame) -> bool:
    frame.spend(count)
    return all(equal(left, right, frame) for left, right in pairs)


def order(
    compare: Callable[[Any, Any], bool], left: Any, right: Any, *, if_left_missing: bool
) -> bool | Unknown:
    """`<` and its kin. A missing operand sorts before everything; null takes the other side's zero value."""
    kind, other = type(left), type(right)
    if kind is other:
        if kind in NUMBERS or kind in _ORDERED:
            return compare(left, right)
    elif kind in NUMBERS and other in NUMBERS:
        return compare(left, right)
    if kind is Unknown:
        return if_left_missing
    if other is Unknown:
        return not if_left_missing
    if left is None and other in _ZEROS:
        return compare(_ZEROS[other], right)
    if right is None and kind in _ZEROS:
        return compare(left, _ZEROS[kind])
    return Unknown(f"{type_name(left)} and {type_name(right)} have no order")


def add(left: Any, right: Any, frame: Frame) -> object:
    """`+`: sums, joins; a missing operand gives the other one; mixed types are joined as text."""
    kind, other = type(left), type(right)
    if kind is Unknown or other is Unknown:
        return _add_unknown(left, right)
    if kind in NUMBERS and other in NUMBERS:
        return _number(operator.add, left, right)
    if kind is other:
        if kind is str or kind is bytes or kind is list:
            return _joined(left, right, frame)
        if kind is Duration:
            return duration(left.nanos + right.nanos)
        return Unknown(f"two values of type {type_name(left)} cannot be added")
    if {kind, other} == {Timestamp, Duration}:
        return timestamp(left.nanos + right.nanos)
    return _joined(text_of(left, frame), text_of(right, frame), frame)


def _add_unknown(left: object, right: object) -> object:
    for operand in (left, right):
        if isinstance(operand, Unknown) and operand.error:
            return operand
    if not isinstance(left, Unknown):
        return left
    return False if isinstance(right, Unknown) else right


def _joined(left: Any, right: Any, frame: Frame) -> object:
    size = len(left) + len(right)
    frame.spend(size if type(left) is list else size >> 4)
    return left + right


def _number(compute: Callable[[Any, Any], Any], left: Any, right: Any) -> object:
    """Integer arithmetic within 64 bits (unsigned if both are), else in doubles."""
    if type(left) is float or type(right) is float:
        try:
            return float(compute(float(left), float(right)))
        except OverflowError:
            return Unknown("number too large")
    result = compute(left, right)
    if type(left) is Uint and type(right) is Uint:
        return Uint(result) if 0 <= result <= UINT_MAX else Unknown("unsigned integer overflow")
    return result if INT_MIN <= result <= INT_MAX else Unknown("integer overflow")


def subtract(left: Any, right: Any) -> object:
    """`-` of numbers, timestamps and durations."""
    kind, other = type(left), type(right)
    if kind in NUMBERS and other in NUMBERS:
        return _number(operator.sub, left, right)
    if kind is Timestamp and other is Duration:
        return timestamp(left.nanos - right.nanos)
    if kind is other and kind in (Timestamp, Duration):
        return duration(left.nanos - right.nanos)
    return _no_overload("-", left, right)


def multiply(left: Any, right: Any) -> object:
    """`*` of numbers."""
    if type(left) in NUMBERS and type(right) in NUMBERS:
        return _number(operator.mul, left, right)
    return _no_overload("*", left, right)


def divide(left: Any, right: Any) -> object:
    """`/`: integers round toward zero and refuse a zero divisor, doubles follow IEEE 754."""
    if not (type(left) in NUMBERS and type(right) in NUMBERS):
        return _no_overload("/", left, right)
    if type(left) is float or type(right) is float:
        return _number(_divide_doubles, left, right)
    return Unknown("division by zero") if right == 0 else _number(_divide_toward_zero, left, right)


def remainder(left: Any, right: Any) -> object:
    """`%` of integers; the result has the sign of the dividend."""
    if not (type(left) in NUMBERS and type(right) in NUMBERS) or type(left) is float or type(right) is float:
        return _no_overload("%", left, right)
    if right == 0:
        return Unknown("modulus by zero")
    return _number(lambda a, b: a - b * _divide_toward_zero(a, b), left, right)


def _divide_toward_zero(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _divide_doubles(left: float, right: float) -> float:
    if right:
        return left / right
    sign = float("inf") if str(right)[0] != "-" else float("-inf")
    return left * sign if left else float("nan")


def negate(value: Any) -> object:
    """Unary `-`."""
    if type(value) is float:
        return -value
    if type(value) is int:
        return -value if -value <= INT_MAX else Unknown("integer overflow")
    return False if type(value) is Unknown else Unknown(f"-{type_name(value)} has no meaning")


def invert(value: object) -> object:
    """`!`: of a bool only; what is missing gives false, like any function on it."""
    if type(value) is bool:
        return not value
    return False if type(value) is Unknown else Unknown(f"!{type_name(value)} has no meaning")


def contains(element: Any, container: Any, frame: Frame) -> object:
    """`in`: an element of a list or a key of a map."""
    if type(element) is Unknown or type(container) is Unknown:
        return False
    if type(container) is list:
        frame.spend(len(container))
        return any(equal(element, each, frame) for each in container)
    if type(container) is dict:
        return _lookup(container, element) is not MISSING
    return Unknown(f"`in` needs a list or a map, not {type_name(container)}")


def item(container: Any, key: Any) -> object:
    """`container[key]`: what is not there is missing, at any depth."""
    if type(container) is Unknown:
        return container
    if type(key) is Unknown:
        return key
    if type(container) is dict:
        return _lookup(container, key)
    if type(container) is list:
        if type(key) is float and key.is_integer():
            key = int(key)
        if type(key) not in (int, Uint):
            return Unknown(f"a list is indexed by int, not {type_name(key)}")
        return container[key] if 0 <= key < len(container) else MISSING
    return MISSING


def _lookup(mapping: dict[object, object], key: Any) -> object:
    kind = type(key)
    if kind is bool:
        key = _BOOL_KEYS[key]
    elif not (kind is str or kind in NUMBERS):
        return MISSING
    return mapping.get(key, MISSING)


def key_of(value: object) -> object:
    """The value as a key of a map literal; an `Unknown` if its type cannot be one."""
    if isinstance(value, bool):
        return _BOOL_KEYS[value]
    if type(value) in (str, int, Uint):
        return value
    return Unknown(f"{type_name(value)} cannot be the key of a map")


def elements_of(value: Any) -> list[object] | Unknown | None:
    """What a macro runs over: a list's elements, a map's keys; None if the value is missing."""
    if type(value) is list:
        return cast("list[object]", value)
    if type(value) is dict:
        return [key.value if type(key) is BoolKey else key for key in value]
    if type(value) is Unknown:
        return None
    return Unknown(f"a macro needs a list or a map, not {type_name(value)}")


def _no_overload(name: str, left: object, right: object) -> object:
    if type(left) is Unknown or type(right) is Unknown:
        return False
    return Unknown(f"{type_name(left)} {name} {type_name(right)} has no meaning")

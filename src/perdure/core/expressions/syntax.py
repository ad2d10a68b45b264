"""The syntax tree of an expression, read from the protobuf bytes that cel-expr-python gives.

`Expression.serialize()` of cel-expr-python is a `google.protobuf.Any` around `cel.expr.CheckedExpr`. No package
ships Python classes for that message, and the part that matters is eight messages, so the wire format is read
here directly. Field numbers are those of cel-spec's `cel/expr/syntax.proto` and `checked.proto`; wire types are
those of the protobuf encoding guide. Macros (`has`, `all`, `exists`, …) arrive expanded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import cast

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal: null, bool, int, `Uint`, float, str or bytes."""

    id: int
    value: object


@dataclass(frozen=True, slots=True)
class Identifier:
    """A variable: `event`, `async`, the variable of a macro, or the name of a type."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`; with `test_only` it is `has(operand.field)`."""

    id: int
    operand: Node
    field: str
    test_only: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator (named as in CEL: `_==_`); `target` is what stands before the dot."""

    id: int
    function: str
    target: Node | None
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListLiteral:
    """`[a, b]`"""

    id: int
    elements: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapLiteral:
    """`{a: b}`; `message` is the type's name if a protobuf message is built instead."""

    id: int
    message: str
    entries: tuple[tuple[Node | None, Node], ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What a macro expands to: a fold of `step` over `range` into `accumulator`."""

    id: int
    variable: str
    range: Node
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


Node = Constant | Identifier | Select | Call | ListLiteral | MapLiteral | Comprehension


class Uint(int):
    """CEL's unsigned 64-bit integer; it equals and orders like any other number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SyntaxTree:
    """The root node, and the parser's notes on the source, unread."""

    root: Node
    source_info: bytes

    def positions(self) -> dict[int, int]:
        """Where each node stands in the text, by id: 0-based, in characters."""
        found: dict[int, int] = {}
        for number, value in _fields(self.source_info):
            if number == 4:
                entry = _last_of_each(cast(bytes, value))
                found[cast(int, entry.get(1, 0))] = cast(int, entry.get(2, 0))
        return found


def read_checked(serialized: bytes) -> SyntaxTree:
    """Read an `Any` that holds a `CheckedExpr`. Raises ValueError if it holds something else."""
    any_fields = _last_of_each(serialized)
    type_url = bytes(cast(bytes, any_fields.get(1, b"")))
    if not type_url.endswith(b"/cel.expr.CheckedExpr"):
        raise ValueError(f"expected a CheckedExpr, got {type_url!r}")
    checked = _last_of_each(cast(bytes, any_fields[2]))
    return SyntaxTree(_node(cast(bytes, checked[4])), cast(bytes, checked.get(5, b"")))


def _fields(data: bytes) -> list[tuple[int, int | bytes]]:
    """The fields of one message, in order: number and raw value (an int for a varint, else bytes)."""
    found: list[tuple[int, int | bytes]] = []
    at, end = 0, len(data)
    while at < end:
        key, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
        wire = key & 7
        if wire in (_I64, _I32):
            size = 8 if wire == _I64 else 4
        else:
            size, at = (data[at], at + 1) if data[at] < 0x80 else _varint(data, at)
            if wire == _VARINT:
                found.append((key >> 3, size))
                continue
            if wire != _LEN:
                raise ValueError(f"wire type {wire} is not known")
        found.append((key >> 3, data[at : at + size]))
        at += size
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _last_of_each(data: bytes) -> dict[int, int | bytes]:
    return dict(_fields(data))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _string(value: int | bytes | None) -> str:
    return cast(bytes, value or b"").decode("utf-8", "surrogatepass")


def _node(data: bytes) -> Node:
    node_id, kind, body = 0, 0, b""
    for number, value in _fields(data):
        if number == 2:
            node_id = cast(int, value)
        else:
            kind, body = number, cast(bytes, value)
    reader = _READERS.get(kind)
    if reader is None:
        raise ValueError(f"expression kind {kind} is not known")
    return reader(node_id, body)


def _constant(node_id: int, body: bytes) -> Node:
    ((number, raw),) = _fields(body)
    value: object
    if number == 1:
        value = None
    elif number == 2:
        value = bool(raw)
    elif number == 3:
        value = _signed(cast(int, raw))
    elif number == 4:
        value = Uint(cast(int, raw))
    elif number == 5:
        value = struct.unpack("<d", cast(bytes, raw))[0]
    elif number == 6:
        value = _string(raw)
    elif number == 7:
        value = cast(bytes, raw)
    else:
        raise ValueError(f"constant kind {number} is not known")
    return Constant(node_id, value)


def _identifier(node_id: int, body: bytes) -> Node:
    return Identifier(node_id, _string(_last_of_each(body).get(1)))


def _select(node_id: int, body: bytes) -> Node:
    fields = _last_of_each(body)
    return Select(node_id, _node(cast(bytes, fields[1])), _string(fields.get(2)), bool(fields.get(3)))


def _call(node_id: int, body: bytes) -> Node:
    target: Node | None = None
    function = ""
    args: list[Node] = []
    for number, value in _fields(body):
        if number == 1:
            target = _node(cast(bytes, value))
        elif number == 2:
            function = _string(value)
        elif number == 3:
            args.append(_node(cast(bytes, value)))
    return Call(node_id, function, target, tuple(args))


def _list(node_id: int, body: bytes) -> Node:
    return ListLiteral(
        node_id, tuple(_node(cast(bytes, value)) for number, value in _fields(body) if number == 1)
    )


def _map(node_id: int, body: bytes) -> Node:
    message = ""
    entries: list[tuple[Node | None, Node]] = []
    for number, value in _fields(body):
        if number == 1:
            message = _string(value)
        elif number == 2:
            entry = _last_of_each(cast(bytes, value))
            key = _node(cast(bytes, entry[3])) if 3 in entry else None
            entries.append((key, _node(cast(bytes, entry[4]))))
    return MapLiteral(node_id, message, tuple(entries))


def _comprehension(node_id: int, body: bytes) -> Node:
    fields = _last_of_each(body)
    part = {number: _node(cast(bytes, fields[number])) for number in (2, 4, 5, 6, 7)}
    return Comprehension(
        node_id, _string(fields.get(1)), part[2], _string(fields.get(3)), part[4], part[5], part[6], part[7]
    )


_READERS = {
    3: _constant,
    4: _identifier,
    5: _select,
    6: _call,
    7: _list,
    8: _map,
    9: _comprehension,
}

"""The observed schema of events: which fields their payloads have, of which types, and which may be missing.

It is what was seen, not what is promised: the merge of the payloads that it is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Type = Literal["null", "boolean", "number", "string", "array", "object"]
MAX_FIELDS = 200
"""Fields that are told; objects used as dictionaries have one for each key."""
MAX_DEPTH = 6
"""How deep fields are looked at."""
MAX_ITEMS = 20
"""Elements of an array that are looked at."""


class Field(msgspec.Struct, frozen=True):
    """A field: its path (`order.items[].sku`), the types it was seen with, and whether it was sometimes missing.

    `seen` is in how many of the objects that could have it.
    """

    path: str
    types: list[Type]
    optional: bool
    seen: int


class Observed(msgspec.Struct, frozen=True):
    """The fields of `payloads` payloads, in the order in which they were met; `more` if there are others."""

    fields: list[Field]
    payloads: int
    more: bool


_ELEMENT = "[]"
_Path = tuple[str, ...]


class _Seen:
    __slots__ = ("count", "types")

    def __init__(self) -> None:
        self.types: dict[Type, None] = {}
        self.count = 0


class _Merge:
    def __init__(self) -> None:
        self.fields: dict[_Path, _Seen] = {}
        self.objects: dict[_Path, int] = {}
        self.more = False

    def add(self, value: object, path: _Path) -> None:
        """Take in what lies below a value."""
        if isinstance(value, dict):
            self.objects[path] = self.objects.get(path, 0) + 1
            for name, inner in value.items():
                self._field(inner, (*path, str(name)))
        elif isinstance(value, list):
            for inner in value[:MAX_ITEMS]:
                self._field(inner, (*path, _ELEMENT))
            self.more = self.more or len(value) > MAX_ITEMS

    def _field(self, value: object, path: _Path) -> None:
        field = self.fields.get(path)
        if field is None:
            if len(self.fields) >= MAX_FIELDS:
                self.more = True
                return
            field = self.fields[path] = _Seen()
        field.count += 1
        field.types[type_of(value)] = None
        if len(path) < MAX_DEPTH:
            self.add(value, path)
        elif isinstance(value, dict | list) and value:
            self.more = True

    def field(self, path: _Path) -> Field:
        """A field as it is told. An element of an array is never missing."""
        seen = self.fields[path]
        optional = path[-1] != _ELEMENT and seen.count < self.objects[path[:-1]]
        return Field(_text(path), list(seen.types), optional, seen.count)


def _text(path: _Path) -> str:
    return ".".join(path).replace(f".{_ELEMENT}", _ELEMENT)


def type_of(value: object) -> Type:
    """The JSON type of a decoded value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def observe(payloads: Iterable[object]) -> Observed:
    """The schema of decoded payloads."""
    merge, count = _Merge(), 0
    for payload in payloads:
        merge.add(payload, ())
        count += 1
    # Fields that came late stand beside their neighbours, not at the end.
    return Observed([merge.field(path) for path in _in_order(list(merge.fields))], count, merge.more)


def _in_order(paths: list[_Path]) -> list[_Path]:
    """Parents before their fields, fields in the order in which they were met."""
    below: dict[_Path, list[_Path]] = {}
    for path in paths:
        below.setdefault(path[:-1], []).append(path)
    ordered: list[_Path] = []
    waiting = list(reversed(below.get((), [])))
    while waiting:
        path = waiting.pop()
        ordered.append(path)
        waiting += reversed(below.get(path, []))
    return ordered

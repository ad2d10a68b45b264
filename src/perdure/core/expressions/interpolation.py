"""Where `event.…` stands in the text of an expression, to show a wait with the values it waits for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from perdure.core.expressions.evaluator import attribute_path
from perdure.core.expressions.syntax import (
    Call,
    Comprehension,
    Identifier,
    ListLiteral,
    MapLiteral,
    Node,
    Select,
    SyntaxTree,
)

MAX_LITERAL = 300
"""Values whose literal is longer, in characters, are not shown."""

_FIELD = re.compile(r"\.\s*(?:[A-Za-z_][A-Za-z0-9_]*|`[^`]*`)")
_KEY = re.compile(r"""\[\s*(?:"[^"\\]*"|'[^'\\]*')\s*\]""")


@dataclass(frozen=True, slots=True)
class Insertion:
    """The attribute written at `start` up to `end` in the text."""

    start: int
    end: int
    path: tuple[str, ...]

    def literal(self, variables: Mapping[str, object]) -> str | None:
        """The value as a literal; null if it is missing, None if it is too long to show."""
        value: object = variables
        for key in self.path:
            value = value.get(key) if isinstance(value, dict) else None
        try:
            text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
        except (ValueError, TypeError, RecursionError):
            return None
        return text if len(text) <= MAX_LITERAL else None


def insertions(tree: SyntaxTree, text: str) -> tuple[Insertion, ...]:
    """The attributes of `event` in the text, in order."""
    positions = tree.positions()
    found: dict[int, Insertion] = {}
    for node in _event_paths(tree.root, frozenset()):
        insertion = _locate(node, positions, text)
        if insertion is not None:
            found[insertion.start] = insertion
    return tuple(found[start] for start in sorted(found))


def _event_paths(node: Node, shadowed: frozenset[str]) -> Iterator[Node]:
    """The longest paths below `event`, leaving out `has(…)` and macro variables of that name."""
    path = attribute_path(node)
    if path is not None:
        if path[0] == "event" and len(path) > 1 and "event" not in shadowed:
            yield node
        return
    match node:
        case Select(_, operand, _, test_only):
            if not test_only:
                yield from _event_paths(operand, shadowed)
        case Call(_, _, target, args):
            for part in args if target is None else (target, *args):
                yield from _event_paths(part, shadowed)
        case ListLiteral(_, elements):
            for part in elements:
                yield from _event_paths(part, shadowed)
        case MapLiteral(_, _, entries):
            for key, value in entries:
                for part in (value,) if key is None else (key, value):
                    yield from _event_paths(part, shadowed)
        case Comprehension():
            yield from _event_paths(node.range, shadowed)
            yield from _event_paths(node.step, shadowed | {node.variable})


def _locate(node: Node, positions: dict[int, int], text: str) -> Insertion | None:
    """From the first letter of `event` to the end of the last field; None if the text is not laid out like that."""
    path = attribute_path(node)
    root = node
    while not isinstance(root, Identifier):
        root = root.operand if isinstance(root, Select) else root.args[0]  # type: ignore[union-attr]
    start, last = positions.get(root.id), positions.get(node.id)
    if path is None or start is None or last is None or not text.startswith("event", start):
        return None
    end = (_FIELD if isinstance(node, Select) else _KEY).match(text, last)
    return Insertion(start, end.end(), path) if end else None

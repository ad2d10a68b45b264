"""What is wrong with an expression, in words for the person who wrote it.

CEL's own report (`ERROR: <input>:1:16: Syntax error: mismatched input '<EOF>' expecting {'[', '{', …`) speaks of its
grammar. Here it becomes a sentence that says what to do, the line and the column, and the line itself with a caret.
"""

from __future__ import annotations

import re
import unicodedata

from perdure.errors import ExpressionError

MARGIN = 60
"""Characters that are shown on each side of the fault."""

_CEL = re.compile(r"\AERROR: <input>:-?\d+:-?\d+: (?:Syntax error: )?(.*)")
_MISPLACED = re.compile(r"(?:mismatched|extraneous) input '(.*)' expecting (.*)", re.DOTALL)
_UNRECOGNISED = re.compile(r"token recognition error at: '(.*)")
_UNREADABLE = re.compile(r"no viable alternative at input '(.*)'", re.DOTALL)
_UNDECLARED = re.compile(r"undeclared reference to '(.*)' \(in container")
_OVERLOAD = re.compile(r"found no matching overload for '(.*)' applied to '(.*)'")

_END = "<EOF>"
_A_VALUE = "IDENTIFIER"
_HYPHEN = re.compile(r"\w-\Z")
_OPERATOR = re.compile(r"[a-z]*_?[^a-zA-Z]+_?")


def explain(text: str, error: ExpressionError) -> str:
    """A sentence without its full stop: the place, and what is wrong there. `text` is the expression."""
    found = _CEL.match(error.message)
    reason = _reason(text, error, found[1]) if found else error.message.rstrip(".")
    return f"{place(text, error.position)}: {reason}" if error.position is not None else reason


def place(text: str, position: int) -> str:
    """Where a 0-based offset lies in a text: `line 2, column 4`, both counted from 1, in characters."""
    before = text[:position]
    return f"line {before.count(chr(10)) + 1}, column {position - (before.rfind(chr(10)) + 1) + 1}"


def pointer(text: str, position: int) -> str:
    """The line in which an offset lies, and a caret below it; a long line is cut on both sides."""
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    left, right = max(start, position - MARGIN), min(end, position + MARGIN)
    before = ("…" if left > start else "") + _printable(text[left:position])
    after = _printable(text[position:right]) + ("…" if right < end else "")
    width = sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in before)
    return f"    {before}{after}\n    {' ' * width}^"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _reason(text: str, error: ExpressionError, report: str) -> str:
    if match := _MISPLACED.match(report):
        return _misplaced(match[1], match[2])
    if match := _UNRECOGNISED.match(report):
        return _unrecognised(match[1].removesuffix("'"))
    if match := _UNREADABLE.match(report):
        return f"{match[1].strip()!r} cannot be read; a name or an operator is missing or misplaced there"
    if match := _UNDECLARED.match(report):
        return _undeclared(match[1], text, error.position or 0)
    if match := _OVERLOAD.match(report):
        return f"{match[1].strip('_')!r} does not take arguments of the types {match[2]}"
    return report.rstrip(".")


def _misplaced(token: str, expected: str) -> str:
    wanted = "a value" if _A_VALUE in expected else f"{expected}"
    if token == _END:
        return f"the expression ends where {wanted} is expected; complete it"
    if expected == _END:
        return (
            f"the expression is complete before {token!r}; join two conditions with && or ||, "
            "or remove what is too much"
        )
    return f"{token!r} stands where {wanted} is expected"


def _unrecognised(token: str) -> str:
    if token.startswith("="):
        return "a single = means nothing; write == to compare"
    if token.startswith(('"', "'")):
        return "the quote that begins here is not closed; add the closing one"
    if token.startswith(("&", "|")):
        return f"a single {token[0]} means nothing; write {token[0] * 2}"
    return f"{token.strip()!r} has no meaning here" if token.strip() else "this character has no meaning here"


def _undeclared(name: str, text: str, position: int) -> str:
    if text[position : position + 1] == "(":
        return f"there is no function {name!r} that takes these arguments"
    if _OPERATOR.fullmatch(name):
        return f"the operator {name.strip('_')!r} does not take these values"
    first = name.partition(".")[0]
    if _HYPHEN.search(text[:position]):
        return (
            f'{first!r} is not known, and - is a minus; write a name with a hyphen as event.data["some-name"]'
        )
    last = name.rpartition(".")[2]
    return (
        f"{first!r} is not known; an expression sees the event as `event` (write event.data.{last}), "
        "and a cancellation the cancelling event as `async`"
    )

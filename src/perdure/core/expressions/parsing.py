"""From text to a checked syntax tree, by cel-expr-python.

The checker runs with the operators of the dialect declared loosely in place of CEL's typed ones; everything else
keeps its declaration, so that an unknown function, a wrong number of arguments, an undeclared variable or
`lowercase(1)` is refused when the expression is stored, not when an event comes by.

The library is loaded on the first expression: it costs 7 MB and some milliseconds that a server without
expressions need not pay.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from perdure.core.expressions.syntax import SyntaxTree, read_checked
from perdure.errors import ExpressionError

MAX_TEXT = 10_000
"""The longest expression, in characters."""

VARIABLES = ("event", "async", "output")

_LOOSE_BINARY = dict.fromkeys(("_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"), "bool")
_LOOSE_BINARY |= dict.fromkeys(("_+_", "_&&_", "_||_"), "dyn")
_EXTRA = {
    "lowercase": (["string"], "string"),
    "uppercase": (["string"], "string"),
    "b64decode": (["string"], "string"),
    "json_parse": (["string"], "dyn"),
    "date": (["dyn"], "timestamp"),
    "now": ([], "timestamp"),
    "now_plus": (["string"], "timestamp"),
    "now_minus": (["string"], "timestamp"),
}
_STATUS = re.compile(r"\A(?!ERROR)[A-Z_]+: |\s*\[[A-Z_]+\]\Z")
_PLACE = re.compile(r"ERROR: <input>:(\d+):(\d+):")


def parse(text: str) -> SyntaxTree:
    """Parse and check. Raises ExpressionError with the position of the first fault."""
    if len(text) > MAX_TEXT:
        raise ExpressionError(
            f"an expression has at most {MAX_TEXT:,} characters, this one has {len(text):,}", MAX_TEXT
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ExpressionError("the expression is not valid Unicode", error.start) from None
    try:
        serialized = _environment().compile(text).serialize()
    except RuntimeError as error:
        raise _refusal(text, str(error)) from None
    try:
        return read_checked(serialized)
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply") from None


def _refusal(text: str, report: str) -> ExpressionError:
    """The library's report, as people know it from CEL: `ERROR: <input>:1:7: …` and the line with a caret."""
    message = _STATUS.sub("", report)
    if "recursion" in message:
        return ExpressionError("the expression is nested too deeply (CEL allows 32 levels)")
    place = _PLACE.search(message)
    if place is None:
        return ExpressionError(message)
    line, column = int(place[1]), int(place[2])
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    return ExpressionError(message, min(starts[min(line, len(starts)) - 1] + column - 1, len(text)))


@cache
def _environment() -> Any:
    from cel_expr_python import cel

    type_of = {
        "bool": cel.Type.BOOL,
        "dyn": cel.Type.DYN,
        "string": cel.Type.STRING,
        "timestamp": cel.Type.TIMESTAMP,
    }

    def declare(name: str, parameters: list[str], returns: str) -> Any:
        overload = cel.Overload(
            f"perdure {name}",
            return_type=type_of[returns],
            parameters=[type_of[each] for each in parameters],
            is_member=False,
        )
        return cel.FunctionDecl(name, [overload])

    functions = [declare(name, ["dyn", "dyn"], returns) for name, returns in _LOOSE_BINARY.items()]
    functions.append(declare("!_", ["dyn"], "bool"))
    functions.append(declare("_?_:_", ["dyn", "dyn", "dyn"], "dyn"))
    functions += [declare(name, parameters, returns) for name, (parameters, returns) in _EXTRA.items()]
    replaced = [*_LOOSE_BINARY, "!_", "_?_:_"]
    config = "stdlib:\n  exclude_functions:\n" + "".join(f'    - name: "{name}"\n' for name in replaced)
    return cel.NewEnv(
        config=cel.NewEnvConfigFromYaml(config),
        variables=dict.fromkeys(VARIABLES, cel.Type.DYN),
        functions=functions,
    )

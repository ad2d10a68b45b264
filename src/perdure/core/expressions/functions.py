"""The named functions: CEL's own and the extra ones of the dialect.

A function here never sees a missing value or an error: the evaluator answers for those (0 for `size`, else false).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import orjson

from perdure.core.expressions.syntax import Uint
from perdure.core.expressions.times import (
    TIMESTAMP_PARTS,
    parse_date,
    parse_duration,
    parse_timestamp,
    part_of,
)
from perdure.core.expressions.values import (
    INT_MAX,
    INT_MIN,
    NANOS,
    TYPES,
    UINT_MAX,
    Duration,
    Frame,
    Timestamp,
    Unknown,
    text_of,
    timestamp,
    type_name,
)
from perdure.errors import ExpressionError

MAX_PATTERN = 1_000
"""The longest regular expression, in characters."""

_DOUBLE = re.compile(r"[+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][+-]?\d{1,4})?", re.ASCII)
_INT = re.compile(r"[+-]?\d{1,25}", re.ASCII)

Function = Callable[..., object]


def _wrong(name: str, *args: object) -> Unknown:
    return Unknown(f"{name}({', '.join(type_name(arg) for arg in args)}) has no meaning")


def _size(value: Any) -> object:
    if type(value) in (str, list, dict, bytes):
        return len(value)
    return _wrong("size", value)


def _text_function(name: str, compute: Callable[[str, str], bool]) -> Function:
    def call(frame: Frame, text: object, part: object) -> object:
        if type(text) is not str or type(part) is not str:
            return _wrong(name, text, part)
        frame.spend(len(text) >> 6)
        return compute(text, part)

    return call


@lru_cache(maxsize=512)
def _pattern(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped, unused-ignore]

    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20  # bounds the compiled program
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        return Unknown(f"{pattern[:60]!r} is not a regular expression that RE2 accepts: {error}")


def _matches(frame: Frame, text: object, pattern: object) -> object:
    """RE2, as in CEL: time grows with text times program, which is what it costs here."""
    if type(text) is not str or type(pattern) is not str:
        return _wrong("matches", text, pattern)
    if len(pattern) > MAX_PATTERN:
        return Unknown(f"a regular expression has at most {MAX_PATTERN:,} characters")
    compiled = _pattern(pattern)
    if isinstance(compiled, Unknown):
        return compiled
    frame.spend((len(text) + 1) * compiled.programsize >> 5)
    try:
        return compiled.search(text) is not None
    except UnicodeEncodeError:
        return Unknown("the text is not valid Unicode")


def _int(value: Any) -> object:
    kind = type(value)
    if kind is float and math.isfinite(value):
        value = math.trunc(value)
    elif kind is str and _INT.fullmatch(value):
        value = int(value)
    elif kind is Timestamp:
        value = value.nanos // NANOS
    elif kind not in (int, Uint):
        return _wrong("int", value)
    return int(value) if INT_MIN <= value <= INT_MAX else Unknown("int() out of range")


def _uint(value: Any) -> object:
    kind = type(value)
    if kind is float and math.isfinite(value):
        value = math.trunc(value)
    elif kind is str and _INT.fullmatch(value):
        value = int(value)
    elif kind not in (int, Uint):
        return _wrong("uint", value)
    return Uint(value) if 0 <= value <= UINT_MAX else Unknown("uint() out of range")


def _double(value: Any) -> object:
    kind = type(value)
    if kind in (int, Uint, float):
        return (
            float(value)
            if INT_MIN <= value <= UINT_MAX or kind is float
            else Unknown("double() out of range")
        )
    if kind is str and _DOUBLE.fullmatch(value):
        return float(value)
    return _wrong("double", value)


def _string(frame: Frame, value: Any) -> object:
    if type(value) is bytes:
        try:
            return value.decode()
        except UnicodeDecodeError:
            return Unknown("the bytes are not valid UTF-8")
    return text_of(value, frame)


def _bytes(frame: Frame, value: Any) -> object:
    if type(value) is str:
        frame.spend(len(value) >> 6)
        return value.encode("utf-8", "surrogatepass")
    return value if type(value) is bytes else _wrong("bytes", value)


def _bool(value: object) -> object:
    if type(value) is bool:
        return value
    if value in ("true", "True", "TRUE", "t", "1") and type(value) is str:
        return True
    if value in ("false", "False", "FALSE", "f", "0") and type(value) is str:
        return False
    return _wrong("bool", value)


def _timestamp(value: Any) -> object:
    if type(value) is str:
        return parse_timestamp(value)
    if type(value) is int:
        return timestamp(value * NANOS)
    return value if type(value) is Timestamp else _wrong("timestamp", value)


def _duration(value: Any) -> object:
    if type(value) is str:
        return parse_duration(value)
    return value if type(value) is Duration else _wrong("duration", value)


def _letter_case(name: str, change: Callable[[str], str]) -> Function:
    def call(frame: Frame, text: object) -> object:
        if type(text) is not str:
            return _wrong(name, text)
        frame.spend(len(text) >> 4)
        return change(text)

    return call


def _b64decode(frame: Frame, text: object) -> object:
    """Standard base64 with padding; text that is none gives ""."""
    if type(text) is not str:
        return _wrong("b64decode", text)
    frame.spend(len(text) >> 4)
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True).decode(
            "utf-8", "replace"
        )
    except (binascii.Error, ValueError):
        return ""


def _json_parse(frame: Frame, text: object) -> object:
    """The JSON object in the text; anything else gives an empty map."""
    if type(text) is not str:
        return _wrong("json_parse", text)
    frame.spend(len(text) >> 4)
    try:
        parsed = orjson.loads(text)
    except ValueError:
        return {}
    return parsed if type(parsed) is dict else {}


def _now_nanos(frame: Frame) -> int:
    if frame.now_ms is None:
        raise ExpressionError("the expression asks for the time, which has no meaning here")
    return frame.now_ms * 1_000_000


def _now(frame: Frame) -> object:
    return timestamp(_now_nanos(frame))


def _now_shifted(name: str, sign: int) -> Function:
    def call(frame: Frame, text: object) -> object:
        if type(text) is not str:
            return _wrong(name, text)
        length = parse_duration(text, days_and_weeks=True)
        return timestamp(_now_nanos(frame) + sign * length.nanos) if isinstance(length, Duration) else length

    return call


def _part(name: str) -> Function:
    def call(value: object, zone: object = "UTC") -> object:
        return part_of(value, name, zone) if isinstance(zone, str) else _wrong(name, value, zone)

    return call


_WITH_FRAME: dict[str, Function] = {
    "contains": _text_function("contains", lambda text, part: part in text),
    "startsWith": _text_function("startsWith", str.startswith),
    "endsWith": _text_function("endsWith", str.endswith),
    "matches": _matches,
    "string": _string,
    "bytes": _bytes,
    "lowercase": _letter_case("lowercase", str.lower),
    "uppercase": _letter_case("uppercase", str.upper),
    "b64decode": _b64decode,
    "json_parse": _json_parse,
    "now": _now,
    "now_plus": _now_shifted("now_plus", 1),
    "now_minus": _now_shifted("now_minus", -1),
}

_OF_VALUES: dict[str, Function] = {
    "size": _size,
    "int": _int,
    "uint": _uint,
    "double": _double,
    "bool": _bool,
    "timestamp": _timestamp,
    "duration": _duration,
    "dyn": lambda value: value,
    "type": lambda value: TYPES[type_name(value)],
    "date": parse_date,
}
_OF_VALUES |= {name: _part(name) for name in TIMESTAMP_PARTS}


def function_named(name: str) -> Function | None:
    """The function as `f(frame, *values)`, the value before the dot first; None if there is none of that name."""
    of_values = _OF_VALUES.get(name)
    if of_values is None:
        return _WITH_FRAME.get(name)
    return lambda frame, *values: of_values(*values)  # noqa: ARG005

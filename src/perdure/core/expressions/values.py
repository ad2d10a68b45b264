"""The values an expression computes with, and how they turn into text.

JSON values stay what the JSON decoder made of them: None, bool, int, float, str, list, dict. CEL adds `Uint`,
bytes, `Timestamp`, `Duration` and `CelType`. `Unknown` is what is not there, or what could not be computed.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson

from perdure.core.expressions.syntax import Uint
from perdure.errors import ExpressionError

MAX_WORK = 100_000
"""Units of work one evaluation may do: a node evaluated in a loop, an element compared, 64 characters scanned.

It bounds an evaluation to about a tenth of a second, since it runs where everything else of the server waits for it,
and what `+` builds, at 16 characters a unit, to 1.6 MB.
"""

INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1
NANOS = 1_000_000_000
# years 0001 to 9999, the range of CEL's timestamp
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_PLAIN_INT = 10**40


class Unknown:
    """A missing attribute (`error` is None) or the error of a computation. Functions treat the two alike."""

    __slots__ = ("error",)

    def __init__(self, error: str | None = None) -> None:
        self.error = error


MISSING = Unknown()


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A point in time, in nanoseconds since 1970 UTC."""

    nanos: int

    def __str__(self) -> str:
        moment = self.to_datetime()
        return f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + _fraction(self.nanos % NANOS) + "Z"

    def to_datetime(self) -> datetime:
        """The UTC datetime; what is finer than a microsecond is cut off."""
        return _EPOCH + timedelta(microseconds=self.nanos // 1000)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    """A signed length of time in nanoseconds."""

    nanos: int

    def __str__(self) -> str:
        whole, rest = divmod(abs(self.nanos), NANOS)
        return f"{'-' if self.nanos < 0 else ''}{whole}{_fraction(rest)}s"


@dataclass(frozen=True, slots=True)
class CelType:
    """The value of `type(x)`."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class BoolKey:
    """A bool as the key of a map literal; Python would take a plain True for 1."""

    value: bool


class Frame:
    """One evaluation: its variables, its clock, the variables of its macros, and the work it may still do."""

    __slots__ = ("locals", "now_ms", "variables", "work")

    def __init__(self, variables: Mapping[str, object], now_ms: int | None, slots: int) -> None:
        self.variables = variables
        self.now_ms = now_ms
        self.locals: list[object] = [None] * slots
        self.work = MAX_WORK

    def spend(self, units: int) -> None:
        """Count work done. Raises ExpressionError when the limit is reached."""
        self.work -= units
        if self.work < 0:
            raise ExpressionError(
                f"the expression needs more than {MAX_WORK:,} units of work on this event; loop over less"
            )


def _fraction(nanos: int) -> str:
    return f".{nanos:09d}".rstrip("0").rstrip(".")


def timestamp(nanos: int) -> object:
    """A `Timestamp`, or an error outside the years 0001 to 9999."""
    if _FIRST_SECOND * NANOS <= nanos < (_LAST_SECOND + 1) * NANOS:
        return Timestamp(nanos)
    return Unknown("timestamp out of range")


def duration(nanos: int) -> object:
    """A `Duration`, or an error beyond what 64 bits of nanoseconds hold."""
    return Duration(nanos) if INT_MIN <= nanos <= INT_MAX else Unknown("duration out of range")


_TYPE_NAMES: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    CelType: "type",
}
TYPES = {name: CelType(name) for name in _TYPE_NAMES.values()}


def type_name(value: object) -> str:
    """CEL's name of the value's type."""
    return _TYPE_NAMES.get(type(value), "dyn")


def number_text(value: int | float) -> str:
    """Shortest text of a number; equal numbers give equal text, whether int or double."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return repr(value)
        if not value.is_integer():
            return repr(value)
        if abs(value) >= 1e21:
            return repr(value)
        value = int(value)
    return int.__repr__(value) if -_MAX_PLAIN_INT < value < _MAX_PLAIN_INT else hex(value)


def text_of(value: object, frame: Frame) -> str:
    """The text of any value, as `+` and `string()` write it; lists and maps are compact JSON."""
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | dict):
        return json_text(value, frame)
    return str(value)


def json_text(value: object, frame: Frame) -> str:
    """Compact JSON. Raises ExpressionError if the value is nested more deeply than JSON tools accept."""
    try:
        return orjson.dumps(plain(value, frame)).decode()
    except TypeError as error:
        raise ExpressionError(f"the value cannot be written as JSON: {error}") from None


def plain(value: object, frame: Frame) -> object:
    """The value as JSON data: timestamps and durations as text, bytes as base64, keys of maps as text.

    Every element counts as work, since a list may hold one list many times over.
    """
    if isinstance(value, list):
        frame.spend(len(value))
        return [plain(element, frame) for element in value]
    if isinstance(value, dict):
        frame.spend(len(value))
        return {_key_text(key): plain(element, frame) for key, element in value.items()}
    if isinstance(value, Timestamp | Duration | CelType):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Uint):
        return int(value)
    return value


def _key_text(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, BoolKey):
        return "true" if key.value else "false"
    return str(key)

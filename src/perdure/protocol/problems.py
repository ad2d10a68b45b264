"""Reading configuration with complaints: every mistake of a payload is found in one go, and told so that it
can be mended.

A `Section` is one JSON object of the configuration. Its readers give back the value, or complain and give
back a harmless one, so that reading goes on to the next mistake. Names are compared without regard to case,
and `null` is the same as nothing: SDKs differ in both.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from perdure.errors import ExpressionError
from perdure.protocol.durations import format_duration, parse_duration
from perdure.protocol.faults import explain, pointer
from perdure.protocol.payloads import json_string

CONFIG_INVALID = "config_invalid"

MAX_SHOWN = 200
"""How many characters of a wrong value are shown."""

MAX_NUMBER = 2**31 - 1
"""The largest number that a limit or a size may be: what GraphQL's Int holds."""


class Problem(msgspec.Struct, frozen=True, gc=False):
    """A mistake in the configuration of a function.

    `function` is its slug, `field` the path of the field (`batchEvents.maxSize`), `value` the JSON that
    stands there, `message` a sentence with field, value, limit and remedy (under one about an expression stand its
    line and a caret), `code` one of the protocol's words.
    """

    function: str
    field: str
    value: str
    message: str
    code: str


class Report:
    """Collects the problems of one function.

    `check_expression` raises `ExpressionError`, and `check_cron` ValueError, for a text that does not
    compile.
    """

    def __init__(
        self, function: str, check_expression: Callable[[str], None], check_cron: Callable[[str], None]
    ) -> None:
        self.function = function
        self.problems: list[Problem] = []
        self.check_expression = check_expression
        self.check_cron = check_cron

    def add(
        self, field: str, value: object, rule: str, code: str = CONFIG_INVALID, pointed: str = ""
    ) -> None:
        """Complain of the value of a field. `rule` says what it must be, and how to mend it.

        `pointed` are lines that point at the place.
        """
        shown = show(value)
        stands = "is missing" if value is None else f"is {shown}"
        message = f"{field} {stands}; {rule}." + (f"\n{pointed}" if pointed else "")
        self.problems.append(Problem(self.function, field, shown, message, code))


class Section:
    """A JSON object of a function's configuration; `path` is its name, empty for the function itself."""

    def __init__(self, report: Report, path: str, value: object, code: str = CONFIG_INVALID) -> None:
        self.report = report
        self.path = path
        self.code = code
        self.is_object = isinstance(value, dict)
        self.fields: dict[str, object] = {}
        if isinstance(value, dict):
            self.fields = {str(key).lower(): each for key, each in value.items() if each is not None}
        else:
            report.add(path, value, "it must be a JSON object", code)

    def name(self, key: str) -> str:
        """The full name of a field."""
        return f"{self.path}.{key}" if self.path else key

    def get(self, key: str) -> object:
        """The value of a field, None if it is not there."""
        return self.fields.get(key.lower())

    def complain(self, key: str, rule: str, code: str | None = None) -> None:
        """Complain of a field, unless the whole object has been complained of."""
        if self.is_object:
            self.report.add(self.name(key), self.get(key), rule, code or self.code)

    def section(self, key: str, code: str = CONFIG_INVALID) -> Section | None:
        """The object in a field, None if the field is not there."""
        value = self.get(key)
        return None if value is None else Section(self.report, self.name(key), value, code)

    def sections(self, key: str, code: str = CONFIG_INVALID) -> list[Section]:
        """The objects of an array; a single object counts as an array of one."""
        value = self.get(key)
        if value is None:
            return []
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list):
            self.complain(key, "it must be an array of objects", code)
            return []
        name = self.name(key)
        return [Section(self.report, f"{name}[{n}]", each, code) for n, each in enumerate(value)]

    def text(self, key: str) -> str | None:
        """A string, None if it is not there or empty."""
        value = self.get(key)
        if value is None or isinstance(value, str):
            return value or None
        self.complain(key, "it must be a string")
        return None

    def integer(self, key: str, minimum: int, default: int | None, code: str | None = None) -> int:
        """A whole number from `minimum` to `MAX_NUMBER`; a missing one is `default`, or a problem if that is None."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        number = whole_number(value)
        if number is not None and minimum <= number <= MAX_NUMBER:
            return number
        self.complain(key, f"it must be {whole_numbers(minimum, number)}", code)
        return minimum

    def duration(
        self,
        key: str,
        minimum: int,
        maximum: int | None = None,
        *,
        required: bool = False,
        code: str | None = None,
    ) -> int | None:
        """A duration in ms between the bounds.

        None if it is not there or empty, which is a problem if it is required.
        """
        value = self.get(key)
        if (value is None or value == "") and not required:
            return None
        bounds = f"of {format_duration(minimum)} or more"
        if maximum is not None:
            bounds = f"between {format_duration(minimum)} and {format_duration(maximum)}"
        try:
            ms = parse_duration(value.strip()) if isinstance(value, str) else None
        except ValueError:
            ms = None
        if ms is None or ms < minimum or (maximum is not None and ms > maximum):
            self.complain(key, f'it must be a duration {bounds}, written like "30s" or "1h30m"', code)
            return None
        return ms

    def expression(self, key: str, code: str | None = None) -> str | None:
        """A CEL expression, None if it is not there or empty."""
        text = self.text(key)
        if text is None:
            return None
        try:
            self.report.check_expression(text)
        except ExpressionError as error:
            rule = f"it does not compile: {explain(text, error)}"
            pointed = "" if error.position is None else pointer(text, error.position)
            self.report.add(self.name(key), text, rule, code or self.code, pointed)
        return text

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        """One of the words, the first if it is not there."""
        text = self.text(key)
        if text is None:
            return choices[0]
        word = text.lower()
        if word not in choices:
            self.complain(key, f"it must be one of {', '.join(choices)}")
            return choices[0]
        return word


def whole_number(value: object) -> int | None:
    """The value as an int, if it is one, or a float without a fraction; None otherwise."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def whole_numbers(minimum: int, given: int | None) -> str:
    """Which numbers are taken, in words; the upper bound only matters to who passed it."""
    if given is not None and given > MAX_NUMBER:
        return f"a whole number of {minimum} to {MAX_NUMBER}"
    return f"a whole number of {minimum} or more"


def show(value: object) -> str:
    """The value as JSON, shortened."""
    if isinstance(value, str):
        text = json_string(value).decode()
    else:
        try:
            text = msgspec.json.encode(value).decode()
        except (TypeError, ValueError, RecursionError):
            text = "a value that cannot be shown"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"

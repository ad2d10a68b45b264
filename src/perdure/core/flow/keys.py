"""Keys: the expression in front of a limit that says whose limit it is.

`event.data.user` gives every user a limit of their own. The expression is evaluated once, when the event is
scheduled, and its value stays with the run from then on: a key that is edited later does not move runs that
wait already. Any value will do. It is turned into text (a map with its keys in order, equal numbers alike), and
the id of the bucket is a digest of that text: short, of fixed length, free of anything secret, and safe in a
database key whatever the user's value holds.

Nothing an event carries can make a key fail loudly. A null, an attribute that is not there and an expression that
cannot be computed all share one bucket, the empty one (protocol, key expressions); `Key.problem` keeps the reason
so that it can be shown on the run. Two rules may also not apply at all. A rate limit and a singleton are left out
for an event whose key is `false`, or is not there: the reference server takes a missing attribute for false in
these places, and an event that happens to lack a field must not be dropped because another one lacked it too.
A `null` that is really in the event is a value like any other and shares the empty bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b

import msgspec
import orjson

from perdure.core.expressions import Expression, compile_expression
from perdure.core.expressions.values import number_text
from perdure.core.flow.stored import Stored
from perdure.errors import ExpressionError

ID_BYTES = 16
"""Length of a digest; its text is twice as long. Two values of one limit meet by chance once in 2^64 values."""

SHOWN = 120
"""Characters of a value that are kept for people."""


class Key(Stored, frozen=True):
    """The bucket of an event.

    `id` is what is compared and stored, `value` what people read (cut to `SHOWN` characters), `problem` why the
    expression could not be computed, if so. The empty `id` is the empty bucket, and that of a limit without key.
    """

    id: str = ""
    value: str = ""
    problem: str | None = None


EMPTY = Key()


class KeyExpression:
    """A key, compiled once. `text` is None for a limit without key: one bucket for all events.

    A text that does not compile (it was refused when the app was synced, but may have been stored by an older
    version) puts every event into the empty bucket and says so.
    """

    __slots__ = ("_expression", "_presence", "_problem", "text")

    def __init__(self, text: str | None) -> None:
        self.text = text
        self._expression: Expression | None = None
        self._presence: Expression | None = None
        self._problem: Key | None = None
        if text is not None:
            try:
                self._expression = compile_expression(text)
            except ExpressionError as error:
                self._problem = _failed(text, error)

    @property
    def shared(self) -> bool:
        """Whether all events have the same key, as far as the text shows."""
        return self.text is None or "event" not in self.text

    def bucket(self, event: Mapping[str, object], now: int) -> Key:
        """The bucket of an event, for limits that always apply."""
        expression = self._expression
        if expression is None:
            return self._problem or EMPTY
        try:
            value = expression.evaluate({"event": event}, now)
            if value is False and self._missing(event, now):
                return EMPTY
        except ExpressionError as error:
            return _failed(expression.text, error)
        return key_of(value)

    def bucket_if_any(self, event: Mapping[str, object], now: int) -> Key | None:
        """The bucket of an event, or None if the limit does not apply: the key is false or missing."""
        expression = self._expression
        if expression is None:
            return self._problem or EMPTY
        try:
            value = expression.evaluate({"event": event}, now)
        except ExpressionError as error:
            return _failed(expression.text, error)
        return None if value is False else key_of(value)

    def _missing(self, event: Mapping[str, object], now: int) -> bool:
        """Whether false stands for an attribute that is not there: of the two, only that one equals null."""
        if self._presence is None:
            # The line break ends a comment at the end of the text.
            self._presence = compile_expression(f"({self.text}\n) == null")
        return self._presence.is_true({"event": event}, now)


def key_of(value: object) -> Key:
    """The bucket of an expression's value."""
    if value is None:
        return EMPTY
    text = value if type(value) is str else _text(value)
    return _short_key(text) if len(text) <= SHOWN else Key(digest(text), text[: SHOWN - 1] + "…")


@lru_cache(maxsize=4_000)
def _short_key(text: str) -> Key:
    return Key(digest(text), text)


def digest(text: str) -> str:
    """The id of a text, in hexadecimal. The same in every version and process."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=ID_BYTES).hexdigest()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        # Integers beyond 64 bits, lone surrogates
        return msgspec.json.encode(value, order="deterministic").decode()


def _failed(text: str, error: ExpressionError) -> Key:
    return Key("", "", f"The key {text!r} could not be computed: {error.message}")

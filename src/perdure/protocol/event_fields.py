"""The fields of an event as a client writes them: their types, limits and defaults.

`data`, `user` and `meta` stay raw JSON. Every refusal is a `RequestError` 400 whose sentence names the field.
"""

from __future__ import annotations

import re

import msgspec

from perdure.errors import RequestError
from perdure.protocol.raw_json import UNREADABLE, kind, tidy
from perdure.protocol.sessions import fold_sessions

MAX_NAME_BYTES = 1024
"""Longest event name, and longest event id.

The documented limit of names is 512, which the reference server does not enforce. This one is there because both
are kept in indexes, and a B-tree of PostgreSQL takes no entry above some 2,700 bytes.
"""

MIN_TS = 315_532_800_000
"""1980-01-01, the first `ts` that is accepted."""

MAX_TS = 4_102_444_800_000
"""2100-01-01, the last `ts` that is accepted."""

OWN_KEY = b"_inngest"
"""The key of `data` that is the server's own, and is taken out of what clients send."""

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What the decoder raises for a text that is not JSON, or nested too deeply for it."""

ABSENT = msgspec.Raw(b"")
EMPTY_OBJECT = msgspec.Raw(b"{}")

_RESERVED = "inngest/"
_BEFORE = "timestamp is before Jan 1, 1980"
_AFTER = "timestamp is after Jan 1, 2100"
_WHOLE_NUMBER = re.compile(rb"-?[0-9]+")
_ESCAPED_LETTER = re.compile(rb"\\u00[567]")
_SHOWN = 40


class Fields(msgspec.Struct, gc=False):
    """An event as it is sent.

    Unknown fields are dropped, null is the same as absent, and of repeated fields the last one stands.
    """

    name: str | None = None
    data: msgspec.Raw = ABSENT
    id: str | None = None
    ts: int | None = None
    user: msgspec.Raw = ABSENT
    v: str | None = None
    meta: msgspec.Raw = ABSENT


_FIELDS = msgspec.json.Decoder(Fields)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER = msgspec.json.Encoder()
_EXPECTED = {
    "name": "a string",
    "data": "an object",
    "id": "a string",
    "ts": "a number",
    "user": "an object",
    "v": "a string",
    "meta": "an object",
}


def refused(message: str) -> RequestError:
    """The error of an event that cannot be accepted."""
    return RequestError(400, message)


def malformed(reason: str) -> RequestError:
    """The error of a body, or part of one, that is not JSON or cannot be passed on."""
    return RequestError(400, f"{UNREADABLE}: {reason}")


def read_fields(raw: bytes) -> Fields:
    """Read an event's fields. The text must be tidy (see `raw_json.tidy`)."""
    try:
        return _FIELDS.decode(raw)
    except msgspec.ValidationError as error:
        # The decoder stops at the first wrong type, so the text behind it may still be anything.
        reason = why_malformed(raw)
        raise malformed(reason) if reason else refused(_type_error(raw) or str(error)) from None
    except NOT_JSON as error:
        raise malformed(_reason(error)) from None


def why_malformed(raw: bytes) -> str | None:
    """What is wrong with a text that should have been an event; None if nothing is."""
    try:
        _OBJECT.decode(raw)
    except NOT_JSON as error:
        return _reason(error)
    return None


def tidied(raw: bytes) -> bytes:
    """The text, safe to be passed on."""
    try:
        return tidy(raw)
    except ValueError as error:
        raise malformed(str(error)) from None


def checked_name(name: str | None) -> str:
    """A name that a client may use."""
    if not name:
        raise refused("event name is empty")
    if name[:8].lower() == _RESERVED:
        raise refused(f"event name is reserved for internal use: {name}")
    _check_text(name, "name")
    return name


def checked_id(event_id: str) -> str:
    """An id that can be kept and compared."""
    _check_text(event_id, "id")
    return event_id


def checked_ts(ts: int) -> int:
    """A time between 1980 and 2100."""
    if ts < MIN_TS:
        raise refused(_BEFORE)
    if ts > MAX_TS:
        raise refused(_AFTER)
    return ts


def checked_data(raw: msgspec.Raw, clean: bool) -> msgspec.Raw:
    """`data` as it is delivered: `{}` if absent, and without the server's own key.

    `clean` says that the key cannot be in it.
    """
    data = checked_object(raw, "data")
    return data if clean else _without_own_key(data)


def checked_object(raw: msgspec.Raw, field: str) -> msgspec.Raw:
    """A field that must be an object; `{}` if it is null or absent."""
    if raw is ABSENT:
        return EMPTY_OBJECT
    text = bytes(raw)
    if text[:1] == b"{":
        return raw
    if text == b"null":
        return EMPTY_OBJECT
    raise refused(_wrong_type(field, text))


def checked_meta(raw: msgspec.Raw) -> bytes | None:
    """`meta` as it is delivered: sessions folded into one layer, None if there are none."""
    if raw is ABSENT or (meta := bytes(checked_object(raw, "meta"))) == b"{}":
        return None
    try:
        return fold_sessions(meta)
    except ValueError as error:
        raise refused(str(error)) from None


def _without_own_key(data: msgspec.Raw) -> msgspec.Raw:
    text = bytes(data)
    if OWN_KEY not in text and not _ESCAPED_LETTER.search(text):
        return data
    members = _OBJECT.decode(text)
    if members.pop(OWN_KEY.decode(), None) is None:
        return data
    return msgspec.Raw(_ENCODER.encode(members))


def _check_text(text: str, field: str) -> None:
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_NAME_BYTES:
        raise refused(f"event {field} is over the max size: Max {MAX_NAME_BYTES} bytes / Size {size} bytes")
    if "\0" in text:
        raise refused(f"event {field} contains a NUL character")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the text is not UTF-8"
    return str(error).removeprefix("JSON is malformed: ")


def _type_error(raw: bytes) -> str | None:
    """Which field has the wrong type, and why."""
    for field, value in _OBJECT.decode(raw).items():
        text = bytes(value)
        expected = _EXPECTED.get(field)
        if expected is None or text == b"null":
            continue
        if kind(text) != expected:
            return _wrong_type(field, text)
        if field == "ts" and not _WHOLE_NUMBER.fullmatch(text):
            return f'event field "ts" must be a whole number of milliseconds, not {text[:_SHOWN].decode()}'
        if field == "ts" and len(text) > len(str(MAX_TS)):
            return _BEFORE if text[:1] == b"-" else _AFTER
    return None


def _wrong_type(field: str, text: bytes) -> str:
    return f'event field "{field}" must be {_EXPECTED[field]}, not {kind(text)}'

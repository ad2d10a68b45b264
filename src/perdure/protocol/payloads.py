"""JSON that travels as bytes: checked once at the border, never decoded on the way.

An app's output goes from its answer into a row, and from there into the next call, as the bytes that came:
numbers keep their digits, objects their order. What is spliced into other JSON must therefore be JSON, and
valid UTF-8; these few functions see to that.
"""

from __future__ import annotations

import re

import msgspec

NULL = b"null"

_RAW: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)

# One escape sequence at a time, so that an escaped backslash before "ud800" is not taken for a surrogate.
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


_HEADROOM = 400
"""Levels of nesting that must be left: a payload is read again inside other JSON, and with more on the stack."""

TOO_DEEP = "the JSON nests too deeply; about 500 levels are taken"


class NestedTooDeeply(ValueError):
    """The JSON nests more levels than can safely be read where it is going (about 500)."""


def valid_utf8(body: bytes) -> bytes:
    """`body` itself if it is UTF-8, else a copy with U+FFFD in place of each bad sequence."""
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode("utf-8", "replace").encode()
    return body


def without_lone_surrogates(body: bytes) -> bytes:
    r"""`body` itself, or a copy where escapes of half a surrogate pair (`"\ud800"`) have become `\ufffd`.

    JavaScript writes such escapes for strings that are no valid text. No UTF-8 can hold them, and most JSON
    readers refuse them, so they are replaced once, where they enter.
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match.group(2) else match.group(0), body)


def json_text(body: bytes) -> bytes | None:
    """The JSON value in `body`, without space around it; None if it is not JSON.

    Raises `NestedTooDeeply`.
    """
    body = valid_utf8(body)
    try:
        value = _decoded(body)
        if value is None:
            mended = without_lone_surrogates(body)
            value = None if mended is body else _decoded(mended)
    except RecursionError:
        raise NestedTooDeeply(TOO_DEEP) from None
    if value is not None and nests_too_deeply(value):
        raise NestedTooDeeply(TOO_DEEP)
    return value


def nests_too_deeply(value: bytes) -> bool:
    """Whether a JSON value leaves too little of the interpreter's recursion limit to those who read it later."""
    if value.count(b"[") + value.count(b"{") <= _HEADROOM:
        return False
    try:
        _decoded(b"[" * _HEADROOM + without_lone_surrogates(value) + b"]" * _HEADROOM)
    except RecursionError:
        return True
    return False


def _decoded(body: bytes) -> bytes | None:
    try:
        return bytes(_RAW.decode(body))
    except msgspec.DecodeError:
        return None


def as_json(body: bytes) -> bytes:
    """`body` as a JSON value: JSON as it is, other text as a JSON string, nothing as `null`.

    JSON that nests too deeply to be checked counts as text.
    """
    try:
        value = json_text(body)
    except NestedTooDeeply:
        value = None
    if value is not None:
        return value
    if not body.strip():
        return NULL
    return json_string(body.decode("utf-8", "replace"))


def json_string(text: str) -> bytes:
    """`text` as a JSON string. Halves of surrogate pairs become question marks, for they cannot be encoded."""
    try:
        return msgspec.json.encode(text)
    except UnicodeEncodeError:
        return msgspec.json.encode(text.encode("utf-8", "replace").decode())


def unquoted(value: bytes) -> bytes | None:
    """The text inside a JSON string, as UTF-8; None if `value` is not a JSON string."""
    if value[:1] != b'"':
        return None
    try:
        return _STRING.decode(value).encode()
    except msgspec.DecodeError:
        return None


_STRING: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)

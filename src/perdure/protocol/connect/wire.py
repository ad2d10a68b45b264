"""Protocol buffers, as far as Connect needs them: messages as Structs with numbered fields.

A field's number and form stand beside it, as `Annotated[str, 1]`; integers name their form too. A field whose type
allows None is one with presence (`optional` in proto3, or a message within a message): None is "not there", and an
empty value is sent. Any other field that holds its zero is not sent. What is unknown, or known under another wire
type, is skipped. A message that comes twice in one place is merged, as the encoding asks: its bytes are joined.

Only the forms that Connect uses are here: text, bytes, truth values, integers, messages, and lists of text or of
messages. The rules are those of https://protobuf.dev/programming-guides/encoding/ and of Google's parser for what
is malformed: a number of more than ten bytes, a tag or a length of more than five, a field number 0, text that is
not UTF-8, groups that do not end.
"""

from __future__ import annotations

from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from perdure.errors import PerdureError

MAX_DEPTH = 100
"""Groups within groups, and messages within messages, as in Google's parser."""


class WireError(PerdureError):
    """The bytes are not a message of this kind. The text says what is wrong with them."""


class Message(msgspec.Struct, gc=False):
    """Root of all messages."""


class Form(IntEnum):
    """How a field's value is written."""

    TEXT = 0
    BYTES = 1
    BOOL = 2
    INT32 = 3
    INT64 = 4
    UINT32 = 5
    MESSAGE = 6
    TEXTS = 7
    MESSAGES = 8


_TEXT, _BYTES, _BOOL, _MESSAGE, _TEXTS = Form.TEXT, Form.BYTES, Form.BOOL, Form.MESSAGE, Form.TEXTS
_VARINTS = frozenset((Form.BOOL, Form.INT32, Form.INT64, Form.UINT32))
_BY_TYPE = {str: Form.TEXT, bytes: Form.BYTES, bool: Form.BOOL}
_MessageT = TypeVar("_MessageT", bound=Message)


class _Field(NamedTuple):
    name: str
    form: Form
    tag: bytes
    present: bool
    """Whether it has presence: its zero is sent, None is not."""
    message: type[Message]


class _Layout(NamedTuple):
    fields: tuple[_Field, ...]
    by_tag: dict[int, _Field]


_layouts: dict[type[Message], _Layout] = {}


def encode(message: Message) -> bytes:
    """The message's bytes, its fields in the order of their declaration."""
    parts: list[bytes] = []
    for name, form, tag, present, _ in (_layouts.get(type(message)) or _layout(type(message))).fields:
        value = getattr(message, name)
        if value is None or not (value or present):
            continue
        if form is _BYTES or form is _TEXT:
            data = value if form is _BYTES else value.encode()
        elif form is _MESSAGE:
            data = encode(value)
        elif form in _VARINTS:
            parts += (tag, varint(int(value)))
            continue
        else:
            for element in value:
                data = element.encode() if form is _TEXTS else encode(element)
                parts += (tag, varint(len(data)), data)
            continue
        length = len(data)
        parts += (tag, _SMALL[length] if length < 128 else varint(length), data)
    return b"".join(parts)


def decode(data: bytes, kind: type[_MessageT], depth: int = 0) -> _MessageT:
    """The message of this kind in `data`. Raises `WireError`.

    `depth` says how deep it lies within others.
    """
    if depth > MAX_DEPTH:
        raise WireError("messages are nested too deeply")
    layout = _layouts.get(kind) or _layout(kind)
    try:
        values = _read(data, layout.by_tag)
        for field in layout.fields:
            if field.form >= _MESSAGE and field.name in values and field.form is not _TEXTS:
                found = values[field.name]
                values[field.name] = (
                    decode(found, field.message, depth + 1)
                    if field.form is _MESSAGE
                    else [decode(part, field.message, depth + 1) for part in found]
                )
    except IndexError:
        raise WireError(f"{kind.__name__} is cut short") from None
    except UnicodeDecodeError as error:
        raise WireError(f"a text in {kind.__name__} is not UTF-8: {error.reason}") from None
    return kind(**values)


def _read(data: bytes, by_tag: dict[int, _Field]) -> dict[str, Any]:
    """The values of all known fields by name; messages as their bytes."""
    values: dict[str, Any] = {}
    at, end = 0, len(data)
    while at < end:
        tag = data[at]
        at += 1
        if tag >= 0x80:
            tag, at = _number(data, at - 1, 5)
        field = by_tag.get(tag)
        if field is None:
            at = _skip(data, at, tag, 0)
            continue
        form = field.form
        length = data[at]
        at += 1
        if length >= 0x80:
            length, at = _number(data, at - 1, 10 if form in _VARINTS else 5)
        if form in _VARINTS:
            values[field.name] = _integer(length, form)
            continue
        start, at = at, at + length
        if at > end:
            raise IndexError
        part = data[start:at]
        if form is _TEXT:
            values[field.name] = part.decode()
        elif form is _BYTES:
            values[field.name] = part
        elif form is _MESSAGE:
            values[field.name] = values.get(field.name, b"") + part
        else:
            values.setdefault(field.name, []).append(part.decode() if form is _TEXTS else part)
    return values


def varint(number: int) -> bytes:
    """A number in base 128, the lowest seven bits first; a negative one as its two's complement in 64 bits."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= 0xFFFF_FFFF_FFFF_FFFF
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL = [bytes((number,)) for number in range(128)]


def join_delimited(parts: list[bytes]) -> bytes:
    """Messages one after the other, each led by its length."""
    return b"".join([piece for part in parts for piece in (varint(len(part)), part)])


def split_delimited(data: bytes) -> list[bytes]:
    """What `join_delimited` has joined. Raises `WireError`."""
    found = []
    at, end = 0, len(data)
    try:
        while at < end:
            length, at = _number(data, at, 5)
            if at + length > end:
                raise IndexError
            found.append(data[at : at + length])
            at += length
    except IndexError:
        raise WireError("a bundle of messages is cut short") from None
    return found


def _number(data: bytes, at: int, most: int) -> tuple[int, int]:
    """A number of at most `most` bytes, and where it ends. One of five bytes is a tag or a length."""
    found = 0
    for shift in range(0, 7 * most, 7):
        byte = data[at]
        at += 1
        found |= (byte & 127) << shift
        if byte < 128:
            if most == 5 and found >= 1 << 32:
                break
            return found, at
    raise WireError("a number is too long")


def _integer(raw: int, form: Form) -> int | bool:
    if form is _BOOL:
        return raw & 0xFFFF_FFFF_FFFF_FFFF != 0
    bits = 64 if form is Form.INT64 else 32
    value = raw & (1 << bits) - 1
    return value - (1 << bits) if form is not Form.UINT32 and value >> (bits - 1) else value


def _skip(data: bytes, at: int, tag: int, depth: int) -> int:
    """Where the value of an unknown field ends, of which only the tag has been read."""
    if tag >> 3 == 0:
        raise WireError("field number 0")
    wire = tag & 7
    if wire == 0:
        return _number(data, at, 10)[1]
    if wire == 3:
        return _skip_group(data, at, tag >> 3, depth + 1)
    if wire == 2:
        length, at = _number(data, at, 5)
        at += length
    elif wire in (1, 5):
        at += 8 if wire == 1 else 4
    else:
        raise WireError("a group ends that has not begun" if wire == 4 else f"wire type {wire} is unknown")
    if at > len(data):
        raise IndexError
    return at


def _skip_group(data: bytes, at: int, number: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise WireError("groups are nested too deeply")
    while True:
        tag, at = _number(data, at, 5)
        if tag & 7 == 4:
            if tag >> 3 != number:
                raise WireError("a group ends that has not begun")
            return at
        at = _skip(data, at, tag, depth)


def _layout(kind: type[Message]) -> _Layout:
    """What the annotations of a message say, found out once."""
    fields = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner, number, *forms = get_args(hint)
        present = get_origin(inner) is UnionType
        if present:
            inner = next(part for part in get_args(inner) if part is not NoneType)
        form, message = _form(inner, forms)
        tag = varint(number << 3 | (0 if form in _VARINTS else 2))
        fields.append(_Field(name, form, tag, present, message))
    by_tag = {_number(field.tag, 0, 5)[0]: field for field in fields}
    layout = _layouts[kind] = _Layout(tuple(fields), by_tag)
    return layout


def _form(inner: Any, forms: list[Form]) -> tuple[Form, type[Message]]:
    if forms:
        return forms[0], Message
    if get_origin(inner) is list:
        element = get_args(inner)[0]
        return (Form.TEXTS, Message) if element is str else (Form.MESSAGES, element)
    found = _BY_TYPE.get(inner)
    return (Form.MESSAGE, inner) if found is None else (found, Message)

"""JSON that is passed on without being decoded: where its parts end, and whether it is safe to pass on.

Event data travels as bytes from socket to row and back, so nobody builds objects of it on the way in. That
leaves two jobs, which this file does on the bytes themselves.

**Splitting.** A request may be a long array that arrives in pieces. To find where an element ends it is
enough to follow strings and brackets; two regular expressions do that at C speed and come up for air once a
bracket. Whether the element is JSON at all is for the decoder to say, so a `}` that closes a `[` is not
noticed here: the element then ends too early or too late, and cannot be decoded either way. Nothing is
scanned twice, however small the pieces are.

**Hygiene.** `msgspec.Raw` checks the grammar of what it skips, but not all that a later reader may stumble
over. Four things are left: bytes that are not UTF-8 and numbers that no double holds are refused, halves of
surrogate pairs (which are not characters; some SDKs refuse them) become U+FFFD, as in the reference server,
and brackets nested deeper than a reader could follow are refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import isinf

import msgspec

from perdure.protocol.payloads import without_lone_surrogates

MAX_NESTING = 500
"""Deepest nesting of brackets that is accepted. Readers in Python stop at about 1,000 frames in all."""

NOT_EVENTS = "Request body must contain an event object or an array of event objects"
UNREADABLE = "Request body is not readable JSON"

_WHITESPACE = re.compile(rb"[ \t\n\r]*+")
_PLAIN = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_STRING_REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_QUOTE = 0x22
_COMMA = 0x2C
_OPEN_LIST, _CLOSE_LIST = 0x5B, 0x5D
_OPEN_OBJECT = 0x7B
_OPENING = frozenset((_OPEN_OBJECT, _OPEN_LIST))

_START, _FIRST, _NEXT, _ELEMENT, _AFTER, _END = range(6)

_NUMBER = re.compile(rb'"(?:[^"\\]++|\\.)*+"|([0-9][0-9.eE+-]*+)', re.DOTALL)
_DIGITS_AS_ZERO = bytes.maketrans(b"123456789E", b"000000000e")
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_TRIES = 4
_NO_KIND = "something else"
_LONG_RUN = 210
"""Digits from which an exponent of two digits is enough for infinity."""


class Element(msgspec.Struct, frozen=True, gc=False):
    """An object of a request body.

    `raw` are its bytes, or None if there were more than were wanted; `size` counts them in any case. `deep`
    says that its brackets are nested deeper than MAX_NESTING.
    """

    raw: bytes | None
    size: int
    deep: bool


class Splitter:
    """Cuts a JSON body that arrives in pieces, one object or an array of objects, into those objects.

    `fault` is a sentence once the body can be neither; objects found before stay good. `single` says that the
    body is one object. An object longer than `max_size` bytes is measured but not kept.
    """

    def __init__(self, max_size: int) -> None:
        self.fault: str | None = None
        self.single = False
        self._max_size = max_size
        self._state = _START
        self._buffer = bytearray()
        self._at = 0
        self._start = 0
        self._dropped = 0
        self._depth = 0
        self._deepest = 0
        self._in_string = False

    def feed(self, piece: bytes) -> Iterator[Element]:
        """Take the next piece and give the objects that it completes. Exhaust it before the next call."""
        self._buffer += piece
        tried = False
        while self.fault is None:
            if self._state == _ELEMENT:
                if not self._find_end():
                    break
                yield self._cut()
                self._state = _END if self.single else _AFTER
            self._at = _WHITESPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at == len(self._buffer):
                break
            if self._state in (_FIRST, _NEXT) and not tried:
                tried = True
                yield from self._cut_many()
                continue
            self._take(self._buffer[self._at])
        self._forget()

    def end(self) -> bytes | None:
        """The body has ended: sets `fault` if that was too early.

        Gives what there is of an unfinished object, for a decoder to say what is wrong with it.
        """
        if self.fault is not None or self._state in (_START, _END):
            return None
        self.fault = f"{UNREADABLE}: the text ends too early"
        return bytes(self._buffer) if self._state == _ELEMENT and not self._dropped else None

    def _take(self, char: int) -> None:
        """Move on by one character between objects."""
        if char == _OPEN_OBJECT and self._state in (_START, _FIRST, _NEXT):
            self.single = self._state == _START
            self._start, self._depth, self._deepest, self._dropped = self._at, 0, 0, 0
            self._state = _ELEMENT
            return
        if char == _OPEN_LIST and self._state == _START:
            self._state = _FIRST
        elif char == _CLOSE_LIST and self._state in (_FIRST, _AFTER):
            self._state = _END
        elif char == _COMMA and self._state == _AFTER:
            self._state = _NEXT
        else:
            self.fault = _fault(self._state, char)
            return
        self._at += 1

    def _find_end(self) -> bool:
        """Go to the end of the object that `_at` is in; False if it has not come yet."""
        buffer, at, depth = self._buffer, self._at, self._depth
        size = len(buffer)
        if self._in_string:
            at = _STRING_REST.match(buffer, at).end()  # type: ignore[union-attr]
            if at == size or buffer[at] != _QUOTE:
                self._at = at
                return False
            self._in_string = False
            at += 1
        while True:
            at = _PLAIN.match(buffer, at).end()  # type: ignore[union-attr]
            if at == size:
                break
            char = buffer[at]
            at += 1
            if char == _QUOTE:
                self._in_string = True
                at = _STRING_REST.match(buffer, at).end()  # type: ignore[union-attr]
                break
            if char in _OPENING:
                depth += 1
                self._deepest = max(self._deepest, depth)
            else:
                depth -= 1
                if depth == 0:
                    break
        self._at, self._depth = at, depth
        return depth == 0

    def _cut(self) -> Element:
        size = self._dropped + self._at - self._start
        raw = bytes(memoryview(self._buffer)[self._start : self._at]) if size <= self._max_size else None
        return Element(raw, size, self._deepest > MAX_NESTING)

    def _cut_many(self) -> list[Element]:
        """Cut all objects that are complete from here on at once, if msgspec finds that they are.

        If a text between brackets is a JSON array, then its elements can only be those of the whole: so the
        last few places that look like an end of an object are tried. Nothing depends on success.
        """
        last = len(self._buffer)
        for _ in range(_TRIES):
            last = self._buffer.rfind(b"},", self._at, last)
            if last < 0:
                break
            try:
                found = _ARRAY.decode(b"[" + self._buffer[self._at : last + 1] + b"]")
            except (msgspec.DecodeError, RecursionError):
                continue
            raws = [bytes(raw) for raw in found]
            if not all(raw[:1] == b"{" and len(raw) <= self._max_size for raw in raws):
                break
            self._at = last + 1
            self._state = _AFTER
            return [Element(raw, len(raw), nests_too_deep(raw)) for raw in raws]
        return []

    def _forget(self) -> None:
        """Let go of what is done with, and of an object that is too long."""
        keep = self._at
        if self._state == _ELEMENT and not self._dropped and self._at - self._start <= self._max_size:
            keep = self._start
        if self._state == _ELEMENT:
            self._dropped += keep - self._start
            self._start = 0
        del self._buffer[:keep]
        self._at -= keep


def _fault(state: int, char: int) -> str:
    shown = ascii(chr(char))
    if state == _START:
        return NOT_EVENTS
    if state == _AFTER:
        return f"{UNREADABLE}: {shown} stands where a comma or the end of the array was expected"
    if state == _END:
        return f"{UNREADABLE}: text follows after the end, beginning with {shown}"
    if (found := kind(bytes((char,)))) != _NO_KIND:
        return f"an event must be an object, not {found}"
    return f"{UNREADABLE}: {shown} stands where an object was expected"


def kind(raw: bytes) -> str:
    """What a JSON value is, told by its first character: `an object`, `a number`, …"""
    return _KINDS.get(raw[:1], _NO_KIND)


_KINDS = {
    b"{": "an object",
    b"[": "an array",
    b'"': "a string",
    b"n": "null",
    b"t": "a boolean",
    b"f": "a boolean",
}
_KINDS |= dict.fromkeys((b"-", b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9"), "a number")


def nests_too_deep(raw: bytes) -> bool:
    """Whether the brackets of a JSON value go deeper than MAX_NESTING. Counts them only if there are as many."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_NESTING:
        return False
    at = depth = deepest = 0
    while (at := _PLAIN.match(raw, at).end()) < len(raw) and raw[at] != _QUOTE:  # type: ignore[union-attr]
        depth += 1 if raw[at] in _OPENING else -1
        deepest = max(deepest, depth)
        at += 1
    return deepest > MAX_NESTING


def is_tidy(raw: bytes) -> bool:
    """Whether `tidy` would certainly leave a text as it is. Cheap; False need not mean that it would not."""
    return raw.isascii() and b"\\u" not in raw and not _may_overflow(raw)


def tidy(raw: bytes) -> bytes:
    """A JSON text with half surrogate pairs replaced; the same object if there are none.

    Raises ValueError with a sentence if the text is not UTF-8, or holds a number beyond the range of a
    double.
    """
    if not raw.isascii():
        try:
            str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"the text is not UTF-8 (byte {error.start}: 0x{raw[error.start]:02x})"
            ) from None
    if _may_overflow(raw):
        for match in _NUMBER.finditer(raw):
            if match[1] and _overflows(match[1]):
                shown = match[1][:20].decode() + ("…" if len(match[1]) > 20 else "")
                raise ValueError(f"the number {shown} is too large")
    return without_lone_surrogates(raw)


def _may_overflow(raw: bytes) -> bool:
    """Whether a number with an exponent of three digits, or with very many digits, might be in a text."""
    flat = raw.translate(_DIGITS_AS_ZERO)
    if b"0e000" in flat or b"0e+000" in flat:
        return True
    return len(raw) >= _LONG_RUN and b"0" * _LONG_RUN in flat


def _overflows(number: bytes) -> bool:
    try:
        return isinf(float(number))
    except ValueError:
        return False  # not JSON: the decoder says so

"""Signatures of calls and answers, and the keys behind them.

A signature is an HMAC over the canonical form of a JSON body (RFC 8785: keys in UTF-16 order, numbers as
JavaScript prints them, no spaces, as few escapes as can be) followed by the time in decimal. Calls are sent
as the bytes that were stored, not in canonical form: the SDKs bring what they receive into canonical form
themselves before they compare. So only the meaning of the body has to survive, and numbers mean what a double
means: 2^60 is signed as `1152921504606847000`, `1.0` as `1`.

Two uses of one key must not be mixed up: the HMAC is keyed with the *text* of the key without its prefix,
while the bearer token is the hash of the *bytes* which that text spells in hex.

**How the canonical form is made.** The C encoder of `json` already writes it, except for four things, and
each of these is taken care of where it costs nothing when absent: integers beyond 2^53 and integral floats
become, while they are parsed, the integer whose digits JavaScript would print; floats below 1e-4 and infinite
ones, whose text the encoder would write differently, send the body through a slower writer in Python; so do
characters beyond U+FFFF, next to which the order of code points and of UTF-16 units differ; half a surrogate
pair is written as its escape, as `JSON.stringify` does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from json.encoder import encode_basestring
from typing import Any

MAX_AGE_S = 300
"""How old, or how far ahead, a signature may be, in seconds (as in the official SDKs)."""

_PREFIX = re.compile(r"signkey-\w+-", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_SIGNATURE = re.compile(r"t=([0-9]{1,15})&s=([0-9a-f]{64})")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89abAB]")
_FOUR_BYTE_LEADS = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")
_SAFE_DIGITS = 15
_EXPONENT_FROM = 1e21
_REPR_EXPONENT_BELOW = 1e-4


def sign(body: bytes, key: str, now_s: int) -> str:
    """The `X-Inngest-Signature` header of a body: `t=<unix seconds>&s=<hex>`.

    An empty body (of a GET) is signed as it is, and so is one that is not JSON.
    """
    try:
        message = canonicalize(body)
    except ValueError:
        message = body
    return f"t={now_s}&s={_mac(message, key, str(now_s))}"


def verify(body: bytes, header: str, keys: Sequence[str], now_s: int, max_age_s: int = MAX_AGE_S) -> bool:
    """Whether a signature header fits a body under one of the keys, and is at most `max_age_s` seconds off.

    SDKs sign their answers as sent, calls are signed in canonical form: either is accepted. Compares in
    constant time.
    """
    match = _SIGNATURE.fullmatch(header)
    if match is None or abs(now_s - int(match[1])) > max_age_s:
        return False
    messages = [body]
    with suppress(ValueError):
        messages.append(canonicalize(body))
    fits = False
    for key in keys:
        for message in messages:
            fits |= hmac.compare_digest(_mac(message, key, match[1]), match[2])
    return fits


def hash_signing_key(key: str) -> str:
    """The hashed form of a signing key, which SDKs send as bearer token; a prefix `signkey-<word>-` is kept.

    Raises ValueError if the rest is not hex.
    """
    secret = _secret(key)
    if not _HEX.fullmatch(secret):
        raise ValueError(
            "The signing key is not hex: after an optional prefix signkey-<word>- come pairs of 0-9, a-f."
        )
    return key[: len(key) - len(secret)] + hashlib.sha256(bytes.fromhex(secret)).hexdigest()


def valid_signing_key(key: str) -> bool:
    """Whether a key can be hashed as well as signed with: an optional prefix, then pairs of hex digits."""
    return _HEX.fullmatch(_secret(key)) is not None


def bearer_matches(token: str, keys: Sequence[str]) -> bool:
    """Whether a bearer token is one of the keys, plain or hashed, with or without prefix. Compares in
    constant time.

    A key that is not hex has no hashed form: it is matched by its plain text only.
    """
    given = _secret(token).encode("utf-8", "surrogatepass")
    matches = False
    for key in keys:
        secret = _secret(key)
        matches |= bool(secret) and hmac.compare_digest(given, secret.encode("utf-8", "surrogatepass"))
        if _HEX.fullmatch(secret):
            matches |= hmac.compare_digest(given, hashlib.sha256(bytes.fromhex(secret)).hexdigest().encode())
    return matches


def canonicalize(body: bytes) -> bytes:
    """The canonical form of a JSON text (RFC 8785); an empty text stays empty.

    Numbers are read as doubles; one beyond their range becomes `null`, as JavaScript writes infinity. Half a
    surrogate pair becomes its lower-case escape. Of repeated keys the last one stands. Raises ValueError if
    the text is not UTF-8, not JSON, or nested too deeply for the interpreter.
    """
    if not body:
        return body
    numbers = _Numbers()
    try:
        value = numbers.decoder.decode(body.decode("utf-8"))
        slowly = numbers.odd or _may_have_astral(body)
        canonical = "".join(_write(value)) if slowly else _ENCODER.encode(value)
    except RecursionError:
        raise ValueError("The JSON text is nested too deeply to be signed.") from None
    return canonical.encode("utf-8", "backslashreplace")


_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))


class _Numbers:
    """Reads numbers so that the C encoder writes them as JavaScript does; notes one that is too odd for it."""

    def __init__(self) -> None:
        self.odd = False
        self.decoder = json.JSONDecoder(
            parse_float=self._float, parse_int=self._int, parse_constant=_refuse_constant
        )

    def _int(self, digits: str) -> int | float:
        if len(digits) <= _SAFE_DIGITS:
            return int(digits)
        return self._float(digits)

    def _float(self, digits: str) -> int | float:
        value = float(digits)
        size = abs(value)
        if size < _EXPONENT_FROM and value.is_integer():
            return int(_es6(value))
        if size < _REPR_EXPONENT_BELOW or size == float("inf"):
            self.odd = True
        return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON.")


def _may_have_astral(body: bytes) -> bool:
    """Whether a character beyond U+FFFF may be in a JSON text, as four bytes or as a pair of escapes."""
    if any(lead in body for lead in _FOUR_BYTE_LEADS):
        return True
    return b"\\u" in body and _SURROGATE_ESCAPE.search(body) is not None


def _write(value: Any) -> Iterator[str]:
    """Write parsed JSON as RFC 8785 says, whatever is in it."""
    if isinstance(value, dict):
        opening = "{"
        for key in sorted(value, key=_utf16):
            yield f"{opening}{encode_basestring(key)}:"
            yield from _write(value[key])
            opening = ","
        yield "}" if value else "{}"
    elif isinstance(value, list):
        opening = "["
        for item in value:
            yield opening
            yield from _write(item)
            opening = ","
        yield "]" if value else "[]"
    elif isinstance(value, float):
        yield _es6(value)
    else:
        yield _ENCODER.encode(value)


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _es6(value: float) -> str:
    """A double as ECMAScript's Number::toString writes it; infinity as JSON.stringify does."""
    if value in (float("inf"), float("-inf")):
        return "null"
    if value == 0:
        return "0"
    sign, size = ("-", -value) if value < 0 else ("", value)
    mantissa, _, exponent = f"{size!r}".partition("e")
    whole, _, decimals = mantissa.partition(".")
    padded = whole + decimals
    digits = padded.lstrip("0")
    point = len(whole) + int(exponent or "0") - (len(padded) - len(digits))
    digits = digits.rstrip("0")
    return sign + _place_point(digits, point)


def _place_point(digits: str, point: int) -> str:
    """Write digits with the decimal point after the first `point` of them, as ECMAScript does."""
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    exponent = point - 1
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{'+' if exponent > 0 else '-'}{abs(exponent)}"


def _secret(key: str) -> str:
    match = _PREFIX.match(key)
    return key[match.end() :] if match else key


def _mac(message: bytes, key: str, timestamp: str) -> str:
    mac = hmac.new(_secret(key).encode("utf-8", "surrogatepass"), message, hashlib.sha256)
    mac.update(timestamp.encode())
    return mac.hexdigest()

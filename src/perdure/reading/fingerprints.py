"""Fingerprints of failures: what is the same about errors that differ only in whom they met.

A fingerprint is made of an error's name, its message without numbers, ids and addresses, and the place in the
author's own code that raised it. Line numbers are left out of the place: an edit above it does not make it another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

import msgspec

from perdure.reading.outputs import ErrorText

GONE = "#"
"""What stands where a number or an id was."""
MAX_READ = 4_000
"""Characters of a message that are looked at."""
MAX_PATTERN = 300
"""Characters of a message without its values that count."""
MAX_STACK = 64_000
LONG_ID = 16
"""A word of so many characters with a digit in it is an id as a whole, whatever else is in it."""

_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_UUID = re.compile(r"(?i)(?<![\w-])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![\w-])")
_HEX = re.compile(r"(?i)(?<![\w-])[0-9a-f]{8,}(?![\w-])")
_WORD = re.compile(r"[\w-]+")
_DIGIT = re.compile(r"\d")
_PARTS = re.compile(r"[_-]+")
_JOINED = re.compile(rf"{GONE}(?:[-_.,:+]+{GONE})+")

_PYTHON = re.compile(r'^\s*File "([^"]+)", line \d+, in (.+)$')
_JAVASCRIPT = re.compile(r"^\s*at (?:async )?(?:(.+?) )?\(?((?:file://|node:)?[^()\s]+?)(?::\d+){1,2}\)?$")
_GO = re.compile(r"^\s+(\S+\.go):\d+")
_FOREIGN = ("site-packages", "dist-packages", "node_modules", "node:", "<frozen ", "<string>", "perdure/sdk/")
_LIBRARY = re.compile(r"/lib/python\d|/go/pkg/mod/|/usr/local/go/|/internal/(?:modules|process)/")


class Fingerprint(msgspec.Struct, frozen=True):
    """What errors of one kind have in common. `frame` is where they were raised, empty if no stack says so."""

    id: str
    name: str
    pattern: str
    frame: str


def fingerprint(error: ErrorText) -> Fingerprint:
    """The fingerprint of an error."""
    pattern = without_values(error.message or (error.stack or "" if not _frames(error.stack) else ""))
    frame = top_own_frame(error.stack)
    told = "\0".join((error.name, pattern, frame)).encode("utf-8", "surrogatepass")
    return Fingerprint(hashlib.blake2b(told, digest_size=8).hexdigest(), error.name, pattern, frame)


def without_values(message: str) -> str:
    """A message with `#` in place of numbers, ids and addresses, in one line."""
    text = _ADDRESS.sub(GONE, message[:MAX_READ])
    text = _HEX.sub(GONE, _UUID.sub(GONE, text))
    text = _WORD.sub(lambda found: _word(found.group()), text)
    return " ".join(_JOINED.sub(GONE, text).split())[:MAX_PATTERN]


def _word(word: str) -> str:
    if not _DIGIT.search(word):
        return word
    if len(word) >= LONG_ID:
        return GONE
    separator = "-" if "-" in word else "_"
    return separator.join(GONE if _DIGIT.search(part) else part for part in _PARTS.split(word))


def top_own_frame(stack: str | None) -> str:
    """File and function of the innermost frame that is the author's, or that of a library if none is.

    Reads tracebacks of Python, and stacks of JavaScript and Go. Empty if there is none.
    """
    frames = _frames(stack)
    own = next((frame for frame in frames if not _foreign(frame[0])), None)
    chosen = own or (frames[0] if frames else None)
    if chosen is None:
        return ""
    path, function = chosen
    short = "/".join(path.replace("\\", "/").split("?")[0].split("/")[-2:])
    return f"{short} in {function}" if function else short


def _foreign(path: str) -> bool:
    slashed = path.replace("\\", "/")
    return any(mark in slashed for mark in _FOREIGN) or _LIBRARY.search(slashed) is not None


def _frames(stack: str | None) -> list[tuple[str, str]]:
    """File and function of each frame, the innermost first."""
    if not stack:
        return []
    lines = stack[-MAX_STACK:].splitlines()
    python = list(_matches(_PYTHON, lines))
    if python:
        return [(found[1], found[2]) for found in reversed(python)]
    javascript = list(_matches(_JAVASCRIPT, lines))
    if javascript:
        return [(found[2], found[1] or "") for found in javascript]
    return [(found[1], "") for found in _matches(_GO, lines)]


def _matches(pattern: re.Pattern[str], lines: Iterable[str]) -> Iterable[re.Match[str]]:
    return (found for line in lines if (found := pattern.match(line)) is not None)

"""Text for a terminal: pieces with a tone, their width in columns, durations and times.

Whatever comes from an app may hold control characters; they are shown as a mark and never sent to the terminal.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from datetime import datetime, tzinfo
from typing import Literal, NamedTuple

Tone = Literal["", "strong", "dim", "good", "bad", "busy"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_SPACE = re.compile(r"\s+")

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Piece(NamedTuple):
    """A bit of a line, all of one tone."""

    text: str
    tone: Tone = ""


Line = list[Piece]


def line(*pieces: Piece | str) -> Line:
    """A line of pieces; plain text has no tone."""
    return [Piece(piece) if isinstance(piece, str) else piece for piece in pieces]


def plain(pieces: Line) -> str:
    """A line without its tones."""
    return "".join(piece.text for piece in pieces).rstrip()


def clean(text: str) -> str:
    """Text on one line, without what would move the cursor or hide what stands there."""
    return _CONTROL.sub("\ufffd", _SPACE.sub(" ", text))


def columns(text: str) -> int:
    """How many columns a text takes: East Asian wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def cut(text: str, width: int) -> str:
    """Text of at most so many columns; `…` stands for what was left out at its end."""
    # So much longer than the width, it need not be looked at to its end.
    text = clean(text[: 4 * width + 64]) if len(text) > 4 * width + 64 else clean(text)
    return text if columns(text) <= width else _shortened(text, width)


def _shortened(text: str, width: int) -> str:
    kept, used = [], 0
    for char in text:
        used += columns(char)
        if used > width - 1:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def padded(text: str, width: int) -> str:
    """Text filled up with spaces to so many columns."""
    return text + " " * (width - columns(text))


def fitted(pieces: Line, width: int) -> Line:
    """A line of at most so many columns."""
    kept: Line = []
    for piece in pieces:
        room = width - sum(columns(each.text) for each in kept)
        if columns(piece.text) > room:
            return [*kept, Piece(_shortened(piece.text, room), piece.tone)] if room > 0 else kept
        kept.append(piece)
    return kept


def wrapped(text: str, width: int, lines: int) -> list[str]:
    """Text over at most so many lines, the last one cut if there is more."""
    parts = textwrap.wrap(clean(text), max(width, 16), break_long_words=True)
    if len(parts) > lines:
        parts = [*parts[: lines - 1], cut(" ".join(parts[lines - 1 :]), max(width, 16))]
    return parts


def duration(ms: int) -> str:
    """A duration in seven columns at most: `6ms`, `1.05s`, `12.3s`, `2m 5s`, `1h 3m`, `4d 2h`, `400d`."""
    if ms < SECOND:
        return f"{ms}ms"
    if ms < 10 * SECOND:
        return f"{ms // 10 / 100:.2f}s"
    if ms < MINUTE:
        return f"{ms // 100 / 10:.1f}s"
    for unit, size, small, part in (("m", MINUTE, "s", SECOND), ("h", HOUR, "m", MINUTE)):
        if ms < 60 * size and (unit == "m" or ms < DAY):
            return f"{ms // size}{unit} {ms % size // part}{small}"
    return f"{ms // DAY}d {ms % DAY // HOUR}h" if ms < 100 * DAY else f"{ms // DAY}d"


def age(ms: int) -> str:
    """How long ago, in one unit and four columns: `now`, `12s`, `3m`, `2h`, `5d`."""
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)):
        if ms >= size:
            return f"{ms // size}{unit}"
    return "now"


def date_and_time(ms: int, zone: tzinfo | None) -> str:
    """A moment (ms since the epoch) in a time zone; None is that of the machine."""
    moment = datetime.fromtimestamp(ms / SECOND, zone).astimezone(zone)
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z").rstrip()


def clock_time(ms: int, now: int, zone: tzinfo | None) -> str:
    """A moment as briefly as it can be told: the time of day, with the date if it is not that of `now`."""
    moment = datetime.fromtimestamp(ms / SECOND, zone)
    same = moment.date() == datetime.fromtimestamp(now / SECOND, zone).date()
    return moment.strftime("%H:%M:%S" if same else "%Y-%m-%d %H:%M")


def table(rows: Sequence[Sequence[Piece]], right: frozenset[int] = frozenset(), gap: int = 2) -> list[Line]:
    """Rows in columns as wide as they need; those in `right` are set flush right, the last one runs free."""
    if not rows:
        return []
    widths = [max(columns(row[n].text) for row in rows) for n in range(len(rows[0]))]
    lines = []
    for row in rows:
        pieces: Line = []
        for n, piece in enumerate(row):
            space = " " * (widths[n] - columns(piece.text))
            last = n == len(row) - 1
            if n in right:
                pieces.append(Piece(space + piece.text, piece.tone))
            else:
                pieces += [piece] if last else [piece, Piece(space)]
            if not last:
                pieces.append(Piece(" " * gap))
        lines.append(pieces)
    return lines

"""Durations and times in the texts that SDKs send.

A duration is a series of numbers with units, as Go writes them, with days and weeks besides: `1d12h`, `30s`,
`1.5h`. A time is RFC 3339. Both end up as whole milliseconds, cut towards the past: a sleep of 1.9 ms is one
of 1 ms.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY

MAX_DURATION = (2**63 - 1) // 1_000_000
"""Longest duration that can be written, in ms: what 64 bits of nanoseconds hold, as in the reference server."""

MIN_RETRY_AFTER = 1 * SECOND
"""Shortest wait that a `Retry-After` can ask for, in ms."""

MAX_RETRY_AFTER = 24 * HOUR
"""Longest wait that a `Retry-After` can ask for, in ms."""

_NANOS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign
    "\u03bcs": 1_000,  # Greek mu
    "ms": 1_000_000,
    "s": 1_000_000 * SECOND,
    "m": 1_000_000 * MINUTE,
    "h": 1_000_000 * HOUR,
    "d": 1_000_000 * DAY,
    "w": 1_000_000 * WEEK,
}
_UNIT = "ns|us|\u00b5s|\u03bcs|ms|s|m|h|d|w"
_PART = re.compile(rf"([0-9]+)(?:\.([0-9]*))?({_UNIT})|\.([0-9]+)({_UNIT})")
_DURATION = re.compile(rf"([+-]?)((?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:{_UNIT}))+)")
_SHOWN = (("w", WEEK), ("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1))
_LONGEST_TEXT = 64

_TIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
_LOOKS_LIKE_TIME = re.compile(r"[0-9]{4}-[0-9]")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_SHORT = 7


def parse_duration(text: str) -> int:
    """Milliseconds of a duration like `1d12h`, `1.5h`, `300ms`, `-2s` or `0`.

    Units are ns, us (or µs), ms, s, m, h, d and w. Raises ValueError with a sentence that names the text.
    """
    match = _DURATION.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        if text in ("0", "+0", "-0"):
            return 0
        raise ValueError(
            f"{_shorten(text)} is not a duration; write numbers with units w, d, h, m, s or ms, like 1d12h or 30s."
        )
    nanos = 0
    for whole, tenths, unit, only_tenths, its_unit in _PART.findall(match[2]):
        size = _NANOS[unit or its_unit]
        fraction = tenths or only_tenths
        nanos += int(whole or "0") * size
        if fraction:
            nanos += int(fraction) * size // 10 ** len(fraction)
    ms = nanos // 1_000_000
    if ms > MAX_DURATION:
        raise ValueError(f"{_shorten(text)} is too long: a duration may last 292 years at most.")
    return -ms if match[1] == "-" else ms


def format_duration(ms: int) -> str:
    """A duration as text, largest unit first: 129600000 is `1d12h`, 0 is `0s`."""
    if ms == 0:
        return "0s"
    sign, rest = ("-", -ms) if ms < 0 else ("", ms)
    parts = []
    for unit, size in _SHOWN:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return sign + "".join(parts)


def parse_instant(text: str, now_ms: int) -> int:
    """The time (ms since the epoch) that a text names: a duration from now, or an RFC 3339 time.

    Raises ValueError with a sentence that names the text.
    """
    if _LOOKS_LIKE_TIME.match(text):
        return parse_time(text)
    try:
        return now_ms + parse_duration(text)
    except ValueError:
        raise ValueError(
            f"{_shorten(text)} is neither a duration (like 1d12h or 30s) nor a time (like 2027-01-31T09:00:00Z)."
        ) from None


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time, with any offset and up to nine decimals of a second.

    Raises ValueError with a sentence that names the text.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{_shorten(text)} is not a time; write it like 2027-01-31T09:00:00Z or 2027-01-31T10:00:00.5+01:00."
        )
    year, month, day, hour, minute, second, decimals, sign, off_hours, off_minutes = match.groups()
    offset = timedelta()
    if sign:
        offset = timedelta(hours=int(off_hours), minutes=int(off_minutes))
        if offset >= timedelta(hours=24) or int(off_minutes) > 59:
            raise ValueError(f"{_shorten(text)} is not a time: its offset must be below 24 hours.")
    parts = (int(year), int(month), int(day), int(hour), int(minute), int(second))
    try:
        moment = datetime(*parts, tzinfo=timezone(-offset if sign == "-" else offset)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{_shorten(text)} is not a time: {error}.") from None
    return (moment - _EPOCH) // _MILLISECOND + int((decimals or "0").ljust(3, "0")[:3])


def format_time(ms: int) -> str:
    """A time (ms since the epoch, years 1 to 9999) as RFC 3339 in UTC: `2026-11-24T10:12:03.170Z`."""
    moment = _EPOCH + timedelta(milliseconds=ms)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_retry_after(text: str, now_ms: int) -> int | None:
    """When a `Retry-After` header asks to be called again, in ms since the epoch; None if it cannot be read.

    Up to seven characters of an integer are seconds from now, and the resulting time is cut to the full
    second, as in the reference server; anything else is a date (RFC 3339, RFC 1123 and its older forms). The
    answer lies between one second and 24 hours from now.
    """
    text = text.strip()
    if len(text) <= _SHORT and _INTEGER.fullmatch(text):
        wanted = (now_ms + int(text) * SECOND) // SECOND * SECOND
    else:
        date = _parse_date(text)
        if date is None:
            return None
        wanted = date
    return min(max(wanted, now_ms + MIN_RETRY_AFTER), now_ms + MAX_RETRY_AFTER)


def _parse_date(text: str) -> int | None:
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        return parse_time(text)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MILLISECOND
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _shorten(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")

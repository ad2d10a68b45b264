"""Dates and durations in text, and the parts of a timestamp."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from perdure.core.expressions.values import (
    NANOS,
    Duration,
    Timestamp,
    Unknown,
    duration,
    timestamp,
)

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d{0,20})?(Z|z|[+-]\d\d:\d\d)?)?",
    re.ASCII,
)
_ZONE_NAME = re.compile(r"\b[A-Z]{3,4}\b")
_OTHER_FORMATS = (
    "%a, %d %b %Y %H:%M:%S UTC",
    "%a, %d %b %Y %H:%M:%S %z",
    "%d %b %y %H:%M UTC",
    "%d %b %y %H:%M %z",
    "%A, %d-%b-%y %H:%M:%S UTC",
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S UTC %Y",
    "%a %b %d %H:%M:%S %Y",
)
_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000}  # both signs for micro are in use
_UNITS |= {"s": NANOS, "m": 60 * NANOS, "h": 3600 * NANOS}
_LONG_UNITS = _UNITS | {"d": 86_400 * NANOS, "w": 7 * 86_400 * NANOS}
_TERM = re.compile(r"(\d{0,20})(?:\.(\d{0,20}))?([a-zµμ]+)", re.ASCII)
_YEAR_2000 = 946_684_800
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def parse_timestamp(text: str) -> object:
    """RFC 3339 with a zone, as CEL's `timestamp()` takes it."""
    found = _RFC3339.fullmatch(text)
    if found is None or not found[8]:
        return Unknown(f"{text[:40]!r} is not an RFC 3339 timestamp")
    return _from_rfc3339(found)


def parse_date(value: object) -> object:
    """`date()`: text in a usual format, or a number of seconds, milliseconds or nanoseconds since 1970.

    The unit of a number is told by its size. Numbers before the year 2000 are refused, since they are rarely dates.
    Without a zone, and with the name of any zone, the time counts as UTC.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _date_of_number(value)
    if not isinstance(value, str) or len(value) > 64:
        return Unknown("date() takes a text or a whole number")
    found = _RFC3339.fullmatch(value)
    return _from_rfc3339(found) if found else _parse_other(value)


def _date_of_number(value: int) -> object:
    if value < _YEAR_2000:
        return Unknown(f"date({value}) lies before the year 2000")
    if value < 9_999_999_999:
        return timestamp(value * NANOS)
    if value < 9_999_999_999_999:
        return timestamp(value * 1_000_000)
    return timestamp(value)


def _from_rfc3339(found: re.Match[str]) -> object:
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    try:
        days = date(year, month, day).toordinal() - _EPOCH_DAY
    except ValueError:
        return Unknown(f"{found[0]!r} is not a date of the calendar")
    if hour > 23 or minute > 59 or second > 59:
        return Unknown(f"{found[0]!r} is not a time of the day")
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - _offset_seconds(found[8])
    return timestamp(seconds * NANOS + int((found[7] or "").ljust(9, "0")))


def _offset_seconds(zone: str | None) -> int:
    if zone is None or zone in "Zz":
        return 0
    size = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return -size if zone[0] == "-" else size


def _parse_other(text: str) -> object:
    normal = _ZONE_NAME.sub("UTC", text)
    for form in _OTHER_FORMATS:
        try:
            moment = datetime.strptime(normal, form)
        except ValueError:
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
        return timestamp(seconds * NANOS)
    return Unknown(f"{text[:40]!r} is in no known format of a date")


def parse_duration(text: str, *, days_and_weeks: bool = False) -> object:
    """ "1h30m", "-1.5h", "300ms"; for `now_plus` and `now_minus` also "2d" and "1w"."""
    units = _LONG_UNITS if days_and_weeks else _UNITS
    sign, body = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if body == "0":
        return Duration(0)
    at = total = 0
    while at < len(body) <= 64:
        term = _TERM.match(body, at)
        if term is None or not (term[1] or term[2]) or term[3] not in units:
            break
        unit = units[term[3]]
        total += int(term[1] or 0) * unit
        if term[2]:
            total += int(term[2]) * unit // 10 ** len(term[2])
        at = term.end()
    if not body or at < len(body):
        return Unknown(f"{text[:40]!r} is not a duration such as '1h30m'")
    return duration(sign * total)


def zone_of(name: str) -> tzinfo | None:
    """A zone by offset ("+02:00", "-05:30") or by IANA name; None if there is no such zone."""
    found = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name, re.ASCII)
    if found:
        size = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-size if found[1] == "-" else size) if size < timedelta(hours=24) else None
    if name in ("UTC", "Z", ""):
        return UTC
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


def part_of(value: object, name: str, zone: str = "UTC") -> object:
    """`getFullYear`, `getMonth` (from 0), `getDate` (from 1), `getDayOfWeek` (Sunday is 0) and their kin."""
    if isinstance(value, Duration):
        unit = {"getHours": 3600 * NANOS, "getMinutes": 60 * NANOS, "getSeconds": NANOS}.get(name)
        if name == "getMilliseconds":
            return abs(value.nanos) % NANOS // 1_000_000 * (1 if value.nanos >= 0 else -1)
        if unit is not None:
            return abs(value.nanos) // unit * (1 if value.nanos >= 0 else -1)
    if not isinstance(value, Timestamp):
        return Unknown(f"{name} needs a timestamp")
    place = zone_of(zone)
    if place is None:
        return Unknown(f"{zone[:40]!r} is not a time zone")
    try:
        return TIMESTAMP_PARTS[name](value.to_datetime().astimezone(place))
    except OverflowError:
        return Unknown("timestamp out of range")


TIMESTAMP_PARTS: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
    "getMilliseconds": lambda moment: moment.microsecond // 1000,
}

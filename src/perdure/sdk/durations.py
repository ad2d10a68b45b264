"""Times and durations that authors write, as the texts of the wire."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TypeAlias

from perdure.protocol.durations import format_duration, format_time, parse_duration, parse_time
from perdure.sdk.errors import UsageError

Duration: TypeAlias = timedelta | str | float
"""A length of time: a timedelta, a number of seconds, or a text such as `"1h30m"`."""

Moment: TypeAlias = datetime | str
"""A point in time: a datetime with a time zone, or an RFC 3339 text such as `"2030-01-31T09:00:00Z"`."""

_MS_IN_SECOND = 1000


def milliseconds(duration: Duration, what: str) -> int:
    """The whole milliseconds of a duration. Raises UsageError, naming `what`, if it is none or negative."""
    if isinstance(duration, timedelta):
        ms = duration // timedelta(milliseconds=1)
    elif isinstance(duration, str):
        try:
            ms = parse_duration(duration)
        except ValueError as error:
            raise UsageError(f"{what}: {error}") from None
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        ms = int(duration * _MS_IN_SECOND)
    else:
        raise UsageError(
            f"{what}: {duration!r} is no duration; give a timedelta, seconds, or a text like '1h30m'."
        )
    if ms < 0:
        raise UsageError(f"{what}: {duration!r} is negative.")
    return ms


def duration_text(duration: Duration, what: str) -> str:
    """A duration as it is sent: `1h30m`."""
    return format_duration(milliseconds(duration, what))


def moment_ms(moment: Moment, what: str) -> int:
    """Milliseconds since the epoch. Raises UsageError, naming `what`, without a time zone."""
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise UsageError(
                f"{what}: {moment!r} has no time zone, so it means another moment on another machine; "
                "use datetime.now(UTC) or .astimezone()."
            )
        return int(moment.timestamp() * _MS_IN_SECOND)
    try:
        return parse_time(moment)
    except ValueError as error:
        raise UsageError(f"{what}: {error}") from None


def moment_text(ms: int) -> str:
    """A point in time as it is sent."""
    return format_time(ms)

"""Schedules: five or six fields (seconds first), `@daily` and its like, and an optional time zone in front.

cronsim reads the fields and finds the next time on a calendar without time zones, where it is plain arithmetic.
The prefix (`TZ=Europe/Paris` or `CRON_TZ=…`), the words and the days on which clocks change are ours: cronsim
follows Debian's cron there, for five fields only, and decides by the minutes as well as the hours.

When clocks change
    fixed times       An hour field that names hours (`30 2 * * *`, `*/10 1-3 * * *`) means times of the day, each
                      once a day. Times that do not exist because clocks go forward fire once, together, at the
                      end of the gap; of a time that comes twice because clocks go back, the first counts.
    elapsed time      An hour field that begins with `*`, or names all hours, means intervals: `*/30 * * * *` fires
                      every half hour of real time, through the hour that comes twice, and over the one that is not
                      there. `0 */2 * * *` fires whenever the clock shows an even hour, twice if it shows it twice.

Jitter
    Each firing may be put off by a random part of up to five minutes. The schedule itself does not move: the next
    time is counted from the one that was scheduled, never from the moment of firing.

Missed times
    Times that passed while the server was down are made up for by one firing, with the latest of them, and only
    if that was at most `CATCH_UP_MS` ago: a nightly report is made the next morning, and an hour of `* * * * *`
    is not repeated sixty times.
"""

from __future__ import annotations

import copy
import datetime
import re
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

CATCH_UP_MS = 24 * 60 * 60 * 1_000
"""How far back a time that was missed is still made up for."""

CACHE_SIZE = 2_000
"""How many schedules are kept in read form."""

_PREFIX = re.compile(r"(?:CRON_)?TZ=(\S*)\s*(.*)", re.DOTALL)
_NO_PLACES = (
    "localtime",
    "right/",
    "posix",
    "Factory",
)  # files beside the zones: the machine's own, leap seconds

_FIELDS = (
    ("second", "0 to 59"),
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of the month", "1 to 31, L for the last day, LW for the last weekday"),
    ("month", "1 to 12 or JAN to DEC"),
    ("day of the week", "0 to 7 or SUN to SAT, 5L for the last Friday, 1#2 for the second Monday"),
)
_NEVER = "it never fires, since no date fits all of its fields; correct its days or its months"
_SHOWN = 40

_DAY = 86_400
_HOURS_FIELD = -4
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAIVE_EPOCH = datetime.datetime(1970, 1, 1)
_SECOND = datetime.timedelta(seconds=1)


class Schedule:
    """A schedule in read form. Its own unit is the second, since 1970 UTC."""

    __slots__ = ("_calendar", "elapsed", "text", "zone")

    def __init__(self, text: str) -> None:
        fields, self.zone = split_zone(text)
        parts = fields.split()
        if len(parts) not in (5, 6):
            raise ValueError(_wrong_length(fields, len(parts)))
        try:
            self._calendar = CronSim(fields, _NAIVE_EPOCH)
        except (CronSimError, ValueError, AssertionError):
            # cronsim names the field only, and numbers of thousands of digits are more than it expects.
            raise ValueError(_fault(parts)) from None
        self.text = text
        self.elapsed = parts[_HOURS_FIELD].startswith("*") or len(self._calendar.hours) == 24

    def next_after(self, second: int) -> int | None:
        """The first time after `second`; None if there is none within 50 years."""
        return self._next_elapsed(second) if self.elapsed else self._next_fixed(second)

    def _next_wall(self, wall: int) -> int | None:
        """The next matching time on the clock, both in seconds as though the clock were UTC."""
        calendar = copy.copy(self._calendar)
        calendar.dt = _NAIVE_EPOCH + wall * _SECOND
        try:
            return int((next(calendar) - _NAIVE_EPOCH).total_seconds())
        except (StopIteration, OverflowError):
            return None

    def _next_fixed(self, second: int) -> int | None:
        wall: int | None = second + self._offset(second)
        while wall is not None:
            wall = self._next_wall(wall)
            if wall is not None and (found := self._first_moment(wall)) > second:
                return found
        return None

    def _first_moment(self, wall: int) -> int:
        """When the clock first shows `wall`, or the end of the gap in which it never does."""
        moment = wall - self._wall_offset(wall, 0)
        if moment + self._offset(moment) == wall:
            return moment
        # In a gap, fold 0 reads the clock with the offset from before the change, fold 1 with the one after it:
        # the change lies between.
        turn = self._turn(wall - self._wall_offset(wall, 1), moment)
        return moment if turn is None else turn

    def _next_elapsed(self, second: int) -> int | None:
        offset = self._offset(second)
        wall = second + offset
        while True:
            found = self._next_wall(wall)
            if found is None:
                return None
            turn = self._turn(second, found - offset)
            if turn is None:
                return found - offset
            # From the change on the clock shows another time; what it shows at that very moment counts as well.
            second, offset = turn, self._offset(turn)
            wall = turn + offset - 1

    def _turn(self, after: int, until: int) -> int | None:
        """The first second in (after, until] at which the zone's offset is another than before, or None."""
        offset = self._offset(after)
        low = after
        while low < until:
            high = min(low + _DAY, until)
            if self._offset(high) != offset:
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (middle, high) if self._offset(middle) == offset else (low, middle)
                return high
            low = high
        return None

    def _offset(self, second: int) -> int:
        local = (_EPOCH + second * _SECOND).astimezone(self.zone)
        return _seconds(local.utcoffset())

    def _wall_offset(self, wall: int, fold: int) -> int:
        local = (_NAIVE_EPOCH + wall * _SECOND).replace(tzinfo=self.zone, fold=fold)
        return _seconds(local.utcoffset())


def split_zone(text: str) -> tuple[str, ZoneInfo]:
    """The fields of a schedule and its time zone (UTC if it names none).

    Raises ValueError for an unknown zone.
    """
    fields, zone = text.strip(), "UTC"
    if prefix := _PREFIX.fullmatch(fields):
        zone, fields = prefix[1], prefix[2]
    return WORDS.get(fields.lower(), fields), _zone(zone)


def _zone(name: str) -> ZoneInfo:
    try:
        if name.startswith(_NO_PLACES):
            raise KeyError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone; write one of the tz database, such as TZ=Europe/Paris or TZ=UTC"
        ) from None


@lru_cache(maxsize=CACHE_SIZE)
def read_schedule(text: str) -> Schedule:
    """A schedule in read form, or from the cache. Raises ValueError, with a sentence, if `text` is none."""
    return Schedule(text)


def check_cron(text: str) -> None:
    """Raises ValueError, with a sentence, if `text` is no schedule, or one that never comes round."""
    if read_schedule(text).next_after(946_684_800) is None:  # 2000-01-01
        raise ValueError(_NEVER)


def next_fire(text: str, after_ms: int) -> int | None:
    """The first time (ms since 1970) of a schedule after `after_ms`, or None if there is none within 50 years.

    Raises ValueError as `check_cron` does.
    """
    second = read_schedule(text).next_after(after_ms // 1_000)
    return None if second is None else second * 1_000


def fire_at(scheduled_ms: int, jitter_ms: int, chance: float) -> int:
    """When a firing really happens: `chance`, from 0 up to but not including 1, is its part of the jitter."""
    return scheduled_ms + int(jitter_ms * chance)


def missed(text: str, last_ms: int, now: int, bound_ms: int = CATCH_UP_MS) -> int | None:
    """The one time to be made up for: the latest after `last_ms`, up to now, and within `bound_ms`; or None.

    `last_ms` is the last time that was handled, or when the schedule began. All in ms since 1970. Raises
    ValueError as `check_cron` does.
    """
    schedule = read_schedule(text)
    until = now // 1_000
    low, high = max(last_ms, now - bound_ms - 1) // 1_000, until
    latest = schedule.next_after(low)
    if latest is None or latest > until:
        return None
    # `next_after` never falls as its argument rises: look for the last argument whose answer is not in the future.
    while high - low > 1:
        middle = (low + high) // 2
        found = schedule.next_after(middle)
        if found is not None and found <= until:
            low, latest = middle, found
        else:
            high = middle
    return latest * 1_000


def _wrong_length(fields: str, count: int) -> str:
    if fields.startswith("@"):
        return (
            f"{_cut(fields)!r} is not a known word; write one of {', '.join(sorted(WORDS))}, or five fields"
        )
    if not fields:
        return "it has no fields; write five, such as 0 9 * * 1-5 (weekdays at nine)"
    return (
        f"it has {count} field{'s' if count > 1 else ''}; write 5 (minute, hour, day of the month, month, "
        "day of the week), or 6 with seconds first"
    )


def _fault(parts: list[str]) -> str:
    """Which field of a schedule cannot be read, and what it takes."""
    if "=" in parts[0]:
        return f"it begins with {_cut(parts[0])!r}; write one time zone in front of the fields, like TZ=Europe/Paris"
    for (name, allowed), part in zip(_FIELDS[-len(parts) :], parts, strict=True):
        trial = [part if name == each else "*" for each, _ in _FIELDS]
        try:
            CronSim(" ".join(trial), _NAIVE_EPOCH)
        except (CronSimError, ValueError, AssertionError):
            return (
                f"its {name} is {_cut(part)!r}; write {allowed}, or *, with lists (1,5), rising ranges (1-5) "
                "and steps (*/10)"
            )
    return _NEVER


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _seconds(offset: datetime.timedelta | None) -> int:
    return 0 if offset is None else int(offset.total_seconds())

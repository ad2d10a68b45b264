"""Schedules: times, changes of clocks, and times that were missed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.cron import CATCH_UP_MS, check_cron, fire_at, missed, next_fire
from tests.unit.core.unhurried import unhurried

ZONES = [
    "UTC",
    "Europe/Paris",
    "Europe/London",
    "Europe/Lisbon",
    "Europe/Istanbul",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tokyo",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "America/New_York",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
]
SCHEDULES = [
    "* * * * *",
    "*/7 * * * *",
    "30 * * * *",
    "0 */6 * * *",
    "30 2 * * *",
    "*/20 1-3 * * *",
    "0 0 * * *",
    "15 23 * * 1-5",
    "0 9 1 * *",
    "0 12 29 2 *",
    "0 8 * * MON#1",
    "0 18 L * *",
    "59 23 31 12 *",
    "0 0 1,15 * 3",
]
START, YEARS = datetime(2018, 1, 1, tzinfo=UTC), 10


def ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def offsets_change(zone: ZoneInfo, start: datetime, end: datetime) -> bool:
    """Whether clocks change from a day before `start` to a day after `end`."""
    day = start - timedelta(days=1)
    offset = day.astimezone(zone).utcoffset()
    while day < end + timedelta(days=2):
        day += timedelta(hours=12)
        if day.astimezone(zone).utcoffset() != offset:
            return True
    return False


@pytest.mark.parametrize("zone_name", ZONES)
def test_ten_years_as_cronsim_has_them_outside_changes_of_clocks(zone_name: str) -> None:
    """The library alone, asked for a zone, at times spread over ten years."""
    zone = ZoneInfo(zone_name)
    chance = random.Random(zone_name)
    compared = 0
    for text in SCHEDULES:
        for _ in range(25):
            after = START + timedelta(seconds=chance.randrange(YEARS * 365 * 86_400))
            expected = next(CronSim(text, after.astimezone(zone)))
            if (expected - after).days < 40 and offsets_change(zone, after, expected):
                continue
            if expected.astimezone(UTC).date() != after.date() and offsets_change(zone, expected, expected):
                continue
            found = next_fire(f"TZ={zone_name} {text}", ms(after))
            assert found == ms(expected), (text, after)
            compared += 1
    assert compared > 250


@pytest.mark.parametrize("zone_name", ZONES)
@pytest.mark.parametrize(("text", "years"), [("30 2 * * *", 10), ("0 */6 * * *", 1), ("45 1,13 * * 1-5", 1)])
def test_firing_after_firing_is_that_of_cronsim_but_for_the_days_of_changes(
    zone_name: str, text: str, years: int
) -> None:
    """One after the other, so that nothing is left out between two."""
    zone = ZoneInfo(zone_name)
    start, end = START, START.replace(year=START.year + years)
    ours, at = [], ms(start)
    while (found := next_fire(f"TZ={zone_name} {text}", at)) is not None and found < ms(end):
        ours.append(found)
        at = found
    theirs = []
    for moment in CronSim(text, start.astimezone(zone)):
        if moment >= end:
            break
        theirs.append(ms(moment))
    differing = {datetime.fromtimestamp(at / 1000, UTC) for at in set(ours) ^ set(theirs)}
    assert all(offsets_change(zone, day, day) for day in differing)
    assert len(ours) > 200 * years


def local(zone_name: str, text: str, start: str, count: int) -> list[str]:
    """The next firings as the clock on the wall and its distance from UTC show them."""
    zone = ZoneInfo(zone_name)
    at: int | None = ms(datetime.fromisoformat(start).replace(tzinfo=zone))
    shown = []
    for _ in range(count):
        assert at is not None
        at = next_fire(f"TZ={zone_name} {text}", at)
        assert at is not None
        shown.append(datetime.fromtimestamp(at / 1000, zone).strftime("%d %H:%M%z")[:-2])
    return shown


PARIS, NEW_YORK = "Europe/Paris", "America/New_York"
SPRING, AUTUMN = "2026-03-28T23:59:00", "2026-10-24T23:59:00"


@pytest.mark.parametrize(
    ("zone", "start", "text", "expected"),
    [
        # Clocks go from 02:00 to 03:00 on 29 March: a fixed time that is not there fires at the end of the gap.
        (PARIS, SPRING, "30 2 * * *", ["29 03:00+02", "30 02:30+02"]),
        (PARIS, SPRING, "0 2 * * *", ["29 03:00+02", "30 02:00+02"]),
        (PARIS, SPRING, "59 2 * * *", ["29 03:00+02", "30 02:59+02"]),
        (PARIS, SPRING, "0 3 * * *", ["29 03:00+02", "30 03:00+02"]),
        (PARIS, SPRING, "59 1 * * *", ["29 01:59+01", "30 01:59+02"]),
        # Several in the gap fire once, and one that is due at its end anyway is the same one.
        (PARIS, SPRING, "*/15 2 * * *", ["29 03:00+02", "30 02:00+02", "30 02:15+02"]),
        (PARIS, SPRING, "0,30 2,3 * * *", ["29 03:00+02", "29 03:30+02", "30 02:00+02"]),
        (PARIS, SPRING, "0 1-4 * * *", ["29 01:00+01", "29 03:00+02", "29 04:00+02", "30 01:00+02"]),
        # Elapsed time goes on over the gap.
        (
            PARIS,
            SPRING,
            "*/30 * * * *",
            ["29 00:00+01", "29 00:30+01", "29 01:00+01", "29 01:30+01", "29 03:00+02"],
        ),
        (PARIS, SPRING, "30 * * * *", ["29 00:30+01", "29 01:30+01", "29 03:30+02"]),
        (PARIS, SPRING, "0 */2 * * *", ["29 00:00+01", "29 04:00+02"]),
        (PARIS, SPRING, "0 0-23 * * *", ["29 00:00+01", "29 01:00+01", "29 03:00+02"]),
        # Six fields keep the same rules.
        (PARIS, SPRING, "0 30 2 * * *", ["29 03:00+02", "30 02:30+02"]),
        (
            PARIS,
            SPRING,
            "0 */30 * * * *",
            ["29 00:00+01", "29 00:30+01", "29 01:00+01", "29 01:30+01", "29 03:00+02"],
        ),
        # Clocks go from 03:00 back to 02:00 on 25 October: a fixed time fires the first time only.
        (PARIS, AUTUMN, "30 2 * * *", ["25 02:30+02", "26 02:30+01"]),
        (PARIS, AUTUMN, "0 2 * * *", ["25 02:00+02", "26 02:00+01"]),
        (PARIS, AUTUMN, "0 3 * * *", ["25 03:00+01", "26 03:00+01"]),
        (PARIS, AUTUMN, "*/20 2 * * *", ["25 02:00+02", "25 02:20+02", "25 02:40+02", "26 02:00+01"]),
        (PARIS, AUTUMN, "0 30 2 * * *", ["25 02:30+02", "26 02:30+01"]),
        # Elapsed time goes through the hour twice.
        (
            PARIS,
            "2026-10-25T01:59:00",
            "*/30 * * * *",
            ["25 02:00+02", "25 02:30+02", "25 02:00+01", "25 02:30+01", "25 03:00+01"],
        ),
        (PARIS, "2026-10-25T01:59:00", "0 */2 * * *", ["25 02:00+02", "25 02:00+01", "25 04:00+01"]),
        (PARIS, "2026-10-25T01:59:00", "0 0-23 * * *", ["25 02:00+02", "25 02:00+01", "25 03:00+01"]),
        # The other side of the Atlantic, on other days.
        (NEW_YORK, "2026-03-07T23:59:00", "30 2 * * *", ["08 03:00-04", "09 02:30-04"]),
        (NEW_YORK, "2026-10-31T23:59:00", "30 1 * * *", ["01 01:30-04", "02 01:30-05"]),
        # Midnight itself is skipped, or comes twice.
        ("Africa/Cairo", "2025-04-24T12:00:00", "@daily", ["25 01:00+03", "26 00:00+03"]),
        ("Africa/Cairo", "2025-10-30T12:00:00", "30 23 * * *", ["30 23:30+03", "31 23:30+02"]),
        ("America/Havana", "2026-10-31T12:00:00", "@daily", ["01 00:00-04", "02 00:00-05"]),
        # Half an hour only.
        ("Australia/Lord_Howe", "2026-10-03T12:00:00", "15 2 * * *", ["04 02:30+11", "05 02:15+11"]),
        (
            "Australia/Lord_Howe",
            "2026-04-05T01:29:00",
            "*/30 * * * *",
            ["05 01:30+11", "05 01:30+10", "05 02:00+10", "05 02:30+10"],
        ),
    ],
)
def test_days_on_which_clocks_change(zone: str, start: str, text: str, expected: list[str]) -> None:
    assert local(zone, text, start, len(expected)) == expected


def test_after_a_firing_in_the_second_of_two_hours_the_first_is_not_repeated() -> None:
    zone = ZoneInfo(PARIS)
    second = datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=zone)
    found = next_fire(f"TZ={PARIS} 30 2 * * *", ms(second))
    assert found == ms(datetime(2026, 10, 26, 2, 30, tzinfo=zone))


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 12 * * 5", "2026-10-21T00:00:00", "2026-10-23T12:00:00"),
        ("TZ=Europe/Paris 0 12 * * 5", "2026-10-21T00:00:00", "2026-10-23T10:00:00"),
        ("CRON_TZ=Asia/Kolkata 0 12 * * *", "2026-10-21T00:00:00", "2026-10-21T06:30:00"),
        ("@hourly", "2026-10-21T00:00:00", "2026-10-21T01:00:00"),
        ("@daily", "2026-10-21T00:00:00", "2026-10-22T00:00:00"),
        ("@Midnight", "2026-10-21T00:00:00", "2026-10-22T00:00:00"),
        ("@weekly", "2026-10-21T00:00:00", "2026-10-25T00:00:00"),
        ("@monthly", "2026-10-21T00:00:00", "2026-11-01T00:00:00"),
        ("@yearly", "2026-10-21T00:00:00", "2027-01-01T00:00:00"),
        ("@annually", "2026-10-21T00:00:00", "2027-01-01T00:00:00"),
        ("TZ=Asia/Tokyo @daily", "2026-10-21T00:00:00", "2026-10-21T15:00:00"),
        ("*/15 * * * * *", "2026-10-21T00:00:01", "2026-10-21T00:00:15"),
        ("30 0 12 * * *", "2026-10-21T00:00:00", "2026-10-21T12:00:30"),
        ("0 0 29 2 *", "2026-10-21T00:00:00", "2028-02-29T00:00:00"),
        ("TZ=Europe/Paris 30 * 29 2 *", "2026-10-21T00:00:00", "2028-02-28T23:30:00"),
        ("  0 0 1 1 *  ", "2026-10-21T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_fields_words_and_zones(text: str, after: str, expected: str) -> None:
    check_cron(text)
    found = next_fire(text, ms(datetime.fromisoformat(after).replace(tzinfo=UTC)))
    assert found == ms(datetime.fromisoformat(expected).replace(tzinfo=UTC))


def test_the_next_is_after_the_moment_and_not_at_it() -> None:
    noon = ms(datetime(2026, 1, 1, 12, tzinfo=UTC))
    assert next_fire("0 12 * * *", noon - 1) == noon
    assert next_fire("0 12 * * *", noon) == noon + 86_400_000
    assert next_fire("0 12 * * *", noon + 999) == noon + 86_400_000


def test_what_comes_round_seldom_is_a_schedule() -> None:
    check_cron("0 0 * 2 MON#5")
    found = next_fire("0 0 * 2 MON#5", ms(datetime(2026, 1, 1, tzinfo=UTC)))
    assert found == ms(datetime(2044, 2, 29, tzinfo=UTC))


def test_a_schedule_that_never_fires_has_no_next_time() -> None:
    assert next_fire("0 0 */5 2 MON#5", 0) is None
    assert missed("0 0 */5 2 MON#5", 0, DAY) is None


@settings(unhurried, max_examples=150)
@given(
    st.sampled_from(ZONES),
    st.sampled_from([text for text in SCHEDULES if "29 2" not in text]),
    st.integers(ms(START), ms(START) + YEARS * 365 * 86_400_000),
)
def test_times_rise_and_nothing_lies_between_two(zone: str, text: str, after: int) -> None:
    schedule = f"TZ={zone} {text}"
    first = next_fire(schedule, after)
    assert first is not None
    assert first > after
    assert next_fire(schedule, first - 1) == first
    assert next_fire(schedule, (after + first) // 2) in (first, next_fire(schedule, first))
    second = next_fire(schedule, first)
    assert second is not None
    assert second > first


# Jitter


def test_jitter_puts_off_by_a_part_and_never_by_all() -> None:
    assert fire_at(1_000, 0, 0.7) == 1_000
    assert fire_at(1_000, 30_000, 0.0) == 1_000
    assert fire_at(1_000, 30_000, 0.5) == 16_000
    assert fire_at(1_000, 30_000, 0.999_999_9) < 31_000


# Missed times

HOUR, DAY = 3_600_000, 86_400_000
NOON = ms(datetime(2026, 6, 10, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "last", "now", "expected"),
    [
        ("0 * * * *", NOON, NOON + HOUR - 1, None),
        ("0 * * * *", NOON, NOON + HOUR, NOON + HOUR),
        # Many were missed: one is made up for, the latest.
        ("0 * * * *", NOON, NOON + 5 * HOUR + 10, NOON + 5 * HOUR),
        ("* * * * *", NOON, NOON + 90_000, NOON + 60_000),
        ("* * * * * *", NOON, NOON + 20 * HOUR + 1_500, NOON + 20 * HOUR + 1_000),
        # A nightly run the next morning.
        ("0 3 * * *", NOON - 9 * HOUR, NOON + 20 * HOUR, NOON + 15 * HOUR),
        # Within the bound, and not beyond.
        ("0 12 * * *", NOON - DAY, NOON + CATCH_UP_MS - 1_000, NOON),
        ("0 0 1 1 *", 0, NOON, None),
        ("0 12 10 6 *", 0, NOON + CATCH_UP_MS, NOON),
        ("0 12 10 6 *", 0, NOON + CATCH_UP_MS + 2_000, None),
    ],
)
def test_one_missed_time_is_made_up_for(text: str, last: int, now: int, expected: int | None) -> None:
    assert missed(text, last, now) == expected


def test_a_clock_set_back_misses_nothing() -> None:
    assert missed("* * * * *", NOON, NOON - HOUR) is None


@settings(unhurried, max_examples=100)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */6 * * *", "*/20 1-3 * * *", "15 23 * * 1-5"]),
    st.integers(ms(START), ms(START) + YEARS * 365 * DAY),
    st.integers(0, 40 * HOUR),
)
def test_the_missed_time_is_the_last_of_all_that_passed(zone: str, text: str, last: int, down: int) -> None:
    schedule, now = f"TZ={zone} {text}", last + down
    passed = []
    at = next_fire(schedule, last)
    while at is not None and at <= now:
        passed.append(at)
        at = next_fire(schedule, at)
    # The bound is kept to the second.
    recent = [at for at in passed if at // 1000 > (now - CATCH_UP_MS - 1) // 1000]
    assert missed(schedule, last, now) == (recent[-1] if recent else None)

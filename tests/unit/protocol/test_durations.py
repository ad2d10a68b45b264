from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.protocol.durations import (
    DAY,
    HOUR,
    MAX_DURATION,
    MAX_RETRY_AFTER,
    MINUTE,
    SECOND,
    WEEK,
    format_duration,
    format_time,
    parse_duration,
    parse_instant,
    parse_retry_after,
    parse_time,
)

NOW = 1795515123170  # 2026-11-24T10:12:03.170Z
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1d12h", 129_600_000),
        ("30s", 30_000),
        ("1w2d", 777_600_000),
        ("1.5h", 5_400_000),
        (".5s", 500),
        ("1.s", 1000),
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("300ms", 300),
        ("1m1ms", 60_001),
        ("2h45m30.25s", 9_930_250),
        ("1500us", 1),
        ("1500\u00b5s", 1),
        ("1500\u03bcs", 1),
        ("999999ns", 0),
        ("1000000ns", 1),
        ("0.1us999900ns", 1),
        ("-2s", -2000),
        ("+2s", 2000),
        ("1s1s", 2000),
        ("15250w", 15250 * WEEK),
    ],
)
def test_durations(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "5",
        "s",
        ".s",
        "1x",
        "1h 2m",
        " 1s",
        "1s\n",
        "1e3s",
        "1S",
        "--1s",
        "1.2.3s",
        "\u0663s",
        "1M",
        "1mo",
        "9" * 70 + "h",
    ],
)
def test_what_is_not_a_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; write numbers with units") as raised:
        parse_duration(text)
    assert repr(text[:64])[:-1] in str(raised.value)
    assert len(str(raised.value)) < 200


def test_durations_are_bounded_as_in_64_bits_of_nanoseconds() -> None:
    assert parse_duration(f"{MAX_DURATION}ms") == MAX_DURATION
    with pytest.raises(ValueError, match="at most"):
        parse_duration(f"{MAX_DURATION + 1}ms")
    with pytest.raises(ValueError, match="at most"):
        parse_duration("9" * 60 + "w")
    format_time(NOW + MAX_DURATION)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (1500, "1s500ms"),
        (129_600_000, "1d12h"),
        (WEEK + 2 * DAY, "1w2d"),
        (-90_000, "-1m30s"),
    ],
)
def test_durations_as_text(ms: int, text: str) -> None:
    assert format_duration(ms) == text


@given(st.integers(-MAX_DURATION, MAX_DURATION))
def test_durations_survive_being_written(ms: int) -> None:
    assert parse_duration(format_duration(ms)) == ms


@given(
    st.lists(
        st.tuples(
            st.integers(0, 99),
            st.sampled_from([("w", WEEK), ("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND)]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_duration_is_the_sum_of_its_parts(parts: list[tuple[int, tuple[str, int]]]) -> None:
    text = "".join(f"{count}{unit}" for count, (unit, _) in parts)
    assert parse_duration(text) == sum(count * size for count, (_, size) in parts)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-24T10:12:03.170Z", NOW),
        ("2026-11-24t10:12:03.17z", NOW),
        ("2026-11-24 10:12:03.170Z", NOW),
        ("2026-11-24T10:12:03.170999999Z", NOW),
        ("2026-11-24T12:12:03.170+02:00", NOW),
        ("2026-11-23T22:27:03.170-11:45", NOW),
        ("2026-11-24T10:12:03Z", NOW - 170),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2024-02-29T00:00:00Z", 1709164800000),
    ],
)
def test_times(text: str, ms: int) -> None:
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-24",
        "2026-11-24T10:12:03",
        "2026-11-24T10:12Z",
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-24T24:00:00Z",
        "2026-11-24T10:12:60Z",
        "2026-11-24T10:12:03.Z",
        "2026-11-24T10:12:03+24:00",
        "2026-11-24T10:12:03+01:60",
        "2026-11-24T10:12:03+0100",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2026-11-24T10:12:03Z ",
        "\u0662026-11-24T10:12:03Z",
    ],
)
def test_what_is_not_a_time_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time") as raised:
        parse_time(text)
    assert repr(text) in str(raised.value)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-1439, 1439))
def test_times_agree_with_the_standard_library(moment: datetime, offset: int) -> None:
    there = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    expected = (there - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time(there.isoformat()) == expected
    assert parse_time(format_time(expected)) == expected


def test_times_as_text() -> None:
    assert format_time(NOW) == "2026-11-24T10:12:03.170Z"
    assert format_time(0) == "1970-01-01T00:00:00.000Z"


def test_instants_are_durations_from_now_or_times() -> None:
    assert parse_instant("1h", NOW) == NOW + 3_600_000
    assert parse_instant("-1h", NOW) == NOW - 3_600_000
    assert parse_instant("0", NOW) == NOW
    assert parse_instant("9000h", NOW) == NOW + 9000 * 3_600_000
    assert parse_instant("2026-11-24T10:12:05.5Z", NOW) == NOW - 170 + 2500


@pytest.mark.parametrize("text", ["", "soon", "5", "tomorrow", "1h and a bit"])
def test_what_is_no_instant_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="neither a duration") as raised:
        parse_instant(text, NOW)
    assert repr(text) in str(raised.value)
    with pytest.raises(ValueError, match="2026-11-31T00:00:00Z"):
        parse_instant("2026-11-31T00:00:00Z", NOW)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("3", 3000 - 170),  # cut to the full second
        (" 3 ", 3000 - 170),
        ("+5", 5000 - 170),
        ("1", SECOND),  # the cut would make it shorter than a second
        ("0", SECOND),
        ("-5", SECOND),
        ("86400", DAY_MS - 170),
        ("86401", MAX_RETRY_AFTER),
        ("9999999", MAX_RETRY_AFTER),
        ("2026-11-24T10:12:08.5Z", 5330),
        ("2026-11-24T11:12:08+01:00", 4830),
        ("2030-01-01T00:00:00Z", MAX_RETRY_AFTER),
        ("1999-01-01T00:00:00Z", SECOND),
        ("Tue, 24 Nov 2026 12:12:03 GMT", 7_200_000 - 170),
        ("Tue, 24 Nov 2026 12:12:03 +0100", 3_600_000 - 170),
        ("Tuesday, 24-Nov-26 12:12:03 GMT", 7_200_000 - 170),
        ("Tue Nov 24 12:12:03 2026", 7_200_000 - 170),
        ("24 Nov 2026 12:12:03 GMT", 7_200_000 - 170),
        ("Sun, 06 Nov 1994 08:49:37 GMT", SECOND),
    ],
)
def test_retry_after(text: str, wait: int) -> None:
    assert parse_retry_after(text, NOW) == NOW + wait


@pytest.mark.parametrize(
    "text", ["", "soon", "3.5", "10000000", "1_0", "2026-11-24", "Mon, 99 Foo 2026 99:99:99 GMT", "x" * 5000]
)
def test_unreadable_retry_after(text: str) -> None:
    assert parse_retry_after(text, NOW) is None


@given(st.text())
def test_retry_after_never_raises_and_stays_within_its_bounds(text: str) -> None:
    due = parse_retry_after(text, NOW)
    assert due is None or NOW + SECOND <= due <= NOW + MAX_RETRY_AFTER


@given(st.text(), st.sampled_from([parse_duration, parse_time, lambda text: parse_instant(text, NOW)]))
def test_bad_texts_raise_nothing_but_value_errors(text: str, parse: Callable[[str], int]) -> None:
    with suppress(ValueError):
        assert isinstance(parse(text), int)

"""Widths, cuts, durations and times."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from perdure.terminal.text import (
    DAY,
    HOUR,
    MINUTE,
    Piece,
    age,
    clean,
    clock_time,
    columns,
    cut,
    date_and_time,
    duration,
    fitted,
    line,
    plain,
    table,
    wrapped,
)

NOON = 1_795_521_600_000  # 2026-11-24T12:00:00Z


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"), (6, "6ms"), (999, "999ms"), (1000, "1.00s"), (1059, "1.05s"), (9999, "9.99s"),
        (10_000, "10.0s"), (59_999, "59.9s"), (MINUTE, "1m 0s"), (125_000, "2m 5s"), (HOUR - 1, "59m 59s"),
        (HOUR, "1h 0m"), (DAY - 1, "23h 59m"), (DAY, "1d 0h"), (100 * DAY - 1, "99d 23h"), (400 * DAY, "400d"),
    ],
)  # fmt: skip
def test_durations(ms: int, text: str):
    assert duration(ms) == text
    assert len(text) <= 7


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "now"),
        (999, "now"),
        (1000, "1s"),
        (59_999, "59s"),
        (MINUTE, "1m"),
        (HOUR, "1h"),
        (30 * DAY, "30d"),
    ],
)
def test_ages(ms: int, text: str):
    assert age(ms) == text


@pytest.mark.parametrize(
    ("given", "width", "text"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("cut at a space", 7, "cut at…"),
        ("two\n  lines\tand a tab", 40, "two lines and a tab"),
        ("\x1b[31mred\x07", 40, "�[31mred�"),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日本…"),
        ("\u202egnirts", 40, "�gnirts"),
        ("x" * 1_000_000, 4, "xxx…"),
    ],
)
def test_cuts(given: str, width: int, text: str):
    assert cut(given, width) == text
    assert columns(text) <= width


def test_what_is_wide_counts_twice_and_what_combines_not_at_all():
    assert (columns("abc"), columns("日本"), columns("e\u0301")) == (3, 4, 1)


def test_cleaning_leaves_nothing_that_moves_the_cursor():
    everything = "".join(map(chr, range(0x100))) + "\u202a\u202e\u2066\u2069"
    assert all(char.isprintable() for char in clean(everything))


def test_a_text_is_wrapped_and_its_rest_cut():
    assert wrapped("one two three four five", 16, 3) == ["one two three", "four five"]
    assert wrapped("one two three four five six seven eight nine", 16, 2) == [
        "one two three",
        "four five six s…",
    ]
    assert wrapped("", 16, 2) == []


def test_a_line_is_fitted_piece_by_piece():
    pieces = line("abc", Piece("defgh", "bad"), "ijk")
    assert plain(fitted(pieces, 11)) == "abcdefghijk"
    assert fitted(pieces, 6) == [Piece("abc"), Piece("de…", "bad")]
    assert fitted(pieces, 3) == [Piece("abc")]


def test_times_of_day_and_dates():
    assert clock_time(NOON, NOON + HOUR, UTC) == "12:00:00"
    assert clock_time(NOON - DAY, NOON, UTC) == "2026-11-23 12:00"
    assert date_and_time(NOON, UTC) == "2026-11-24 12:00:00 UTC"
    assert date_and_time(NOON, timezone(timedelta(hours=1), "CET")) == "2026-11-24 13:00:00 CET"


def test_tables_line_up():
    rows = [[Piece("a"), Piece("1"), Piece("x")], [Piece("bbb"), Piece("22"), Piece("longer")]]
    assert [plain(each) for each in table(rows, right=frozenset((1,)))] == ["a     1  x", "bbb  22  longer"]
    assert table([]) == []

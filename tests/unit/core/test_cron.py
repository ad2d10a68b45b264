"""Which schedules are taken, in which zone, and what is said of the others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.cron import WORDS, check_cron, next_fire, split_zone


@pytest.mark.parametrize(
    ("text", "fields", "zone"),
    [
        ("* * * * *", "* * * * *", "UTC"),
        ("  0 9 * * 1-5 ", "0 9 * * 1-5", "UTC"),
        ("TZ=Europe/Paris 0 9 * * *", "0 9 * * *", "Europe/Paris"),
        ("CRON_TZ=Asia/Tokyo  @hourly", "0 * * * *", "Asia/Tokyo"),
        ("@Daily", "0 0 * * *", "UTC"),
        ("TZ=Europe/Paris\t0 9 * * *", "0 9 * * *", "Europe/Paris"),
        ("TZ=America/Argentina/Buenos_Aires * * * * *", "* * * * *", "America/Argentina/Buenos_Aires"),
    ],
)
def test_fields_and_zone(text: str, fields: str, zone: str) -> None:
    found = split_zone(text)
    assert (found[0], found[1].key) == (fields, zone)


@pytest.mark.parametrize(
    "zone",
    ["Nowhere", "", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/París", "localtime", "right/UTC"],
)
def test_unknown_zones(zone: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone; write one of the tz database"):
        split_zone(f"TZ={zone} * * * * *")


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "*/30 * * * * *",
        "0 0 L * *",
        "0 0 * * MON-FRI",
        "0 0 * * 7",
        "0 9,17 1-15 */2 *",
        "TZ=America/New_York 30 2 * * *",
        *WORDS,
    ],
)
def test_taken(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has no fields; write five, such as 0 9 * * 1-5"),
        ("TZ=UTC", "it has no fields; write five"),
        ("5", "it has 1 field; write 5"),
        (
            "* * * *",
            "it has 4 fields; write 5 (minute, hour, day of the month, month, day of the week), or 6",
        ),
        ("* * * * * * *", "it has 7 fields; write 5"),
        ("@reboot", "'@reboot' is not a known word; write one of @annually, @daily"),
        ("@every 1h", "'@every 1h' is not a known word"),
        ("60 * * * *", "its minute is '60'; write 0 to 59"),
        ("60 * * * * *", "its second is '60'; write 0 to 59"),
        ("* 60 * * * *", "its minute is '60'; write 0 to 59"),
        ("0 24 * * *", "its hour is '24'; write 0 to 23"),
        ("0 0 0 * *", "its day of the month is '0'; write 1 to 31"),
        ("0 0 W * *", "its day of the month is 'W'"),
        ("0 0 1 13 *", "its month is '13'; write 1 to 12 or JAN to DEC"),
        ("0 0 * * someday", "its day of the week is 'someday'; write 0 to 7 or SUN to SAT"),
        ("0 0 * * 1#6", "its day of the week is '1#6'"),
        ("0 0 * * ?", "its day of the week is '?'"),
        ("*/0 * * * *", "its minute is '*/0'"),
        ("5-1 * * * *", "its minute is '5-1'; write 0 to 59, or *, with lists (1,5), rising ranges"),
        ("\uff19 * * * *", "its minute is '\uff19'"),
        ("9" * 5_000 + " * * * *", f"its minute is '{'9' * 40}…'"),
        ("0 0 31 2 *", "it never fires, since no date fits all of its fields"),
        ("0 0 30 2 *", "it never fires"),
        ("0 0 31 4,6,9,11 *", "it never fires"),
        ("0 0 0 31 2 *", "it never fires"),
        ("0 0 */5 2 MON#5", "it never fires"),
        ("TZ=Nowhere * * * * *", "'Nowhere' is not a time zone"),
        ("TZ= * * * * *", "'' is not a time zone"),
        ("tz=UTC * * * * *", "it begins with 'tz=UTC'; write one time zone in front"),
        ("TZ=UTC CRON_TZ=UTC * * * * *", "it begins with 'CRON_TZ=UTC'; write one time zone in front"),
    ],
)
def test_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        check_cron(text)


SENTENCE = (
    r"its (second|minute|hour|day of the month|month|day of the week) is .*; write"
    r"|it (has|begins with) .*; write|it never fires, since|.* is not a (known word|time zone); write"
)
PARTS = st.lists(
    st.sampled_from(
        [*"*,-/#?LW0123456789 ", "*/5", "1-5", "L", "LW", "MON", "JAN", "31", "TZ=", "UTC", "@daily"]
    ),
    max_size=6,
).map("".join)


@given(st.lists(PARTS, max_size=8).map(" ".join) | st.text(max_size=30))
def test_any_text_is_a_schedule_that_fires_or_is_refused_with_a_sentence(text: str) -> None:
    refusal = ""
    try:
        check_cron(text)
    except ValueError as error:
        refusal = str(error)
    assert re.match(SENTENCE, refusal) or next_fire(text, 0) is not None

"""Which schedules are taken, in which zone, and what is said of the others."""

from __future__ import annotations

import pytest

from perdure.core.cron import WORDS, check_cron, split_zone


@pytest.mark.parametrize(
    ("text", "fields", "zone"),
    [
        ("* * * * *", "* * * * *", "UTC"),
        ("  0 9 * * 1-5 ", "0 9 * * 1-5", "UTC"),
        ("TZ=Europe/Paris 0 9 * * *", "0 9 * * *", "Europe/Paris"),
        ("CRON_TZ=Asia/Tokyo  @hourly", "0 * * * *", "Asia/Tokyo"),
        ("@Daily", "0 0 * * *", "UTC"),
    ],
)
def test_fields_and_zone(text: str, fields: str, zone: str) -> None:
    found = split_zone(text)
    assert (found[0], found[1].key) == (fields, zone)


@pytest.mark.parametrize("zone", ["Nowhere", "", "../../etc/passwd", "/etc/passwd", "Europe", "Europe/París"])
def test_unknown_zones(zone: str) -> None:
    with pytest.raises(ValueError, match="unknown time zone"):
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
        ("", "has 0 fields"),
        ("* * * *", "has 4 fields; it needs 5, or 6 with seconds first"),
        ("* * * * * * *", "has 7 fields"),
        ("@reboot", "is none of @annually, @daily"),
        ("TZ=UTC", "has 0 fields"),
        ("60 * * * *", "cannot be read: Bad minute"),
        ("0 24 * * *", "cannot be read: Bad hour"),
        ("0 0 31 2 *", "cannot be read: Bad day-of-month"),
        ("0 0 * * someday", "cannot be read: Bad day-of-week"),
        ("TZ=Nowhere * * * * *", "unknown time zone 'Nowhere'"),
    ],
)
def test_refused_with_a_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_cron(text)

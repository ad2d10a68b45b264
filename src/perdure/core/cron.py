"""Schedules: five or six fields (seconds first), `@daily` and its like, and an optional time zone in front.

The fields are read by cronsim, which is well kept and follows Debian's cron across changes of
daylight-saving time. The prefix (`TZ=Europe/Paris` or `CRON_TZ=…`) and the words are ours, in this one
place.
"""

from __future__ import annotations

import datetime
from zoneinfo import ZoneInfo

WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def split_zone(text: str) -> tuple[str, ZoneInfo]:
    """The fields of a schedule and its time zone (UTC if it names none).

    Raises ValueError for an unknown zone.
    """
    fields = text.strip()
    zone = "UTC"
    for prefix in ("TZ=", "CRON_TZ="):
        if fields.startswith(prefix):
            zone, _, fields = fields[len(prefix) :].partition(" ")
            fields = fields.strip()
    try:
        return WORDS.get(fields.lower(), fields), ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {zone!r} in the schedule {text!r}") from None


def check_cron(text: str) -> None:
    """Raises ValueError, with a sentence, if `text` is no schedule."""
    from cronsim import CronSim, CronSimError

    fields, zone = split_zone(text)
    if len(fields.split()) not in (5, 6):
        raise ValueError(
            f"the schedule {text!r} has {len(fields.split())} fields; it needs 5, or 6 with seconds first"
        )
    try:
        CronSim(fields, datetime.datetime(2000, 1, 1, tzinfo=zone))
    except CronSimError as error:
        raise ValueError(f"the schedule {text!r} cannot be read: {error}") from None

"""When a failed attempt is tried again: the table of the protocol."""

from __future__ import annotations

import pytest

from perdure.core.retries import max_attempts, retry_time
from perdure.core.settings import Settings

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("attempt", "seconds"),
    [
        (0, 15),
        (1, 30),
        (2, 60),
        (3, 120),
        (4, 300),
        (5, 600),
        (6, 1_200),
        (7, 2_400),
        (8, 3_600),
        (9, 7_200),
        (10, 7_200),
        (99, 7_200),
    ],
)
def test_the_table(attempt: int, seconds: int) -> None:
    assert retry_time(attempt, NOW, 0.0, Settings()) == NOW + seconds * 1_000


def test_jitter_adds_up_to_half_a_minute() -> None:
    times = [retry_time(0, NOW, jitter, Settings()) - NOW for jitter in (0.0, 0.5, 0.999_999)]
    assert times == [15_000, 30_000, 44_999]


def test_a_fixed_interval_replaces_table_and_jitter() -> None:
    for interval in (0, 1_000):
        assert retry_time(5, NOW, 0.9, Settings(retry_interval_ms=interval)) == NOW + interval


def test_the_apps_own_time_wins_over_both() -> None:
    assert retry_time(5, NOW, 0.9, Settings(retry_interval_ms=1_000), NOW + 7) == NOW + 7


@pytest.mark.parametrize(("retries", "attempts"), [(None, 8), (0, 1), (2, 3), (20, 21), (21, 21), (-5, 1)])
def test_attempts(retries: int | None, attempts: int) -> None:
    assert max_attempts(retries, Settings(default_retries=7)) == attempts

"""When a failed attempt is tried again.

The table and its jitter are those of the protocol's backoff section. An SDK's own Retry-After wins over
both and arrives here already clamped (`protocol.durations.parse_retry_after`).
"""

from __future__ import annotations

from perdure.core.settings import Settings

BACKOFF_S = (15, 30, 60, 120, 300, 600, 1200, 2400, 3600, 7200)
"""Base delay in seconds after the attempt of that index (from 0) failed.

The last stands for all later ones.
"""

JITTER_S = 30
"""Up to so many seconds are added, evenly spread."""


def retry_time(attempt: int, now: int, jitter: float, settings: Settings, retry_at: int | None = None) -> int:
    """When (ms) to try again after `attempt` (from 0) failed at `now`.

    `jitter` is a random number in [0, 1).
    """
    if retry_at is not None:
        return retry_at
    if settings.retry_interval_ms is not None:
        return now + settings.retry_interval_ms
    base = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
    return now + base * 1000 + int(jitter * JITTER_S * 1000)


def max_attempts(retries: int | None, settings: Settings) -> int:
    """Tries of a function: its retries (or the server's default) and the first one."""
    wanted = settings.default_retries if retries is None else retries
    return min(max(wanted, 0), settings.max_retries) + 1

"""The numbers that rule decisions, with their sources.

A server sets them once; tests and simulation pass their own.
"""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * 1024
DAY_MS = 24 * 60 * 60 * 1000


class Settings(msgspec.Struct, frozen=True):
    """Rules of the engine.

    `default_retries`: retries (not tries) of a function that names none; 3 is what the SDKs' documentation
    promises, the reference server uses 4. `retry_interval_ms`: a fixed delay that replaces the backoff
    table, or None. The remaining limits are those of the protocol's table of limits; `idle_replies` is
    ours: so many answers in a row without anything new fail the run.
    """

    default_retries: int = 3
    max_retries: int = 20
    retry_interval_ms: int | None = None
    steps_per_run: int = 1_000
    state_bytes: int = 32 * MIB
    inline_state_bytes: int = 4 * MIB - KIB
    idle_replies: int = 10
    dedupe_ms: int = DAY_MS
    lookback_ms: int = 0
    """Waits for events also see those received so long before they begin (ms), unless they say themselves."""
    poison_recoveries: int = 5
    """So many restarts of the server during one call count as one attempt."""

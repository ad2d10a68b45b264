"""The only place where the SDK asks for the time and for random bytes."""

from __future__ import annotations

import os
import time


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def now_ns() -> int:
    """Nanoseconds since the epoch."""
    return time.time_ns()


def entropy(size: int) -> bytes:
    """Random bytes, for the seeds of event ids."""
    return os.urandom(size)

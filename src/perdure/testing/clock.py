"""The clock of a test, which stands still until the test moves it, and its chance, which is the same each time."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class VirtualClock:
    """Implements `shard.ports.Clock`. `ms` is the time, in ms since the epoch."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now(self) -> int:
        """Ms since the epoch."""
        return self.ms

    def now_ns(self) -> int:
        """Ns since the epoch, for the SDK."""
        return self.ms * 1_000_000

    @property
    def moment(self) -> datetime:
        """The time as a datetime, in UTC."""
        return moment(self.ms)


class Chance:
    """Implements `shard.ports.Entropy`: bytes that look random, and are the same in each test."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def __call__(self, size: int) -> bytes:
        """So many bytes."""
        self._count += 1
        return hashlib.shake_128(f"{self._seed}.{self._count}".encode()).digest(size)


def moment(ms: int) -> datetime:
    """Ms since the epoch as a datetime, in UTC."""
    return _EPOCH + timedelta(milliseconds=ms)


def shown(ms: int) -> str:
    """A time for people."""
    return moment(ms).strftime("%Y-%m-%d %H:%M:%S")

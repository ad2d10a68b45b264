"""The clock of a test: it stands still until the test moves it."""

from __future__ import annotations

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


def moment(ms: int) -> datetime:
    """Ms since the epoch as a datetime, in UTC."""
    return _EPOCH + timedelta(milliseconds=ms)


def shown(ms: int) -> str:
    """A time for people."""
    return moment(ms).strftime("%Y-%m-%d %H:%M:%S")

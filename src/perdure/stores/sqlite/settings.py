"""The numbers that a SQLite store goes by, with the reasons for their defaults."""

from __future__ import annotations

from typing import NamedTuple


class SqliteSettings(NamedTuple):
    """How a store commits and keeps its log. The defaults are for a local disk whose fsync takes 0.1 to 5 ms."""

    inline_rows: int = 256
    """Batches of more rows are committed by the thread; -1 sends all of them there. A batch of this size takes a
    millisecond or two. Measured on a loop with 64 calls under way: 112 µs of CPU a step and 8,300 steps/s, against
    127 µs and 7,300 with 96 rows, because winning the interpreter's lock back costs both threads; above 512 rows the
    loop's other work waits for more than 15 ms."""

    inline_bytes: int = 256 * 1024
    """Batches with more bytes of payload are committed by the thread."""

    inline_seconds: float = 0.003
    """On a disk where small commits take longer than this on average, the thread makes them all."""

    busy_seconds: float = 5.0
    """How long a lock held by another program is waited for."""

    log_bytes: int = 16 * 1024 * 1024
    """Size of the write-ahead log at which it is copied into the database. Measured with 4, 16 and 64 MiB at
    2,000 commits of 64 steps: 28, 27, 27 µs of CPU a step, 99.9 % of commits within 7, 8, 15 ms."""

    durable: bool = True
    """Whether a commit is on disk before it is reported. Only a store that is thrown away with its process (tests)
    needs no more than that the system has it."""

    idle_seconds: float = 5.0
    """After so long without a commit the log is copied and cut to nothing."""


DEFAULTS = SqliteSettings()

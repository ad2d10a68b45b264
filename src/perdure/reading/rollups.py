"""What happened in a span of time, summed up for each function: the only thing that charts read.

A rollup holds counts, and lengths of time as histograms with buckets that grow by a factor, so that two of them can
be added and a quantile read from the sum: it is at most 9 % off, whatever the lengths are.

The same things are summed up over minutes, quarters of an hour and four hours. A chart reads the finest that
gives it at most a few hundred points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec

MINUTE, QUARTER, WATCH = 60_000, 900_000, 14_400_000
SPANS = (MINUTE, QUARTER, WATCH)
"""Lengths of time, in ms, over which things are summed up."""
MAX_POINTS = 200
"""Points of a chart for which the finest span is taken."""
_PER_OCTAVE = 4
"""Buckets for each doubling: neighbours are 19 % apart, their middle is at most 9 % from what is in them."""


class Histogram(msgspec.Struct, array_like=True, gc=False):
    """Lengths of time in ms: how many fell into which bucket."""

    buckets: dict[int, int] = {}

    def add(self, length: float) -> None:
        """Count a length."""
        bucket = bucket_of(length)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: Histogram) -> None:
        """Add all that another one holds."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantile(self, share: float) -> int | None:
        """The length, in ms, that so large a share (0 to 1) does not exceed; None if there are none."""
        total = sum(self.buckets.values())
        if not total:
            return None
        rank = max(1, math.ceil(share * total))
        for bucket in sorted(self.buckets):
            rank -= self.buckets[bucket]
            if rank <= 0:
                return middle_of(bucket)
        raise AssertionError("the ranks of a histogram add up to its total")


def bucket_of(length: float) -> int:
    """The bucket of a length in ms: 0 for less than one."""
    return 0 if length < 1 else 1 + int(math.log2(length) * _PER_OCTAVE)


def middle_of(bucket: int) -> int:
    """The length in ms that stands for a bucket."""
    return 0 if bucket == 0 else round(2 ** ((bucket - 0.5) / _PER_OCTAVE))


class Rollup(msgspec.Struct, array_like=True, gc=False):
    """What happened to runs of one function in a span of time.

    `waited` is from a run's creation to its start, `took` from its start to its end, `answered` from a call's
    leaving to its answer (all in ms). `depth` is the longest queue that was seen.
    """

    queued: int = 0
    started: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    calls: int = 0
    calls_failed: int = 0
    steps: int = 0
    depth: int = 0
    waited: Histogram = msgspec.field(default_factory=Histogram)
    took: Histogram = msgspec.field(default_factory=Histogram)
    answered: Histogram = msgspec.field(default_factory=Histogram)

    def merge(self, other: Rollup) -> None:
        """Add what happened elsewhere or at another time."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.depth = max(self.depth, other.depth)
        for name in LENGTHS:
            getattr(self, name).merge(getattr(other, name))


COUNTS = (
    "queued", "started", "completed", "failed", "cancelled", "skipped", "calls", "calls_failed", "steps",
)  # fmt: skip
LENGTHS = ("waited", "took", "answered")

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Rollup)


def encode(rollup: Rollup) -> bytes:
    """A rollup as it is stored."""
    return _ENCODER.encode(rollup)


def decode(body: bytes) -> Rollup:
    """A stored rollup."""
    return _DECODER.decode(body)


class RollupRecord(msgspec.Struct, frozen=True, gc=False):
    """A rollup of a function (by id) over the `span` ms that begin `at`."""

    span: int
    at: int
    function_id: str
    rollup: Rollup


class RollupReader(Protocol):
    """Reads rollups. Raises `StoreUnavailable`."""

    async def rollups(
        self, span: int, since: int, until: int, function_ids: Sequence[str] = ()
    ) -> list[RollupRecord]:
        """Rollups of a span that begin from `since` on and before `until`, in order; of some functions, or all."""

    async def newest_rollup(self) -> int:
        """The time (ms) up to which things have been summed up; 0 if nothing ever was."""


def span_for(length: int) -> int:
    """The span to read for a chart of so many ms."""
    return next((span for span in SPANS if length / span <= MAX_POINTS), SPANS[-1])


def merged(records: Iterable[RollupRecord]) -> Rollup:
    """The sum of rollups."""
    total = Rollup()
    for record in records:
        total.merge(record.rollup)
    return total

"""Rate limit: of the events that meet a function, at most so many in any period start a run; the rest is dropped.

The promise is that of the documentation of the protocol, and it is kept literally: whichever window of one period
is laid over the starts, it holds at most `limit`, and all of them may come at once. The reference server instead
spaces its places out (`limit: 10, period: 1h` lets two through at once and then one every six minutes); with
`limit: 1`, which is also what `idempotency` becomes (1 in 24 h), the two are the same.

Why it is safe. What is remembered is when places were taken; a place is free again one period later. Up to
`EXACT` places each has its own time, so nothing is ever refused that the promise allows. Above that, places taken
within one slice of the period (a fortieth) share one entry, which carries the time of the *last* of them: each
place is given back a little late, never early. So the limit cannot be exceeded by one, a fresh key has all its
places at once, and the state of a key stays under a kilobyte whatever the limit is.

The clock. A time that lies ahead of `now` can only come from a clock that was set back; it is cut to `now`, so that
a jump costs at most one period. Cutting keeps the promise: what it moves is only how soon a place that was taken
*before* this moment is given back, and that is still one period from here. What was cut has to be stored also if the
event is refused (`changed`), or it would be cut anew each time.

Delivered twice. An event that comes again with the same id has been seen already by the caller, who keeps the ids
that each function took; it must not ask here again (`admission` refuses it first). An event that was refused took
no place and no id, so sent again later it has another chance.
"""

from __future__ import annotations

import msgspec

from perdure.core.flow.stored import Stored
from perdure.protocol.functions import RateLimit

EXACT = 60
"""Up to this limit every place has its own time."""

SLICES = 40
"""Above it, a period has so many slices, each one entry: a place is given back at most 1/40 of a period late."""


class RateState(Stored, frozen=True):
    """The places of one key that are taken: when, the latest last, and how many each time."""

    times: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()

    def expires_at(self, rule: RateLimit) -> int:
        """When (ms) the key has nothing to remember any more."""
        return self.times[-1] + rule.period_ms if self.times else 0


class RateDecision(msgspec.Struct, frozen=True, gc=False):
    """Whether the event may start a run.

    `state` is to be stored if `changed`. `free_at` is when (ms) a place is free again, if it may not.
    """

    allowed: bool
    state: RateState
    changed: bool
    free_at: int = 0


NOTHING = RateState()


def take(rule: RateLimit, state: RateState | None, now: int) -> RateDecision:
    """Take a place for one event, if there is one."""
    before = state or NOTHING
    times, counts = _taken(rule, before, now)
    used = sum(counts)
    if used >= rule.limit:
        kept = RateState(times, counts)
        cut = bool(before.times) and before.times[-1] > now
        return RateDecision(False, kept, cut, _free_at(rule, times, counts, used))
    if times and _slice(rule, times[-1]) == _slice(rule, now):
        return RateDecision(True, RateState((*times[:-1], now), (*counts[:-1], counts[-1] + 1)), True)
    return RateDecision(True, RateState((*times, now), (*counts, 1)), True)


def _taken(rule: RateLimit, state: RateState, now: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The entries that still count."""
    times, counts = state.times, state.counts
    if times and times[-1] > now:
        times = tuple(min(time, now) for time in times)
    oldest = now - rule.period_ms
    gone = 0
    for time in times:
        if time > oldest:
            break
        gone += 1
    return (times[gone:], counts[gone:]) if gone else (times, counts)


def _slice(rule: RateLimit, time: int) -> int:
    return time if rule.limit <= EXACT else time // max(1, rule.period_ms // SLICES)


def _free_at(rule: RateLimit, times: tuple[int, ...], counts: tuple[int, ...], used: int) -> int:
    for time, count in zip(times, counts, strict=True):
        used -= count
        if used < rule.limit:
            return time + rule.period_ms
    return 0

"""Throttle: runs start evenly, `limit` in a period, with `burst` more back to back; the rest waits its turn.

It counts starts of runs, never later steps or retries. The rule is the "generic cell rate algorithm" (ATM Forum,
1996), as the protocol has it: starts are spaced by `interval = period / limit`, and each key has a schedule of
its own, the time at which its next start would be exactly on pace. A start may come up to `burst` intervals
before that time. So `limit 2, period 5s` starts one run each 2.5 s; with `burst 1` a rested key starts two at
once.

The promise is: at most `limit + burst` starts in any period. A sequence of n starts needs at least (n - 1 - burst)
intervals from first to last, so a window shorter than `limit` intervals holds fewer than limit + burst + 1.

Whole milliseconds are too coarse for that sum (`limit 10000, period 1s` starts ten in each), so the schedule is
kept in nanoseconds and the interval is rounded up. A start that is allowed at any moment within the current
millisecond is allowed now, and is entered at that moment. That bends nothing: windows begin and end on whole
milliseconds, on the same side of both times.

A start that was let through may leave later: its run is read first, or its app has no room. The promise is about when
they leave. So until then the schedule is looked at as if all of them left at this very moment (`further`), and when
one does, its start is entered anew.

The clock. A schedule is never more than burst + 1 intervals ahead of the present, so a stored one that is further
ahead comes from a clock that was set back, or from a limit that has been raised since. `cut` brings it to that
distance, and the caller keeps what it gives (or the distance would be measured anew at each look): a jump of the
clock blocks a key for (burst + 1) x period / limit at most, and not for the length of the jump.
"""

from __future__ import annotations

from perdure.core.flow.stored import Stored
from perdure.protocol.functions import Throttle

NANOS = 1_000_000
"""Nanoseconds in a millisecond."""


class ThrottleState(Stored, frozen=True):
    """The schedule of one key: when its next start would be exactly on pace, in nanoseconds since 1970."""

    on_pace_at: int

    def expires_at(self) -> int:
        """When (ms) the key has nothing to remember any more."""
        return -(-self.on_pace_at // NANOS)


def cut(rule: Throttle, state: ThrottleState, now: int) -> ThrottleState:
    """The schedule, brought back if it is further ahead than the rule can have put it; to be kept, and used below."""
    # One millisecond on top, for starts that were entered later in this millisecond.
    latest = (now + 1) * NANOS + (rule.burst + 1) * _interval(rule)
    return state if state.on_pace_at <= latest else ThrottleState(latest)


def next_start(rule: Throttle, state: ThrottleState | None, now: int) -> int:
    """When (ms) the key's next run may start: `now` if at once."""
    if state is None:
        return now
    return max(now, (state.on_pace_at - rule.burst * _interval(rule)) // NANOS)


def start(rule: Throttle, state: ThrottleState | None, now: int) -> ThrottleState:
    """The schedule after a start now, which `next_start` has allowed."""
    interval = _interval(rule)
    present = now * NANOS
    if state is None:
        return ThrottleState(present + interval)
    moment = max(present, state.on_pace_at - rule.burst * interval)
    return ThrottleState(max(moment, state.on_pace_at) + interval)


def before(rule: Throttle, state: ThrottleState) -> ThrottleState:
    """The schedule as it was before its last start."""
    return ThrottleState(state.on_pace_at - _interval(rule))


def further(rule: Throttle, state: ThrottleState, starts: int, now: int) -> ThrottleState:
    """The schedule after so many further starts now, whether or not they are allowed."""
    return ThrottleState(max(state.on_pace_at, now * NANOS) + starts * _interval(rule)) if starts else state


def _interval(rule: Throttle) -> int:
    return -(-rule.period_ms * NANOS // rule.limit)

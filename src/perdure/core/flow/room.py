"""Room: how much of each limit is taken, and how much there is.

Limits are known by the names that needs carry, and are numbers of places or throttles; a name without a limit has
been removed from the configuration since the need was computed, and stops nobody. `turns` decides who gets room.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Protocol

from perdure.core.flow.concurrency import Counters, Need
from perdure.core.flow.throttle import ThrottleState, before, cut, further, next_start, start
from perdure.protocol.functions import Throttle


class Needy(Protocol):
    """What needs something: `steps` are places for one call, `runs` for the life of a run, `throttle` for its start."""

    @property
    def steps(self) -> tuple[Need, ...]: ...
    @property
    def runs(self) -> tuple[Need, ...]: ...
    @property
    def throttle(self) -> Need | None: ...


class _Expected:
    """Starts of one counter that were let through and have not left, and the schedule without them."""

    __slots__ = ("starts", "state")

    def __init__(self, state: ThrottleState) -> None:
        self.state = state
        self.starts = 1


class Room:
    """The places taken, the schedules of the throttles, and the limits in force."""

    __slots__ = ("_expected", "_expiries", "_limits", "_names", "counters", "throttles")

    def __init__(self) -> None:
        self.counters = Counters()
        self.throttles: dict[str, ThrottleState] = {}
        """Schedules that still hold something back; a key that has rested is forgotten."""
        self._limits: dict[str, int | Throttle] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._expiries: list[tuple[int, str]] = []
        self._expected: dict[str, _Expected] = {}

    def set_limits(self, function_id: str, limits: Mapping[str, int | Throttle]) -> None:
        """Put the limits of a function in force; those that it had before and are not named end."""
        for name in self._names.pop(function_id, frozenset()) - limits.keys():
            del self._limits[name]
        if limits:
            self._names[function_id] = frozenset(limits)
            self._limits.update(limits)

    def limit(self, name: str) -> int | Throttle | None:
        """The limit of this name."""
        return self._limits.get(name)

    def has(self, counter: str, name: str, now: int) -> bool:
        """Whether there is room."""
        limit = self._limits.get(name)
        if limit is None:
            return True
        if isinstance(limit, int):
            return self.counters.count(counter) < limit
        return self._next_start(limit, counter, now) <= now

    def has_one_more(self, counter: str, name: str) -> bool:
        """Whether there will still be room after one more has been taken, as far as it is certain."""
        limit = self._limits.get(name)
        if isinstance(limit, int):
            return self.counters.count(counter) + 1 < limit
        return limit is None

    def opens_at(self, counter: str, name: str, now: int) -> int | None:
        """When (ms) a throttle lets the next start through; None for places, which are free when somebody leaves."""
        limit = self._limits.get(name)
        return self._next_start(limit, counter, now) if isinstance(limit, Throttle) else None

    def _next_start(self, rule: Throttle, counter: str, now: int) -> int:
        state = self.throttles.get(counter)
        if state is not None:
            kept = cut(rule, state, now)
            if kept is not state:
                self.throttles[counter] = state = kept
        return next_start(rule, self._with_expected(rule, counter, state, now), now)

    def _with_expected(
        self, rule: Throttle, counter: str, state: ThrottleState | None, now: int
    ) -> ThrottleState | None:
        """The schedule as it would be if those that were let through left now."""
        expected = self._expected.get(counter) if self._expected else None
        if expected is None:
            return state
        ahead = further(rule, expected.state, expected.starts, now)
        return ahead if state is None or ahead.on_pace_at > state.on_pace_at else state

    def take(self, item: str, run: str, needs: Needy, now: int) -> tuple[str, ThrottleState] | None:
        """Take all that an item needs. Returns the counter and schedule of its throttle, if that was used."""
        if needs.steps:
            self.counters.take(item, needs.steps)
        if needs.runs:
            self.counters.take(run, needs.runs)
        return None if needs.throttle is None else self._start(needs.throttle, now)

    def _start(self, need: Need, now: int) -> tuple[str, ThrottleState] | None:
        rule = self._limits.get(need.limit)
        if not isinstance(rule, Throttle):
            return None
        known = self.throttles.get(need.counter)
        state = start(rule, self._with_expected(rule, need.counter, known, now), now)
        self.throttles[need.counter] = state
        if known is None:
            heapq.heappush(self._expiries, (state.expires_at(), need.counter))
        return need.counter, state

    def expect(self, need: Need) -> None:
        """What was let through last by a throttle has not left yet: until `left` it may leave at any moment."""
        expected = self._expected.get(need.counter)
        if expected is not None:
            expected.starts += 1
            return
        rule, state = self._limits.get(need.limit), self.throttles.get(need.counter)
        if isinstance(rule, Throttle) and state is not None:
            self._expected[need.counter] = _Expected(before(rule, state))

    def left(self, need: Need, now: int) -> tuple[str, ThrottleState] | None:
        """One of those that were expected has left, or will not any more. The schedule, if there is one."""
        rule, expected = self._limits.get(need.limit), self._expected.get(need.counter)
        if expected is None:
            return None
        expected.starts -= 1
        if not expected.starts:
            del self._expected[need.counter]
        if not isinstance(rule, Throttle):
            return None
        expected.state = start(rule, expected.state, now)
        state = further(rule, expected.state, expected.starts, now)
        if need.counter not in self.throttles:
            heapq.heappush(self._expiries, (state.expires_at(), need.counter))
        self.throttles[need.counter] = state
        return need.counter, state

    def restore_throttle(self, counter: str, state: ThrottleState) -> None:
        """Put back a schedule that was stored."""
        if counter not in self.throttles:
            heapq.heappush(self._expiries, (state.expires_at(), counter))
        self.throttles[counter] = state

    def forget_rested(self, now: int) -> None:
        """Forget the schedules that hold nothing back any more."""
        expiries = self._expiries
        while expiries and expiries[0][0] <= now:
            counter = heapq.heappop(expiries)[1]
            state = self.throttles[counter]
            if state.expires_at() > now:
                heapq.heappush(expiries, (state.expires_at(), counter))
            else:
                del self.throttles[counter]

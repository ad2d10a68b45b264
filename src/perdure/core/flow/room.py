"""Room: how much of each limit is taken, and how much there is.

Limits are known by the names that needs carry, and are numbers of places or throttles; a name without a limit has
been removed from the configuration since the need was computed, and stops nobody. `turns` decides who gets room.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Protocol

from perdure.core.flow.concurrency import Counters, Need
from perdure.core.flow.throttle import ThrottleState, cut, later, next_start, start
from perdure.protocol.functions import Throttle


class Needy(Protocol):
    """What needs something: `steps` are places for one call, `runs` for the life of a run, `throttle` for its start."""

    @property
    def steps(self) -> tuple[Need, ...]: ...
    @property
    def runs(self) -> tuple[Need, ...]: ...
    @property
    def throttle(self) -> Need | None: ...


class Room:
    """The places taken, the schedules of the throttles, and the limits in force."""

    __slots__ = ("_expiries", "_late", "_limits", "_names", "counters", "throttles")

    def __init__(self) -> None:
        self.counters = Counters()
        self.throttles: dict[str, ThrottleState] = {}
        """Schedules that still hold something back; a key that has rested is forgotten."""
        self._limits: dict[str, int | Throttle] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._expiries: list[tuple[int, str]] = []
        self._late: dict[str, int] = {}

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
        if state is None:
            return now
        kept = cut(rule, state, now)
        if kept is not state:
            self.throttles[counter] = kept
        return next_start(rule, kept, now)

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
        before = self.throttles.get(need.counter)
        state = start(rule, before, now)
        self.throttles[need.counter] = state
        if before is None:
            heapq.heappush(self._expiries, (state.expires_at(), need.counter))
        return need.counter, state

    def late(self, counter: str) -> int:
        """How much (ms) the schedule of a counter has been put off by so far."""
        return self._late.get(counter, 0) if self._late else 0

    def put_off(self, counter: str, late: int) -> tuple[str, ThrottleState] | None:
        """A start that was let through has come later, and so do those after it. The schedule, if it changes.

        `late` is what `late` was when the start was let through, and its delay on top: starts that were let through
        together and come late together put the schedule off once.
        """
        state, before = self.throttles.get(counter), self._late.get(counter, 0)
        if state is None or late <= before:
            return None
        self._late[counter] = late
        self.throttles[counter] = later(state, late - before)
        return counter, self.throttles[counter]

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
                self._late.pop(counter, None)

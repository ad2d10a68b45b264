"""How many calls an app gets at once.

An app process that works is full with a few dozen calls: more only wait inside it, and slow each other down
(measured: 16 to 32 at once give a third more runs a second than 100). An app that waits for a model or a
database can hold hundreds. Both are told apart by age: a call that has been under way for `YOUNG_MS` is
waiting for something, and no longer counts against the small number of young calls. The hard limit counts
every call.

A call that has posted a finished step within `QUICK_MS` of its start is in an app that waits for us more than it works:
the more such calls there are, the more of their steps share a commit. Each counts as a quarter of a young one. Measured
with five steps a run: on the own SDK in Python 24 at once cost the server 122 µs a step, 96 cost 80 µs and did twice
as many in a second; the JavaScript SDK, which has 1 ms of work a step, did 790 a second with 24 and 475 with 96.

Within one app, a single function takes at most half of the hard limit while another function of the app
waits for a place.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress

YOUNG_CALLS = 24
YOUNG_MS = 250
POSTING_TO_ONE = 4
"""So many young calls that are quick to post their steps count as one that is not."""
QUICK_MS = 10
HARD_LIMIT = 1_000


class Gate:
    """Counts the calls of one app. Calls are known by a number given at entry."""

    __slots__ = (
        "_at_first",
        "_by_function",
        "_posting",
        "_young",
        "hard_limit",
        "in_flight",
        "leaving",
        "young_calls",
    )

    def __init__(self, hard_limit: int = HARD_LIMIT, young_calls: int = YOUNG_CALLS) -> None:
        self._at_first = hard_limit, young_calls
        self.hard_limit = hard_limit
        self.young_calls = young_calls
        self.in_flight: dict[int, tuple[str, int]] = {}
        self.leaving: set[int] = set()
        """Calls that have been decided, and wait for their commit before they leave."""
        self._young: deque[int] = deque()
        self._posting: deque[int] = deque()
        self._by_function: dict[str, int] = {}

    def reset(self) -> None:
        """Let as many calls through as an app over HTTP gets, whatever its workers took before."""
        self.hard_limit, self.young_calls = self._at_first

    def has_room(self, function_id: str, now: int, others_wait: bool) -> bool:
        """Whether a call of the function may start now (ms)."""
        self._forget_old(now)
        if len(self.in_flight) >= self.hard_limit or self._quarters_left() < POSTING_TO_ONE:
            return False
        return not (others_wait and self.holds_half(function_id))

    def free(self, now: int) -> int:
        """How many calls may start now (ms), whosever they are."""
        self._forget_old(now)
        return min(self.hard_limit - len(self.in_flight), self._quarters_left() // POSTING_TO_ONE)

    def _quarters_left(self) -> int:
        return (self.young_calls - len(self._young)) * POSTING_TO_ONE - len(self._posting)

    def holds_half(self, function_id: str) -> bool:
        """Whether the function has as many calls under way as it may have while others wait."""
        return self._by_function.get(function_id, 0) >= max(self.hard_limit // 2, 1)

    def enter(self, number: int, function_id: str, now: int) -> None:
        """A call starts."""
        self.in_flight[number] = (function_id, now)
        self.leaving.add(number)
        self._young.append(number)
        self._by_function[function_id] = self._by_function.get(function_id, 0) + 1

    def posted(self, number: int, now: int, took: int | None = None) -> None:
        """A call has posted finished steps (ms); unknown numbers are ignored.

        `took` is what the app says that it had the call for (ms): without our commits and the way, which are no
        fault of it.
        """
        entry = self.in_flight.get(number)
        if entry is None or (now - entry[1] if took is None else took) > QUICK_MS:
            return
        with suppress(ValueError):
            self._young.remove(number)
            self._posting.append(number)

    def leave(self, number: int) -> None:
        """A call has ended; unknown numbers are ignored."""
        self.leaving.discard(number)
        entry = self.in_flight.pop(number, None)
        if entry is None:
            return
        function_id = entry[0]
        left = self._by_function[function_id] - 1
        if left:
            self._by_function[function_id] = left
        else:
            del self._by_function[function_id]
        for kind in (self._posting, self._young):
            with suppress(ValueError):
                kind.remove(number)

    def young(self, now: int) -> int:
        """For how many the calls count that are young at a time (ms)."""
        young, posting = (
            sum(1 for number in kind if now - YOUNG_MS < self.in_flight[number][1] <= now)
            for kind in (self._young, self._posting)
        )
        return young + -(-posting // POSTING_TO_ONE)

    def next_room(self) -> int | None:
        """When (ms) the oldest young call stops counting as young, if that is what makes room; else None.

        A time that is past says only that `has_room` is to be asked again.
        """
        if len(self.in_flight) >= self.hard_limit or self._quarters_left() >= POSTING_TO_ONE:
            return None
        oldest = [self.in_flight[kind[0]][1] for kind in (self._young, self._posting) if kind]
        return min(oldest) + YOUNG_MS

    def _forget_old(self, now: int) -> None:
        """A call from the future was made before the clock was set back: nobody knows its age, so it is old."""
        for kind in (self._young, self._posting):
            while kind and not now - YOUNG_MS < self.in_flight[kind[0]][1] <= now:
                kind.popleft()

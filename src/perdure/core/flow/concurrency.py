"""Concurrency: at most so many at the same time, of a function's calls or of its runs, for each value of a key.

Two things are limited. A limit on **steps** counts calls to the app that are under way: a run that sleeps or waits
for an event takes no place, and between two steps the place is free for others. A limit on **runs** counts runs
from their first call to their end, asleep or not. A function may have two of the first and one of the second; an
item needs room in all of them at once and takes them together or not at all, so that nobody holds one place while
waiting for another.

A place is counted by a **counter**. Its id is made of what is counted, the scope, a digest of the key's
expression and the bucket of its value; that of scope `fn` names the function too. So functions of any apps with
the scope `env` or `account`, the same expression and the same value share one counter. The value is computed once
for a run and stays with it. How many places there are is not part of the counter: each function compares the count
with the limit in its present configuration, and a limit that has been removed stops nobody.

Why it is never over by one. Only one writer takes and gives back places, and looks and takes in one go. Counts are
not stored: they are the holders, and the holders are calls under way and runs begun, which are. After a restart
they are taken again, without asking for room; if a limit was lowered meanwhile, nobody is thrown out, and nobody
enters until enough have left.

Who waits for which counter, and whose turn it is, is the subject of `turns`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

import msgspec

from perdure.core.flow.keys import Key, KeyExpression, digest
from perdure.core.flow.stored import Stored
from perdure.protocol.functions import ConcurrencyLimit, FunctionConfig

KNOWN_KEYS = 1_000
"""Keys of a limit whose needs are kept ready."""


class Need(Stored, frozen=True):
    """A place that an item needs.

    `counter` is what counts it, `limit` names the line of the function's configuration that says how many there
    are, `value` is the key's value for people. `narrow` tells that the key differs from event to event.
    """

    counter: str
    limit: str
    value: str = ""
    narrow: bool = False


class RunNeeds(msgspec.Struct, frozen=True, gc=False):
    """What a run needs, as computed once from its event: `runs` for its life, `steps` for each of its calls.

    `problems` are keys that could not be computed, in words.
    """

    runs: tuple[Need, ...] = ()
    steps: tuple[Need, ...] = ()
    problems: tuple[str, ...] = ()


NO_NEEDS = RunNeeds()


class _Limit:
    """One limit of a function, its key compiled."""

    __slots__ = ("_known", "counter", "id", "key", "most", "narrow")

    def __init__(self, function_id: str, what: str, limit: ConcurrencyLimit) -> None:
        expression = digest(limit.key.strip())[:12] if limit.key is not None else ""
        owner = function_id if limit.scope == "fn" else ""
        self.key = KeyExpression(limit.key)
        self.counter = f"{what}/{limit.scope}/{owner}/{expression}/"
        self.id = f"{function_id}/{what}/{limit.scope}/{expression}"
        self.most = limit.limit
        self.narrow = not self.key.shared
        self._known: dict[str, Need] = {}

    def need(self, key: Key) -> Need:
        """The need of a key: those of the keys met lately are kept, as most keys are met again."""
        need = self._known.get(key.id)
        if need is None:
            if len(self._known) >= KNOWN_KEYS:
                self._known.clear()
            need = self._known[key.id] = Need(self.counter + key.id, self.id, key.value, self.narrow)
        return need


class ConcurrencyRules:
    """The limits of one function, compiled once.

    `limits` are the numbers, `configured` the lines of the configuration, both by the names that needs carry.
    `keys` are those of all limits.
    """

    __slots__ = ("_runs", "_same", "_steps", "configured", "keys", "limits")

    def __init__(self, function_id: str, config: FunctionConfig) -> None:
        self._steps = [_Limit(function_id, "step", limit) for limit in config.concurrency]
        of_runs = [] if config.run_concurrency is None else [config.run_concurrency]
        self._runs = [_Limit(function_id, "run", limit) for limit in of_runs]
        self.limits: dict[str, int] = {}
        for limit in (*self._steps, *self._runs):
            self.limits[limit.id] = min(limit.most, self.limits.get(limit.id, limit.most))
        written = zip((*self._steps, *self._runs), (*config.concurrency, *of_runs), strict=True)
        self.configured = {limit.id: line for limit, line in written}
        self.keys = [limit.key for limit in (*self._steps, *self._runs)]
        self._same: RunNeeds | None = None
        if all(key.text is None for key in self.keys):
            self._same = self._computed({}, 0) if self.limits else NO_NEEDS

    def needs(self, event: Mapping[str, object], now: int) -> RunNeeds:
        """What a run of this event needs."""
        return self._same or self._computed(event, now)

    def taken(self, name: str, counters: Counters, most: int) -> tuple[list[tuple[str, int]], bool]:
        """How many places of a limit are taken for each value of its key as people read it (empty if it was met too
        long ago to be known), and whether that is all: it looks at `most` counters. For people who ask.
        """
        limit = next(one for one in (*self._steps, *self._runs) if one.id == name)
        counts, whole = counters.below(limit.counter, most)
        known = limit._known
        return [(known[id].value if id in known else "", count) for id, count in counts.items()], whole

    def _computed(self, event: Mapping[str, object], now: int) -> RunNeeds:
        problems: list[str] = []
        steps = _needs(self._steps, event, now, problems)
        return RunNeeds(_needs(self._runs, event, now, problems), steps, tuple(problems))


def _needs(
    limits: list[_Limit], event: Mapping[str, object], now: int, problems: list[str]
) -> tuple[Need, ...]:
    if not limits:
        return ()
    if len(limits) == 1:
        key = limits[0].key.bucket(event, now)
        if key.problem is not None:
            problems.append(key.problem)
        return (limits[0].need(key),)
    found: dict[str, Need] = {}
    for limit in limits:
        key = limit.key.bucket(event, now)
        if key.problem is not None:
            problems.append(key.problem)
        need = limit.need(key)
        found[need.counter] = need
    return tuple(found.values())


class Counters:
    """Who holds which places. A holder is known by a text of the caller's: an item under way, or a run."""

    __slots__ = ("_held", "_holders")

    def __init__(self) -> None:
        self._holders: dict[str, dict[str, None]] = {}
        self._held: dict[str, tuple[str, ...]] = {}

    def count(self, counter: str) -> int:
        """How many places of a counter are taken."""
        holders = self._holders.get(counter)
        return 0 if holders is None else len(holders)

    def below(self, prefix: str, most: int) -> tuple[dict[str, int], bool]:
        """Places taken of the counters whose names begin so, by the rest of the name; looks at `most` counters, and
        says whether these were all.
        """
        start = len(prefix)
        found = {
            counter[start:]: len(holders)
            for counter, holders in islice(self._holders.items(), most)
            if counter.startswith(prefix)
        }
        return found, len(self._holders) <= most

    def has_room(self, needs: Iterable[Need], limits: Mapping[str, int]) -> bool:
        """Whether all the places are free at once."""
        return all(
            (limit := limits.get(need.limit)) is None or self.count(need.counter) < limit for need in needs
        )

    def take(self, holder: str, needs: Iterable[Need]) -> None:
        """Take places, whether there is room or not. One holder takes a place of a counter once only."""
        taken = tuple([need.counter for need in needs])
        if not taken:
            return
        for counter in taken:
            holders = self._holders.get(counter)
            if holders is None:
                self._holders[counter] = {holder: None}
            else:
                holders[holder] = None
        before = self._held.get(holder)
        self._held[holder] = taken if before is None else tuple(dict.fromkeys((*before, *taken)))

    def give_back(self, holder: str) -> tuple[str, ...]:
        """Give back all places of a holder. Returns their counters; unknown holders have none."""
        counters = self._held.pop(holder, ())
        for counter in counters:
            holders = self._holders[counter]
            del holders[holder]
            if not holders:
                del self._holders[counter]
        return counters

    def holders(self, counter: str, most: int) -> list[str]:
        """Those who hold places of a counter, the longest holder first, at most so many."""
        return list(islice(self._holders.get(counter, ()), most))

    def __len__(self) -> int:
        return len(self._holders)

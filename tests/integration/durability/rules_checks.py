"""What must be true of functions under rules, however often the server was killed: the limits on what goes at once.

The order of the app's journal tells what it was called for at the same time. A call that a kill has cut off counts
until then: that the server has died gives its place back, and the call is made again with a higher generation. Which
calls these were is what the dead server's own database says.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from tests.integration.durability import rules
from tests.integration.durability.checks import Complaints
from tests.integration.durability.journal import Journal
from tests.integration.durability.rules_ledger import Call, RulesLedger, Run

SEEN_BACK_MS = 600
"""So much earlier than the test sees it may a server be back."""
LATE_MS = 250
"""So much later than the server sends them may calls reach the app, on a machine that has much to do."""


@dataclass(frozen=True)
class Death:
    """A kill: between `killed_at` and `back_at` (ms) there was no server. `line` is the place in the journal."""

    line: int
    killed_at: int
    back_at: int
    cut: frozenset[Call]
    """The calls that were under way."""


def no_limit_is_exceeded(
    journal: Journal, ledger: RulesLedger, deaths: Sequence[Death], most: Counter[str] | None = None
) -> Complaints:
    """At no time are more calls under way than the limits say, and each is of a higher generation than those before.

    `most` takes the largest number of calls of each counter that were under way.
    """
    most = Counter() if most is None else most
    live: dict[Call, dict[str, int]] = {}
    newest: dict[str, int] = {}
    counts: Counter[str] = Counter()
    dead: set[Call] = set()
    seen: set[Call] = set()
    ahead = list(deaths)

    def end(call: Call) -> None:
        for counter in live.pop(call, {}):
            counts[counter] -= 1

    for place, line in enumerate(journal.lines):
        while ahead and place >= ahead[0].line:
            dead |= ahead[0].cut
            for call in ahead.pop(0).cut:
                end(call)
        if line["what"] == "left":
            end((line["job"], line["generation"]))
        if line["what"] != "call":
            continue
        call = (line["job"], line["generation"])
        if call in seen:
            yield f"call {call} came twice"
        seen.add(call)
        if call in dead:
            # It was sent before the kill, and read by the app only now.
            continue
        if call[1] < newest.get(call[0], 0):
            yield f"call {call} came after generation {newest[call[0]]}"
        newest[call[0]] = call[1]
        live[call] = rules.counters(ledger.runs[line["run"]].function, line["who"])
        for counter, limit in live[call].items():
            counts[counter] += 1
            most[counter] = max(most[counter], counts[counter])
            if counts[counter] > limit:
                yield f"line {place}: {counts[counter]} calls of {counter}, which has a limit of {limit}"


def runs_keep_their_places(journal: Journal, ledger: RulesLedger) -> Complaints:
    """From its first call to its end a run holds a place, or its singleton's key, asleep or not."""
    for function in (rules.WHOLE, rules.MIXED):
        yield from _overlaps(ledger.of(function), rules.RUN_LIMIT, begun=True)
        yield from _overlaps_seen(journal, ledger.of(function), rules.RUN_LIMIT)
    for function in (rules.SKIPS, rules.REPLACES):
        for of_key in ledger.by_who(function).values():
            yield from _overlaps([run for run in of_key if run.status != "SKIPPED"], 1, begun=False)
    for of_key in ledger.by_who(rules.SKIPS).values():
        yield from _overlaps_seen(journal, of_key, 1)


def _overlaps(runs: Iterable[Run], limit: int, *, begun: bool) -> Complaints:
    """By the times that the server has written down. One may begin in the millisecond in which another ends."""
    changes: list[tuple[int, int, str]] = []
    for run in runs:
        since = run.started_at if begun else run.created_at
        if since is not None and run.ended_at is not None:
            # Whoever begins and ends within one millisecond ends before others begin.
            changes += [(since, 1, run.id), (max(run.ended_at, since), -1, run.id)]
    changes.sort(key=lambda change: (change[0], change[1]))
    count = 0
    for at, change, run_id in changes:
        count += change
        if count > limit:
            yield f"{count} runs live at {at}, one of them {run_id}; {limit} may"


def _overlaps_seen(journal: Journal, runs: Iterable[Run], limit: int) -> Complaints:
    """By what the app has seen: from a run's first call to the last time that its code came to its end."""
    ids = {run.id for run in runs}
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, line in enumerate(journal.lines):
        if line.get("run") in ids and line["what"] in ("call", "end"):
            first.setdefault(line["run"], place)
            last[line["run"]] = place
    changes = [(place, 1) for place in first.values()] + [(place, -1) for place in last.values()]
    # A run of which there is one line is live at that.
    changes.sort(key=lambda change: (change[0], -change[1]))
    count = 0
    for place, change in changes:
        count += change
        if count > limit:
            yield f"line {place}: {count} runs live, and {limit} may"


def starts_are_spaced(journal: Journal, ledger: RulesLedger) -> Complaints:
    """A throttle's starts keep their distance, on disk and as the app has seen them."""
    arrived: dict[str, int] = {}
    again: set[str] = set()
    for line in journal.of("call"):
        if line["run"] in arrived:
            continue
        arrived[line["run"]] = int(line["at"] * 1_000)
        if line["generation"] > 1:
            again.add(line["run"])
    paced = ledger.of(rules.PACED)
    groups = [(paced, rules.PACE, rules.PACE_PERIOD_MS)]
    most = rules.BURST_LIMIT + rules.BURST_MORE
    groups += [(of_key, most, rules.BURST_PERIOD_MS) for of_key in ledger.by_who(rules.BURST).values()]
    for runs, limit, period in groups:
        starts = sorted(run.started_at for run in runs if run.started_at is not None)
        yield from _crowded(starts, limit, period, f"starts of {runs[0].function}")
        # A run whose first call was cut off had begun; when it was called again says nothing.
        seen = sorted(arrived[run.id] for run in runs if run.id in arrived and run.id not in again)
        yield from _crowded(seen, limit, period - LATE_MS, f"first calls of {runs[0].function}")
    for runs in (paced, *ledger.by_who(rules.MIXED).values()):
        starts = sorted(run.started_at for run in runs if run.started_at is not None)
        yield from _crowded(starts, 1, rules.PACE_PERIOD_MS // rules.PACE, f"starts of {runs[0].function}")


def _crowded(times: Sequence[int], limit: int, period: int, what: str) -> Complaints:
    """Whether some window of one period has more than `limit` times."""
    for first, beyond in zip(times, times[limit:], strict=False):
        if beyond - first < period:
            yield f"{limit + 1} {what} from {first} to {beyond}, in less than {period} ms"


def rate_is_kept(ledger: RulesLedger) -> Complaints:
    """At most so many runs of a key in any period, and an event was dropped only if there were as many."""
    ran = {n for run in ledger.of(rules.RATED) for n in run.events}
    for who, runs in ledger.by_who(rules.RATED).items():
        times = [run.created_at for run in runs]
        yield from _crowded(times, rules.RATE, rules.RATE_PERIOD_MS, f"runs of {rules.RATED} for {who}")
        for event in ledger.events.values():
            if (event.function, event.who) != (rules.RATED, who) or event.n in ran:
                continue
            since, until = event.received_at - rules.RATE_PERIOD_MS, event.received_at + 2 * LATE_MS
            if sum(since < at <= until for at in times) < rules.RATE:
                yield f"event {event.n} of {rules.RATED} was dropped although there was a place"


def schedule_is_kept(ledger: RulesLedger, deaths: Sequence[Death]) -> Complaints:
    """Each second fired at most once, and none is missed but while the server was down; then the latest was made up."""
    for function in rules.TICKS:
        yield from _fires_each_second(ledger.of(function), deaths)


def _fires_each_second(runs: Sequence[Run], deaths: Sequence[Death]) -> Complaints:
    times = [seconds_of(run.scheduled_at) for run in runs]
    for time, count in Counter(times).items():
        if count > 1:
            yield f"{count} runs for the schedule of {time}"
    for before, after in pairwise(sorted(set(times))):
        for missed in range(before + 1, after):
            if not any(
                death.killed_at - LATE_MS <= missed * 1_000 <= death.back_at + LATE_MS for death in deaths
            ):
                yield f"no run for the schedule of {missed}, when the server was there"
    for death in deaths:
        yield from _made_up_once(times, death)
    for run, time in zip(runs, times, strict=True):
        late = run.created_at - time * 1_000
        down = sum(death.back_at - death.killed_at for death in deaths if death.back_at > time * 1_000)
        if not 0 <= late < down + 1_000 + LATE_MS:
            yield f"run {run.id} of the schedule of {time} came {late} ms later"


def _made_up_once(times: Sequence[int], death: Death) -> Complaints:
    """Of the times that a long downtime has passed by, the latest fired, and no other."""
    if death.back_at - death.killed_at < 2 * (1_000 + SEEN_BACK_MS):
        return
    # The server was at work by the first of these at the earliest: it fires for the second before, or a later one.
    earliest = death.back_at - SEEN_BACK_MS - 1_000
    passed = [time for time in times if death.killed_at + LATE_MS < time * 1_000 <= earliest]
    if passed:
        yield f"runs for the schedule of {passed}, when the server was down and more was to come"
    if not any(earliest < time * 1_000 <= death.back_at for time in times):
        yield f"nothing was made up for when the server was back at {death.back_at}"


def seconds_of(text: str) -> int:
    """Seconds since 1970 of a time on the wire."""
    return int(datetime.fromisoformat(text).timestamp())


def events_of(ledger: RulesLedger, function: str) -> dict[str, list[int]]:
    """Numbers of the events of a function in the order in which they were received, by key."""
    found: dict[str, list[int]] = defaultdict(list)
    for event in sorted(ledger.events.values(), key=lambda each: each.receipt):
        if event.function == function:
            found[event.who].append(event.n)
    return found

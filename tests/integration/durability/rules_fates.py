"""What must have become of each event for a function under rules, however often the server was killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from tests.integration.durability import rules
from tests.integration.durability.checks import Complaints
from tests.integration.durability.journal import Journal
from tests.integration.durability.rules_checks import (
    LATE_MS,
    Death,
    events_of,
    no_limit_is_exceeded,
    rate_is_kept,
    runs_keep_their_places,
    schedule_is_kept,
    starts_are_spaced,
)
from tests.integration.durability.rules_ledger import RulesLedger, Run

DECIDED_MS = 500
"""So much later than it was received may an event be decided: then it is not known which of two came to pass."""

ENDS: dict[str, set[str]] = {
    rules.SKIPS: {"COMPLETED", "SKIPPED"},
    rules.REPLACES: {"COMPLETED", "CANCELLED"},
    rules.START_BY: {"COMPLETED", "CANCELLED"},
    rules.START_PACED: {"COMPLETED", "CANCELLED"},
    rules.FINISH_BY: {"COMPLETED", "CANCELLED"},
    rules.CANCELLABLE: {"CANCELLED"},
    **{name: {"COMPLETED", "SKIPPED"} for name in (*rules.TICKS, rules.ASKED[3])},
}
"""The ends that runs may have; only COMPLETED for other functions."""


def all_is_well(
    journal: Journal,
    ledger: RulesLedger,
    deaths: Sequence[Death],
    accepted: Mapping[int, str],
    pauses: Sequence[tuple[int, int]],
) -> Complaints:
    """Everything that holds once all is sent and has ended."""
    yield from no_limit_is_exceeded(journal, ledger, deaths)
    yield from runs_keep_their_places(journal, ledger)
    yield from starts_are_spaced(journal, ledger)
    yield from rate_is_kept(ledger)
    yield from schedule_is_kept(ledger, deaths)
    yield from each_event_has_its_run(ledger, accepted)
    yield from each_batched_event_is_in_one_batch(journal, ledger)
    yield from each_flurry_ran_once(ledger)
    yield from skipped_for_one_that_lived(ledger)
    yield from timeouts_are_kept(ledger, deaths)
    yield from nothing_began_while_paused(ledger, pauses)
    yield from nothing_is_left(ledger)


def each_event_has_its_run(ledger: RulesLedger, accepted: Mapping[int, str]) -> Complaints:
    """An acknowledged event is there, and has exactly one run if no rule drops it. Each run ended as it may."""
    for n, internal_id in accepted.items():
        if n not in ledger.events or ledger.events[n].internal_id != internal_id:
            yield f"event {n} was acknowledged as {internal_id}, and is {ledger.events.get(n)}"
    counts = Counter(n for run in ledger.of(*rules.NEVER_DROPPED) for n in run.events)
    for n, event in ledger.events.items():
        if event.function in rules.NEVER_DROPPED and counts[n] != 1:
            yield f"event {n} of {event.function} has {counts[n]} runs"
    for who, numbers in events_of(ledger, rules.ONCE).items():
        ran = [run.events for run in ledger.by_who(rules.ONCE)[who]]
        if ran != [(numbers[0],)]:
            yield f"events {numbers} of {rules.ONCE} are one to the rule, and {ran} ran"
    for run in ledger.runs.values():
        if run.status not in ENDS.get(run.function, {"COMPLETED"}):
            yield f"run {run.id} of {run.function} is {run.status}"
    for who, runs in ledger.by_who(rules.REPLACES).items():
        if runs[-1].status != "COMPLETED":
            yield f"the last run of {rules.REPLACES} for {who} is {runs[-1].status}"


def each_batched_event_is_in_one_batch(journal: Journal, ledger: RulesLedger) -> Complaints:
    """Batches have all events of their key once and in order, are full or waited their time, and were called so."""
    ran = ledger.by_who(rules.BATCHED)
    for who, numbers in events_of(ledger, rules.BATCHED).items():
        if (batched := [n for run in ran[who] for n in run.events]) != numbers:
            odd = Counter(numbers)
            odd.subtract(batched)
            wrong = {n: count for n, count in odd.items() if count}
            yield f"batches of {who} do not hold each event once and in order: {wrong or batched}"
    for run in ledger.of(rules.BATCHED):
        opened = ledger.events[run.events[0]].received_at
        full = len(run.events) >= rules.BATCH_SIZE
        if len(run.events) > rules.BATCH_SIZE or not (full or run.created_at >= opened + rules.BATCH_MS):
            yield f"batch {run.id} of {len(run.events)} ran {run.created_at - opened} ms after it was opened"
        if len({ledger.events[n].who for n in run.events}) > 1:
            yield f"batch {run.id} has several keys"
    for line in journal.of("call"):
        run = ledger.runs[line["run"]]
        if run.function == rules.BATCHED and tuple(line["events"]) != run.events:
            yield f"batch {run.id} is {run.events} and was called with {line['events']}"


def each_flurry_ran_once(ledger: RulesLedger) -> Complaints:
    """The last event of a flurry ran, once and when it was over; none that another followed in time did."""
    ran = ledger.by_who(rules.FLURRY)
    for who, numbers in events_of(ledger, rules.FLURRY).items():
        runs = {n: [run for run in ran[who] if run.events == (n,)] for n in numbers}
        for n, after in pairwise([*numbers, -1]):
            event, following = ledger.events[n], ledger.events.get(after)
            gap = None if following is None else following.received_at - event.received_at
            fewest = gap is None or gap > rules.FLURRY_MS + DECIDED_MS
            most = gap is None or gap >= rules.FLURRY_MS - DECIDED_MS
            if not fewest <= len(runs[n]) <= most:
                yield f"event {n} of {who} has {len(runs[n])} runs; the next came {gap} ms later"
            for run in runs[n]:
                if run.created_at < event.received_at + rules.FLURRY_MS:
                    yield f"run {run.id} came {run.created_at - event.received_at} ms after its event"


def skipped_for_one_that_lived(ledger: RulesLedger) -> Complaints:
    """Who was skipped met a live run of its key."""
    for run in ledger.of(rules.SKIPS):
        if run.status != "SKIPPED":
            continue
        holder = ledger.runs.get(run.holder)
        if holder is None or holder.who != run.who or holder.ended_at is None:
            yield f"run {run.id} was skipped because of {holder}"
        elif not holder.created_at <= run.created_at <= holder.ended_at:
            yield f"run {run.id} was skipped at {run.created_at} because of {holder}"


def timeouts_are_kept(ledger: RulesLedger, deaths: Sequence[Death]) -> Complaints:
    """Who was too late was cancelled, then and no earlier, unless the server was down."""
    for run in ledger.of(rules.START_BY, rules.START_PACED):
        yield from _kept(run, run.created_at, run.started_at, rules.START_MS, deaths)
        if run.status == "CANCELLED" and run.started_at is not None:
            yield f"run {run.id} had begun and was cancelled"
    for run in ledger.of(rules.FINISH_BY):
        if run.started_at is not None:
            done = run.ended_at if run.status == "COMPLETED" else None
            yield from _kept(run, run.started_at, done, rules.FINISH_MS, deaths)


def _kept(run: Run, since: int, reached: int | None, span: int, deaths: Sequence[Death]) -> Complaints:
    """`reached` is when it did what it had `span` ms from `since` for; None if it never did, and was cancelled."""
    deadline = since + span
    latest = deadline + LATE_MS
    for death in deaths:
        # A server that was killed again while it started has had no time for it.
        if death.killed_at <= latest:
            latest = max(latest, death.back_at + LATE_MS)
    if reached is not None:
        # It may be a little late by the answer that was decided just before the deadline.
        if reached > deadline + LATE_MS:
            yield f"run {run.id} of {run.function} was not cancelled at {deadline}, and got there at {reached}"
    elif run.ended_at is None or not deadline <= run.ended_at <= latest:
        yield f"run {run.id} of {run.function} was to be cancelled at {deadline}, and ended at {run.ended_at}"


def nothing_began_while_paused(ledger: RulesLedger, pauses: Sequence[tuple[int, int]]) -> Complaints:
    """A run that was created between the answer to a pause and the request to resume began after that request.

    One that was queued before, or that a resume had let go when the next pause came, may begin.
    """
    for run in ledger.of(rules.HELD):
        for since, until in pauses:
            if run.started_at is not None and since < run.created_at and run.started_at < until:
                yield f"run {run.id} began at {run.started_at}, paused from {since} to {until}"


def nothing_is_left(ledger: RulesLedger) -> Complaints:
    """When everything has ended, nothing is kept for it."""
    for what, count in ledger.leftovers.items():
        if count:
            yield f"{count} {what} are left"


def every_rule_bit(journal: Journal, ledger: RulesLedger, deaths: Sequence[Death]) -> Complaints:
    """Each rule had something to do: otherwise nothing has been shown of it."""
    most: Counter[str] = Counter()
    yield from no_limit_is_exceeded(journal, ledger, deaths, most)
    for function in (rules.LIMITED, rules.KEYED, rules.BOTH, rules.SHARED[0], rules.START_BY, rules.MIXED):
        for counter, limit in rules.counters(function, "who-0").items():
            if most[counter] < limit:
                yield f"at most {most[counter]} calls of {counter} were under way; its limit is {limit}"
    for function in (rules.SKIPS, rules.REPLACES, rules.START_BY, rules.START_PACED, rules.FINISH_BY):
        if missing := ENDS[function] - {run.status for run in ledger.of(function)}:
            yield f"no run of {function} is {missing}"
    for function in (rules.RATED, rules.FLURRY, rules.BATCHED):
        events = sum(event.function == function for event in ledger.events.values())
        if events <= len(ledger.of(function)):
            yield f"each event of {function} has a run of its own"
    least_ms = {rules.PACED: 300, rules.BURST: 100, rules.HELD: 200, rules.MIXED: 200, rules.WHOLE: 50}
    for function, least in least_ms.items():
        waited = [
            run.started_at - run.created_at for run in ledger.of(function) if run.started_at is not None
        ]
        if max(waited, default=0) < least:
            yield f"no run of {function} waited for {least} ms"
    if {len(run.events) >= rules.BATCH_SIZE for run in ledger.of(rules.BATCHED)} != {True, False}:
        yield "not both, a full batch and one whose time was over"

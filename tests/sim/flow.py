"""The rules of functions as a naive reading has them, compared with every batch.

For each run it is noted once, from its event and the rules in force, what the run needs: which counters of places,
which throttle, which singleton. After each batch those that hold something are counted anew, from all rows. What an
event became for a function with rules is worked out in the order of arrival, and must be what the rows show.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perdure.core.settings import Settings
from perdure.shard.changes import Changes
from perdure.shard.keys import PLACE, SINGLETON
from perdure.shard.rows import EventRow, FunctionRow, ItemRow, RunRow
from tests.sim.held import Held
from tests.sim.lines import Passing
from tests.sim.memory_store import Tables
from tests.sim.programs import Program
from tests.sim.rules import Event, Fields, Rules, bucket_of, in_force, key_of, ms
from tests.sim.ticking import Ticking

if TYPE_CHECKING:
    from tests.sim.checks import Checks

LIVE = ("QUEUED", "RUNNING")
CALLS = ("discovery", "step")
SETTLED_S = 1.0
"""So long a call that has been given its turn may take to leave, beside reads and commits."""
SLOW_MS = 120_000
"""So late a deadline may be handled if nothing goes wrong: commits and reads of 15 s, several in a row."""


@dataclass
class Needs:
    """What a run needs, from its event and the rules that were in force when it was created."""

    function_id: str
    event: Event
    rules: Rules
    steps: dict[str, str] = field(default_factory=dict)
    """Counters of its calls, and the id of the limit in the function's rules."""
    runs: dict[str, str] = field(default_factory=dict)
    throttle: str = ""
    singleton: str | None = None
    rank: int = 0
    start_by: tuple[int, ...] = ()
    """When it must have begun, if it must: two times are possible in the batch that moves the clock."""


class Flow:
    """Follows rules of functions, batch by batch."""

    def __init__(self, checks: Checks, programs: dict[str, Program], settings: Settings) -> None:
        self._checks = checks
        self._programs = programs
        self.ruled = any(program.rules or program.schedules for program in programs.values())
        self.needs: dict[str, Needs] = {}
        self.rows: dict[str, list[FunctionRow]] = {}
        """All versions of each function that were stored."""
        self._stored: dict[str, list[float]] = {}
        """When (seconds) each of them was."""
        self.unsteady: set[str] = set()
        """Functions that are stored in this batch: what it decided may be by the old rules or the new."""
        self.starts: dict[str, list[int]] = {}
        self.places: dict[tuple[str, str], list[int]] = {}
        self.jumped_at = 0
        """Wall clock before which times mean nothing, since it was set anew."""
        self.troubled = True
        """Whether anything may go wrong at all."""
        self.reads_ms = 0
        """So long it may take to read a run whose turn it is, so that it begins later than its throttle counts."""
        self.held = Held(self, checks, settings)
        self.passing = Passing(checks)
        self.ticking = Ticking(checks)
        self._items: dict[tuple[str, int], ItemRow | None] = {}
        self._runs: dict[str, RunRow | None] = {}
        self.number = 0

    def _fail(self, checker: str, text: str, run: str = "") -> None:
        self._checks.fail(checker, text, run)

    def jumped(self, now: int) -> None:
        """The clock was set anew."""
        self.jumped_at = now
        self.starts.clear()
        self.places.clear()

    # What is in force

    def rules(self, function_id: str) -> Rules:
        """The rules of a function as stored last."""
        return in_force(self.rows[function_id][-1])

    def candidates(self, function_id: str) -> list[Rules]:
        """The rules by which this batch may have decided, or given turns to what comes with it."""
        rows, stored = self.rows.get(function_id, []), self._stored.get(function_id, [])
        recent = self._checks.trace.seconds() - SETTLED_S - self.reads_ms / 1_000
        first = max((n for n, second in enumerate(stored) if second <= recent), default=0)
        return [in_force(row) for row in rows[first:]]

    def may_be_dropped(self, function_id: str) -> bool:
        """Whether an event that meets the function may leave nothing at all."""
        return any(rules.rate for rules in self.candidates(function_id))

    def may_be_held(self, function_id: str) -> bool:
        """Whether an event that meets the function may be held back for a later run."""
        return any(rules.debounce or rules.batch for rules in self.candidates(function_id))

    # A batch

    def before(self, tables: Tables, changes: Changes) -> None:
        """A batch is about to be written."""
        if not self.ruled:
            return
        self._items = {key: tables.items.get(key[0], {}).get(key[1]) for key in changes.items}
        self._runs = {run_id: tables.runs.get(run_id) for run_id in changes.runs}
        self.held.before(tables, changes)
        self.passing.before(tables, changes)
        self.ticking.before(tables, changes)

    def committed(self, tables: Tables, changes: Changes) -> None:
        """A batch has been written."""
        if not self.ruled:
            return
        self.number += 1
        self.unsteady = set(changes.functions)
        for function in changes.functions.values():
            self._take_function(function)
        created = [changes.runs[run_id] for run_id, before in self._runs.items() if before is None]
        for row in created:
            self._take_run(tables, row)
        fresh = [row for row in created if row.original_run_id is None]
        self._check_rates(tables, changes, fresh)
        self.held.committed(tables, changes, fresh)
        entering = [
            row
            for key, row in changes.items.items()
            if row is not None and row.in_flight and row.kind in CALLS and self._enters(key, row)
        ]
        self._check_places(tables, entering)
        self.passing.committed(tables, entering, self.unsteady)
        begun = [
            row
            for run_id, row in changes.runs.items()
            if row.started_at is not None
            and row.status != "SKIPPED"
            and ((before := self._runs[run_id]) is None or before.started_at is None)
        ]
        self._check_starts(tables, begun)
        self._check_singletons(tables)
        self._check_deadlines(tables, changes)
        self.ticking.committed(tables, changes, created)

    def _take_function(self, row: FunctionRow) -> None:
        before = self.rows.setdefault(row.id, [])
        self._stored.setdefault(row.id, []).append(self._checks.trace.seconds())
        if before and (before[-1].config, before[-1].overrides) != (row.config, row.overrides):
            # Windows that lie across a change promise nothing.
            for counter in [counter for counter in self.starts if counter.startswith(row.id)]:
                del self.starts[counter]
            for key in [key for key in self.places if key[0] == row.id]:
                del self.places[key]
        before.append(row)

    def _take_run(self, tables: Tables, row: RunRow) -> None:
        event = tables.events[json.loads(row.receipts)[0]]
        rules, body = self.rules(row.function_id), json.loads(event.body)
        needs = self.needs[row.id] = Needs(row.function_id, body, rules)
        for number, limit in enumerate(rules.steps):
            needs.steps[_counter("step", row.function_id, limit, body)] = f"{number}"
        for number, limit in enumerate(rules.runs):
            needs.runs[_counter("run", row.function_id, limit, body)] = f"{number}"
        if rules.throttle:
            needs.throttle = f"{row.function_id} {bucket_of(rules.throttle, body)}"
        if rules.singleton and row.batch_id is None:
            needs.singleton = key_of(rules.singleton, body)
        ahead = (0, 0) if row.original_run_id is not None else self._checks.commits.ahead
        starts = [row.created_at if row.batch_id else max(row.created_at, event.ts + each) for each in ahead]
        start = starts[0]
        needs.rank = start
        if start <= row.created_at + 2_000:
            needs.rank -= rules.factor(body) * 1_000
        if "start" in rules.timeouts and row.batch_id is None:
            needs.start_by = tuple(each + ms(rules.timeouts["start"]) for each in starts)
        paused = {version.paused for version in self.rows[row.function_id][-2 if self.unsteady else -1 :]}
        first = next(iter(tables.items.get(row.id, {}).values()), None)
        if first is not None and first.part == "h" and "hold" not in paused:
            self._fail("pause", "the run is held, and its function is not paused", row.id)
        if row.status in LIVE and paused == {"skip"} and row.function_id not in self.unsteady:
            self._fail("pause", "the run is created, and its function skips all", row.id)

    def _enters(self, key: tuple[str, int], row: ItemRow) -> bool:
        before = self._items[key]
        return before is None or not before.in_flight or before.generation != row.generation

    # Places

    def _check_places(self, tables: Tables, entering: list[ItemRow]) -> None:
        if not entering:
            return
        new = {(item.run_id, item.n) for item in entering}
        asked = dict.fromkeys(counter for item in entering for counter in self.needs[item.run_id].steps)
        holders: dict[str, list[tuple[int, str]]] = {counter: [] for counter in asked}
        for items in tables.items.values():
            for item in items.values():
                if not item.in_flight or item.kind not in CALLS:
                    continue
                for counter in self.needs[item.run_id].steps.keys() & asked.keys():
                    most = self._most(item.run_id, counter, entering=(item.run_id, item.n) in new)
                    holders[counter].append((most, item.run_id))
        for counter, limits in holders.items():
            # Functions with other limits may share a counter: those with the smallest came first.
            for place, (most, run_id) in enumerate(sorted(limits), 1):
                if place > most:
                    self._fail("concurrency", f"{place} calls hold {counter}, {most} may", run_id)
        for item in entering:
            before = self._items[item.run_id, item.n]
            row = self.rows[item.function_id][-1]
            if (
                before is not None
                and before.part == "h"
                and row.paused
                and item.function_id not in self.unsteady
            ):
                self._fail("pause", "a run is called that waits for its function to be resumed", item.run_id)

    def leaving(self, tables: Tables, run_id: str, under_way: Iterable[str]) -> None:
        """A call leaves; `under_way` are the runs of all calls of its process, this one too."""
        if not self.ruled:
            return
        live = [other for other in under_way if tables.runs[other].status in LIVE]
        for counter in self.needs[run_id].steps:
            holders = [other for other in live if counter in self.needs[other].steps]
            most = max(self._most(other, counter, entering=False) for other in holders)
            if len(holders) > most:
                self._fail(
                    "concurrency", f"{len(holders)} calls are under way for {counter}, {most} may", run_id
                )

    def _most(self, run_id: str, counter: str, *, entering: bool) -> int:
        """How many calls may hold a counter by the limit of a run's function; whoever is in may stay when it falls."""
        needs = self.needs[run_id]
        rows = self.candidates(needs.function_id) if entering else self._versions(needs.function_id)
        return max(int(rules.steps[int(needs.steps[counter])]["limit"]) for rules in rows)

    def _versions(self, function_id: str) -> list[Rules]:
        return [in_force(row) for row in self.rows[function_id]]

    # Starts

    def _check_starts(self, tables: Tables, begun: list[RunRow]) -> None:
        if not begun:
            return
        taken: dict[str, int] = {}
        for row in tables.runs.values():
            if row.status == "RUNNING":
                _count(taken, self.needs[row.id].runs)
        for row in sorted(begun, key=lambda each: each.started_at or 0):
            needs = self.needs[row.id]
            candidates = self.candidates(row.function_id)
            for counter, limit in needs.runs.items():
                most = max(rules.runs[int(limit)]["limit"] for rules in candidates)
                if row.status == "RUNNING" and taken[counter] > most:
                    self._fail(
                        "concurrency", f"a run begins, {taken[counter]} are under way, {most} may", row.id
                    )
            if needs.throttle:
                self._check_throttle(row, needs.throttle)

    def _check_throttle(self, row: RunRow, counter: str) -> None:
        started, rule = row.started_at or 0, self.rules(row.function_id).throttle
        if rule is None or row.function_id in self.unsteady or started < self.jumped_at:
            return
        starts = self.starts.setdefault(counter, [])
        starts.append(started)
        # A start from before the clock was set back may be written after it, and mean nothing now.
        window = [time for time in starts if started - ms(rule["period"]) < time <= started]
        if len(window) > rule["limit"] + rule.get("burst", 0):
            self._fail("throttle", f"{len(window)} runs begin within {rule}: {window}", row.id)

    def _check_rates(self, tables: Tables, changes: Changes, created: list[RunRow]) -> None:
        """Every run took a place of the rate limit of its function; events that left no run found none."""
        for row in sorted(created, key=lambda each: each.created_at):
            rules = self.needs[row.id].rules
            key = key_of(rules.rate, self.needs[row.id].event) if rules.rate else None
            if rules.rate is None or key is None or row.created_at < self.jumped_at or rules.debounce:
                continue
            times = self.places.setdefault((row.function_id, key), [])
            times.append(row.created_at)
            window = [time for time in times if time > row.created_at - ms(rules.rate["period"])]
            if len(window) > rules.rate["limit"] and row.function_id not in self.unsteady:
                self._fail("rate", f"{len(window)} places taken of {rules.rate}: {window}", row.id)
        for event in changes.events:
            for function_id in self._met_by(event):
                self._check_drop(tables, event, function_id)

    def _met_by(self, event: EventRow) -> Iterator[str]:
        """The functions that an event meets, and that have been live since before it can have been looked at."""
        recent = self._checks.trace.seconds() - SETTLED_S - self.reads_ms / 1_000
        for function_id, program in self._programs.items():
            rows = self.rows.get(function_id)
            if rows is None or rows[-1].archived_at is not None or self._stored[function_id][-1] > recent:
                continue
            if any(name == event.name for name, _ in program.triggers):
                yield function_id

    def _check_drop(self, tables: Tables, event: EventRow, function_id: str) -> None:
        rules, body = self.rules(function_id), json.loads(event.body)
        if rules.rate is None or self.held.taken(tables, function_id, event):
            return
        key, period = key_of(rules.rate, body), ms(rules.rate["period"])
        times = self.places.get((function_id, key or ""), [])
        # It was decided after it was received.
        window = [time for time in times if event.received_at - period < time]
        rows = self.rows[function_id]
        if self.jumped_at or len({(row.config, row.overrides) for row in rows}) > 1:
            return
        if key is None or len(window) < rules.rate["limit"]:
            text = f"event {event.receipt} was dropped for {function_id}, which had room: {window} of {rules.rate}"
            self._fail("rate", text)

    # Singletons and ends

    def _check_singletons(self, tables: Tables) -> None:
        holders: dict[tuple[str, str], str] = {}
        for row in tables.runs.values():
            needs = self.needs[row.id]
            if row.status not in LIVE or needs.singleton is None:
                continue
            other = holders.setdefault((row.function_id, needs.singleton), row.id)
            if other != row.id:
                self._fail("singleton", f"two live runs of one key: {other} and {row.id}", row.id)
        stored = {key.value.decode() for ref, key in tables.keys.items() if ref.kind == SINGLETON}
        if stored != set(holders.values()):
            self._fail(
                "singleton", f"the keys are held by {sorted(stored)}, live are {sorted(holders.values())}"
            )
        places = {ref.key for ref in tables.keys if ref.kind == PLACE}
        begun = {
            row.id for row in tables.runs.values() if row.status == "RUNNING" and self.needs[row.id].runs
        }
        if places != begun:
            self._fail("concurrency", f"places are kept for {sorted(places)}, begun are {sorted(begun)}")

    def skipped(self, tables: Tables, run_id: str, note: dict[str, Any]) -> None:
        """A run is written down as skipped: was there a reason?"""
        row, needs = tables.runs[run_id], self.needs[run_id]
        rows = self.rows.get(row.function_id, [])
        if note["reason"] == "FunctionPaused":
            if "skip" not in {each.paused for each in rows[-2 if row.function_id in self.unsteady else -1 :]}:
                self._fail("pause", "the run is skipped, and its function is not paused", run_id)
            return
        holder = tables.runs.get(note.get("holder", ""))
        if holder is None or self.needs[holder.id].singleton != needs.singleton:
            self._fail("singleton", f"the run is skipped because of {holder}, which has another key", run_id)
        elif holder.status not in LIVE and not self.just_ended(holder.id):
            self._fail(
                "singleton", f"the run is skipped because of {holder.id}, which had ended before", run_id
            )
        elif needs.rules.singleton is None or needs.rules.singleton["mode"] != "skip":
            self._fail("singleton", "the run is skipped, and the rule says otherwise", run_id)

    def just_ended(self, run_id: str) -> bool:
        """Whether a run ended in this batch."""
        before = self._runs.get(run_id)
        return run_id in self._runs and (before is None or before.status in LIVE)

    def cancels(self, tables: Tables, run_id: str, reason: str) -> bool:
        """Whether a run may have been cancelled for this reason."""
        if not self.ruled:
            return False
        row, needs = tables.runs[run_id], self.needs[run_id]
        ended = row.ended_at or 0
        if "had not begun" in reason:
            queued = row.started_at is None
            return bool(needs.start_by) and ended >= min(needs.start_by) and queued
        if "had not ended" in reason:
            finish = needs.rules.timeouts.get("finish")
            return finish is not None and ended >= (row.started_at or 0) + ms(finish)
        if reason.startswith("Singleton"):
            return any(
                other.function_id == row.function_id and other.id != run_id and self._runs[other.id] is None
                for other in tables.runs.values()
                if other.id in self._runs and self.needs[other.id].singleton == needs.singleton
            )
        return self._cancelled_by_event(tables, row, needs, reason)

    def _cancelled_by_event(self, tables: Tables, row: RunRow, needs: Needs, reason: str) -> bool:
        for event in tables.events.values():
            if event.internal_id in reason and event.receipt > json.loads(row.receipts)[0]:
                for rule in needs.rules.cancel:
                    timely = self.jumped_at or "timeout" not in rule
                    timely = timely or event.received_at <= row.created_at + ms(rule["timeout"])
                    if rule["event"] == event.name and timely and _meets(rule, needs.event, event):
                        return True
        return False

    # Deadlines

    def _check_deadlines(self, tables: Tables, changes: Changes) -> None:
        for run_id, row in changes.runs.items():
            if row.status not in LIVE:
                continue
            due = {
                (bytes(item.data or b""), item.due)
                for item in tables.items.get(run_id, {}).values()
                if item.kind == "deadline"
            }
            needs = self.needs[run_id]
            finish = needs.rules.timeouts.get("finish")
            expected: list[set[tuple[bytes, int]]] = [set()]
            if row.started_at is None and needs.start_by:
                expected = [{(b"start", each)} for each in needs.start_by]
            elif row.started_at is not None and finish is not None:
                expected = [{(b"finish", row.started_at + ms(finish))}]
            if due not in expected:
                self._fail("deadlines", f"the deadlines are {due}, not {expected}", run_id)
        if not self.troubled:
            self._check_late(tables)

    def _check_late(self, tables: Tables) -> None:
        now = self._checks.now()
        for items in tables.items.values():
            for item in items.values():
                if item.kind == "deadline" and item.due < now - SLOW_MS:
                    self._fail("deadlines", f"{item} was not handled at {now}", item.run_id)


def _counter(what: str, function_id: str, limit: Fields, event: Event) -> str:
    scope = limit.get("scope", "fn")
    return (
        f"{what} {scope} {function_id if scope == 'fn' else ''} {limit.get('key')} {bucket_of(limit, event)}"
    )


def _count(taken: dict[str, int], counters: Iterable[str]) -> None:
    for counter in counters:
        taken[counter] = taken.get(counter, 0) + 1


def _meets(rule: Fields, event: Event, other: EventRow) -> bool:
    from tests.sim.programs import CONDITIONS

    return CONDITIONS[rule.get("if") or ""](event, json.loads(other.body))

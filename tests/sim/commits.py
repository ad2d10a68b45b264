"""What must hold in every batch that reaches the disk."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from perdure.core.settings import Settings
from perdure.shard.changes import Changes
from perdure.shard.keys import CLOCK, TAKEN
from perdure.shard.rows import EventRow, ItemRow, KeyRef, RunRow, WaitRow
from tests.sim.flow import Flow
from tests.sim.looking import LookingBack
from tests.sim.memory_store import Tables
from tests.sim.operators import Again
from tests.sim.oracle import Oracle
from tests.sim.programs import CONDITIONS, Program

if TYPE_CHECKING:
    from tests.sim.checks import Checks

CLOCK_SET_BACK_MS = 2 * 60 * 60 * 1000
"""A key may have expired when it was looked up, and not any more when the clock was set back."""
HELD_MS = 1_000
"""A run that is created so long after its event was held back meanwhile."""
_CANCELLED_BY = re.compile(r"The event \S+ \((\w+)\) cancelled it\.")
QUIET = ("inngest/function.failed", "inngest/function.finished")
INVOKED = "inngest/function.invoked"
SCHEDULED = "inngest/scheduled.timer"
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
END_EVENTS = {
    "COMPLETED": ["inngest/function.finished"],
    "FAILED": ["inngest/function.failed", "inngest/function.finished"],
    "CANCELLED": ["inngest/function.cancelled", "inngest/function.finished"],
    "SKIPPED": [],
}


@lru_cache(maxsize=4096)
def parsed(body: bytes) -> dict[str, Any]:
    """An event as JSON."""
    value: dict[str, Any] = json.loads(body)
    return value


CLOCK_ROW = KeyRef(CLOCK, "", "")


class Commits:
    """Looks at each batch: before it is written, at what it will change; afterwards, at what it has changed."""

    def __init__(self, checks: Checks, programs: list[Program], settings: Settings) -> None:
        self._checks = checks
        self._dedupe_ms = settings.dedupe_ms
        self._programs = {program.id: program for program in programs}
        self.oracle = Oracle(checks, self._programs, settings)
        self.flow = Flow(checks, self._programs, settings)
        self.looking = LookingBack(checks)
        self.again = Again(checks)
        self.ahead = (0, 0)
        """How far (ms) the clock is ahead by travel in time: before this batch, and with it."""
        self.number = 0
        self.stored_ids: set[str] = set()
        self.submitted: dict[str, int] = {}
        """Number of the last batch when an event was first sent, by internal id."""
        self._stored_at: dict[int, int] = {}
        self._versions: dict[str, list[tuple[int, bool]]] = {}
        """Number of the batch, and whether the function is live since then."""
        self._runs_of: dict[tuple[str, str], int] = {}
        self._runs: dict[str, RunRow | None] = {}
        self._items: dict[tuple[str, int], ItemRow | None] = {}
        self._recorded_twice: set[tuple[str, str]] = set()

    def before(self, tables: Tables, changes: Changes) -> None:
        """A batch is about to be written."""
        self.flow.before(tables, changes)
        self._runs = {run_id: tables.runs.get(run_id) for run_id in _touched(changes)}
        self._items = {key: tables.items.get(key[0], {}).get(key[1]) for key in changes.items}
        seen = {(step.run_id, step.step_id) for step in changes.steps}
        again = {key for key in seen if key[1] in tables.steps.get(key[0], {})}
        self._recorded_twice = again or ({("", "")} if len(seen) < len(changes.steps) else set())

    def _fail(self, checker: str, text: str, run: str = "") -> None:
        self._checks.fail(checker, text, run)

    def committed(self, tables: Tables, changes: Changes, epoch: int) -> None:
        """A batch has been written."""
        self.number += 1
        self._note(changes)
        self._travelled(changes)
        if epoch != self._checks.epoch:
            self._fail("epoch", f"a batch of epoch {epoch} is written, the owner has {self._checks.epoch}")
        for run_id, step_id in self._recorded_twice:
            self._fail("steps", f"step {step_id} is recorded a second time", run_id)
        for function in changes.functions.values():
            self._versions.setdefault(function.id, []).append((self.number, function.archived_at is None))
        for event in changes.events:
            self.stored_ids.add(event.internal_id)
            self._stored_at[event.receipt] = self.number
        ends = _end_events(changes)
        for run_id, before in self._runs.items():
            self._check_run(tables, run_id, before, ends.pop(run_id, []))
        for run_id, names in ends.items():
            self._fail("ends", f"{names} is sent for a run that does not end", run_id)
        self._check_items(changes)
        self._check_effects(changes)
        self.flow.committed(tables, changes)
        self._check_events(tables, changes)
        self.looking.committed(tables, changes)
        self.again.committed(
            tables, changes, [tables.runs[run_id] for run_id, row in self._runs.items() if row is None]
        )
        self.oracle.committed(tables, changes)

    def _note(self, changes: Changes) -> None:
        trace = self._checks.trace
        trace.note(f"disk: batch {self.number}, {changes.size()} rows")
        for entry in changes.history:
            trace.note(f"history {entry.n}: {entry.kind} {entry.body.decode()[:200]}", entry.run_id)
            if entry.kind == "call":
                note = json.loads(entry.body)
                self._checks.calls.used.add((entry.run_id, note["item"], note["generation"]))

    def _travelled(self, changes: Changes) -> None:
        row = changes.keys.get(CLOCK_ROW)
        self.ahead = (self.ahead[1], self.ahead[1] if row is None else int(row.value))
        if self.ahead[0] == self.ahead[1]:
            return
        self.again.travelled(*self.ahead)
        if self._checks.calls.calm_since is not None:
            self._checks.calls.calm_since = self._checks.now()
        self.flow.jumped(self._checks.now())

    # Runs

    def _check_run(self, tables: Tables, run_id: str, before: RunRow | None, ends: list[str]) -> None:
        row = tables.runs.get(run_id)
        if row is None:
            self._fail("runs", "rows are written for a run that is not there", run_id)
            return
        items, waits = tables.items.get(run_id, {}), tables.waits.get(run_id, {})
        if before is None:
            self._check_new(tables, row)
        elif before.status in ENDED:
            if row != before or ends:
                self._fail("ends", f"an ended run changes: {before} to {row}, {ends}", run_id)
            return
        if row.status not in ENDED:
            if all(item.kind == "deadline" for item in items.values()):
                self._fail("stuck", "a live run has nothing left to happen", run_id)
            if not {n for n, wait in waits.items() if wait.kind != "cancel"} <= items.keys():
                self._fail("stuck", f"waits {sorted(waits)} have no item that times them out", run_id)
            if ends:
                self._fail("ends", f"{ends} is sent for a live run", run_id)
            return
        if items or waits:
            self._fail("ends", f"an ended run keeps items {sorted(items)}, waits {sorted(waits)}", run_id)
        expected = [] if row.event_name in QUIET else END_EVENTS[row.status] + _told_besides(tables, row)
        if sorted(ends) != sorted(expected):
            self._fail("ends", f"the run ends as {row.status} and sends {ends}, not {expected}", run_id)
        notes = [entry for entry in tables.history.get(run_id, {}).values() if entry.kind == "ended"]
        if len(notes) != 1:
            self._fail("ends", f"an ended run has {len(notes)} entries of its end in history", run_id)

    def _check_new(self, tables: Tables, row: RunRow) -> None:
        """A run is there only once for a function and an event."""
        self._checks.trace.note(f"run: {self._programs[row.function_id].slug} for {row.event_id}", row.id)
        event = tables.events[json.loads(row.receipts)[0]]
        program = self._programs[row.function_id]
        if event.name in (INVOKED, SCHEDULED) or row.original_run_id is not None:
            return
        if not _starts(program, event):
            self._fail("events", f"{program.slug} starts by {event.name}, which does not meet it", row.id)
        since = self._since(event) if row.created_at < event.received_at + HELD_MS else self.number - 1
        if not self._was_live(row.function_id, since, live=True):
            self._fail("events", f"{program.slug} starts although it is archived", row.id)
        key = (row.function_id, event.id)
        last = self._runs_of.get(key)
        # Between receipt and run the clock may jump ahead, and the key be a day old when the event is decided.
        taken = max(event.received_at, row.created_at)
        if last is not None and taken - last < self._dedupe_ms - CLOCK_SET_BACK_MS:
            self._fail("events", f"{program.slug} starts a second time for the event id {event.id}", row.id)
        self._runs_of[key] = min(event.received_at, row.created_at)

    # Items

    def _check_items(self, changes: Changes) -> None:
        for key, row in changes.items.items():
            before = self._items[key]
            if row is None or before is None:
                continue
            if row.generation < before.generation:
                self._fail("double-call", f"the generation of item {row.n} falls", row.run_id)
            if row.in_flight and not before.in_flight and row.generation != before.generation + 1:
                self._fail("double-call", f"item {row.n} is sent without a new generation", row.run_id)

    def _check_effects(self, changes: Changes) -> None:
        """What events did to runs is remembered by the event in the commit in which it is done, and nothing else is."""
        expected: set[tuple[str, str, str]] = set()
        for entry in changes.history:
            note = json.loads(entry.body) if entry.kind in ("resumed", "ended") else {}
            if note.get("event"):
                expected.add((note["event"], entry.run_id, "wait"))
            by_event = _CANCELLED_BY.fullmatch(note.get("reason", ""))
            if by_event is not None:
                expected.add((by_event[1], entry.run_id, "cancel"))
            elif note.get("reason", "").startswith("Singleton: "):
                expected |= {row for row in changes.run_events if row[1:] == (entry.run_id, "cancel")} or {
                    ("", entry.run_id, "cancel")
                }
        written = {row for row in changes.run_events if row.how != "trigger"}
        for event_id, run_id, how in expected ^ written:
            self._fail("effects", f"event {event_id} and its effect ({how}) differ from the history", run_id)

    # Events

    def _since(self, event: EventRow) -> int:
        return self.submitted.get(event.internal_id, self._stored_at[event.receipt] - 1)

    def _was_live(self, function_id: str, since: int, live: bool) -> bool:
        """Whether the function may have been live (or archived) at any time since a batch.

        Two registrations in one batch show only the second, so that one since then may mean both.
        """
        versions = self._versions.get(function_id, [])
        current = [state for number, state in versions if number <= since][-1:] or [False]
        return current[0] == live or any(number > since for number, _ in versions)

    def callable_now(self, slug: str) -> bool | None:
        """Whether a function can be called in this batch; None if that changes in it, or just before."""
        function_id = next((each for each, program in self._programs.items() if program.slug == slug), "")
        since = self.number - 1
        live, gone = (
            self._was_live(function_id, since, live=True),
            self._was_live(function_id, since, live=False),
        )
        return None if live and gone else live

    def _check_events(self, tables: Tables, changes: Changes) -> None:
        """Events whose matching is over have started and resumed everything that they meet."""
        matched = [event for event in changes.events if event.receipt not in tables.outbox]
        fresh = {event.receipt for event in matched}
        matched += [
            tables.events[receipt]
            for receipt, row in changes.outbox.items()
            if row is None and receipt not in fresh
        ]
        for event in matched:
            if event.name != INVOKED:
                self._check_started(tables, event)
            for waits in tables.waits.values():
                for wait in waits.values():
                    late = wait.until and self._checks.now() > wait.until
                    if wait.since < event.receipt and not late and meets(tables, wait, event):
                        self._fail(
                            "waits",
                            f"event {event.receipt} {event.name} was matched and {wait} still waits",
                            wait.run_id,
                        )

    def _check_started(self, tables: Tables, event: EventRow) -> None:
        for function_id, program in self._programs.items():
            if not _starts(program, event) or self._was_live(function_id, self._since(event), live=False):
                continue
            if self.flow.may_be_dropped(function_id):
                continue
            taken = tables.keys.get(KeyRef(TAKEN, function_id, event.id))
            held = taken is not None and not taken.value and self.flow.may_be_held(function_id)
            if taken is None or (taken.value.decode() not in tables.runs and not held):
                self._fail(
                    "events",
                    f"event {event.receipt} {event.name} was matched, and {program.slug} did not start",
                )


def _told_besides(tables: Tables, row: RunRow) -> list[str]:
    """An event for each further step that invoked a function by an event of a batch."""
    if row.batch_id is None or row.original_run_id is not None:
        return []
    further = [tables.events[receipt] for receipt in json.loads(row.receipts)[1:]]
    return ["inngest/function.finished" for event in further if correlation_of(event)]


def correlation_of(event: EventRow) -> str | None:
    """The step that invoked a function by an event."""
    if event.name != INVOKED:
        return None
    step: str | None = parsed(event.body)["data"]["_inngest"].get("correlation_id")
    return step


def meets(tables: Tables, wait: WaitRow, event: EventRow) -> bool:
    """Whether an event is what a wait waits for, by a reading of the condition that is not the engine's."""
    if wait.event != event.name or wait.kind == "signal":
        return False
    other = parsed(event.body)
    if wait.kind == "invoke":
        return wait.value == f"s:{other['data'].get('correlation_id')}"
    trigger = parsed(tables.events[json.loads(tables.runs[wait.run_id].receipts)[0]].body)
    return bool(CONDITIONS[wait.expression or ""](trigger, other))


def _starts(program: Program, event: EventRow) -> bool:
    return any(name == event.name and _holds(condition, event) for name, condition in program.triggers)


def _holds(condition: str | None, event: EventRow) -> bool:
    if condition is None:
        return True
    data = parsed(event.body)["data"]
    if condition == "event.data.n > 4":
        return bool((data.get("n") or 0) > 4)
    return bool(f"'{data.get('function_id')}'" == condition.rpartition(" ")[2])


def _touched(changes: Changes) -> dict[str, None]:
    touched = dict.fromkeys(changes.runs)
    touched.update(dict.fromkeys(step.run_id for step in changes.steps))
    touched.update(
        dict.fromkeys(run_id for run_id, _ in (*changes.items, *changes.waits) if not run_id.startswith("~"))
    )
    touched.update(dict.fromkeys(entry.run_id for entry in changes.history))
    return touched


def _end_events(changes: Changes) -> dict[str, list[str]]:
    """Names of the events that tell ends, by run."""
    found: dict[str, list[str]] = {}
    for event in changes.events:
        if event.internal and event.name not in (INVOKED, SCHEDULED):
            found.setdefault(parsed(event.body)["data"]["run_id"], []).append(event.name)
    return {run_id: sorted(names) for run_id, names in found.items()}

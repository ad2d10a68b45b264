"""Events that are held back: what debounces and batches must hold after each batch, by a naive reading.

For each key the events of a batch are taken in, in their order, and everything that may have become of it is worked
out: the timer may have come in between, or not yet. One of these must be what the rows show.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from perdure.core.settings import Settings
from perdure.shard.changes import Changes
from perdure.shard.keys import BATCH, CLOSED_BATCH, CLOSED_DEBOUNCE, DEBOUNCE, TAKEN
from perdure.shard.rows import EventRow, KeyRef, KeyRow, RunRow
from tests.sim.memory_store import Tables
from tests.sim.rules import Fields, Rules, bucket_of, ms

if TYPE_CHECKING:
    from tests.sim.checks import Checks
    from tests.sim.flow import Flow

INVOKED = "inngest/function.invoked"
GRACE_MS = 1_000
MANY = 5
"""Orders of more events than this are not all tried."""


@dataclass(frozen=True)
class Arrived:
    """An event that a function took in; `at` is None where nothing tells when that was decided."""

    receipt: int
    ts: int
    at: int | None


@dataclass(frozen=True)
class Open:
    """What is held for a key. A debounce holds one event; `due` is the earliest and the latest time for it."""

    receipts: tuple[int, ...]
    ts: int
    first_at: int | None
    due: tuple[int, int]


Outcome = tuple[Open | None, tuple[tuple[int, ...], ...]]
"""What is held afterwards, and what has been fired."""


class Held:
    """Follows what functions hold back."""

    def __init__(self, flow: Flow, checks: Checks, settings: Settings) -> None:
        self._flow = flow
        self._checks = checks
        self._taken_ms = settings.dedupe_ms
        self._keys: dict[KeyRef, KeyRow | None] = {}
        self._closed: dict[str, set[tuple[int, ...]]] = {}
        self._outbox: set[int] = set()
        self._in_batch: dict[tuple[str, int], str] = {}

    def before(self, tables: Tables, changes: Changes) -> None:
        """A batch is about to be written."""
        self._keys = {ref: tables.keys.get(ref) for ref in changes.keys}
        self._closed = _closed(tables)
        self._outbox = set(tables.outbox)

    def taken(self, tables: Tables, function_id: str, event: EventRow) -> bool:
        """Whether the function remembers an event of this id."""
        return KeyRef(TAKEN, function_id, event.id) in tables.keys

    def committed(self, tables: Tables, changes: Changes, created: list[RunRow]) -> None:
        """A batch has been written."""
        self._check_members(created)
        functions = {ref.owner for ref in changes.keys if ref.kind in (DEBOUNCE, BATCH)}
        functions |= {row.function_id for row in created}
        for function_id in sorted(functions):
            rules = self._flow.rules(function_id)
            if rules.debounce or rules.batch:
                self._check_function(tables, changes, created, function_id, rules)

    def _check_members(self, created: list[RunRow]) -> None:
        """No event is in two runs of one function, and the events of a batch stand in order of arrival."""
        for row in created:
            receipts = json.loads(row.receipts)
            if receipts != sorted(receipts):
                self._checks.fail("batch", f"the events are not in their order: {receipts}", row.id)
            for receipt in receipts:
                other = self._in_batch.setdefault((row.function_id, receipt), row.id)
                if other != row.id:
                    self._checks.fail("batch", f"event {receipt} is in run {other} too", row.id)

    def _check_function(
        self, tables: Tables, changes: Changes, created: list[RunRow], function_id: str, rules: Rules
    ) -> None:
        kind = DEBOUNCE if rules.debounce else BATCH
        rule: Fields = rules.debounce or rules.batch or {}
        fired = {
            tuple(json.loads(row.receipts))
            for row in created
            if row.function_id == function_id and (rules.debounce or row.batch_id)
        }
        closed, before = _closed(tables).get(function_id, set()), self._closed.get(function_id, set())
        gone = before - closed - fired
        archived = self._flow.rows[function_id][-1].archived_at is not None
        if function_id in self._flow.unsteady or archived:
            return
        if gone:
            self._checks.fail(kind, f"{gone} was held back for {function_id}, and no run has it")
        fired = (fired | closed) - before
        events = self._events(tables, changes, function_id, rules)
        keys = {bucket_of(rule, _body(tables, e.receipt)) for e in events}
        keys |= {bucket_of(rule, _body(tables, receipts[0])) for receipts in fired}
        keys |= {
            bucket_of(rule, _body(tables, held.receipts[0]))
            for ref, row in [*self._keys.items(), *((ref, tables.keys.get(ref)) for ref in changes.keys)]
            if ref.kind == kind and ref.owner == function_id and (held := read(row)) is not None
        }
        stored = self._stored(tables, changes, function_id, kind)
        for key in sorted(keys):
            mine = [e for e in events if bucket_of(rule, _body(tables, e.receipt)) == key]
            out = {r for r in fired if bucket_of(rule, _body(tables, r[0])) == key}
            was, now = (
                next((h for h in side if bucket_of(rule, _body(tables, h.receipts[0])) == key), None)
                for side in stored
            )
            self._check_key(kind, rule, was, mine, now, out, function_id, created)

    def _stored(
        self, tables: Tables, changes: Changes, function_id: str, kind: str
    ) -> tuple[list[Open], list[Open]]:
        """What was held for the keys of a function before and after the batch."""
        refs = [ref for ref in (*tables.keys, *self._keys) if ref.kind == kind and ref.owner == function_id]
        was, now = [], []
        for ref in dict.fromkeys(refs):
            current = tables.keys.get(ref)
            was.append(read(self._keys.get(ref, current)))
            now.append(read(current))
        return [held for held in was if held], [held for held in now if held]

    def _events(self, tables: Tables, changes: Changes, function_id: str, rules: Rules) -> list[Arrived]:
        """The events that the function took in with this batch, in the order in which it did, as far as is known."""
        found: list[Arrived] = []
        seen: set[str] = set()
        program = self._flow._programs[function_id]
        names = {name for name, _ in program.triggers}
        for event in changes.events:
            ref = KeyRef(TAKEN, function_id, event.id)
            row, before = changes.keys.get(ref), self._keys.get(ref)
            if event.name not in names or row is None or event.id in seen:
                continue
            if before is not None and before.expires_at > row.expires_at - self._taken_ms:
                continue
            seen.add(event.id)
            found.append(Arrived(event.receipt, event.ts, row.expires_at - self._taken_ms))
        found += self._invoked(tables, changes, function_id)
        return [e for e in found if not rules.batch or rules.collects(_body(tables, e.receipt))]

    def _invoked(self, tables: Tables, changes: Changes, function_id: str) -> Iterator[Arrived]:
        """Invocations of the function that were decided in this batch."""
        slug = self._flow._programs[function_id].slug
        fresh = {event.receipt: event for event in changes.events}
        done = [r for r, row in changes.outbox.items() if row is None and r in (self._outbox | set(fresh))]
        done += [receipt for receipt in fresh if receipt not in changes.outbox]
        for receipt in dict.fromkeys(done):
            event = tables.events[receipt]
            if event.name == INVOKED and _body(tables, receipt)["data"]["_inngest"]["fn_id"] == slug:
                yield Arrived(receipt, event.ts, None)

    def _check_key(
        self,
        kind: str,
        rule: Fields,
        was: Open | None,
        events: list[Arrived],
        now: Open | None,
        fired: set[tuple[int, ...]],
        function_id: str,
        created: list[RunRow],
    ) -> None:
        for row in created:
            receipts = tuple(json.loads(row.receipts))
            full = kind == BATCH and was is not None and len(receipts) >= rule["maxSize"]
            if was is None or events or receipts != was.receipts or row.function_id != function_id:
                continue
            if row.created_at < was.due[0] and not full:
                self._checks.fail(kind, f"the run starts before its time, {was.due[0]}", row.id)
        take = _debounce if kind == DEBOUNCE else _collect
        latest = self._checks.now()
        if self._flow.jumped_at:
            latest, events = 1 << 62, [Arrived(e.receipt, e.ts, None) for e in events]
        for order in _orders(events):
            for held, out in outcomes(take, rule, was, order, latest):
                if set(out) == fired and _same(held, now, timeless=bool(self._flow.jumped_at)):
                    return
        text = f"{function_id}: {was} with {events} by {rule} became {now}, and fired {sorted(fired)}"
        self._checks.fail(kind, text)


def read(row: KeyRow | None) -> Open | None:
    """What a row holds."""
    if row is None:
        return None
    fields: list[Any] = json.loads(row.value)
    if isinstance(fields[0], list):
        event, first_at, due = fields[0], fields[1], fields[2]
        return Open((event[0],), event[2], first_at, (due, due))
    return Open(tuple(sorted(fields[4].values())), 0, fields[1], (fields[2], fields[2]))


def _closed(tables: Tables) -> dict[str, set[tuple[int, ...]]]:
    found: dict[str, set[tuple[int, ...]]] = {}
    for ref, row in tables.keys.items():
        if ref.kind in (CLOSED_DEBOUNCE, CLOSED_BATCH) and (held := read(row)) is not None:
            found.setdefault(ref.owner, set()).add(held.receipts)
    return found


def _body(tables: Tables, receipt: int) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(tables.events[receipt].body)
    return body


def _orders(events: list[Arrived]) -> Iterable[tuple[Arrived, ...]]:
    if all(event.at is not None for event in events) or len(events) > MANY:
        return [tuple(events)]
    return itertools.permutations(events)


def outcomes(
    take: Any, rule: Fields, was: Open | None, events: tuple[Arrived, ...], latest: int
) -> Iterator[Outcome]:
    """All that may have become of a key."""
    states: list[Outcome] = [(was, ())]
    for event in events:
        after: list[Outcome] = []
        for held, out in states:
            full = held is not None and len(held.receipts) >= rule.get("maxSize", 2)
            if held is not None and (full or event.at is None or event.at >= held.due[0]):
                after.append(take(rule, None, event, (*out, held.receipts)))
            if held is None or (not full and (event.at is None or event.at < held.due[1])):
                after.append(take(rule, held, event, out))
        states = after
    for held, out in states:
        yield held, out
        if held is not None and latest >= held.due[0]:
            yield None, (*out, held.receipts)


def _debounce(rule: Fields, held: Open | None, event: Arrived, out: tuple[tuple[int, ...], ...]) -> Outcome:
    """A debounce takes in an event."""
    if held is not None and event.ts < held.ts:
        if event.at is not None:
            # Where the period has become shorter, it ends earlier.
            held = replace(held, due=(min(held.due[0], event.at + ms(rule["period"])), held.due[1]))
        return held, out
    first_at = event.at if held is None else held.first_at
    if event.at is None or first_at is None:
        return Open((event.receipt,), event.ts, first_at, (0, 1 << 62)), out
    due = event.at + ms(rule["period"])
    span = (due, due)
    if "timeout" in rule and due > (cap := first_at + ms(rule["timeout"])):
        span = (min(cap, due), min(cap + GRACE_MS, due))
    return Open((event.receipt,), event.ts, first_at, span), out


def _collect(rule: Fields, held: Open | None, event: Arrived, out: tuple[tuple[int, ...], ...]) -> Outcome:
    """A batch takes in an event."""
    if held is None:
        due = (0, 1 << 62) if event.at is None else (event.at + ms(rule["timeout"]),) * 2
        held = Open((event.receipt,), 0, event.at, due)
    else:
        held = Open(tuple(sorted((*held.receipts, event.receipt))), 0, held.first_at, held.due)
    return (None, (*out, held.receipts)) if len(held.receipts) >= rule["maxSize"] else (held, out)


def _same(mine: Open | None, stored: Open | None, timeless: bool) -> bool:
    if mine is None or stored is None:
        return mine is stored
    if mine.receipts != stored.receipts:
        return False
    if timeless:
        return True
    first = mine.first_at is None or mine.first_at == stored.first_at
    return first and mine.due[0] <= stored.due[0] <= mine.due[1]

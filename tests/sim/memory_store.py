"""A store in dictionaries, for simulation: no threads, no disk, and a world that may fail or dawdle at every point.

Hooks, all optional:

- `before_commit(shard, changes)` runs before a batch is written; if it raises, nothing is written.
- `after_commit(shard, changes)` runs once it is written; if it raises, the batch is there and its owner is told
  that it is not.
- `scheduler(run)` takes each commit as a callable and runs it whenever it likes: the owner gets a future. Without a
  scheduler a commit is done when `commit` returns.
- `load_gate(name)` is awaited after a load has been read and before it is given back: what comes back may be stale.
- `load_fault(name)` runs before a load is read, and may raise.

The rows outlive every owner: a restart of the server is a new `claim`. `tables` is there for checkers to look at.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from perdure.errors import EpochLost, StoreError, StoreUnavailable
from perdure.shard.changes import Changes
from perdure.shard.rows import (
    AppRow,
    EventRow,
    FunctionRow,
    HistoryRow,
    ItemRef,
    ItemRow,
    KeyRef,
    KeyRow,
    OutboxRow,
    QuarantineRow,
    Recovered,
    RunEventRow,
    RunRow,
    StepLogRow,
    StepReportRow,
    StepRow,
    StoredRun,
    WaitLookup,
    WaitRef,
    WaitRow,
)

K = TypeVar("K")
R = TypeVar("R")

CommitHook = Callable[[int, Changes], None]
Scheduler = Callable[[Callable[[], None]], None]
LoadGate = Callable[[str], Awaitable[None]]


@dataclass
class Tables:
    """The rows of one shard. What belongs to a run is kept by run, then by the rest of its key."""

    epoch: int = 0
    apps: dict[str, AppRow] = field(default_factory=dict)
    functions: dict[str, FunctionRow] = field(default_factory=dict)
    events: dict[int, EventRow] = field(default_factory=dict)
    runs: dict[str, RunRow] = field(default_factory=dict)
    steps: dict[str, dict[str, StepRow]] = field(default_factory=dict)
    items: dict[str, dict[int, ItemRow]] = field(default_factory=dict)
    waits: dict[str, dict[int, WaitRow]] = field(default_factory=dict)
    keys: dict[KeyRef, KeyRow] = field(default_factory=dict)
    run_events: set[RunEventRow] = field(default_factory=set)
    history: dict[str, dict[int, HistoryRow]] = field(default_factory=dict)
    step_logs: dict[tuple[str, int], StepLogRow] = field(default_factory=dict)
    step_reports: dict[tuple[str, str], StepReportRow] = field(default_factory=dict)
    outbox: dict[int, OutboxRow] = field(default_factory=dict)
    quarantine: dict[str, QuarantineRow] = field(default_factory=dict)

    def check(self, changes: Changes) -> None:
        """Refuse a batch that writes an event or a history entry anew."""
        receipts = [event.receipt for event in changes.events]
        entries = [(entry.run_id, entry.n) for entry in changes.history]
        known = any(receipt in self.events for receipt in receipts) or any(
            n in self.history.get(run_id, {}) for run_id, n in entries
        )
        if known or len(set(receipts)) < len(receipts) or len(set(entries)) < len(entries):
            raise StoreError("An event or a history entry of this batch exists already; nothing was written.")

    def apply(self, changes: Changes) -> None:
        """Write a batch. Cannot fail after `check`."""
        for event in changes.events:
            self.events[event.receipt] = event
        self.runs.update(changes.runs)
        for step in changes.steps:
            self.steps.setdefault(step.run_id, {}).setdefault(step.step_id, step)
        _put_by_run(self.items, changes.items)
        _put_by_run(self.waits, changes.waits)
        _put(self.keys, changes.keys)
        self.run_events.update(changes.run_events)
        for entry in changes.history:
            self.history.setdefault(entry.run_id, {})[entry.n] = entry
        for line in changes.step_logs:
            self.step_logs.setdefault((line.run_id, line.n), line)
        self.step_reports.update(changes.step_reports)
        _put(self.outbox, changes.outbox)
        _put(self.apps, changes.apps)
        self.functions.update(changes.functions)
        for command in changes.quarantine:
            self.quarantine[command.id] = command

    def stored_run(self, run_id: str) -> StoredRun:
        """A run with all that belongs to it."""
        run = self.runs[run_id]
        steps = sorted(self.steps.get(run_id, {}).values(), key=lambda step: step.position)
        items = dict(sorted(self.items.get(run_id, {}).items()))
        return StoredRun(
            run=run,
            events=[self.events[n].body for n in json.loads(run.receipts) if n in self.events],
            steps=steps,
            items=list(items.values()),
            waits=[wait for _, wait in sorted(self.waits.get(run_id, {}).items())],
            last_n=max((0, *items, *self.history.get(run_id, ()))),
        )

    def queue(self, function_id: str, part: str, after: ItemRef) -> list[ItemRef]:
        """Items in a queue of a function, in order."""
        refs = (
            ItemRef(item.rank, item.run_id, item.n)
            for items in self.items.values()
            for item in items.values()
            if item.function_id == function_id and item.part == part and not item.in_flight
        )
        return sorted(ref for ref in refs if ref > after)

    def parts(self, function_id: str, after: str) -> list[str]:
        """The queues of a function that hold something, in order."""
        found = {
            item.part
            for items in self.items.values()
            for item in items.values()
            if item.function_id == function_id and not item.in_flight
        }
        return sorted(part for part in found if part > after)

    def wait_counts(self) -> list[tuple[str, str, int]]:
        """How many waits there are by event and path."""
        counts: dict[tuple[str, str], int] = {}
        for waits in self.waits.values():
            for wait in waits.values():
                counts[wait.event, wait.path] = counts.get((wait.event, wait.path), 0) + 1
        return sorted((event, path, count) for (event, path), count in counts.items())


def _put(table: dict[K, R], changes: dict[K, R | None]) -> None:
    for key, row in changes.items():
        if row is None:
            table.pop(key, None)
        else:
            table[key] = row


def _put_by_run(table: dict[str, dict[int, R]], changes: dict[tuple[str, int], R | None]) -> None:
    for (run_id, n), row in changes.items():
        rows = table.setdefault(run_id, {})
        _put(rows, {n: row})
        if not rows:
            del table[run_id]


class MemoryStore:
    """Implements `perdure.shard.ports.Store`; the module says what its hooks are."""

    def __init__(
        self,
        *,
        before_commit: CommitHook | None = None,
        after_commit: CommitHook | None = None,
        scheduler: Scheduler | None = None,
        load_gate: LoadGate | None = None,
        load_fault: Callable[[str], None] | None = None,
    ) -> None:
        self.tables: dict[int, Tables] = {}
        self.before_commit = before_commit
        self.after_commit = after_commit
        self.scheduler = scheduler
        self.load_gate = load_gate
        self.load_fault = load_fault
        self.closed = False
        self._writing: set[asyncio.Future[None]] = set()

    def shard(self, shard: int) -> Tables:
        """The rows of a shard."""
        return self.tables.setdefault(shard, Tables())

    async def claim(self, shard: int) -> int:
        """Become the owner of the shard; give back its new epoch."""
        self._check_open()
        tables = self.shard(shard)
        tables.epoch += 1
        return tables.epoch

    def commit(self, shard: int, epoch: int, changes: Changes) -> asyncio.Future[None] | None:
        """Write the batch: at once, or when the scheduler says so."""
        self._check_open()
        if self.scheduler is None:
            self._write(shard, epoch, changes)
            return None
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._writing.add(future)
        future.add_done_callback(self._writing.discard)

        def run() -> None:
            try:
                self._write(shard, epoch, changes)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(None)

        self.scheduler(run)
        return future

    def _write(self, shard: int, epoch: int, changes: Changes) -> None:
        if self.before_commit is not None:
            self.before_commit(shard, changes)
        tables = self.shard(shard)
        if tables.epoch != epoch:
            raise EpochLost(
                f"Shard {shard} has another owner (epoch {tables.epoch}, ours is {epoch}); nothing was written."
            )
        tables.check(changes)
        tables.apply(changes)
        if self.after_commit is not None:
            self.after_commit(shard, changes)

    def _check_open(self) -> None:
        if self.closed:
            raise StoreUnavailable("The store has been closed; the server is stopping.")

    def _reading(self, name: str, shard: int) -> Tables:
        self._check_open()
        if self.load_fault is not None:
            self.load_fault(name)
        return self.shard(shard)

    async def _read(self, name: str, answer: R) -> R:
        if self.load_gate is not None:
            await self.load_gate(name)
        return answer

    async def recover(self, shard: int, kinds: Sequence[str]) -> Recovered:
        """What a shard needs to start, with all keys of these kinds."""
        tables = self._reading("recover", shard)
        in_flight = sorted(
            run_id for run_id, items in tables.items.items() if any(item.in_flight for item in items.values())
        )
        recovered = Recovered(
            next_receipt=max(tables.events, default=0) + 1,
            apps=[row for _, row in sorted(tables.apps.items())],
            functions=[row for _, row in sorted(tables.functions.items())],
            in_flight=in_flight,
            wait_counts=tables.wait_counts(),
            outbox=[row for _, row in sorted(tables.outbox.items())],
            keys=[row for ref, row in sorted(tables.keys.items()) if ref.kind in kinds],
        )
        return await self._read("recover", recovered)

    async def load_runs(self, shard: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        """The runs that exist among `run_ids`."""
        tables = self._reading("load_runs", shard)
        found = {run_id: tables.stored_run(run_id) for run_id in run_ids if run_id in tables.runs}
        return await self._read("load_runs", found)

    async def load_queue(
        self, shard: int, function_id: str, part: str, after: ItemRef, limit: int
    ) -> list[ItemRef]:
        """The first items in a queue of a function after `after`."""
        queue = self._reading("load_queue", shard).queue(function_id, part, after)
        return await self._read("load_queue", queue[:limit])

    async def load_parts(self, shard: int, function_id: str, after: str, limit: int) -> list[str]:
        """The queues of a function that hold something."""
        parts = self._reading("load_parts", shard).parts(function_id, after)
        return await self._read("load_parts", parts[:limit])

    async def find_waits(self, shard: int, lookups: Sequence[WaitLookup], limit: int) -> list[WaitRef]:
        """Waits that the lookups find."""
        tables = self._reading("find_waits", shard)
        found: list[WaitRef] = []
        for index, lookup in enumerate(lookups):
            keys = sorted(
                (wait.run_id, wait.n)
                for waits in tables.waits.values()
                for wait in waits.values()
                if (wait.event, wait.path, wait.value) == lookup[:3] and (wait.run_id, wait.n) > lookup.after
            )
            found.extend(WaitRef(index, run_id, n) for run_id, n in keys[:limit])
        return await self._read("find_waits", found)

    async def find_keys(self, shard: int, keys: Sequence[KeyRef], now: int) -> dict[KeyRef, bytes]:
        """The values of keys that have not expired."""
        rows = self._reading("find_keys", shard).keys
        live = (rows[key] for key in keys if key in rows)
        found = {row.ref: row.value for row in live if row.expires_at == 0 or row.expires_at > now}
        return await self._read("find_keys", found)

    async def recent_events(self, shard: int, name: str, since: int, limit: int) -> list[EventRow]:
        """Events of a name received at `since` or later, the newest `limit`, in order of receipt."""
        events = self._reading("recent_events", shard).events.values()
        found = [e for e in events if e.name == name and not e.internal and e.received_at >= since]
        newest = sorted(found, key=lambda event: event.internal_id)[-limit:]
        return await self._read("recent_events", sorted(newest, key=lambda event: event.receipt))

    async def load_events(self, shard: int, receipts: Sequence[int]) -> dict[int, EventRow]:
        """Stored events by receipt."""
        events = self._reading("load_events", shard).events
        return await self._read("load_events", {n: events[n] for n in receipts if n in events})

    async def close(self) -> None:
        """Finish what is being written, and refuse everything else; `reopen` takes it back."""
        self.closed = True
        if self._writing:
            await asyncio.wait(self._writing)

    def reopen(self) -> None:
        """Come back after `close`, with all rows, as a server does that starts again."""
        self.closed = False

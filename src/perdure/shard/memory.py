"""What a shard keeps in memory: a cache of the store, of what is hot.

Runs are the unit. A run in memory is newer than any read of the store, so whatever a read shows about a run
that is in memory is ignored; that, and the rule below, is all that keeps reads and undecided commits apart.

**A run leaves memory only when every change to it is committed, and no read is under way that began before
that commit.** Otherwise such a read could bring back what has been consumed, or miss what was added, with
nothing left to correct it. Reads are therefore registered: each holds the number of the last committed
batch when it began.

The same holds for what is remembered under keys (`shard.keys`): what a batch has changed of it stays in memory until
every read can see it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from perdure.core.flow.admission import RunFlow
from perdure.core.model import FromStep, Item, ItemKind, Run, RunStatus, Step, Wait, WaitKind
from perdure.shard.keys import Recent
from perdure.shard.rows import ItemRow, StoredRun, WaitRow

MAX_RESIDENT_RUNS = 5_000
MAX_MEMO_BYTES = 64 * 1024 * 1024


class Memory:
    """Runs in memory, an index of their waits, counts of all waits, and keys that changed lately."""

    def __init__(self) -> None:
        self.runs: OrderedDict[str, Run] = OrderedDict()
        self.committed = 0
        self.memo_bytes = 0
        self.wait_counts: dict[str, dict[str, int]] = {}
        self._waits: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
        self._reads: dict[int, int] = {}
        self._next_read = 0
        self.keys = Recent()
        self._pinned: dict[str, int] = {}

    # Reads

    def begin_read(self) -> int:
        """Register a read of the store that begins now. End it with `end_read`."""
        self._next_read += 1
        self._reads[self._next_read] = self.committed
        return self._next_read

    def snapshot(self, read: int) -> int:
        """Number of the last batch that the read is sure to see."""
        return self._reads[read]

    def end_read(self, read: int) -> None:
        """The read's result has been taken in, or dropped."""
        self._reads.pop(read, None)

    def oldest_snapshot(self) -> int:
        """Every read under way, and every later one, sees all batches up to this number."""
        return min(self._reads.values(), default=self.committed)

    # Runs

    def get(self, run_id: str) -> Run | None:
        """The run, if it is in memory; it then counts as used just now."""
        run = self.runs.get(run_id)
        if run is not None:
            self.runs.move_to_end(run_id)
        return run

    def add(self, run: Run) -> None:
        """Take in a run that was created or read."""
        self.runs[run.id] = run
        self.memo_bytes += memos_size(run)
        for wait in run.waits.values():
            self._index(run.id, wait)

    def pin(self, run_id: str) -> None:
        """Keep the run in memory until `unpin`, as often as it was pinned."""
        self._pinned[run_id] = self._pinned.get(run_id, 0) + 1

    def unpin(self, run_id: str) -> None:
        """Undo one `pin`."""
        left = self._pinned.get(run_id, 0) - 1
        if left > 0:
            self._pinned[run_id] = left
        else:
            self._pinned.pop(run_id, None)

    def _remove(self, run: Run) -> None:
        del self.runs[run.id]
        self.memo_bytes -= memos_size(run)
        for wait in run.waits.values():
            self._unindex(run.id, wait)

    def forget_ended(self, runs: Iterable[Run]) -> None:
        """Let go of runs that have ended, as far as the rule allows; the rest goes with `shrink`."""
        oldest = self.oldest_snapshot()
        for run in runs:
            if run.status.ended and self._may_leave(run, oldest) and self.runs.get(run.id) is run:
                self._remove(run)

    def shrink(self) -> None:
        """Let go of the runs used longest ago until the bounds hold, as far as the rule allows."""
        extra = len(self.runs) - MAX_RESIDENT_RUNS
        if extra <= 0 and self.memo_bytes <= MAX_MEMO_BYTES:
            return
        oldest = self.oldest_snapshot()
        leaving: list[Run] = []
        freed = 0
        for looked, run in enumerate(self.runs.values()):
            if looked >= 2_000 or (extra <= len(leaving) and self.memo_bytes - freed <= MAX_MEMO_BYTES):
                break
            if self._may_leave(run, oldest):
                leaving.append(run)
                freed += memos_size(run)
        for run in leaving:
            self._remove(run)
        if self.memo_bytes > MAX_MEMO_BYTES:
            self._drop_memos(oldest)

    def _may_leave(self, run: Run, oldest: int) -> bool:
        return (
            run.commit <= oldest
            and run.id not in self._pinned
            and not any(item.in_flight for item in run.items.values())
        )

    def _drop_memos(self, oldest: int) -> None:
        """Let go of the step results of runs that must stay; they are read again when a call needs them."""
        for run in self.runs.values():
            if self.memo_bytes <= MAX_MEMO_BYTES:
                return
            size = memos_size(run) if run.commit <= oldest else 0
            if size:
                for step in run.steps.values():
                    step.memo = None
                run.memos_resident = False
                self.memo_bytes -= size

    def take_memos(self, run: Run, memos: dict[str, bytes]) -> None:
        """Take in step results that were read again."""
        if run.memos_resident:
            return
        self.memo_bytes -= memos_size(run)
        for step_id, step in run.steps.items():
            if step.memo is None:
                step.memo = memos[step_id]
        run.memos_resident = True
        self.memo_bytes += run.state_bytes

    # Waits

    def add_wait(self, run: Run, wait: Wait) -> None:
        """A wait begins."""
        run.waits[wait.n] = wait
        self._index(run.id, wait)
        paths = self.wait_counts.setdefault(wait.event, {})
        paths[wait.path] = paths.get(wait.path, 0) + 1

    def drop_wait(self, run: Run, n: int) -> bool:
        """A wait ends. Says whether there was one."""
        wait = run.waits.pop(n, None)
        if wait is None:
            return False
        self._unindex(run.id, wait)
        paths = self.wait_counts[wait.event]
        paths[wait.path] -= 1
        if not paths[wait.path]:
            del paths[wait.path]
            if not paths:
                del self.wait_counts[wait.event]
        return True

    def waits_in_memory(self, event: str, path: str, value: str) -> set[tuple[str, int]]:
        """(run id, n) of the waits of runs in memory for this event and equality."""
        return self._waits.get((event, path, value), set())

    def _index(self, run_id: str, wait: Wait) -> None:
        self._waits.setdefault((wait.event, wait.path, wait.value), set()).add((run_id, wait.n))

    def _unindex(self, run_id: str, wait: Wait) -> None:
        key = (wait.event, wait.path, wait.value)
        found = self._waits.get(key)
        if found is not None:
            found.discard((run_id, wait.n))
            if not found:
                del self._waits[key]


def memos_size(run: Run) -> int:
    """Bytes of the run's step results that are in memory.

    Results recorded after the others were dropped are there until they are on disk, and longer.
    """
    if run.memos_resident:
        return run.state_bytes
    return sum(step.size for step in run.steps.values() if step.memo is not None)


def run_from_rows(stored: StoredRun) -> Run:
    """A run as it lives in memory, from its rows."""
    row = stored.run
    run = Run(
        row.id,
        row.function_id,
        RunStatus(row.status),
        msgspec.json.decode(row.receipts, type=list[int]),
        msgspec.json.decode(row.event_ids, type=list[str]),
        stored.events,
        row.event_name,
        row.created_at,
        row.started_at,
        row.ended_at,
        row.version,
        bool(row.parallel),
        row.correlation,
        row.original_run_id,
        row.output,
        None if row.flow is None else RunFlow.decode(row.flow),
        row.flow,
        row.batch_id,
        row.cron,
        None if row.from_step is None else FromStep.decode(row.from_step),
        # Waits that cancel have numbers of their own, and no item.
        seq=max([stored.last_n, *(wait.n for wait in stored.waits)]) + 1,
    )
    for step in stored.steps:
        size = len(step.memo)
        run.steps[step.step_id] = Step(
            step.step_id, step.position, step.name, step.op, step.memo, size, step.at
        )
        run.state_bytes += size
    run.items = {item.n: _item(item) for item in stored.items}
    run.waits = {wait.n: _wait(wait) for wait in stored.waits}
    return run


def _item(row: ItemRow) -> Item:
    return Item(
        row.n,
        ItemKind(row.kind),
        row.step_id,
        row.name,
        row.due,
        row.queued_at,
        row.attempt,
        row.generation,
        row.recoveries,
        bool(row.in_flight),
        row.grp,
        row.data,
        part=row.part,
        rank=row.rank,
    )


def _wait(row: WaitRow) -> Wait:
    return Wait(
        row.n, WaitKind(row.kind), row.event, row.path, row.value, row.expression, row.since, row.until
    )

"""The open batch: what has been decided and is not committed yet.

Runs and items are noted as touched, and turned into rows when the batch is sealed, so that several
decisions about one run cost one row. Effects are kept in the order of the decisions, and leave only when
the batch is on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from perdure.core.model import Item, ItemKind, Part, Run, RunStatus, Wait
from perdure.shard.changes import Changes
from perdure.shard.rows import ItemRow, KeyRef, KeyRow, RunRow, WaitRow

if TYPE_CHECKING:
    from perdure.shard.commands import Command

_json = msgspec.json.Encoder()

TIMER_ITEM = 1
"""`n` of the one item of a timer of a rule."""


class Batch:
    """Decisions waiting for one commit. `number` rises by one with each batch of an epoch."""

    __slots__ = ("calls", "changes", "commands", "effects", "ended", "items", "number", "payload", "runs")

    def __init__(self, number: int) -> None:
        self.number = number
        self.changes = Changes(number)
        self.runs: dict[str, Run] = {}
        self.items: dict[tuple[str, int], tuple[str, Item]] = {}
        self.effects: list[Callable[[], None]] = []
        self.commands: list[Command] = []
        self.calls: list[tuple[str, int, int]] = []
        """Calls that leave with it: run id, n, generation."""
        self.ended: list[RunStatus] = []
        """How the runs ended that end with it."""
        self.payload = 0

    def touch_run(self, run: Run) -> None:
        """The run's own row has changed."""
        run.commit = self.number
        self.runs[run.id] = run

    def put_item(self, run: Run, item: Item) -> None:
        """An item was added or changed."""
        run.commit = self.number
        key = (run.id, item.n)
        self.items[key] = (run.function_id, item)
        self.changes.items.pop(key, None)

    def drop_item(self, run: Run, n: int) -> None:
        """An item is gone."""
        run.commit = self.number
        key = (run.id, n)
        self.items.pop(key, None)
        self.changes.items[key] = None

    def put_wait(self, run: Run, wait: Wait) -> None:
        """A wait was added."""
        run.commit = self.number
        self.changes.waits[(run.id, wait.n)] = WaitRow(
            run.id,
            wait.n,
            wait.kind,
            wait.event,
            wait.path,
            wait.value,
            wait.expression,
            wait.since,
            wait.until,
        )

    def drop_wait(self, run: Run, n: int) -> None:
        """A wait is gone."""
        run.commit = self.number
        self.changes.waits[(run.id, n)] = None

    def put_timer(self, timer: str, function_id: str, due: int, now: int) -> None:
        """A rule of a function is due at `due`."""
        item = Item(TIMER_ITEM, ItemKind.RULE, "", "", due, now, part=Part.TIMERS, rank=due)
        self.items[(timer, TIMER_ITEM)] = (function_id, item)
        self.changes.items.pop((timer, TIMER_ITEM), None)

    def drop_timer(self, timer: str) -> None:
        """A rule is not due any more."""
        self.items.pop((timer, TIMER_ITEM), None)
        self.changes.items[(timer, TIMER_ITEM)] = None

    def put_key(self, ref: KeyRef, value: bytes, expires_at: int) -> None:
        """Something is remembered under a key."""
        self.changes.keys[ref] = KeyRow(*ref, value, expires_at)
        self.payload += len(value)

    def drop_key(self, ref: KeyRef) -> None:
        """Nothing is remembered under a key any more."""
        self.changes.keys[ref] = None

    def empty(self) -> bool:
        """Whether nothing was decided in it.

        A batch of commands that change nothing is still to be closed, or it would be full for ever.
        """
        return not (self.commands or self.effects or self.runs or self.items or self.changes.size())

    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.runs or self.items or self.changes.size())

    def seal(self) -> Changes:
        """Turn what was touched into rows. The batch takes no more decisions after this."""
        changes = self.changes
        for run in self.runs.values():
            changes.runs[run.id] = run_row(run)
        for key, (function_id, item) in self.items.items():
            changes.items[key] = item_row(key[0], function_id, item)
        return changes


def run_row(run: Run) -> RunRow:
    """A run's own row."""
    return RunRow(
        run.id,
        run.function_id,
        run.status,
        run.event_ids[0] if run.event_ids else "",
        _json.encode(run.event_ids).decode(),
        _json.encode(run.receipts).decode(),
        run.event_name,
        run.created_at,
        run.started_at,
        run.ended_at,
        run.version,
        run.parallel,
        run.correlation,
        run.original_run_id,
        run.output,
        run.flow_row,
        run.batch_id,
        run.cron,
        None if run.from_step is None else run.from_step.encode(),
    )


def item_row(run_id: str, function_id: str, item: Item) -> ItemRow:
    """An item's row."""
    return ItemRow(
        run_id,
        item.n,
        function_id,
        item.kind,
        item.step_id,
        item.name,
        item.due,
        item.queued_at,
        item.attempt,
        item.generation,
        item.recoveries,
        item.in_flight,
        item.group,
        item.data,
        item.part,
        item.rank,
    )

"""The changes of one batch: what a store writes in one transaction.

Rows are coalesced by key: the last state of a row within a batch is what is written. None means that the
row goes.
"""

from __future__ import annotations

from perdure.shard.rows import (
    AppRow,
    EventRow,
    FunctionRow,
    HistoryRow,
    ItemRow,
    KeyRef,
    KeyRow,
    OutboxRow,
    QuarantineRow,
    RollupRow,
    RunEventRow,
    RunRow,
    StepLogRow,
    StepReportRow,
    StepRow,
    WaitRow,
)


class Changes:
    """A sealed batch. `number` counts the batches of a shard within its epoch, from 1."""

    __slots__ = (
        "apps",
        "events",
        "functions",
        "history",
        "items",
        "keys",
        "number",
        "outbox",
        "quarantine",
        "rollups",
        "run_events",
        "runs",
        "step_logs",
        "step_reports",
        "steps",
        "waits",
    )

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self.apps: dict[str, AppRow | None] = {}
        self.functions: dict[str, FunctionRow] = {}
        self.events: list[EventRow] = []
        self.runs: dict[str, RunRow] = {}
        self.steps: list[StepRow] = []
        self.items: dict[tuple[str, int], ItemRow | None] = {}
        self.waits: dict[tuple[str, int], WaitRow | None] = {}
        self.keys: dict[KeyRef, KeyRow | None] = {}
        self.run_events: list[RunEventRow] = []
        self.history: list[HistoryRow] = []
        self.step_logs: list[StepLogRow] = []
        self.step_reports: dict[tuple[str, str], StepReportRow] = {}
        self.rollups: dict[tuple[int, int, str], RollupRow] = {}
        self.outbox: dict[int, OutboxRow | None] = {}
        self.quarantine: list[QuarantineRow] = []

    def size(self) -> int:
        """Number of rows that the batch writes or removes."""
        return (
            len(self.events)
            + len(self.runs)
            + len(self.steps)
            + len(self.items)
            + len(self.waits)
            + len(self.keys)
            + len(self.run_events)
            + len(self.history)
            + len(self.step_logs)
            + len(self.step_reports)
            + len(self.rollups)
            + len(self.outbox)
            + len(self.apps)
            + len(self.functions)
            + len(self.quarantine)
        )

"""Storing what steps tell of themselves. It is no part of the state: nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.shard.commands import Command
from perdure.shard.rows import StepLogRow, StepReportRow

if TYPE_CHECKING:
    from perdure.shard.state import State


@dataclass(slots=True, eq=False)
class AddStepLogs(Command):
    """Store lines that steps have logged, and what the steps report. The answer is None."""

    lines: list[StepLogRow] = field(default_factory=list)
    reports: list[StepReportRow] = field(default_factory=list)

    def cost(self) -> int:
        """Size of the lines."""
        return 256 + sum(len(line.message) + len(line.fields or b"") for line in self.lines)

    def stored(self) -> None:
        """All of it is on disk."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


def add_step_logs(state: State, command: AddStepLogs) -> None:
    """Put lines and reports of steps into the batch."""
    batch = state.batch
    batch.changes.step_logs += command.lines
    batch.changes.step_reports.update(((row.run_id, row.step_id), row) for row in command.reports)
    batch.payload += command.cost()
    batch.effects.append(command.stored)

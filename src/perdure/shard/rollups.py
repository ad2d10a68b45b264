"""Storing rollups. They are no part of the state: nothing is decided by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from perdure.shard.commands import Command
from perdure.shard.rows import RollupRow

if TYPE_CHECKING:
    from perdure.shard.state import State


@dataclass(slots=True, eq=False)
class PutRollups(Command):
    """Store rollups in place of what was stored of the same functions and spans. The answer is None."""

    rows: list[RollupRow] = field(default_factory=list)

    def cost(self) -> int:
        """Size of the rows."""
        return 256 + sum(len(row.body) + 64 for row in self.rows)

    def stored(self) -> None:
        """All of it is on disk."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


def put_rollups(state: State, command: PutRollups) -> None:
    """Put rollups into the batch."""
    batch = state.batch
    batch.changes.rollups.update(((row.span, row.at, row.function_id), row) for row in command.rows)
    batch.payload += command.cost()
    batch.effects.append(command.stored)

"""The ground of all reading: tasks, what they pin in memory, and until when a read counts as under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence

from perdure.shard.commands import (
    Command,
)
from perdure.shard.memory import run_from_rows
from perdure.shard.ports import Store
from perdure.shard.rows import KeyRef
from perdure.shard.state import State


class Reads:
    """The reads under way. `give_back` puts commands that are ready at the head of the line."""

    def __init__(
        self,
        shard: int,
        store: Store,
        state: State,
        give_back: Callable[[list[Command]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._shard = shard
        self._store = store
        self._state = state
        self._give_back = give_back
        self._failed = failed
        self._tasks: dict[asyncio.Task[None], Sequence[Command]] = {}
        self._wanted: dict[str, list[Command]] = {}
        self._pins: dict[int, list[str]] = {}
        self._stranded: list[Command] = []
        """Commands whose reads have failed."""
        self._reads_of: dict[int, list[int]] = {}
        self._users: dict[int, int] = {}

    def want_run(self, run_id: str, command: Command) -> None:
        """Read a run for a command, which comes back when it is there (or known not to exist)."""
        self._wanted.setdefault(run_id, []).append(command)

    def lined_up(self, run_id: str) -> bool:
        """Whether commands about this run wait for a read."""
        return run_id in self._wanted

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def release(self, command: Command) -> None:
        """The command has been decided: what was kept in memory for it may leave."""
        memory = self._state.memory
        for run_id in self._pins.pop(id(command), ()):
            memory.unpin(run_id)
        for read in self._reads_of.pop(id(command), ()):
            self._users[read] -= 1
            if not self._users[read]:
                del self._users[read]
                memory.end_read(read)

    def _start(
        self, work: Coroutine[None, None, None], commands: Sequence[Command] = ()
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = commands
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        commands = self._tasks.pop(task, ())
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._stranded += commands
                self._failed(error)

    def _hold(self, read: int, commands: Sequence[Command]) -> None:
        """A read is done; it counts as under way until these commands are decided.

        What it did not see must be in memory still when they are: another command of the same read may have
        taken a key, and its batch may be on disk by then.
        """
        self._users[read] = len(commands)
        for command in commands:
            self._reads_of.setdefault(id(command), []).append(read)

    def _newest(self, found: dict[KeyRef, bytes], keys: Sequence[KeyRef]) -> dict[KeyRef, bytes]:
        """What stands under keys by what was read and what batches have changed since."""
        values = {key: self._state.key(key, found) for key in keys}
        return {key: value for key, value in values.items() if value is not None}

    def _pin(self, command: Command, run_id: str) -> None:
        """Keep a run in memory until the command is decided."""
        self._pins.setdefault(id(command), []).append(run_id)
        self._state.memory.pin(run_id)

    async def _load_missing(self, run_ids: Sequence[str]) -> None:
        """Read the runs among these that are not in memory."""
        memory = self._state.memory
        missing = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in memory.runs]
        if missing:
            stored = await self._store.load_runs(self._shard, missing)
            for run_id, rows in stored.items():
                if run_id not in memory.runs:
                    memory.add(run_from_rows(rows))

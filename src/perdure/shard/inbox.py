"""Commands waiting for the shard, in three lanes.

What the shard asked for itself, and what ends something under way (answers, checkpoints), must never be
refused: refusing it would be a deadlock. It is bounded by what is under way. Events and management are
refused when too much waits; the caller tells its client to try again.
"""

from __future__ import annotations

from collections import deque

from perdure.shard.commands import CallEnded, Checkpoint, Command, ContinueEvent

MAX_BYTES = 64 * 1024 * 1024
MAX_COMMANDS = 20_000

_URGENT = (CallEnded, Checkpoint, ContinueEvent)


class Inbox:
    """Commands in the order in which they will be decided."""

    def __init__(self) -> None:
        self._ready: deque[Command] = deque()
        self._urgent: deque[Command] = deque()
        self._ordinary: deque[Command] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._urgent) + len(self._ordinary)

    def refuses(self, command: Command) -> bool:
        """Whether a command from outside must be refused now: too many, or too large ones, wait already."""
        if isinstance(command, Checkpoint):
            return False
        return self._bytes > MAX_BYTES or len(self._ordinary) >= MAX_COMMANDS

    def put(self, command: Command) -> None:
        """Line up a new command."""
        if isinstance(command, _URGENT):
            self._urgent.append(command)
        else:
            self._ordinary.append(command)
            self._bytes += command.cost()

    def put_back(self, commands: list[Command]) -> None:
        """Line up commands whose reads are done: before all others."""
        self._ready.extend(commands)

    def take(self) -> Command:
        """The next command."""
        if self._ready:
            return self._ready.popleft()
        if self._urgent:
            return self._urgent.popleft()
        command = self._ordinary.popleft()
        self._bytes -= command.cost()
        return command

    def take_all(self) -> list[Command]:
        """Empty the inbox, in order."""
        return [self.take() for _ in range(len(self))]

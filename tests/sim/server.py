"""The server of a history: one process after another on the same disk.

A crash drops the shard at once, with all its tasks; whoever waits for an answer of it learns that the connection is
gone. What an app does for a call of a dead process goes on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from perdure.errors import ShardClosed, StoreUnavailable
from perdure.shard.commands import Command
from perdure.shard.loop import Shard
from tests.sim.disk import Connection
from tests.sim.network import Network

if TYPE_CHECKING:
    from tests.sim.world import World


class Refused(Exception):
    """The server is not there, or takes nothing now."""


class ConnectionLost(Exception):
    """The server died before it answered."""


class Process:
    """One life of the server."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.dead = False
        self.connection = Connection(world.disk, Random(f"connection {world.scenario.seed} {number}"))
        network = Network(world, self, Random(f"network {world.scenario.seed} {number}"))
        self.shard = Shard(self.connection, network, world.clock, world.entropy, world.scenario.settings)
        self.waiting: dict[asyncio.Future[object], Command] = {}
        """Answers that somebody waits for."""


class Server:
    """Starts processes, kills them, and passes requests on to the one that runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"server {world.scenario.seed}")
        self.lives = 0
        self.process: Process | None = None
        self.zombies: list[Process] = []
        """Processes that were paused while another took over."""

    async def start(self) -> None:
        """Start a process, as often as that takes."""
        while True:
            self.lives += 1
            process = Process(self._world, self.lives)
            self.process = process
            self._world.trace.note(f"server: process {process.number} starts")
            try:
                await process.shard.start()
            except StoreUnavailable as error:
                self._world.trace.note(f"server: cannot start: {error}")
                self._kill(process)
                await asyncio.sleep(1.0)
                continue
            process.shard.ended.add_done_callback(partial(self._ended, process))
            return

    def crash(self) -> None:
        """The process is gone, in the middle of whatever it did; it will be started again."""
        process, self.process = self.process, None
        if process is not None:
            # What is still being written may reach the disk; a crash that lay in wait for that has come already.
            self._world.disk.armed = ""
            self._kill(process)
            self._restart(self._random.choice((0.0, 0.5, 5.0)))

    async def stop(self) -> None:
        """SIGTERM: the process ends in order, and is started again."""
        process = self.process
        if process is None or process.dead:
            return
        self._world.trace.note("server: stops in order")
        await process.shard.stop(self._random.choice((0.0, 1.0, 10.0)))
        await asyncio.sleep(0.001)
        if not process.dead:
            self._world.checks.answers.stopped(process)
        if self.process is process:
            self.process = None
            self._kill(process)
            self._restart(1.0)

    def take_over(self) -> None:
        """A second process claims the shard while the first goes on, not knowing it."""
        process = self.process
        if process is not None and process.shard.available:
            self._world.trace.note(f"server: process {process.number} is taken over")
            self.zombies.append(process)
            process.connection.superseded = True
            self.process = None
            self._restart(0.0)

    async def end_zombies(self) -> None:
        """Processes that were taken over end now, if they have not noticed it yet."""
        for process in self.zombies:
            self._kill(process)
        self.zombies.clear()

    def _restart(self, after_s: float) -> None:
        async def again() -> None:
            await asyncio.sleep(after_s)
            if self.process is None:
                await self.start()

        self._world.spawn(again())

    def _ended(self, process: Process, _: object) -> None:
        """The shard has ended by itself: it has lost its epoch, or was stopped."""
        error = process.shard.ended.exception() if not process.shard.ended.cancelled() else None
        if error is None or process.dead:
            return
        self._world.trace.note(f"server: process {process.number} gives up: {error}")
        self._world.checks.gave_up(process.number, error)
        self._kill(process)
        if process in self.zombies:
            self.zombies.remove(process)
        if self.process is process:
            self.process = None
            self._restart(0.5)

    def _kill(self, process: Process) -> None:
        process.dead = True
        process.connection.die()
        self._world.checks.calls.died(process.number)
        for task in (process.shard._task, *process.shard._loads._tasks):
            if task is not None:
                task.cancel()
        waiting, process.waiting = process.waiting, {}
        for future in waiting:
            if not future.done():
                future.set_exception(ConnectionLost())

    async def submit(self, command: Command) -> object:
        """What the server answers. Raises `Refused`, `ConnectionLost`, or what the shard answers with."""
        process = self.process
        if process is None or process.dead:
            raise Refused("the server is down")
        try:
            inner = process.shard.submit(command)
        except ShardClosed as error:
            raise Refused(str(error)) from None
        outer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        process.waiting[outer] = command

        def copy(_: object) -> None:
            process.waiting.pop(outer, None)
            if outer.done() or inner.cancelled():
                return
            with suppress(asyncio.InvalidStateError):
                error = inner.exception()
                if error is not None:
                    outer.set_exception(error)
                else:
                    self._world.checks.answers.given(self._world.disk.shard(0), command, inner.result())
                    outer.set_result(inner.result())

        inner.add_done_callback(copy)
        return await outer

"""The store of a history: rows in dictionaries that outlive every server, behind a disk that fails and dawdles.

Each server reaches it by a `Connection` of its own. When the server dies, its connection goes dead: nothing that it
still asks for is done or answered. A commit that was under way then is on disk or is not, as chance has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from perdure.errors import EpochLost, StoreError, StoreUnavailable
from perdure.shard.changes import Changes
from perdure.shard.rows import EventRow, ItemRef, KeyRef, Recovered, StoredRun, WaitLookup, WaitRef
from tests.sim.checks import Checks
from tests.sim.memory_store import MemoryStore
from tests.sim.scenario import Scenario
from tests.sim.trace import Trace

R = TypeVar("R")


class Crashed(BaseException):
    """Ends whatever the server was doing, at this very line."""


class Disk(MemoryStore):
    """The rows, and what may go wrong with them."""

    def __init__(self, scenario: Scenario, random: Random, checks: Checks, trace: Trace) -> None:
        super().__init__(before_commit=self._before, after_commit=self._after)
        self.full = False
        self.calm = False
        self.armed = ""
        """Where the server dies next: `before`, `after` a write, at a `load`, at the `release` of a call."""
        self.crash: Callable[[], None] = lambda: None
        self._scenario = scenario
        self._random = random
        self._checks = checks
        self._trace = trace
        self._epoch = 0
        self.graveyard: list[asyncio.Future[None]] = []
        """What dead processes wait for."""

    def dies(self, where: str) -> None:
        """The server dies here if that is what was armed."""
        if self.armed == where:
            self.armed = ""
            self._trace.note(f"the server dies ({where})")
            self.crash()
            raise Crashed(where)

    async def claim(self, shard: int) -> int:
        if self.full:
            raise StoreUnavailable("the disk is full")
        epoch = await super().claim(shard)
        self._checks.claimed(epoch)
        return epoch

    def _write(self, shard: int, epoch: int, changes: Changes) -> None:
        self._epoch = epoch
        super()._write(shard, epoch, changes)

    def _before(self, _shard: int, changes: Changes) -> None:
        self.dies("before")
        if self.full:
            raise StoreUnavailable("the disk is full")
        if not self.calm and self._random.random() < self._scenario.commit_fails:
            self._trace.note("disk: a commit fails, nothing is written")
            raise StoreError("input/output error")
        with self._checks.at_work():
            self._checks.commits.before(self.shard(0), changes)

    def _after(self, _shard: int, changes: Changes) -> None:
        with self._checks.at_work():
            self._checks.commits.committed(self.shard(0), changes, self._epoch)
        self.dies("after")
        if not self.calm and self._random.random() < self._scenario.commit_fails_after:
            self._trace.note("disk: a commit is written, and reported as failed")
            raise StoreError("input/output error after the write")

    def reading(self) -> None:
        """A read begins; it may fail."""
        self.dies("load")
        if not self.calm and self._random.random() < self._scenario.load_fails:
            self._trace.note("disk: a read fails")
            raise StoreUnavailable("the disk does not answer")

    def commit_delay(self) -> float | None:
        """How long (s) a commit takes; None if it is done at once."""
        if self._random.random() < self._scenario.inline_commits:
            return None
        return self._random.choice(self._scenario.commit_delays_s)

    def read_delay(self) -> float:
        """How long (s) what was read is under way."""
        return self._random.choice(self._scenario.read_delays_s)


class Connection:
    """One server's way to the disk; implements `perdure.shard.ports.Store`."""

    def __init__(self, disk: Disk, random: Random) -> None:
        self.dead = False
        self.superseded = False
        """Whether another process has taken over; the store lets nobody take a shard back from a living owner."""
        self._disk = disk
        self._random = random
        self._under_way: list[Callable[[], None]] = []

    def die(self) -> None:
        """The server is gone. What it was writing is written now, or never."""
        self.dead = True
        self._disk.armed = ""
        writes, self._under_way = self._under_way, []
        for write in writes:
            if self._random.random() < 0.5:
                write()

    async def _alive(self) -> None:
        if self.dead:
            await self._never()

    def _never(self) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._disk.graveyard.append(future)
        return future

    async def claim(self, shard: int) -> int:
        await self._alive()
        if self.superseded:
            raise EpochLost(f"Shard {shard} has another owner.")
        return await self._disk.claim(shard)

    def commit(self, shard: int, epoch: int, changes: Changes) -> asyncio.Future[None] | None:
        if self.dead:
            return self._never()
        delay = self._disk.commit_delay()
        self._disk.scheduler = None if delay is None else lambda write: self._later(delay, write)
        return self._disk.commit(shard, epoch, changes)

    def _later(self, delay: float, write: Callable[[], None]) -> None:
        def now() -> None:
            if write in self._under_way:
                self._under_way.remove(write)
                write()

        self._under_way.append(write)
        asyncio.get_running_loop().call_later(delay, now)

    async def _read(self, read: Callable[[], asyncio.Future[R]]) -> R:
        await self._alive()
        self._disk.reading()
        answer = await read()
        delay = self._disk.read_delay()
        if delay:
            await asyncio.sleep(delay)
        await self._alive()
        return answer

    async def recover(self, shard: int, kinds: Sequence[str]) -> Recovered:
        return await self._read(lambda: self._disk.recover(shard, kinds))  # type: ignore[arg-type,return-value]

    async def load_runs(self, shard: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        return await self._read(lambda: self._disk.load_runs(shard, run_ids))  # type: ignore

    async def load_queue(
        self, shard: int, function_id: str, part: str, after: ItemRef, limit: int
    ) -> list[ItemRef]:
        return await self._read(lambda: self._disk.load_queue(shard, function_id, part, after, limit))  # type: ignore

    async def load_parts(self, shard: int, function_id: str, after: str, limit: int) -> list[str]:
        return await self._read(lambda: self._disk.load_parts(shard, function_id, after, limit))  # type: ignore

    async def find_waits(self, shard: int, lookups: Sequence[WaitLookup], limit: int) -> list[WaitRef]:
        return await self._read(lambda: self._disk.find_waits(shard, lookups, limit))  # type: ignore

    async def find_keys(self, shard: int, keys: Sequence[KeyRef], now: int) -> dict[KeyRef, bytes]:
        return await self._read(lambda: self._disk.find_keys(shard, keys, now))  # type: ignore

    async def recent_events(self, shard: int, name: str, since: int, limit: int) -> list[EventRow]:
        return await self._read(lambda: self._disk.recent_events(shard, name, since, limit))  # type: ignore

    async def load_events(self, shard: int, receipts: Sequence[int]) -> dict[int, EventRow]:
        return await self._read(lambda: self._disk.load_events(shard, receipts))  # type: ignore

    async def close(self) -> None:
        """Others may still be connected."""

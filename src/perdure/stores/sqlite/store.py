"""The store of one machine: a SQLite file, one process that writes it.

How a commit gets to the disk. The event loop owns the writer's connection while no job waits in the commit
thread. A small batch is then written by the loop itself: handing it to a thread and back costs more than the
0.3 ms that it saves. A large one goes to the commit thread, and so does everything that comes before that is
done, so batches are written in the order in which they came. SQLite lets go of the interpreter's lock while it
works. On a disk whose fsync is slow, the thread makes all commits.

If another program holds the database, the loop does not wait for it: the batch goes to the thread, which tries
for 5 s. What the log has gathered is copied into the database beside all of this (`checkpointing`); the last
pass of a copy is a job of the commit thread too.

Loads run in the loop, on a connection that only reads. They are searches by index and take microseconds; WAL
lets them go on beside a commit.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import apsw

from perdure.errors import StoreUnavailable
from perdure.shard.changes import Changes
from perdure.shard.rows import EventRow, ItemRef, KeyRef, Recovered, StoredRun, WaitLookup, WaitRef
from perdure.stores.sqlite.checkpointing import Checkpointer
from perdure.stores.sqlite.committing import CommitThread
from perdure.stores.sqlite.connections import connect_reader, connect_writer, explain
from perdure.stores.sqlite.loading import Loader
from perdure.stores.sqlite.lock import DatabaseLock
from perdure.stores.sqlite.migrations import migrate
from perdure.stores.sqlite.settings import DEFAULTS, SqliteSettings
from perdure.stores.sqlite.writing import BatchWriter

PART = 64
"""Runs or lookups read at once; between two parts the loop sees to other things. A part takes about a millisecond."""

T = TypeVar("T")


class SqliteStore:
    """Implements `perdure.shard.ports.Store` on a SQLite file. Made by `SqliteStore.open`."""

    def __init__(
        self,
        path: Path,
        lock: DatabaseLock,
        writer: apsw.Connection,
        reader: apsw.Connection,
        settings: SqliteSettings,
    ) -> None:
        self.path = path
        self._lock = lock
        self._settings = settings
        self._commit_seconds = 0.0
        self._connection = writer
        self._writer = BatchWriter(writer)
        self._loader = Loader(reader)
        self._checkpointer = Checkpointer(path, settings)
        self._checkpointer.watch(writer)
        self._thread = CommitThread()
        self._closed = False

    @classmethod
    def open(cls, path: str | os.PathLike[str], settings: SqliteSettings = DEFAULTS) -> SqliteStore:
        """Open the database at `path`, made if it does not exist, and bring its schema up to date.

        Raises `AlreadyRunning` if another process has it open, `StoreUnavailable` if it cannot be opened or
        written, and `StoreError` if it is damaged, not ours, or written by a newer version.
        """
        path = Path(path)
        lock = DatabaseLock.take(path)
        writer: apsw.Connection | None = None
        try:
            writer = connect_writer(path)
            if not settings.durable:
                writer.execute("PRAGMA synchronous = OFF")
            migrate(writer, path)
            return cls(path, lock, writer, connect_reader(path), settings)
        except BaseException as error:
            if writer is not None:
                writer.close()
            lock.release()
            if isinstance(error, apsw.Error):
                raise explain(error, path) from error
            raise

    @property
    def log_bytes(self) -> int:
        """Size of the write-ahead log, in bytes."""
        return self._checkpointer.log_bytes

    async def claim(self, shard: int) -> int:
        """Become the owner of the shard; give back its new epoch."""
        self._check_open()
        owner = f"process {os.getpid()}"
        return await self._thread.submit(lambda: self._patiently(lambda: self._writer.claim(shard, owner)))

    def commit(self, shard: int, epoch: int, changes: Changes) -> asyncio.Future[None] | None:
        """Write the batch in one durable transaction: at once (None), or in the commit thread (a future)."""
        self._check_open()
        catch_up = self._checkpointer.copied
        if self._thread.idle and not catch_up and self._is_small(changes) and self._is_quick():
            self._connection.set_busy_timeout(0)
            try:
                started = time.perf_counter()
                self._writer.write(shard, epoch, changes)
                self._commit_seconds += (time.perf_counter() - started - self._commit_seconds) / 16
                return None
            except apsw.BusyError:
                pass
            except apsw.Error as error:
                raise explain(error, self.path) from error
        done = self._thread.submit(lambda: self._patiently(lambda: self._writer.write(shard, epoch, changes)))
        if catch_up:
            self._thread.submit(lambda: self._checkpointer.catch_up(self._connection))
        return done

    def _is_small(self, changes: Changes) -> bool:
        """Whether the batch is cheaper to write in the loop than to hand over."""
        return (
            changes.size() <= self._settings.inline_rows and _payload(changes) <= self._settings.inline_bytes
        )

    def _is_quick(self) -> bool:
        """Whether commits in the loop are quick on average. If not, one is tried again after some others."""
        if self._commit_seconds < self._settings.inline_seconds:
            return True
        self._commit_seconds *= 0.99
        return False

    def _patiently(self, write: Callable[[], T]) -> T:
        """Run `write` in the commit thread, waiting for locks of other programs."""
        self._connection.set_busy_timeout(int(self._settings.busy_seconds * 1000))
        try:
            return write()
        except apsw.Error as error:
            raise explain(error, self.path) from error

    async def recover(self, shard: int, kinds: Sequence[str]) -> Recovered:
        """What a shard needs to start, with all keys of these kinds."""
        self._check_open()
        return await asyncio.to_thread(self._recover, shard, kinds)

    def _recover(self, shard: int, kinds: Sequence[str]) -> Recovered:
        try:
            loader = Loader(connect_reader(self.path))
            try:
                return loader.recover(shard, kinds)
            finally:
                loader.close()
        except apsw.Error as error:
            raise explain(error, self.path) from error

    def _load(self, read: Callable[[], T]) -> T:
        self._check_open()
        try:
            return read()
        except apsw.Error as error:
            raise explain(error, self.path) from error

    async def load_runs(self, shard: int, run_ids: Sequence[str]) -> dict[str, StoredRun]:
        """The runs that exist among `run_ids`, with all that belongs to them. Each run is of one moment."""
        loaded: dict[str, StoredRun] = {}
        for at in range(0, len(run_ids), PART):
            if at:
                await asyncio.sleep(0)
            part = run_ids[at : at + PART]
            loaded.update(self._load(partial(self._loader.load_runs, shard, part)))
        return loaded

    async def load_queue(
        self, shard: int, function_id: str, part: str, after: ItemRef, limit: int
    ) -> list[ItemRef]:
        """The first items in a queue of a function that are not in flight, after `after` in queue order."""
        return self._load(lambda: self._loader.load_queue(shard, function_id, part, after, limit))

    async def load_parts(self, shard: int, function_id: str, after: str, limit: int) -> list[str]:
        """The queues of a function that hold items not in flight: their names after `after`, in order."""
        return self._load(lambda: self._loader.load_parts(shard, function_id, after, limit))

    async def recent_events(self, shard: int, name: str, since: int, limit: int) -> list[EventRow]:
        """Events of a name received at `since` (ms) or later, the newest `limit`, in order of receipt."""
        return self._load(lambda: self._loader.recent_events(shard, name, since, limit))

    async def find_waits(self, shard: int, lookups: Sequence[WaitLookup], limit: int) -> list[WaitRef]:
        """Waits that the lookups find, for each lookup in the order of (run id, n), at most `limit` a
        lookup."""
        found: list[WaitRef] = []
        for at in range(0, len(lookups), PART):
            if at:
                await asyncio.sleep(0)
            refs = self._load(partial(self._loader.find_waits, shard, lookups[at : at + PART], limit))
            found += [WaitRef(ref.lookup + at, ref.run_id, ref.n) for ref in refs] if at else refs
        return found

    async def find_keys(self, shard: int, keys: Sequence[KeyRef], now: int) -> dict[KeyRef, bytes]:
        """The values of those of `keys` that exist and have not expired at `now`."""
        self._writer.now = max(self._writer.now, now)
        found: dict[KeyRef, bytes] = {}
        for at in range(0, len(keys), PART):
            if at:
                await asyncio.sleep(0)
            found.update(self._load(partial(self._loader.find_keys, shard, keys[at : at + PART], now)))
        return found

    async def load_events(self, shard: int, receipts: Sequence[int]) -> dict[int, EventRow]:
        """Stored events by receipt."""
        return self._load(lambda: self._loader.load_events(shard, receipts))

    async def close(self) -> None:
        """Finish what is being written, and let go of the files. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._thread.stop)
        await asyncio.to_thread(self._checkpointer.stop)
        self._loader.close()
        self._connection.close()
        self._lock.release()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.path} has been closed; the server is stopping.")


def _payload(changes: Changes) -> int:
    """Bytes of the bodies in a batch."""
    size = sum([len(event.body) for event in changes.events])
    size += sum([len(step.memo) for step in changes.steps])
    size += sum([len(entry.body) for entry in changes.history])
    size += sum([len(line.message) + len(line.fields or b"") for line in changes.step_logs])
    size += sum([len(run.output or b"") for run in changes.runs.values()])
    size += sum([len(item.data or b"") for item in changes.items.values() if item is not None])
    size += sum([len(key.value) for key in changes.keys.values() if key is not None])
    return size

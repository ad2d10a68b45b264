"""Sums up what happens, for charts: in memory with each commit, and on disk once a second.

`committed` is told of every batch that is on disk, and looks only at what such a batch says anyway: entries of
history tell that a run was created, called or has ended, rows of runs when. So deciding knows nothing of charts, and
a batch that turns out void is never counted.

A rollup is written as a whole in place of its older state, with the time up to which everything is in it. What a
crash takes with it is the last second; at the next start the runs that were created or have ended since that time are
read and added (calls of that second are not: they are in no index).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import msgspec

from perdure.core.model import RunStatus
from perdure.errors import PerdureError
from perdure.reading.port import Reader, RunFilter, RunRecord
from perdure.reading.rollups import SPANS, Rollup, RollupReader, encode
from perdure.server.context import Server
from perdure.shard.batch import Batch
from perdure.shard.rollups import PutRollups
from perdure.shard.rows import HistoryRow, RollupRow, RunRow

log = logging.getLogger("perdure.server")

FLUSH_S = 1.0
ROWS_AT_ONCE = 500
KEPT_SPANS = 2
"""A rollup stays in memory until so many of its spans have passed. What is told of a time before that (a clock that
was set back) is not counted.
"""
MAX_CAUGHT_UP = 20_000
"""Runs that are read at the start to make up for a crash."""
_PAGE = 1_000
_ENDS = {
    RunStatus.COMPLETED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
    RunStatus.SKIPPED: "skipped",
}


class _Call(msgspec.Struct):
    sent: int = 0
    status: int = 0
    ops: list[msgspec.Raw] = []
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Ended(msgspec.Struct):
    status: str


_CALL = msgspec.json.Decoder(_Call)
_ENDED = msgspec.json.Decoder(_Ended)

Key = tuple[int, int, str]


class Rollups:
    """Gathers and writes. `start` begins (it reads what a crash has left out), `close` writes the rest."""

    def __init__(self, server: Server, reader: Reader, stored: RollupReader) -> None:
        self._server = server
        self._reader = reader
        self._stored = stored
        self._known: dict[Key, Rollup] = {}
        self._dirty: set[Key] = set()
        self._counted_to = 0
        """Time (ms) of the newest thing that was counted."""
        self._newest_start = 0
        self._starting: set[str] = set()
        """Runs that started at `_newest_start`: a run's row is written again later, with the same start."""
        self._task: asyncio.Task[None] | None = None
        self._ready = False
        self._early: list[tuple[dict[str, RunRow], list[HistoryRow]]] = []

    async def start(self) -> None:
        """Make up for what the last process did not write, and begin."""
        since = await self._stored.newest_rollup()
        if since:
            self._counted_to = since
            await self._read_open(since)
            await self._catch_up(since + 1)
        else:
            self._counted_to = self._server.shard.now()
            with contextlib.suppress(PerdureError):  # the first flush brings it as well
                await self._server.submit(PutRollups(rows=[_upto(self._counted_to)]))
        self._ready = True
        for runs, history in self._early:
            self._count(runs, history)
        self._early = []
        self._task = asyncio.get_running_loop().create_task(self._flush_for_ever())

    async def close(self) -> None:
        """Write what is not on disk yet."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        with contextlib.suppress(PerdureError):
            await self.flush()

    def committed(self, batch: Batch) -> None:
        """A batch is on disk."""
        history = batch.changes.history
        if not history:
            return
        if self._ready:
            self._count(batch.changes.runs, history)
        else:
            self._early.append((batch.changes.runs, history))

    def _count(self, runs: dict[str, RunRow], history: list[HistoryRow]) -> None:
        memory = self._server.shard.state.memory.runs
        for entry in history:
            kind = entry.kind
            if kind not in ("queued", "call", "checkpoint", "ended"):
                continue
            row = runs.get(entry.run_id)
            known = memory.get(entry.run_id) if row is None else None
            if row is None and known is None:
                continue
            function_id = row.function_id if row is not None else known.function_id  # type: ignore[union-attr]
            parts = self._at(entry.at, function_id)
            if kind == "queued":
                for part in parts:
                    part.queued += 1
            elif kind == "ended":
                status = _ENDED.decode(entry.body).status
                self._end(parts, row and row.started_at, row and row.ended_at, status)
            else:
                self._call(parts, entry, kind)
        for row in runs.values():
            if row.started_at is not None and row.started_at >= self._newest_start:
                self._started(row.id, row.function_id, row.created_at, row.started_at)

    def _started(self, run_id: str, function_id: str, created_at: int, started_at: int) -> None:
        if started_at > self._newest_start:
            self._newest_start = started_at
            self._starting.clear()
        if run_id in self._starting:
            return
        self._starting.add(run_id)
        for part in self._at(started_at, function_id):
            part.started += 1
            part.waited.add(started_at - created_at)

    def _end(self, parts: list[Rollup], started_at: int | None, ended_at: int | None, status: str) -> None:
        name = _ENDS.get(RunStatus(status))
        if name is None:
            return
        for part in parts:
            setattr(part, name, getattr(part, name) + 1)
            if started_at is not None and ended_at is not None:
                part.took.add(ended_at - started_at)

    def _call(self, parts: list[Rollup], entry: HistoryRow, kind: str) -> None:
        call = _CALL.decode(entry.body)
        for part in parts:
            part.steps += len(call.ops)
            if kind == "call":
                part.calls += 1
                part.answered.add(entry.at - call.sent)
                if call.error is not msgspec.UNSET or not 200 <= call.status < 300:
                    part.calls_failed += 1

    def _at(self, at: int, function_id: str) -> list[Rollup]:
        """The rollups that something at a time belongs to, one of each span."""
        self._counted_to = max(self._counted_to, at)
        parts = []
        for span in SPANS:
            key = (span, at - at % span, function_id)
            if self._is_over(key):
                continue
            found = self._known.get(key)
            if found is None:
                found = self._known[key] = Rollup()
            self._dirty.add(key)
            parts.append(found)
        return parts

    def _is_over(self, key: Key) -> bool:
        span, at, _ = key
        return at + KEPT_SPANS * span < self._counted_to

    # Beginning

    async def _read_open(self, since: int) -> None:
        """Read the rollups that may still grow."""
        for span in SPANS:
            for record in await self._stored.rollups(span, since - (KEPT_SPANS + 1) * span, since + span):
                key = (span, record.at, record.function_id)
                if not self._is_over(key):
                    self._known[key] = record.rollup

    async def _catch_up(self, since: int) -> None:
        """Count the runs that were created, started or have ended since a time."""
        for run in await self._runs(RunFilter(field="created_at", since=since, ascending=True)):
            for part in self._at(run.created_at, run.function_id):
                part.queued += 1
        for run in await self._runs(RunFilter(field="started_at", since=since, ascending=True)):
            self._started(run.id, run.function_id, run.created_at, run.started_at or 0)
        for run in await self._runs(RunFilter(field="ended_at", since=since, ascending=True)):
            parts = self._at(run.ended_at or 0, run.function_id)
            self._end(parts, run.started_at, run.ended_at, run.status)

    async def _runs(self, wanted: RunFilter) -> list[RunRecord]:
        found: list[RunRecord] = []
        while len(found) < MAX_CAUGHT_UP:
            after = wanted.place(found[-1]) if found else None
            page = await self._reader.list_runs(wanted, after=after, limit=_PAGE)
            found += [listed.run for listed in page]
            if len(page) < _PAGE:
                break
        return found

    # Writing

    async def _flush_for_ever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except PerdureError as error:
                log.debug("sums for charts are written later: %s", error)

    async def flush(self) -> None:
        """Write what has changed. Raises `RequestError` or `StoreUnavailable`; nothing is lost by that."""
        if not self._dirty:
            return
        self._look_at_queues()
        dirty, upto = list(self._dirty), self._counted_to
        self._dirty.clear()
        rows = [RollupRow(*key, encode(self._known[key])) for key in dirty]
        rows.append(_upto(upto))
        try:
            for first in range(0, len(rows), ROWS_AT_ONCE):
                await self._server.submit(PutRollups(rows=rows[first : first + ROWS_AT_ONCE]))
        except BaseException:
            self._dirty.update(dirty)
            raise
        for key in [key for key in self._known if key not in self._dirty and self._is_over(key)]:
            del self._known[key]

    def _look_at_queues(self) -> None:
        """Note how many calls wait, for functions to which something has just happened."""
        state = self._server.shard.state
        depths = {function_id: state.queue_size(function_id) for _, _, function_id in self._dirty}
        for key in self._dirty:
            rollup = self._known[key]
            rollup.depth = max(rollup.depth, depths[key[2]])


def _upto(at: int) -> RollupRow:
    """The row that says up to when things are summed up."""
    return RollupRow(0, 0, "", str(at).encode())

"""What has just changed, pushed: `GET /api/live`, a stream of server-sent events.

Nothing is noted while nobody listens. While somebody does, each commit leaves the ids that it changed here, and ten
times a second what has gathered is written once and handed to every listener: so a listener costs a write, not
a read, however much happens. An update says *that* something changed, and for runs and events also their heads, so
that lists can show them without asking; whatever a page shows beyond that it reads again.

    event: update    {"runs": […], "changed": [run ids], "events": […], "apps": bool, "functions": bool, "jobs": bool,
                      "more": bool}
    event: resync    the listener was too slow, or was away: it has missed something, and reads all that it shows again

`more` says that there was too much to tell one by one: lists are to be read again. The id of an update is
the process's own mark and a number that rises, so who comes back with the newest one has missed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from perdure.errors import RequestError
from perdure.protocol.ids import is_ulid
from perdure.reading.port import RunRecord
from perdure.server.api.runs import Run, shown_run
from perdure.server.context import Server
from perdure.shard.batch import Batch
from perdure.shard.keys import JOB
from perdure.shard.rows import EventRow, RunRow

TICK_S = 0.1
"""Updates are at least so far apart (seconds)."""
MAX_TOLD = 100
"""Runs, and events, of one update that are told one by one."""
MAX_CHANGED = 1_000
"""Ids of runs that one update names."""
MAX_LISTENERS = 100
BACKLOG = 20
"""Updates that a listener may be behind before it has to read all anew."""
QUIET_S = 15.0
"""A comment is sent after so long without an update, so that nobody in between takes the connection for dead."""
RETRY_MS = 1_000
_RESYNC, _END = b"resync", b"end"


class EventHead(msgspec.Struct, frozen=True):
    """An event without its payload."""

    internal_id: str
    name: str
    received_at: int
    internal: bool


class Update(msgspec.Struct, frozen=True):
    """What changed since the last one. `changed` names every run to which something happened."""

    runs: list[Run]
    changed: list[str]
    events: list[EventHead]
    apps: bool
    functions: bool
    jobs: bool
    more: bool


class _Gathered:
    """What has changed since the last tick."""

    __slots__ = ("apps", "changed", "events", "functions", "jobs", "more", "runs")

    def __init__(self) -> None:
        self.runs: dict[str, RunRow] = {}
        self.changed: dict[str, None] = {}
        self.events: list[EventRow] = []
        self.apps = self.functions = self.jobs = self.more = False

    def any(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.changed or self.events or self.apps or self.functions or self.jobs or self.more)

    def add(self, batch: Batch) -> None:
        """Note what a batch has changed, as far as there is room for it."""
        changes = batch.changes
        self.apps = self.apps or bool(changes.apps)
        self.functions = self.functions or bool(changes.functions)
        if len(self.changed) > MAX_CHANGED or len(self.events) > MAX_TOLD or len(self.runs) > MAX_TOLD:
            self.more = True  # what comes is not even noted: under load this must cost next to nothing
            return
        self.jobs = self.jobs or any(ref.kind == JOB for ref in changes.keys)
        self.runs.update(changes.runs)
        self.events += changes.events
        touched = (
            changes.runs,
            (run_id for run_id, _ in changes.items),
            (row.run_id for row in changes.history),
            (run_id for run_id, _ in changes.step_reports),
        )
        for keys in touched:
            self.changed.update(dict.fromkeys(keys))


class Live:
    """Gathers what commits change, and tells it to who listens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._mark = server.new_uuid()[:8]
        self._number = 0
        self._gathered = _Gathered()
        self._listeners: set[asyncio.Queue[bytes]] = set()
        self._ticking: asyncio.TimerHandle | None = None
        server.shard.ended.add_done_callback(self._close)

    def committed(self, batch: Batch) -> None:
        """A batch is on disk."""
        if not self._listeners:
            self._number += 1  # so that who comes back later knows that it has missed something
            return
        self._gathered.add(batch)
        if self._ticking is None and self._gathered.any():
            self._ticking = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        gathered, self._gathered = self._gathered, _Gathered()
        self._number += 1
        text = msgspec.json.encode(_update(self._server, gathered))
        message = b"id: %s\nevent: update\ndata: %s\n\n" % (self._id(), text)
        for listener in self._listeners:
            if listener.full():
                _empty(listener)
                listener.put_nowait(_RESYNC)
            else:
                listener.put_nowait(message)

    def _close(self, _: asyncio.Future[None]) -> None:
        """The shard has ended: there is nothing more to tell, and open streams would hold up the server's end."""
        for listener in self._listeners:
            _empty(listener)
            listener.put_nowait(_END)

    def _id(self) -> bytes:
        return f"{self._mark}-{self._number}".encode()

    async def listen(self, last_id: str) -> AsyncIterator[bytes]:
        """The stream of one listener. `last_id` is that of the last update it got, empty for none."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(BACKLOG)
        self._listeners.add(queue)
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            if last_id != self._id().decode():
                yield self._resync()
            while True:
                try:
                    async with asyncio.timeout(QUIET_S):
                        message = await queue.get()
                except TimeoutError:
                    message = b": quiet\n\n"
                if message is _END:
                    return
                yield self._resync() if message is _RESYNC else message
        finally:
            self._listeners.discard(queue)

    def _resync(self) -> bytes:
        return b"id: %s\nevent: resync\ndata: {}\n\n" % self._id()

    async def answer(self, request: Request) -> Response:
        """The response with the stream."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise RequestError(503, f"{MAX_LISTENERS} pages are listening already; close some of them")
        stream = self.listen(request.headers.get("last-event-id", ""))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def _empty(queue: asyncio.Queue[bytes]) -> None:
    while not queue.empty():
        queue.get_nowait()


def _update(server: Server, gathered: _Gathered) -> Update:
    # Timers of rules stand among the items, under names that are no run's.
    changed = [run_id for run_id in gathered.changed if is_ulid(run_id)]
    more = gathered.more or len(changed) > MAX_CHANGED or len(gathered.events) > MAX_TOLD
    rows = list(gathered.runs.values())[:MAX_TOLD]
    return Update(
        runs=[shown_run(server, _record(row)) for row in rows],
        changed=changed[:MAX_CHANGED],
        events=[
            EventHead(row.internal_id, row.name, row.received_at, bool(row.internal))
            for row in gathered.events[:MAX_TOLD]
        ],
        apps=gathered.apps,
        functions=gathered.functions,
        jobs=gathered.jobs,
        more=more or len(gathered.runs) > MAX_TOLD,
    )


def _record(row: RunRow) -> RunRecord:
    return RunRecord(
        row.id,
        row.function_id,
        row.status,
        row.event_id,
        tuple(msgspec.json.decode(row.event_ids, type=list[str])),
        row.event_name,
        row.created_at,
        row.started_at,
        row.ended_at,
        row.correlation,
        row.original_run_id,
        None,
        row.batch_id,
        row.cron,
    )


def live_route(live: Live) -> Route:
    """`GET /api/live`."""

    async def handle(request: Request) -> Response:
        return await live.answer(request)

    return Route("/api/live", handle, methods=["GET"])

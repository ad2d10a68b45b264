"""What running steps tell of themselves: log lines, progress, signs of life.

Best effort, and apart from everything that must not be lost. An answer does not wait for the disk. Entries are
kept in memory, up to a bound, and written a batch at a time, of which one is under way at most: so that lines
never stand in the way of steps. What is over a limit is dropped and counted: the report of its step says so, and
`/metrics` for all together.

`StepLogs.take` is the one way in, whether a body came over HTTP, over a socket or in process (`Server.take_logs`).
The answer names those runs among them that have been cancelled, which is how a long step learns of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.core.model import RunStatus
from perdure.errors import RequestError, StoreUnavailable
from perdure.protocol.durations import format_time
from perdure.protocol.ids import is_ulid
from perdure.protocol.step_logs import LATEST, MAX_BODY_BYTES, LogEntry, Taken, read_entries
from perdure.reading.port import RunReports, StepLine, StepReport
from perdure.server.context import Server
from perdure.server.http import read_body
from perdure.server.rest import shown_report, wrapped
from perdure.server.routing import route_of
from perdure.shard.rows import StepLogRow, StepReportRow
from perdure.shard.step_logs import AddStepLogs

log = logging.getLogger("perdure.server")

MAX_STEP_BYTES = 64 * 1024
"""Lines of one step that are kept."""
MAX_RUN_BYTES = 4 * 1024 * 1024
"""Lines and reports of one run that are kept."""
REPORT_BYTES = 128
"""What a report counts towards that."""
MAX_WAITING_BYTES = 16 * 1024 * 1024
"""Lines that wait to be written."""
BATCH_ROWS = 500
PAUSE_S = 0.02
"""Between two batches, and before the first: what comes meanwhile shares it."""
AGAIN_S = 1.0
"""Pause after the store or the shard has taken nothing."""
KNOWN_REPORTS = 50_000
"""Reports that are kept in memory; of others the store is asked."""
MAX_PAGE = 1_000
_CANCELLED = RunStatus.CANCELLED.value


class _Known:
    """A run of which something was told lately."""

    __slots__ = ("bytes", "reports")

    def __init__(self, reports: dict[str, StepReport]) -> None:
        self.reports = {step: _Report(report) for step, report in reports.items()}
        self.bytes = sum(report.bytes + REPORT_BYTES for report in reports.values())


class _Report:
    """The report of a step, as it grows."""

    __slots__ = ("at", "attempt", "bytes", "dropped", "lines", "message", "name", "progress")

    def __init__(self, stored: StepReport | None, name: str = "") -> None:
        self.name = stored.name if stored else name
        self.attempt = stored.attempt if stored else 0
        self.progress = stored.progress if stored else None
        self.message = stored.message if stored else ""
        self.at = stored.at if stored else 0
        self.lines = stored.lines if stored else 0
        self.bytes = stored.bytes if stored else 0
        self.dropped = stored.dropped if stored else 0

    def row(self, run_id: str, step: str) -> StepReportRow:
        return StepReportRow(
            run_id, step, self.name, self.attempt, self.progress, self.message, self.at, self.lines, self.bytes,
            self.dropped,
        )  # fmt: skip


class StepLogs:
    """Takes in what steps tell, and has it written. `close` writes what waits."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._reports = 0
        self._lines: deque[StepLogRow] = deque()
        self._waiting = 0
        self._dirty: dict[tuple[str, str], _Report] = {}
        self._last_n = 0
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    async def take(self, body: bytes) -> bytes:
        """Take in a body (`protocol.step_logs`), and give back the answer's. Raises `RequestError` 400 or 413."""
        return msgspec.json.encode(await self.take_entries(read_entries(body)))

    async def take_entries(self, entries: list[LogEntry]) -> Taken:
        """The same with entries that have been read. Those of unknown runs are dropped."""
        runs = dict.fromkeys(entry.run_id for entry in entries)
        alive = {entry.run_id for entry in entries if not entry.level}
        telling = {entry.run_id for entry in entries if not _is_beat(entry)}
        statuses = await self._look_up(runs, alive, telling)
        dropped = sum(
            entry.run_id not in statuses if _is_beat(entry) else not self._take(entry) for entry in entries
        )
        gauges = self._server.gauges
        gauges.step_lines += len(entries) - dropped
        gauges.step_lines_dropped += dropped
        self._shrink()
        if (self._lines or self._dirty) and self._task is None and not self._closing:
            self._task = asyncio.get_running_loop().create_task(self._write())
        cancelled = [run_id for run_id in runs if statuses.get(run_id) == _CANCELLED]
        return Taken(len(entries) - dropped, dropped, cancelled)

    async def _look_up(self, runs: Iterable[str], alive: set[str], telling: set[str]) -> dict[str, str]:
        """Make the runs of `telling` known, as far as they exist; the statuses of those that are told to be `alive`."""
        memory = self._server.shard.state.memory.runs
        statuses = {run_id: memory[run_id].status.value for run_id in alive if run_id in memory}
        asked = [
            run_id
            for run_id in runs
            if is_ulid(run_id)
            and (
                (run_id in telling and run_id not in self._known)
                or (run_id in alive and run_id not in statuses)
            )
        ]
        if asked:
            try:
                reports = await self._server.reader.step_reports(asked)
            except StoreUnavailable as error:
                raise RequestError(503, f"Try again in a moment: {error}") from None
            for run_id, found in reports.items():
                statuses.setdefault(run_id, found.status)
                if run_id not in self._known:
                    self._learn(run_id, found)
        return statuses

    def _learn(self, run_id: str, found: RunReports) -> None:
        self._known[run_id] = _Known(found.steps)
        self._reports += len(found.steps) + 1

    def _take(self, entry: LogEntry) -> bool:
        """Whether the entry is kept."""
        known = self._known.get(entry.run_id)
        place = (entry.run_id, entry.step)
        if known is None or (len(self._dirty) >= KNOWN_REPORTS and place not in self._dirty):
            return False
        self._known.move_to_end(entry.run_id)
        report = known.reports.get(entry.step)
        if report is None:
            if known.bytes + REPORT_BYTES > MAX_RUN_BYTES:
                return False
            report = known.reports[entry.step] = _Report(None, entry.step_id)
            known.bytes += REPORT_BYTES
            self._reports += 1
        self._dirty[place] = report
        at = self._time(entry.ts)
        if entry.attempt >= report.attempt and at >= report.at:
            if entry.attempt > report.attempt:
                report.progress, report.message = None, ""  # it has begun anew
            report.attempt, report.at = entry.attempt, at
            if entry.progress is not None:
                report.progress, report.message = entry.progress, entry.message
        return not entry.level or self._take_line(known, report, entry, at)

    def _take_line(self, known: _Known, report: _Report, entry: LogEntry, at: int) -> bool:
        size = entry.size()
        if (
            report.bytes + size > MAX_STEP_BYTES
            or known.bytes + size > MAX_RUN_BYTES
            or self._waiting + size > MAX_WAITING_BYTES
        ):
            report.dropped += 1
            return False
        report.lines += 1
        report.bytes += size
        known.bytes += size
        self._waiting += size
        self._last_n = max(self._last_n + 1, self._server.clock.now() << 10)  # in order, also after a restart
        self._lines.append(
            StepLogRow(
                entry.run_id, self._last_n, entry.step, entry.attempt, at, entry.level, entry.logger, entry.message,
                bytes(entry.fields) or None,
            )
        )  # fmt: skip
        return True

    def _time(self, ts: int) -> int:
        """An app's time as records have it: ahead of the world's after travel in time."""
        ahead = self._server.shard.state.ahead
        return (ts if 0 < ts < LATEST else self._server.clock.now()) + ahead

    def _shrink(self) -> None:
        """Forget the runs that have been silent for longest, but for those with something to be written."""
        if self._reports <= KNOWN_REPORTS:
            return
        busy = {run_id for run_id, _ in self._dirty}
        for run_id in list(self._known):
            if self._reports <= KNOWN_REPORTS:
                return
            if run_id not in busy:
                self._reports -= len(self._known.pop(run_id).reports) + 1

    # Writing

    async def _write(self) -> None:
        try:
            while self._lines or self._dirty:
                await asyncio.sleep(PAUSE_S)
                await self._write_batch()
        finally:
            self._task = None

    async def _write_batch(self) -> None:
        """Have a batch written, with patience: until that is done nothing else is taken out of memory."""
        command = self._batch()
        while True:
            try:
                await self._server.submit(command)
                return
            except (RequestError, StoreUnavailable) as error:
                if self._closing:
                    log.warning("%d log lines of steps were lost at the end: %s", len(command.lines), error)
                    return
            await asyncio.sleep(AGAIN_S)
            command = AddStepLogs(lines=command.lines, reports=command.reports)

    def _batch(self) -> AddStepLogs:
        room = BATCH_ROWS - min(len(self._lines), BATCH_ROWS // 2)
        reports = [self._dirty.pop(key).row(*key) for key in list(islice(self._dirty, room))]
        lines = [self._lines.popleft() for _ in range(min(len(self._lines), BATCH_ROWS - len(reports)))]
        self._waiting -= sum(_size(line) for line in lines)
        return AddStepLogs(lines=lines, reports=reports)

    async def close(self) -> None:
        """Write what waits, if the store takes it."""
        self._closing = True
        if self._task is not None:
            with contextlib.suppress(Exception):
                await self._task
        while self._lines or self._dirty:
            await self._write_batch()


def _is_beat(entry: LogEntry) -> bool:
    """Whether it says only that a call is under way: there is nothing to keep, but an answer to give."""
    return not entry.step and not entry.level and entry.progress is None


def _size(line: StepLogRow) -> int:
    return len(line.message.encode()) + len(line.fields or b"") + len(line.logger) + 32


# Routes


def step_log_routes(server: Server) -> list[Route]:
    """The routes of this module."""
    return [
        route_of(server, "/v1/step-logs", POST=take_logs),
        route_of(server, "/v1/runs/{run_id}/logs", GET=show_logs),
    ]


async def take_logs(server: Server, request: Request) -> Response:
    """Take in what steps tell: 200 with what was taken, before it is on disk."""
    body = await read_body(request.receive, MAX_BODY_BYTES, server.intake)
    return Response(await server.take_logs(body), media_type="application/json")


async def show_logs(server: Server, request: Request) -> Response:
    """The lines of a run, in order, and the reports of its steps.

    `step`, an id as written or its hash, narrows it; `after` (an `n`) continues a page of up to `limit` (1,000).
    """
    run_id = request.path_params["run_id"]
    if not is_ulid(run_id):
        raise RequestError(400, f"Invalid run ID: {run_id[:100]}")
    query = request.query_params
    limit = min(_number(query.get("limit"), "limit") or MAX_PAGE, MAX_PAGE)
    after = _number(query.get("after"), "after")
    reports = await _reports(server, run_id)
    step = query.get("step")
    if step is not None:
        step = next((report.step_id for report in reports if step in (report.step_id, report.name)), step)
    lines = await server.reader.lines_of_run(run_id, step_id=step, after=after, limit=limit + 1)
    if {line.step_id for line in lines} - {report.step_id for report in reports}:
        reports = await _reports(server, run_id)  # they were written between the two questions
    shown = {
        "lines": [shown_line(line) for line in lines[:limit]],
        "steps": [shown_report(report) for report in reports if step is None or report.step_id == step],
        "more": len(lines) > limit,
    }
    return wrapped(server, shown)


async def _reports(server: Server, run_id: str) -> list[StepReport]:
    """The reports of a run's steps, by their names. Raises `RequestError` 404 if there is no such run."""
    found = (await server.reader.step_reports([run_id])).get(run_id)
    if found is None:
        raise RequestError(404, f"Unable to load function run: {run_id}")
    return sorted(found.steps.values(), key=lambda report: report.name)


def _number(text: str | None, name: str) -> int:
    if text is None or not text.strip():
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise RequestError(400, f"{name} is {text[:40]!r}; it must be a number")
    return int(text)


def shown_line(line: StepLine) -> dict[str, object]:
    """A line as REST shows it."""
    return {
        "n": line.n,
        "at": format_time(line.at),
        "step": line.step_id or None,
        "attempt": line.attempt,
        "level": line.level,
        "logger": line.logger,
        "message": line.message,
        "fields": None if line.fields is None else msgspec.Raw(line.fields),
    }

"""Failures by kind: failed runs whose errors have one fingerprint."""

from __future__ import annotations

import asyncio
import time

import msgspec

from perdure.core.model import RunStatus
from perdure.errors import RequestError
from perdure.reading.fingerprints import Fingerprint, fingerprint
from perdure.reading.outputs import ErrorText, read_error
from perdure.reading.port import ListedRun, RunFilter, RunPlace, RunRecord
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.api.naming import function_ids
from perdure.server.context import Server

DAY = 86_400_000
MOST = 1_000
"""Failed runs that are looked at, the newest ones."""
PAGE = 100
MAX_SECONDS = 1.0
MAX_BYTES = 32 * 1024 * 1024
MAX_MESSAGE = 1_000
NOTHING_SAID = ErrorText("", "Error")


class FailuresQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Of which functions (slugs; all if none is named), of runs queued in which time (ms; the last day)."""

    function: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None


class FailureKind(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one kind. `pattern` is their message with `#` for what differs, `message` that of the newest of them;
    `frame` is where the error was raised. Runs are given newest first; `first` and `last` are when they ended.
    """

    id: str
    name: str
    pattern: str
    message: str
    frame: str
    first: int
    last: int
    functions: list[str]
    run_ids: list[str]


class Failures(msgspec.Struct, frozen=True):
    """Kinds of failures, the most frequent first. It looked at `runs` failed runs; not `whole` if there are older ones
    in the time that was asked for."""

    kinds: list[FailureKind]
    runs: int
    since: int
    whole: bool


class _Group:
    def __init__(self, mark: Fingerprint, message: str) -> None:
        self.mark, self.message = mark, message
        self.runs: list[RunRecord] = []


async def list_failures(server: Server, asked: Asked[FailuresQuery, Nothing]) -> Failures:
    """Failed runs, grouped by what went wrong."""
    query = asked.query
    until = 2**47 if query.until is None else query.until
    since = server.shard.now() - DAY if query.since is None else query.since
    if until <= since:
        raise RequestError(400, "since must be before until")
    functions = function_ids(server, query.function, ())
    if functions is None:
        return Failures([], 0, since, True)
    wanted = RunFilter(since=since, until=until, statuses=(RunStatus.FAILED,), function_ids=functions)
    groups: dict[str, _Group] = {}
    looked, size, more = 0, 0, True
    after: RunPlace | None = None
    deadline = time.monotonic() + MAX_SECONDS
    while more and looked < MOST and size < MAX_BYTES and time.monotonic() < deadline:
        page = await server.reader.list_runs(wanted, after=after, limit=PAGE, payloads=True)
        # Beside the loop: errors may be large.
        await asyncio.to_thread(_sort, groups, page)
        looked += len(page)
        size += sum(len(one.run.output or b"") + len(one.event or b"") for one in page)
        more = len(page) == PAGE
        after = wanted.place(page[-1].run) if page else after
    kinds = [_kind(server, group) for group in groups.values()]
    return Failures(sorted(kinds, key=lambda kind: -len(kind.run_ids)), looked, since, not more)


def _sort(groups: dict[str, _Group], page: list[ListedRun]) -> None:
    for listed in page:
        error = NOTHING_SAID if listed.run.output is None else read_error(listed.run.output)
        mark = fingerprint(error)
        group = groups.get(mark.id)
        if group is None:
            group = groups[mark.id] = _Group(mark, (error.message or error.stack or "")[:MAX_MESSAGE])
        group.runs.append(listed.run)


def _kind(server: Server, group: _Group) -> FailureKind:
    known = server.shard.state.functions.by_id
    ids = dict.fromkeys(run.function_id for run in group.runs)
    ended = [run.ended_at or run.created_at for run in group.runs]
    return FailureKind(
        id=group.mark.id,
        name=group.mark.name,
        pattern=group.mark.pattern,
        message=group.message,
        frame=group.mark.frame,
        first=min(ended),
        last=max(ended),
        functions=[known[one].slug if one in known else one for one in ids],
        run_ids=[run.id for run in group.runs],
    )


ENDPOINTS = [Endpoint("GET", "/api/failures", list_failures, Failures, query=FailuresQuery)]

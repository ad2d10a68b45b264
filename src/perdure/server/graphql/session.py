"""One request: what it has read so far, and how much it may still do.

A request runs in a thread of its own beside the event loop, since writing out a large trace takes longer
than the loop may be held up. Its questions to the store are put on the loop, one at a time, and what was
read is kept until the request is done, so that a list of runs of one function reads that function once.
Three things are counted: fields, reads and time. A query that is small on paper and large in its lists
ends when one of them is used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from graphql import GraphQLError

from perdure.core.functions import Function
from perdure.protocol.ids import is_ulid
from perdure.reading.port import EventRecord, RunRecord, WholeRun
from perdure.reading.timeline import Timeline, read_timeline
from perdure.server.context import Server
from perdure.shard.rows import AppRow, FunctionRow

MAX_FIELDS = 400_000
"""Fields of one answer: ten thousand steps with all that is known of each."""
MAX_READS = 500
"""Questions of one request to the store."""
MAX_SECONDS = 10.0
"""How long a request may take."""
READ_SECONDS = 5.0
"""How long one read may take, waiting for a thread included."""
_LOOK_EVERY = 1_000
"""Fields between two looks at the clock."""

T = TypeVar("T")


class Session:
    """What resolvers get as their context. Made on the event loop, used in one thread."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        state = server.shard.state
        self.server = server
        self.now = server.shard.now()
        self.notices: list[str] = []
        """What the caller should know of the answer, beside the data."""
        self.workers = server.workers()
        self._apps: dict[str, AppRow] = dict(state.apps)
        self._functions: dict[str, Function] = dict(state.functions.by_id)
        self._function_rows: dict[str, FunctionRow] = dict(state.function_rows)
        self._loop = loop
        self._until = loop.time() + MAX_SECONDS
        self._fields = 0
        self._reads = 0
        self._runs: dict[str, RunRecord | None] = {}
        self._wholes: dict[str, WholeRun | None] = {}
        self._timelines: dict[str, Timeline] = {}
        self._events: dict[str, EventRecord | None] = {}
        self._runs_of: dict[str, list[RunRecord]] = {}

    # Bounds

    def count_field(self) -> None:
        """Note that a field of the answer is made. Raises `GraphQLError` when there were too many."""
        self._fields += 1
        if self._fields % _LOOK_EVERY:
            return
        if self._fields > MAX_FIELDS:
            raise GraphQLError(f"The answer has more than {MAX_FIELDS} fields. Ask for less at once.")
        self.check_time()

    def check_time(self) -> None:
        """Raises `GraphQLError` when the request has taken too long."""
        if self._loop.time() > self._until:
            raise GraphQLError(f"The answer took more than {MAX_SECONDS:g} s. Ask for less at once.")

    def time(self) -> float:
        """Seconds on a clock that only goes forward."""
        return self._loop.time()

    def ask(self, question: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of something that runs on the event loop, as the store does."""
        self._reads += 1
        if self._reads > MAX_READS:
            raise GraphQLError(f"The answer needs more than {MAX_READS} reads. Ask for less at once.")
        return self.wait_for(question, READ_SECONDS)

    def wait_for(self, question: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """As `ask`, with a time of its own."""
        future = asyncio.run_coroutine_threadsafe(question(), self._loop)
        try:
            return future.result(seconds)
        except FutureTimeout:
            future.cancel()
            raise GraphQLError(f"No answer within {seconds:g} s. Try again, or ask for less.") from None

    # Apps and functions, as the server knew them when the request came

    def apps(self) -> list[AppRow]:
        """Apps that are not archived, by id."""
        return sorted((app for app in self._apps.values() if app.archived_at is None), key=lambda app: app.id)

    def app(self, app_id: str) -> AppRow | None:
        """An app, archived or not."""
        return self._apps.get(app_id)

    def functions(self, app_id: str | None = None) -> list[Function]:
        """Functions that are not archived, of one app or all, by slug."""
        found = (f for f in self._functions.values() if not f.archived and app_id in (None, f.app_id))
        return sorted(found, key=lambda function: function.slug)

    def function(self, function_id: str) -> Function | None:
        """A function, archived or not."""
        return self._functions.get(function_id)

    def function_row(self, function_id: str) -> FunctionRow:
        """What is stored of a function that is known."""
        return self._function_rows[function_id]

    def function_ids(self, app_ids: list[str]) -> list[str]:
        """Ids of all functions of some apps, archived ones too: their runs are still there."""
        wanted = set(app_ids)
        return [function.id for function in self._functions.values() if function.app_id in wanted]

    def forget_apps(self) -> None:
        """Look again at apps and functions: they have been changed."""

        async def look() -> tuple[dict[str, AppRow], dict[str, Function], dict[str, FunctionRow]]:
            state = self.server.shard.state
            return dict(state.apps), dict(state.functions.by_id), dict(state.function_rows)

        self._apps, self._functions, self._function_rows = self.ask(look)

    # Runs and events, each read once

    def run(self, run_id: str) -> RunRecord | None:
        """A run."""
        if run_id not in self._runs:
            self._runs[run_id] = self.ask(lambda: self.server.reader.run(run_id))
        return self._runs[run_id]

    def forget_run(self, run_id: str) -> None:
        """Read a run again: it has been changed."""
        self._runs.pop(run_id, None)
        self._wholes.pop(run_id, None)
        self._timelines.pop(run_id, None)

    def whole(self, run_id: str) -> WholeRun:
        """A run with all that belongs to it. Raises `GraphQLError` if there is none."""
        if run_id not in self._wholes:
            whole = self.ask(lambda: self.server.reader.whole_run(run_id))
            self._wholes[run_id] = whole
            if whole is not None:
                self._runs[run_id] = whole.run
                if whole.more:
                    most = len(whole.history)
                    self.notices.append(
                        f"trace: only the first {most} entries of the run's history are shown"
                    )
        found = self._wholes[run_id]
        if found is None:
            raise unknown_run(run_id)
        return found

    def timeline(self, run_id: str) -> Timeline:
        """What a run did."""
        if run_id not in self._timelines:
            self._timelines[run_id] = read_timeline(self.whole(run_id))
        return self._timelines[run_id]

    def event(self, internal_id: str) -> EventRecord | None:
        """An event."""
        if internal_id not in self._events:
            self._events[internal_id] = self.ask(lambda: self.server.reader.event(internal_id))
        return self._events[internal_id]

    def runs_of_event(self, internal_id: str) -> list[RunRecord]:
        """Runs that an event started."""
        if internal_id not in self._runs_of:
            runs = self.ask(lambda: self.server.reader.runs_of_event(internal_id))
            self._runs_of[internal_id] = runs
            self._runs.update({run.id: run for run in runs})
        return self._runs_of[internal_id]


def unknown_run(run_id: str) -> GraphQLError:
    """The error for a run that is not there."""
    return GraphQLError(f"error retrieving run: there is no run {run_id[:40]}")


def checked_run_id(run_id: str) -> str:
    """A run's id. Raises `GraphQLError` if it cannot be one."""
    if not is_ulid(run_id):
        raise GraphQLError(f"error parsing runID: {run_id[:40]!r} is not a ULID")
    return run_id

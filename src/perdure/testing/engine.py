"""The engine of a test: a real shard over a real SQLite store, whose time stands still.

Between the actions of a test nothing happens: each action lets the shard, and the functions that it calls, go on
until all of it is idle (`settle`). Time passes only in `advance`, from one moment at which something is due to the
next, so a month of sleeps takes as long as the work in it.

The event loop is an ordinary one, with sockets and threads, because the code of a step may use any of it. What is
virtual is the clock of the shard and of the SDK. So the engine cannot see that a step waits for a timer of the
event loop; it waits with it, and gives up after `patience` seconds of real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from perdure.core.model import RunStatus
from perdure.core.settings import Settings
from perdure.reading.port import WholeRun
from perdure.sdk.app import App
from perdure.sdk.blocking import stop_watching
from perdure.sdk.errors import UsageError
from perdure.sdk.function import Function
from perdure.sdk.middleware import Chain
from perdure.sdk.step_logs import StepLogs
from perdure.shard.batch import Batch
from perdure.shard.commands import Command, MoveClock, RegisterApp
from perdure.shard.loop import Shard
from perdure.shard.travel import Travel
from perdure.stores.sqlite.settings import SqliteSettings
from perdure.stores.sqlite.store import SqliteStore
from perdure.testing.api import EngineApi
from perdure.testing.calls import Calls
from perdure.testing.clock import Chance, VirtualClock
from perdure.testing.failures import Failure, UnknownStep
from perdure.testing.logs import KeptLogs
from perdure.testing.mocks import Mocks
from perdure.testing.reads import Reads
from perdure.testing.registering import foreign_registration, registration
from perdure.testing.standstill import blocked, circle, stands_still

LONGEST_CHAIN = 100
"""Runs that are started by each other's events in one moment; more is taken for a circle."""
MOST_CALLS = 10_000
"""Calls of functions in one moment; the same."""
SPIN = 100
"""Turns of the event loop in which nothing happens before each takes a moment: then threads or sockets are waited for.
"""
PAUSE_S = 0.0005
SEED = 1


class Engine:
    """Runs apps. `troubles` are exceptions that the next action raises; `sent` are ids of events that runs sent."""

    def __init__(
        self, apps: Sequence[App], *, now_ms: int, patience: float, schedules: bool, seed: int = SEED
    ) -> None:
        self.apps = tuple(apps)
        self.clock = VirtualClock(now_ms)
        self.entropy = Chance(seed)
        self.mocks = Mocks()
        self.calls = Calls(self)
        self.troubles: list[BaseException] = []
        self.sent: dict[str, list[str]] = {}
        self.logs = KeptLogs(apps[0].api)
        self.patience = patience
        self.started = False
        self._schedules = schedules
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arriving: deque[Command] = deque()
        self._undo: list[Callable[[], None]] = []
        self._foreign: set[str] = set()
        self._registered: dict[App, int] = {}
        self._folder: Path | None = None
        self._wholes: dict[str, WholeRun] = {}
        self._wholes_at = -1
        self._chains: dict[str, int] = {}
        self._store: SqliteStore | None = None

    # Life

    def open(self) -> None:
        """Let the apps send to this engine."""
        for app in self.apps:
            if app in _IN_USE:
                raise UsageError(
                    f"{app.name} is in another test server already. Leave that one first, or use it: one app, one "
                    "server at a time."
                )
        for app in self.apps:
            _IN_USE.add(app)
            self._undo += [app.api.through(EngineApi(self)), partial(_give_back, app, app.step_logs)]
            app.step_logs = self.logs

    async def start(self) -> None:
        """Open a store, start the shard and register the apps. A second time does nothing."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError(
                "perdure.testing needs asyncio, and this is another event loop. With anyio: a fixture anyio_backend "
                'that returns "asyncio".'
            ) from None
        if self.started:
            if loop is not self._loop:
                raise UsageError(
                    "This test server was started on another event loop. Use a fixture of the same scope as the loop, "
                    "or SyncServer, which has a loop of its own."
                )
            await self._register()
            return
        self._loop, self.started = loop, True
        self._folder = Path(tempfile.mkdtemp(prefix="perdure-test-"))
        path = self._folder / "perdure.db"
        self._store = SqliteStore.open(path, SqliteSettings(durable=False))
        self.shard = Shard(self._store, self.calls, self.clock, self.entropy, Settings())
        self.shard.on_commit.append(self._committed)
        self.calls.inside.attach(self.shard)
        await self.shard.start()
        self.reads = Reads(path, self.shard.number)
        await self._register()
        foreign, self._foreign = self._foreign, set()
        for slug in foreign:
            self.serve_foreign(slug)
        for _ in range(len(self._arriving)):
            self._arrive()

    async def _register(self) -> None:
        """Take in functions that are new: a test may declare some after the start."""
        for app in self.apps:
            if self._registered.get(app) != len(app.functions):
                self._registered[app] = len(app.functions)
                self.calls.inside.serve(app)
                await self.ask(RegisterApp(registration=registration(app, schedules=self._schedules)))

    async def close(self) -> None:
        """End everything and throw the data away."""
        self.leave()
        if self.started:
            self.calls.inside.cancel_all()
            await self.shard.stop(grace_s=0)
            await self._throw_away()

    def leave(self) -> None:
        """Let the apps be as they were."""
        undo, self._undo = self._undo, []
        for one in undo:
            one()

    def close_without_loop(self) -> None:
        """The same from sync code, whatever has become of the event loop."""
        self.leave()
        loop = self._loop
        if not self.started or loop is None:
            return
        if loop.is_closed():
            asyncio.run(self._throw_away())
        elif not loop.is_running():
            loop.run_until_complete(self.close())
        else:
            thread = threading.Thread(target=lambda: asyncio.run(self._throw_away()), name="perdure-test")
            thread.start()
            thread.join()

    async def _throw_away(self) -> None:
        self.started = False
        if self._loop is not None:
            stop_watching(self._loop)
        self.reads.close()
        if self._store is not None:
            await self._store.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # Commands

    def hand_over(self, command: Command) -> None:
        """Have a command decided, from any thread, without waiting for it."""
        self._arriving.append(command)
        if not self.started or self._loop is None:
            return
        running = None
        with contextlib.suppress(RuntimeError):
            running = asyncio.get_running_loop()
        if running is self._loop:
            self._arrive()
        else:
            self._loop.call_soon_threadsafe(self._arrive)

    def _arrive(self) -> None:
        if self._arriving:
            self.shard.submit(self._arriving.popleft()).add_done_callback(self._note)

    def _note(self, outcome: asyncio.Future[object]) -> None:
        error = None if outcome.cancelled() else outcome.exception()
        if error is not None:
            self.troubles.append(error)

    def note_sent(self, cause: str, events: list[str], slug: str) -> None:
        """A run of a function, which was started by the event `cause`, has sent events."""
        length = self._chains.get(cause, 0) + 1
        self._chains.update(dict.fromkeys(events, length))
        if length == LONGEST_CHAIN:
            self.troubles.append(circle(slug, self.calls.this_moment))

    async def ask(self, command: Command) -> object:
        """Have a command decided, and wait for its answer."""
        return await self.shard.submit(command)

    def serve_foreign(self, slug: str) -> None:
        """Let a function be known that no app here has: something stands in for it."""
        if any(slug in app.functions for app in self.apps):
            return
        if not self.started:
            self._foreign.add(slug)
            return
        self.hand_over(RegisterApp(registration=foreign_registration(slug)))

    def _committed(self, batch: Batch) -> None:
        """Stop the code of runs that have been cancelled."""
        for run in batch.runs.values():
            if run.status is RunStatus.CANCELLED:
                for call in list(self.mocks.running.pop(run.id, ())):
                    call.abandon()

    # Looking

    def whole(self, run_id: str) -> WholeRun:
        """A run and all that belongs to it, read anew after each commit."""
        commits = self.shard.counts.commits
        if self._wholes_at != commits:
            self._wholes_at, self._wholes = commits, {}
        if run_id not in self._wholes:
            found = self.reads.whole(run_id)
            if found is None:
                raise UnknownStep(f"There is no run {run_id}.")
            self._wholes[run_id] = found
        return self._wholes[run_id]

    def runs(self) -> list[str]:
        """The ids of all runs: in the order of their events, and for one event as the functions are written."""
        slugs = [slug for app in self.apps for slug in app.functions]
        places = {slug: place for place, slug in enumerate(slugs)}
        moments: dict[tuple[int, str], int] = {}
        found = self.reads.runs()
        for run in found:
            moments.setdefault((run.created_at, run.event_id), len(moments))
        found.sort(
            key=lambda run: (
                moments[run.created_at, run.event_id],
                places.get(self.slug_of(run.function_id), len(places)),
            )
        )
        return [run.id for run in found]

    def slug_of(self, function_id: str) -> str:
        """The slug of a function by its id on the server."""
        return self.shard.state.function_rows[function_id].slug

    def function(self, slug: str) -> Function[Any, Any] | None:
        """A function of the apps; None for one that something stands in for."""
        return next((app.functions[slug] for app in self.apps if slug in app.functions), None)

    @property
    def chain(self) -> Chain | None:
        """The middleware of a function, for looking at what no certain function is concerned with."""
        chains = (one.chain for app in self.apps for one in app.functions.values())
        return next((chain for chain in chains if chain is not None), None)

    # Time

    async def settle(self) -> None:
        """Let everything happen that needs no time. Raises what went wrong meanwhile, and `NotSettled`."""
        progress, idle_turns = -1, 0
        while not (self.shard.idle and not self._arriving) or self.troubles:
            if self.troubles:
                raise self.troubles.pop(0)
            if self.shard.ended.done():
                raise Failure(f"The engine has ended: {self.shard.ended.exception() or 'it was stopped'}")
            if self.calls.this_moment.total() > MOST_CALLS:
                raise circle(self.calls.this_moment.most_common(1)[0][0], self.calls.this_moment)
            now = self.shard.counts.commits + self.calls.this_moment.total()
            if now != progress:
                progress, idle_turns = now, 0
            idle_turns += 1
            if (idle_turns - SPIN) * PAUSE_S > self.patience:
                raise stands_still(self.calls.under_way, self.patience)
            before = time.monotonic()
            if idle_turns > SPIN:
                # No timer of the loop: tests may have stopped the clock that these go by.
                time.sleep(PAUSE_S)
            await asyncio.sleep(0)
            if time.monotonic() - before > self.patience:
                raise blocked(time.monotonic() - before)

    async def next_due(self) -> int | None:
        """When (ms) something happens next; None if nothing does."""
        travel = await self.ask(MoveClock())
        assert isinstance(travel, Travel)
        return None if travel.next is None else travel.next.due

    async def move_to(self, ms: int) -> None:
        """Let it be another time, not before now, and let everything happen that is due then."""
        self.clock.ms = max(ms, self.clock.ms)
        self.calls.this_moment.clear()
        self._chains.clear()
        await self.ask(MoveClock())  # wakes the shard, which knows of no time but this
        await self.settle()

    async def advance(self, by_ms: int) -> None:
        """Let time pass, from one moment at which something is due to the next."""
        await self.settle()
        until = self.clock.ms + by_ms
        while (due := await self.next_due()) is not None and due <= until:
            await self.move_to(due)
        await self.move_to(until)


_IN_USE: set[App] = set()


def _give_back(app: App, step_logs: StepLogs | None) -> None:
    app.step_logs = step_logs
    _IN_USE.discard(app)

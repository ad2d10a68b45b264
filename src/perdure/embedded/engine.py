"""One engine in this process: all parts of a server but the listener, around the in-process transport.

It runs in a thread and an event loop of its own, so that a handler which blocks the app's loop holds up neither
timers nor what other threads send. On the app's own loop it is a little quicker, for the price of that.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future as ThreadFuture
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec
import uvloop

from perdure.bootstrap import SWITCH_INTERVAL_S, RunningServer, running
from perdure.config import ServerConfig
from perdure.embedded.crossing import Threaded
from perdure.embedded.doorway import Doorway
from perdure.embedded.transport import InProcessTransport, registration_body
from perdure.errors import ConfigError
from perdure.protocol.registration import RegistrationError
from perdure.sdk.app import App
from perdure.server.registering import take_in
from perdure.shard.ports import Transport

log = logging.getLogger("perdure")

T = TypeVar("T")

YOUNG_OBJECTS = 10_000
"""So many new objects are made between two collections of the young ones, in the whole process. With the interpreter's
700 the steps of some dozen runs set one off again and again: about 6 % of all CPU."""


class Options(msgspec.Struct, frozen=True):
    """How an embedded engine is run.

    `default_retries` is for functions that name none; `retry_interval` (seconds) replaces the backoff. `grace`
    (seconds) is what functions under way get at the end. `own_thread` False puts the engine on the app's loop.
    """

    default_retries: int = 3
    retry_interval: int | None = None
    grace: float = 10.0
    own_thread: bool = True


class Errand:
    """Something to be done on the engine's loop, for a coroutine on another one."""

    __slots__ = ("_back", "_task", "_work", "outcome")

    def __init__(self, work: Coroutine[Any, Any, Any], outcome: asyncio.Future[Any], back: Threaded) -> None:
        self._work = work
        self.outcome = outcome
        self._back = back
        self._task: asyncio.Task[Any] | None = None

    def begin(self) -> None:
        """On the engine's loop: start."""
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        """On the engine's loop: nobody waits for it any more."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, _: asyncio.Task[Any]) -> None:
        with suppress(RuntimeError):  # the other loop is closed
            self._back.put(Errand._arrive, self)

    def _arrive(self) -> None:
        """On the loop that waits: tell it."""
        task = self._task
        assert task is not None
        if self.outcome.done():
            return
        if task.cancelled():
            self.outcome.set_exception(ConnectionError("the embedded engine has ended"))
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


class Engine:
    """The engine of one database. `start`, then `join` for each app; `stop` ends it and loses nothing."""

    def __init__(self, database: Path, options: Options) -> None:
        self.database = database
        self._options = options
        self._config = ServerConfig(
            data_dir=database.parent,
            discovery=False,
            poll=False,
            default_retries=options.default_retries,
            retry_interval=options.retry_interval,
        )
        self._ready: ThreadFuture[None] = ThreadFuture()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._into: Threaded | None = None
        self._back: WeakKeyDictionary[asyncio.AbstractEventLoop, Threaded] = WeakKeyDictionary()
        self._stopping: asyncio.Event | None = None
        self._parts: RunningServer | None = None
        self._transport: InProcessTransport | None = None

    @property
    def parts(self) -> RunningServer:
        """The parts of the server. Raises ConnectionError while it does not run."""
        if self._parts is None:
            raise ConnectionError("the embedded engine does not run")
        return self._parts

    async def start(self) -> None:
        """Take the database and begin.

        Raises `AlreadyRunning` if another process has it, `StoreError` or `ConfigError` if it cannot be used.
        """
        if gc.get_threshold()[0] < YOUNG_OBJECTS:
            gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
        if self._options.own_thread:
            self._thread = threading.Thread(target=self._run_thread, name="perdure-engine", daemon=True)
            self._thread.start()
        else:
            self._task = asyncio.get_running_loop().create_task(self._run())
        await asyncio.wrap_future(self._ready)

    async def join(self, app: App) -> None:
        """Run the functions of an app on this loop. Raises `ConfigError` if they are declared wrongly."""
        await self.run(self._join(app, asyncio.get_running_loop()))

    async def _join(self, app: App, loop: asyncio.AbstractEventLoop) -> None:
        assert self._transport is not None
        self._transport.serve(app, loop)
        try:
            await take_in(self.parts.server, registration_body(app))
        except RegistrationError as error:
            raise ConfigError(f"The functions of {app.name} cannot be run. {error.reason}") from None

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the engine's loop, from any other. Raises ConnectionError if the engine has ended."""
        here = asyncio.get_running_loop()
        if self._loop is here:
            return await work
        into = self._into
        if into is None:
            work.close()
            raise ConnectionError("the embedded engine has ended")
        back = self._back.get(here)
        if back is None:
            back = self._back[here] = Threaded(here)
        errand = Errand(work, here.create_future(), back)
        into.put(Errand.begin, errand)
        try:
            result: T = await errand.outcome
        except asyncio.CancelledError:
            into.put(Errand.cancel, errand)
            raise
        return result

    async def stop(self) -> None:
        """Start no more calls, wait for those under way, end."""
        if self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._task is not None:
            await asyncio.wait({self._task})
        elif self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _run_thread(self) -> None:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())

    def _carry(self, elsewhere: Transport) -> Transport:
        self._transport = InProcessTransport(elsewhere, takes_logs=True)
        return self._transport

    async def _run(self) -> None:
        settings = msgspec.structs.replace(self._config.engine_settings(), inline_state_bytes=sys.maxsize)
        try:
            async with running(
                self._config, database=self.database.name, carry=self._carry, settings=settings, gathers=True
            ) as parts:
                assert self._transport is not None
                self._transport.attach(parts.server.shard)
                async with Doorway(self.database, parts.app):
                    self._begin(parts)
                    await self._until_stopped(parts)
                    await parts.server.shard.stop(self._options.grace)
                    self._transport.cancel_all()
        except BaseException as error:
            if self._ready.done():
                log.critical("the embedded engine has failed", exc_info=error)
            else:
                self._ready.set_exception(error)
        finally:
            self._parts = self._loop = self._into = None

    def _begin(self, parts: RunningServer) -> None:
        self._parts = parts
        self._stopping = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._into = Threaded(self._loop)
        self._ready.set_result(None)

    async def _until_stopped(self, parts: RunningServer) -> None:
        """Wait until somebody ends the engine, or its shard ends by itself, which it has told the log."""
        assert self._stopping is not None
        asked = asyncio.ensure_future(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {asked, parts.server.shard.ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

"""The test server for plain tests: the same engine on an event loop of its own, which runs while an action does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar, overload

from perdure.sdk.app import App
from perdure.sdk.durations import Duration, Moment
from perdure.sdk.function import Function
from perdure.testing.looking import PATIENCE_S, Looking
from perdure.testing.runs import Run
from perdure.testing.server import Server

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")


class SyncServer(Looking):
    """`Server` without `await`; see there what each action does.

        with perdure.testing.SyncServer(app) as server:
            (run,) = server.send(Order(id=1))
            server.advance("1h")
            assert run.output == "receipt-1"

    Functions run in the thread of the test.
    """

    def __init__(
        self, *apps: App, now: Moment | None = None, patience: float = PATIENCE_S, schedules: bool = True
    ) -> None:
        self._server = Server(*apps, now=now, patience=patience, schedules=schedules)
        self._engine = self._server._engine
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> SyncServer:
        self._loop = asyncio.new_event_loop()
        try:
            self._do(self._server.__aenter__())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._do(self._server.__aexit__(kind, error, trace))
        finally:
            if self._loop is not None:
                self._loop.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a piece of work to its end; in another thread if this one has an event loop that runs."""
        loop = self._loop
        if loop is None:
            work.close()
            raise RuntimeError("Use the server in its `with` block.")
        if not _loop_runs_here():
            return loop.run_until_complete(work)
        outcome: list[asyncio.Task[T]] = []
        thread = threading.Thread(target=_run, args=(loop, work, outcome), name="perdure-test")
        thread.start()
        thread.join()
        return outcome[0].result()

    def send(self, *events: object) -> list[Run[Any]]:
        return self._do(self._server.send(*events))

    @overload
    def start(self, function: Function[In, Out], data: In, /) -> Run[Out]: ...
    @overload
    def start(self, function: Function[Any, Out], /) -> Run[Out]: ...
    def start(self, function: Function[Any, Any], *data: Any) -> Run[Any]:
        return self._do(self._server.start(function, *data))

    def settle(self) -> None:
        self._do(self._server.settle())

    def advance(self, by: Duration) -> None:
        self._do(self._server.advance(by))

    def advance_to(self, moment: Moment) -> None:
        self._do(self._server.advance_to(moment))

    def finish(self, run: Run[Out]) -> Run[Out]:
        return self._do(self._server.finish(run))

    def signal(self, name: str, data: object = None) -> Run[Any]:
        return self._do(self._server.signal(name, data))

    def cancel(self, run: Run[Any]) -> None:
        self._do(self._server.cancel(run))

    def rerun(self, run: Run[Out], from_step: str | None = None) -> Run[Out]:
        return self._do(self._server.rerun(run, from_step))


def _loop_runs_here() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], outcome: list[asyncio.Task[T]]
) -> None:
    task = loop.create_task(work)
    outcome.append(task)
    loop.run_until_complete(asyncio.wait({task}))

"""The thread that commits what is too large to commit in the event loop, one job after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from perdure.stores.sqlite.stepping_aside import held_lock, step_aside

T = TypeVar("T")


class _Job(NamedTuple):
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    running: threading.Lock
    """Held until the job is done."""


class CommitThread:
    """Runs jobs in order, in one thread. All methods but `idle` are for the event loop that waits for the
    jobs.

    A hand-made queue and one wake-up of the loop a job, because an executor costs some 30 µs more for each.
    """

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting = 0
        self._thread = threading.Thread(target=self._run, name="perdure-commit", daemon=True)
        self._thread.start()

    @property
    def idle(self) -> bool:
        """Whether no job waits or runs: then the event loop may use the writer's connection itself."""
        return self._waiting == 0

    def submit(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run `work` after all that were submitted before; the future has its result or its exception."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting += 1
        job = _Job(work, loop, future, held_lock())
        self._jobs.put(job)
        step_aside(future, job.running)
        return future

    def stop(self) -> None:
        """Finish the jobs that were submitted, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            result, error = None, None
            try:
                result = job.work()
            except BaseException as raised:
                error = raised
            try:
                job.loop.call_soon_threadsafe(self._finish, job.future, result, error)
            except RuntimeError:
                # The loop has been closed meanwhile: nobody waits any more.
                self._waiting -= 1
            job.running.release()

    def _finish(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._waiting -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

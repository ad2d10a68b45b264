"""An event loop in a thread of its own, for sync code: one for each process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future as ThreadFuture
from typing import Any, TypeVar

from perdure.sdk.running import HOME

T = TypeVar("T")


class Portal:
    """Runs coroutines for sync code."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        started = threading.Event()

        def run() -> None:
            asyncio.set_event_loop(self.loop)
            self.loop.call_soon(started.set)
            self.loop.run_forever()

        threading.Thread(target=run, name="perdure-loop", daemon=True).start()
        started.wait()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def serve(self, work: Coroutine[Any, Any, T]) -> T:
        """The same, and meanwhile run in this thread what the coroutine hands back to it (`running.HOME`)."""
        inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        outcome: ThreadFuture[T] = ThreadFuture()

        async def begin() -> T:
            HOME.set(inbox.put)
            return await work

        def start() -> None:
            task = self.loop.create_task(begin(), context=contextvars.copy_context())
            task.add_done_callback(done)

        def done(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                outcome.cancel()
            elif (error := task.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())
            inbox.put(None)

        self.loop.call_soon_threadsafe(start)
        while (task := inbox.get()) is not None:
            task()
        return outcome.result()


_PORTALS: dict[int, Portal] = {}
_LOCK = threading.Lock()


def portal() -> Portal:
    """The portal of this process, which a fork does not inherit."""
    with _LOCK:
        found = _PORTALS.get(os.getpid())
        if found is None:
            _PORTALS.clear()
            found = _PORTALS[os.getpid()] = Portal()
        return found

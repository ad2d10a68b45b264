"""Running the code of functions and steps: on the event loop if it is async, else in threads.

A sync function has a thread of its own for the length of a call (or the thread of the request, where the web
framework gives it one), and its steps run in that thread: so what a library keeps for each thread, such as a
database connection, is the same in all of the function. A sync step of an async function runs in a pool, so
that it does not hold up the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future as ThreadFuture
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from perdure.sdk import codec
from perdure.sdk.call import Call, Step
from perdure.sdk.errors import Suspended, UsageError
from perdure.sdk.strands import IN_STEP

STEP_THREADS = 64
"""How many sync steps of async functions can run at once in one process."""

Submit = Callable[[Callable[[], None]], None]
"""Takes work, and runs it in a certain thread."""

HOME: contextvars.ContextVar[Submit | None] = contextvars.ContextVar("perdure_home_thread", default=None)
"""The thread of the request, if it waits for the answer and can run a sync function meanwhile."""

_POOLS: dict[int, ThreadPoolExecutor] = {}
_LOCK = threading.Lock()


def pool() -> ThreadPoolExecutor:
    """The threads for sync steps of async functions, started when they are first needed."""
    with _LOCK:
        found = _POOLS.get(os.getpid())  # a fork has none of its parent's threads
        if found is None:
            _POOLS.clear()
            found = _POOLS[os.getpid()] = ThreadPoolExecutor(STEP_THREADS, "perdure-step")
        return found


def check_code(step_id: str, code: object) -> None:
    """Raises UsageError if what should be run cannot be called."""
    if callable(code):
        return
    if inspect.iscoroutine(code):
        code.close()
        raise UsageError(
            f'The step "{step_id}" was given a coroutine, which is running code already. Give it the function, and its '
            f'arguments after it: step.run("{step_id}", function, argument).'
        )
    raise UsageError(f'The step "{step_id}" was given a {type(code).__qualname__}, not a function to run.')


async def run_step(call: Call, step: Step, code: Callable[..., Any], args: Any, kwargs: Any) -> bytes:
    """Run a step of an async function; its result as JSON."""
    error: BaseException | None = None
    value: object = None
    if step.input is not None:
        args = codec.plain(step.input)
    token = IN_STEP.set(step.key)
    try:
        if call.hooks is None:
            value = await _in_its_place(call, code, args, kwargs)
        else:
            inner = lambda *a, **k: _in_its_place(call, code, a, k)  # noqa: E731
            value = await call.hooks.around_step(step.key.step_id, step.key.index, inner, True)(
                *args, **kwargs
            )
    except asyncio.CancelledError as cancelled:
        if call.over:
            raise
        error = cancelled
    except (Exception, SystemExit) as raised:  # sys.exit() in a library must not end the worker
        error = raised
    finally:
        IN_STEP.reset(token)
    return await call.finish(step, value, error)


async def settle(value: Any) -> Any:
    """What a step's code returned, awaited if it has to be."""
    return await value if inspect.isawaitable(value) else value


async def _in_its_place(call: Call, code: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Run a step's code on the loop if it is async, else in a thread."""
    if inspect.iscoroutinefunction(code):
        return await code(*args, **kwargs)
    work = partial(contextvars.copy_context().run, code, *args, **kwargs)
    return await settle(await call.loop.run_in_executor(pool(), work))


class Thread:
    """A thread of a sync function, and its way to the call's loop. It is a strand of the call."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def ask(self, work: Coroutine[Any, Any, Any], context: contextvars.Context | None = None) -> Any:
        """Do something on the call's loop and wait for what comes of it. Raises Suspended when the call is over."""
        outcome: ThreadFuture[Any] = ThreadFuture()
        call = self.call

        def begin() -> None:
            if call.over:
                work.close()
                outcome.set_exception(Suspended())
                return
            call.spawn(work, context).add_done_callback(done)

        def done(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                outcome.set_exception(Suspended())
            elif (error := task.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        try:
            call.loop.call_soon_threadsafe(begin, context=contextvars.Context())
        except RuntimeError:  # the loop is closed
            work.close()
            raise Suspended from None
        return outcome.result()

    def run_step(self, step: Step, code: Callable[..., Any], args: Any, kwargs: Any) -> bytes:
        """Run a step in this thread (on the loop if it is async); its result as JSON."""
        error: BaseException | None = None
        value: object = None
        if step.input is not None:
            args = codec.plain(step.input)
        if self.call.hooks is not None:
            code = self.call.hooks.around_step(step.key.step_id, step.key.index, self._settled(code), False)
        token = IN_STEP.set(step.key)
        try:
            value = code(*args, **kwargs)
            if inspect.isawaitable(value):
                value = self._awaited(value)
            # Here, where the author's line is to be seen; what is encoded once is only copied afterwards.
            value = msgspec.Raw(codec.encode(value, self.call.what_returned(step)))
        except (Exception, SystemExit) as raised:
            error = raised
        finally:
            IN_STEP.reset(token)
        result: bytes = self.ask(self.call.finish(step, value, error))
        return result

    def _settled(self, code: Callable[..., Any]) -> Callable[..., Any]:
        """A step's code as a plain function, also if it is async."""

        def run(*args: Any, **kwargs: Any) -> Any:
            value = code(*args, **kwargs)
            return self._awaited(value) if inspect.isawaitable(value) else value

        return run

    def _awaited(self, value: Any) -> Any:
        """What comes of a step's async code, which has the context variables of this thread."""
        return self.ask(settle(value), contextvars.copy_context())

    def side_by_side(self, works: list[Callable[[], Any]]) -> list[Any]:
        """Run works in threads of their own, as strands born in this one. Raises what the first failed one raised."""
        threads = [Thread(self.call) for _ in works]
        self.ask(_begin(self.call, list(threads), self))
        outcomes = [
            start_thread(partial(_branch, thread, work)) for thread, work in zip(threads, works, strict=True)
        ]
        results: list[Any] = []
        errors: list[BaseException] = []
        for outcome in outcomes:
            error = outcome.exception()
            if error is None:
                results.append(outcome.result())
            else:
                errors.append(error)
        for error in errors:
            if not isinstance(error, Suspended):
                raise error
        if errors:
            raise errors[0]
        return results


BRANCH: contextvars.ContextVar[Thread | None] = contextvars.ContextVar("perdure_thread", default=None)
"""The strand whose thread this is."""


def start_function(call: Call, code: Callable[[], Any], thread: Thread) -> asyncio.Future[Any]:
    """Run a sync function in a thread: that of the request if it waits for us, else a new one."""
    call.strands.begin(thread, None)
    home = HOME.get()
    work = partial(_branch, thread, code)
    if home is None:
        return asyncio.wrap_future(start_thread(work))
    HOME.set(None)
    outcome: ThreadFuture[Any] = ThreadFuture()
    home(partial(contextvars.copy_context().run, _fulfil, outcome, work))
    return asyncio.wrap_future(outcome)


def start_thread(work: Callable[[], Any]) -> ThreadFuture[Any]:
    """Run something in a new thread, with the context variables of this one."""
    outcome: ThreadFuture[Any] = ThreadFuture()
    run = partial(contextvars.copy_context().run, _fulfil, outcome, work)
    threading.Thread(target=run, name="perdure-function", daemon=True).start()
    return outcome


def _fulfil(outcome: ThreadFuture[Any], work: Callable[[], Any]) -> None:
    outcome.set_running_or_notify_cancel()
    try:
        result = work()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


def _branch(thread: Thread, work: Callable[[], Any]) -> Any:
    BRANCH.set(thread)
    try:
        return work()
    finally:
        call = thread.call
        if not call.over:
            with suppress(RuntimeError):  # the loop is closed
                call.loop.call_soon_threadsafe(call.strands.end, thread, context=contextvars.Context())


async def _begin(call: Call, threads: list[Thread], parent: Thread) -> None:
    for thread in threads:
        call.strands.begin(thread, parent)

"""From the body of a call to the reply of its function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

from perdure.errors import PerdureError
from perdure.sdk import world
from perdure.sdk.api import TRIES
from perdure.sdk.app import App
from perdure.sdk.call import Call
from perdure.sdk.checkpointing import Carrier
from perdure.sdk.errors import SerializationError, UsageError
from perdure.sdk.events import read_event
from perdure.sdk.exchange import Request
from perdure.sdk.function import Function
from perdure.sdk.hooked_call import HookedCall, events_in
from perdure.sdk.job import Job, read_job
from perdure.sdk.reply import Reply, of_failure
from perdure.sdk.running import Thread, start_function
from perdure.sdk.steps import Step
from perdure.sdk.sync_steps import SyncStep

_NAME: msgspec.json.Decoder[_Name]


class _Name(msgspec.Struct, gc=False):
    name: str = ""


_NAME = msgspec.json.Decoder(_Name)


async def answer_call(app: App, function: Function[Any, Any], request: Request, step_id: str) -> Reply:
    """Run a function for a call. Raises UsageError if the call cannot be read."""
    job = read_job(request.body, step_id, request.headers)
    if job.from_api:
        problem = await fetch_state(app, job)
        if problem is not None:
            return problem
    watch = None if app.step_logs is None or not job.takes_logs else app.step_logs.watch
    return await run_job(app, function, job, begun=watch)


async def run_job(
    app: App,
    function: Function[Any, Any],
    job: Job,
    carrier: Carrier | None = None,
    now_ns: Callable[[], int] = world.now_ns,
    begun: Callable[[Call], None] | None = None,
) -> Reply:
    """Run a function for a call that is read.

    `carrier` brings its finished steps to the server (default: HTTP); `now_ns` tells the time. `begun` is told of
    the call before its code runs, for whoever may have to stop it.
    """
    chain = function.chain
    job.begun_ms = now_ns() // 1_000_000
    try:
        if chain is not None:
            events_in(chain, function, job)
        given = _event_of(function, job)
    except SerializationError as error:
        text = f"The event does not fit {function.slug}. {error}"
        return of_failure(UsageError(text), now_ns() // 1_000_000)
    except PerdureError as error:
        return of_failure(error, now_ns() // 1_000_000)
    poster = app.poster(function, carrier)
    call = (
        Call(function, job, now_ns, poster)
        if chain is None
        else HookedCall(function, job, now_ns, poster, chain)
    )
    if job.takes_logs:
        call.step_logs = app.step_logs
    if begun is not None:
        begun(call)
    return await call.run(partial(_start, app, given))


async def _start(app: App, given: Any, call: Call) -> Any:
    try:
        return await _handle(app, given, call)
    except SystemExit as left:  # it would go through the event loop and end the worker
        raise RuntimeError(f"The code of {call.slug} has called sys.exit({left.code!r}).") from left


async def _handle(app: App, given: Any, call: Call) -> Any:
    function = call.function
    handler, sender = function.handler, app.sender
    if call.hooks is not None:
        handler = call.hooks.around_function(handler, function.is_async)
        sender = sender.through(call.hooks)
    if function.is_async:
        return await handler(*_arguments(function, given, Step(call, sender)))
    step = SyncStep(call, sender)
    code = partial(handler, *_arguments(function, given, step))
    return await start_function(call, code, Thread(call))


def _arguments(function: Function[Any, Any], given: Any, step: Step | SyncStep) -> tuple[Any, ...]:
    match function.takes:
        case "both":
            return given, step
        case "event":
            return (given,)
        case "step":
            return (step,)
        case _:
            return ()


def _event_of(function: Function[Any, Any], job: Job) -> Any:
    """What the handler gets: the data of the event, or of each event of a batch."""
    if function.takes in {"nothing", "step"}:
        return None
    if function.batched:
        return [_data(function, raw) for raw in job.events]
    return _data(function, job.event)


def _data(function: Function[Any, Any], raw: bytes) -> Any:
    return read_event(raw, function.decode_for(_NAME.decode(raw).name)).data


def unknown_function(app: App, slug: str | None) -> str:
    """What to tell whoever calls a function that the app has not."""
    names = ", ".join(sorted(app.functions)) or "none"
    return (
        f"The app {app.name} has no function {slug!r}; it has: {names}. Was it renamed or removed? Sync the app, so "
        "that the server knows its functions."
    )


async def fetch_state(app: App, job: Job) -> Reply | None:
    """Get what was too large for the call: events and finished steps. A reply if that cannot be done."""
    paths = (f"/v0/runs/{job.run_id}/batch", f"/v0/runs/{job.run_id}/actions")
    try:
        batch, actions = await asyncio.gather(*(app.api.call("GET", path, tries=TRIES) for path in paths))
    except (OSError, TimeoutError, ValueError) as error:
        return of_failure(
            ConnectionError(f"The state of the run could not be fetched: {error}"), world.now_ms()
        )
    for answer, path in zip((batch, actions), paths, strict=True):
        if answer.status != 200:
            shown = answer.body[:200].decode("utf-8", "replace")
            text = f"The server answered {path} with HTTP {answer.status}: {shown}"
            return of_failure(ConnectionError(text), world.now_ms())
    job.events = [bytes(raw) for raw in msgspec.json.decode(batch.body, type=list[msgspec.Raw])]
    steps = msgspec.json.decode(actions.body, type=dict[str, msgspec.Raw])
    job.steps = {key: bytes(memo) for key, memo in steps.items()}
    if job.event in {b"", b"{}", b"null"} and job.events:
        job.event = job.events[0]
    return None


async def beating(
    work: Coroutine[Any, Any, Reply], every_s: float, wrap: Callable[[Reply], bytes]
) -> AsyncIterator[bytes]:
    """A streamed answer: spaces while the work goes on, then the reply."""
    task = asyncio.ensure_future(work)
    try:
        yield b" "
        while not (await asyncio.wait({task}, timeout=every_s))[0]:
            yield b" "
        try:
            yield wrap(task.result())
        except UsageError as error:
            yield wrap(of_failure(error, world.now_ms()))
    finally:
        task.cancel()

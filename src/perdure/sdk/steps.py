"""What a function works with: the steps of an async function, and what it can know of its run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, overload

import msgspec

from perdure.sdk import asks, codec
from perdure.sdk.asks import Response, Signal
from perdure.sdk.call import NO_OPTS, Call
from perdure.sdk.durations import Duration, Moment
from perdure.sdk.errors import RunCancelledError, UsageError
from perdure.sdk.events import Event, EventType, read_event
from perdure.sdk.function import Function
from perdure.sdk.running import check_code, run_step
from perdure.sdk.sending import Sender
from perdure.sdk.standing_in import stand_in
from perdure.sdk.strands import IN_STEP

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")

_IDS = codec.decoder(list[str])


class Run:
    """The run that a step belongs to. `event` is the one that started it, with its id and time."""

    def __init__(self, call: Call, sender: Sender) -> None:
        self._call = call
        self._sender = sender

    @property
    def run_id(self) -> str:
        return self._call.job.run_id

    @property
    def attempt(self) -> int:
        """How often this was tried before: 0 the first time. It counts for each step of its own."""
        return self._call.job.attempt

    @property
    def max_attempts(self) -> int:
        return self._call.job.max_attempts

    @property
    def log(self) -> logging.Logger:
        """A logger of the name of the function's module, silent while saved steps are passed; see `perdure.logger`."""
        return self._call.function.logger

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the running step is, from 0 to 1: for its own code, as often as it likes.

        It waits for nothing, and is shown on the run by Perdure's server. If the run has been cancelled meanwhile,
        an async step gets CancelledError, and in a sync one this raises RunCancelledError.
        """
        if not 0 <= fraction <= 1:
            raise UsageError(
                f"step.progress({fraction!r}): a part of the whole is from 0 to 1, such as done / total."
            )
        self._tell("progress", float(fraction), str(message))

    def heartbeat(self) -> None:
        """Say that the running step is alive; the same without a figure."""
        self._tell("heartbeat", None, "")

    def _tell(self, method: str, progress: float | None, message: str) -> None:
        call, key = self._call, IN_STEP.get()
        if key is None:
            raise UsageError(
                f"step.{method} of {call.slug} is called where no step is running. It is for the code that step.run "
                "runs; a thread that this code has started itself needs its context: contextvars.copy_context().run."
            )
        if call.over:
            raise_cancelled(call, key.step_id)
        if call.step_logs is not None:
            call.step_logs.sign(call, key, progress, message)

    @property
    def event(self) -> Event[Any]:
        """The event that started the run, with plain data."""
        return read_event(self._call.job.event, codec.plain)

    @property
    def events(self) -> list[Event[Any]]:
        """All events of the run: one, unless they are taken in batches."""
        return [read_event(raw, codec.plain) for raw in self._call.job.events]


def raise_cancelled(call: Call, step_id: str) -> NoReturn:
    """End a step of a call that is over: as asyncio does on the loop, by an error of our own in a thread."""
    try:
        if asyncio.get_running_loop() is call.loop:
            raise asyncio.CancelledError
    except RuntimeError:
        pass
    raise RunCancelledError(
        f'The run of the step "{step_id}" of {call.slug} was cancelled, or another call has taken it over. What the '
        "step does is of no use any more: it should end."
    )


class Step(Run):
    """The steps of an async function. Each is done once: its result is saved, and later calls get it from there.

    The first argument is the step's id, which names it within the function. An id in a loop is numbered.
    Steps in `asyncio.gather` or a TaskGroup go on side by side. A step whose attempts are used up raises
    StepError.
    """

    def __init__(self, call: Call, sender: Sender) -> None:
        super().__init__(call, sender)
        self.ai = Ai(self)

    @overload
    async def run(
        self, step_id: str, code: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def run(self, step_id: str, code: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def run(self, step_id: str, code: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `code(*args, **kwargs)`, save what it returns, and give that back. A plain `def` runs in a thread.

        What comes back is of the type that `code` is annotated to return; without an annotation it is plain JSON.
        """
        return await self._local(step_id, NO_OPTS, code, args, kwargs)

    async def _local(
        self, step_id: str, opts: bytes, code: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        check_code(step_id, code)
        call = self._call
        strand = self._strand(step_id)
        step, saved = call.begin(step_id, opts, strand)
        if saved is None:
            await call.reach(step, strand)
            saved = await run_step(call, step, stand_in(call, step, code), args, kwargs)
        return codec.returns(code)(saved)

    def _strand(self, step_id: str) -> asyncio.Task[Any]:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        if task is None or task.get_loop() is not self._call.loop:
            raise UsageError(
                f'The step "{step_id}" of {self._call.function.slug} is used outside of the event loop that runs the '
                "function. Use it in the function itself, or in tasks of it; not in a thread, and not after its end."
            )
        return task

    async def _ask(self, ask: asks.Ask) -> Any:
        strand = self._strand(ask.step_id)
        step, saved = self._call.begin_ask(ask, strand)
        if saved is None:
            await self._call.reach(step, strand)
            raise asyncio.CancelledError
        return ask.decode(saved)

    async def sleep(self, step_id: str, duration: Duration, /) -> None:
        """Sleep for a while, up to a year. The function uses nothing meanwhile."""
        await self._ask(asks.sleep(step_id, duration, self._call.now_ns() // 1_000_000))

    async def sleep_until(self, step_id: str, moment: Moment, /) -> None:
        """Sleep until a moment: a datetime with a time zone, or an RFC 3339 text."""
        await self._ask(asks.sleep_until(step_id, moment))

    @overload
    async def wait_for_event(
        self,
        step_id: str,
        event: EventType[T],
        /,
        *,
        timeout: Duration | Moment,
        when: str | None = None,
        match: str | None = None,
        lookback: Duration | None = None,
    ) -> Event[T] | None: ...
    @overload
    async def wait_for_event(
        self,
        step_id: str,
        event: str,
        /,
        *,
        timeout: Duration | Moment,
        when: str | None = None,
        match: str | None = None,
        lookback: Duration | None = None,
    ) -> Event[dict[str, Any]] | None: ...
    async def wait_for_event(
        self,
        step_id: str,
        event: EventType[Any] | str,
        /,
        *,
        timeout: Duration | Moment,
        when: str | None = None,
        match: str | None = None,
        lookback: Duration | None = None,
    ) -> Event[Any] | None:
        """Wait for an event, and give it back; None if none came within `timeout`.

        `match` names what must be equal in both events (`"data.order_id"`); `when` is a condition over `event`,
        the run's, and `async`, the one waited for. `lookback` takes an event that came up to that long before
        (at most a day); only Perdure's server knows it.
        """
        found: Event[Any] | None = await self._ask(
            asks.wait_for_event(step_id, event, timeout, when, match, lookback)
        )
        return found

    async def wait_for_signal(
        self,
        step_id: str,
        signal: str,
        /,
        *,
        timeout: Duration | Moment,
        on_conflict: Literal["fail", "replace"] = "fail",
    ) -> Signal | None:
        """Wait for a signal, which only one run can do at a time; None if none came within `timeout`."""
        found: Signal | None = await self._ask(asks.wait_for_signal(step_id, signal, timeout, on_conflict))
        return found

    async def send_signal(self, step_id: str, signal: str, data: object = None, /) -> str | None:
        """Wake the run that waits for a signal: its id, None if no run waits."""
        code = signal_code(self._sender, signal, data)
        woken: str | None = await self._local(step_id, NO_OPTS, code, (), {})
        return woken

    @overload
    async def invoke(
        self,
        step_id: str,
        function: Function[In, Out],
        data: In,
        /,
        *,
        timeout: Duration | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> Out: ...
    @overload
    async def invoke(
        self,
        step_id: str,
        function: str,
        data: object = None,
        /,
        *,
        timeout: Duration | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> Any: ...
    async def invoke(
        self,
        step_id: str,
        function: Function[Any, Any] | str,
        data: object = None,
        /,
        *,
        timeout: Duration | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run another function and wait for what it returns, for up to `timeout` (a year).

        A function of another app is named by its slug, `<app>-<function>`. Raises InvokeError if it fails.
        """
        return await self._ask(asks.invoke(step_id, function, data, timeout, user))

    async def send_event(self, step_id: str, events: object, /) -> list[str]:
        """Send one event or a list of them, once; the ids that the server gave them."""
        ids: list[str] = await self._local(step_id, NO_OPTS, send_code(self._sender, events), (), {})
        return ids

    async def fetch(
        self,
        step_id: str,
        url: str,
        /,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        json: object = None,
    ) -> Response:
        """Let the server make an HTTP request, so that the app does not wait for it. Any status is a result."""
        got: Response = await self._ask(asks.fetch(step_id, url, method, headers, body, json))
        return got


class Ai:
    """Steps that call models."""

    def __init__(self, step: Step) -> None:
        self._step = step

    async def infer(
        self,
        step_id: str,
        /,
        *,
        url: str,
        body: Mapping[str, Any],
        auth_key: str = "",
        format: Literal["openai-chat", "anthropic", "gemini", "bedrock"] = "openai-chat",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Let the server call a model's provider; the JSON that it answers. `format` says how it takes the key."""
        return await self._step._ask(asks.infer(step_id, url, format, auth_key, body, headers))

    @overload
    async def wrap(
        self, step_id: str, code: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    async def wrap(self, step_id: str, code: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    async def wrap(self, step_id: str, code: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """`step.run` of a model's client: the arguments are shown with the step, and it counts as one of a model."""
        return await self._step._local(step_id, wrap_opts(step_id, args), code, args, kwargs)


def wrap_opts(step_id: str, args: Sequence[Any]) -> bytes:
    """Options of `ai.wrap`: its arguments, as they are shown."""
    raw = codec.encode(list(args), f'The arguments of step.ai.wrap("{step_id}")')
    return b'{"type":"step.ai.wrap","input":' + raw + b"}"


def send_code(sender: Sender, events: object) -> Callable[[], Awaitable[list[str]]]:
    many = list(events) if isinstance(events, list | tuple) else [events]

    async def send() -> list[str]:
        return await sender.send(many)

    return send


def signal_code(sender: Sender, signal: str, data: object) -> Callable[[], Awaitable[str | None]]:
    raw = msgspec.Raw(codec.encode(data, f'The data of the signal "{signal}"'))

    async def wake() -> str | None:
        return await sender.signal(signal, raw)

    return wake

"""The steps of a sync function: the same steps, on the same engine, called from the function's thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar, overload

from perdure.sdk import asks, codec
from perdure.sdk.asks import Response, Signal
from perdure.sdk.call import NO_OPTS, Call
from perdure.sdk.durations import Duration, Moment
from perdure.sdk.errors import Suspended, UsageError
from perdure.sdk.events import Event, EventType
from perdure.sdk.function import Function
from perdure.sdk.running import BRANCH, Thread, check_code
from perdure.sdk.sending import Sender
from perdure.sdk.standing_in import stand_in
from perdure.sdk.steps import Run, send_code, signal_code, wrap_opts

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
In = TypeVar("In")
Out = TypeVar("Out")


class SyncStep(Run):
    """The steps of a sync function; see `Step`, which says what each does.

    Steps side by side go through `parallel`.
    """

    def __init__(self, call: Call, sender: Sender) -> None:
        super().__init__(call, sender)
        self.ai = SyncAi(self)

    def _thread(self, step_id: str) -> Thread:
        thread = BRANCH.get()
        if thread is None or thread.call is not self._call:
            raise UsageError(
                f'The step "{step_id}" of {self._call.function.slug} is used in a thread that the function has started.'
                " Let step.parallel start the threads: step.parallel(lambda: step.run(...), lambda: step.run(...))."
            )
        if self._call.over:
            raise Suspended
        return thread

    def _ask(self, ask: asks.Ask) -> Any:
        thread = self._thread(ask.step_id)
        step, saved = self._call.begin_ask(ask, thread)
        if saved is None:
            thread.ask(self._call.reach(step, thread))
            raise Suspended
        return ask.decode(saved)

    def _local(self, step_id: str, opts: bytes, code: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        check_code(step_id, code)
        thread = self._thread(step_id)
        step, saved = self._call.begin(step_id, opts, thread)
        if saved is None:
            if not self._call.run_at_once(step):
                thread.ask(self._call.reach(step, thread))
            saved = thread.run_step(step, stand_in(self._call, step, code), args, kwargs)
        return codec.returns(code)(saved)

    @overload
    def run(
        self, step_id: str, code: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def run(self, step_id: str, code: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def run(self, step_id: str, code: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Run `code(*args, **kwargs)` in this thread, save what it returns, and give that back."""
        return self._local(step_id, NO_OPTS, code, args, kwargs)

    def parallel(self, *branches: Callable[[], R]) -> list[R]:
        """Run several pieces of the function side by side, each in a thread; their results in order.

        If some raise, all are waited for, and the first exception is raised.
        """
        return self._thread("parallel").side_by_side(list(branches))

    def sleep(self, step_id: str, duration: Duration, /) -> None:
        self._ask(asks.sleep(step_id, duration, self._call.now_ns() // 1_000_000))

    def sleep_until(self, step_id: str, moment: Moment, /) -> None:
        self._ask(asks.sleep_until(step_id, moment))

    @overload
    def wait_for_event(
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
    def wait_for_event(
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
    def wait_for_event(
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
        found: Event[Any] | None = self._ask(
            asks.wait_for_event(step_id, event, timeout, when, match, lookback)
        )
        return found

    def wait_for_signal(
        self,
        step_id: str,
        signal: str,
        /,
        *,
        timeout: Duration | Moment,
        on_conflict: Literal["fail", "replace"] = "fail",
    ) -> Signal | None:
        found: Signal | None = self._ask(asks.wait_for_signal(step_id, signal, timeout, on_conflict))
        return found

    def send_signal(self, step_id: str, signal: str, data: object = None, /) -> str | None:
        woken: str | None = self._local(step_id, NO_OPTS, signal_code(self._sender, signal, data), (), {})
        return woken

    @overload
    def invoke(
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
    def invoke(
        self,
        step_id: str,
        function: str,
        data: object = None,
        /,
        *,
        timeout: Duration | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> Any: ...
    def invoke(
        self,
        step_id: str,
        function: Function[Any, Any] | str,
        data: object = None,
        /,
        *,
        timeout: Duration | None = None,
        user: Mapping[str, Any] | None = None,
    ) -> Any:
        return self._ask(asks.invoke(step_id, function, data, timeout, user))

    def send_event(self, step_id: str, events: object, /) -> list[str]:
        ids: list[str] = self._local(step_id, NO_OPTS, send_code(self._sender, events), (), {})
        return ids

    def fetch(
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
        got: Response = self._ask(asks.fetch(step_id, url, method, headers, body, json))
        return got


class SyncAi:
    """Steps that call models, for sync functions."""

    def __init__(self, step: SyncStep) -> None:
        self._step = step

    def infer(
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
        return self._step._ask(asks.infer(step_id, url, format, auth_key, body, headers))

    @overload
    def wrap(
        self, step_id: str, code: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    @overload
    def wrap(self, step_id: str, code: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def wrap(self, step_id: str, code: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._step._local(step_id, wrap_opts(step_id, args), code, args, kwargs)

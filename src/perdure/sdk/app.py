"""An app: its functions, the events it sends, and where it is served."""

from __future__ import annotations

import asyncio
import importlib
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, Unpack, overload

from perdure.sdk import world
from perdure.sdk.api import Api
from perdure.sdk.checkpointing import Carrier, CheckpointPoster, Pace
from perdure.sdk.connect.options import ConnectOptions
from perdure.sdk.declaring import BatchDecorator, Decorator, FailureHandler, default_id, takes
from perdure.sdk.durations import Duration, milliseconds
from perdure.sdk.embedded import Allow, Embedded
from perdure.sdk.errors import UsageError
from perdure.sdk.events import AnyOf, EventType, Trigger
from perdure.sdk.exchange import SDK
from perdure.sdk.function import MAX_RETRIES, FailureData, Function
from perdure.sdk.loggers import catch_records
from perdure.sdk.middleware import Middleware, Outbound, chain_of
from perdure.sdk.options import (
    Batch,
    Cancel,
    Checkpoint,
    Concurrencies,
    Debounce,
    RateLimit,
    Singleton,
    Throttle,
    Timeouts,
    check_options,
    concurrency_wire,
)
from perdure.sdk.portal import portal
from perdure.sdk.posting import HttpCarrier
from perdure.sdk.sending import Sender
from perdure.sdk.settings import read_settings
from perdure.sdk.step_logs import StepLogs
from perdure.sdk.strands import CURRENT, IN_STEP

log = logging.getLogger("perdure")

T = TypeVar("T")

FAILED_EVENT = "inngest/function.failed"
EACH_STEP = Checkpoint()
"""Each finished step is posted at once."""

FAILURE_RETRIES = 1
"""Retries of a failure handler, as in the official JavaScript SDK."""

On = Trigger[T] | AnyOf[T] | Sequence[Trigger[T]]


class App:
    """An app of a name, which the server knows it by.

    Settings come from the arguments, else from PERDURE_URL, PERDURE_EVENT_KEY, PERDURE_SIGNING_KEY,
    PERDURE_SIGNING_KEY_FALLBACK, PERDURE_ENV and PERDURE_DEV (or the same with INNGEST_), else the server is
    at http://localhost:8288 and needs no keys. `checkpoint` is how finished steps are reported, unless a
    function says otherwise; None leaves that to the answers of calls. `middleware` lies around all functions, the
    first outermost. What functions log is shown on their runs by servers that take it, unless `logs` is False.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        event_key: str | None = None,
        signing_key: str | None = None,
        signing_key_fallback: str | None = None,
        env: str | None = None,
        dev: bool | None = None,
        version: str | None = None,
        checkpoint: Checkpoint | None = EACH_STEP,
        middleware: Sequence[Middleware] = (),
        logs: bool = True,
    ) -> None:
        if not name:
            raise UsageError('An app needs a name, such as perdure.App("billing").')
        self.name = name
        self.version = version
        self.settings = read_settings(
            url=url,
            event_key=event_key,
            signing_key=signing_key,
            signing_key_fallback=signing_key_fallback,
            env=env,
            dev=dev,
        )
        self.step_logs: StepLogs | None = None
        self.functions: dict[str, Function[Any, Any]] = {}
        self.api = Api(self.settings, {"x-inngest-sdk": SDK, "user-agent": SDK})
        self.sender = Sender(self.settings, self.api, world.now_ms, world.entropy)
        if logs:
            self.step_logs = StepLogs(self.api)
            catch_records()
        self._checkpoint = checkpoint
        self._middleware = tuple(middleware)
        chain = chain_of(self._middleware)
        if chain is not None:
            self.sender = self.sender.through(Outbound(chain))
        self._warned: set[str] = set()
        self.carrier: Carrier = HttpCarrier(self.api, world.now_ms)
        self._paces: dict[str, Pace | None] = {}

    def __repr__(self) -> str:
        return f"<perdure app {self.name}: {len(self.functions)} functions>"

    @overload
    def function(
        self,
        on: On[T],
        *,
        batch: Batch,
        id: str | None = None,
        name: str | None = None,
        retries: int | None = None,
        on_failure: FailureHandler | None = None,
        concurrency: Concurrencies | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        timeouts: Timeouts | None = None,
        idempotency: str | None = None,
        checkpoint: Checkpoint | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> BatchDecorator[T]: ...
    @overload
    def function(
        self,
        on: On[T],
        *,
        id: str | None = None,
        name: str | None = None,
        retries: int | None = None,
        on_failure: FailureHandler | None = None,
        concurrency: Concurrencies | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        priority: str | None = None,
        cancel_on: Cancel | Sequence[Cancel] = (),
        timeouts: Timeouts | None = None,
        idempotency: str | None = None,
        singleton: Singleton | None = None,
        checkpoint: Checkpoint | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Decorator[T]: ...
    @overload
    def function(
        self,
        on: str | Sequence[str] | None = None,
        *,
        id: str | None = None,
        name: str | None = None,
        retries: int | None = None,
        on_failure: FailureHandler | None = None,
        concurrency: Concurrencies | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        priority: str | None = None,
        cancel_on: Cancel | Sequence[Cancel] = (),
        timeouts: Timeouts | None = None,
        idempotency: str | None = None,
        singleton: Singleton | None = None,
        checkpoint: Checkpoint | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Decorator[dict[str, Any]]: ...
    def function(
        self,
        on: Any = None,
        *,
        batch: Batch | None = None,
        id: str | None = None,
        name: str | None = None,
        retries: int | None = None,
        on_failure: FailureHandler | None = None,
        concurrency: Concurrencies | None = None,
        throttle: Throttle | None = None,
        rate_limit: RateLimit | None = None,
        debounce: Debounce | None = None,
        priority: str | None = None,
        cancel_on: Cancel | Sequence[Cancel] = (),
        timeouts: Timeouts | None = None,
        idempotency: str | None = None,
        singleton: Singleton | None = None,
        checkpoint: Checkpoint | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Any:
        """Declare a function: `on` says what starts it (nothing: only an invoke), the rest how it is run.

        The name of an event may stand for its type; its data are then a plain dict.

        `id` names it for good (default: the handler's name); `retries` is how often a failing step is tried again
        (default of the server: 3, at most 20). `on_failure` is a handler that is run when a run has failed. Keys,
        `priority` and `idempotency` are CEL expressions over the event. `middleware` lies within that of the app.
        """
        check_options(
            retries=retries,
            concurrency=concurrency,
            throttle=throttle,
            rate_limit=rate_limit,
            debounce=debounce,
            batch=batch,
            priority=priority,
            cancel_on=cancel_on,
            timeouts=timeouts,
            idempotency=idempotency,
            singleton=singleton,
            checkpoint=checkpoint,
        )
        if retries is not None and not 0 <= retries <= MAX_RETRIES:
            raise UsageError(f"retries={retries} is not between 0 and {MAX_RETRIES}.")
        cancels = [cancel_on] if isinstance(cancel_on, Cancel) else list(cancel_on)
        options = {
            "retries": retries,
            "concurrency": None if concurrency is None else concurrency_wire(concurrency),
            "throttle": throttle and throttle.wire(),
            "rateLimit": rate_limit and rate_limit.wire(),
            "debounce": debounce and debounce.wire(),
            "priority": None if priority is None else {"run": priority},
            "batchEvents": batch and batch.wire(),
            "cancel": [cancel.wire() for cancel in cancels] or None,
            "timeouts": timeouts and timeouts.wire(),
            "idempotency": idempotency,
            "singleton": singleton and singleton.wire(),
        }
        given = {key: value for key, value in options.items() if value is not None}
        triggers = _triggers(on)
        chain = chain_of(self._middleware, middleware)

        def make(handler: Callable[..., Any]) -> Function[Any, Any]:
            own_id = id or default_id(handler)
            function: Function[Any, Any] = Function(
                self.name,
                own_id,
                handler,
                triggers,
                given,
                checkpoint,
                takes=takes(handler, f"{self.name}-{own_id}"),
                name=name,
                batched=batch is not None,
                chain=chain,
            )
            self._add(function)
            if on_failure is not None:
                self._add(self._failure_handler(function, on_failure))
            return function

        return (Decorator if batch is None else BatchDecorator)(make)

    def _failure_handler(self, of: Function[Any, Any], handler: Callable[..., Any]) -> Function[Any, Any]:
        wire = {"event": FAILED_EVENT, "expression": f"event.data.function_id == '{of.slug}'"}
        trigger: Trigger[FailureData] = Trigger(FAILED_EVENT, FailureData, wire)
        options = {"retries": FAILURE_RETRIES}
        return Function(
            self.name,
            f"{of.id}-failure",
            handler,
            [trigger],
            options,
            None,
            takes=takes(handler, f"{of.slug}-failure"),
            name=f"{of.name} (failure)",
            is_failure_handler=True,
            chain=of.chain,
        )

    def _add(self, function: Function[Any, Any]) -> None:
        if function.slug in self.functions:
            raise UsageError(
                f'Two functions of {self.name} have the id "{function.id}". Runs are found by it: give one of them '
                "another, app.function(id=...)."
            )
        self.functions[function.slug] = function

    def poster(self, function: Function[Any, Any], carrier: Carrier | None = None) -> CheckpointPoster | None:
        """What posts the finished steps of a call, None if that is left to its answer.

        `carrier` brings them to the server (default: over HTTP).
        """
        if function.slug not in self._paces:
            option = function.checkpoint or self._checkpoint
            self._paces[function.slug] = None if option is None else Pace(option)
        pace = self._paces[function.slug]
        return None if pace is None else CheckpointPoster(pace, carrier or self.carrier)

    async def send(self, *events: object) -> list[str]:
        """Send events, in one request; the ids that the server gave them.

        An event is an object of a type that `event(...)` knows, or what calling an event's type gives, or a
        perdure.Event. Raises SendError if they cannot be sent; an event that has an `id` can be sent again.
        """
        self._check_in_step()
        return await self.sender.send(_flat(events))

    def send_sync(self, *events: object) -> list[str]:
        """The same from sync code. Waits for the server."""
        self._check_in_step()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            result: list[str] = portal().run(self.sender.send(_flat(events)))
            return result
        raise UsageError(
            "app.send_sync blocks the event loop that is running here: write `await app.send(...)`."
        )

    def _check_in_step(self) -> None:
        """Warn of sending in a function beside its steps, which happens again with every call."""
        call = CURRENT.get()
        if call is None or IN_STEP.get() is not None or call.slug in self._warned:
            return
        self._warned.add(call.slug)
        log.warning(
            "%s sends events with app.send outside of its steps. The code between steps is run again by every call, so "
            "they are sent again as well: use `step.send_event`.",
            call.slug,
        )

    def mount(self, web_app: Any, path: str = "/api/inngest", *, streaming: bool = False) -> None:
        """Serve the functions under a path of a FastAPI, Starlette or Litestar app, or of a Flask app.

        For other frameworks see `perdure.serve`. Servers look for apps at the default path.
        """
        # By name: what serves an app knows the app, not the other way round.
        importlib.import_module("perdure.sdk.serve").mount(self, web_app, path, streaming)

    def run_embedded(
        self,
        url: str | None = None,
        *,
        default_retries: int = 3,
        retry_interval: int | None = None,
        grace: float = 10.0,
        own_thread: bool = True,
    ) -> Embedded:
        """Run the engine in this process, over a database such as `sqlite:///jobs.db`, and the functions on this loop.

            async with app.run_embedded("sqlite:///jobs.db"): ...
            engine = await app.run_embedded("sqlite:///jobs.db"); ...; await engine.stop()

        Without a `url` PERDURE_URL says where, else it is `sqlite:///perdure.db`. With the http address of a server
        nothing is started here: the app works for that server. `default_retries` is for functions that name none,
        `retry_interval` (seconds) replaces the backoff, `grace` (seconds) is what functions get at the end. The engine
        has a thread and a loop of its own unless `own_thread` is False. Raises ConfigError.
        """
        embedded: Embedded = importlib.import_module("perdure.embedded").embed(
            self,
            url,
            default_retries=default_retries,
            retry_interval=retry_interval,
            grace=grace,
            own_thread=own_thread,
        )
        return embedded

    def mount_dashboard(self, web_app: Any, path: str = "/jobs", *, allow: Allow | None = None) -> None:
        """Serve the pages and the API of the embedded engine under a path of a FastAPI or Starlette app.

        Who may pass sees and changes everything. `allow` gets the request's ASGI scope and says who; without it only
        requests from this machine itself, not through a proxy, are let in.
        """
        web_app.mount(path, importlib.import_module("perdure.embedded").dashboard(self, allow))

    async def connect(
        self,
        *others: App,
        max_concurrency: int | None = None,
        instance_id: str | None = None,
        gateway_url: str | Callable[[str], str] | None = None,
        shutdown_signals: Sequence[signal.Signals] | None = None,
        drain_timeout: Duration = 25.0,
    ) -> None:
        """Take calls over a WebSocket to the server, instead of serving them; runs until it is stopped.

        Nothing has to be reachable from outside, and a cancelled run is noticed while a step runs. Apps of the same
        server may share the connection (`others`). The worker finds the server by itself, also when it is not up
        yet, and connects again when the connection is lost.

        `max_concurrency` is how many calls the server may give to this worker at once (default: the variable
        PERDURE_CONNECT_MAX_WORKER_CONCURRENCY, else no limit). `instance_id` names the worker (default: the
        machine's name). `gateway_url` is the gateway's address as seen from here, or a function that makes it of the
        one that the server names (default: PERDURE_CONNECT_GATEWAY_URL, else the one that the server names).

        It stops on `shutdown_signals` (default: SIGINT and SIGTERM, where the program has no handler of its own), or
        when its task is cancelled: no call is taken any more, those under way end after their step, and what still
        runs after `drain_timeout` is stopped. A second signal stops at once.

        Raises ConnectError if the server refuses the worker for a reason that does not go away by itself.
        """
        if max_concurrency is not None and max_concurrency < 1:
            raise UsageError(
                f"max_concurrency={max_concurrency}: give the calls at once, or None for no limit."
            )
        # By name: what serves an app knows the app, not the other way round.
        worker = importlib.import_module("perdure.sdk.connect.worker")
        options = worker.Options(
            max_concurrency=max_concurrency or self.settings.max_worker_concurrency,
            instance_id=instance_id,
            gateway_url=gateway_url or self.settings.gateway_url,
            shutdown_signals=shutdown_signals,
            drain_s=milliseconds(drain_timeout, "drain_timeout") / 1000,
        )
        await worker.Worker([self, *others], options).run()

    def connect_sync(self, *others: App, **options: Unpack[ConnectOptions]) -> None:
        """The same from a script: runs an event loop until the worker is stopped. Takes the options of `connect`."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with suppress(KeyboardInterrupt):
                asyncio.run(self.connect(*others, **options))
            return
        raise UsageError(
            "app.connect_sync blocks the event loop that is running here: write `await app.connect(...)`."
        )


def _flat(events: Sequence[object]) -> list[object]:
    """The events of an argument list, in which a list stands for those in it."""
    flat: list[object] = []
    for one in events:
        flat += one if isinstance(one, list | tuple) else [one]
    return flat


def _triggers(on: Any) -> list[Trigger[Any]]:
    if on is None:
        return []
    if isinstance(on, AnyOf):
        return list(on.triggers)
    given = [on] if isinstance(on, Trigger | str) else on
    if not isinstance(given, list | tuple) or not all(isinstance(one, Trigger | str) for one in given):
        raise UsageError(
            f"app.function is given {on!r} as what starts the function. Write an event's name or type, or a cron, in "
            'parentheses before the handler: @app.function("shop/order.created").'
        )
    return [EventType(one, dict[str, Any]) if isinstance(one, str) else one for one in given]

"""Middleware: what an app does to all that goes in and out of its functions, and around them.

They lie around a function like the skins of an onion; the first of the list is the outermost, and those of the
app are outside of those of the function:

    the wire  ──▶  first.transform_input   ──▶  second.transform_input   ──▶  the function's code
    the wire  ◀──  first.transform_output  ◀──  second.transform_output  ◀──  the function's code

and `first.wrap_step` is entered before `second.wrap_step` and left after it. Values are plain JSON (dicts, lists,
texts, numbers): on the way in they are not yet, on the way out not any more, what annotations say.

A function without middleware runs the same code as before there was any: its calls are `Call`s, those of others
`hooked_call.HookedCall`s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, ExitStack
from typing import Any, Literal, TypeAlias

import msgspec

from perdure.errors import PerdureError
from perdure.sdk import codec
from perdure.sdk.errors import UsageError
from perdure.sdk.events import Event


class MiddlewareError(UsageError):
    """A middleware has failed, or does not keep to its contract. The text says which, where, and what to do."""


class CallInfo(msgspec.Struct, frozen=True, gc=False):
    """One call of a function. `attempt` counts from 0; `traceparent` is the trace that the server began (W3C)."""

    function_id: str
    run_id: str
    attempt: int
    max_attempts: int
    traceparent: str | None = None


class StepInfo(msgspec.Struct, frozen=True, gc=False):
    """A step that is about to be run. `id` is as written in the code, `index` numbers its uses from 0."""

    id: str
    index: int
    call: CallInfo


class Payload(msgspec.Struct, frozen=True, gc=False):
    """What a value is.

    `kind` and `name`: the data of an "event" of that name, the result of a "step" of that id, what the
    "function" of that slug returns, the data of a "signal". `call` is None for what is sent outside of functions.
    """

    kind: Literal["event", "step", "function", "signal"]
    name: str
    call: CallInfo | None = None

    def __str__(self) -> str:
        what = {
            "event": "the data of the event",
            "step": "the result of the step",
            "function": "what is returned by the function",
            "signal": "the data of the signal",
        }[self.kind]
        return f'{what} "{self.name}"'


Wrap: TypeAlias = AbstractContextManager[Any] | AbstractAsyncContextManager[Any] | None
"""What `wrap_function` and `wrap_step` give."""


class Middleware:
    """Root of all middleware: override what you need, and give it to `App(middleware=[...])` or to one function.

    One object serves all calls, from several threads at once where functions are sync. An exception raised here
    fails the step or the call as if the function had raised it.
    """

    def transform_input(self, value: Any, payload: Payload) -> Any:  # noqa: ARG002
        """What the function gets in place of `value`: the data of an event, or a saved result. Return it."""
        return value

    def transform_output(self, value: Any, payload: Payload) -> Any:  # noqa: ARG002
        """What is sent in place of `value`: a result, or the data of an event. Return it."""
        return value

    def wrap_function(self, call: CallInfo) -> Wrap:  # noqa: ARG002
        """A context manager around the function's code.

        It is entered in each call, so several times in a run; a call that ends in the middle of the function,
        since a step has to be waited for, leaves it with a BaseException which is no Exception. An ordinary
        context manager (`@contextlib.contextmanager`) does for async and sync functions; an async one for async
        functions only.
        """
        return None

    def wrap_step(self, step: StepInfo) -> Wrap:  # noqa: ARG002
        """The same around the code of each step that is run; one whose result is saved is not run."""
        return None

    def before_send(self, events: list[Event[Any]]) -> list[Event[Any]]:
        """The events that are sent in place of `events`, by `app.send` and `step.send_event`. Return them.

        Their data are as the author gave them, or as a middleware further in has left them.
        """
        return events


class Chain:
    """The middleware of a function, or of an app where no function is running."""

    def __init__(self, middleware: Sequence[Middleware]) -> None:
        self.middleware = tuple(middleware)
        self._inward = _own(self.middleware, "transform_input")
        self._outward = _own(self.middleware[::-1], "transform_output")
        self.around_function = _own(self.middleware, "wrap_function")
        self.around_step = _own(self.middleware, "wrap_step")
        self._sends = any(
            type(one).before_send is not Middleware.before_send
            or type(one).transform_output is not Middleware.transform_output
            for one in self.middleware
        )

    def incoming(self, raw: bytes, payload: Payload) -> bytes:
        """JSON from the wire, as the function's code gets it."""
        return _through(self._inward, raw, payload, "transform_input") if self._inward else raw

    def outgoing(self, raw: bytes, payload: Payload) -> bytes:
        """JSON of the function's code, as it goes onto the wire."""
        return _through(self._outward, raw, payload, "transform_output") if self._outward else raw

    def member_in(self, raw: bytes, member: str, payload: Payload) -> bytes:
        """An object from the wire, with one member of it transformed."""
        return _member(raw, member, payload, self.incoming) if self._inward else raw

    def member_out(self, raw: bytes, member: str, payload: Payload) -> bytes:
        """An object that goes onto the wire, with one member of it transformed."""
        return _member(raw, member, payload, self.outgoing) if self._outward else raw

    def sending(self, events: list[Event[Any]], call: CallInfo | None) -> list[Event[Any]]:
        """Events as they are sent."""
        if not self._sends:
            return events
        for one in reversed(self.middleware):
            events = _sent(one, events)
            if type(one).transform_output is not Middleware.transform_output:
                events = [self._event_out(one, event, call) for event in events]
        return events

    def _event_out(self, one: Middleware, event: Event[Any], call: CallInfo | None) -> Event[Any]:
        payload = Payload("event", event.name, call)
        raw = codec.encode(event.data, f"The data of the event {event.name}")
        sent = _through(((one, one.transform_output),), raw, payload, "transform_output")
        return Event(event.name, codec.plain(sent), event.id, event.ts, event.user, event.v)


class Outbound:
    """What a chain does with events and signals that are sent by a call, or (without `info`) outside of functions."""

    def __init__(self, chain: Chain, info: CallInfo | None = None) -> None:
        self._chain = chain
        self._call = info

    def events(self, events: list[Event[Any]]) -> list[Event[Any]]:
        """Events as they are sent."""
        return self._chain.sending(events, self._call)

    def signal(self, name: str, raw: bytes) -> bytes:
        """The data of a signal as they are sent."""
        return self._chain.outgoing(raw, Payload("signal", name, self._call))


class CallHooks(Outbound):
    """What a chain does around the code of one call."""

    def __init__(self, chain: Chain, info: CallInfo) -> None:
        super().__init__(chain, info)
        self._info = info

    def around_function(self, code: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
        """The function's code within its wraps. `is_async` says whether a coroutine has to be given back."""
        what = f"the function {self._info.function_id}"
        return _wrapped(self._chain.around_function, "wrap_function", self._info, what, code, is_async)

    def around_step(
        self, step_id: str, index: int, code: Callable[..., Any], is_async: bool
    ) -> Callable[..., Any]:
        """The same for a step's code."""
        hooks = self._chain.around_step
        if not hooks:
            return code
        info = StepInfo(step_id, index, self._info)
        return _wrapped(hooks, "wrap_step", info, f'the step "{step_id}"', code, is_async)


Hook = tuple[Middleware, Callable[..., Any]]


def chain_of(*groups: Sequence[Any]) -> Chain | None:
    """The chain of all middleware of the groups, the outermost first; None if there is none."""
    found: list[Middleware] = []
    for group in groups:
        for one in group:
            if not isinstance(one, Middleware):
                made = f": write {one.__name__}(...)" if isinstance(one, type) else ""
                raise UsageError(
                    f"middleware=[...] holds {one!r}, which is no object of a subclass of perdure.middleware.Middleware"
                    f"{made}."
                )
            found.append(one)
    return Chain(found) if found else None


def _own(middleware: Sequence[Middleware], name: str) -> tuple[Hook, ...]:
    """The methods of that name which somebody has written: the others need not be called."""
    root = getattr(Middleware, name)
    return tuple((one, getattr(one, name)) for one in middleware if getattr(type(one), name) is not root)


def _through(hooks: Sequence[Hook], raw: bytes, payload: Payload, method: str) -> bytes:
    for one, transform in hooks:
        try:
            value = transform(codec.plain(raw), payload)
        except PerdureError:
            raise
        except Exception as error:
            raise MiddlewareError(_failed(one, method, str(payload), error)) from error
        if isinstance(value, msgspec.Raw):
            raw = bytes(value)
            continue
        if value is None and raw != b"null":
            raise MiddlewareError(
                f"{_name(one)}.{method} returned None for {payload}, which is not null. If the `return` was forgotten, "
                'add it; if null is meant, return msgspec.Raw(b"null").'
            )
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise MiddlewareError(
                f"{_name(one)}.{method} is async. Make it a plain `def`: it is not awaited."
            )
        raw = codec.encode(value, f"What {_name(one)}.{method} returned for {payload}", transform)
    return raw


_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def _member(raw: bytes, member: str, payload: Payload, change: Callable[[bytes, Payload], bytes]) -> bytes:
    if raw[:1] != b"{":
        return raw
    fields = _OBJECT.decode(raw)
    if member not in fields:
        return raw
    fields[member] = msgspec.Raw(change(bytes(fields[member]), payload))
    return msgspec.json.encode(fields)


def _sent(one: Middleware, events: list[Event[Any]]) -> list[Event[Any]]:
    try:
        given: Any = one.before_send(events)
    except PerdureError:
        raise
    except Exception as error:
        raise MiddlewareError(_failed(one, "before_send", f"{len(events)} event(s)", error)) from error
    if not isinstance(given, list) or not all(isinstance(event, Event) for event in given):
        raise MiddlewareError(
            f"{_name(one)}.before_send returned {_short(given)}. It must return the list of events to send: those it "
            "was given, changed ones, or an empty list to send nothing."
        )
    return given


def _wrapped(
    hooks: Sequence[Hook], method: str, info: Any, what: str, code: Callable[..., Any], is_async: bool
) -> Callable[..., Any]:
    if not hooks:
        return code

    async def around(*args: Any, **kwargs: Any) -> Any:
        async with AsyncExitStack() as stack:
            for one, wrap in hooks:
                context = _context(one, method, wrap, info, what)
                if isinstance(context, AbstractContextManager):
                    stack.enter_context(context)
                elif context is not None:
                    await stack.enter_async_context(context)
            value = code(*args, **kwargs)
            return await value if inspect.isawaitable(value) else value
        raise MiddlewareError(_swallowed(hooks, method, what))

    def around_sync(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            for one, wrap in hooks:
                context = _context(one, method, wrap, info, what)
                if isinstance(context, AbstractContextManager):
                    stack.enter_context(context)
                elif context is not None:
                    raise MiddlewareError(
                        f"{_name(one)}.{method} gave an async context manager for {what}, which is sync. Give an "
                        "ordinary one (@contextlib.contextmanager): it does for both."
                    )
            return code(*args, **kwargs)
        raise MiddlewareError(_swallowed(hooks, method, what))

    return around if is_async else around_sync


def _context(one: Middleware, method: str, wrap: Callable[[Any], Any], info: Any, what: str) -> Wrap:
    try:
        given = wrap(info)
    except PerdureError:
        raise
    except Exception as error:
        raise MiddlewareError(_failed(one, method, what, error)) from error
    if given is None or isinstance(given, AbstractContextManager | AbstractAsyncContextManager):
        return given
    hint = "It must return a context manager, or None."
    if inspect.isgenerator(given) or inspect.isasyncgen(given):
        kind = "contextmanager" if inspect.isgenerator(given) else "asynccontextmanager"
        hint = f"It yields: put @contextlib.{kind} before it."
    elif inspect.iscoroutine(given):
        given.close()
        hint = "It is async: make it a plain `def` that returns a context manager."
    raise MiddlewareError(f"{_name(one)}.{method} gave {_short(given)} for {what}. {hint}")


def _swallowed(hooks: Sequence[Hook], method: str, what: str) -> str:
    names = " or ".join(_name(one) for one, _ in hooks)
    return (
        f"The context manager of {names}.{method} kept an exception of {what} to itself, so there is no result. Let it "
        "pass (raise it again), or catch it in the function."
    )


def _failed(one: Middleware, method: str, what: str, error: Exception) -> str:
    return f"{_name(one)}.{method} failed on {what}: {type(error).__name__}: {error}"


def _name(one: Middleware) -> str:
    return type(one).__name__


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"

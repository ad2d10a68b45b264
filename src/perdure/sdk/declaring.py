"""Declaring functions: the decorators, and what they make of a handler."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar, cast, overload

from perdure.sdk import codec
from perdure.sdk.errors import UsageError
from perdure.sdk.function import FailureData, Function, Takes
from perdure.sdk.steps import Step
from perdure.sdk.sync_steps import SyncStep

In = TypeVar("In")
R = TypeVar("R")

FailureHandler: TypeAlias = (
    Callable[[FailureData, Step], Awaitable[Any]] | Callable[[FailureData, SyncStep], Any]
)
"""What `on_failure` takes."""


class Decorator(Generic[In]):
    """What `app.function(...)` gives: put it before a handler of the event's data and the step, or the step alone."""

    def __init__(self, make: Callable[[Callable[..., Any]], Function[Any, Any]]) -> None:
        self._make = make

    @overload
    def __call__(self, handler: Callable[[In, Step], Awaitable[R]]) -> Function[In, R]: ...
    @overload
    def __call__(self, handler: Callable[[In, SyncStep], R]) -> Function[In, R]: ...
    @overload
    def __call__(self, handler: Callable[[Step], Awaitable[R]]) -> Function[In, R]: ...
    @overload
    def __call__(self, handler: Callable[[SyncStep], R]) -> Function[In, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> Function[Any, Any]:
        return self._make(handler)


class BatchDecorator(Generic[In]):
    """The same for a function that takes its events in batches: a handler of a list and the step."""

    def __init__(self, make: Callable[[Callable[..., Any]], Function[Any, Any]]) -> None:
        self._make = make

    @overload
    def __call__(self, handler: Callable[[list[In], Step], Awaitable[R]]) -> Function[In, R]: ...
    @overload
    def __call__(self, handler: Callable[[list[In], SyncStep], R]) -> Function[In, R]: ...
    def __call__(self, handler: Callable[..., Any]) -> Function[Any, Any]:
        return self._make(handler)


def takes(handler: Callable[..., Any], slug: str) -> Takes:
    """Which arguments a handler takes. Raises UsageError if it is none that can be called."""
    if not callable(handler):
        raise UsageError(f"The handler of {slug} is a {type(handler).__qualname__}, not a function.")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise UsageError(
            f"The handler of {slug} is a generator; a handler returns its result, it does not yield."
        )
    parameters = [
        one
        for one in inspect.signature(handler).parameters.values()
        if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD} and one.default is one.empty
    ]
    if len(parameters) > 2:
        names = ", ".join(one.name for one in parameters)
        raise UsageError(
            f"The handler of {slug} takes ({names}); it is called with the event's data and the step."
        )
    if not parameters:
        return "nothing"
    if len(parameters) == 2:
        return "both"
    only = parameters[0]
    annotation = codec.resolve(handler, only.annotation) if inspect.isfunction(handler) else only.annotation
    is_step = annotation in {Step, SyncStep} if isinstance(annotation, type) else only.name == "step"
    return "step" if is_step or only.name == "step" else "event"


def default_id(handler: Callable[..., Any]) -> str:
    """The id of a function that none was given: the handler's name, with dashes."""
    name = getattr(handler, "__name__", None)
    if not name or name == "<lambda>":
        raise UsageError("A lambda has no name: give the function an id, app.function(id=...).")
    return cast("str", name).strip("_").replace("_", "-")

"""Perdure: durable background work for ordinary web apps.

Authors of apps import from here. Nothing is loaded until it is asked for, so that the command line, which needs
none of it, starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from perdure.sdk.app import App
    from perdure.sdk.asks import Response, Signal
    from perdure.sdk.errors import (
        ConnectError,
        InvokeError,
        InvokeTimeoutError,
        NonRetriableError,
        RetryAfterError,
        RunCancelledError,
        SendError,
        StepError,
        StepTimeoutError,
        UsageError,
    )
    from perdure.sdk.events import Event, EventType, cron, event
    from perdure.sdk.function import FailureData, Function
    from perdure.sdk.loggers import LogContext, logger
    from perdure.sdk.options import (
        Batch,
        Cancel,
        Checkpoint,
        Concurrency,
        Debounce,
        RateLimit,
        Singleton,
        Throttle,
        Timeouts,
    )
    from perdure.sdk.steps import Step
    from perdure.sdk.sync_steps import SyncStep

_WHERE = {
    "app": ("App",),
    "asks": ("Response", "Signal"),
    "errors": (
        "ConnectError", "InvokeError", "InvokeTimeoutError", "NonRetriableError", "RetryAfterError",
        "RunCancelledError", "SendError", "StepError", "StepTimeoutError", "UsageError",
    ),
    "events": ("Event", "EventType", "cron", "event"),
    "function": ("FailureData", "Function"),
    "loggers": ("LogContext", "logger"),
    "options": (
        "Batch", "Cancel", "Checkpoint", "Concurrency", "Debounce", "RateLimit", "Singleton", "Throttle", "Timeouts",
    ),
    "steps": ("Step",),
    "sync_steps": ("SyncStep",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "App",
    "Batch",
    "Cancel",
    "Checkpoint",
    "Concurrency",
    "ConnectError",
    "Debounce",
    "Event",
    "EventType",
    "FailureData",
    "Function",
    "InvokeError",
    "InvokeTimeoutError",
    "LogContext",
    "NonRetriableError",
    "RateLimit",
    "Response",
    "RetryAfterError",
    "RunCancelledError",
    "SendError",
    "Signal",
    "Singleton",
    "Step",
    "StepError",
    "StepTimeoutError",
    "SyncStep",
    "Throttle",
    "Timeouts",
    "UsageError",
    "__version__",
    "cron",
    "event",
    "logger",
]


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f"perdure.sdk.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

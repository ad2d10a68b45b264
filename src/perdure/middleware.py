"""Middleware for apps: the class to write one's own with, and those that come with Perdure."""

from __future__ import annotations

from perdure.sdk.encryption import Encryption
from perdure.sdk.middleware import CallInfo, Middleware, MiddlewareError, Payload, StepInfo, Wrap
from perdure.sdk.tracing import OpenTelemetry

__all__ = [
    "CallInfo",
    "Encryption",
    "Middleware",
    "MiddlewareError",
    "OpenTelemetry",
    "Payload",
    "StepInfo",
    "Wrap",
]

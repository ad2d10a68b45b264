"""The exceptions that authors of apps raise and catch.

PerdureError
├── NonRetriableError      raise it: this step, or this function, must not be tried again
├── RetryAfterError        raise it: try again, but not before a time
├── StepError              a step failed for good; catch it around the step
│   ├── StepTimeoutError   … because it was cancelled or timed out from outside while it ran
│   └── InvokeError        the invoked function failed
│       └── InvokeTimeoutError   … or did not end in time
├── RunCancelledError      the run of a sync step was cancelled while it worked
├── SendError              events were refused by the server, or it cannot be reached
├── ConnectError           the server does not take this worker, and trying again cannot help
└── UsageError             the code uses the SDK in a way that cannot work; the text says what to do instead
    ├── NestedStepError    a step inside a step
    └── SerializationError a value that is no JSON, or saved JSON that does not fit the annotation
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from perdure.errors import PerdureError


class NonRetriableError(PerdureError):
    """Raised by a step or a function that must not be tried again, whatever retries are left."""


class RetryAfterError(PerdureError):
    """Raised by a step or a function that should be tried again, but not before a time.

    `retry_after` is a time from now (timedelta, or seconds) or a moment (a datetime with a time zone). It
    counts as a failed attempt. Servers keep it between 1 second and 24 hours.
    """

    def __init__(self, message: str, retry_after: timedelta | float | datetime) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StepError(PerdureError):
    """A step has failed for good: all its attempts, or one that said so.

    `name` and `message` are those of the exception that the step raised, `stack` its traceback as text,
    `data` and `cause` what else the server kept of it. `step_id` is the id as written in the code.
    """

    def __init__(
        self,
        message: str,
        *,
        name: str = "Error",
        stack: str | None = None,
        data: Any = None,
        cause: Any = None,
        step_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.name = name
        self.stack = stack
        self.data = data
        self.cause = cause
        self.step_id = step_id


class StepTimeoutError(StepError, TimeoutError):
    """A step was cancelled while it ran, in each of its attempts: by `asyncio.timeout`, or by a failing sibling."""


class InvokeError(StepError):
    """The function that was invoked has failed, was cancelled, or is not known to the server."""


class InvokeTimeoutError(InvokeError, TimeoutError):
    """The function that was invoked did not end within the timeout of the invoke. It may still be running."""


class RunCancelledError(PerdureError):
    """Raised by `step.progress` and `step.heartbeat` in a sync step whose run has been cancelled meanwhile, or was
    taken over by another call. Let it pass, after cleaning up: what the step does is of no use any more.
    """


class SendError(PerdureError):
    """Events could not be sent.

    `status` is the HTTP status of the server's refusal, None if it could not be reached. `ids` are those of
    the events ahead of the refused one, which are stored.
    """

    def __init__(self, message: str, status: int | None = None, ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.ids = ids


class ConnectError(PerdureError):
    """A worker cannot connect, and trying again will not help; the text says what to change."""


class UsageError(PerdureError):
    """The code uses the SDK in a way that cannot work. The text says what to do instead."""


class NestedStepError(UsageError):
    """A step was used inside of a step."""


class SerializationError(UsageError):
    """A value cannot be written as JSON, or saved JSON does not fit the type it should have."""


class Suspended(BaseException):
    """Ends a sync function's thread, or one of its branches, when the call is over. Not for catching."""

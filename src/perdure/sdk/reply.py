"""What comes of a call, before it is an HTTP answer."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

import msgspec

from perdure.protocol.durations import format_time
from perdure.sdk import ops
from perdure.sdk.errors import NonRetriableError, RetryAfterError, StepError
from perdure.sdk.job import Job
from perdure.sdk.key import Key
from perdure.sdk.memo import CANCELLED_NAME


class Reply(msgspec.Struct, frozen=True, gc=False):
    """Status, JSON body, and what the headers say about trying again.

    `no_retry` None sends no such header. `retry_after` is an ISO time.
    """

    status: int
    body: bytes
    no_retry: bool | None = None
    retry_after: str | None = None


def of_ops(parts: list[bytes], no_retry: bool | None = None, retry_after: str | None = None) -> Reply:
    """The function is not done; these ops come first."""
    return Reply(206, ops.array(parts), no_retry, retry_after)


def of_failure(error: BaseException, now_ms: int) -> Reply:
    """The function itself has raised.

    A failed step that nobody caught has had its attempts, so the function is not tried again because of it.
    """
    first = _leaf(error)
    name = first.name if isinstance(first, StepError) else None
    stack = {"stack": first.stack} if isinstance(first, StepError) and first.stack else {}
    body = ops.error_json(first, name, **stack)
    return Reply(500, body, True if is_final(error) else None, retry_after_text(first, now_ms))


def step_error(error: BaseException, step_id: str) -> tuple[BaseException, str]:
    """What a step is told to have raised, and the name of that. One that was cancelled while it ran has timed out."""
    if isinstance(error, asyncio.CancelledError):
        text = f'The step "{step_id}" was cancelled while it ran, by a timeout around it or by a sibling that failed.'
        return TimeoutError(text), CANCELLED_NAME
    return error, error.name if isinstance(error, StepError) else type(error).__name__


def of_failed_step(
    key: Key,
    opts: bytes,
    error: BaseException,
    name: str,
    job: Job,
    started_ns: int,
    length_ns: int,
    now_ms: int,
) -> Reply:
    """A step has raised: it is tried again while it has attempts left, unless it says that this is of no use."""
    final = is_final(error) or job.attempt + 1 >= job.max_attempts
    detail = getattr(error, "data", None)
    more = {"data": detail} if isinstance(error, StepError) and detail is not None else {}
    body = ops.error_json(error, name, **more)
    op = ops.failed(key, opts, body, final, started_ns, length_ns)
    return of_ops([op], final, None if final else retry_after_text(error, now_ms))


def is_final(error: BaseException) -> bool:
    """Whether an exception says that trying again is of no use; a group says so if all in it do."""
    if isinstance(error, BaseExceptionGroup):
        return all(is_final(one) for one in error.exceptions)
    return isinstance(error, NonRetriableError | StepError)


def retry_after_text(error: BaseException, now_ms: int) -> str | None:
    """The `retry-after` header of an exception, an ISO time with milliseconds."""
    if not isinstance(error, RetryAfterError):
        return None
    given = error.retry_after
    if isinstance(given, datetime):
        return format_time(round(given.timestamp() * 1000))
    wait = given if isinstance(given, timedelta) else timedelta(seconds=given)
    return format_time(now_ms + round(wait.total_seconds() * 1000))


def _leaf(error: BaseException) -> BaseException:
    """The first exception of a group: what a person should read, and what the run's error is."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def asking_for_discovery(answer: Reply) -> Reply:
    """An answer with ops, which asks to be called again besides."""
    return msgspec.structs.replace(answer, body=answer.body[:-1] + b"," + ops.DISCOVERY_REQUEST + b"]")


def of_lost_target(function: str, target: str | None, places: list[Key]) -> Reply:
    """The step that was asked for is none that the code comes to; `places` are those that it stands at."""
    found = ", ".join(sorted(key.step_id for key in places)) or "none"
    message = (
        f"The server asks for a step of {function} that its code does not come to any more (hash {target}). It was "
        "perhaps renamed, moved behind another step, or depends on something that changes from call to call. Steps the "
        f"code stands at: {found}. Bring the old id back, or cancel the run."
    )
    body = {
        "name": "StepOrderError",
        "message": message,
        "error": message,
        "stack": "",
        "requestedStep": target,
        "foundSteps": [{"id": key.hash, "displayName": key.step_id} for key in places],
        "totalFoundSteps": len(places),
    }
    return Reply(500, msgspec.json.encode(body), False)


def of_dropped_target(key: Key, opts: bytes, now_ns: int) -> Reply:
    """Nobody waits for the step any more: a sibling has failed, and its group has cancelled it."""
    error = TimeoutError(f'The step "{key.step_id}" was cancelled before it ran, since a sibling failed.')
    body = ops.error_json(error, CANCELLED_NAME)
    return of_ops([ops.failed(key, opts, body, True, now_ns, 0)], True)


def note(log: logging.Logger, what: str, error: BaseException, job: Job) -> None:
    """Tell the author's log of an attempt that has failed, with the traceback where it is not asked for."""
    count = f"attempt {job.attempt + 1} of {job.max_attempts}"
    if isinstance(error, NonRetriableError | RetryAfterError | StepError):
        log.warning("%s failed (%s, run %s): %s", what, count, job.run_id, error)
    else:
        log.error("%s failed (%s, run %s)", what, count, job.run_id, exc_info=error)

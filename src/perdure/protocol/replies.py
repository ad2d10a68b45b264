"""Replies: what an answer to a call, or the lack of one, means for the run.

Three things can come of a call. The function is not done and reports ops (206); it returned (any other 2xx);
or the attempt failed, either because the function threw (4xx, 5xx) or because no function was reached: the
app is down, a proxy answered in its place, or the answer cannot be read. Each failure says whether and when
to try again; whether attempts are left is not decided here.

Streaming frameworks answer 201 at once and send the true status, headers and body later, as one JSON object;
that wrapper is taken off first.
"""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from perdure.protocol.calls import STOPPED_RESPONDING, CallAnswer, CallFailure
from perdure.protocol.durations import parse_retry_after
from perdure.protocol.failures import (
    NOT_SDK_TEXT,
    UNREACHABLE_TEXT,
    ErrorInfo,
    double_decoded,
    error_info,
    flat_error,
    wrapped_error,
)
from perdure.protocol.ops import MAX_OPS, Op, OpsError, read_ops
from perdure.protocol.payloads import (
    NULL,
    NestedTooDeeply,
    as_json,
    json_text,
    unquoted,
    valid_utf8,
    without_lone_surrogates,
)

SDK_HEADER = "x-inngest-sdk"
VERSION_HEADER = "x-inngest-req-version"
NO_RETRY_HEADER = "x-inngest-no-retry"
RETRY_AFTER_HEADER = "retry-after"

UPSTREAM_BODY_CHARS = 4 * 1024
"""How much of a proxy's page is shown in the error's stack."""


class OpsReply(msgspec.Struct, frozen=True):
    """The function is not done (206).

    `version` is the request version to pin for the run, if the SDK named one. `no_retry` and `retry_at` (ms
    since the epoch) concern a `StepError` among the ops; None means that the header was not there.
    """

    ops: list[Op]
    version: int | None = None
    no_retry: bool | None = None
    retry_at: int | None = None


class Finished(msgspec.Struct, frozen=True, gc=False):
    """The function returned. `output` is JSON; `null` if it returned nothing."""

    output: bytes
    version: int | None = None


class FunctionError(msgspec.Struct, frozen=True, gc=False):
    """The attempt failed.

    `output` (JSON) is the run's output if no further attempt follows, `error` the error as internal events
    carry it. `retry_at` (ms since the epoch) is when the app asked to be called again, None to leave it to
    the backoff.
    """

    output: bytes
    error: ErrorInfo
    no_retry: bool = False
    retry_at: int | None = None
    version: int | None = None


Reply: TypeAlias = OpsReply | Finished | FunctionError


class _Stream(msgspec.Struct, gc=False):
    """The wrapper of a streamed answer. Go adds `noRetry` and `retryAt` where JavaScript has headers."""

    status: int
    headers: dict[str, msgspec.Raw] | None = None
    body: msgspec.Raw = msgspec.Raw()
    noRetry: bool | None = None
    retryAt: str | None = None
    error: str | None = None


_STREAM: msgspec.json.Decoder[_Stream] = msgspec.json.Decoder(_Stream)

# JavaScript SDKs before 1.10.1, and 2.0.0 to 2.4.1, do not send the no-retry header: a 4xx of theirs is final.
_OLD_JS = re.compile(r"(?:inngest-)?js:v?(\d+)\.(\d+)\.(\d+)")


def read_reply(result: CallAnswer | CallFailure, now_ms: int, max_ops: int = MAX_OPS) -> Reply:
    """What the end of a call means. Never raises.

    `now_ms` turns a `Retry-After` in seconds into a time; `max_ops` bounds the ops of one answer.
    """
    if isinstance(result, CallFailure):
        return _failed_call(result)
    if result.status == 201:
        return _streamed(result, now_ms, max_ops)
    return _classified(result.status, result.headers, result.body, now_ms, max_ops)


def _classified(status: int, headers: dict[str, str], body: bytes, now_ms: int, max_ops: int) -> Reply:
    if status == 206:
        return _ops(headers, body, now_ms, max_ops)
    if 200 <= status <= 299:
        return _finished(headers, body)
    if SDK_HEADER not in headers:
        return _not_from_sdk(status, headers, body, now_ms)
    return _thrown(status, headers, body, now_ms)


def _ops(headers: dict[str, str], body: bytes, now_ms: int, max_ops: int) -> OpsReply | FunctionError:
    try:
        ops = read_ops(body, max_ops)
    except OpsError as error:
        return _attempt_failed(error.message, _version(headers))
    if SDK_HEADER not in headers:
        return _foreign_success(body)
    no_retry = headers.get(NO_RETRY_HEADER)
    retry_after = headers.get(RETRY_AFTER_HEADER)
    return OpsReply(
        ops,
        _version(headers),
        None if no_retry is None else _is_true(no_retry),
        None if retry_after is None else parse_retry_after(retry_after, now_ms),
    )


def _finished(headers: dict[str, str], body: bytes) -> Finished | FunctionError:
    if SDK_HEADER not in headers:
        return _foreign_success(body)
    try:
        value = json_text(body)
    except NestedTooDeeply as error:
        return _attempt_failed(f"error reading the function's output: {error}", _version(headers))
    return Finished(as_json(body) if value is None else value, _version(headers))


def _foreign_success(body: bytes) -> FunctionError:
    """A 2xx that no SDK sent: its body is kept as the output, so that a person sees what answered."""
    output = as_json(body)
    return FunctionError(output, error_info(output, NOT_SDK_TEXT))


def _not_from_sdk(status: int, headers: dict[str, str], body: bytes, now_ms: int) -> FunctionError:
    message = f"Your server returned HTTP {status} before the SDK responded."
    name = "Server returned a fatal error"
    stack = _upstream(headers.get("content-type", ""), body)
    return FunctionError(
        flat_error(message, name, message, stack),
        ErrorInfo(message, name, message, stack),
        no_retry=_is_true(headers.get(NO_RETRY_HEADER, "")),
        retry_at=_retry_at(headers, now_ms),
        version=_version(headers),
    )


def _upstream(content_type: str, body: bytes) -> str:
    """An explanation, and the beginning of what was answered instead."""
    text = body[: 4 * UPSTREAM_BODY_CHARS].decode("utf-8", "replace")
    if len(text) > UPSTREAM_BODY_CHARS or len(body) > 4 * UPSTREAM_BODY_CHARS:
        text = f"{text[:UPSTREAM_BODY_CHARS]}…"
    explanation = (
        "No step output was produced before the request failed — a proxy or load balancer in front of your app "
        "may have answered in its place, the app may have crashed, or the URL that it registered may belong to "
        "something else. Look at the logs of whatever listens at that URL."
    )
    return f"{explanation}\n\nWhat was answered ({content_type or 'no content type'}):\n{text}"


def _thrown(status: int, headers: dict[str, str], body: bytes, now_ms: int) -> FunctionError:
    output = double_decoded(as_json(body))
    header = headers.get(NO_RETRY_HEADER)
    no_retry = _is_true(header) if header is not None else _final_by_status(status, headers[SDK_HEADER])
    attempt_error = (
        "NonRetriableError" if no_retry and header is not None else f"invalid status code: {status}"
    )
    return FunctionError(
        output,
        error_info(output, attempt_error),
        no_retry,
        _retry_at(headers, now_ms),
        _version(headers),
    )


def _final_by_status(status: int, sdk: str) -> bool:
    match = _OLD_JS.match(sdk) if 400 <= status <= 499 else None
    if match is None:
        return False
    version = tuple(int(number) for number in match.groups())
    return version < (1, 10, 1) or (2, 0, 0) <= version <= (2, 4, 1)


def _streamed(answer: CallAnswer, now_ms: int, max_ops: int) -> Reply:
    sdk = answer.headers.get(SDK_HEADER, "")
    try:
        stream = _STREAM.decode(without_lone_surrogates(valid_utf8(answer.body)))
    except (msgspec.DecodeError, RecursionError) as error:
        if not sdk:
            return _foreign_success(answer.body)
        message = f"error reading response body to check for status code: {error}"
        return _attempt_failed(message, _version(answer.headers))
    headers = dict(answer.headers)
    for name, value in (stream.headers or {}).items():
        text = unquoted(bytes(value))
        headers[name.lower()] = text.decode() if text is not None else bytes(value).decode()
    if stream.error is not None:
        return _attempt_failed(stream.error, _version(headers))
    if stream.noRetry is not None:
        headers[NO_RETRY_HEADER] = "true" if stream.noRetry else "false"
    if stream.retryAt:
        headers[RETRY_AFTER_HEADER] = stream.retryAt
    body = bytes(stream.body)
    if body[:1] == b'"' and (stream.status == 206 or not _is_go(headers.get(SDK_HEADER, ""))):
        body = unquoted(body) or b""
    elif body == NULL:
        body = b""
    return _classified(stream.status, headers, body, now_ms, max_ops)


def _is_go(sdk: str) -> bool:
    """The Go SDK puts the body into the wrapper as a value: a string there is what the function returned."""
    return sdk.startswith(("inngest-go", "go:"))


def _failed_call(failure: CallFailure) -> FunctionError:
    """No answer came. What the transport knows of the reason is told in the error's stack."""
    if failure.code == "output_too_large":
        message = "Your function's response body exceeds the maximum size limit"
        error, name = f"output_too_large: {message}", "output_too_large"
        return FunctionError(
            wrapped_error(error, name, message), ErrorInfo(error, name, message, failure.message)
        )
    if failure.code == STOPPED_RESPONDING:
        error = f"{failure.code}: {failure.message}"
        return FunctionError(
            wrapped_error(error, failure.code, failure.message),
            ErrorInfo(error, failure.code, failure.message, ""),
        )
    text = "The call was given up" if failure.code == "cancelled" else UNREACHABLE_TEXT
    return FunctionError(wrapped_error(text, "Error", text), ErrorInfo(text, "Error", text, failure.message))


def _attempt_failed(message: str, version: int | None) -> FunctionError:
    """An answer that cannot be used: a failed attempt with the server's own text."""
    return FunctionError(
        wrapped_error(message, "Error", message), ErrorInfo(message, "Error", message), version=version
    )


def _version(headers: dict[str, str]) -> int | None:
    text = headers.get(VERSION_HEADER)
    if text is None:
        return None
    if text == "2":
        return 2
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else None


def _is_true(text: str) -> bool:
    return text.strip().lower() == "true"


def _retry_at(headers: dict[str, str], now_ms: int) -> int | None:
    text = headers.get(RETRY_AFTER_HEADER)
    return None if text is None else parse_retry_after(text, now_ms)

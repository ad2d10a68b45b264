"""What is said of something that failed: the error of an attempt, and errors that end a run at once.

An error is told in three places that must agree: the run's output, `data.error` of the internal events, and
the memo of a step that waits for the run. `ErrorInfo` is the common source of all three.
"""

from __future__ import annotations

import msgspec

from perdure.errors import PerdureError
from perdure.protocol.memos import plain_error_memo
from perdure.protocol.payloads import NestedTooDeeply, json_string, json_text, unquoted

FUNCTION_ERROR_TEXT = "Function execution error"
"""What stands for an error or a message that nobody gave."""

UNREACHABLE_TEXT = "Unable to reach SDK URL"
NOT_SDK_TEXT = "The response did not come from an Inngest SDK"

MAX_MESSAGE_CHARS = 32 * 1024
"""Longest message taken from an answer that is plain text; the run's output keeps all of it."""

MAX_DESCENT = 2
"""How often an error may be nested under `error` or `body`, once of them as a JSON string."""


class ErrorInfo(msgspec.Struct, frozen=True, gc=False):
    """An error as internal events carry it.

    `error` is the short text of the attempt (`invalid status code: 500`), `name`, `message` and `stack` are
    those of the app's exception; an empty `stack` is left out. `cause` is raw JSON.
    """

    error: str
    name: str = "Error"
    message: str = FUNCTION_ERROR_TEXT
    stack: str = ""
    cause: bytes | None = None

    def json(self) -> bytes:
        """The `data.error` object, keys in sorted order."""
        cause = b'"cause":' + self.cause + b"," if self.cause is not None else b""
        stack = b',"stack":' + json_string(self.stack) if self.stack else b""
        error, message, name = json_string(self.error), json_string(self.message), json_string(self.name)
        return b'{%b"error":%b,"message":%b,"name":%b%b}' % (cause, error, message, name, stack)


class _ErrorBody(msgspec.Struct, gc=False):
    error: msgspec.Raw = msgspec.Raw()
    body: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    stack: msgspec.Raw = msgspec.Raw()
    cause: msgspec.Raw = msgspec.Raw()


_BODY: msgspec.json.Decoder[_ErrorBody] = msgspec.json.Decoder(_ErrorBody)


def error_info(output: bytes, attempt_error: str) -> ErrorInfo:
    """The error of a failed attempt, from its output (valid JSON) and the server's own text for it.

    Non-empty strings of the output win; `attempt_error` fills what it leaves open. An output that is only a
    string is the message.
    """
    text = unquoted(output)
    if text is not None:
        message = _shortened(text.decode()) or attempt_error
        return ErrorInfo(error=attempt_error, message=message)
    body = _descend(output, MAX_DESCENT)
    if body is None:
        return ErrorInfo(error=attempt_error, message=attempt_error)
    cause = bytes(body.cause)
    return ErrorInfo(
        error=_string(body.error) or attempt_error,
        name=_string(body.name) or "Error",
        message=_string(body.message) or attempt_error,
        stack=_string(body.stack),
        cause=None if cause in {b"", b"null"} else cause,
    )


def _descend(value: bytes, levels: int) -> _ErrorBody | None:
    """The object that holds the error's fields: `value`, or what is nested under its `error` or `body`."""
    try:
        body = _BODY.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None
    if levels:
        for nested in (bytes(body.error), bytes(body.body)):
            inner = unquoted(nested) if nested[:1] == b'"' else nested
            if inner and inner[:1] == b"{":
                found = _descend(inner, levels - 1)
                if found is not None:
                    return found
    return body


def _string(raw: msgspec.Raw) -> str:
    text = unquoted(bytes(raw))
    return text.decode() if text is not None else ""


def _shortened(text: str) -> str:
    if len(text) <= MAX_MESSAGE_CHARS:
        return text
    return f"{text[:MAX_MESSAGE_CHARS]}… ({len(text)} characters in all)"


def wrapped_error(error: str, name: str, message: str, stack: str = "") -> bytes:
    """The run output for an error that the server itself found: the error nested under `error`."""
    return b'{"error":' + flat_error(error, name, message, stack) + b"}"


def flat_error(error: str, name: str, message: str, stack: str = "") -> bytes:
    """An error object as run output: `error`, `name`, `message`, and `stack` if there is one."""
    tail = b',"stack":' + json_string(stack) if stack else b""
    return b'{"error":%b,"name":%b,"message":%b%b}' % (
        json_string(error),
        json_string(name),
        json_string(message),
        tail,
    )


def double_decoded(value: bytes) -> bytes:
    """The object inside a JSON string that holds one, as some JavaScript SDKs send errors; else `value` itself."""
    inner = unquoted(value)
    if inner is None or inner.lstrip()[:1] != b"{":
        return value
    try:
        return json_text(inner) or value
    except NestedTooDeeply:
        return value


class OpError(PerdureError):
    """What an op asks for cannot be done. Ends the run at once, without retries.

    `name` and `message` are as user code and the dashboard see them. For a `Gateway` or `AIGateway` op it is
    the step that fails, not the run: save `memo()`.
    """

    def __init__(self, name: str, message: str, stack: str = "") -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.stack = stack

    def output(self) -> bytes:
        """The run's output: `{"error":{"error":"<name>: <message>","name":…,"message":…}}`."""
        return wrapped_error(f"{self.name}: {self.message}", self.name, self.message, self.stack)

    def info(self) -> ErrorInfo:
        """The error as internal events carry it."""
        return ErrorInfo(f"{self.name}: {self.message}", self.name, self.message, self.stack)

    def memo(self) -> bytes:
        """The memo of a step that failed so: `{"error":{"message":…,"name":…}}`."""
        return plain_error_memo(self.name, self.message)

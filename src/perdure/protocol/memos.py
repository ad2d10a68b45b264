"""Memos: what a call says of a finished step, under `steps.<hash>`.

SDKs tell a wrapped value from a bare one by its keys alone, so nothing may ever stand beside `data` or
`error`. A sleep leaves `null`; a wait for an event leaves the event itself, unwrapped.
"""

from __future__ import annotations

import msgspec

from perdure.protocol.payloads import NULL, json_string, unquoted

NULL_MEMO = NULL
"""Memo of a sleep, and of a wait that timed out."""

STEP_ERROR_TEXT = "Step execution error"
"""Message of a step's error that has none."""

INVOKE_TIMEOUT_NAME = "InngestInvokeTimeoutError"
INVOKE_TIMEOUT_TEXT = "Timed out waiting for invoked function to complete"

_MAX_CAUSES = 32
"""How deep a chain of causes is kept."""


class _StepError(msgspec.Struct, gc=False):
    name: msgspec.Raw = msgspec.Raw()
    message: msgspec.Raw = msgspec.Raw()
    stack: msgspec.Raw = msgspec.Raw()
    cause: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_ERROR: msgspec.json.Decoder[_StepError] = msgspec.json.Decoder(_StepError)


def data_memo(data: bytes) -> bytes:
    """Memo of a step that returned `data` (JSON), of an invoked function's result, and of a request's response."""
    return b'{"data":' + data + b"}"


def error_memo(error: bytes) -> bytes:
    """Memo of a step that failed with `error`, the SDK's JSON for it.

    Keeps `name`, `message`, `stack`, `cause` and `data` and drops what SDKs add for themselves (`code`,
    `__serialized`, `noRetry`). SDKs need a name and a message, so an error without them gets `Error` and a
    standing text.
    """
    return b'{"error":' + _kept(error, _MAX_CAUSES) + b"}"


def plain_error_memo(name: str, message: str, error: str | None = None) -> bytes:
    """Memo of a step that the server ended: `name`, `message`, and `error` if given."""
    head = b"" if error is None else b'"error":' + json_string(error) + b","
    return b"".join(
        (b'{"error":{', head, b'"message":', json_string(message), b',"name":', json_string(name), b"}}")
    )


def invoke_timeout_memo() -> bytes:
    """Memo of an invoke whose function did not end in time."""
    return plain_error_memo(
        INVOKE_TIMEOUT_NAME, INVOKE_TIMEOUT_TEXT, f"{INVOKE_TIMEOUT_NAME}: {INVOKE_TIMEOUT_TEXT}"
    )


def unknown_function_memo(function_id: str) -> bytes:
    """Memo of an invoke of a function that no app has registered."""
    return plain_error_memo("Error", f"could not find function with ID: {function_id}")


def rate_limited_memo() -> bytes:
    """Memo of an invoke of a function that its rate limit did not let start."""
    return plain_error_memo("Error", "invoked function is rate limited")


def signal_memo(signal: str, data: bytes) -> bytes:
    """Memo of a wait for a signal that was sent with `data` (JSON)."""
    return b'{"data":{"data":' + data + b',"signal":' + json_string(signal) + b"}}"


def input_memo(arguments: bytes) -> bytes:
    """What stands in place of a memo for a step that is to run with `arguments` (a JSON list) other than its code's."""
    return b'{"input":' + arguments + b"}"


def takes_input(sdk: str) -> bool:
    """Whether an SDK, named as it registers (`js:v4.24.0`), runs a step with the input of an `input_memo`.

    The official one for JavaScript does, and Perdure's own. Those for Python and Go take it for the result of the step
    (Python 0.5.19: `StepMemos.from_raw`; Go: `step.Run`), so it must never be sent to an SDK that is not known to read
    it.
    """
    return sdk.partition(":")[0].removeprefix("inngest-") in ("js", "perdure-py")


def response_memo(url: str, status_code: int, headers: dict[str, str], body: str) -> bytes:
    """Memo of a request made for the run (`step.fetch`); header names as they should be shown."""
    value = {"body": body, "headers": headers, "status_code": status_code, "url": url}
    return data_memo(msgspec.json.encode(value))


def _kept(error: bytes, causes: int) -> bytes:
    try:
        fields = _ERROR.decode(error)
    except (msgspec.DecodeError, RecursionError):
        text = unquoted(error)
        message = json_string(STEP_ERROR_TEXT) if not text else error
        return b'{"message":' + message + b',"name":"Error"}'
    parts = []
    cause = bytes(fields.cause)
    if cause[:1] == b"{" and causes:
        parts.append(b'"cause":' + _kept(cause, causes - 1))
    elif cause and cause != NULL and cause[:1] != b"{":
        parts.append(b'"cause":' + cause)
    data = bytes(fields.data)
    if data and data != NULL:
        parts.append(b'"data":' + data)
    parts.append(
        b'"message":' + (_string(fields.message) or _string(fields.error) or json_string(STEP_ERROR_TEXT))
    )
    parts.append(b'"name":' + (_string(fields.name) or b'"Error"'))
    stack = _string(fields.stack)
    if stack:
        parts.append(b'"stack":' + stack)
    return b"{" + b",".join(parts) + b"}"


def _string(raw: msgspec.Raw) -> bytes:
    """The raw JSON string, or nothing if it is another kind of value or empty."""
    value = bytes(raw)
    return value if value[:1] == b'"' and value != b'""' else b""

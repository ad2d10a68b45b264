"""Results by name: what a step, an attempt, a function's end or a run gave, asked for apart from the trace.

The name of a result is opaque to clients: base64 of the run's id, what it is the result of, and which.
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal, cast

import msgspec

from perdure.core.model import RunStatus
from perdure.protocol.ids import is_ulid
from perdure.reading.port import EventRecord, RunRecord

Kind = Literal["root", "end", "step", "entry"]
_KINDS = ("root", "end", "step", "entry")
_MAX_DESCENT = 2
"""How deep an error may be nested under `error`, as the server's own and some SDKs' are."""


class OutputName(msgspec.Struct, frozen=True, gc=False):
    """Which result. `key` is a step's id, or the `n` of a history entry that holds the error of an attempt."""

    run_id: str
    kind: Kind
    key: str = ""

    def text(self) -> str:
        """The name as clients see it."""
        return base64.urlsafe_b64encode(f"{self.run_id}:{self.kind}:{self.key}".encode()).decode()


def read_output_name(text: str) -> OutputName:
    """The name that a client sent back. Raises ValueError if the server never made it."""
    try:
        run_id, kind, key = base64.urlsafe_b64decode(text.encode("ascii")).decode().split(":", 2)
    except (ValueError, binascii.Error):
        raise ValueError("the outputID was not made by this server") from None
    if not is_ulid(run_id) or kind not in _KINDS or (kind == "entry" and not key.isdecimal()):
        raise ValueError("the outputID was not made by this server")
    return OutputName(run_id, cast(Kind, kind), key)


class ErrorText(msgspec.Struct, frozen=True):
    """An error as people read it. `cause` is decoded JSON."""

    message: str
    name: str
    stack: str | None = None
    cause: object = None


class SpanOutput(msgspec.Struct, frozen=True):
    """A result: `data` is JSON text, or there is an `error`. `input` is JSON text, of a run its trigger events."""

    input: str | None = None
    data: str | None = None
    error: ErrorText | None = None


class _Memo(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class _Error(msgspec.Struct):
    message: object = None
    name: object = None
    stack: object = None
    cause: object = None
    error: msgspec.Raw = msgspec.Raw()


_MEMO = msgspec.json.Decoder(_Memo)
_ERROR = msgspec.json.Decoder(_Error)


def run_output(run: RunRecord, events: list[EventRecord] | None = None) -> SpanOutput:
    """The result of a run, with its trigger events as input if they are given."""
    shown = None
    if events is not None:
        shown = (b"[" + b",".join(trigger_payload(event) for event in events) + b"]").decode()
    if run.output is None:
        return SpanOutput(shown)
    if run.status == RunStatus.FAILED:
        return SpanOutput(shown, error=read_error(run.output))
    return SpanOutput(shown, run.output.decode())


def step_output(op: str, memo: bytes, arguments: bytes | None = None) -> SpanOutput:
    """The result of a step, from its memo. An event that was waited for is its own result.

    `arguments` are the edited input that it ran with, if it was.
    """
    shown = None if arguments is None else arguments.decode()
    if op == "WaitForEvent" or memo[:1] != b"{":
        return SpanOutput(shown, memo.decode())
    wrapped = _MEMO.decode(memo)
    if bytes(wrapped.error) and not bytes(wrapped.data):
        return SpanOutput(shown, error=read_error(bytes(wrapped.error)))
    return SpanOutput(shown, (bytes(wrapped.data) or memo).decode())


def read_error(error: bytes, descent: int = _MAX_DESCENT) -> ErrorText:
    """An error from the JSON that an app or the server gave for it.

    What is no object with a message is shown as the stack, as it is.
    """
    try:
        fields = _ERROR.decode(error)
    except (msgspec.DecodeError, RecursionError):
        return ErrorText("", "Error", error.decode("utf-8", "replace"))
    inner = bytes(fields.error)
    if not isinstance(fields.message, str) and inner[:1] == b"{" and descent:
        return read_error(inner, descent - 1)
    if not isinstance(fields.message, str):
        return ErrorText("", _text(fields.name) or "Error", error.decode())
    return ErrorText(fields.message, _text(fields.name) or "Error", _text(fields.stack), fields.cause)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


class _Trigger(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"{}")
    user: msgspec.Raw = msgspec.Raw(b"{}")
    v: msgspec.Raw = msgspec.Raw(b"null")


_TRIGGER = msgspec.json.Decoder(_Trigger)


def trigger_payload(event: EventRecord) -> bytes:
    """An event as the trigger of a run is shown: id, name, data and time, and what else the sender gave."""
    body = _TRIGGER.decode(event.body)
    shown: dict[str, object] = {
        "id": event.id or event.internal_id,
        "name": event.name,
        "data": body.data,
        "ts": event.ts,
    }
    if bytes(body.user) not in (b"{}", b"null"):
        shown["user"] = body.user
    if bytes(body.v) not in (b"null", b'""'):
        shown["v"] = body.v
    return msgspec.json.encode(shown)

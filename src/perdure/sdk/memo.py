"""Saved steps, as a call brings them: results, errors, and arguments to run a step with again."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.sdk.errors import InvokeError, InvokeTimeoutError, StepError, StepTimeoutError

CANCELLED_NAME = "StepTimeoutError"
"""Name of the saved error of a step that was cancelled while it ran."""
INVOKE_TIMEOUT_NAME = "InngestInvokeTimeoutError"


class Memo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A saved step: its `data` or its `error`. `input` are arguments to run it with, for a rerun."""

    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    type: str | None = None


class _Error(msgspec.Struct, frozen=True, gc=False):
    name: str | None = None
    message: str | None = None
    error: str | None = None
    stack: str | None = None
    data: Any = None
    cause: Any = None


_MEMO: msgspec.json.Decoder[Memo] = msgspec.json.Decoder(Memo)
_ERROR: msgspec.json.Decoder[_Error] = msgspec.json.Decoder(_Error)


def read_memo(raw: bytes) -> Memo | None:
    """A wrapped memo; None if it is a bare value, which has other keys than `data`, `error` and `input`."""
    if raw[:1] != b"{" or raw == b"{}":
        return None
    try:
        return _MEMO.decode(raw)
    except msgspec.DecodeError:
        return None


def result(raw: bytes, step_id: str, *, invoked: bool = False) -> bytes:
    """The result in a memo, as JSON. Raises StepError if the step has failed."""
    wrapped = read_memo(raw)
    if wrapped is None:
        return raw
    if wrapped.error is not msgspec.UNSET:
        raise step_error(bytes(wrapped.error), step_id, invoked=invoked)
    return b"null" if wrapped.data is msgspec.UNSET else bytes(wrapped.data)


def step_error(raw: bytes, step_id: str, *, invoked: bool = False) -> StepError:
    """The exception that a saved error stands for, whatever shape it has."""
    try:
        read = _ERROR.decode(raw)
    except msgspec.DecodeError:
        read = _Error(message=raw.decode("utf-8", "replace"))
    kind: type[StepError] = StepError
    if invoked:
        kind = InvokeTimeoutError if read.name == INVOKE_TIMEOUT_NAME else InvokeError
    elif read.name == CANCELLED_NAME:
        kind = StepTimeoutError
    return kind(
        read.message or read.error or "Unknown error",
        name=read.name or "Error",
        stack=read.stack,
        data=read.data,
        cause=read.cause,
        step_id=step_id,
    )

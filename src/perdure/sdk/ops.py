"""Ops as an app writes them: one JSON object for each step that an answer or a checkpoint tells of."""

from __future__ import annotations

import traceback
from typing import Any

import msgspec

from perdure.protocol.ids import hash_step_id
from perdure.protocol.payloads import json_string
from perdure.sdk.asks import Ask
from perdure.sdk.key import Key

COMPLETE_ID = hash_step_id("complete")
DISCOVERY_REQUEST = b'{"op":"DiscoveryRequest","id":"' + hash_step_id("discover").encode() + b'"}'
RACE = "race"
MAX_STACK = 16_000
MAX_MESSAGE = 64_000
"""Characters of an exception's text: an answer that is too large would hide what has failed."""


def head(op: str, key: Key, name: str | None = None) -> bytes:
    """The beginning of an op, without the closing brace. It is named as the author wrote it."""
    shown = json_string(key.step_id)
    payload = shown if name is None else json_string(name)
    index = b"" if key.index == 0 else b',"index":%d' % key.index
    return b"".join(
        (
            b'{"op":"', op.encode(), b'","id":"', key.hash.encode(), b'","name":', payload,
            b',"displayName":', shown, b',"userland":{"id":', shown, index, b"}",
        )
    )  # fmt: skip


def asked(key: Key, ask: Ask, race: bool) -> bytes:
    """The op of a step that the server has to do."""
    opts = ask.opts or b"{}"
    if race:
        opts = opts[:-1] + (b'"parallelMode":"race"}' if opts == b"{}" else b',"parallelMode":"race"}')
    return head(ask.op, key, ask.name) + b',"opts":' + opts + b"}"


def planned(key: Key, opts: bytes) -> bytes:
    """The op of a step that waits to be called for."""
    return head("StepPlanned", key) + b',"opts":' + opts + b"}"


def ran(key: Key, opts: bytes, data: bytes, start_ns: int, length_ns: int) -> bytes:
    """The op of a step that has returned `data`."""
    return b"".join(
        (head("StepRun", key), b',"opts":', opts, b',"data":', data, _timing(start_ns, length_ns), b"}")
    )


def failed(key: Key, opts: bytes, error: bytes, final: bool, start_ns: int, length_ns: int) -> bytes:
    """The op of a step that raised; `final` if it will not be tried again."""
    op = "StepFailed" if final else "StepError"
    return b"".join(
        (head(op, key), b',"opts":', opts, b',"error":', error, _timing(start_ns, length_ns), b"}")
    )


def completed(data: bytes) -> bytes:
    """The op that ends the run with an output."""
    return b'{"op":"RunComplete","id":"' + COMPLETE_ID.encode() + b'","data":' + data + b"}"


def array(ops: list[bytes]) -> bytes:
    return b"[" + b",".join(ops) + b"]"


def error_json(error: BaseException, name: str | None = None, **more: Any) -> bytes:
    """An exception as the protocol writes errors: `name`, `message`, `stack`, and `data` if it has JSON for it."""
    stack = "".join(traceback.format_exception(error))
    fields: dict[str, Any] = {
        "name": name or type(error).__name__,
        "message": _text(error),
        "stack": stack[-MAX_STACK:],
        **more,
    }
    cause = error.__cause__
    if cause is not None:
        fields["cause"] = {"name": type(cause).__name__, "message": _text(cause)}
    return _clean(fields)


def _text(error: BaseException) -> str:
    """What an exception says, cut in the middle if it is long. Its own methods may raise."""
    try:
        text = str(error) or repr(error)
    except Exception as problem:
        return f"(its text cannot be had: __str__ of {type(error).__qualname__} raised {type(problem).__qualname__})"
    if len(text) <= MAX_MESSAGE:
        return text
    half = MAX_MESSAGE // 2
    return f"{text[:half]} … ({len(text) - 2 * half} characters left out) … {text[-half:]}"


def _clean(fields: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:
        return msgspec.json.encode(
            {key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
             for key, value in fields.items()}
        )  # fmt: skip


def _timing(start_ns: int, length_ns: int) -> bytes:
    return b',"timing":{"a":%d,"b":%d}' % (start_ns, length_ns)

"""Ops: what an app reports of its function, one object each, in the body of a 206 or of a checkpoint.

Their payloads stay the bytes that came. What only some ops carry (`opts`) is read by `protocol.op_options`
when it is needed.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from perdure.errors import PerdureError
from perdure.protocol.payloads import (
    NULL,
    TOO_DEEP,
    nests_too_deeply,
    unquoted,
    valid_utf8,
    without_lone_surrogates,
)

MAX_OPS = 1_000
"""Most ops in one answer (protocol limits table), and most steps of a run."""

MAX_STEP_BYTES = 4 * 1024 * 1024
"""Largest output, and largest input, of a step (protocol limits table)."""

COMPLETED_OPS = frozenset(("StepRun", "Step", "StepError", "StepFailed"))
"""Ops that report a step which has run."""

PENDING_OPS = frozenset(
    ("StepPlanned", "Sleep", "WaitForEvent", "WaitForSignal", "InvokeFunction", "Gateway", "AIGateway")
)
"""Ops that stand for a step which still has to happen. An answer with one of these and another op has a pending set."""

LAZY_OPS = frozenset(("DeferAdd", "DeferAbort"))
"""Ops that never count when an answer's ops are counted."""

ENDING_OPS = frozenset(("RunComplete", "SyncRunComplete"))
"""Ops that end the run with their `data`."""

OPS = COMPLETED_OPS | PENDING_OPS | LAZY_OPS | ENDING_OPS | {"None", "DiscoveryRequest"}

NAMELESS_OPS = frozenset(("None", "DiscoveryRequest")) | ENDING_OPS
"""Ops that may come without an id, since nothing is saved under it."""

_SPELLINGS = {"AiGateway": "AIGateway"}


class Op(msgspec.Struct, frozen=True, gc=False):
    """One op. `data`, `error`, `opts`, `input` and `metadata` are raw JSON.

    `name` is as on the wire, where some ops keep a payload in it (a sleep its duration, a wait its event);
    `display_name` is what a person should see. `error` and `opts` are None when they are no objects.
    `step_type` and `input` come from `opts` (`step.ai.wrap` and its arguments). `race` asks for a discovery
    after each of its siblings. `timing` is start and length in ns.
    """

    op: str
    id: str
    name: str = ""
    display_name: str = ""
    opts: bytes | None = None
    data: bytes = NULL
    error: bytes | None = None
    userland_id: str = ""
    userland_index: int | None = None
    step_type: str = ""
    input: bytes | None = None
    race: bool = False
    timing: tuple[int, int] | None = None
    metadata: bytes | None = None


class OpsError(PerdureError):
    """A list of ops cannot be used. The attempt fails with this text, and is retried like any other.

    `too_large` is the id of the step whose output or input is over the limit, if that is the reason.
    """

    def __init__(self, message: str, too_large: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.too_large = too_large


class _Userland(msgspec.Struct, gc=False):
    id: str | None = None
    index: int | None = None


class _Timing(msgspec.Struct, gc=False):
    a: int | None = None
    b: int | None = None


class _Wire(msgspec.Struct, gc=False):
    op: str
    id: str | None = None
    name: str | None = None
    displayName: str | None = None
    opts: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    userland: _Userland | None = None
    timing: _Timing | None = None
    metadata: msgspec.Raw = msgspec.Raw()


class _LooseWire(msgspec.Struct, gc=False):
    """The same, where only `op` must have the right type."""

    op: str
    id: msgspec.Raw = msgspec.Raw()
    name: msgspec.Raw = msgspec.Raw()
    displayName: msgspec.Raw = msgspec.Raw()
    opts: msgspec.Raw = msgspec.Raw()
    data: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    userland: msgspec.Raw = msgspec.Raw()
    timing: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


class _Opts(msgspec.Struct, gc=False):
    type: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    parallelMode: msgspec.Raw = msgspec.Raw()


_Wires: TypeAlias = list[_Wire]
_OPS: msgspec.json.Decoder[_Wires] = msgspec.json.Decoder(list[_Wire])
_LOOSE_OPS: msgspec.json.Decoder[list[_LooseWire]] = msgspec.json.Decoder(list[_LooseWire])
_OPTS: msgspec.json.Decoder[_Opts] = msgspec.json.Decoder(_Opts)
_USERLAND: msgspec.json.Decoder[_Userland] = msgspec.json.Decoder(_Userland)
_TIMING: msgspec.json.Decoder[_Timing] = msgspec.json.Decoder(_Timing)


def read_ops(body: bytes, max_ops: int = MAX_OPS) -> list[Op]:
    """The ops of a body: an array of them, or one bare object.

    Raises `OpsError` if the body is anything else, an op is unknown or incomplete, there are more than
    `max_ops`, or a step's output or input is over the limit. Keys that are not known are ignored, and so is
    what is only informational and misshapen.
    """
    body = valid_utf8(body).strip()
    if body[:1] == b"{":
        body = b"[" + body + b"]"
    elif body[:1] != b"[":
        raise OpsError("error reading generator opcode response: expected JSON object or array")
    wires = _decoded(body)
    if nests_too_deeply(body):
        raise OpsError(f"error reading generator opcode response: {TOO_DEEP}")
    if len(wires) > max_ops:
        raise OpsError(
            f"error reading generator opcode response: {len(wires)} ops in one answer, at most {max_ops} are taken; "
            "run fewer steps in parallel, or raise the server's limit on steps"
        )
    return [_op(wire) for wire in wires]


def _decoded(body: bytes) -> list[_Wire]:
    try:
        return _OPS.decode(body)
    except RecursionError:
        raise OpsError(f"error reading generator opcode response: {TOO_DEEP}") from None
    except msgspec.DecodeError:
        body = without_lone_surrogates(body)
    try:
        return [_tightened(loose) for loose in _LOOSE_OPS.decode(body)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise OpsError(f"error reading generator opcode response: {error}") from None


def _tightened(loose: _LooseWire) -> _Wire:
    """The op with whatever has the wrong type left out."""
    try:
        userland = _USERLAND.decode(loose.userland)
    except msgspec.DecodeError:
        userland = None
    try:
        timing = _TIMING.decode(loose.timing)
    except msgspec.DecodeError:
        timing = None
    return _Wire(
        op=loose.op,
        id=_string(loose.id),
        name=_string(loose.name),
        displayName=_string(loose.displayName),
        opts=loose.opts,
        data=loose.data,
        error=loose.error,
        userland=userland,
        timing=timing,
        metadata=loose.metadata,
    )


def _string(raw: msgspec.Raw) -> str:
    text = unquoted(bytes(raw))
    return text.decode() if text is not None else ""


def _op(wire: _Wire) -> Op:
    op = wire.op
    if op not in OPS:
        op = _SPELLINGS.get(op, op)
        if op not in OPS:
            raise OpsError(f"error reading generator opcode response: {op} does not belong to Opcode values")
    op_id = wire.id or ""
    if not op_id and op not in NAMELESS_OPS:
        raise OpsError(f"error reading generator opcode response: the op {op} has no id")
    name = wire.name or ""
    userland = wire.userland
    userland_id = userland.id or "" if userland is not None else ""
    step_type, step_input, race = "", None, False
    opts: bytes | None = bytes(wire.opts)
    if opts and opts[:1] == b"{":
        if opts != b"{}":
            step_type, step_input, race = _read_opts(opts)
    else:
        opts = None
    data = bytes(wire.data) or NULL
    error = _error(wire, op, op_id, data) if op in {"StepError", "StepFailed"} else None
    if len(data) > MAX_STEP_BYTES or (error is not None and len(error) > MAX_STEP_BYTES):
        raise _too_large(op_id, "output")
    if step_input is not None and len(step_input) > MAX_STEP_BYTES:
        raise _too_large(op_id, "input")
    metadata = bytes(wire.metadata)
    return Op(
        op,
        op_id,
        name,
        wire.displayName or name or userland_id or op_id,
        opts,
        data,
        error,
        userland_id,
        userland.index if userland is not None else None,
        step_type,
        step_input,
        race,
        _pair(wire.timing) if wire.timing is not None else None,
        metadata if metadata and metadata != NULL else None,
    )


def _pair(timing: _Timing) -> tuple[int, int] | None:
    return None if timing.a is None or timing.b is None else (timing.a, timing.b)


def _error(wire: _Wire, op: str, op_id: str, data: bytes) -> bytes:
    """The step's error; some SDKs put it under `data` only."""
    error = bytes(wire.error)
    if error and error != NULL:
        return error
    if data[:1] == b"{":
        return data
    raise OpsError(f"error validating generator opcode {op_id}: {op} carries no error")


def _too_large(op_id: str, what: str) -> OpsError:
    message = f"error validating generator opcode {op_id}: step {what} size is greater than the limit"
    return OpsError(message, too_large=op_id)


def _read_opts(opts: bytes) -> tuple[str, bytes | None, bool]:
    """`type`, `input` and whether `parallelMode` is race."""
    fields = _OPTS.decode(opts)
    step_input = bytes(fields.input)
    return (
        _string(fields.type),
        step_input if step_input and step_input != NULL else None,
        _string(fields.parallelMode).lower() == "race",
    )

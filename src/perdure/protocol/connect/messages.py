"""The messages of Connect (protobuf package `connect.v1`), and what Perdure adds to them.

What is added is agreed upon first, so that nobody sees it who does not know it: a worker says in its `capabilities`
which extensions it can do (`Extensions`, under the key `perdure`), and the gateway names in field 100 of
`GatewayConnectionReadyData` those that it takes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

import msgspec

from perdure.protocol.connect.wire import Form, Message, WireError

SUBPROTOCOL = "v0.connect.inngest.com"
"""Must be asked for, and granted, when the WebSocket opens."""
MAX_FRAME_BYTES = 8 * 1024 * 1024
"""A larger frame ends the connection."""


class Kind(IntEnum):
    """What a message is. Those from 100 on are Perdure's own."""

    GATEWAY_HELLO = 0
    WORKER_CONNECT = 1
    GATEWAY_CONNECTION_READY = 2
    GATEWAY_EXECUTOR_REQUEST = 3
    WORKER_READY = 4
    WORKER_REQUEST_ACK = 5
    WORKER_REPLY = 6
    WORKER_REPLY_ACK = 7
    WORKER_PAUSE = 8
    WORKER_HEARTBEAT = 9
    GATEWAY_HEARTBEAT = 10
    GATEWAY_CLOSING = 11
    WORKER_REQUEST_EXTEND_LEASE = 12
    WORKER_REQUEST_EXTEND_LEASE_ACK = 13
    SYNC_FAILED = 14
    WORKER_STATUS = 15
    WORKER_CHECKPOINTS = 100
    """Finished steps of running calls, of many runs at once: msgpack of a list of `CheckpointEntry`."""
    GATEWAY_CHECKPOINTS_ACK = 101
    """What came of them, once they are on disk: msgpack of a list of `CheckpointAck`."""
    WORKER_LOGS = 102
    """Log lines of steps: the same JSON as posted over HTTP."""
    BUNDLE = 110
    """Several messages in one frame, each led by its length (`wire.join_delimited`). Goes both ways."""


class ConnectMessage(Message):
    """A frame. `kind` is a `Kind`, or a number that is not known yet."""

    kind: Annotated[int, 1, Form.INT32] = 0
    payload: Annotated[bytes, 2] = b""


class AppConfiguration(Message):
    """An app that a worker serves. `functions` is a JSON array of configurations."""

    app_name: Annotated[str, 1] = ""
    app_version: Annotated[str | None, 2] = None
    functions: Annotated[bytes, 4] = b""


class AuthData(Message):
    """The tokens that `StartResponse` gave."""

    session_token: Annotated[str, 1] = ""
    sync_token: Annotated[str, 2] = ""


class SystemAttributes(Message):
    """The machine that a worker runs on. `mem_bytes` is all of its memory."""

    cpu_cores: Annotated[int, 1, Form.INT32] = 0
    mem_bytes: Annotated[int, 2, Form.INT64] = 0
    os: Annotated[str, 3] = ""


class Timestamp(Message):
    """`google.protobuf.Timestamp`: seconds since the epoch, and nanoseconds beyond them."""

    seconds: Annotated[int, 1, Form.INT64] = 0
    nanos: Annotated[int, 2, Form.INT32] = 0


class WorkerConnectRequestData(Message):
    """WORKER_CONNECT. `capabilities` is JSON; no `max_worker_concurrency`, or 0, means that there is no limit."""

    connection_id: Annotated[str, 1] = ""
    instance_id: Annotated[str, 2] = ""
    auth_data: Annotated[AuthData | None, 3] = None
    capabilities: Annotated[bytes, 4] = b""
    apps: Annotated[list[AppConfiguration], 5] = msgspec.field(default_factory=list)
    worker_manual_readiness_ack: Annotated[bool, 6] = False
    system_attributes: Annotated[SystemAttributes | None, 7] = None
    environment: Annotated[str | None, 8] = None
    framework: Annotated[str, 9] = ""
    platform: Annotated[str | None, 10] = None
    sdk_version: Annotated[str, 11] = ""
    sdk_language: Annotated[str, 12] = ""
    started_at: Annotated[Timestamp | None, 13] = None
    max_worker_concurrency: Annotated[int | None, 14, Form.INT64] = None


class GatewayConnectionReadyData(Message):
    """GATEWAY_CONNECTION_READY. Intervals are texts like `10s`, and `0s` means never.

    `perdure` is JSON of `Extensions`: those that the gateway takes. Empty for a worker that named none.
    """

    heartbeat_interval: Annotated[str, 1] = ""
    extend_lease_interval: Annotated[str, 2] = ""
    status_interval: Annotated[str, 3] = ""
    perdure: Annotated[bytes, 100] = b""


class GatewayExecutorRequestData(Message):
    """GATEWAY_EXECUTOR_REQUEST: a call. `request_payload` is the body that it would have over HTTP."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    app_name: Annotated[str, 5] = ""
    function_id: Annotated[str, 6] = ""
    function_slug: Annotated[str, 7] = ""
    step_id: Annotated[str | None, 8] = None
    request_payload: Annotated[bytes, 9] = b""
    system_trace_ctx: Annotated[bytes, 10] = b""
    user_trace_ctx: Annotated[bytes, 11] = b""
    run_id: Annotated[str, 12] = ""
    lease_id: Annotated[str, 13] = ""
    job_id: Annotated[str, 14] = ""


class WorkerRequestAckData(Message):
    """WORKER_REQUEST_ACK: the worker has the call."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    function_slug: Annotated[str, 5] = ""
    step_id: Annotated[str | None, 6] = None
    system_trace_ctx: Annotated[bytes, 7] = b""
    user_trace_ctx: Annotated[bytes, 8] = b""
    run_id: Annotated[str, 9] = ""


class WorkerRequestExtendLeaseData(WorkerRequestAckData):
    """WORKER_REQUEST_EXTEND_LEASE: the worker still works on the call, and holds this lease."""

    lease_id: Annotated[str, 10] = ""


class WorkerRequestExtendLeaseAckData(Message):
    """WORKER_REQUEST_EXTEND_LEASE_ACK. Without `new_lease_id` the call is no longer the worker's."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    function_slug: Annotated[str, 5] = ""
    new_lease_id: Annotated[str | None, 6] = None


class ResponseStatus(IntEnum):
    """How a call ended: with ops (as HTTP 206), a result (200), or an error (500)."""

    NOT_COMPLETED = 0
    DONE = 1
    ERROR = 2


class SDKResponse(Message):
    """WORKER_REPLY, and the body of a flush: the answer to a call. `status` is a `ResponseStatus`."""

    request_id: Annotated[str, 1] = ""
    account_id: Annotated[str, 2] = ""
    env_id: Annotated[str, 3] = ""
    app_id: Annotated[str, 4] = ""
    status: Annotated[int, 5, Form.INT32] = 0
    body: Annotated[bytes, 6] = b""
    no_retry: Annotated[bool, 7] = False
    retry_after: Annotated[str | None, 8] = None
    sdk_version: Annotated[str, 9] = ""
    request_version: Annotated[int, 10, Form.UINT32] = 0
    system_trace_ctx: Annotated[bytes, 11] = b""
    user_trace_ctx: Annotated[bytes, 12] = b""
    run_id: Annotated[str, 13] = ""


class WorkerReplyAckData(Message):
    """WORKER_REPLY_ACK: the answer is on disk."""

    request_id: Annotated[str, 1] = ""


class FlushResponse(Message):
    """The answer to a flush: the reply is on disk."""

    request_id: Annotated[str, 1] = ""


class WorkerStatusData(Message):
    """WORKER_STATUS: what a worker works on, for information only."""

    in_flight_request_ids: Annotated[list[str], 1] = msgspec.field(default_factory=list)
    shutdown_requested: Annotated[bool, 2] = False


class StartRequest(Message):
    """Body of `POST /v0/connect/start`: gateways that the worker has failed to reach."""

    exclude_gateways: Annotated[list[str], 1] = msgspec.field(default_factory=list)


class StartResponse(Message):
    """Where to connect to, and the tokens to show there."""

    connection_id: Annotated[str, 1] = ""
    gateway_endpoint: Annotated[str, 2] = ""
    gateway_group: Annotated[str, 3] = ""
    session_token: Annotated[str, 4] = ""
    sync_token: Annotated[str, 5] = ""


class SystemError(Message):
    """SYNC_FAILED: why the connection is about to be closed."""

    code: Annotated[str, 1] = ""
    data: Annotated[bytes | None, 2] = None
    message: Annotated[str, 3] = ""


class Extensions(msgspec.Struct, frozen=True, omit_defaults=True):
    """Perdure's own additions, by version; 0 is "not that one".

    `checkpoints` are kinds 100 and 101, `bundles` kind 110, `logs` kind 102.
    """

    checkpoints: int = 0
    bundles: int = 0
    logs: int = 0


class _Capabilities(msgspec.Struct):
    perdure: Extensions = Extensions()


def read_extensions(capabilities: bytes) -> Extensions:
    """The extensions that a worker names in its `capabilities`; none if it names none that can be read."""
    try:
        return msgspec.json.decode(capabilities, type=_Capabilities).perdure
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Extensions()


def agreed(asked: Extensions, offered: Extensions) -> Extensions:
    """What both sides can do: of each extension the older version."""
    return Extensions(
        min(asked.checkpoints, offered.checkpoints),
        min(asked.bundles, offered.bundles),
        min(asked.logs, offered.logs),
    )


class CheckpointEntry(msgspec.Struct, array_like=True, gc=False):
    """Finished steps of one running call. `steps` is the JSON array of ops; `seq` comes back in the answer.

    `took` is how long (ms) the worker had the call until then, if it says.
    """

    seq: int
    run_id: str
    fn_id: str
    qi_id: str
    request_id: str
    generation: int | None
    steps: bytes
    took: int | None = None


class CheckpointAck(msgspec.Struct, array_like=True, gc=False):
    """What came of an entry: 200 when it is on disk, else the status and message that HTTP would have given.

    409 says that the run has been cancelled, or that another call has taken it over; 503 to try again.
    """

    seq: int
    status: int
    message: str = ""


_pack = msgspec.msgpack.Encoder().encode
_entries = msgspec.msgpack.Decoder(list[CheckpointEntry])
_acks = msgspec.msgpack.Decoder(list[CheckpointAck])


def encode_checkpoints(entries: list[CheckpointEntry]) -> bytes:
    """Payload of WORKER_CHECKPOINTS."""
    return _pack(entries)


def decode_checkpoints(payload: bytes) -> list[CheckpointEntry]:
    """Read a payload of WORKER_CHECKPOINTS. Raises `WireError`."""
    try:
        return _entries.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"checkpoints cannot be read: {error}") from None


def encode_checkpoint_acks(acks: list[CheckpointAck]) -> bytes:
    """Payload of GATEWAY_CHECKPOINTS_ACK."""
    return _pack(acks)


def decode_checkpoint_acks(payload: bytes) -> list[CheckpointAck]:
    """Read a payload of GATEWAY_CHECKPOINTS_ACK. Raises `WireError`."""
    try:
        return _acks.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the answer to checkpoints cannot be read: {error}") from None

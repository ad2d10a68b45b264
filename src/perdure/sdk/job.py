"""A call as the server made it: which run, which step, and what its finished steps left."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perdure.protocol import capabilities
from perdure.protocol.payloads import without_lone_surrogates
from perdure.sdk.errors import UsageError

DISCOVERY = "step"
"""Step id of a call that asks what comes next, in place of the hash of one step."""


class _Stack(msgspec.Struct, gc=False):
    stack: list[str] | None = None


class _Ctx(msgspec.Struct, gc=False):
    run_id: str = ""
    attempt: int = 0
    max_attempts: int | None = None
    fn_id: str | None = None
    qi_id: str | None = None
    disable_immediate_execution: bool = False
    stack: _Stack | None = None
    use_api: bool = False
    request_id: str | None = None
    generation_id: int | None = None


class _Body(msgspec.Struct, gc=False):
    event: msgspec.Raw = msgspec.Raw(b"{}")
    events: list[msgspec.Raw] | None = None
    steps: dict[str, msgspec.Raw] | None = None
    ctx: _Ctx = msgspec.field(default_factory=_Ctx)
    use_api: bool = False


class Job(msgspec.Struct, gc=False):
    """One call. `event`, `events` and the memos in `steps` are raw JSON until somebody asks for them.

    `target` is the hash of the step to run, None for a discovery. `attempt` counts from 0. `takes_many` says that the
    server takes the finished steps of many runs in one request, `takes_logs` that it takes log lines. `begun_ms` is
    when the call was begun here (ms since the epoch, 0 until then).
    """

    run_id: str
    target: str | None
    event: bytes
    events: list[bytes]
    steps: dict[str, bytes]
    attempt: int
    max_attempts: int
    plan_only: bool
    from_api: bool
    fn_id: str | None = None
    qi_id: str | None = None
    request_id: str | None = None
    generation: int | None = None
    takes_many: bool = False
    traceparent: str | None = None
    takes_logs: bool = False
    begun_ms: int = 0


DEFAULT_ATTEMPTS = 4
"""Attempts if neither the function nor the call says: three retries."""

_CAPABILITIES = capabilities.HEADER.lower()
_READ: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Body)


def read_job(body: bytes, step_id: str, headers: Mapping[str, str]) -> Job:
    """Read the body of a call. Raises UsageError if it is none."""
    try:
        read = _decoded(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(
            f"The body of the call cannot be read: {error}. Calls are made by a server."
        ) from None
    ctx = read.ctx
    event = bytes(read.event)
    generation = headers.get("x-inngest-generation-id", "")
    return Job(
        run_id=ctx.run_id or headers.get("x-run-id", ""),
        target=None if step_id in {"", DISCOVERY} else step_id,
        event=event,
        events=[bytes(one) for one in read.events or ()] or [event],
        steps={key: bytes(memo) for key, memo in (read.steps or {}).items()},
        attempt=ctx.attempt,
        max_attempts=ctx.max_attempts or DEFAULT_ATTEMPTS,
        plan_only=ctx.disable_immediate_execution,
        from_api=read.use_api or ctx.use_api,
        fn_id=ctx.fn_id,
        qi_id=ctx.qi_id,
        request_id=headers.get("x-request-id") or ctx.request_id,
        generation=int(generation) if generation.isdigit() else ctx.generation_id,
        takes_many=capabilities.offers(headers.get(_CAPABILITIES, ""), capabilities.CHECKPOINTS),
        traceparent=headers.get("traceparent"),
        takes_logs=capabilities.offers(headers.get(_CAPABILITIES, ""), capabilities.LOGS),
    )


def _decoded(body: bytes) -> _Body:
    try:
        return _READ.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _READ.decode(without_lone_surrogates(body))

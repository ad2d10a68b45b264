"""The data of the server's own events: a run has ended, a function is called, a schedule has come due.

Built by joining bytes, for a run's event and output may be megabytes that nobody here needs to read. Keys are
in sorted order.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from perdure.protocol.failures import ErrorInfo
from perdure.protocol.payloads import json_string

FINISHED = "inngest/function.finished"
FAILED = "inngest/function.failed"
CANCELLED = "inngest/function.cancelled"
INVOKED = "inngest/function.invoked"
SCHEDULED = "inngest/scheduled.timer"

_NO_USER = b',"user":{}}'


def ended_event_data(
    *,
    status: str,
    function_slug: str,
    run_id: str,
    events: Sequence[bytes],
    result: bytes | None = None,
    error: ErrorInfo | None = None,
    correlation_id: str | None = None,
) -> bytes:
    """Data of `function.finished`, and of `function.failed` or `function.cancelled` beside it.

    `status` is `Completed`, `Failed` or `Cancelled`; `events` are the run's trigger events as calls carry
    them. A run that was cancelled has neither result nor error; of a run that failed, `result` is its output.
    """
    parts = [b'{"_inngest":{"status":', json_string(status), b"}"]
    if correlation_id:
        parts += [b',"correlation_id":', json_string(correlation_id)]
    if error is not None:
        parts += [b',"error":', error.json()]
    entries = b",".join(_without_empty_user(event) for event in events)
    parts += [
        b',"event":',
        events[0],
        b',"events":[',
        entries,
        b'],"function_id":',
        json_string(function_slug),
    ]
    if result is not None:
        parts += [b',"result":', result]
    parts += [b',"run_id":', json_string(run_id), b"}"]
    return b"".join(parts)


def unstarted_event_data(*, function_slug: str, run_id: str, correlation_id: str, error: bytes) -> bytes:
    """Data of `function.finished` for an invoked function that got no run; `error` is the JSON of the reason."""
    return b'{"correlation_id":%b,"error":%b,"function_id":%b,"run_id":%b}' % (
        json_string(correlation_id),
        error,
        json_string(function_slug),
        json_string(run_id),
    )


def invoked_event_data(
    *,
    data: bytes,
    function_slug: str,
    correlation_id: str = "",
    source_app_id: str = "",
    source_function_id: str = "",
    expires_at: int = 0,
    step_name: str = "",
    group_id: str = "",
) -> bytes:
    """Data of `function.invoked`: the caller's `data` (a JSON object), with the invocation added as
    `_inngest`.

    All but the first two are left empty when the call comes from outside a run. `expires_at` is in ms since
    the epoch.
    """
    body = data.strip()
    if b"_inngest" in body or b"\\u" in body:
        body = _without_invocation(body)
    correlation = b'"correlation_id":' + json_string(correlation_id) + b"," if correlation_id else b""
    invocation = (
        b'{"_inngest":{%b"expire":%d,"fn_id":%b,"gid":%b,"name":%b,"source_app_id":%b,"source_fn_id":%b,"source_fn_v":%d}'
    ) % (
        correlation,
        expires_at,
        json_string(function_slug),
        json_string(group_id),
        json_string(step_name),
        json_string(source_app_id),
        json_string(source_function_id),
        1 if correlation_id else 0,
    )
    rest = body[1:].lstrip()
    return invocation + (rest if rest[:1] == b"}" else b"," + rest)


def _without_invocation(body: bytes) -> bytes:
    """The object without a key `_inngest`, so that nobody can pass for a step that invokes."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    if "_inngest" not in fields:
        return body
    del fields["_inngest"]
    return msgspec.json.encode(fields)


def scheduled_event_data(cron: str, scheduled_at: str, fire_at: str) -> bytes:
    """Data of `scheduled.timer`; both times are RFC 3339, and differ only by jitter."""
    return b'{"cron":%b,"fireAt":%b,"scheduledAt":%b}' % (
        json_string(cron),
        json_string(fire_at),
        json_string(scheduled_at),
    )


def _without_empty_user(event: bytes) -> bytes:
    """Entries of `events` have no `user` when it is empty; in a body with sorted keys it is then the last one."""
    return event[: -len(_NO_USER)] + b"}" if event.endswith(_NO_USER) else event

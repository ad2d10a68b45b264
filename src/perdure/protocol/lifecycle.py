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


class Invocation(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who calls a function, and until when they wait: `data._inngest` of the event that calls it.

    All but `fn_id` is empty when the call comes from outside a run. `expire` is in ms since the epoch, `ts`
    is RFC 3339.
    """

    fn_id: str
    correlation_id: str = ""
    expire: int = 0
    gid: str = ""
    name: str = ""
    source_app_id: str = ""
    source_fn_id: str = ""
    traceparent: str = ""
    span_id: str = ""
    ts: str = ""

    def json(self) -> bytes:
        """The `_inngest` object, keys in sorted order."""
        text = json_string
        parts = []
        if self.correlation_id:
            parts.append(b'"correlation_id":' + text(self.correlation_id))
        parts += [b'"expire":%d' % self.expire, b'"fn_id":' + text(self.fn_id), b'"gid":' + text(self.gid)]
        parts.append(b'"name":' + text(self.name))
        parts.append(b'"source_app_id":' + text(self.source_app_id))
        parts += [
            b'"source_fn_id":' + text(self.source_fn_id),
            b'"source_fn_v":%d' % bool(self.correlation_id),
        ]
        if self.traceparent:
            context = b'{"sid":' + text(self.span_id) + b',"traceparent":' + text(self.traceparent) + b"}"
            parts.append(b'"tc":{"ctx":' + context + b',"ts":' + text(self.ts) + b"}")
        return b"{" + b",".join(parts) + b"}"


def finished_event_data(
    function_id: str,
    run_id: str,
    event: bytes,
    events: Sequence[bytes],
    result: bytes,
    correlation_id: str | None = None,
) -> bytes:
    """Data of `function.finished` for a run that completed with `result` (JSON).

    `function_id` is the slug; `event` is the run's first event and `events` all of them, as calls carry them.
    """
    return _ended("Completed", function_id, run_id, event, events, result, None, correlation_id)


def failed_event_data(
    function_id: str,
    run_id: str,
    event: bytes,
    events: Sequence[bytes],
    result: bytes,
    error: ErrorInfo,
    correlation_id: str | None = None,
) -> bytes:
    """Data of both `function.failed` and `function.finished` for a run that failed; `result` is its output."""
    return _ended("Failed", function_id, run_id, event, events, result, error, correlation_id)


def cancelled_event_data(
    function_id: str, run_id: str, event: bytes, events: Sequence[bytes], correlation_id: str | None = None
) -> bytes:
    """Data of both `function.cancelled` and `function.finished` for a run that was cancelled: no result, no error."""
    return _ended("Cancelled", function_id, run_id, event, events, None, None, correlation_id)


def invoked_event_data(data: bytes, invocation: Invocation) -> bytes:
    """Data of `function.invoked`: the caller's `data` (a JSON object) with the invocation added as `_inngest`."""
    body = data.strip()
    if b"_inngest" in body or b"\\u" in body:
        body = _without_invocation(body)
    rest = body[1:].lstrip()
    comma = b"" if rest[:1] == b"}" else b","
    return b'{"_inngest":' + invocation.json() + comma + rest


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


def _ended(
    status: str,
    function_id: str,
    run_id: str,
    event: bytes,
    events: Sequence[bytes],
    result: bytes | None,
    error: ErrorInfo | None,
    correlation_id: str | None,
) -> bytes:
    parts = [b'{"_inngest":{"status":"', status.encode(), b'"}']
    if correlation_id:
        parts += [b',"correlation_id":', json_string(correlation_id)]
    if error is not None:
        parts += [b',"error":', error.json()]
    parts += [b',"event":', event, b',"events":[', b",".join(_without_empty_user(each) for each in events)]
    parts += [b'],"function_id":', json_string(function_id)]
    if result is not None:
        parts += [b',"result":', result]
    parts += [b',"run_id":', json_string(run_id), b"}"]
    return b"".join(parts)


def _without_empty_user(event: bytes) -> bytes:
    """Entries of `events` have no `user` when it is empty; in a body with sorted keys it is then the last one."""
    return event[: -len(_NO_USER)] + b"}" if event.endswith(_NO_USER) else event

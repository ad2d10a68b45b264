"""What a function can ask the server for: the steps that do not run in the app. Each is one op of the wire.

The names and options are those that the official SDKs send, so that every server understands them. What comes
back is decoded by the function that the ask carries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from perdure.protocol.durations import format_time
from perdure.sdk import codec
from perdure.sdk.durations import Duration, Moment, duration_text, milliseconds, moment_ms, moment_text
from perdure.sdk.errors import UsageError
from perdure.sdk.events import Event, EventType, read_event
from perdure.sdk.function import Function
from perdure.sdk.options import condition_of, event_name


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One thing to ask for: the step's id as written, the op, its `name` where that carries a payload, options.

    `bare` says that the memo is the value itself (sleep, wait for an event), not wrapped in `data`.
    """

    step_id: str
    op: str
    decode: Callable[[bytes], Any]
    name: str | None = None
    opts: bytes | None = None
    bare: bool = False


class Response(msgspec.Struct, frozen=True):
    """What `step.fetch` got: any HTTP response, whatever its status."""

    url: str
    status_code: int
    headers: dict[str, str]
    body: str

    def json(self) -> Any:
        """The body, read as JSON. Raises ValueError if it is none."""
        return msgspec.json.decode(self.body)


class Signal(msgspec.Struct, frozen=True):
    """A signal that was waited for: its name, and the data it was sent with."""

    signal: str
    data: Any = None


def sleep(step_id: str, duration: Duration, now_ms: int) -> Ask:
    """Sleep for a while. The server is told the moment of waking, so that a late answer lengthens nothing."""
    until = now_ms + milliseconds(duration, f"step.sleep({step_id!r})")
    return Ask(step_id, "Sleep", _nothing, format_time(until), bare=True)


def sleep_until(step_id: str, moment: Moment) -> Ask:
    until = moment_ms(moment, f"step.sleep_until({step_id!r})")
    return Ask(step_id, "Sleep", _nothing, moment_text(until), bare=True)


def wait_for_event(
    step_id: str,
    event: EventType[Any] | str,
    timeout: Duration | Moment,
    when: str | None,
    match: str | None,
    lookback: Duration | None,
) -> Ask:
    what = f"step.wait_for_event({step_id!r})"
    opts = {"timeout": _timeout(timeout, what), "if": condition_of(when, match, what)}
    if lookback is not None:
        opts["lookback"] = duration_text(lookback, what)
    decode = codec.plain if isinstance(event, str) else event.decode

    def read(raw: bytes) -> Event[Any] | None:
        return None if raw == b"null" else read_event(raw, decode)

    return Ask(step_id, "WaitForEvent", read, event_name(event), _opts(opts), bare=True)


def wait_for_signal(
    step_id: str, signal: str, timeout: Duration | Moment, on_conflict: Literal["fail", "replace"]
) -> Ask:
    opts = {
        "signal": signal,
        "timeout": _timeout(timeout, f"step.wait_for_signal({step_id!r})"),
        "conflict": on_conflict,
    }
    return Ask(step_id, "WaitForSignal", _SIGNAL, signal, _opts(opts))


def invoke(
    step_id: str,
    function: Function[Any, Any] | str,
    data: object,
    timeout: Duration | None,
    user: Mapping[str, Any] | None,
) -> Ask:
    """Call another function: an object of this app, or the slug (`<app>-<function>`) of any app's."""
    what = f"The data of step.invoke({step_id!r})"
    raw = b"{}" if data is None else codec.encode(data, what)
    if raw[:1] != b"{":
        raise UsageError(
            f"{what} must be an object (a dict, a dataclass, a model), since they become an event's data."
        )
    payload: dict[str, Any] = {"data": msgspec.Raw(raw)}
    if user:
        payload["user"] = msgspec.Raw(codec.encode(dict(user), what))
    slug = function if isinstance(function, str) else function.slug
    opts: dict[str, Any] = {"function_id": slug, "payload": payload}
    if timeout is not None:
        opts["timeout"] = duration_text(timeout, f"step.invoke({step_id!r})")
    decode = codec.plain if isinstance(function, str) else function.decode_output
    return Ask(step_id, "InvokeFunction", decode, None, _opts(opts))


def fetch(
    step_id: str,
    url: str,
    method: str,
    headers: Mapping[str, str] | None,
    body: str | bytes | None,
    json: object,
) -> Ask:
    sent = dict(headers or {})
    if json is not None:
        body = codec.encode(json, f"The json of step.fetch({step_id!r})")
        sent.setdefault("content-type", "application/json")
    text = body.decode() if isinstance(body, bytes) else body or ""
    opts = {"url": url, "method": method.upper(), "headers": sent, "body": text}
    return Ask(step_id, "Gateway", _RESPONSE, None, _opts(opts))


def infer(
    step_id: str,
    url: str,
    format: str,
    auth_key: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None,
) -> Ask:
    opts = {
        "type": "step.ai.infer",
        "url": url,
        "format": format,
        "auth_key": auth_key,
        "headers": dict(headers or {}),
        "body": msgspec.Raw(codec.encode(dict(body), f"The body of step.ai.infer({step_id!r})")),
    }
    return Ask(step_id, "AIGateway", codec.plain, None, _opts(opts))


_RESPONSE = codec.decoder(Response)
_SIGNAL = codec.decoder(Signal | None)


def _nothing(_: bytes) -> None:
    return None


def _timeout(given: Duration | Moment, what: str) -> str:
    if isinstance(given, datetime):
        return moment_text(moment_ms(given, what))
    return duration_text(given, what)


def _opts(fields: dict[str, Any]) -> bytes:
    return msgspec.json.encode(fields)

"""What particular ops ask for: when a sleep ends, what a wait is for, whom an invoke calls, what a request
sends.

SDKs disagree on where they put it. JavaScript and Python keep a sleep's time and a wait's event in the op's
`name`; Go keeps them in `opts` and has the step's name in `name`. Where both are given, `opts` wins. Each
reader raises `failures.OpError` if the op cannot be carried out.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit

import msgspec

from perdure.protocol.durations import parse_duration, parse_instant
from perdure.protocol.failures import OpError
from perdure.protocol.ops import Op
from perdure.protocol.payloads import NULL, unquoted

DAY_MS = 24 * 60 * 60 * 1000

MAX_AHEAD_MS = 366 * DAY_MS
MAX_LOOKBACK_MS = DAY_MS
"""How far back a wait can look (Perdure's own)."""
"""How far ahead a sleep, or the timeout of a wait, may lie (protocol limits table)."""

INVOKE_TIMEOUT_MS = 365 * DAY_MS
"""How long an invoke waits if it does not say (protocol limits table: one year)."""

TOO_LONG = "InngestErrTimeoutTooLong"


class WaitOptions(msgspec.Struct, frozen=True, gc=False):
    """A wait for an event: its name, a CEL condition if any, and when it times out (ms since the epoch).

    `lookback_ms`, Perdure's own, is how far back it looks; None leaves that to the server.
    """

    event: str
    expression: str | None
    expires_ms: int
    lookback_ms: int | None = None


class SignalOptions(msgspec.Struct, frozen=True, gc=False):
    """A wait for a signal; `replace` takes the name away from a run that already waits for it."""

    signal: str
    expires_ms: int
    replace: bool


class InvokeOptions(msgspec.Struct, frozen=True, gc=False):
    """A function to call, by slug or UUID, with an event of these fields (JSON objects)."""

    function_id: str
    data: bytes
    user: bytes
    v: str | None
    meta: bytes | None
    expires_ms: int


class GatewayOptions(msgspec.Struct, frozen=True):
    """An HTTP request to make for the run (`step.fetch`). `publish` is JSON naming a realtime topic, or None."""

    url: str
    method: str
    headers: dict[str, str]
    body: bytes
    publish: bytes | None = None


class InferOptions(msgspec.Struct, frozen=True):
    """A request to a model provider (`step.ai.infer`).

    `body` is JSON, sent as it came. `auth_key` is a secret: never show it.
    """

    url: str
    format: str
    auth_key: str
    headers: dict[str, str]
    body: bytes
    publish: bytes | None = None

    def request_url(self) -> str:
        """The URL to POST to. Gemini takes its key there."""
        if self.format != "gemini" or not self.auth_key or "key=" in urlsplit(self.url).query:
            return self.url
        return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode({'key': self.auth_key})}"

    def request_headers(self) -> dict[str, str]:
        """All headers to send, names in lower case; the app's own win over those of the format."""
        headers = {"content-type": "application/json"}
        if self.auth_key:
            if self.format == "anthropic":
                headers["x-api-key"] = self.auth_key
            elif self.format == "bedrock":
                headers["authorization"] = self.auth_key
            elif self.format != "gemini":
                headers["authorization"] = f"Bearer {self.auth_key}"
        return headers | {name.lower(): value for name, value in self.headers.items()}


class _Fields(msgspec.Struct, gc=False):
    """Every option that some op has; which of them count is up to the op."""

    duration: msgspec.Raw = msgspec.Raw()
    event: msgspec.Raw = msgspec.Raw()
    timeout: msgspec.Raw = msgspec.Raw()
    condition: msgspec.Raw = msgspec.field(default=msgspec.Raw(), name="if")
    signal: msgspec.Raw = msgspec.Raw()
    conflict: msgspec.Raw = msgspec.Raw()
    function_id: msgspec.Raw = msgspec.Raw()
    payload: msgspec.Raw = msgspec.Raw()
    lookback: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    method: msgspec.Raw = msgspec.Raw()
    headers: msgspec.Raw = msgspec.Raw()
    body: msgspec.Raw = msgspec.Raw()
    publish: msgspec.Raw = msgspec.Raw()
    format: msgspec.Raw = msgspec.Raw()
    auth_key: msgspec.Raw = msgspec.Raw()


class _Payload(msgspec.Struct, gc=False):
    data: msgspec.Raw = msgspec.Raw()
    user: msgspec.Raw = msgspec.Raw()
    v: msgspec.Raw = msgspec.Raw()
    meta: msgspec.Raw = msgspec.Raw()


_FIELDS: msgspec.json.Decoder[_Fields] = msgspec.json.Decoder(_Fields)
_PAYLOAD: msgspec.json.Decoder[_Payload] = msgspec.json.Decoder(_Payload)
_HEADERS: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NO_FIELDS = _Fields()


def sleep_until(op: Op, now_ms: int) -> int:
    """When a sleep ends (ms since the epoch); `now_ms` if it names no time or a past one."""
    fields = _fields(op)
    text = _text(fields.duration) or op.name
    until = _moment(
        text,
        now_ms,
        f'The sleep "{text}" is neither a duration such as "1h30m" nor a time such as "2030-01-31T09:00:00Z".',
    )
    if until - now_ms > MAX_AHEAD_MS:
        raise OpError(
            TOO_LONG,
            f'The sleep "{text}" ends more than one year in the future; sleeps may last at most one year.',
        )
    return until


def wait_options(op: Op, now_ms: int) -> WaitOptions:
    """What a `WaitForEvent` waits for. The expression is not looked at. No timeout means that it times out at once."""
    fields = _fields(op)
    event = _text(fields.event) or op.name
    if not event:
        raise OpError("Error", "An event name must be provided when waiting for an event.")
    expires = _expiry(_text(fields.timeout), now_ms, f'wait for "{event}"', 0)
    return WaitOptions(
        event, _text(fields.condition) or None, expires, _lookback(_text(fields.lookback), event)
    )


def _lookback(text: str, event: str) -> int | None:
    if not text:
        return None
    try:
        back = parse_duration(text)
    except ValueError:
        raise OpError("Error", f'The lookback "{text}" of the wait for "{event}" is no duration.') from None
    if back < 0:
        raise OpError("Error", f'The lookback "{text}" of the wait for "{event}" is less than nothing.')
    return min(back, MAX_LOOKBACK_MS)


def signal_options(op: Op, now_ms: int) -> SignalOptions:
    """What a `WaitForSignal` waits for. No timeout means that it times out at once."""
    fields = _fields(op)
    signal = _text(fields.signal) or op.name
    if not signal:
        raise OpError("Error", "A signal name must be provided when waiting for a signal.")
    expires = _expiry(_text(fields.timeout), now_ms, f'wait for the signal "{signal}"', 0)
    return SignalOptions(signal, expires, _text(fields.conflict) == "replace")


def invoke_options(op: Op, now_ms: int) -> InvokeOptions:
    """Whom an `InvokeFunction` calls. An empty `function_id` names no function, and is for the caller to refuse."""
    fields = _fields(op)
    function_id = _text(fields.function_id)
    expires = _expiry(_text(fields.timeout), now_ms, f'invoke of "{function_id}"', INVOKE_TIMEOUT_MS)
    try:
        payload = _PAYLOAD.decode(fields.payload) if _given(fields.payload) else _Payload()
    except msgspec.DecodeError:
        raise OpError(
            "Error", f'The payload of the invoke of "{function_id}" must be a JSON object.'
        ) from None
    return InvokeOptions(
        function_id,
        _object(payload.data, f'The data of the invoke of "{function_id}"') or b"{}",
        _object(payload.user, f'The user of the invoke of "{function_id}"') or b"{}",
        _text(payload.v) or None,
        _object(payload.meta, f'The meta of the invoke of "{function_id}"'),
        expires,
    )


def gateway_options(op: Op) -> GatewayOptions:
    """The request that a `Gateway` op asks for; POST unless it says otherwise."""
    fields = _fields(op)
    return GatewayOptions(
        _url(fields, "GatewayError", "gateway"),
        (_text(fields.method) or "POST").upper(),
        _header_map(fields.headers),
        _plain(fields.body),
        _raw_or_none(fields.publish),
    )


def infer_options(op: Op) -> InferOptions:
    """The request that an `AIGateway` op asks for. The format is OpenAI's unless it says otherwise."""
    fields = _fields(op)
    return InferOptions(
        _url(fields, "AIGatewayError", "AI"),
        _text(fields.format) or "openai-chat",
        _text(fields.auth_key),
        _header_map(fields.headers),
        _raw_or_none(fields.body) or b"{}",
        _raw_or_none(fields.publish),
    )


def _fields(op: Op) -> _Fields:
    return _NO_FIELDS if op.opts is None or op.opts == b"{}" else _FIELDS.decode(op.opts)


def _text(raw: msgspec.Raw) -> str:
    text = unquoted(bytes(raw))
    return text.decode() if text is not None else ""


def _given(raw: msgspec.Raw) -> bool:
    value = bytes(raw)
    return value not in {b"", NULL}


def _raw_or_none(raw: msgspec.Raw) -> bytes | None:
    return bytes(raw) if _given(raw) else None


def _object(raw: msgspec.Raw, what: str) -> bytes | None:
    if not _given(raw):
        return None
    value = bytes(raw)
    if value[:1] != b"{":
        raise OpError("Error", f"{what} must be a JSON object.")
    return value


def _plain(raw: msgspec.Raw) -> bytes:
    """A body given as a string is sent as that text; any other JSON as it is."""
    value = bytes(raw)
    text = unquoted(value)
    if text is not None:
        return text
    return value if _given(raw) else b""


def _header_map(raw: msgspec.Raw) -> dict[str, str]:
    """Headers by name; lists of values are joined, values of other types written as JSON."""
    try:
        values = _HEADERS.decode(raw) if _given(raw) else {}
    except msgspec.DecodeError:
        return {}
    return {name: _header_value(bytes(value)) for name, value in values.items() if bytes(value) != NULL}


def _header_value(value: bytes) -> str:
    text = unquoted(value)
    if text is not None:
        return text.decode()
    if value[:1] == b"[":
        return ", ".join(
            _header_value(bytes(part)) for part in msgspec.json.decode(value, type=list[msgspec.Raw])
        )
    return value.decode()


def _url(fields: _Fields, name: str, kind: str) -> str:
    url = _text(fields.url).strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise OpError(name, f'Error making {kind} request: "{url}" is not an http or https URL')
    return url


def _expiry(text: str, now_ms: int, what: str, default_ms: int) -> int:
    if not text:
        return now_ms + default_ms
    expires = _moment(text, now_ms, f'The timeout "{text}" of the {what} is neither a duration nor a time.')
    if expires - now_ms > MAX_AHEAD_MS:
        raise OpError(
            TOO_LONG,
            f'The timeout "{text}" of the {what} is more than one year in the future; it may be at most one year.',
        )
    return expires


def _moment(text: str, now_ms: int, complaint: str) -> int:
    """The moment that a duration or a time names, not before `now_ms`."""
    text = text.strip()
    if not text:
        return now_ms
    try:
        return max(now_ms, parse_instant(text, now_ms))
    except ValueError:
        raise OpError("Error", complaint) from None

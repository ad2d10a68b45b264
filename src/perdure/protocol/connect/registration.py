"""An app that a worker announces, as the registration that an app over HTTP would send."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from perdure.protocol.connect.wire import WireError
from perdure.protocol.payloads import json_string

_LIST = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_STEPS = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])


def app_url(app: str) -> str:
    """The URL of an app that is called through its workers: nobody listens there."""
    return f"ws://connect?app_name={quote(app, safe='')}"


def read_slugs(functions: bytes) -> frozenset[str]:
    """The ids in a JSON array of configurations. Raises `WireError` if it is none."""
    try:
        items = _LIST.decode(functions or b"[]")
        return frozenset(msgspec.json.decode(item["id"], type=str) for item in items if "id" in item)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the functions cannot be read: {error}") from None


def registration_body(
    app: str, app_version: str, functions: bytes, *, sdk: str, framework: str, platform: str, key: str
) -> bytes:
    """The body of the registration; `key` is the same for workers that are alike.

    SDKs say of each function where it is called in many ways, over HTTP too: all are called by the app's own URL. What
    is wrong with a configuration is for the registration to say; what cannot be read at all raises `WireError`.
    """
    try:
        items = _LIST.decode(functions or b"[]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"the functions cannot be read: {error}") from None
    runtime = msgspec.Raw(msgspec.json.encode({"type": "ws", "url": app_url(app)}))
    for item in items:
        _call_at(item, runtime)
    fields = {
        "url": app_url(app),
        "deployType": "connect",
        "appName": app,
        "appVersion": app_version,
        "framework": framework,
        "platform": platform,
        "sdk": sdk,
        "v": "1",
        "idempotencyKey": key,
        "functions": items,
    }
    return msgspec.json.encode(fields)


def _call_at(item: dict[str, msgspec.Raw], runtime: msgspec.Raw) -> None:
    """Put where a function is called into its configuration, as far as that can be read."""
    try:
        steps = _STEPS.decode(item["steps"])
    except (KeyError, msgspec.MsgspecError):
        return
    for step in steps.values():
        step["runtime"] = runtime
    item["steps"] = msgspec.Raw(msgspec.json.encode(steps))


def trace_context(traceparent: str) -> bytes:
    """The context of a trace, as JSON."""
    return b'{"traceparent":%b}' % json_string(traceparent)

"""Sessions of an event: which longer stories (a conversation, an order) it belongs to.

A client writes two layers. `meta.sessions` is what the sender chose; a null there takes a session away. What
an SDK carries over from the run that sends the event is `meta.propagated_sessions`. They are folded into one
when the event comes in, so that everything behind knows only `meta.sessions`.
"""

from __future__ import annotations

import msgspec

from perdure.protocol.raw_json import kind

MAX_SESSIONS = 5
MAX_KEY_BYTES = 128
MAX_ID_BYTES = 512

MAX_META_BYTES = 64 * 1024
"""Largest `meta` that is read: more than ten times what five sessions of the longest kind take."""

_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_ENCODER = msgspec.json.Encoder()


def fold_sessions(meta: bytes) -> bytes | None:
    """The `meta` that is stored and delivered, `{"sessions":{…}}`, or None if no session remains.

    Manual entries win over propagated ones; a null takes a propagated one away, and `sessions: null` all of
    them; what is left is filled up to five in the order of the keys. Numbers become their decimal text. Other
    keys of `meta` are dropped. Raises ValueError with the sentence for the client.
    """
    if len(meta) > MAX_META_BYTES:
        raise ValueError(
            f'event field "meta" is over the max size: Max {MAX_META_BYTES} bytes / Size {len(meta)} bytes'
        )
    layers = _RAW_FIELDS.decode(meta)
    manual = _layer(layers, "sessions")
    propagated = _layer(layers, "propagated_sessions")
    sessions = {key: session for key, session in manual.items() if session is not None}
    if len(sessions) > MAX_SESSIONS:
        raise ValueError(f"event sessions can include at most {MAX_SESSIONS} entries")
    if bytes(layers.get("sessions", b"")) != b"null":
        for key in sorted(propagated, key=_utf16):
            session = propagated[key]
            if session is not None and key not in manual and len(sessions) < MAX_SESSIONS:
                sessions[key] = session
    if not sessions:
        return None
    return _ENCODER.encode({"sessions": {key: sessions[key] for key in sorted(sessions, key=_utf16)}})


def _layer(layers: dict[str, msgspec.Raw], name: str) -> dict[str, str | None]:
    raw = bytes(layers.get(name, b"null"))
    if raw == b"null":
        return {}
    if raw[:1] != b"{":
        raise ValueError(f'event field "meta.{name}" must be an object or null, not {kind(raw)}')
    return {key: _session(key, bytes(value)) for key, value in _RAW_FIELDS.decode(raw).items()}


def _session(key: str, raw: bytes) -> str | None:
    """The id of one session; None for null."""
    if not key:
        raise ValueError("event session keys cannot be empty")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ValueError(f'event session key "{key}" exceeds {MAX_KEY_BYTES} bytes')
    found = kind(raw)
    if found == "null":
        return None
    if found not in ("a string", "a number"):
        raise ValueError(f'event session "{key}" must be a string or number')
    session = _TEXT.decode(raw) if found == "a string" else raw.decode()
    if not session:
        raise ValueError(f'event session "{key}" cannot have an empty ID')
    if len(session.encode()) > MAX_ID_BYTES:
        raise ValueError(f'event session "{key}" exceeds {MAX_ID_BYTES} bytes')
    return session


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")

"""End-to-end encryption of payloads: the server stores and shows what only the app can read.

The algorithm and the form are those of the encryption packages of the official SDKs (NaCl's secretbox, the key a
BLAKE2b hash of a text), so apps on either read each other's payloads if they share a key:

    {"__ENCRYPTED__": true, "__STRATEGY__": "inngest/libsodium", "data": "<base64 of nonce and ciphertext>"}
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import msgspec

from perdure.sdk import codec
from perdure.sdk.errors import UsageError
from perdure.sdk.middleware import Middleware, MiddlewareError, Payload

MARKER = "__ENCRYPTED__"
STRATEGY = "__STRATEGY__"
SECRETBOX = "inngest/libsodium"
EVENT_FIELD = "encrypted"
KEY_BYTES = 32


class Encryption(Middleware):
    """Encrypts results of steps and functions, data of signals, and one field of the data of events.

    The first key encrypts, all are tried to decrypt: to change keys, deploy `Encryption(old, new)` everywhere, then
    `Encryption(new, old)`, and leave the old one out when no run needs it any more. A key is a long random text, or
    32 bytes. Of an event only what stands under `event_field` in its data is encrypted, so that expressions, keys
    and the dashboard still see the rest. `decrypt_only` encrypts nothing: for the way out.

    Not encrypted is what the server itself works with: names and ids, texts of errors, log lines, and the requests
    of `step.fetch` and `step.ai.infer`. Raises UsageError without a key, or without PyNaCl.
    """

    def __init__(
        self, *keys: str | bytes, event_field: str = EVENT_FIELD, decrypt_only: bool = False
    ) -> None:
        if not keys:
            raise UsageError(
                "Encryption needs a key, a long random text, such as `openssl rand -hex 32` makes: "
                "Encryption(os.environ[...])."
            )
        try:
            from nacl.secret import SecretBox
        except ImportError:
            raise UsageError("Encryption needs PyNaCl: pip install pynacl") from None
        self._boxes = [SecretBox(_key(key)) for key in keys]
        self._event_field = event_field
        self._decrypt_only = decrypt_only

    def transform_output(self, value: Any, payload: Payload) -> Any:
        if self._decrypt_only:
            return value
        if payload.kind != "event":
            return msgspec.Raw(self._encrypt(value))
        secret = value.get(self._event_field) if isinstance(value, dict) else None
        if secret is None or _is_encrypted(secret):
            return value
        return {**value, self._event_field: msgspec.Raw(self._encrypt(secret))}

    def transform_input(self, value: Any, payload: Payload) -> Any:
        return self._decrypted(value, payload)

    def _encrypt(self, value: object) -> bytes:
        sealed = self._boxes[0].encrypt(codec.encode(value, "What is to be encrypted"))
        return msgspec.json.encode(
            {MARKER: True, STRATEGY: SECRETBOX, "data": base64.b64encode(sealed).decode()}
        )

    def _decrypted(self, value: Any, payload: Payload) -> Any:
        """The value with all that is encrypted in it in the clear: an event may hold another one, or a result."""
        if isinstance(value, list):
            return [self._decrypted(one, payload) for one in value]
        if not isinstance(value, dict):
            return value
        if not _is_encrypted(value):
            return {name: self._decrypted(one, payload) for name, one in value.items()}
        clear = msgspec.Raw(self._open(value, payload))
        # Servers add fields of their own to the data of an event that invokes a function.
        besides = {name: one for name, one in value.items() if name not in {MARKER, STRATEGY, "data"}}
        if besides and bytes(clear)[:1] == b"{":
            return {**besides, **codec.plain(bytes(clear))}
        return clear

    def _open(self, sealed: dict[str, Any], payload: Payload) -> bytes:
        strategy, data = sealed.get(STRATEGY), sealed.get("data")
        if strategy != SECRETBOX or not isinstance(data, str):
            raise MiddlewareError(
                f"{_capital(payload)} is encrypted in a way that Encryption does not know ({STRATEGY} is {strategy!r}; "
                f"it knows {SECRETBOX!r}). Write a middleware that decrypts it, and put it before Encryption."
            )
        from nacl.exceptions import CryptoError

        try:
            raw = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise MiddlewareError(
                f"{_capital(payload)} is marked as encrypted, but holds no base64."
            ) from None
        for box in self._boxes:
            try:
                return bytes(box.decrypt(raw))
            except (CryptoError, ValueError, TypeError):
                continue
        count = f"any of the {len(self._boxes)} keys" if len(self._boxes) > 1 else "the key"
        raise MiddlewareError(
            f"{_capital(payload)} cannot be decrypted with {count} that Encryption was given: it was encrypted with "
            "another one, or was changed on its way. If the key has been changed lately, name the old one too, after "
            "the new one: Encryption(new, old). The call is tried again, so nothing is lost if that is soon."
        )


def _key(key: str | bytes) -> bytes:
    if isinstance(key, str):
        if not key.strip():
            raise UsageError("A key of Encryption is an empty text. Is the environment variable set?")
        return hashlib.blake2b(key.encode(), digest_size=KEY_BYTES).digest()
    if len(key) != KEY_BYTES:
        raise UsageError(
            f"A key of Encryption has {len(key)} bytes; bytes must be {KEY_BYTES} (a text may be any)."
        )
    return key


def _is_encrypted(value: object) -> bool:
    return isinstance(value, dict) and value.get(MARKER) is True


def _capital(payload: Payload) -> str:
    text = str(payload)
    return text[0].upper() + text[1:]

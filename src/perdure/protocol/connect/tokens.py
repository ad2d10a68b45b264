"""The session token that a worker gets over HTTP and shows when it connects: a JSON Web Token, signed with HS256."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import msgspec

from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID

ISSUER = "connect.inngest.com"
AUDIENCE = "gateway.connect.inngest.com"
LIFETIME_S = 300
"""How long a worker has between asking for a connection and opening it, in seconds."""

_HEADER = msgspec.json.encode({"alg": "HS256", "typ": "JWT"})


def make_token(secret: bytes, now_s: int) -> str:
    """A token that is good for `LIFETIME_S` from now (seconds since the epoch)."""
    claims = {
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "iat": now_s,
        "exp": now_s + LIFETIME_S,
        "accountID": ACCOUNT_ID,
        "env": ENVIRONMENT_ID,
    }
    signed = b"%b.%b" % (_encoded(_HEADER), _encoded(msgspec.json.encode(claims)))
    return (signed + b"." + _encoded(_mac(secret, signed))).decode()


def check_token(token: str, secret: bytes, now_s: int) -> bool:
    """Whether a token was made with this secret and has not expired."""
    signed, _, signature = token.encode("utf-8", "replace").rpartition(b".")
    if not hmac.compare_digest(_encoded(_mac(secret, signed)), signature):
        return False
    claims: dict[str, Any] = msgspec.json.decode(_decoded(signed.rpartition(b".")[2]))
    return claims["iss"] == ISSUER and AUDIENCE in claims["aud"] and now_s < claims["exp"]


def _mac(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, hashlib.sha256)


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))

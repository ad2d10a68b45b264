"""Identifiers on the wire: ULIDs of events, runs and requests, UUIDs of apps and functions, hashes of step
ids.

A ULID is 48 bits of milliseconds and 80 bits of entropy, written as 26 characters of Crockford's base 32,
upper case. A client that may send a request twice gives a seed, from which both tries derive the same ULIDs.
Because of that, the time in a ULID is the client's claim: it says nothing about what was received first.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import uuid

import msgspec
from ulid_transform import bytes_to_ulid, ulid_to_timestamp

ACCOUNT_ID = "00000000-0000-4000-a000-000000000000"
"""The one account of a single-tenant server."""

ENVIRONMENT_ID = "00000000-0000-4000-b000-000000000000"
"""The one environment of a single-tenant server."""

_APP_NAMESPACE = uuid.NAMESPACE_OID
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_MILLIS = re.compile(r"[0-9]{1,15}")
_MAX_MILLIS = 2**48 - 1
_ENTROPY_BYTES = 10
_COUNTER = 2**32


class Seed(msgspec.Struct, frozen=True, gc=False):
    """What a client gives so that sending the same events again gives them the same ids.

    `millis` is the time part of the ULIDs (ms since the epoch), `entropy` 10 bytes, of which the last four
    are a counter.
    """

    millis: int
    entropy: bytes


def new_ulid(now_ms: int, entropy: bytes) -> str:
    """The ULID of a time (ms since the epoch, below 2**48) and 10 bytes of entropy.

    Raises ValueError if the entropy has another length, OverflowError if the time does not fit.
    """
    return bytes_to_ulid(now_ms.to_bytes(6, "big") + entropy)


def is_ulid(text: str) -> bool:
    """Whether a text is a ULID as this protocol writes them (upper case)."""
    return _ULID.fullmatch(text) is not None


def ulid_time_ms(text: str) -> int:
    """The time in a ULID, in ms since the epoch. Raises ValueError if the text is not a ULID."""
    if not is_ulid(text):
        raise ValueError(
            f"{text[:40]!r} is not a ULID: 26 characters of upper-case Crockford base 32 were expected."
        )
    return ulid_to_timestamp(text)


def parse_seed(header: str | None) -> Seed | None:
    """Read an `x-inngest-event-id-seed` header, `<millis>,<base64 of 10 bytes>`.

    None without a header, and for one that cannot be read: a bad seed is ignored, never an error.
    """
    if header is None:
        return None
    millis, _, encoded = header.partition(",")
    if not _MILLIS.fullmatch(millis) or int(millis) > _MAX_MILLIS:
        return None
    try:
        entropy = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        return None
    return Seed(int(millis), entropy) if len(entropy) == _ENTROPY_BYTES else None


def seed_ulid(seed: Seed, position: int) -> str:
    """The ULID that a seed gives to the event at a position: the first event of a request is at 1, a direct
    invoke at 0.

    The position is added to the last four bytes of the entropy, which wrap around.
    """
    entropy = seed.entropy
    counter = (int.from_bytes(entropy[6:], "big") + position) % _COUNTER
    return bytes_to_ulid(seed.millis.to_bytes(6, "big") + entropy[:6] + counter.to_bytes(4, "big"))


def app_uuid(app_name: str) -> str:
    """The id of an app: the same for the same name on every server, the reference server included."""
    return str(uuid.uuid5(_APP_NAMESPACE, app_name))


def function_uuid(app_name: str, slug: str) -> str:
    """The id of a function: the same for the same app name and composite slug."""
    return str(uuid.uuid5(uuid.uuid5(_APP_NAMESPACE, app_name), slug))


def hash_step_id(user_id: str, index: int = 0) -> str:
    """The id of a step on the wire: hex SHA-1 of the id that the user wrote.

    `index` counts the uses of one id within a run; from the second on it is part of what is hashed (`id:1`,
    `id:2`, …).
    """
    text = user_id if index == 0 else f"{user_id}:{index}"
    return hashlib.sha1(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()

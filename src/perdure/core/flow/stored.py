"""What a rule remembers about one key: small frozen values that a store keeps as bytes, one row a key.

They are JSON arrays, so that a row can be read by a person and stays short. A field added later needs a default;
a row written before it then still reads.
"""

from __future__ import annotations

from typing import Self

import msgspec


class Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A value that a store can keep."""

    def encode(self) -> bytes:
        """The value as a store keeps it."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """The value that `encode` wrote. Raises msgspec.DecodeError if `raw` is anything else."""
        return msgspec.json.decode(raw, type=cls)


class Arrival(Stored, frozen=True):
    """An event as the rules see it.

    `receipt` is the shard's own number of it, `id` the event's id, `ts` the time that its sender gave (ms since
    1970), `size` the bytes of its body. `correlation` names the step that invoked the function by it, if one did.
    """

    receipt: int
    id: str
    ts: int
    size: int
    correlation: str | None = None

"""Which step is meant."""

from __future__ import annotations

import msgspec


class Key(msgspec.Struct, frozen=True, gc=False):
    """Which step: its hash on the wire, the id as written, how often that id was used before."""

    hash: str
    step_id: str
    index: int

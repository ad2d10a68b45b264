"""How much is killed how often. `make test` takes a part; `make kill` the whole, by these environment variables."""

from __future__ import annotations

import os
import random
import secrets
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Size:
    """So many runs under way while so many kills happen."""

    runs: int
    kills: int


@pytest.fixture
def size() -> Size:
    """KILL_RUNS and KILL_TIMES, 300 and 3 by default."""
    return Size(int(os.environ.get("KILL_RUNS", "300")), int(os.environ.get("KILL_TIMES", "3")))


@pytest.fixture
def entropy() -> random.Random:
    """Where the random moments come from. KILL_SEED sets them as in an earlier run, which printed its seed."""
    seed = os.environ.get("KILL_SEED") or secrets.token_hex(4)
    print(f"KILL_SEED={seed}")
    return random.Random(seed)

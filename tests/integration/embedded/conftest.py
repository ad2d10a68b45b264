"""How much is killed how often: EMBEDDED_RUNS (500) and EMBEDDED_KILLS (2)."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.embedded.workers import Crew


@dataclass(frozen=True)
class Size:
    """So many runs under way while so many kills happen."""

    runs: int
    kills: int


@pytest.fixture
def size() -> Size:
    return Size(int(os.environ.get("EMBEDDED_RUNS", "500")), int(os.environ.get("EMBEDDED_KILLS", "2")))


@pytest.fixture
def entropy() -> random.Random:
    """Where the random moments come from. KILL_SEED sets them as in an earlier run, which printed its seed."""
    seed = os.environ.get("KILL_SEED") or secrets.token_hex(4)
    print(f"KILL_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    processes = Crew(tmp_path)
    yield processes
    processes.close()

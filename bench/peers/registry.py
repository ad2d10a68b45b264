"""The peers by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.peers import dbos, restate

PEERS: dict[str, Callable[[set[str], Path], Awaitable[dict[str, float]]]] = {
    "restate": restate.measure,
    "dbos-sqlite": dbos.on_sqlite,
    "dbos-postgres": dbos.on_postgres,
}

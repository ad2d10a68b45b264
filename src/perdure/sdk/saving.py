"""Where a running call has its finished steps saved, as the call sees it; `checkpointing` does it."""

from __future__ import annotations

from typing import Protocol

from perdure.sdk.job import Job


class Checkpoints(Protocol):
    """Where a running call posts its finished steps. `post` is true if they are saved, and may raise `Stale`."""

    limit: int
    max_runtime_ns: int | None

    async def post(self, job: Job, steps: list[bytes]) -> bool: ...


class Stale(Exception):
    """Another call has taken over the run: this one must stop."""

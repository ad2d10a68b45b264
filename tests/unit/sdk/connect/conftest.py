"""A worker beside a test's gateway, with patience made short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

import perdure
from perdure.sdk.connect import replies, worker


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of seconds become some hundredths."""
    monkeypatch.setattr(worker, "LOOK_S", 0.02)
    monkeypatch.setattr(worker, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(worker, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(worker, "RETIRE_S", 0.1)
    monkeypatch.setattr(worker, "OWN_LEASE_S", 0.05)
    monkeypatch.setattr(replies, "CONFIRM_S", 0.3)
    monkeypatch.setattr(replies, "PAUSE_S", (0.02, 0.1))


Start = Callable[..., "asyncio.Task[None]"]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Gives a function that starts a worker of an app, which is stopped when the test ends."""
    started: list[asyncio.Task[None]] = []

    def begin(app: perdure.App, *others: perdure.App, **options: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(
            app.connect(*others, **{"shutdown_signals": (), "drain_timeout": 1, **options})
        )
        started.append(task)
        return task

    yield begin
    for task in started:
        task.cancel()
    for task in started:
        with suppress(asyncio.CancelledError, perdure.ConnectError, perdure.UsageError):
            async with asyncio.timeout(10):
                await task

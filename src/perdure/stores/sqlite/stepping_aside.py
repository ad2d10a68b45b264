"""Lets a thread get on beside a busy event loop.

A busy loop can starve a thread. Between two statements the thread needs the interpreter's lock; a loop that never
runs dry lets go of that lock for some microseconds at each poll, and takes it back before the thread has woken up.
Only after a wait of a whole switch interval would the interpreter insist, and each of these short releases starts
that wait anew. With callbacks of 0.1 to 1 ms and the default interval of 5 ms, commits of 2 ms were measured to take 2
to 50 seconds; with the lines below, 4 ms, and 13 at most.

So a loop that waits for a job of a thread steps aside, a little in each millisecond, once that takes long.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

PATIENCE_SECONDS = 0.002
"""How long a job may take before the loop steps aside for it."""

EVERY_SECONDS = 0.001
"""How often it then does so."""

ASIDE_SECONDS = 0.0003
"""For how long, or until the job is done. When the job waits for a slow disk, this costs the loop a quarter of its
time for nothing."""


def step_aside(future: asyncio.Future[Any], running: threading.Lock) -> None:
    """Step aside from time to time until `future` is done. The thread holds `running` for as long as it works."""
    future.get_loop().call_later(PATIENCE_SECONDS, _step, future, running)


def _step(future: asyncio.Future[Any], running: threading.Lock) -> None:
    if not future.done() and not running.acquire(timeout=ASIDE_SECONDS):
        future.get_loop().call_later(EVERY_SECONDS, _step, future, running)


def held_lock() -> threading.Lock:
    """A lock that is held from the start: by whoever does the job, to be released at its end."""
    lock = threading.Lock()
    lock.acquire()
    return lock

"""Notices code that blocks the event loop, and says where.

While calls are under way a beat is noted on the loop ten times a second. A thread looks whether it is late; if
so, it takes down where the loop's thread is at that moment, so the warning names the line that blocks.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import weakref
from typing import Protocol

from perdure.sdk.places import place

log = logging.getLogger("perdure")

BEAT_S = 0.1
LIMIT_S = 0.5
"""How long a loop may stand still before it is worth a warning, in seconds."""


class Watched(Protocol):
    """A call under way."""

    def owns(self, task: object) -> bool: ...

    @property
    def slug(self) -> str: ...


class LoopWatch:
    """Watches one loop, as long as calls are under way on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._thread_id = threading.get_ident()
        self._calls: set[Watched] = set()
        self._beat = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._awake = threading.Event()
        self._warned = 0.0
        self._stopped = False
        self.blocked = ""
        """What has blocked the loop lately: a function, and its line."""
        threading.Thread(target=self._watch, name="perdure-watch", daemon=True).start()

    def begin(self, call: Watched) -> None:
        """A call has begun."""
        self._calls.add(call)
        if self._timer is None:
            self._tick()
            self._awake.set()

    def end(self, call: Watched) -> None:
        """A call has ended."""
        self._calls.discard(call)

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped = True
        self._awake.set()

    def _tick(self) -> None:
        self._beat = time.monotonic()
        loop = self._loop()
        if self._calls and loop is not None:
            self._timer = loop.call_later(BEAT_S, self._tick)
        else:
            self._timer = None
            self._awake.clear()

    def _watch(self) -> None:
        while self._loop() is not None and not self._stopped:
            if not self._awake.wait(timeout=5):
                continue
            time.sleep(BEAT_S)
            beat = self._beat
            if self._timer is not None and time.monotonic() - beat > LIMIT_S and beat != self._warned:
                self._warned = beat
                self._warn()

    def _warn(self) -> None:
        loop = self._loop()
        frame = sys._current_frames().get(self._thread_id)
        if loop is None or frame is None or loop.is_closed():
            return
        task = asyncio.current_task(loop)
        slug = next((call.slug for call in list(self._calls) if call.owns(task)), None)
        if slug is None:
            return
        where = place(frame) or "somewhere in a library"
        self.blocked = f"{slug}, {where}"
        log.warning(
            "%s has blocked the event loop for more than %.1f s: %s. Nothing else can go on meanwhile. Await what it "
            "waits for, or put it into a plain `def` and give that to step.run, which runs it in a thread.",
            slug,
            LIMIT_S,
            where,
        )


_WATCHES: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWatch] = weakref.WeakKeyDictionary()


def watch_of(loop: asyncio.AbstractEventLoop) -> LoopWatch:
    """The watch of the running loop."""
    watch = _WATCHES.get(loop)
    if watch is None:
        watch = _WATCHES[loop] = LoopWatch(loop)
    return watch


def stop_watching(loop: asyncio.AbstractEventLoop) -> None:
    """End the watch of a loop, which otherwise ends some seconds after the loop: for whoever makes many."""
    watch = _WATCHES.pop(loop, None)
    if watch is not None:
        watch.stop()

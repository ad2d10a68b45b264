"""What a test is told of code that comes to no end: in which line of the author's its tasks and threads stand."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import perdure
from perdure.sdk.blocking import watch_of
from perdure.sdk.places import place
from perdure.testing.failures import NotSettled

_OWN = str(Path(perdure.__file__).parent)
_THREADS = ("perdure-step", "perdure-function")
_SHOWN = 5


def circle(slug: str, calls: Counter[str]) -> NotSettled:
    """A function starts itself again and again; `calls` are those of this moment."""
    counts = ", ".join(f"{name} {count} times" for name, count in calls.most_common(3))
    return NotSettled(
        f"{slug} runs in circles without any time passing (calls so far: {counts}). Does it send an event that starts "
        "it again, directly or by way of another function?"
    )


def blocked(seconds: float) -> NotSettled:
    """The event loop has stood still for that long."""
    where = watch_of(asyncio.get_running_loop()).blocked
    return NotSettled(
        f"Code has blocked the event loop for {seconds:.1f} seconds of real time{where and f': {where}'}. Nothing else "
        "can go on meanwhile, in production either. Await what it waits for, or put it into a plain `def` and give "
        "that to step.run, which runs it in a thread."
    )


def stands_still(under_way: Counter[str], patience: float) -> NotSettled:
    """Nothing has happened for that long; `under_way` are the functions that run."""
    slugs = [slug for slug, count in under_way.items() if count > 0]
    places = list(dict.fromkeys([*_in_tasks(), *_in_threads()]))[:_SHOWN]
    doing = ", ".join(slugs) + (f", at {'; '.join(places)}" if places else "")
    return NotSettled(
        f"Nothing has happened for {patience:g} seconds of real time, and this still runs: {doing or 'the engine'}. "
        "Virtual time cannot bring it to an end: it waits for a real timer, a network or a lock. Let a stand-in do its "
        "work (mock_step), use step.sleep in place of asyncio.sleep, or raise `patience` if it is only slow."
    )


def _in_tasks() -> list[str]:
    """The innermost line of the author's in each task that a step or a function runs in."""
    current = asyncio.current_task()
    found = []
    for task in asyncio.all_tasks():
        frames = [] if task is current else _frames(task.get_coro())
        if any(frame.f_code.co_filename.startswith(_OWN) for frame in frames):
            theirs = (frame for frame in reversed(frames) if "site-packages" not in frame.f_code.co_filename)
            found += [text for frame in theirs if (text := place(frame))][:1]
    return found


def _frames(awaited: Any) -> list[FrameType]:
    """The frames of a coroutine and of what it awaits, the outermost first."""
    frames = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            frames.append(frame)
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return frames


def _in_threads() -> list[str]:
    frames = sys._current_frames()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith(_THREADS)]
    return [
        text
        for thread in threads
        if (text := place(frames.get(thread.ident or 0))) and thread.ident in frames
    ]

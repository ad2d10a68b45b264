"""Where code stands that does not go on: in which line of the author's, of tasks and of threads."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import perdure

_OWN = str(Path(perdure.__file__).parent)
_STDLIB = str(Path(asyncio.__file__).parent.parent)
_THREADS = ("perdure-step", "perdure-function")


def standing(under_way: Counter[str]) -> str:
    """The functions under way, and the lines at which their code waits."""
    slugs = [slug for slug, count in under_way.items() if count > 0]
    if not slugs:
        return "the engine itself (this is a bug in Perdure)"
    places = list(dict.fromkeys([*_in_tasks(), *_in_threads()]))
    return ", ".join(slugs) + (f", at {'; '.join(places[:5])}" if places else "")


def _in_tasks() -> list[str]:
    """The innermost line of the author's in each task that a step or a function runs in."""
    current = asyncio.current_task()
    found = []
    for task in asyncio.all_tasks():
        if task is not current:
            frames = _frames(task.get_coro())
            if any(frame.f_code.co_filename.startswith(_OWN) for frame in frames):
                found += [_shown(frame) for frame in reversed(frames) if _is_theirs(frame)][:1]
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
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0) if thread.name.startswith(_THREADS) else None
        while frame is not None and not _is_theirs(frame):
            frame = frame.f_back
        if frame is not None:
            found.append(_shown(frame))
    return found


def _is_theirs(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return not (name.startswith((_OWN, _STDLIB, "<frozen")) or "site-packages" in name)


def _shown(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}, line {frame.f_lineno}, in {frame.f_code.co_name}"

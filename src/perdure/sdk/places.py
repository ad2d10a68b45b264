"""Where in the author's code something happens: what an error should name first."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_STDLIB = (asyncio.__file__.rpartition(f"{os.sep}asyncio{os.sep}")[0], "<frozen")
_LOOPS = {"asyncio.runners", "asyncio.base_events", "asyncio.events", "uvloop"}
_LIBRARIES = f"{os.sep}site-packages{os.sep}"


def place(frame: FrameType | None = None) -> str:
    """The innermost line of the author's code, `jobs.py:12, in fulfil`, of a frame or of whoever calls this.

    Empty if none of the frames is the author's. Code of installed packages counts only if there is no other.
    """
    frames = list(_outwards(frame or sys._getframe(1)))
    authors = [one for one in frames if not one.f_code.co_filename.startswith((_OWN, *_STDLIB))]
    mine = [one for one in authors if _LIBRARIES not in one.f_code.co_filename] or authors
    if not mine:
        return ""
    found = mine[0]
    return f"{_short(found.f_code.co_filename)}:{found.f_lineno}, in {found.f_code.co_name}"


def defined_at(code: Callable[..., Any]) -> str:
    """Where a function is written, `jobs.py:12`; empty if that cannot be told."""
    target: Any = code
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__wrapped__", target)
    target = getattr(target, "__func__", target)
    found = getattr(target, "__code__", None)
    return "" if found is None else f"{_short(found.co_filename)}:{found.co_firstlineno}"


def at(where: str) -> str:
    """A place as it stands in a sentence: ` (jobs.py:12, in fulfil)`, or nothing."""
    return f" ({where})" if where else ""


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of a task or a thread: below the event loop stands whoever has started it."""
    while frame is not None and frame.f_globals.get("__name__") not in _LOOPS:
        yield frame
        frame = frame.f_back


def _short(path: str) -> str:
    """A path as seen from where the process was started, if it lies below."""
    here = os.getcwd() + os.sep
    return path[len(here) :] if path.startswith(here) else path

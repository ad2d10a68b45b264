"""Strands: the places at which a function's code goes on, so that a call can tell when it stands still.

An async function is one task and all the tasks that are born in it: by `asyncio.gather`, a TaskGroup,
`create_task`. A sync function is a thread, and those of its `step.parallel`. Each is a strand. A call must know
when every strand waits for a step: then all steps of this round are known, and the call can run the only one,
or tell the server of several.

**How births are seen.** A task factory, which asyncio offers for such uses, is put before the loop's own. It
looks at a context variable: a task that is created inside a function belongs to that function's call, all
others pass through. What a step's own code creates is none of the function's strands.

**When does a strand stand still?** When it waits for a step, and also when it has children that are not done:
a parent waits for its children, be it in a gather, at the end of a TaskGroup or in `asyncio.wait`. So the call
stands still when all strands without living children wait for steps. A strand that awaits something else, such
as a query, is busy, and keeps the round open. For a while: a background task of a library may have been born
in the function and never end, so after `PATIENCE_S` strands that are still busy no longer count. Ending a round
too early is no fault, as what comes later is found in the next one; not ending it would be.
"""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Protocol

from perdure.sdk.job import Job
from perdure.sdk.key import Key
from perdure.sdk.step_logs import StepLogs

PATIENCE_S = 1.0
"""How long a strand that awaits something other than a step keeps a round open, in seconds."""


TARGET_PATIENCE_S = 300.0
"""The same in a call for one step, before the code has come to it: concluding that it never will is an error."""


class Owner(Protocol):
    """A call, as its strands see it."""

    job: Job
    loop: asyncio.AbstractEventLoop
    now_ns: Callable[[], int]
    over: bool
    strands: Strands
    step_logs: StepLogs | None

    def strands_moved(self) -> None: ...

    def abandon(self) -> None: ...

    @property
    def slug(self) -> str: ...

    @property
    def replaying(self) -> bool: ...


CURRENT: contextvars.ContextVar[Owner | None] = contextvars.ContextVar("perdure_call", default=None)
"""The call whose function is running here."""

IN_STEP: contextvars.ContextVar[Key | None] = contextvars.ContextVar("perdure_step", default=None)
"""The step whose code is running here."""


class Strands:
    """The strands of one call. Used on the call's loop only."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parents: dict[Hashable, Hashable | None] = {}
        self._children: dict[Hashable, int] = {}
        self._waiting: set[Hashable] = set()
        self._ignored: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._parents)

    def begin(self, strand: Hashable, parent: Hashable | None) -> None:
        """A strand is born."""
        self._parents[strand] = parent
        if parent is not None and parent in self._parents:
            self._children[parent] = self._children.get(parent, 0) + 1

    def end(self, strand: Hashable) -> None:
        """A strand is done."""
        if strand not in self._parents:
            return
        parent = self._parents.pop(strand)
        self._waiting.discard(strand)
        self._ignored.discard(strand)
        if parent is not None and parent in self._children:
            self._children[parent] -= 1
        self._owner.strands_moved()

    def ancestors(self, strand: Hashable) -> set[Hashable]:
        """The strands in which this one was born, those that are alive."""
        found: set[Hashable] = set()
        parent = self._parents.get(strand)
        while parent is not None and parent not in found:
            found.add(parent)
            parent = self._parents.get(parent)
        return found

    def knows(self, strand: Hashable) -> bool:
        return strand in self._parents

    def wait(self, strand: Hashable) -> None:
        """A strand begins to wait for a step."""
        self._waiting.add(strand)
        self._owner.strands_moved()

    def go_on(self, strand: Hashable) -> None:
        """A strand has what it waited for."""
        self._waiting.discard(strand)
        self._ignored.discard(strand)

    def busy(self) -> list[Hashable]:
        """Strands that may still come to a step in this round."""
        children, waiting, ignored = self._children, self._waiting, self._ignored
        return [
            strand
            for strand in self._parents
            if strand not in waiting and strand not in ignored and not children.get(strand)
        ]

    def ignore(self, strands: list[Hashable]) -> None:
        """Let strands no longer keep the round open, until they come to a step."""
        self._ignored.update(strands)

    def waiting(self) -> list[Hashable]:
        return list(self._waiting)

    def tasks(self) -> list[asyncio.Task[Any]]:
        """All strands that are tasks, and not threads."""
        return [strand for strand in self._parents if isinstance(strand, asyncio.Task)]

    def adopt(self, task: asyncio.Task[Any], parent: Hashable | None) -> None:
        """Take a task in, until it is done."""
        self.begin(task, parent)
        task.add_done_callback(self.end)


Factory = Callable[..., "asyncio.Future[Any]"]
_INSTALLED: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Factory] = weakref.WeakKeyDictionary()


def watch_births(loop: asyncio.AbstractEventLoop) -> None:
    """See to it that tasks born in functions on this loop are known to their calls."""
    ours = _INSTALLED.get(loop)
    if ours is not None and loop.get_task_factory() is ours:
        return
    factory = _factory(loop.get_task_factory())
    loop.set_task_factory(factory)
    _INSTALLED[loop] = factory


def _factory(previous: Factory | None) -> Factory:
    def born(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> Any:
        task: Any = (
            asyncio.Task(work, loop=loop, **options) if previous is None else previous(loop, work, **options)
        )
        owner = CURRENT.get()
        if owner is not None and IN_STEP.get() is None and isinstance(task, asyncio.Task) and not task.done():
            parent = asyncio.current_task(loop)
            if not owner.strands.knows(task):
                owner.strands.adopt(task, parent)
        return task

    return born

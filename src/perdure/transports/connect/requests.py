"""Calls that are at workers: who has them, for how long, and whether they were acknowledged.

A call is open from the moment at which it is given to a worker until its answer is taken, or it is given up. Two
clocks run for it: it must be acknowledged soon, and its lease must be extended again and again. Both have a constant
length, so that what was put last runs out last, and no heap is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from perdure.protocol.calls import Call, CallAnswer, CallFailure

if TYPE_CHECKING:
    from perdure.transports.connect.connection import WorkerConnection

Done = Callable[[CallAnswer | CallFailure], None]

_T = TypeVar("_T")


class CallTarget(msgspec.Struct, frozen=True, gc=False):
    """What a call is for. `step_id` is the hash of a step, or `step` for a discovery."""

    request_id: str
    app: str
    slug: str
    run_id: str
    n: int
    generation: int
    step_id: str = "step"
    job_id: str = ""
    trace: bytes = b"{}"
    """The trace's context, as JSON."""


class Request:
    """A call that is open. `call` is None for one that an earlier process has made."""

    __slots__ = ("acknowledged", "call", "connection", "done", "lease", "passed", "previous", "target")

    def __init__(self, target: CallTarget, call: Call | None, done: Done) -> None:
        self.target = target
        self.call = call
        self.done = done
        self.connection: WorkerConnection | None = None
        """The worker that has it; None while its socket is lost."""
        self.acknowledged = call is None
        self.lease = ""
        """Id of its lease; empty as long as any is good, since only an earlier process knew it."""
        self.previous = ""
        """The lease before, good still: the answer that told of the new one may have been lost with a socket."""
        self.passed: set[str] = set()
        """Connections to which it was given without being acknowledged."""

    def holds(self, lease: str) -> bool:
        """Whether who names this lease is the one that the call was given to."""
        return not self.lease or lease in (self.lease, self.previous)


class Deadlines(Generic[_T]):
    """Things that run out so long (ms) after they were put, unless they are dropped, or put again."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._due: OrderedDict[str, tuple[int, _T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._due)

    def put(self, key: str, value: _T, now: int) -> None:
        """Let it run out `after` from now on."""
        self._due[key] = (now + self._after, value)
        self._due.move_to_end(key)

    def drop(self, key: str) -> None:
        """It does not run out any more."""
        self._due.pop(key, None)

    def next_time(self) -> int | None:
        """When the next one runs out."""
        for due, _ in self._due.values():
            return due
        return None

    def take_due(self, now: int) -> list[_T]:
        """Take off those that have run out."""
        found = []
        while self._due:
            key, (due, value) = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[key]
            found.append(value)
        return found

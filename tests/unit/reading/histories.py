"""Runs for tests of what is read from them: a history written entry by entry, as the engine writes it."""

from __future__ import annotations

from typing import Any

import msgspec

from perdure.core.history import (
    CallNote,
    CheckpointNote,
    CopiedNote,
    CutNote,
    EndedNote,
    InvokedNote,
    Note,
    OpNote,
    QueuedNote,
    RequestNote,
    ResumedNote,
    encode,
)
from perdure.protocol.ids import hash_step_id
from perdure.reading.port import EventRecord, HistoryRecord, ItemRecord, RunRecord, StepHead, WholeRun

RUN = "01M86GK8V66NXW7WZ3PXJYCW9R"
EVENT = "01M86GK8TA7MYN108A3EK163BG"
T0 = 1_795_515_000_000

_KINDS: dict[type, str] = {
    CallNote: "call",
    CheckpointNote: "checkpoint",
    InvokedNote: "invoked",
    ResumedNote: "resumed",
    RequestNote: "request",
    QueuedNote: "queued",
    CopiedNote: "copied",
    CutNote: "cut",
    EndedNote: "ended",
}


def op(code: str, step: str, **more: Any) -> OpNote:
    """An operation of an answer."""
    return OpNote(code, hash_step_id(step), step, **more)


class History:
    """Writes the history of one run. Times are ms after its creation."""

    def __init__(self) -> None:
        self._entries: list[HistoryRecord] = []
        self._steps: list[StepHead] = []
        self._items: list[ItemRecord] = []
        self.add(0, QueuedNote(EVENT, "test/it"))

    def add(self, at: int, note: Note) -> History:
        n = len(self._entries) + 1
        self._entries.append(HistoryRecord(RUN, n, T0 + at, _KINDS[type(note)], encode(note)))
        return self

    def call(
        self, at: int, *ops: OpNote, item: int = 2, attempt: int = 0, status: int = 206, **more: Any
    ) -> History:
        """A call that took 10 ms and was queued 10 ms before."""
        if isinstance(more.get("error"), bytes):
            more["error"] = msgspec.Raw(more["error"])
        note = CallNote(
            item, attempt, attempt + 1, T0 + at - 20, T0 + at - 10, status=status, ops=list(ops), **more
        )
        return self.add(at, note)

    def checkpoint(self, at: int, *ops: OpNote, item: int = 2) -> History:
        return self.add(at, CheckpointNote(item, 1, list(ops)))

    def resumed(self, at: int, step: str, how: str, item: int = 5, event: str = "") -> History:
        return self.add(at, ResumedNote(item, hash_step_id(step), how, step, event))

    def ended(self, at: int, status: str, reason: str = "", holder: str = "") -> History:
        return self.add(at, EndedNote(status, reason, holder))

    def step(self, step: str, code: str, at: int, failed: bool = False) -> History:
        """A recorded step."""
        self._steps.append(StepHead(hash_step_id(step), len(self._steps), step, code, T0 + at, failed))
        return self

    def item(
        self, kind: str, n: int = 2, step: str = "", in_flight: bool = False, attempt: int = 0
    ) -> History:
        """Something that is still to happen."""
        step_id = hash_step_id(step) if step else ""
        self._items.append(
            ItemRecord(RUN, n, "f-1", kind, step_id, step, T0 + 100, T0 + 90, attempt, 1, in_flight)
        )
        return self

    def run(
        self,
        status: str = "RUNNING",
        *,
        started: int | None = 5,
        ended: int | None = None,
        output: bytes | None = None,
    ) -> WholeRun:
        """The run with this history."""
        run = RunRecord(
            RUN, "f-1", status, EVENT, (EVENT,), "test/it", T0,
            None if started is None else T0 + started, None if ended is None else T0 + ended, None, None, output,
        )  # fmt: skip
        body = b'{"data":{"id":"7"},"id":"x","name":"test/it","ts":1,"user":{}}'
        event = EventRecord(1, EVENT, "test/it", "x", 1, T0, False, body)
        return WholeRun(run, [event], self._steps, self._items, [], self._entries)

"""The history of a run as older clients read it: one item for each thing that happened."""

from __future__ import annotations

import msgspec

from perdure.core.history import CallNote, CheckpointNote, EndedNote, OpNote, ResumedNote
from perdure.core.model import RunStatus
from perdure.protocol.ids import new_ulid
from perdure.reading.port import HistoryRecord, WholeRun
from perdure.reading.timeline import FINISHING, REQUESTS
from perdure.server.graphql.values import time_text

_ENDS = {
    RunStatus.COMPLETED: "FunctionCompleted",
    RunStatus.FAILED: "FunctionFailed",
    RunStatus.CANCELLED: "FunctionCancelled",
    RunStatus.SKIPPED: "FunctionSkipped",
}
_OPS = {
    "StepRun": "StepCompleted",
    "Step": "StepCompleted",
    "StepError": "StepErrored",
    "StepFailed": "StepFailed",
    "StepPlanned": "StepScheduled",
    "Sleep": "StepSleeping",
    "WaitForEvent": "StepWaiting",
    "WaitForSignal": "StepWaiting",
    "InvokeFunction": "StepWaiting",
}
_KINDS = {
    "Sleep": "Sleep",
    "WaitForEvent": "Wait",
    "WaitForSignal": "Wait",
    "InvokeFunction": "Invoke",
}
_CALL = msgspec.json.Decoder(CallNote)
_CHECKPOINT = msgspec.json.Decoder(CheckpointNote)
_RESUMED = msgspec.json.Decoder(ResumedNote)
_ENDED = msgspec.json.Decoder(EndedNote)


def history_items(whole: WholeRun) -> list[dict[str, object]]:
    """What happened to a run, in order."""
    items: list[dict[str, object]] = []
    started = False

    def add(
        entry: HistoryRecord, type: str, attempt: int = 0, op: OpNote | None = None, reason: str = ""
    ) -> None:
        # The id has the entry's time, and is the same each time that it is asked for.
        place = (entry.n * 64 + len(items) % 64).to_bytes(10, "big")
        items.append(
            {
                "id": new_ulid(entry.at, place),
                "type": type,
                "attempt": attempt,
                "createdAt": time_text(entry.at),
                "stepName": op.name if op is not None else None,
                "stepType": _step_kind(op) if op is not None else None,
                "reason": reason or None,
            }
        )

    for entry in whole.history:
        if entry.kind == "queued":
            add(entry, "FunctionScheduled")
        elif entry.kind in ("call", "checkpoint"):
            if not started:
                started = True
                add(entry, "FunctionStarted")
            note = (_CALL if entry.kind == "call" else _CHECKPOINT).decode(entry.body)
            attempt = note.attempt if isinstance(note, CallNote) else 0
            for op in note.ops:
                known = _OPS.get(op.op) or ("StepScheduled" if op.op in REQUESTS else None)
                if known is not None:
                    add(entry, known, attempt, op)
        elif entry.kind == "resumed":
            resumed = _RESUMED.decode(entry.body)
            done = "StepFailed" if resumed.how == "failed" else "StepCompleted"
            add(entry, done, 0, OpNote("", resumed.step, resumed.name))
        elif entry.kind == "ended":
            ended = _ENDED.decode(entry.body)
            end = _ENDS.get(RunStatus(ended.status))
            if end is not None:
                add(entry, end, reason=ended.reason)
    return items


def _step_kind(op: OpNote) -> str | None:
    if op.op in FINISHING or op.op == "StepPlanned":
        return "Run"
    return "Request" if op.op in REQUESTS else _KINDS.get(op.op)

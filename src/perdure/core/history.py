"""What is written down when something happens to a run.

One entry for each thing that happened, at most two for an attempt. Payloads are not copied: the output of a
step stands in its step, the output of a run in the run, the trigger events in their events. Only the error
of an attempt that is tried again stands here, since it stands nowhere else.

Kinds and their fields (times are ms since the epoch):

- `queued`: the run was created. `event` is the id of its first event; `problems` what its rules could not compute.
- `copied`: the run is a rerun from a step: `run` is the original, `from` the step, `steps` the ids of those before
  it, which have its results; `edited` says that the step has other input.
- `call`: a call to the app ended. What was called (`step` is empty for a discovery), when it was queued and
  sent, the HTTP status (0 if none came), the operations that it answered with, the error if it failed, when
  it is tried again.
- `cut`: the server was stopped or killed in the middle of a call or a request, which is made again. It is no attempt
  that counts; when it left is not known any more.
- `invoked`: a step started a run of another function: the event that was sent, and the run.
- `checkpoint`: steps that a running call posted, as operations.
- `resumed`: something that the run waited for ended: `how` is `slept`, `matched`, `timeout`, `finished`,
  `signal`, `request` or `failed`, `event` the id of the event that did it.
- `request`: a request made for the run failed and is tried again.
- `metadata`: values attached to the run, or to a step.
- `ended`: the run's status, and for failures the error.
"""

from __future__ import annotations

import msgspec

from perdure.core.model import Item
from perdure.protocol.ops import Op

MAX_ERROR_BYTES = 64 * 1024
"""Longer errors of attempts are cut: history grows with every retry."""


class OpNote(msgspec.Struct, omit_defaults=True, gc=False):
    """An operation of an answer.

    `at` and `took` are the SDK's own timing in ms, `until` when a sleep or wait ends.
    """

    op: str
    id: str
    name: str
    type: str = ""
    at: float = 0
    took: float = 0
    until: int = 0
    event: str = ""
    expression: str = ""
    function: str = ""
    planned: bool = False
    size: int = 0


class CallNote(msgspec.Struct, omit_defaults=True, gc=False):
    """A call that ended."""

    item: int
    attempt: int
    generation: int
    queued: int
    sent: int
    step: str = ""
    name: str = ""
    status: int = 0
    ops: list[OpNote] = []
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    retry: int = 0
    end: bool = False


class CutNote(msgspec.Struct, gc=False):
    """A call or a request that the server did not live to see the end of."""

    item: int
    attempt: int
    generation: int
    queued: int
    step: str = ""
    error: msgspec.Raw = msgspec.Raw(
        b'{"name":"CutOff","message":"The server was stopped in the middle of this call. It is made again, and this '
        b'does not count as an attempt."}'
    )


class CheckpointNote(msgspec.Struct, omit_defaults=True, gc=False):
    """Steps that a running call posted."""

    item: int
    generation: int
    ops: list[OpNote] = []


class ResumedNote(msgspec.Struct, omit_defaults=True, gc=False):
    """Something waited for has ended."""

    item: int
    step: str
    how: str
    name: str = ""
    event: str = ""
    run: str = ""


class RequestNote(msgspec.Struct, omit_defaults=True, gc=False):
    """A request for the run failed and is tried again."""

    item: int
    step: str
    attempt: int
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    retry: int = 0


class QueuedNote(msgspec.Struct, omit_defaults=True, gc=False):
    """The run was created. `problems` are keys of rules that could not be computed for it, in words."""

    event: str
    name: str = ""
    invoked_by: str = ""
    problems: tuple[str, ...] = ()


class CopiedNote(msgspec.Struct, omit_defaults=True, gc=False, rename={"from_step": "from"}):
    """The run began with steps of another."""

    run: str
    from_step: str
    name: str
    steps: list[str] = []
    edited: bool = False


class InvokedNote(msgspec.Struct, omit_defaults=True, gc=False):
    """A step started a run of another function."""

    item: int
    step: str
    event: str
    run: str


class MetadataNote(msgspec.Struct, omit_defaults=True, gc=False):
    """Values were attached to a step, or to the run (`step` is empty). `values` is a JSON object."""

    kind: str
    op: str
    values: msgspec.Raw
    step: str = ""


class EndedNote(msgspec.Struct, omit_defaults=True, gc=False):
    """The run has ended. `holder` is the run because of which it was skipped."""

    status: str
    reason: str = ""
    holder: str = ""


Note = (
    CallNote
    | CheckpointNote
    | CutNote
    | ResumedNote
    | RequestNote
    | QueuedNote
    | CopiedNote
    | InvokedNote
    | MetadataNote
    | EndedNote
)
_encoder = msgspec.json.Encoder()


def encode(note: Note) -> bytes:
    """The entry's body."""
    return _encoder.encode(note)


def op_note(op: Op, **details: object) -> OpNote:
    """Write down an operation; `details` are further fields of `OpNote`."""
    note = OpNote(op.op, op.id, op.display_name, op.step_type or "", size=len(op.data))
    if op.timing is not None:
        note.at, note.took = op.timing[0] / 1e6, op.timing[1] / 1e6
    for key, value in details.items():
        setattr(note, key, value)
    return note


def call_note(
    item: Item, status: int, ops: list[OpNote], error: bytes | None, retry: int, end: bool
) -> bytes:
    """Body of a `call` entry."""
    return _encoder.encode(
        CallNote(
            item.n,
            item.attempt,
            item.generation,
            item.queued_at,
            item.sent_at,
            item.step_id,
            item.name,
            status,
            ops,
            msgspec.UNSET if error is None else msgspec.Raw(_cut(error)),
            retry,
            end,
        )
    )


def _cut(error: bytes) -> bytes:
    """The error as it is, or the beginning of a long one."""
    if len(error) <= MAX_ERROR_BYTES:
        return error
    text = error[:MAX_ERROR_BYTES].decode("utf-8", "replace")
    return msgspec.json.encode({"message": text, "cut": len(error)})

"""A recorded run, as `perdure export` writes it: what `replay_export` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from perdure.sdk.errors import UsageError

FORMAT = "perdure.run"
VERSION = 1
"""The newest version of the format that is understood."""

Source = str | os.PathLike[str] | bytes | Mapping[str, Any]
"""Where a recording is: a file, or the document itself as bytes or as a dict."""


class RecordedStep(msgspec.Struct, frozen=True):
    """A step that had finished: `id` is its hash on the wire, `name` its id in the code, `memo` its result."""

    id: str
    name: str
    op: str
    memo: msgspec.Raw


class RecordedRun(msgspec.Struct, frozen=True):
    """The run itself."""

    id: str
    status: str
    output: msgspec.Raw = msgspec.Raw(b"null")


class PendingItem(msgspec.Struct, frozen=True):
    """What was still to happen to it."""

    kind: str
    step: str | None = None
    name: str | None = None


class RecordedFunction(msgspec.Struct, frozen=True):
    """Its function."""

    slug: str


class Recording(msgspec.Struct, frozen=True):
    """All of it, as far as a replay needs it."""

    format: str
    version: int
    run: RecordedRun
    events: list[msgspec.Raw]
    steps: list[RecordedStep]
    function: RecordedFunction | None = None
    pending: list[PendingItem] = []

    @property
    def under_way(self) -> bool:
        """Whether the run had not ended."""
        return self.run.status in ("QUEUED", "RUNNING")


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0


def read_recording(source: Source) -> Recording:
    """Read a recording. Raises `UsageError` if it is none, or of a version that is not known here."""
    what, raw = _raw(source)
    try:
        head = msgspec.json.decode(raw, type=_Head)
        if head.format != FORMAT:
            raise UsageError(f"{what} is no export of a run; `perdure export RUN_ID -o run.json` makes one.")
        if head.version > VERSION:
            raise UsageError(
                f"{what} is an export of version {head.version}, and this Perdure knows those up to {VERSION}: "
                "it was made by a newer server. Upgrade Perdure here."
            )
        recording = msgspec.json.decode(raw, type=Recording)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{what} is no export of a run: {error}.") from None
    if not recording.events:
        raise UsageError(f"{what} has no events, so the function cannot be run for it.")
    return recording


def _raw(source: Source) -> tuple[str, bytes]:
    if isinstance(source, Mapping):
        return "The document", json.dumps(source).encode()
    if isinstance(source, bytes):
        return "The document", source
    path = Path(source)
    try:
        return str(path), path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from None

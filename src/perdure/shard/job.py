"""A job over many runs, and how far it is."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class JobKind(StrEnum):
    """What a job does with each run."""

    CANCEL = "cancel"
    REPLAY = "replay"


class JobState(StrEnum):
    """How far a job is."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job and its progress.

    It concerns runs of `function_id` that were created at `since` (ms) or later and before `until`, that have one of
    `statuses`, and for whose first event `condition` (CEL) holds. `cursor` is the time and id of the last run looked
    at. Of `seen` runs so far `done` were acted on; the others did not meet the condition, had changed meanwhile, or
    could not be (`refused`, with the last reason).
    """

    id: str
    kind: JobKind
    function_id: str
    slug: str
    app_id: str
    since: int
    until: int
    statuses: tuple[str, ...]
    created_at: int
    condition: str | None = None
    name: str | None = None
    state: JobState = JobState.RUNNING
    cursor: tuple[int, str] | None = None
    seen: int = 0
    done: int = 0
    refused: int = 0
    reason: str = ""
    ended_at: int | None = None

"""What pages and APIs may ask of the store, and the records that they get.

Reading is apart from the shard: it happens beside the writer and never holds it up, and it sees each commit
that had been reported done when the question was put. Answers are bounded: in number by `limit`, in time by
one second.

Times are ms since the epoch. Bodies, memos, outputs and configurations are JSON bytes, as they were stored.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class EventRecord(msgspec.Struct, frozen=True, gc=False):
    """A stored event. `id` is the sender's own id, or empty. `internal` marks the server's own
    (`inngest/...`)."""

    receipt: int
    internal_id: str
    name: str
    id: str
    ts: int
    received_at: int
    internal: bool
    body: bytes


class RunRecord(msgspec.Struct, frozen=True):
    """A run. `event_id` is the first of `event_ids`, its trigger events; `output` is None until it has
    ended."""

    id: str
    function_id: str
    status: str
    event_id: str
    event_ids: tuple[str, ...]
    event_name: str
    created_at: int
    started_at: int | None
    ended_at: int | None
    correlation: str | None
    original_run_id: str | None
    output: bytes | None


class StepRecord(msgspec.Struct, frozen=True, gc=False):
    """A finished step. `memo` is what calls carry for it."""

    run_id: str
    id: str
    position: int
    name: str
    op: str
    at: int
    memo: bytes


class ItemRecord(msgspec.Struct, frozen=True, gc=False):
    """Something that is still to happen to a run (protocol: a job). `kind` is one of
    `core.model.ItemKind`."""

    run_id: str
    n: int
    function_id: str
    kind: str
    step_id: str
    name: str
    due: int
    queued_at: int
    attempt: int
    generation: int
    in_flight: bool


class HistoryRecord(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to a run; `body` is JSON whose fields depend on `kind`."""

    run_id: str
    n: int
    at: int
    kind: str
    body: bytes


class AppRecord(msgspec.Struct, frozen=True, gc=False):
    """An app. `error` says why its last registration failed, or is empty."""

    id: str
    name: str
    url: str
    sdk: str
    framework: str
    app_version: str
    method: str
    checksum: str
    error: str
    created_at: int
    synced_at: int
    archived_at: int | None


class FunctionRecord(msgspec.Struct, frozen=True, gc=False):
    """A function of an app; `config` is its configuration as registered."""

    id: str
    app_id: str
    slug: str
    name: str
    config: bytes
    created_at: int
    archived_at: int | None


class Reader(Protocol):
    """Questions to the store. All may raise `StoreUnavailable`: it cannot be read now, or the answer takes
    too long."""

    async def list_events(
        self,
        *,
        name: str | None = None,
        received_after: int | None = None,
        received_before: int | None = None,
        before: str | None = None,
        limit: int = 20,
    ) -> list[EventRecord]:
        """Events, newest first by internal id, without the server's own. Both times are exclusive.

        `before` continues a page: the internal id of its last event. Events that share that id do not come
        again.
        """

    async def event(self, internal_id: str) -> EventRecord | None:
        """The event with this internal id; of several the one that came first."""

    async def runs_of_event(self, internal_id: str, *, after: str = "", limit: int = 1000) -> list[RunRecord]:
        """Runs that the event started, in the order of their ids. `after`, a run id, continues a page."""

    async def runs_of_function(
        self, function_id: str, *, before: str | None = None, limit: int = 20
    ) -> list[RunRecord]:
        """Runs of a function, newest first by id. `before`, a run id, continues a page."""

    async def run(self, run_id: str) -> RunRecord | None:
        """One run."""

    async def live_runs(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of runs that have not ended, in their order. `after`, a run id, continues a page."""

    async def events_of_run(self, run_id: str) -> list[EventRecord]:
        """The events that started the run, in the order in which calls carry them. Empty if there is no such
        run."""

    async def steps_of_run(self, run_id: str) -> list[StepRecord]:
        """Finished steps, in the order in which they finished."""

    async def items_of_run(self, run_id: str) -> list[ItemRecord]:
        """What is still to happen to the run, in the order of `n`."""

    async def history_of_run(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[HistoryRecord]:
        """What happened to the run, in the order of `n`. `after`, an `n`, continues a page."""

    async def apps(self) -> list[AppRecord]:
        """All apps, archived ones too, in the order of their ids."""

    async def functions(self, app_id: str | None = None) -> list[FunctionRecord]:
        """Functions of one app, or all, archived ones too, in the order of their ids."""

    async def close(self) -> None:
        """Wait for the questions under way, and let go of the files."""

"""What pages and APIs may ask of the store, and the records that they get.

Reading is apart from the shard: it happens beside the writer and never holds it up, and it sees each commit
that had been reported done when the question was put. Answers are bounded: in number by `limit`, in time by
one second.

Times are ms since the epoch. Bodies, memos, outputs and configurations are JSON bytes, as they were stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from perdure.protocol.ids import ulid_time_ms

MAX_TRACED_ENTRIES = 12_000
"""Entries of a run's history that `Reader.whole_run` reads: enough for 10,000 steps and some retries."""
MAX_COUNT = 10_000
"""Counts of listings go no further: a page asks whether there are many, not how many."""


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
    ended.

    `batch_id` is set for a batch of events, however many, `cron` for what a schedule started. `from_step` is
    where a rerun began (`core.model.FromStep`).
    """

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
    batch_id: str | None = None
    cron: str | None = None
    from_step: bytes | None = None

    @property
    def batched_at(self) -> int | None:
        """When its batch was opened (the time of the batch's ULID); None if it is of no batch."""
        return None if self.batch_id is None else ulid_time_ms(self.batch_id)


class EventEffect(msgspec.Struct, frozen=True, gc=False):
    """What an event did to a run that it did not start: it ended a `wait` of it, or it was its end (`cancel`).

    `status` is that of the run now.
    """

    how: str
    run_id: str
    function_id: str
    status: str


class StepRecord(msgspec.Struct, frozen=True, gc=False):
    """A finished step. `memo` is what calls carry for it."""

    run_id: str
    id: str
    position: int
    name: str
    op: str
    at: int
    memo: bytes


class StepHead(msgspec.Struct, frozen=True, gc=False):
    """A finished step without its memo; `failed` says whether that is an error."""

    id: str
    position: int
    name: str
    op: str
    at: int
    failed: bool


class WaitRecord(msgspec.Struct, frozen=True, gc=False):
    """What ends an item of a run before its time, or the run itself until `until` (0 for ever).

    `kind` is one of `core.model.WaitKind`.
    """

    run_id: str
    n: int
    kind: str
    event: str
    path: str
    value: str
    expression: str | None
    since: int
    until: int = 0


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


class StepLine(msgspec.Struct, frozen=True, gc=False):
    """A line that a step has logged, or the function's own code (`step_id` empty). `n` orders the lines of a run.

    `fields` is JSON, an object, or None.
    """

    run_id: str
    n: int
    step_id: str
    attempt: int
    at: int
    level: str
    logger: str
    message: str
    fields: bytes | None


class StepReport(msgspec.Struct, frozen=True, gc=False):
    """How far a step is by its own word, and what its lines amount to.

    `name` is its id as written. `progress` is from 0 to 1, None if it never told; `at` is its last sign of life.
    `lines` are stored and have `bytes` in all; `dropped` are those that were not, over a limit.
    """

    run_id: str
    step_id: str
    name: str
    attempt: int
    progress: float | None
    message: str
    at: int
    lines: int
    bytes: int
    dropped: int


class RunReports(msgspec.Struct, frozen=True):
    """The status of a run, and the reports of its steps by the steps' ids."""

    status: str
    steps: dict[str, StepReport]


class WholeRun(msgspec.Struct, frozen=True):
    """A run and all that belongs to it, as one commit left them.

    `events` are its trigger events, in the order in which calls carry them. `more` says that it has more
    history than was read.
    """

    run: RunRecord
    events: list[EventRecord]
    steps: list[StepHead]
    items: list[ItemRecord]
    waits: list[WaitRecord]
    history: list[HistoryRecord]
    more: bool = False


class RunPlace(msgspec.Struct, frozen=True, gc=False):
    """Where a run stands in a listing: its time (0 if it has none) and its id."""

    at: int
    id: str


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs a listing holds, and in which order.

    `field` is the time that orders and bounds it: `since` is inclusive, `until` exclusive. Runs without that
    time are left out. `statuses` and `function_ids` are any if empty.
    """

    field: Literal["created_at", "started_at", "ended_at"] = "created_at"
    since: int = 0
    until: int = 2**47
    statuses: tuple[str, ...] = ()
    function_ids: tuple[str, ...] = ()
    ascending: bool = False

    def place(self, run: RunRecord) -> RunPlace:
        """Where a run stands in this listing."""
        at: int | None = getattr(run, self.field)
        return RunPlace(at or 0, run.id)


class ListedRun(msgspec.Struct, frozen=True):
    """A run of a listing, with the body of its first trigger event if that was asked for."""

    run: RunRecord
    event: bytes | None = None


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
    """A function of an app; `config` is its configuration as registered.

    `paused` says what happens to its new runs (`core.flow.admission.Pause`; empty when nothing does), `overrides` are
    the parts of the configuration that a person has set in place of the code's.
    """

    id: str
    app_id: str
    slug: str
    name: str
    config: bytes
    created_at: int
    archived_at: int | None
    paused: str = ""
    overrides: bytes | None = None


class Reader(Protocol):
    """Questions to the store. All may raise `StoreUnavailable`: it cannot be read now, or the answer takes
    too long."""

    async def list_events(
        self,
        *,
        name: str | None = None,
        internal: bool = False,
        received_after: int | None = None,
        received_before: int | None = None,
        before: str | None = None,
        limit: int = 20,
    ) -> list[EventRecord]:
        """Events, newest first by internal id. Both times are exclusive. The server's own only if `internal`.

        `before` continues a page: the internal id of its last event. Events that share that id do not come
        again.
        """

    async def count_events(
        self,
        *,
        name: str | None = None,
        internal: bool = False,
        received_after: int | None = None,
        received_before: int | None = None,
        most: int = MAX_COUNT,
    ) -> int:
        """How many events `list_events` would give in all, counted up to `most`."""

    async def event(self, internal_id: str) -> EventRecord | None:
        """The event with this internal id; of several the one that came first."""

    async def runs_of_event(self, internal_id: str, *, after: str = "", limit: int = 1000) -> list[RunRecord]:
        """Runs that the event started, alone or with others, and those that were skipped, in the order of their ids.

        `after`, a run id, continues a page.
        """

    async def effects_of_event(self, internal_id: str, *, limit: int = 1000) -> list[EventEffect]:
        """What the event did besides starting runs: cancellations first, then waits that it ended, in the order of
        run ids. Several waits of one run are told once.
        """

    async def run(self, run_id: str) -> RunRecord | None:
        """One run."""

    async def whole_run(self, run_id: str, *, entries: int = MAX_TRACED_ENTRIES) -> WholeRun | None:
        """A run and all that belongs to it, read as of one commit; of its history the first `entries`."""

    async def list_runs(
        self,
        wanted: RunFilter,
        *,
        after: RunPlace | None = None,
        limit: int = 100,
        payloads: bool = False,
    ) -> list[ListedRun]:
        """Runs in the order of `wanted`. `after` continues a page.

        Outputs and trigger events are read only if `payloads`: `output` is None otherwise.
        """

    async def count_runs(self, wanted: RunFilter, *, most: int = MAX_COUNT) -> int:
        """How many runs `list_runs` would give in all, counted up to `most`."""

    async def live_runs(self, *, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of runs that have not ended, in their order. `after`, a run id, continues a page."""

    async def events_of_run(self, run_id: str) -> list[EventRecord]:
        """The events that started the run, in the order in which calls carry them. Empty if there is no such
        run."""

    async def steps_of_run(self, run_id: str) -> list[StepRecord]:
        """Finished steps, in the order in which they finished."""

    async def step_of_run(self, run_id: str, step_id: str) -> StepRecord | None:
        """One finished step."""

    async def items_of_run(self, run_id: str) -> list[ItemRecord]:
        """What is still to happen to the run, in the order of `n`."""

    async def history_of_run(self, run_id: str, *, after: int = 0, limit: int = 1000) -> list[HistoryRecord]:
        """What happened to the run, in the order of `n`. `after`, an `n`, continues a page."""

    async def newest_history(self, run_id: str, kind: str, *, limit: int = 100) -> list[HistoryRecord]:
        """What happened to the run and is of this kind, newest first."""

    async def lines_of_run(
        self, run_id: str, *, step_id: str | None = None, after: int = 0, limit: int = 1000
    ) -> list[StepLine]:
        """What the run's steps have logged, or one of them, in the order of `n`. `after`, an `n`, continues a page."""

    async def step_reports(self, run_ids: Sequence[str]) -> dict[str, RunReports]:
        """The status and the step reports of those of the runs that exist."""

    async def calls_ahead(
        self, function_id: str, part: str, rank: int, run_id: str, n: int, *, most: int = 1_000_000
    ) -> int:
        """How many items of a queue of a function stand before (`rank`, `run_id`, `n`), counted up to `most`."""

    async def own_events_since(self, name: str, receipt: int, *, limit: int = 1000) -> list[EventRecord]:
        """The server's own events of a name with a higher receipt, newest first, as far as they are among the
        newest 10,000 of all events.
        """

    async def remembered(
        self, keys: Sequence[tuple[str, str, str]], alive_at: int
    ) -> dict[tuple[str, str, str], bytes]:
        """What rules remember under keys (kind, owner, key: `shard.keys`) that have not expired at that time (ms)."""

    async def metadata_size(self, run_id: str) -> int:
        """Bytes of all metadata that was attached to a run."""

    async def apps(self) -> list[AppRecord]:
        """All apps, archived ones too, in the order of their ids."""

    async def functions(self, app_id: str | None = None) -> list[FunctionRecord]:
        """Functions of one app, or all, archived ones too, in the order of their ids."""

    async def close(self) -> None:
        """Wait for the questions under way, and let go of the files."""

"""What a shard keeps in its store: one tuple type a table, in the order of the table's columns after `shard`.

A batch is a set of these; a store writes them and gives them back, and knows nothing of what they mean.
Times are ms since the epoch. Bodies, memos, outputs and configurations are JSON bytes, stored as they came.
"""

from __future__ import annotations

from typing import NamedTuple

SERVE, CONNECT = "SERVE", "CONNECT"
"""Methods of apps: the server calls them at their URL, or their workers connect to the server."""


class AppRow(NamedTuple):
    """An app that has registered, or a URL that has not answered yet (`name` is then empty). Key: `id`.

    `method` is `SERVE` or `CONNECT`.
    """

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


class FunctionRow(NamedTuple):
    """A function of an app. `config` is its configuration as registered. Key: `id`.

    `paused` says what happens to new runs (`core.flow.admission.Pause`; empty when nothing does). `overrides` are the
    parts of the configuration that a person has set in place of the code's, as a JSON object.
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


class EventRow(NamedTuple):
    """An event, in order of arrival.

    `internal` is 1 for the server's own. Key: `receipt`; `internal_id` may repeat.
    """

    receipt: int
    internal_id: str
    name: str
    id: str
    ts: int
    received_at: int
    internal: int
    body: bytes


class RunRow(NamedTuple):
    """A run. `receipts` and `event_ids` are JSON lists; `event_id` is the first of them. Key: `id`.

    `flow` is what it keeps of its admission (`core.flow.admission.RunFlow`), None if no rule applies to it.
    `batch_id` is set for a batch, `cron` is the schedule that started it.
    `from_step` is where a rerun began, with the step's edited input (`core.model.FromStep`).
    """

    id: str
    function_id: str
    status: str
    event_id: str
    event_ids: str
    receipts: str
    event_name: str
    created_at: int
    started_at: int | None
    ended_at: int | None
    version: int
    parallel: int
    correlation: str | None
    original_run_id: str | None
    output: bytes | None
    flow: bytes | None = None
    batch_id: str | None = None
    cron: str | None = None
    from_step: bytes | None = None


class RunEventRow(NamedTuple):
    """What an event did to a run: `how` is `trigger`, `wait` (it ended a wait of the run) or `cancel`.

    All fields are the key. The first trigger event stands with the run; `trigger` rows are for the further ones of
    a batch.
    """

    event_id: str
    run_id: str
    how: str = "trigger"


class StepRow(NamedTuple):
    """A finished step, written once and never replaced. Key: `run_id`, `step_id`."""

    run_id: str
    step_id: str
    position: int
    name: str
    op: str
    at: int
    memo: bytes


class ItemRow(NamedTuple):
    """What is still to happen to a run, or, where `run_id` begins with `~`, to a rule of a function.

    `in_flight` is 1 while an app is being called for it. `part` is the queue of the function in which it stands,
    `rank` its place there. Key: `run_id`, `n`.
    """

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
    recoveries: int
    in_flight: int
    grp: int
    data: bytes | None
    part: str
    rank: int


class WaitRow(NamedTuple):
    """Which event ends a wait before its item times it out, or cancels the run until `until` (0 for ever).

    Key: `run_id`, `n`, as its item.
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


class KeyRef(NamedTuple):
    """The key of a `KeyRow`."""

    kind: str
    owner: str
    key: str


class KeyRow(NamedTuple):
    """What is remembered under a key, until `expires_at` (0: until it is removed). Key: the first three columns.

    `kind` says for what (`shard.keys`), `owner` is the function, or empty.
    """

    kind: str
    owner: str
    key: str
    value: bytes
    expires_at: int

    @property
    def ref(self) -> KeyRef:
        """Its key."""
        return KeyRef(self.kind, self.owner, self.key)


class HistoryRow(NamedTuple):
    """What happened to a run. Key: `run_id`, `n`."""

    run_id: str
    n: int
    at: int
    kind: str
    body: bytes


class StepLogRow(NamedTuple):
    """A line that a step has logged, or the function's own code (`step_id` empty). Key: `run_id`, `n`.

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


class StepReportRow(NamedTuple):
    """How far a step is by its own word, and what its lines amount to. Key: `run_id`, `step_id`.

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


class OutboxRow(NamedTuple):
    """An event whose matching is not finished; `cursor` says from where to go on. Key: `receipt`."""

    receipt: int
    cursor: str


class QuarantineRow(NamedTuple):
    """A command that could not be decided, with the traceback. Key: `id`."""

    id: str
    at: int
    run_id: str | None
    command: str
    traceback: str


class RollupRow(NamedTuple):
    """What happened to a function's runs in the `span` ms from `at` on. Key: `span`, `at`, `function_id`."""

    span: int
    at: int
    function_id: str
    body: bytes


class ItemRef(NamedTuple):
    """Where an item stands in a queue of its function: the order is that of this tuple."""

    rank: int
    run_id: str
    n: int


class WaitLookup(NamedTuple):
    """Waits for one event name by one equality; `after` (run id, n) continues a page."""

    event: str
    path: str
    value: str
    after: tuple[str, int] = ("", 0)


class WaitRef(NamedTuple):
    """A wait that was found. Key of the wait and the index of the lookup that found it."""

    lookup: int
    run_id: str
    n: int


class StoredRun(NamedTuple):
    """A run with all that belongs to it. `events` are the bodies of its trigger events, in the order of
    `receipts`.

    `steps` are in stack order. `last_n` is the highest number used by its items and history.
    """

    run: RunRow
    events: list[bytes]
    steps: list[StepRow]
    items: list[ItemRow]
    waits: list[WaitRow]
    last_n: int


class Recovered(NamedTuple):
    """What a shard needs to start: everything else is read when it is needed.

    `wait_counts` are (event, path, number of waits). `in_flight` are the runs that an app was being called
    for. `outbox` are the events not matched to the end. `keys` are those of the kinds that the shard named.
    `next_receipt` is above every receipt in the store.
    """

    next_receipt: int
    apps: list[AppRow]
    functions: list[FunctionRow]
    in_flight: list[str]
    wait_counts: list[tuple[str, str, int]]
    outbox: list[OutboxRow]
    keys: list[KeyRow]

"""The state of a shard in memory, and the one place that changes it: `apply`.

Decisions arrive as plans. Applying one moves the run, its queue, the index of waits and the open batch
together, so that memory and the rows to commit cannot differ. Applying does not decide anything.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable

import msgspec

from perdure.core import history
from perdure.core.functions import Function, Functions
from perdure.core.model import Item, ItemKind, Run, RunStatus, Step, Wait
from perdure.core.operations import CORRELATION_PATH
from perdure.core.pacing import Gate
from perdure.core.plan import Invocation, NewItem, Outcome, Plan
from perdure.core.planning import plan_crash
from perdure.core.settings import Settings
from perdure.protocol import lifecycle
from perdure.protocol.events import IncomingEvent, internal_event
from perdure.protocol.ids import new_ulid
from perdure.shard.batch import Batch
from perdure.shard.commands import Command, ContinueEvent
from perdure.shard.memory import Memory
from perdure.shard.ports import Entropy
from perdure.shard.queues import END, START, FunctionQueue, Queues
from perdure.shard.rows import (
    AppRow,
    DedupeRow,
    EventRow,
    FunctionRow,
    HistoryRow,
    ItemRef,
    OutboxRow,
    QuarantineRow,
    StepRow,
)

log = logging.getLogger("perdure.shard")

QUIET_EVENTS = (lifecycle.FAILED, lifecycle.FINISHED)
"""Runs that one of these events started send none themselves.

Otherwise a failure handler that fails would start itself.
"""
REQUEST_PLACES = 100
"""Requests made for runs at once."""


class ApplyFault(Exception):
    """Applying a plan has failed half-way: memory cannot be trusted any more, and must be read again."""


class State:
    """Everything a shard holds in memory within one epoch. It can be dropped at any line and read again."""

    def __init__(self, entropy: Entropy, settings: Settings) -> None:
        self.entropy = entropy
        self.settings = settings
        self.now = 0
        self.next_receipt = 1
        self.memory = Memory()
        self.queues = Queues()
        self.functions = Functions()
        self.apps: dict[str, AppRow] = {}
        self.function_rows: dict[str, FunctionRow] = {}
        self.gates: dict[str, Gate] = {}
        self.request_gate = Gate(REQUEST_PLACES, REQUEST_PLACES)
        self.batch = Batch(1)
        self.follow_ups: list[Command] = []
        """Commands that the shard gives itself, to be decided after those under way."""
        self._late: set[FunctionQueue] = set()
        self.limits: dict[str, dict[str, int]] = {}
        """Limits of steps and state set for single functions, by slug (a help for tests; not stored)."""
        self.keys_from = 0
        """Keys that expire before this time (ms) are taken for expired now (a help for tests; not stored)."""

    def forget(self, touched: Iterable[Run]) -> None:
        """A batch is on disk: let go of what every read from now on will see, and of runs that have ended."""
        memory = self.memory
        memory.forget_ended(touched)
        memory.forget_keys()
        memory.shrink()
        if self._late:
            oldest = memory.oldest_snapshot()
            for queue in list(self._late):
                queue.forget_late(oldest)
                if not queue.late:
                    self._late.discard(queue)

    def quarantine(self, command: str, run_id: str | None, error: Exception) -> None:
        """Put a command that could not be decided aside, with its traceback.

        Its run, if any, fails with a reason.
        """
        trace = "".join(traceback.format_exception(error))
        log.error("a command could not be decided and is in quarantine: %s\n%s", command[:200], trace)
        row = QuarantineRow(new_ulid(self.now, self.entropy(10)), self.now, run_id, command[:4000], trace)
        self.batch.changes.quarantine.append(row)
        run = self.memory.get(run_id) if run_id is not None else None
        if run is not None and not run.status.ended:
            message = f"The server could not decide what follows ({error!r}). The command is in quarantine as {row.id}."
            self.apply(plan_crash(run, self.now, message))

    # Functions and their queues

    def gate(self, app_id: str) -> Gate:
        """The gate of an app."""
        gate = self.gates.get(app_id)
        if gate is None:
            gate = self.gates[app_id] = Gate()
        return gate

    def queue(self, function_id: str, fresh: bool = False) -> FunctionQueue:
        """The queue of a function. `fresh` says that the store holds nothing of it."""
        queue = self.queues.by_function.get(function_id)
        if queue is None:
            gate = self.gate(self.functions.by_id[function_id].app_id)
            queue = FunctionQueue(function_id, gate, END if fresh else START)
            self.queues.by_function[function_id] = queue
        return queue

    def put_function(self, row: FunctionRow) -> None:
        """Take in a function; `functions` itself is updated by the caller, for all at once."""
        self.function_rows[row.id] = row
        self.batch.changes.functions[row.id] = row

    def put_app(self, row: AppRow) -> None:
        """Take in an app's row."""
        self.apps[row.id] = row
        self.batch.changes.apps[row.id] = row

    def settings_for(self, run: Run) -> Settings:
        """The rules for a run, with the limits set for its function alone."""
        if not self.limits:
            return self.settings
        function = self.functions.by_id.get(run.function_id)
        override = self.limits.get(function.slug) if function else None
        if not override:
            return self.settings
        return msgspec.structs.replace(self.settings, **override)

    # Runs

    def create_run(
        self, function: Function, events: list[tuple[int, IncomingEvent]], correlation: str | None = None
    ) -> Run:
        """Create a run of `function` for its trigger events (receipt, event).

        It starts at once, or when the first event's time comes.
        """
        now = self.now
        first = events[0][1]
        run = Run(
            new_ulid(now, self.entropy(10)),
            function.id,
            RunStatus.QUEUED,
            [receipt for receipt, _ in events],
            [event.internal_id for _, event in events],
            [event.body for _, event in events],
            first.name,
            now,
            correlation=correlation,
        )
        self.memory.add(run)
        self.batch.touch_run(run)
        invoked_by = correlation or ""
        self._note(
            run, "queued", history.encode(history.QueuedNote(first.internal_id, first.name, invoked_by))
        )
        self.add_item(run, NewItem(ItemKind.DISCOVERY, "", "", max(now, first.ts), data=b"0"))
        return run

    def take_key(self, function: Function, key: str, run: Run) -> None:
        """Remember that the function has run for this key."""
        self.memory.take_key(function.id, key, run.id, self.batch.number)
        expires = self.now + self.settings.dedupe_ms
        self.batch.changes.dedupe.append(DedupeRow(function.id, key, run.id, expires))

    def add_item(self, run: Run, new: NewItem) -> Item:
        """Add an item to a run, its wait, and the run that it invokes."""
        n = run.seq
        run.seq = n + 1
        due = new.due
        item = Item(
            n, new.kind, new.step_id, new.name, due, self.now, new.attempt, group=new.group, data=new.data
        )
        run.items[n] = item
        self.batch.put_item(run, item)
        self.enqueue(run, item)
        wait = new.wait
        if wait is not None:
            kept = Wait(
                n, wait.kind, wait.event, wait.path, wait.value, wait.expression, self.next_receipt - 1
            )
            self.memory.add_wait(run, kept)
            self.batch.put_wait(run, kept)
        if new.invocation is not None:
            self._invoke(run, item, new.invocation)
        return item

    def enqueue(self, run: Run, item: Item) -> None:
        """Put an item that is not in flight into its queue."""
        queue = self.queue(run.function_id)
        if queue.push(ItemRef(item.due, run.id, item.n), self.batch.number):
            self.queues.look(queue, self.now)
        if queue.late:
            self._late.add(queue)

    def drop_item(self, run: Run, n: int) -> None:
        """Remove an item and its wait."""
        if run.items.pop(n, None) is not None:
            self.batch.drop_item(run, n)
        if self.memory.drop_wait(run, n):
            self.batch.drop_wait(run, n)

    def _invoke(self, parent: Run, item: Item, invocation: Invocation) -> None:
        function = self.functions.by_id[invocation.function_id]
        parent_function = self.functions.by_id[parent.function_id]
        correlation = f"{parent.id}.{item.step_id}"
        data = lifecycle.invoked_event_data(
            invocation.data,
            lifecycle.Invocation(
                fn_id=function.slug,
                correlation_id=correlation,
                expire=invocation.expires_at,
                name=item.name,
                source_app_id=parent_function.app_id,
                source_fn_id=parent_function.id,
            ),
        )
        internal_id = new_ulid(self.now, self.entropy(10))
        event = internal_event(
            lifecycle.INVOKED,
            data,
            internal_id,
            internal_id,
            self.now,
            user=invocation.user,
            meta=invocation.meta,
            v=invocation.v,
        )
        receipt = self.store_event(event, internal=True)
        run = self.create_run(function, [(receipt, event)], correlation)
        note = history.InvokedNote(item.n, item.step_id, internal_id, run.id)
        self._note(parent, "invoked", history.encode(note))

    # Events

    def store_event(
        self, event: IncomingEvent, *, internal: bool, receipt: int = 0, received_at: int = 0
    ) -> int:
        """Store an event; give back its receipt, the next one unless it was given."""
        if not receipt:
            receipt = self.next_receipt
            self.next_receipt += 1
        self.batch.changes.events.append(
            EventRow(
                receipt,
                event.internal_id,
                event.name,
                event.id,
                event.ts,
                received_at or self.now,
                int(internal),
                event.body,
            )
        )
        self.batch.payload += len(event.body)
        return receipt

    def emit(
        self,
        name: str,
        data: bytes,
        event_id: str | None,
        correlation: str | None,
        meta: bytes | None = None,
    ) -> None:
        """Store an event of the server's own, and see to it that it is matched, if anything could meet it.

        It is stored with an outbox row in the commit that makes it, so that a crash right after it loses
        nothing.
        """
        internal_id = new_ulid(self.now, self.entropy(10))
        event = internal_event(name, data, internal_id, event_id or internal_id, self.now, meta=meta)
        receipt = self.store_event(event, internal=True)
        if self._interests(name, correlation):
            self.batch.changes.outbox[receipt] = OutboxRow(receipt, "")
            row = self.batch.changes.events[-1]
            self.follow_ups.append(ContinueEvent(receipt=receipt, event=row))

    def _interests(self, name: str, correlation: str | None) -> bool:
        if self.functions.has_triggers(name):
            return True
        paths = self.memory.wait_counts.get(name)
        if not paths:
            return False
        return correlation is not None or any(path != CORRELATION_PATH for path in paths)

    # Plans

    def apply(self, plan: Plan) -> None:
        """Carry out a plan: in memory, and in the open batch. Raises `ApplyFault` if that fails half-way."""
        try:
            self._apply(plan)
        except Exception as error:
            raise ApplyFault(f"run {plan.run.id}: {error!r}") from error

    def _apply(self, plan: Plan) -> None:
        run, batch = plan.run, self.batch
        run.commit = batch.number
        for kind, body in plan.history:
            self._note(run, kind, body)
        if plan.version is not None or (plan.parallel and not run.parallel):
            run.version = run.version if plan.version is None else plan.version
            run.parallel = run.parallel or plan.parallel
            batch.touch_run(run)
        for step in plan.saved:
            self._save(run, step.id, step.name, step.op, step.memo)
        for n in plan.ended:
            self.drop_item(run, n)
        if plan.outcome is not None:
            self._end(run, plan.outcome)
            return
        for retry in plan.retried:
            item = run.items[retry.n]
            item.due, item.attempt, item.queued_at, item.in_flight = retry.due, retry.attempt, self.now, False
            batch.put_item(run, item)
            self.enqueue(run, item)
        if plan.reset_attempt is not None:
            item = run.items[plan.reset_attempt]
            if item.attempt:
                item.attempt = 0
                batch.put_item(run, item)
        if plan.idle_replies is not None:
            run.idle_replies = plan.idle_replies
        for new in plan.added:
            self.add_item(run, new)
        for run_id, n in plan.freed_signals:
            holder = self.memory.get(run_id)
            if holder is not None and self.memory.drop_wait(holder, n):
                batch.drop_wait(holder, n)

    def _note(self, run: Run, kind: str, body: bytes) -> None:
        n = run.seq
        run.seq = n + 1
        self.batch.changes.history.append(HistoryRow(run.id, n, self.now, kind, body))
        self.batch.payload += len(body)

    def _save(self, run: Run, step_id: str, name: str, op: str, memo: bytes) -> None:
        size = len(memo)
        position = len(run.steps)
        run.steps[step_id] = Step(step_id, position, name, op, memo, size, self.now)
        run.state_bytes += size
        self.memory.memo_bytes += size
        self.batch.changes.steps.append(StepRow(run.id, step_id, position, name, op, self.now, memo))
        self.batch.payload += size

    def _end(self, run: Run, outcome: Outcome) -> None:
        for n in list(run.items):
            self.drop_item(run, n)
        run.status = outcome.status
        run.ended_at = self.now
        run.output = outcome.output
        self.batch.touch_run(run)
        self.batch.payload += len(outcome.output or b"")
        note = history.EndedNote(outcome.status.value, outcome.error.message if outcome.error else "")
        self._note(run, "ended", history.encode(note))
        self.batch.ended.append(outcome.status)
        if run.event_name not in QUIET_EVENTS and not outcome.quiet:
            self._emit_end(run, outcome)

    def _emit_end(self, run: Run, outcome: Outcome) -> None:
        function = self.functions.by_id[run.function_id]
        first, rest = run.events[0], run.events
        meta = _meta(first)
        if outcome.error is not None:
            data = lifecycle.failed_event_data(
                function.slug, run.id, first, rest, outcome.output or b"null", outcome.error, run.correlation
            )
        elif outcome.status is RunStatus.CANCELLED:
            data = lifecycle.cancelled_event_data(function.slug, run.id, first, rest, run.correlation)
        else:
            data = lifecycle.finished_event_data(
                function.slug, run.id, first, rest, outcome.output or b"null", run.correlation
            )
        self.emit(lifecycle.FINISHED, data, None, run.correlation, meta)
        if outcome.status is RunStatus.FAILED:
            self.emit(lifecycle.FAILED, data, run.id, run.correlation, meta)
        elif outcome.status is RunStatus.CANCELLED:
            self.emit(lifecycle.CANCELLED, data, run.id, run.correlation, meta)


class _WithMeta(msgspec.Struct, gc=False):
    meta: msgspec.Raw = msgspec.Raw()


_WITH_META = msgspec.json.Decoder(_WithMeta)


def _meta(event: bytes) -> bytes | None:
    """The sessions of a run's event, which the events of its end carry on."""
    meta = bytes(_WITH_META.decode(event).meta) if b'"meta":' in event else b""
    return meta if meta[:1] == b"{" else None

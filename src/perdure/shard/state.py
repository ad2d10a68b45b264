"""The state of a shard in memory, and the one place that changes it: `apply`.

Decisions arrive as plans. Applying one moves the run, its queue, the index of waits and the open batch
together, so that memory and the rows to commit cannot differ. Applying does not decide anything.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from typing import Literal

from perdure.core import history
from perdure.core.cancelling import cancel_waits
from perdure.core.ending import EndEvent, end_events
from perdure.core.flow import timeouts
from perdure.core.flow.admission import Pause, RunFlow, Start
from perdure.core.functions import Function
from perdure.core.model import (
    CALLING,
    FromStep,
    Item,
    ItemKind,
    Part,
    Run,
    RunStatus,
    Step,
    Wait,
)
from perdure.core.operations import CORRELATION_PATH
from perdure.core.plan import Invocation, NewItem, Outcome, Plan, SavedStep
from perdure.core.planning import plan_crash
from perdure.core.settings import Settings
from perdure.protocol import lifecycle
from perdure.protocol.events import IncomingEvent, internal_event
from perdure.shard.beginning import ORDINARY, Beginning, TriggerEvent
from perdure.shard.commands import Command, ContinueEvent, Target
from perdure.shard.holdings import Holdings
from perdure.shard.job import Job
from perdure.shard.keys import LOOKBACK, PLACE, SINGLETON, timer_id
from perdure.shard.lines import Line, line_of, needs_of
from perdure.shard.ports import Entropy
from perdure.shard.rows import (
    EventRow,
    HistoryRow,
    ItemRef,
    KeyRef,
    OutboxRow,
    QuarantineRow,
    RunEventRow,
    StepRow,
)
from perdure.shard.schedules import Schedules

log = logging.getLogger("perdure.shard")


class ApplyFault(Exception):
    """Applying a plan has failed half-way: memory cannot be trusted any more, and must be read again."""


class State(Holdings):
    """Everything a shard holds in memory within one epoch. It can be dropped at any line and read again."""

    def __init__(self, entropy: Entropy, settings: Settings) -> None:
        super().__init__(entropy, settings)
        self.next_receipt = 1
        self.schedules = Schedules()
        self.jobs: dict[str, Job] = {}
        self.follow_ups: list[Command] = []
        """Commands that the shard gives itself, to be decided after those under way."""

    def forget(self, touched: Iterable[Run]) -> None:
        """A batch is on disk: let go of what every read from now on will see, and of runs that have ended."""
        memory = self.memory
        memory.forget_ended(touched)
        oldest = memory.oldest_snapshot()
        memory.keys.forget(oldest)
        self.lines.directory.forget_late(oldest)
        memory.shrink()
        if self._late:
            oldest = memory.oldest_snapshot()
            for queue in list(self._late):
                queue.forget_late(oldest)
                if not queue.late:
                    self._late.discard(queue)
                    if isinstance(queue, Line):
                        self.lines.touched[queue] = None

    def quarantine(self, command: str, run_id: str | None, error: Exception) -> None:
        """Put a command that could not be decided aside, with its traceback.

        Its run, if any, fails with a reason.
        """
        trace = "".join(traceback.format_exception(error))
        log.error("a command could not be decided and is in quarantine: %s\n%s", command[:200], trace)
        row = QuarantineRow(self.new_id(), self.now, run_id, command[:4000], trace)
        self.batch.changes.quarantine.append(row)
        run = self.memory.get(run_id) if run_id is not None else None
        if run is not None and not run.status.ended:
            message = f"The server could not decide what follows ({error!r}). The command is in quarantine as {row.id}."
            self.apply(plan_crash(run, self.now, message))

    # Runs

    def note_effect(self, event_id: str, run: Run, how: Literal["wait", "cancel"]) -> None:
        """Remember by the event (its internal id) that it ended a wait of the run, or cancelled it."""
        self.batch.changes.run_events.append(RunEventRow(event_id, run.id, how))

    def create_run(
        self,
        function: Function,
        events: list[TriggerEvent],
        how: Beginning = ORDINARY,
        admitted: Start | None = None,
    ) -> Run:
        """Create a run of `function` for its trigger events (receipt, event).

        It starts when it is due: at once, or when the first event's time comes. `admitted` is what the rules of the
        function said, None if it has none that bear on the run. Raises `ApplyFault` if that fails half-way.
        """
        try:
            return self._create_run(function, events, how, admitted)
        except Exception as error:
            raise ApplyFault(f"a new run of {function.slug}: {error!r}") from error

    def _create_run(
        self, function: Function, events: list[TriggerEvent], how: Beginning, admitted: Start | None
    ) -> Run:
        now = self.now
        flow = admitted.flow if admitted is not None and admitted.flow.matters else None
        first = events[0][1]
        run = Run(
            self.run_ids.next(now),
            function.id,
            RunStatus.QUEUED,
            [receipt for receipt, _ in events],
            [event.internal_id for _, event in events],
            [event.body for _, event in events],
            first.name,
            now,
            correlation=how.correlation,
            original_run_id=how.original_run_id,
            flow=flow,
            flow_row=None if flow is None else flow.encode(),
            batch_id=how.batch_id,
            cron=how.cron,
            from_step=how.from_step,
        )
        self.memory.add(run)
        self.batch.touch_run(run)
        for _, event in events[1:]:
            self.batch.changes.run_events.append(RunEventRow(event.internal_id, run.id))
        problems = () if flow is None else flow.problems
        note = history.QueuedNote(first.internal_id, first.name, how.correlation or "", problems)
        self._note(run, "queued", history.encode(note))
        if how.skipped is not None:
            self._skip(run, *how.skipped)
            return run
        ahead = 0 if how.original_run_id else self.ahead  # what its sender has put off, by the sender's clock
        due = now if how.batch_id else max(now, first.ts + ahead)
        self.add_item(run, how.first_item(due), held=admitted is not None and admitted.held)
        if how.from_step is not None:
            self._copy(run, how.from_step, how.copied)
        if admitted is not None:
            self._guard(run, function, admitted, how.since or run.receipts[0])
        return run

    def _guard(self, run: Run, function: Function, admitted: Start, since: int) -> None:
        """Arm what may cancel the run, and note that it holds its singleton's key."""
        if admitted.deadline is not None:
            self.add_item(run, NewItem(ItemKind.DEADLINE, "", "", admitted.deadline, data=b"start"))
        if function.config.cancel and admitted.cancellable:
            for wait in cancel_waits(run, function.config.cancel, since, self.now):
                self.memory.add_wait(run, wait)
                self.batch.put_wait(run, wait)
        if run.flow is not None and run.flow.singleton is not None:
            self.put_key(KeyRef(SINGLETON, function.id, run.flow.singleton.id), run.id.encode())

    def _copy(self, run: Run, start: FromStep, steps: tuple[SavedStep, ...]) -> None:
        """The run begins with the results of another's steps."""
        for step in steps:
            self._save(run, step.id, step.name, step.op, step.memo)
        edited = start.arguments is not None
        ids = [step.id for step in steps]
        note = history.CopiedNote(run.original_run_id or "", start.id, start.name, ids, edited)
        self._note(run, "copied", history.encode(note))

    def _skip(self, run: Run, reason: str, holder: str) -> None:
        """The run is written down and never executes."""
        run.status, run.started_at, run.ended_at = RunStatus.SKIPPED, self.now, self.now
        note = history.EndedNote(run.status.value, reason, holder)
        self._note(run, "ended", history.encode(note))
        self.batch.ended.append(run.status)

    def begin(self, run: Run) -> None:
        """The first call of a run leaves: it has begun, and its places are its own until it ends."""
        run.status, run.started_at = RunStatus.RUNNING, self.now
        self.batch.touch_run(run)
        for item in [item for item in run.items.values() if item.kind is ItemKind.DEADLINE]:
            self.drop_item(run, item.n)
        function = self.functions.by_id[run.function_id]
        deadline = timeouts.finish_deadline(function.rules.timeouts, self.now)
        if deadline is not None:
            self.add_item(run, NewItem(ItemKind.DEADLINE, "", "", deadline, data=b"finish"))
        if run.flow is not None and run.flow.runs:
            self.put_key(KeyRef(PLACE, function.id, run.id), run.flow_row or b"")

    def add_item(self, run: Run, new: NewItem, held: bool = False) -> Item:
        """Add an item to a run, its wait, and the run that it invokes.

        A call that is `held` waits until its function is resumed.
        """
        n = run.seq
        run.seq = n + 1
        due = new.due
        item = Item(
            n, new.kind, new.step_id, new.name, due, self.now, new.attempt, group=new.group, data=new.data
        )
        run.items[n] = item
        self.batch.put_item(run, item)
        self.enqueue(run, item, held)
        wait = new.wait
        if wait is not None:
            kept = Wait(
                n, wait.kind, wait.event, wait.path, wait.value, wait.expression, self.next_receipt - 1
            )
            self.memory.add_wait(run, kept)
            self.batch.put_wait(run, kept)
            if wait.lookback:
                key = KeyRef(LOOKBACK, run.function_id, f"{run.id}.{n}.{self.real_now - wait.lookback}")
                self.set_timer(timer_id(key), run.function_id, self.now)
        if new.invocation is not None:
            self._invoke(run, item, new.invocation)
        return item

    def enqueue(self, run: Run, item: Item, held: bool = False) -> None:
        """Put an item that is not in flight into its queue.

        A call that needs places is put in line when it is due.
        """
        item.rank = item.due
        if held:
            item.part = Part.HELD
        elif item.kind is ItemKind.REQUEST:
            item.part = Part.REQUESTS
        elif item.kind not in CALLING:
            item.part = Part.TIMERS
        elif run.flow is None or (needs := needs_of(run)) is None:
            item.part = Part.CALLS
        elif item.due > self.now:
            item.part = Part.TIMERS
        else:
            item.part, own, all_needs = line_of(needs)
            item.rank = run.flow.order
            if own and not run.flow.ranked:
                turn = self.turn_queue(run.function_id)
                if self.lines.goes_at_once(run, item, needs, all_needs, turn, self.now):
                    self.queues.look(turn, self.now)
                    return
            line = self.lines.push(run, item, needs, self.batch.number)
            if line is not None and line.late:
                self._late.add(line)
            return
        self._push(self.queue(run.function_id, item.part), ItemRef(item.rank, run.id, item.n))

    def drop_item(self, run: Run, n: int) -> None:
        """Remove an item and its wait."""
        item = run.items.pop(n, None)
        if item is not None:
            self.batch.drop_item(run, n)
            if run.flow is not None and item.kind in CALLING:
                self.lines.leave(run, item, self.now)
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
        internal_id = self.new_id()
        event = internal_event(
            lifecycle.INVOKED,
            data,
            internal_id,
            internal_id,
            self.real_now,
            user=invocation.user,
            meta=invocation.meta,
            v=invocation.v,
        )
        receipt = self.store_event(event, internal=True)
        if function.rules.plain and self.pause_of(function.id) is Pause.NO:
            run = self.create_run(function, [(receipt, event)], Beginning(correlation))
            self.note_invoked(parent, item, internal_id, run)
        else:
            self.start_later(receipt, Target(function.id, correlation))

    def note_invoked(self, parent: Run, item: Item, event_id: str, run: Run) -> None:
        """Write down which run a step has started."""
        note = history.InvokedNote(item.n, item.step_id, event_id, run.id)
        self._note(parent, "invoked", history.encode(note))
        parent.commit = self.batch.number

    def start_later(self, receipt: int, target: Target) -> None:
        """Let one function meet the event that was stored last, once what its rules remember has been read.

        A crash in between loses nothing: the outbox row is in the commit of the event.
        """
        self.batch.changes.outbox[receipt] = OutboxRow(receipt, target.encode())
        row = self.batch.changes.events[-1]
        self.follow_ups.append(ContinueEvent(receipt=receipt, event=row, target=target))

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
                received_at or self.real_now,
                int(internal),
                event.body,
            )
        )
        self.batch.payload += len(event.body)
        return receipt

    def _emit(self, event: EndEvent) -> None:
        """Store an event of the server's own, and see to it that it is matched, if anything could meet it.

        It is stored with an outbox row in the commit that makes it, so that a crash right after it loses
        nothing.
        """
        internal_id = self.new_id()
        event_id = event.id or internal_id
        made = internal_event(event.name, event.data, internal_id, event_id, self.real_now, meta=event.meta)
        receipt = self.store_event(made, internal=True)
        if self._interests(event.name, event.correlation):
            self.batch.changes.outbox[receipt] = OutboxRow(receipt, "")
            self.follow_ups.append(ContinueEvent(receipt=receipt, event=self.batch.changes.events[-1]))

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
            if run.flow is not None and item.kind in CALLING:
                self.lines.leave(run, item, self.now)
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
        for n in [*run.items, *run.waits]:
            self.drop_item(run, n)
        if run.flow is not None:
            self._leave(run, run.flow)
        run.status = outcome.status
        run.ended_at = self.now
        run.output = outcome.output
        self.batch.touch_run(run)
        self.batch.payload += len(outcome.output or b"")
        reason = outcome.error.message if outcome.error else outcome.reason
        note = history.EndedNote(outcome.status.value, reason)
        self._note(run, "ended", history.encode(note))
        self.batch.ended.append(outcome.status)
        for event in end_events(run, self.functions.by_id[run.function_id].slug, outcome):
            self._emit(event)

    def _leave(self, run: Run, flow: RunFlow) -> None:
        """The run gives back what it holds for its life."""
        if flow.runs:
            self.lines.turns.give_back(run.id)
            if run.started_at is not None:
                self.drop_key(KeyRef(PLACE, run.function_id, run.id))
        if flow.singleton is not None:
            self.drop_key(KeyRef(SINGLETON, run.function_id, flow.singleton.id))

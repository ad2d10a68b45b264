"""The operations of one answer, one by one: what each records, and what each leaves to happen.

Waits come first, so that each is armed before anything that could satisfy it; the end of the run comes
last. See `core.planning` for what follows when all are handled.
"""

from __future__ import annotations

import msgspec

from perdure.core.expressions import compile_expression, equalities, equality_value
from perdure.core.history import MetadataNote, OpNote, encode, op_note
from perdure.core.model import Group, Item, ItemKind, RunStatus, WaitKind
from perdure.core.plan import Context, Invocation, NewItem, NewWait, Outcome, Plan, failure
from perdure.core.requests import request_data
from perdure.core.retries import retry_time
from perdure.errors import ExpressionError
from perdure.protocol import memos, op_options
from perdure.protocol.failures import OpError, error_info
from perdure.protocol.ids import hash_step_id
from perdure.protocol.lifecycle import FINISHED
from perdure.protocol.metadata import read_updates
from perdure.protocol.ops import PENDING_OPS, Op
from perdure.protocol.replies import OpsReply

COMPLETE = hash_step_id("complete")
"""Id by which an SDK speaks of the function itself. A step that is called `complete` has it too, and a name."""

SIGNAL_EVENT = "perdure/signal"
"""Waits for a signal are kept as waits for this event, with the equality (SIGNAL_PATH, name of the signal).
"""
SIGNAL_PATH = "signal"
CORRELATION_PATH = "data.correlation_id"

UNCOUNTED = frozenset(("None", "DiscoveryRequest", "RunComplete"))
"""Operations that do not make a parallel set."""
UNSUPPORTED = {
    "SyncRunComplete": "durable endpoints",
    "DeferAdd": "deferred functions",
    "DeferAbort": "deferred functions",
}
"""Operations that end the run with an error, and the feature that they belong to."""
_ORDER = {"WaitForEvent": 0, "WaitForSignal": 0, "InvokeFunction": 0, "RunComplete": 2}
_RACING_VERSIONS = (0, 1)
"""Request versions before coalesced discovery: each finished step of a set is followed by a discovery."""


class OperationPlanner:
    """Handles the operations of one answer into a plan.

    After `run`: `discover` says whether a discovery follows, `asked` whether the app itself asked for it,
    `retry_at` (0 if not) when the item that was called is tried again, and `error` why.
    """

    def __init__(self, plan: Plan, item: Item, reply: OpsReply, context: Context) -> None:
        self.plan = plan
        self.item = item
        self.reply = reply
        self.context = context
        self.discover = False
        self.asked = False
        self.retry_at = 0
        self.error: bytes | None = None
        self._parallel = False
        self._raced = False
        self._finished = False
        self._signals: set[str] = set()

    def run(self) -> list[OpNote]:
        """Handle all operations; give back what history writes of them."""
        ops = self.reply.ops
        plan = self.plan
        for op in ops:
            if op.op in UNSUPPORTED:
                missing = f"The app sent {op.op}, but this server does not offer {UNSUPPORTED[op.op]} yet."
                plan.outcome = failure(OpError("Unsupported", missing))
                return []
        counted = [op for op in ops if op.op not in UNCOUNTED]
        self._parallel = len(counted) > 1 and any(op.op in PENDING_OPS for op in counted)
        if self._parallel:
            plan.parallel = True
        if len(ops) > 1:
            ops = sorted(ops, key=lambda op: _ORDER.get(op.op, 1))
        notes = []
        for op in ops:
            notes.append(self._handle(op))
            if plan.outcome is not None:
                return notes
        plan.check_limits(self.context.settings)
        if not self.retry_at:
            plan.ended.append(self.item.n)
            self._follow()
        return notes

    def record_finished(self) -> list[OpNote]:
        """Record finished steps only, as a running call posts them."""
        notes = []
        for op in self.reply.ops:
            if op.op == "StepPlanned":
                notes.append(op_note(op, planned=True))
            else:
                notes.append(self._handle(op))
        self.plan.check_limits(self.context.settings)
        return notes

    def _follow(self) -> None:
        if self._raced or self.asked:
            self.discover = True
        elif self._finished:
            in_set = self._parallel or self.item.group == Group.WAIT
            self.discover = not (in_set and self.plan.group_left())

    def _handle(self, op: Op) -> OpNote:
        if op.metadata is not None:
            for update in read_updates(op.metadata):
                note = MetadataNote(update.kind, update.op, msgspec.Raw(update.values), op.id)
                self.plan.history.append(("metadata", encode(note)))
        try:
            return _HANDLERS[op.op](self, op)
        except OpError as error:
            self.plan.outcome = failure(error)
            return op_note(op)

    def _group(self, op: Op) -> int:
        if not self._parallel:
            return self.item.group
        version = self.plan.version if self.plan.version is not None else self.plan.run.version
        return Group.RACE if op.race or version in _RACING_VERSIONS else Group.WAIT

    def _finish(self, op: Op, memo: bytes) -> OpNote:
        self.plan.save(op.id, op.display_name, op.op, memo)
        self._finished = True
        if self._parallel and self._group(op) == Group.RACE:
            self._raced = True
        return op_note(op)

    def _fail_function(self, op: Op, error: bytes) -> OpNote:
        self.plan.outcome = Outcome(RunStatus.FAILED, error, error_info(error, "NonRetriableError"))
        return op_note(op)

    def _add(self, op: Op, item: NewItem, **details: object) -> OpNote:
        """Add what still has to happen for a step, unless it is known: planning twice runs once."""
        if self._known(op):
            return op_note(op, planned=True)
        self.plan.add(item)
        return op_note(op, **details)

    def _known(self, op: Op) -> bool:
        """Whether the step is recorded or under way already.

        A planned step that was called and turned out to be something else, such as a sleep, is not.
        """
        if self.plan.knows(op.id):
            return True
        if op.id == self.item.step_id and op.op != "StepPlanned":
            return self._goes_on(op)
        return self.plan.pending(op.id)

    def _goes_on(self, op: Op) -> bool:
        """Whether this answer itself has said already how the step goes on."""
        retried = self.retry_at != 0 and op.id == self.item.step_id
        return retried or any(new.step_id == op.id for new in self.plan.added)

    def _new_item(self, op: Op, kind: ItemKind, due: int, data: bytes | None = None) -> NewItem:
        return NewItem(kind, op.id, op.display_name, due, 0, self._group(op), data)

    def _none(self, op: Op) -> OpNote:
        return op_note(op)

    def _discovery_request(self, op: Op) -> OpNote:
        self.asked = True
        return op_note(op)

    def _step_run(self, op: Op) -> OpNote:
        return self._finish(op, memos.data_memo(op.data))

    def _step(self, op: Op) -> OpNote:
        return self._finish(op, op.data)

    def _step_failed(self, op: Op) -> OpNote:
        error = op.error or b"{}"
        if op.id == COMPLETE and op.display_name == op.id:
            return self._fail_function(op, error)
        return self._finish(op, memos.error_memo(error))

    def _step_error(self, op: Op) -> OpNote:
        context, item = self.context, self.item
        attempt = 0 if self.plan.saved else item.attempt
        if self._goes_on(op):
            return op_note(op)
        if self.reply.no_retry or attempt + 1 >= context.attempts:
            return self._step_failed(op)
        retry_at = context.by_our_clock(self.reply.retry_at)
        due = retry_time(attempt, context.now, context.jitter(), context.settings, retry_at)
        if self._parallel and item.step_id != op.id:
            new = NewItem(ItemKind.STEP, op.id, op.display_name, due, attempt + 1, self._group(op), b"0")
            return self._add(op, new)
        if not self.retry_at:
            self.plan.retry(item, due, attempt + 1)
            self.retry_at, self.error = due, op.error
        return op_note(op)

    def _step_planned(self, op: Op) -> OpNote:
        size = b"%d" % (0 if self._parallel else self.plan.stack_size())
        return self._add(op, self._new_item(op, ItemKind.STEP, self.context.now, size), planned=True)

    def _sleep(self, op: Op) -> OpNote:
        until = op_options.sleep_until(op, self.context.app_now) + self.context.ahead
        return self._add(op, self._new_item(op, ItemKind.SLEEP, until), until=until)

    def _wait_for_event(self, op: Op) -> OpNote:
        options = op_options.wait_options(op, self.context.app_now)
        expires = options.expires_ms + self.context.ahead
        path = value = ""
        if options.expression:
            try:
                expression = compile_expression(options.expression)
            except ExpressionError as error:
                message = "Wait for event If expression failed to compile"
                raise OpError("InvalidExpression", message, error.message) from error
            found = equalities(expression, msgspec.json.decode(self.plan.run.events[0]))
            if found is not None:
                path, value = found.path, found.value
        lookback = (
            options.lookback_ms if options.lookback_ms is not None else self.context.settings.lookback_ms
        )
        wait = NewWait(WaitKind.EVENT, options.event, path, value, options.expression, lookback)
        item = msgspec.structs.replace(self._new_item(op, ItemKind.WAIT, expires), wait=wait)
        return self._add(op, item, until=expires, event=options.event, expression=options.expression or "")

    def _wait_for_signal(self, op: Op) -> OpNote:
        options = op_options.signal_options(op, self.context.app_now)
        expires = options.expires_ms + self.context.ahead
        if self._known(op):
            return op_note(op, planned=True)
        holder = self.context.signals.get(options.signal)
        twice = options.signal in self._signals
        if twice or (holder is not None and not options.replace):
            raise OpError("Error", "Signal conflict; signal wait already exists for another run")
        if holder is not None:
            self.plan.freed_signals.append(holder)
        self._signals.add(options.signal)
        wait = NewWait(WaitKind.SIGNAL, SIGNAL_EVENT, SIGNAL_PATH, options.signal)
        item = msgspec.structs.replace(self._new_item(op, ItemKind.WAIT, expires), wait=wait)
        return self._add(op, item, until=expires, event=options.signal)

    def _invoke(self, op: Op) -> OpNote:
        options = op_options.invoke_options(op, self.context.app_now)
        expires = options.expires_ms + self.context.ahead
        if self._known(op):
            return op_note(op, planned=True)
        function_id = self.context.find_function(options.function_id)
        if function_id is None:
            self._finish(op, memos.unknown_function_memo(options.function_id))
            return op_note(op, until=expires, function=options.function_id)
        correlation = f"{self.plan.run.id}.{op.id}"
        value = equality_value({"data": {"correlation_id": correlation}}, CORRELATION_PATH) or ""
        wait = NewWait(WaitKind.INVOKE, FINISHED, CORRELATION_PATH, value)
        invocation = Invocation(
            function_id, options.data, options.user, options.v, options.meta, options.expires_ms
        )
        item = msgspec.structs.replace(
            self._new_item(op, ItemKind.WAIT, expires), wait=wait, invocation=invocation
        )
        return self._add(op, item, until=expires, function=options.function_id)

    def _request(self, op: Op) -> OpNote:
        return self._add(op, self._new_item(op, ItemKind.REQUEST, self.context.now, request_data(op)))

    def _run_complete(self, op: Op) -> OpNote:
        self.plan.outcome = Outcome(RunStatus.COMPLETED, op.data)
        return op_note(op)


_HANDLERS = {
    "None": OperationPlanner._none,
    "DiscoveryRequest": OperationPlanner._discovery_request,
    "StepRun": OperationPlanner._step_run,
    "Step": OperationPlanner._step,
    "StepError": OperationPlanner._step_error,
    "StepFailed": OperationPlanner._step_failed,
    "StepPlanned": OperationPlanner._step_planned,
    "Sleep": OperationPlanner._sleep,
    "WaitForEvent": OperationPlanner._wait_for_event,
    "WaitForSignal": OperationPlanner._wait_for_signal,
    "InvokeFunction": OperationPlanner._invoke,
    "Gateway": OperationPlanner._request,
    "AIGateway": OperationPlanner._request,
    "RunComplete": OperationPlanner._run_complete,
}

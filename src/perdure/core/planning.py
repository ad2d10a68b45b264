"""What follows an answer of an app, a timer, or an event: every rule of the execution protocol is here.

A function is called again and again until it returns. Each answer is one of three things. It **returned**
(200): the run is complete. It **failed** as a whole: the call is tried again, or the run fails. Or it is
**not done** (206) and lists operations: steps that finished and steps that still have to happen.

Finished steps are recorded. For each step that still has to happen there is an item. If the answer named
one operation, the item stands alone and a discovery follows its end. If it named several and something of
them still has to happen, they are a parallel set, marked on the items (`Group`): in the ordinary mode one
discovery follows when the last of the set ends, since the SDK would only plan the same steps again before;
in race mode a discovery follows each.

Whatever happens, a run that has not ended keeps an item. If an answer leaves none, and brings nothing new,
the app is asked again a few times, and then the run fails with a reason: no run is ever stuck without one.

All functions read the run and fill a `Plan`. Nothing here knows of time, storage or the network.
"""

from __future__ import annotations

import msgspec

from perdure.core import history
from perdure.core.model import Item, ItemKind, Run, RunStatus, Wait, WaitKind
from perdure.core.operations import OperationPlanner
from perdure.core.plan import Context, Outcome, Plan, failure
from perdure.core.retries import retry_time
from perdure.core.settings import Settings
from perdure.protocol.failures import OpError
from perdure.protocol.memos import NULL_MEMO, invoke_timeout_memo
from perdure.protocol.ops import Op
from perdure.protocol.replies import Finished, FunctionError, OpsReply, Reply

FAILED_WITHOUT_PROGRESS = (
    "The app answered {count} times in a row without a new step, so calling it once more would lead nowhere. "
    "This is usually a step that the SDK skips: check that the app runs the code that it has synced."
)


def plan_reply(run: Run, item: Item, reply: Reply, status: int, context: Context) -> Plan:
    """What follows the answer to the call for `item`. `status` is its HTTP status, 0 if none came."""
    plan = Plan(run, context.now)
    if isinstance(reply, OpsReply):
        _plan_ops(plan, item, reply, status, context)
    elif isinstance(reply, Finished):
        plan.history.append(("call", history.call_note(item, status, [], None, 0, True)))
        plan.outcome = Outcome(RunStatus.COMPLETED, reply.output)
    else:
        _plan_failure(plan, item, reply, status, context)
    return plan


def _plan_failure(plan: Plan, item: Item, reply: FunctionError, status: int, context: Context) -> None:
    if reply.no_retry or item.attempt + 1 >= context.attempts:
        plan.history.append(("call", history.call_note(item, status, [], reply.output, 0, True)))
        plan.outcome = Outcome(RunStatus.FAILED, reply.output, reply.error)
        return
    retry_at = context.by_our_clock(reply.retry_at)
    due = retry_time(item.attempt, context.now, context.jitter(), context.settings, retry_at)
    plan.retry(item, due, item.attempt + 1)
    plan.history.append(("call", history.call_note(item, status, [], reply.output, due, False)))


def _plan_ops(plan: Plan, item: Item, reply: OpsReply, status: int, context: Context) -> None:
    run = plan.run
    if run.version < 0 and reply.ops and reply.version is not None:
        plan.version = reply.version
    planner = OperationPlanner(plan, item, reply, context)
    notes = planner.run()
    plan.history.append(
        (
            "call",
            history.call_note(item, status, notes, planner.error, planner.retry_at, plan.outcome is not None),
        )
    )
    if plan.outcome is not None:
        return
    new = bool(plan.saved or plan.added)
    stuck = plan.stuck()
    if planner.discover or stuck:
        plan.discover()
    if not new and (stuck or planner.asked):
        said_none = stuck and any(op.op == "None" for op in reply.ops)
        _plan_idle(plan, 1 if said_none else context.settings.idle_replies)


def _plan_idle(plan: Plan, limit: int) -> None:
    """Count an answer that brought nothing and only has the app called again; `limit` in a row fail the run."""
    count = plan.idle_replies = plan.run.idle_replies + 1
    if count >= limit:
        plan.outcome = failure(OpError("NoProgress", FAILED_WITHOUT_PROGRESS.format(count=count)))


def plan_checkpoint(run: Run, item: Item, ops: list[Op], context: Context) -> Plan:
    """Record steps that the running call for `item` has posted.

    They must all be finished steps (see `checkpointable`).
    """
    plan = Plan(run, context.now)
    planner = OperationPlanner(plan, item, OpsReply(ops, None, None, None), context)
    notes = planner.record_finished()
    if plan.saved:
        plan.reset_attempt = item.n
    if notes:
        plan.history.append(
            ("checkpoint", history.encode(history.CheckpointNote(item.n, item.generation, notes)))
        )
    return plan


def checkpointable(op: Op) -> bool:
    """Whether an operation may be posted by a running call: finished steps, and plans for the trace."""
    return op.op in ("StepRun", "Step", "StepPlanned")


def plan_timer(run: Run, item: Item, now: int, settings: Settings) -> Plan:
    """What follows when a sleep or a wait of the run is over."""
    if item.kind is ItemKind.SLEEP:
        return _plan_resumed(run, item, "Sleep", NULL_MEMO, "slept", now, settings)
    wait = run.waits.get(item.n)
    # A wait that has lost its signal to another run is gone, and only its item is left to time it out.
    kind = WaitKind.SIGNAL if wait is None else wait.kind
    memo = invoke_timeout_memo() if kind is WaitKind.INVOKE else NULL_MEMO
    return _plan_resumed(run, item, _OP_OF_WAIT[kind], memo, "timeout", now, settings)


def plan_match(
    run: Run, wait: Wait, memo: bytes, event_id: str, now: int, settings: Settings, failed: bool = False
) -> Plan:
    """What follows when an event, an invoked function's end or a signal ends a wait.

    `memo` is what the step then holds; `failed` says that the invoked function did not return.
    """
    finished = "failed" if failed else "finished"
    how = {WaitKind.EVENT: "matched", WaitKind.SIGNAL: "signal"}.get(wait.kind, finished)
    item = run.items[wait.n]
    return _plan_resumed(run, item, _OP_OF_WAIT[wait.kind], memo, how, now, settings, event_id)


def plan_request_answer(
    run: Run, item: Item, memo: bytes, op: str, now: int, settings: Settings, failed: bool
) -> Plan:
    """What follows a request that was made for the run: its step is recorded, with a result or an error."""
    return _plan_resumed(run, item, op, memo, "failed" if failed else "request", now, settings)


def plan_request_retry(run: Run, item: Item, error: bytes, context: Context) -> Plan:
    """A request for the run failed and is made again."""
    plan = Plan(run, context.now)
    due = retry_time(item.attempt, context.now, context.jitter(), context.settings)
    plan.retry(item, due, item.attempt + 1)
    note = history.RequestNote(item.n, item.step_id, item.attempt, msgspec.Raw(error), due)
    plan.history.append(("request", history.encode(note)))
    return plan


def plan_undelivered(run: Run, item: Item, now: int) -> Plan:
    """A call has reached nobody: it is made again when somebody takes it, and was no attempt."""
    plan = Plan(run, now)
    plan.retry(item, now, item.attempt)
    return plan


def plan_cancel(run: Run, now: int, reason: str = "", quiet: bool = False) -> Plan:
    """End a live run as cancelled, for a `reason` in words; `quiet` without the events that tell of it."""
    plan = Plan(run, now)
    plan.outcome = Outcome(RunStatus.CANCELLED, quiet=quiet, reason=reason)
    return plan


def plan_crash(run: Run, now: int, message: str) -> Plan:
    """End a run because the server itself could not decide what follows."""
    plan = Plan(run, now)
    plan.outcome = failure(OpError("PerdureError", message))
    return plan


_OP_OF_WAIT = {
    WaitKind.EVENT: "WaitForEvent",
    WaitKind.INVOKE: "InvokeFunction",
    WaitKind.SIGNAL: "WaitForSignal",
}


def _plan_resumed(
    run: Run, item: Item, op: str, memo: bytes, how: str, now: int, settings: Settings, event_id: str = ""
) -> Plan:
    """Record the step of an item that has ended outside of any call."""
    plan = Plan(run, now)
    plan.save(item.step_id, item.name, op, memo)
    plan.finish_item(item)
    plan.check_limits(settings)
    note = history.ResumedNote(item.n, item.step_id, how, item.name, event_id)
    plan.history.append(("resumed", history.encode(note)))
    return plan

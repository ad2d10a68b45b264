"""What a shard reads when it starts, and what it makes of calls that were under way.

An item in flight whose call this process still knows (a reload, not a start) stays in flight. Any other was
cut off: its call is made again, paced by its app's gate, with a higher generation, so that a late answer of
the old one is told apart. The attempt number stays, since nothing is known to have failed; only after
several restarts in the middle of one call does it count as an attempt, in case that call is what kills the
server. A call to a worker that connects by itself is not made again: the worker works on, comes back, and answers;
if it does not, the lease of the call runs out. Its restarts are counted all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec

from perdure.core import history
from perdure.core.flow.admission import RunFlow
from perdure.core.flow.throttle import ThrottleState
from perdure.core.model import CALLING, STANDARD_PARTS, Item, Run
from perdure.core.plan import Plan, failure
from perdure.protocol.failures import OpError
from perdure.protocol.function_rules import load_function
from perdure.shard.commands import ContinueEvent, Target
from perdure.shard.directory import Beyond
from perdure.shard.jobs import restore_job
from perdure.shard.keys import CLOCK, CRON, JOB, KEPT, PLACE, THROTTLE
from perdure.shard.lines import Line
from perdure.shard.memory import run_from_rows
from perdure.shard.ports import Store
from perdure.shard.queues import START
from perdure.shard.registered import make_function
from perdure.shard.rows import CONNECT, FunctionRow, KeyRow, OutboxRow
from perdure.shard.state import State
from perdure.shard.travelling import restore_clock

log = logging.getLogger("perdure.shard")

RUNS_AT_ONCE = 500
PARTS_AT_ONCE = 1_000


async def recover(
    state: State,
    store: Store,
    shard: int,
    kept: Collection[tuple[tuple[str, int], int]],
    resumed: list[tuple[Run, Item]] | None = None,
) -> list[ContinueEvent]:
    """Fill an empty state from the store. `kept` are calls ((run id, n), generation) that are still under
    way. Calls to workers, who may still answer them, are not made again but added to `resumed`, if that is given.

    Gives back the commands by which matching of events goes on that was cut off.
    """
    found = await store.recover(shard, KEPT)
    state.next_receipt = found.next_receipt
    state.apps = {row.id: row for row in found.apps}
    _take_functions(state, found.functions)
    await _take_queues(state, store, shard)
    for key in found.keys:
        _take_key(state, key)
    for event, path, count in found.wait_counts:
        state.memory.wait_counts.setdefault(event, {})[path] = count
    again = 0
    for at in range(0, len(found.in_flight), RUNS_AT_ONCE):
        runs = await store.load_runs(shard, found.in_flight[at : at + RUNS_AT_ONCE])
        for stored in runs.values():
            run = run_from_rows(stored)
            state.memory.add(run)
            for item in list(run.items.values()):
                if not item.in_flight:
                    continue
                if ((run.id, item.n), item.generation) not in kept:
                    if resumed is None or not _at_worker(state, run, item):
                        _call_again(state, run, item)
                        again += 1
                        continue
                    item.recoveries += 1
                    state.batch.put_item(run, item)
                    resumed.append((run, item))
                if item.kind in CALLING:
                    state.lines.hold(run, item)
    if again:
        calls = "1 call was cut off; it is" if again == 1 else f"{again} calls were cut off; they are"
        log.info("%s made again", calls)
    for queue in state.queues.all.values():
        if not isinstance(queue, Line):
            state.queues.look(queue, state.now)
    return [_go_on(row) for row in found.outbox]


def _at_worker(state: State, run: Run, item: Item) -> bool:
    """Whether a call was made to a worker that connects by itself, and so may come back with the answer.

    Not if the server has been restarted too often meanwhile: the answer may be what ends it.
    """
    if item.kind not in CALLING or run.status.ended:
        return False
    if item.recoveries + 1 >= state.settings.poison_recoveries:
        return False
    app = state.apps.get(state.functions.by_id[run.function_id].app_id)
    return app is not None and app.method == CONNECT


def _take_functions(state: State, rows: list[FunctionRow]) -> None:
    functions = []
    for row in rows:
        functions.append(make_function(row, load_function(row.config), state.settings))
        state.function_rows[row.id] = row
    state.put_functions(functions)


async def _take_queues(state: State, store: Store, shard: int) -> None:
    """Make a queue wherever the store has one: all of it is in the store only, for now."""
    directory = state.lines.directory
    for function_id in state.functions.by_id:
        parts = await store.load_parts(shard, function_id, "", PARTS_AT_ONCE)
        listed = [part for part in parts if part in STANDARD_PARTS or not directory.full]
        for part in listed:
            state.queue(function_id, part, START)
        if len(listed) == PARTS_AT_ONCE or len(listed) < len(parts):
            directory.beyond[function_id] = Beyond(cursor=listed[-1] if listed else "")


def _take_key(state: State, row: KeyRow) -> None:
    if row.kind == THROTTLE:
        state.lines.turns.room.restore_throttle(row.key, ThrottleState.decode(row.value))
    elif row.kind == PLACE:
        state.lines.hold_run(row.key, RunFlow.decode(row.value))
    elif row.kind == CRON:
        state.schedules.restore(row)
    elif row.kind == JOB:
        restore_job(state, row)
    elif row.kind == CLOCK:
        restore_clock(state, row)


def _call_again(state: State, run: Run, item: Item) -> None:
    if run.status.ended:
        return
    plan = Plan(run, state.now)
    cut = history.CutNote(item.n, item.attempt, item.generation, item.queued_at, item.step_id)
    plan.history.append(("cut", history.encode(cut)))
    state.apply(plan)
    item.in_flight = False
    item.due = state.now
    item.queued_at = state.now
    item.recoveries += 1
    if item.recoveries >= state.settings.poison_recoveries:
        item.recoveries = 0
        item.attempt += 1
        if item.attempt >= state.functions.by_id[run.function_id].attempts:
            text = (
                f"The server was restarted {state.settings.poison_recoveries} times in the middle of this call, "
                "and no attempt is left."
            )
            plan = Plan(run, state.now)
            plan.outcome = failure(OpError("PoisonCall", text))
            state.apply(plan)
            return
    state.batch.put_item(run, item)
    state.enqueue(run, item)


def _go_on(row: OutboxRow) -> ContinueEvent:
    if not row.cursor:
        return ContinueEvent(receipt=row.receipt)
    if row.cursor.startswith("{"):
        return ContinueEvent(receipt=row.receipt, target=msgspec.json.decode(row.cursor, type=Target))
    after = msgspec.json.decode(row.cursor, type=tuple[str, str, int])
    return ContinueEvent(receipt=row.receipt, stage=1, after=after)

"""What a shard reads when it starts, and what it makes of calls that were under way.

An item in flight whose call this process still knows (a reload, not a start) stays in flight. Any other was
cut off: its call is made again, paced by its app's gate, with a higher generation, so that a late answer of
the old one is told apart. The attempt number stays, since nothing is known to have failed; only after
several restarts in the middle of one call does it count as an attempt, in case that call is what kills the
server.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import msgspec

from perdure.core.functions import Function
from perdure.core.model import Item, Run
from perdure.core.plan import Plan, failure
from perdure.protocol.failures import OpError
from perdure.protocol.function_rules import load_function
from perdure.shard.commands import ContinueEvent
from perdure.shard.memory import run_from_rows
from perdure.shard.ports import Store
from perdure.shard.rows import FunctionRow, OutboxRow
from perdure.shard.state import State

log = logging.getLogger("perdure.shard")

RUNS_AT_ONCE = 500


async def recover(
    state: State, store: Store, shard: int, kept: Collection[tuple[tuple[str, int], int]]
) -> list[ContinueEvent]:
    """Fill an empty state from the store. `kept` are calls ((run id, n), generation) that are still under
    way.

    Gives back the commands by which matching of events goes on that was cut off.
    """
    found = await store.recover(shard)
    state.next_receipt = found.next_receipt
    state.apps = {row.id: row for row in found.apps}
    _take_functions(state, found.functions)
    for event, path, count in found.wait_counts:
        state.memory.wait_counts.setdefault(event, {})[path] = count
    again = 0
    for at in range(0, len(found.in_flight), RUNS_AT_ONCE):
        runs = await store.load_runs(shard, found.in_flight[at : at + RUNS_AT_ONCE])
        for stored in runs.values():
            run = run_from_rows(stored)
            state.memory.add(run)
            for item in list(run.items.values()):
                if item.in_flight and ((run.id, item.n), item.generation) not in kept:
                    _call_again(state, run, item)
                    again += 1
    if again:
        log.info("%d calls were cut off; they are made again", again)
    for queue in state.queues.by_function.values():
        state.queues.look(queue, state.now)
    return [_go_on(row) for row in found.outbox]


def _take_functions(state: State, rows: list[FunctionRow]) -> None:
    functions = []
    for row in rows:
        config = load_function(row.config)
        functions.append(Function(row.id, row.app_id, config, state.settings, row.archived_at is not None))
        state.function_rows[row.id] = row
    state.functions.put_all(functions)
    for function in functions:
        state.queue(function.id)


def _call_again(state: State, run: Run, item: Item) -> None:
    if run.status.ended:
        return
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
    after = msgspec.json.decode(row.cursor, type=tuple[str, str, int])
    return ContinueEvent(receipt=row.receipt, stage=1, after=after)

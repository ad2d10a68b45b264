"""Travel in time: the clock of the shard is moved on, so that what lies days ahead happens now.

The clock is that of the world and an offset, which only ever grows and is a row of its own (`keys.CLOCK`). Due times,
schedules, the windows of all rules, run records and histories go by it: nothing that happened later seems to have
happened earlier, after a restart neither. The ids of runs begin with the time at which they were created, so they go
with it. All other ids, what is said of events, and the times in signatures stay with the world, since others compare
these with clocks of their own; and a time that an app names is read by the app's clock (`core.plan.Context`).

A move is decided and committed like everything else. What is due by then follows at once, in the order in which it was
due, as after a time in which the server was not running. How far to go is found out once for each command: if its
commit landed although it seemed to fail, deciding it again moves nothing.

What is due next is read from the store and not from the queues: there references may be left of what was settled
otherwise, and of a long queue only the beginning is there. What is not committed yet nobody has seen.
"""

from __future__ import annotations

from perdure.core.model import CALLING, Item, ItemKind, Part, Run, RunStatus, WaitKind
from perdure.errors import RequestError
from perdure.protocol.durations import DAY, format_duration
from perdure.shard.commands import MoveClock
from perdure.shard.keys import BATCH, CLOCK, CLOSED_BATCH, CRON, LOOKBACK, TIMER, read_timer_id
from perdure.shard.memory import run_from_rows
from perdure.shard.ports import Store
from perdure.shard.rows import ItemRef, KeyRef, KeyRow
from perdure.shard.state import State
from perdure.shard.travel import Timer, Travel

MAX_AHEAD_MS = 3_653 * DAY
"""The clock can be ten years ahead: the longest sleep of the protocol is one year, the rarest schedule is due every
eight (29 February).
"""
TIMERS_SHOWN = 100
"""So many of the things that a move brings about, or that come next, are named."""
REF = KeyRef(CLOCK, "", "")

_TIMED = (Part.TIMERS, Part.CALLS, Part.REQUESTS)
_WAITS = {
    WaitKind.EVENT: "event timeout",
    WaitKind.INVOKE: "invoke timeout",
    WaitKind.SIGNAL: "signal timeout",
}
_RULES = {CRON: "cron", BATCH: "batch", CLOSED_BATCH: "batch", LOOKBACK: "lookback"}


def restore_clock(state: State, row: KeyRow) -> None:
    """The clock is as far ahead as it was."""
    state.ahead = int(row.value)
    state.now += state.ahead


def move_clock(state: State, command: MoveClock) -> Travel:
    """Move the clock, or only look at it. Raises `RequestError` if it cannot go there."""
    before = state.now
    timers = [timer for timer in command.timers if timer.due > before and _stands(state, timer)]
    if command.ahead is None:
        command.ahead = state.ahead + _distance(state, command, timers)
    if command.ahead > state.ahead:
        state.now += command.ahead - state.ahead
        state.ahead = command.ahead
        state.put_key(REF, b"%d" % state.ahead)
    return Travel(
        before=before,
        now=state.now,
        ahead=state.ahead,
        passed=[timer for timer in timers if timer.due <= state.now],
        more=len(command.timers) == TIMERS_SHOWN and command.timers[-1].due <= state.now,
        next=next((timer for timer in timers if timer.due > state.now), None),
    )


def _distance(state: State, command: MoveClock, timers: list[Timer]) -> int:
    """How far to go (ms)."""
    distance = command.by_ms
    if command.to_next:
        if not timers:
            raise RequestError(
                409, "Nothing is to come: no sleep, wait, retry, schedule or other timer.", "nothing_due"
            )
        distance = timers[0].due - state.now
    if distance < 0:
        raise RequestError(400, "by is negative; the clock can only be moved forward", "clock_backwards")
    if state.ahead + distance > MAX_AHEAD_MS:
        where = (
            f"it is {format_duration(state.ahead)} ahead already" if state.ahead else "it is not ahead yet"
        )
        raise RequestError(
            400,
            f"by is {format_duration(distance)}; the clock can be 10 years ahead of the real one at most, and {where}",
            "clock_too_far",
        )
    return distance


def _stands(state: State, timer: Timer) -> bool:
    """Whether what was read is still to come, as far as memory knows."""
    run = state.memory.runs.get(timer.run_id) if timer.n else None
    if run is None:
        return True
    item = run.items.get(timer.n)
    return item is not None and not item.in_flight and item.due == timer.due


async def read_timers(state: State, store: Store, shard: int) -> list[Timer]:
    """What is due after now, the first `TIMERS_SHOWN` in their order."""
    start, found = ItemRef(state.now + 1, "", 0), []
    for function_id, part in list(state.queues.all):
        if part in _TIMED:
            refs = await store.load_queue(shard, function_id, part, start, TIMERS_SHOWN)
            found += [(ref, function_id) for ref in refs]
    found = sorted(found)[:TIMERS_SHOWN]
    runs = {
        ref.run_id: state.memory.runs.get(ref.run_id) for ref, _ in found if not ref.run_id.startswith(TIMER)
    }
    missing = [run_id for run_id, run in runs.items() if run is None]
    if missing:
        runs |= {
            run_id: run_from_rows(rows) for run_id, rows in (await store.load_runs(shard, missing)).items()
        }
    timers = [_described(ref, function_id, runs.get(ref.run_id)) for ref, function_id in found]
    opening = _opening(state)
    return sorted([*timers, *opening], key=lambda timer: timer.due)[:TIMERS_SHOWN]


def _opening(state: State) -> list[Timer]:
    """When a throttle lets the next run start, if one waits for that."""
    opening = state.lines.opening(state.now)
    if opening is None:
        return []
    due, ticket = opening
    return [Timer(due, "throttle", ticket.function_id, ticket.run)]


def _described(ref: ItemRef, function_id: str, run: Run | None) -> Timer:
    if ref.run_id.startswith(TIMER):
        key = read_timer_id(ref.run_id)
        run_id = key.key.partition(".")[0] if key.kind == LOOKBACK else ""
        return Timer(ref.rank, _RULES.get(key.kind, "debounce"), function_id, run_id)
    item = run.items.get(ref.n) if run is not None else None
    if run is None or item is None:
        return Timer(ref.rank, "timer", function_id, ref.run_id, ref.n)
    return Timer(ref.rank, _kind(run, item), function_id, run.id, ref.n, item.name)


def _kind(run: Run, item: Item) -> str:
    if item.kind is ItemKind.DEADLINE:
        return f"{(item.data or b'finish').decode()} timeout"
    if item.kind is ItemKind.WAIT:
        wait = run.waits.get(item.n)
        return _WAITS.get(wait.kind, "timeout") if wait is not None else "timeout"
    if item.attempt and (item.kind in CALLING or item.kind is ItemKind.REQUEST):
        return "retry"
    if item.kind in CALLING and run.status is RunStatus.QUEUED:
        return "start"
    return item.kind.value

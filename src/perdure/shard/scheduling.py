"""Schedules: which a function has, when each is due, and what happens then.

Every schedule is in memory, and one row (`keys.CRON`): the time that it is to fire for next, which jitter does not
move. Its timer is an item like that of any rule. A firing stores the event of the schedule and starts the function,
and puts the next time in place of this one, all in one commit: so it happens once, whatever fails.
"""

from __future__ import annotations

from perdure.core import cron
from perdure.core.flow.admission import Pause
from perdure.core.flow.keys import digest
from perdure.core.functions import Function
from perdure.protocol import lifecycle
from perdure.protocol.durations import format_time
from perdure.protocol.events import internal_event
from perdure.protocol.functions import Trigger
from perdure.shard.beginning import Beginning
from perdure.shard.commands import Target
from perdure.shard.keys import CRON, timer_id
from perdure.shard.rows import KeyRef
from perdure.shard.schedules import Schedule
from perdure.shard.state import State

LATE_MS = 1_000
"""A firing that comes so much later than its jitter allows was missed: the server was away, or its clock moved."""


def put_schedules(state: State, function: Function) -> None:
    """Bring the schedules of a function to what it is registered with: what is unchanged goes on as it was."""
    wanted = {} if function.archived else {t.cron: t for t in function.config.triggers if t.cron}
    refs = {KeyRef(CRON, function.id, digest(text)): trigger for text, trigger in wanted.items()}
    for ref in [ref for ref in state.schedules.all if ref.owner == function.id and ref not in refs]:
        del state.schedules.all[ref]
        state.drop_key(ref)
        state.drop_timer(timer_id(ref))
    for ref, trigger in refs.items():
        if ref not in state.schedules.all:
            _arm(state, ref, trigger, state.now)


def _arm(state: State, ref: KeyRef, trigger: Trigger, since: int) -> None:
    """Set the next time of a schedule after `since` (ms)."""
    assert trigger.cron is not None
    scheduled = cron.next_fire(trigger.cron, since)
    if scheduled is None:
        state.schedules.all.pop(ref, None)
        state.drop_key(ref)
        state.drop_timer(timer_id(ref))
        return
    chance = int.from_bytes(state.entropy(4)) / 2**32
    due = cron.fire_at(scheduled, trigger.jitter_ms, chance)
    schedule = Schedule(trigger.cron, scheduled, due, since)
    state.schedules.all[ref] = schedule
    state.put_key(ref, schedule.encode())
    state.set_timer(timer_id(ref), ref.owner, due)


def fire_schedule(state: State, ref: KeyRef) -> None:
    """The timer of a schedule is due: fire, and set its next time."""
    schedule = state.schedules.all.get(ref)
    if schedule is None:
        state.drop_timer(timer_id(ref))
        return
    if schedule.due > state.now:
        state.set_timer(timer_id(ref), ref.owner, schedule.due)
        return
    function = state.functions.by_id[ref.owner]
    trigger = next(t for t in function.config.triggers if t.cron == schedule.text)
    # What passed in between, with jitter taken off, was missed: the latest stands for all. If any was, that may be one
    # whose own jitter is not over: otherwise it would fire as well, in the same moment.
    jitter = trigger.jitter_ms
    late = state.now - schedule.scheduled > jitter + LATE_MS
    latest = cron.missed(schedule.text, schedule.since, state.now if late else state.now - jitter)
    recent = state.now - schedule.scheduled <= cron.CATCH_UP_MS
    fires = latest if latest is not None else (schedule.scheduled if recent else None)
    if fires is not None:
        fires = max(fires, schedule.scheduled)
        _start(state, function, schedule.text, fires)
    _arm(state, ref, trigger, fires if fires is not None else state.now)


def _start(state: State, function: Function, text: str, scheduled: int) -> None:
    data = lifecycle.scheduled_event_data(text, _time(scheduled), _time(state.now))
    internal_id = state.new_id()
    event = internal_event(lifecycle.SCHEDULED, data, internal_id, internal_id, state.real_now)
    receipt = state.store_event(event, internal=True)
    if function.rules.plain and state.pause_of(function.id) is Pause.NO:
        state.create_run(function, [(receipt, event)], Beginning(cron=text))
    else:
        state.start_later(receipt, Target(function.id, cron=text))


def _time(ms: int) -> str:
    """A time as the reference server gives it: without milliseconds at a full second."""
    return format_time(ms).replace(".000Z", "Z")

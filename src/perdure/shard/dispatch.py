"""From due items to calls: each function in turn, each app as far as its gate allows.

There is no tick and no poll: an item becomes a call in the same round in which it became due, if there is
room. An item whose run is not in memory is read first; a queue of calls or requests that has no room is taken out of
the line until its gate lets somebody out. Calls that need places come through `shard.lines`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from ulid_transform import ulid_to_bytes

from perdure.core import planning
from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.core.model import CALLING, Item, ItemKind, Run, RunStatus
from perdure.core.pacing import Gate
from perdure.core.requests import build_request, request_op
from perdure.protocol.calls import Call
from perdure.protocol.failures import OpError
from perdure.shard.calls import CallBuilder, request_id, uses_api
from perdure.shard.commands import Checkpoint, FireRule, LookBack
from perdure.shard.keys import CRON, LOOKBACK, THROTTLE, TIMER, read_timer_id
from perdure.shard.lines import Line, TurnQueue, needs_of
from perdure.shard.loads import Loads
from perdure.shard.looking_back import read_lookback
from perdure.shard.ports import ResumedCall, Workers
from perdure.shard.queues import Queue
from perdure.shard.rows import CONNECT, ItemRef, KeyRef
from perdure.shard.scheduling import fire_schedule
from perdure.shard.state import ApplyFault, State

GIVE_UP = 3
"""After so many faults in applying what follows an item, it is left alone; before that, its run is failed."""
MAX_LOADING = 64
"""Runs of one function that are read at once because their items are due."""


_MISSED = {
    b"start": "Timed out: the run had not begun by the time that `timeouts.start` allows.",
    b"finish": "Timed out: the run had not ended by the time that `timeouts.finish` allows.",
}


class LiveCall(msgspec.Struct):
    """A call under way, or about to leave with its batch."""

    generation: int
    number: int
    gate: Gate


class Dispatcher:
    """Starts what is due. `start` is told (run id, n, generation, call) when a call's batch is on disk."""

    def __init__(
        self,
        state: State,
        loads: Loads,
        builder: CallBuilder,
        start: Callable[[str, int, int, Call], None],
        workers: Workers | None = None,
    ) -> None:
        self._workers = workers
        self._state = state
        self._loads = loads
        self._builder = builder
        self._start = start
        self._numbers = 0
        self._waiting: dict[Gate, list[Queue]] = {}
        self._stalled: list[Queue] = []
        self.live: dict[tuple[str, int], LiveCall] = {}
        self.paused = False
        self.faults: dict[ItemRef, int] = {}
        """How often applying what follows an item has failed, each time followed by a reload."""

    def successor(self, state: State, loads: Loads) -> Dispatcher:
        """The dispatcher of the next epoch: the calls under way, and their numbers, go on."""
        after = Dispatcher(state, loads, self._builder, self._start, self._workers)
        after._numbers, after.live = self._numbers, self.live
        after.paused, after.faults = self.paused, self.faults
        return after

    def turn(self, limit: int) -> int:
        """Handle up to `limit` due items; give back how many were handled."""
        state = self._state
        now, queues = state.now, state.queues
        self._let_in(now)
        queues.wake(now)
        self._form_lines(now)
        done = 0
        while done < limit:
            queue = queues.take_turn(now)
            if queue is None:
                break
            if not self._has_room(queue, now):
                self._block(queue)
                continue
            ref = queue.take(now)
            if ref is not None:
                self._try(queue, ref, now)
            queues.look(queue, now)
            if queue.wants_window():
                self._loads.window(queue)
            done += 1
        self._form_lines(now)
        if self._waiting:
            self._let_in(now)
        return done

    def _form_lines(self, now: int) -> None:
        """Put the first of each line in turn, and the functions in line for whom a turn is possible."""
        state, lines = self._state, self._state.lines
        function_id = lines.directory.wants(now)
        if function_id is not None:
            self._loads.parts(function_id)
        if lines.touched:
            touched, lines.touched = lines.touched, {}
            for line in touched:
                if lines.lists(line):
                    self._feed(line)
        for function_id in lines.settle(now):
            state.queues.look(state.turn_queue(function_id), now)
        if lines.throttled:
            throttled, lines.throttled = lines.throttled, {}
            for counter, schedule in throttled.items():
                state.put_key(KeyRef(THROTTLE, "", counter), schedule.encode(), schedule.expires_at())

    def _feed(self, line: Line) -> None:
        ref = self._state.lines.feed(line)
        if ref is not None:
            self._learn(line, ref)
        if line.wants_window():
            self._loads.window(line)
        self._state.lines.close_if_empty(line)

    def _learn(self, line: Line, ref: ItemRef) -> None:
        """Find out what a line needs, by one of its runs."""
        run = self._state.memory.get(ref.run_id)
        if run is None:
            line.blocked = True
            self._loads.want_run_for(line, ref)
            return
        item = run.items.get(ref.n)
        # A window may show a call that has left since: its run has begun, and needs less than those behind it.
        if item is not None and item.part == line.part and not item.in_flight:
            line.needs = needs_of(run)
            line.put_back(ref)
        self._state.lines.touched[line] = None

    def _has_room(self, queue: Queue, now: int) -> bool:
        """Whether a call or request of the queue may leave; always true where none leaves."""
        gate = queue.gate
        if gate is None:
            return True
        return not self.paused and self._may_leave(queue, gate, now, self._others_wait(queue, gate))

    def _called_through_workers(self, queue: Queue, gate: Gate) -> str | None:
        """The name of the queue's app, if its calls go to workers that connect."""
        if gate is self._state.request_gate:
            return None
        app = self._state.apps.get(self._state.functions.by_id[queue.function_id].app_id)
        return app.name if app is not None and app.method == CONNECT else None

    def _workers_lack(self, workers: Workers, app: str, queue: Queue, gate: Gate) -> str:
        """Why no worker takes a call of the queue: `no_worker` or `capacity`; empty if one does."""
        free = workers.free(app, self._state.functions.by_id[queue.function_id].slug)
        if free is None:
            return "no_worker"
        return "" if free > len(gate.leaving) else "capacity"

    def _try(self, queue: Queue, ref: ItemRef, now: int) -> None:
        """Handle an item. If applying what follows it has failed before, fail its run; if that fails too, let it be."""
        faults = self.faults.get(ref, 0)
        if faults >= GIVE_UP:
            if isinstance(queue, TurnQueue):
                self._state.lines.give_up(ref.run_id, ref.n, now)
            return
        try:
            if faults < GIVE_UP - 1 or ref.run_id.startswith(
                TIMER
            ):  # a rule's command says how often it has failed
                self._handle(queue, ref, now)
            elif self._state.memory.get(ref.run_id) is None:
                self._load(queue, ref)
            else:
                raise RuntimeError("applying what follows this item has failed before")
        except ApplyFault:
            self.faults[ref] = faults + 1
            raise
        except Exception as error:
            try:
                self._state.quarantine(f"item {ref}", ref.run_id, error)
            except ApplyFault:
                self.faults[ref] = faults + 1
                raise

    def has_due(self) -> bool:
        """Whether more items can be handled at once."""
        return bool(self._state.queues.line or self._state.lines.touched)

    def next_time(self) -> int | None:
        """When (ms) there will be something to do next, as far as is known; None if nothing is."""
        gates = () if self.paused else self._waiting
        times = [self._state.queues.next_time(), self._state.lines.turns.next_time()]
        times.append(self._state.lines.directory.next_time())
        times += [gate.next_room() for gate in gates]
        return min((time for time in times if time is not None), default=None)

    def left(self, run_id: str, n: int) -> None:
        """A call has been given to its transport."""
        live = self.live.get((run_id, n))
        if live is not None:
            live.gate.leaving.discard(live.number)

    def resume(self, run: Run, item: Item) -> ResumedCall:
        """A call that an earlier process has made is under way still, at a worker."""
        state = self._state
        function = state.functions.by_id[run.function_id]
        gate = state.gate(function.app_id)
        self._numbers += 1
        gate.enter(self._numbers, run.function_id, state.now)
        gate.leaving.discard(self._numbers)
        self.live[(run.id, item.n)] = LiveCall(item.generation, self._numbers, gate)
        request = request_id(run.id, item.n, item.generation)
        app = state.apps[function.app_id]
        return ResumedCall(request, app.name, function.slug, run.id, item.n, item.generation, app.sdk)

    def ended(self, run_id: str, n: int, generation: int) -> None:
        """A call is over: there is room for another."""
        live = self.live.get((run_id, n))
        if live is not None and live.generation == generation:
            del self.live[(run_id, n)]
            live.gate.leave(live.number)

    def posted(self, command: Checkpoint) -> None:
        """A call has posted finished steps."""
        live = self.live.get((command.run, command.n))
        if live is not None:
            live.gate.posted(live.number, self._state.now, command.took)

    def _open(self, gate: Gate) -> None:
        for queue in self._waiting.pop(gate, ()):
            queue.blocked = False
            self._state.queues.look(queue, self._state.now)

    def _let_in(self, now: int) -> None:
        for gate, queues in list(self._waiting.items()):
            several = len(queues) > 1
            if not self.paused and any(self._may_leave(queue, gate, now, several) for queue in queues):
                self._open(gate)
        if self._stalled:
            stalled, self._stalled = self._stalled, []
            for queue in stalled:
                if queue.loading < MAX_LOADING // 2:
                    queue.blocked = False
                    self._state.queues.look(queue, now)
                else:
                    self._stalled.append(queue)

    def _may_leave(self, queue: Queue, gate: Gate, now: int, others_wait: bool) -> bool:
        workers = self._workers
        app = None if workers is None else self._called_through_workers(queue, gate)
        if workers is None or app is None:
            return gate.has_room(queue.function_id, now, others_wait)
        gate.young_calls, gate.hard_limit = workers.pace(app)
        if not gate.has_room(queue.function_id, now, others_wait):
            return False
        return not self._workers_lack(workers, app, queue, gate)

    def _block(self, queue: Queue) -> None:
        """Take a queue out of the line until its gate has room."""
        assert queue.gate is not None
        queue.blocked = True
        self._waiting.setdefault(queue.gate, []).append(queue)

    def _load(self, queue: Queue, ref: ItemRef) -> None:
        if queue.loading >= MAX_LOADING:
            queue.put_back(ref)
            queue.blocked = True
            self._stalled.append(queue)
        else:
            self._loads.want_run_for(queue, ref)

    def _handle(self, queue: Queue, ref: ItemRef, now: int) -> None:
        state = self._state
        if ref.run_id.startswith(TIMER):
            self._fire(ref)
            return
        run = state.memory.get(ref.run_id)
        if run is None:
            self._load(queue, ref)
            return
        item = run.items.get(ref.n)
        if item is None or item.in_flight or item.rank != ref.rank:
            if isinstance(queue, TurnQueue):
                state.lines.regret(run, ref.n, now)
            return
        if item.kind in CALLING:
            self._call(queue, ref, run, item, now)
        elif item.kind is ItemKind.REQUEST:
            self._make_request(queue, run, item, now)
        elif item.kind is ItemKind.DEADLINE:
            state.apply(planning.plan_cancel(run, now, _MISSED[item.data or b""]))
        else:
            state.apply(planning.plan_timer(run, item, now, state.settings_for(run)))

    def _fire(self, ref: ItemRef) -> None:
        """A rule is due: a schedule at once, what was held back when it has been read."""
        key = read_timer_id(ref.run_id)
        if key.kind == CRON:
            fire_schedule(self._state, key)
            return
        command: FireRule | LookBack
        if key.kind == LOOKBACK:
            command = read_lookback(key)
            command.item = ref
        else:
            command = FireRule(function_id=key.owner, ref=key, timer=ref.run_id, item=ref)
        command.faults = self.faults.get(ref, 0)
        self._state.follow_ups.append(command)

    def _call(self, queue: Queue, ref: ItemRef, run: Run, item: Item, now: int) -> None:
        state = self._state
        if queue.gate is None:
            # It was put off, or held: now it stands where it is called from.
            state.batch.put_item(run, item)
            state.enqueue(run, item)
            return
        if run.status is RunStatus.QUEUED and state.pause_of(run.function_id) is not Pause.NO:
            # It was queued before its function was paused: it begins when that is resumed.
            if run.flow is not None:
                state.lines.regret(run, item.n, now)
            state.batch.put_item(run, item)
            state.enqueue(run, item, held=True)
            return
        if not run.memos_resident and not uses_api(run, state.settings):
            self._load(queue, ref)
            return
        function = state.functions.by_id[run.function_id]
        self._enter(run, item, queue.gate, now)
        call = self._build(run, item, function)
        self._leave_with_batch(run, item, call)

    def _others_wait(self, queue: Queue, gate: Gate) -> bool:
        """Whether another function of the same app waits for its turn."""
        if not gate.holds_half(queue.function_id):
            return False
        waiting = (*self._waiting.get(gate, ()), *self._state.queues.line)
        return any(other is not queue and other.gate is gate for other in waiting)

    def fullness(self, queue: Queue, gate: Gate) -> str:
        """Why no call of a queue may start now: `stopping`, `half`, `all`, `young`, `no_worker` or `capacity`.

        Empty if one may.

        `half` comes first: whose function has its half is not served even when a place is free.
        """
        if self.paused:
            return "stopping"
        if self._others_wait(queue, gate):
            return "half"
        if len(gate.in_flight) >= gate.hard_limit:
            return "all"
        if gate.young(self._state.now) >= gate.young_calls:
            return "young"
        app = None if self._workers is None else self._called_through_workers(queue, gate)
        return (
            ""
            if self._workers is None or app is None
            else self._workers_lack(self._workers, app, queue, gate)
        )

    def _build(self, run: Run, item: Item, function: Function) -> Call:
        state = self._state
        request = request_id(run.id, item.n, item.generation)
        trace = (ulid_to_bytes(run.id).hex(), state.entropy(8).hex())
        return self._builder.build(
            run, item, function, function.attempts, request, trace, state.real_now // 1000
        )

    def _make_request(self, queue: Queue, run: Run, item: Item, now: int) -> None:
        state, gate = self._state, queue.gate
        assert item.data is not None
        assert gate is not None
        try:
            call = build_request(item.data)
        except OpError as error:
            op, settings = request_op(item.data), state.settings_for(run)
            state.apply(planning.plan_request_answer(run, item, error.memo(), op, now, settings, True))
            return
        self._enter(run, item, gate, now)
        self._leave_with_batch(run, item, call)

    def _enter(self, run: Run, item: Item, gate: Gate, now: int) -> None:
        """Note that the item is being sent: the generation rises in the commit before the call leaves."""
        state = self._state
        item.in_flight = True
        item.generation += 1
        item.sent_at = now
        state.batch.put_item(run, item)
        if run.status is RunStatus.QUEUED and item.kind in CALLING:
            state.lines.begun(run.id, item.n, now)
            state.begin(run)
        self._numbers += 1
        gate.enter(self._numbers, run.function_id, now)
        self.live[(run.id, item.n)] = LiveCall(item.generation, self._numbers, gate)

    def _leave_with_batch(self, run: Run, item: Item, call: Call) -> None:
        batch = self._state.batch
        batch.calls.append((run.id, item.n, item.generation))
        batch.effects.append(partial(self._start, run.id, item.n, item.generation, call))

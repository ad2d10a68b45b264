"""From due items to calls: each function in turn, each app as far as its gate allows.

There is no tick and no poll: an item becomes a call in the same round in which it became due, if there is
room. An item whose run is not in memory is read first; a call that has no room takes its queue out of the
line until the gate lets somebody out. A request that has no room steps out of its queue instead: requests can
take minutes, and the calls behind it go elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec
from ulid_transform import ulid_to_bytes

from perdure.core import planning
from perdure.core.functions import Function
from perdure.core.model import CALLING, Item, ItemKind, Run, RunStatus
from perdure.core.pacing import Gate
from perdure.core.requests import build_request, request_op
from perdure.protocol.calls import Call
from perdure.protocol.failures import OpError
from perdure.protocol.ids import new_ulid
from perdure.shard.calls import CallBuilder, uses_api
from perdure.shard.loads import Loads
from perdure.shard.queues import FunctionQueue
from perdure.shard.rows import ItemRef
from perdure.shard.state import ApplyFault, State

GIVE_UP = 3
"""After so many faults in applying what follows an item, it is left alone; before that, its run is failed."""
MAX_PARKED = 10_000
"""Requests that wait outside of their queues for a place; with more, their queues wait."""
MAX_LOADING = 64
"""Runs of one function that are read at once because their items are due."""


class LiveCall(msgspec.Struct):
    """A call under way, or about to leave with its batch."""

    generation: int
    number: int
    gate: Gate


class Dispatcher:
    """Starts what is due. `start` is told (run id, n, generation, call) when a call's batch is on disk."""

    def __init__(
        self, state: State, loads: Loads, builder: CallBuilder, start: Callable[[str, int, int, Call], None]
    ) -> None:
        self._state = state
        self._loads = loads
        self._builder = builder
        self._start = start
        self._numbers = 0
        self._waiting: dict[Gate, list[FunctionQueue]] = {}
        self._stalled: list[FunctionQueue] = []
        self._parked: deque[tuple[FunctionQueue, ItemRef]] = deque()
        self.live: dict[tuple[str, int], LiveCall] = {}
        self.paused = False
        self.faults: dict[ItemRef, int] = {}
        """How often applying what follows an item has failed, each time followed by a reload."""

    def successor(self, state: State, loads: Loads) -> Dispatcher:
        """The dispatcher of the next epoch: the calls under way, and their numbers, go on."""
        after = Dispatcher(state, loads, self._builder, self._start)
        after._numbers, after.live = self._numbers, self.live
        after.paused, after.faults = self.paused, self.faults
        return after

    def turn(self, limit: int) -> int:
        """Handle up to `limit` due items; give back how many were handled."""
        state = self._state
        now, queues = state.now, state.queues
        self._let_in(now)
        self._unpark(now)
        queues.wake(now)
        done = 0
        while done < limit:
            taken = queues.take_turn(now)
            if taken is None:
                break
            queue, ref = taken
            self._try(queue, ref, now)
            queues.look(queue, now)
            if queue.wants_window():
                self._loads.window(queue)
            done += 1
        if self._waiting:
            self._let_in(now)
        return done

    def _try(self, queue: FunctionQueue, ref: ItemRef, now: int) -> None:
        """Handle an item. If applying what follows it has failed before, fail its run; if that fails too, let it be."""
        faults = self.faults.get(ref, 0)
        if faults >= GIVE_UP:
            return
        try:
            if faults < GIVE_UP - 1:
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
        return bool(self._state.queues.line)

    def next_time(self) -> int | None:
        """When (ms) there will be something to do next, as far as is known; None if nothing is."""
        gates = () if self.paused else self._waiting
        times = [self._state.queues.next_time(), *(gate.next_room() for gate in gates)]
        return min((time for time in times if time is not None), default=None)

    def ended(self, run_id: str, n: int, generation: int) -> None:
        """A call is over: there is room for another."""
        live = self.live.get((run_id, n))
        if live is not None and live.generation == generation:
            del self.live[(run_id, n)]
            live.gate.leave(live.number)

    def _open(self, gate: Gate) -> None:
        for queue in self._waiting.pop(gate, ()):
            queue.blocked = False
            self._state.queues.look(queue, self._state.now)

    def _let_in(self, now: int) -> None:
        for gate, queues in list(self._waiting.items()):
            several = len(queues) > 1
            if not self.paused and any(gate.has_room(queue.function_id, now, several) for queue in queues):
                self._open(gate)
        if self._stalled:
            stalled, self._stalled = self._stalled, []
            for queue in stalled:
                if queue.loading < MAX_LOADING // 2:
                    queue.blocked = False
                    self._state.queues.look(queue, now)
                else:
                    self._stalled.append(queue)

    def _unpark(self, now: int) -> None:
        """Make as many of the requests that wait outside of their queues as there are places for."""
        gate = self._state.request_gate
        free = 0 if self.paused else gate.hard_limit - len(gate.in_flight)
        for _ in range(min(free, len(self._parked))):
            queue, ref = self._parked.popleft()
            self._try(queue, ref, now)

    def _block(self, queue: FunctionQueue, ref: ItemRef, gate: Gate) -> None:
        queue.put_back(ref)
        queue.blocked = True
        self._waiting.setdefault(gate, []).append(queue)

    def _load(self, queue: FunctionQueue, ref: ItemRef) -> None:
        if queue.loading >= MAX_LOADING:
            queue.put_back(ref)
            queue.blocked = True
            self._stalled.append(queue)
        else:
            self._loads.want_run_for(queue, ref)

    def _handle(self, queue: FunctionQueue, ref: ItemRef, now: int) -> None:
        state = self._state
        run = state.memory.get(ref.run_id)
        if run is None:
            self._load(queue, ref)
            return
        item = run.items.get(ref.n)
        if item is None or item.in_flight or item.due != ref.due:
            return
        if item.kind in CALLING:
            self._call_app(queue, ref, run, item, now)
        elif item.kind is ItemKind.REQUEST:
            self._make_request(queue, ref, run, item, now)
        else:
            state.apply(planning.plan_timer(run, item, now, state.settings_for(run)))

    def _call_app(self, queue: FunctionQueue, ref: ItemRef, run: Run, item: Item, now: int) -> None:
        state, gate = self._state, queue.gate
        if self.paused or not gate.has_room(run.function_id, now, self._others_wait(queue)):
            self._block(queue, ref, gate)
            return
        if not run.memos_resident and not uses_api(run, state.settings):
            self._load(queue, ref)
            return
        function = state.functions.by_id[run.function_id]
        self._enter(run, item, gate, now)
        call = self._build(run, item, function, now)
        self._leave_with_batch(run, item, call)

    def _others_wait(self, queue: FunctionQueue) -> bool:
        """Whether another function of the same app waits for its turn."""
        gate = queue.gate
        if not gate.holds_half(queue.function_id):
            return False
        waiting = (*self._waiting.get(gate, ()), *self._state.queues.line)
        return any(other is not queue and other.gate is gate for other in waiting)

    def _build(self, run: Run, item: Item, function: Function, now: int) -> Call:
        entropy = self._state.entropy
        trace = (ulid_to_bytes(run.id).hex(), entropy(8).hex())
        return self._builder.build(
            run, item, function, function.attempts, new_ulid(now, entropy(10)), trace, now // 1000
        )

    def _make_request(self, queue: FunctionQueue, ref: ItemRef, run: Run, item: Item, now: int) -> None:
        state, gate = self._state, self._state.request_gate
        if self.paused or not gate.has_room(run.function_id, now, False):
            if self.paused or len(self._parked) >= MAX_PARKED:
                self._block(queue, ref, gate)
            else:
                self._parked.append((queue, ref))
            return
        assert item.data is not None
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
            run.status = RunStatus.RUNNING
            run.started_at = now
            state.batch.touch_run(run)
        self._numbers += 1
        gate.enter(self._numbers, run.function_id, now)
        self.live[(run.id, item.n)] = LiveCall(item.generation, self._numbers, gate)

    def _leave_with_batch(self, run: Run, item: Item, call: Call) -> None:
        batch = self._state.batch
        batch.calls.append((run.id, item.n, item.generation))
        batch.effects.append(partial(self._start, run.id, item.n, item.generation, call))

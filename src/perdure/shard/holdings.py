"""What a shard holds beside its runs: functions with their queues, and what is remembered under keys."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from perdure.core.flow.admission import Pause
from perdure.core.functions import Function, Functions
from perdure.core.model import (
    STANDARD_PARTS,
    Part,
    Run,
)
from perdure.core.pacing import Gate
from perdure.core.settings import Settings
from perdure.protocol.ids import new_ulid
from perdure.shard.batch import TIMER_ITEM, Batch
from perdure.shard.keys import TAKEN
from perdure.shard.lines import Lines, TurnQueue
from perdure.shard.memory import Memory
from perdure.shard.ports import Entropy
from perdure.shard.queues import END, Queue, Queues
from perdure.shard.rows import (
    AppRow,
    FunctionRow,
    ItemRef,
    KeyRef,
)
from perdure.shard.run_ids import RunIds

REQUEST_PLACES = 100
"""Requests made for runs at once."""


class Holdings:
    """Functions, apps, queues, keys, the clock and the open batch. `State` adds what happens to runs."""

    def __init__(self, entropy: Entropy, settings: Settings) -> None:
        self.entropy = entropy
        self.run_ids = RunIds(entropy)
        self.settings = settings
        self.now = 0
        """The time (ms) by which things are due and are written down: that of the world, and `ahead` besides."""
        self.ahead = 0
        """How far (ms) travel in time has moved the clock (`shard.travelling`)."""
        self.memory = Memory()
        self.queues = Queues()
        self.lines = Lines(self.queues)
        self.functions = Functions()
        self.apps: dict[str, AppRow] = {}
        self.function_rows: dict[str, FunctionRow] = {}
        self.gates: dict[str, Gate] = {}
        self.request_gate = Gate(REQUEST_PLACES, REQUEST_PLACES)
        self.batch = Batch(1)
        self._late: set[Queue] = set()
        self.limits: dict[str, dict[str, int]] = {}
        """Limits of steps and state set for single functions, by slug (a help for tests; not stored)."""
        self.keys_from = 0
        """Keys that expire before this time (ms) are taken for expired now (a help for tests; not stored)."""

    @property
    def real_now(self) -> int:
        """The time of the world (ms): that of ids, events and signatures."""
        return self.now - self.ahead

    def new_id(self) -> str:
        """A new ULID by the time of the world. Those of runs are made otherwise: lists of runs are in their order, and
        so they begin with the time that is written down.
        """
        return new_ulid(self.real_now, self.entropy(10))

    # Functions and their queues

    def gate(self, app_id: str) -> Gate:
        """The gate of an app."""
        gate = self.gates.get(app_id)
        if gate is None:
            gate = self.gates[app_id] = Gate()
        return gate

    def queue(self, function_id: str, part: str, edge: ItemRef = END) -> Queue:
        """A queue of a function, made if it does not exist: `edge` says from where on it is in the store only."""
        queue = self.queues.all.get((function_id, part))
        if queue is None:
            if part not in STANDARD_PARTS:
                return self.lines.line(function_id, part, edge)
            gate = None
            if part == Part.CALLS:
                gate = self.gate(self.functions.by_id[function_id].app_id)
            elif part == Part.REQUESTS:
                gate = self.request_gate
            queue = self.queues.all[function_id, part] = Queue(function_id, part, gate, edge)
            queue.blocked = part == Part.HELD and self.pause_of(function_id) is not Pause.NO
        return queue

    def turn_queue(self, function_id: str) -> TurnQueue:
        """The calls of a function whose turn it is."""
        queue = self.queues.all.get((function_id, ""))
        if queue is None:
            gate = self.gate(self.functions.by_id[function_id].app_id)
            queue = self.queues.all[function_id, ""] = TurnQueue(function_id, gate, self.lines)
        assert isinstance(queue, TurnQueue)
        return queue

    def queue_size(self, function_id: str) -> int:
        """How many items of a function wait in memory (a help for tests)."""
        queues = [queue for (owner, _), queue in self.queues.all.items() if owner == function_id]
        return sum(len(queue.heap) for queue in queues) + self.lines.waiting(function_id)

    def pause_of(self, function_id: str) -> Pause:
        """What a function does with new runs."""
        row = self.function_rows.get(function_id)
        return Pause(row.paused) if row is not None and row.paused else Pause.NO

    def put_functions(self, functions: list[Function]) -> None:
        """Take in functions, new or changed, and put their limits in force."""
        self.functions.put_all(functions)
        for function in functions:
            self.lines.turns.set_limits(function.id, function.rules.limits)

    def put_function(self, row: FunctionRow) -> None:
        """Take in a function's row; see `put_functions` for the function itself."""
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

    # Keys

    def key(self, ref: KeyRef, found: Mapping[KeyRef, bytes]) -> bytes | None:
        """What stands under a key now, given what was read."""
        return self.memory.keys.value(ref, found)

    def put_key(self, ref: KeyRef, value: bytes, expires_at: int = 0) -> None:
        """Remember a value under a key."""
        self.memory.keys.put(ref, value, self.batch.number)
        self.batch.put_key(ref, value, expires_at)

    def drop_key(self, ref: KeyRef) -> None:
        """Remember nothing under a key any more."""
        self.memory.keys.put(ref, None, self.batch.number)
        self.batch.drop_key(ref)

    def take_event(self, function: Function, event_id: str, run: Run | None) -> None:
        """Remember that the function took this event: delivered again, it starts no other run."""
        value = b"" if run is None else run.id.encode()
        self.put_key(KeyRef(TAKEN, function.id, event_id), value, self.now + self.settings.dedupe_ms)

    # Timers of rules

    def set_timer(self, timer: str, function_id: str, due: int) -> None:
        """A rule of a function is to be looked at at `due` (ms)."""
        self.batch.put_timer(timer, function_id, due, self.now)
        self._push(self.queue(function_id, Part.TIMERS), ItemRef(due, timer, TIMER_ITEM))

    def drop_timer(self, timer: str) -> None:
        """A rule need not be looked at any more."""
        self.batch.drop_timer(timer)

    def _push(self, queue: Queue, ref: ItemRef) -> None:
        if queue.push(ref, self.batch.number):
            self.queues.look(queue, self.now)
        if queue.late:
            self._late.add(queue)

"""Mistakes that the simulation has found in the engine, put back one at a time: it must find each again.

A seed says little once the simulation has changed, since it is then another history. What must stay is that the
mistake would be noticed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from perdure.core.pacing import YOUNG_MS, Gate
from perdure.protocol.op_options import signal_options
from perdure.protocol.replies import OpsReply
from perdure.shard import decide, matching, rerunning
from perdure.shard.batch import Batch
from perdure.shard.beginning import ORDINARY
from perdure.shard.dispatch import Dispatcher
from perdure.shard.loads import Loads
from perdure.shard.loop import Shard
from perdure.shard.queues import START, Queue
from perdure.shard.state import State

Patch = tuple[object, str, Any]


def batch_never_closed() -> list[Patch]:
    """A batch of commands that change nothing is never closed; full of them, it holds up everything."""

    def empty(self: Batch) -> bool:
        return not (self.effects or self.runs or self.items or self.changes.size())

    return [(Batch, "empty", empty)]


def first_window_not_read() -> list[Patch]:
    """A server that starts does not look into its queues until something is added to them."""
    real = Loads.window

    def window(self: Loads, queue: Queue) -> None:
        if queue.edge is not START or queue.heap:
            real(self, queue)

    return [(Loads, "window", window)]


def numbers_begin_anew() -> list[Patch]:
    """After a reload calls are numbered from 1 again, beside those under way."""
    real = Dispatcher.successor

    def successor(self: Dispatcher, state: State, loads: Loads) -> Dispatcher:
        after = real(self, state, loads)
        after._numbers = 0
        return after

    return [(Dispatcher, "successor", successor)]


def failed_read_forgotten() -> list[Patch]:
    """Commands are forgotten with the read that failed."""

    def ended(self: Loads, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)

    return [(Loads, "_ended", ended)]


def read_ends_early() -> list[Patch]:
    """A read counts as over before the commands that it was for are decided."""

    def hold(self: Loads, read: int, _commands: Any) -> None:
        self._state.memory.end_read(read)

    return [(Loads, "_hold", hold)]


def signals_of_1970() -> list[Patch]:
    """The time limit of a signal is read as if it were 1970."""

    def signal_names(reply: object, _now: int) -> list[str]:
        ops = reply.ops if isinstance(reply, OpsReply) else []
        return [signal_options(op, 0).signal for op in ops if op.op == "WaitForSignal"]

    return [(decide, "signal_names", signal_names)]


def memos_not_kept() -> list[Patch]:
    """A step recorded while the others are not in memory is not kept there either, though no read has it yet."""
    real = State._save

    def save(self: State, run: Any, step_id: str, *args: Any) -> None:
        real(self, run, step_id, *args)
        if not run.memos_resident:
            step = run.steps[step_id]
            self.memory.memo_bytes -= step.size
            step.memo = None

    return [(State, "_save", save)]


def let_in_by_time() -> list[Patch]:
    """A gate is opened when its oldest young call has aged, whether or not that makes room."""

    def has_room(self: Gate, function_id: str, now: int, others_wait: bool) -> bool:
        if len(self.in_flight) >= self.hard_limit:
            return False
        if others_wait and self._by_function.get(function_id, 0) >= self.hard_limit // 2:
            return False
        if len(self._young) >= self.young_calls:
            self._forget_old(now)
        return len(self._young) < self.young_calls

    def next_room(self: Gate) -> int | None:
        if len(self.in_flight) >= self.hard_limit or not self._young:
            return None
        return self.in_flight[self._young[0]][1] + YOUNG_MS

    def let_in(self: Dispatcher, now: int) -> None:
        for gate in list(self._waiting):
            time = gate.next_room()
            if time is not None and time <= now:
                self._open(gate)
        stalled, self._stalled = self._stalled, []
        for queue in stalled:
            queue.blocked = False
            self._state.queues.look(queue, now)

    return [(Gate, "has_room", has_room), (Gate, "next_room", next_room), (Dispatcher, "_let_in", let_in)]


def stop_leaves_callers() -> list[Patch]:
    """A server that stops leaves those without an answer whose commands were not decided."""
    return [(Shard, "_refuse_all", lambda self: None)]


def call_after_end() -> list[Patch]:
    """A call leaves although its run ended in the same batch."""

    def start_call(self: Shard, run_id: str, n: int, generation: int, call: Any) -> None:
        self._transport.start(call, partial(self._call_done, run_id, n, generation))

    return [(Shard, "_start_call", start_call)]


def continued_with_another_event() -> list[Patch]:
    """Matching goes on with the event that was stored last, which may be one that the matching itself caused."""
    real = matching._go_on_later

    def go_on_later(state: State, receipt: int, after: Any, row: Any) -> None:
        events = state.batch.changes.events
        real(state, receipt, after, events[-1] if row in events else row)

    return [(matching, "_go_on_later", go_on_later)]


def lookback_forgets() -> list[Patch]:
    """A wait that looks back does not know an event that the run has had, if its results have left memory meanwhile."""
    real = Loads.prepare_lookback

    def prepare_lookback(self: Loads, command: Any) -> bool:
        return command.ready or real(self, command)

    return [(Loads, "prepare_lookback", prepare_lookback)]


def failed_timer_forgotten() -> list[Patch]:
    """The timer of a rule whose command could not be carried out is taken for a run that must be read first."""
    real = Dispatcher._fire

    def fire(self: Dispatcher, ref: Any) -> None:
        if self.faults.get(ref, 0) < 2:
            real(self, ref)

    return [(Dispatcher, "_fire", fire)]


def half_a_run() -> list[Patch]:
    """A run that could not be created to its end is left as it is, and the batch goes on."""
    return [(State, "create_run", _created)]


def _created(state: State, function: Any, events: Any, how: Any = ORDINARY, admitted: Any = None) -> Any:
    return state._create_run(function, events, how, admitted)


def rerun_twice() -> list[Patch]:
    """A rerun whose commit has landed although it seemed to fail is decided as if it had not."""
    real = rerunning.create_rerun

    def create_rerun(state: State, command: Any) -> Any:
        command.made = ""
        return real(state, command)

    return [(decide, "create_rerun", create_rerun)]


RELAPSES: dict[str, Callable[[], list[Patch]]] = {
    each.__name__: each
    for each in (
        batch_never_closed,
        first_window_not_read,
        numbers_begin_anew,
        failed_read_forgotten,
        read_ends_early,
        signals_of_1970,
        memos_not_kept,
        let_in_by_time,
        stop_leaves_callers,
        call_after_end,
        continued_with_another_event,
        lookback_forgets,
        rerun_twice,
        failed_timer_forgotten,
        half_a_run,
    )
}

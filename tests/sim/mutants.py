"""Rules of the engine, broken one at a time: the simulation must notice each.

A mutant is put in the place of the real rule while a history runs. `docs/simulation.md` says which checker noticed
it, and after how many seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from perdure.core.plan import Plan, SavedStep
from perdure.protocol.ids import ulid_time_ms
from perdure.shard import decide, jobs, looking_back, matching, travelling
from perdure.shard.commands import CallEnded
from perdure.shard.dispatch import Dispatcher
from perdure.shard.job import Job, JobState
from perdure.shard.keys import JOB
from perdure.shard.loop import Shard
from perdure.shard.memory import Memory
from perdure.shard.queues import Queue
from perdure.shard.rows import KeyRef
from perdure.shard.state import State
from tests.sim.disk import Disk
from tests.sim.relapses import RELAPSES
from tests.sim.rule_mutants import RULE_MUTANTS, RULE_RELAPSES

Patch = tuple[object, str, Any]


def release_before_commit() -> list[Patch]:
    """Effects leave before the batch is on disk."""
    real = Shard._begin_commit

    def begin_commit(self: Shard) -> None:
        batch = self._state.batch
        effects, batch.effects = batch.effects, []
        for effect in effects:
            effect()
        real(self)

    return [(Shard, "_begin_commit", begin_commit)]


def second_result_overwrites() -> list[Patch]:
    """A step that has a result takes another one."""

    def save(self: Plan, step_id: str, name: str, op: str, memo: bytes) -> bool:
        self.saved.append(SavedStep(step_id, name, op, memo))
        self.saved_ids.add(step_id)
        self.idle_replies = 0
        return True

    return [(Plan, "save", save)]


def lost_timer() -> list[Patch]:
    """A queue that grows too long forgets its farther half instead of leaving it to the store."""

    def cut(self: Queue, batch: int) -> None:
        from perdure.shard.queues import HEAP_MAX

        self.heap.sort()
        del self.heap[HEAP_MAX // 2 :]

    return [(Queue, "_cut", cut)]


def double_dispatch() -> list[Patch]:
    """A reload forgets the calls under way, so that their items are called again beside them."""
    real = Shard._void

    def void(self: Shard) -> list[Any]:
        commands = real(self)
        for (run_id, n), call in list(self._dispatcher.live.items()):
            self._dispatcher.ended(run_id, n, call.generation)
        return commands

    return [(Shard, "_void", void)]


def epoch_not_checked() -> list[Patch]:
    """A batch is written whoever owns the shard."""
    real = Disk._write

    def write(self: Disk, shard: int, epoch: int, changes: Any) -> None:
        self.shard(shard).epoch = epoch
        real(self, shard, epoch, changes)

    return [(Disk, "_write", write)]


def overlay_ignored() -> list[Patch]:
    """Runs leave memory although reads under way, and later ones, may not see what became of them."""

    def may_leave(self: Memory, run: Any, oldest: int) -> bool:
        return run.id not in self._pinned and not any(item.in_flight for item in run.items.values())

    return [(Memory, "_may_leave", may_leave)]


def matched_by_ulid() -> list[Patch]:
    """Before and after is told by the time in an event's ULID, which is the client's claim."""
    real = matching._end_waits

    def end_waits(state: State, match: Any, receipt: int, name: str, parsed: Any, internal_id: str) -> None:
        kept = []
        for run_id, n in match.waits:
            run = state.memory.get(run_id)
            item = run.items.get(n) if run is not None else None
            if item is not None and ulid_time_ms(internal_id) >= item.queued_at:
                kept.append((run_id, n))
        match.waits = kept
        real(state, match, receipt, name, parsed, internal_id)

    return [(matching, "_end_waits", end_waits)]


def internal_event_lost() -> list[Patch]:
    """An event of the server's own is matched from memory only: nothing in the store says that it is still to be."""
    real = State._emit

    def emit(self: State, *args: Any) -> None:
        before = set(self.batch.changes.outbox)
        real(self, *args)
        for receipt in set(self.batch.changes.outbox) - before:
            del self.batch.changes.outbox[receipt]

    return [(State, "_emit", emit)]


def slot_not_released() -> list[Patch]:
    """The place of a call is kept for ever if its run ends while the call is under way."""
    real = Dispatcher.ended

    def ended(self: Dispatcher, run_id: str, n: int, generation: int) -> None:
        run = self._state.memory.runs.get(run_id)
        if run is None or n not in run.items:
            self.live.pop((run_id, n), None)
        else:
            real(self, run_id, n, generation)

    return [(Dispatcher, "ended", ended)]


def void_reply_dropped() -> list[Patch]:
    """The answers of apps that were decided in a batch that failed are not decided again."""
    real = Shard._void

    def void(self: Shard) -> list[Any]:
        return [command for command in real(self) if not isinstance(command, CallEnded)]

    return [(Shard, "_void", void)]


def clock_moved_again() -> list[Patch]:
    """A move of the clock whose commit has landed although it seemed to fail is made once more."""
    real = travelling.move_clock

    def move_clock(state: State, command: Any) -> Any:
        command.ahead = None
        return real(state, command)

    return [(decide, "move_clock", move_clock)]


def place_of_job_not_stored() -> list[Patch]:
    """How far a job is stands in memory only, until it is over."""

    def put_job(state: State, job: Job) -> Job:
        known = state.jobs.get(job.id)
        state.jobs[job.id] = job
        if known is None or job.state is not JobState.RUNNING:
            state.put_key(KeyRef(JOB, "", job.id), msgspec.json.encode(job))
        return job

    return [(jobs, "put_job", put_job), (decide, "put_job", put_job)]


def looks_back_at_any() -> list[Patch]:
    """A wait that looks back does not look at the condition."""
    return [(looking_back, "holds", lambda run, wait, parsed, now: True)]


MUTANTS: dict[str, Callable[[], list[Patch]]] = {
    each.__name__: each
    for each in (
        release_before_commit,
        second_result_overwrites,
        lost_timer,
        double_dispatch,
        epoch_not_checked,
        overlay_ignored,
        matched_by_ulid,
        internal_event_lost,
        slot_not_released,
        void_reply_dropped,
        clock_moved_again,
        place_of_job_not_stored,
        looks_back_at_any,
    )
}

EVERY = MUTANTS | RELAPSES | RULE_MUTANTS | RULE_RELAPSES


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """The engine with one rule broken, or with an old mistake; "" leaves it whole."""
    patches = EVERY[name]() if name else []
    before = [(where, what, getattr(where, what)) for where, what, _ in patches]
    try:
        for where, what, value in patches:
            setattr(where, what, value)
        yield
    finally:
        for where, what, value in before:
            setattr(where, what, value)

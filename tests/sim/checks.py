"""The checkers: what must hold at every call, every answer and every commit, whatever goes wrong.

They look at the rows of the store and at what leaves the server, never into its memory (but for the bounds on it,
`tests.sim.final`). The first failure ends a history.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.core.settings import Settings
from perdure.errors import EpochLost
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.shard.commands import CancelRun, Checkpoint, Command, ReceiveEvents, RegisterApp
from perdure.shard.lines import PREFIX
from tests.sim.memory_store import Tables
from tests.sim.programs import Program
from tests.sim.trace import Trace

if TYPE_CHECKING:
    from tests.sim.server import Process

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED")
LATE_MS = 60 * 60 * 1000
"""No call leaves later than this once the faults have stopped: a gate with one place is the longest wait."""


@dataclass(frozen=True)
class Failure:
    """A rule that was broken: which checker saw it, what it saw, and the run that it concerns (or "")."""

    checker: str
    text: str
    run: str


class Checks:
    """All checkers of a history, and the first thing that they found."""

    def __init__(self, trace: Trace, programs: list[Program], settings: Settings) -> None:
        from tests.sim.commits import Commits

        self.trace = trace
        self.failure: Failure | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self.now: Callable[[], int] = lambda: 0
        self.epoch = 0
        self.calls = Calls(self)
        self.answers = Answers(self)
        self.commits = Commits(self, programs, settings)

    def fail(self, checker: str, text: str, run: str = "") -> None:
        """Note a failure, if it is the first."""
        if self.failure is None:
            self.failure = Failure(checker, text, run)
            self.trace.note(f"FAILED {checker}: {text}", run)
            self.on_failure()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """What a checker itself does wrong must not look like a fault of the disk."""
        try:
            yield
        except Exception:
            self.fail("checker", traceback.format_exc())

    def claimed(self, epoch: int) -> None:
        """Somebody has become the owner."""
        if epoch <= self.epoch:
            self.fail("epoch", f"epoch {epoch} was given after {self.epoch}")
        self.epoch = epoch
        self.commits.flow.passing.claimed()
        self.trace.note(f"disk: epoch {epoch} is claimed")

    def gave_up(self, process: int, error: BaseException) -> None:
        """A shard has ended by itself; only the loss of its epoch is a reason."""
        if not isinstance(error, EpochLost):
            self.fail("progress", f"process {process} ended with {error!r}")


class Calls:
    """Nothing leaves before its commit, no item is called twice at once, and calls carry what is recorded."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.hard_limit = 1_000
        self.requests = 100
        self.left: dict[tuple[str, int, int], Call] = {}
        self.delivered: dict[tuple[str, int, int], CallAnswer | CallFailure] = {}
        self.used: set[tuple[str, int, int]] = set()
        """Calls whose answers the history tells of."""
        self._told: dict[tuple[str, int, int], int] = {}
        self.calm_since: int | None = None
        """Wall clock when the faults stopped, in histories whose clock nobody sets."""
        self.live: dict[tuple[str, int], tuple[int, int, str]] = {}
        """Process, generation and the app that is called (or ""), of the newest call of each item under way."""

    def leaving(self, tables: Tables, process: int, key: tuple[str, int, int], call: Call) -> None:
        """A call leaves the server."""
        run_id, n, generation = key
        fail, to_app = self._checks.fail, app_at(call.url)
        self._checks.trace.note(f"call: {n}/{generation} of process {process} to {call.url}", run_id)
        row = tables.items.get(run_id, {}).get(n)
        if row is None or not row.in_flight or row.generation != generation:
            fail("release", f"call {n}/{generation} leaves, but the store holds {row}", run_id)
        if key in self.left:
            fail("double-call", f"generation {generation} of item {n} leaves a second time", run_id)
        self.left[key] = call
        other = self.live.get((run_id, n))
        if other is not None and other[0] == process:
            fail("double-call", f"item {n} is called while its generation {other[1]} is under way", run_id)
        self.live[run_id, n] = (process, generation, to_app)
        last = (run_id, n, generation - 1)
        if to_app and self._told.get(last) == process and last not in self.used:
            fail(
                "answers", f"item {n} is called again, and the answer to its last call was never used", run_id
            )
        limit = self.hard_limit if to_app else self.requests
        under_way = sum(1 for each in self.live.values() if each[0] == process and each[2] == to_app)
        if under_way > limit:
            fail("bounds", f"{under_way} calls are under way, {limit} are allowed", run_id)
        if to_app and row is not None:
            self._check_body(tables, run_id, row.attempt, call)
            self._checks.commits.flow.leaving(tables, run_id, self._under_way(tables, process))
        if row is not None and self.calm_since is not None and not row.part.startswith(PREFIX):
            late = self._checks.now() - max(row.due, self.calm_since)
            if late > LATE_MS:
                fail("progress", f"item {n} is called {late // 1000} s late", run_id)

    def _under_way(self, tables: Tables, process: int) -> list[str]:
        """The runs that a process calls apps for, once for each call; those that have ended count no more."""
        return [
            run_id
            for (run_id, n), (owner, generation, app) in self.live.items()
            if owner == process
            and app
            and (item := tables.items.get(run_id, {}).get(n)) is not None
            and item.in_flight
            and item.generation == generation
        ]

    def _check_body(self, tables: Tables, run_id: str, attempt: int, call: Call) -> None:
        body = json.loads(call.body)
        stack = body["ctx"]["stack"]["stack"]
        stored = sorted(tables.steps.get(run_id, {}).values(), key=lambda step: step.position)
        if stack != [step.step_id for step in stored][: len(stack)]:
            self._checks.fail("memo", f"the stack of a call is {stack}, the store has other steps", run_id)
            return
        carried = {step.step_id: json.loads(step.memo) for step in stored[: len(stack)]}
        edited = json.loads(tables.runs[run_id].from_step or b"{}")
        if "input" in edited and edited["id"] not in {step.step_id for step in stored}:
            carried[edited["id"]] = {"input": edited["input"]}
        if body["steps"] != ({} if body["use_api"] else carried):
            self._checks.fail("memo", f"a call carries {body['steps']}, recorded is {carried}", run_id)
        if body["ctx"]["attempt"] != attempt:
            self._checks.fail("memo", f"a call says attempt {body['ctx']['attempt']}, not {attempt}", run_id)

    def answered(self, process: int, key: tuple[str, int, int], result: CallAnswer | CallFailure) -> None:
        """The answer of a call reaches the process that made it."""
        live = self.live.get(key[:2])
        if live is not None and live[:2] == (process, key[2]):
            del self.live[key[:2]]
        self.delivered[key] = result
        self._told[key] = process

    def died(self, process: int) -> None:
        """The calls of a process are nobody's any more."""
        self.live = {item: call for item, call in self.live.items() if call[0] != process}


def app_at(url: str) -> str:
    """The app behind a URL; empty for the rest of the world."""
    return url.split(".")[1] if url.startswith("http://app.") else ""


class Answers:
    """What the server tells a caller is on disk."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.acknowledged: set[str] = set()
        """Internal ids of events that a client was told to be safe."""

    def given(self, tables: Tables, command: Command, value: object) -> None:
        """A caller gets an answer that is no error."""
        fail = self._checks.fail
        if isinstance(command, ReceiveEvents):
            for event in command.events:
                self.acknowledged.add(event.internal_id)
                if event.internal_id not in self._checks.commits.stored_ids:
                    fail("release", f"event {event.internal_id} is acknowledged, but not stored")
        elif isinstance(command, Checkpoint):
            known = tables.steps.get(command.run, {})
            for op in command.ops:
                if op.id not in known:
                    fail("release", f"a posted step {op.name} is acknowledged, but not stored", command.run)
        elif isinstance(command, CancelRun):
            row = tables.runs.get(command.run)
            if row is None or row.status not in ENDED:
                fail("release", f"the run is said to be cancelled, but the store holds {row}", command.run)
        elif isinstance(command, RegisterApp):
            registration = command.registration
            slugs = {row.slug for row in tables.functions.values()}
            if registration is not None and not slugs.issuperset(f.id for f in registration.functions):
                fail("release", "a registration is acknowledged, but not stored")

    def stopped(self, process: Process) -> None:
        """An orderly stop is over: nobody may be left waiting."""
        waiting = [command for future, command in process.waiting.items() if not future.done()]
        if waiting:
            self._checks.fail("answers", f"the server has stopped and left {waiting[0]!r} without an answer")

"""The machine of `test_state`, for functions with limits: calls wait in lines and are given their turns.

The real dispatcher hands out turns; windows of queues are small, and read from the rows that are committed. After each
rule every item must stand where it belongs, and the counters must hold exactly what is under way.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from perdure.core import planning
from perdure.core.flow.admission import Pause
from perdure.core.functions import Function
from perdure.core.model import CALLING, Item, ItemKind, Run, WaitKind
from perdure.core.pacing import Gate
from perdure.protocol.replies import Finished
from perdure.shard import lines as lines_module
from perdure.shard import queues as queues_module
from perdure.shard.admitting import start_function
from perdure.shard.calls import CallBuilder, job_id
from perdure.shard.commands import ContinueEvent, EventMatch, ParsedEvent, PauseFunction
from perdure.shard.decide import pause_function
from perdure.shard.dispatch import Dispatcher
from perdure.shard.lines import Line, TurnQueue
from perdure.shard.matching import ask, ask_target, decide_continued
from perdure.shard.memory import run_from_rows
from perdure.shard.queues import Queue
from perdure.shard.rows import ItemRef
from tests.unit.shard.shards import APP, a_function, a_state, an_event
from tests.unit.shard.test_state import RULES, Engine

WINDOW, HEAP_MAX, RUNS = 4, 8, 30

STEPS: dict[str, Any] = {
    "concurrency": [{"limit": 2}, {"limit": 1, "key": "event.data.u"}],
    "timeouts": {"start": "40s", "finish": "60s"},
    "cancel": [{"event": "stop", "if": "event.data.u == async.data.u"}],
}
WHOLE: dict[str, Any] = {
    "concurrency": {"fn": [{"limit": 2}], "step": [{"limit": 3, "key": '"all"', "scope": "account"}]},
    "throttle": {"limit": 1, "period": "2s", "burst": 1},
    "priority": {"run": "event.data.p"},
}
CALLED: dict[str, Any] = {"concurrency": [{"limit": 1, "key": '"all"', "scope": "account"}]}


class Reads:
    """Stands where the shard has its loads: what is asked for is read when the machine says so."""

    def __init__(self) -> None:
        self.windows: list[tuple[Queue, int]] = []
        self.runs: list[tuple[Queue, ItemRef]] = []
        self.engine: FlowEngine

    def window(self, queue: Queue) -> None:
        queue.reading = True
        self.windows.append((queue, self.engine.state.memory.begin_read()))

    def want_run_for(self, queue: Queue, ref: ItemRef) -> None:
        queue.loading += 1
        self.runs.append((queue, ref))


class FlowEngine(Engine):
    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(queues_module, "WINDOW", WINDOW)
        self.patch.setattr(queues_module, "HEAP_MAX", HEAP_MAX)
        self.patch.setattr(lines_module, "TICKETS", 2)
        self.patch.setattr(lines_module, "MAX_TICKETS", 4)
        self.functions: list[Function] = [
            a_function("plain", "x"),
            a_function("steps", "x", **STEPS),
            a_function("whole", "x", **WHOLE),
            a_function("callee", "never", **CALLED),
        ]
        self.state = a_state(*self.functions, settings=RULES)
        self.state.gates[self.functions[0].app_id] = Gate(young_calls=1_000)
        self.reads = Reads()
        self.reads.engine = self
        builder = CallBuilder("dev", None, RULES)
        self.dispatcher = Dispatcher(self.state, self.reads, builder, self._left)  # type: ignore[arg-type]

    def _left(self, *_: object) -> None:
        """A call leaves: nobody looks."""

    @initialize()
    def begin(self) -> None:
        """Runs come by rules."""

    # What the base machine does by hand, the dispatcher does here

    def pick(self, data: st.DataObject, *kinds: ItemKind) -> tuple[Run, Item] | None:
        found = self.items(*kinds, in_flight=True)
        return found[data.draw(st.integers(0, len(found) - 1))] if found else None

    def _answer(self, run: Run, item: Item, reply: Any) -> None:
        self.dispatcher.ended(run.id, item.n, item.generation)
        super()._answer(run, item, reply)

    @rule(
        count=st.integers(1, 5),
        which=st.integers(0, 2),
        u=st.integers(0, 2),
        p=st.sampled_from([0, 0, 100, -100]),
    )
    def start(self, count: int = 1, which: int = 1, u: int = 0, p: int = 0) -> None:
        for _ in range(count):
            if len(self.runs()) < RUNS:
                event = an_event("x", {"u": u, "p": p}, at=self.state.now)
                receipt = self.state.store_event(event, internal=False)
                start_function(self.state, self.functions[which], [(receipt, event)], None, {})

    @rule()
    def send(self) -> None:
        self.dispatcher.turn(64)

    @rule(seconds=st.sampled_from([0, 1, 6, 30]))
    def pass_time(self, seconds: int) -> None:
        self.state.now += seconds * 1_000
        self.dispatcher.turn(64)

    @rule(data=st.data())
    def match(self, data: st.DataObject) -> None:
        found = [(run, n) for run in self.runs() for n in run.waits]
        if not found:
            return
        run, n = found[data.draw(st.integers(0, len(found) - 1))]
        if run.waits[n].kind is WaitKind.CANCEL:
            self.state.apply(planning.plan_cancel(run, self.state.now))
        else:
            plan = planning.plan_match(run, run.waits[n], b'{"data":3}', "e", self.state.now, RULES)
            self.state.apply(plan)

    @rule(which=st.integers(1, 2), limits=st.sampled_from(["as before", "lower", "higher", "none"]))
    def register(self, which: int, limits: str) -> None:
        """The function comes with other limits."""
        more = [STEPS, WHOLE][which - 1]
        if limits == "lower":
            more = more | {"concurrency": {"fn": [{"limit": 1}], "step": [{"limit": 1}]}}
        elif limits == "higher":
            more = more | {"concurrency": 5, "throttle": {"limit": 10, "period": "1s"}}
        elif limits == "none":
            more = {}
        name = ("steps", "whole")[which - 1]
        self.functions[which] = a_function(name, "x", **more)
        self.state.put_functions([self.functions[which]])

    @rule(which=st.integers(0, 2), pause=st.sampled_from([Pause.HOLD, Pause.NO]))
    def pause(self, which: int, pause: Pause) -> None:
        name = ("plain", "steps", "whole")[which]
        pause_function(self.state, PauseFunction(slug=f"{APP}-{name}", pause=pause))

    @precondition(lambda self: self.state.follow_ups)
    @rule()
    def go_on(self) -> None:
        """Events of the server's own meet what they meet."""
        follow_ups, self.state.follow_ups = self.state.follow_ups, []
        for command in follow_ups:
            assert isinstance(command, ContinueEvent)
            row = command.event
            assert row is not None
            parsed, found = ParsedEvent(row.body), EventMatch()
            if command.target is not None:
                found = ask_target(self.state, parsed, command.target).match
            else:
                question = ask(self.state, row.name, row.id, parsed, None, command.after, command.stage == 0)
                found = question.match
                for lookup in question.lookups:
                    waits = self.state.memory.waits_in_memory(lookup.event, lookup.path, lookup.value)
                    found.waits += sorted(waits)
            command.match = found
            decide_continued(self.state, command)

    @precondition(lambda self: self.reads.windows)
    @rule()
    def read_windows(self) -> None:
        memory, windows = self.state.memory, self.reads.windows
        self.reads.windows = []
        for queue, read in windows:
            refs = self.tables.queue(queue.function_id, queue.part, queue.edge)[:WINDOW]
            queue.take_window(refs, memory.snapshot(read), WINDOW)
            memory.end_read(read)
            self._look(queue)

    @precondition(lambda self: self.reads.runs)
    @rule()
    def read_runs(self) -> None:
        memory, runs = self.state.memory, self.reads.runs
        self.reads.runs = []
        for queue, ref in runs:
            queue.loading -= 1
            if ref.run_id not in memory.runs and ref.run_id in self.tables.runs:
                memory.add(run_from_rows(self.tables.stored_run(ref.run_id)))
            queue.put_back(ref)
            self._look(queue)

    def _look(self, queue: Queue) -> None:
        if isinstance(queue, Line):
            queue.blocked = False
            self.state.lines.touched[queue] = None
        else:
            self.state.queues.look(queue, self.state.now)

    # What must hold

    @invariant()
    def a_live_run_has_something_ahead(self) -> None:
        for run in self.runs():
            assert any(item.kind is not ItemKind.DEADLINE for item in run.items.values())

    @invariant()
    def every_item_that_is_not_in_flight_is_in_its_queue(self) -> None:
        loading = {ref for _, ref in self.reads.runs}
        for run in self.runs():
            turns = self.state.queues.all.get((run.function_id, ""))
            for item in run.items.values():
                if item.in_flight:
                    continue
                ref, name = ItemRef(item.rank, run.id, item.n), job_id(run.id, item.n)
                places = int(ref in loading)
                if isinstance(turns, TurnQueue):
                    places += turns.heap.count(ref)
                queue = self.state.queues.all.get((run.function_id, item.part))
                if queue is not None:
                    places += queue.heap.count(ref)
                if isinstance(queue, Line):
                    assert name not in queue.gone
                    places += name in queue.fed
                beyond = queue is not None and ref > queue.edge
                assert places == 1 or (places == 0 and beyond), (run.id, item, places)

    @invariant()
    def places_are_held_by_what_is_under_way(self) -> None:
        """And by calls that have their turn, and wait for their app."""
        expected: dict[str, Counter[str]] = {}
        queues = self.state.queues.all.values()
        turns = {
            (ref.run_id, ref.n) for queue in queues if isinstance(queue, TurnQueue) for ref in queue.heap
        }
        for run in self.runs():
            if run.flow is None:
                continue
            begins = any((run.id, n) in turns for n in run.items)
            if (run.started_at is not None or begins) and run.flow.runs:
                expected[run.id] = Counter(need.counter for need in run.flow.runs)
            for item in run.items.values():
                called = item.in_flight or (run.id, item.n) in turns
                if called and item.kind in CALLING and run.flow.steps:
                    expected[job_id(run.id, item.n)] = Counter(need.counter for need in run.flow.steps)
        reading = {ref.run_id for _, ref in self.reads.runs}
        counters = self.state.lines.turns.room.counters
        held = {
            holder: Counter(counter)
            for holder, counter in counters._held.items()
            if holder.partition(".")[0] not in reading
        }
        assert held == expected
        taken = {(holder, counter) for counter, holders in counters._holders.items() for holder in holders}
        assert taken == {(h, counter) for h, held_by in counters._held.items() for counter in held_by}

    @invariant()
    def the_index_of_waits_is_that_of_the_runs(self) -> None:
        memory: Any = self.state.memory
        expected: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
        for run in memory.runs.values():
            for n, wait in run.waits.items():
                assert n in run.items or wait.kind is WaitKind.CANCEL
                expected.setdefault((wait.event, wait.path, wait.value), set()).add((run.id, n))
        assert memory._waits == expected

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.patch.undo()

    def _finish(self) -> None:
        """Let everything behave: each run reaches its end, and nothing is left."""
        for which in range(3):
            self.pause(which, Pause.NO)
        for _ in range(600):
            if not (self.runs() or self.state.follow_ups or self.reads.windows):
                break
            self.pass_time(1)
            for run, item in self.items(ItemKind.REQUEST, in_flight=True):
                if item.n in run.items:
                    self.dispatcher.ended(run.id, item.n, item.generation)
                    plan = planning.plan_request_answer(
                        run, item, b"{}", "Gateway", self.state.now, RULES, False
                    )
                    self.state.apply(plan)
            for run, item in self.items(*CALLING, in_flight=True):
                if item.n in run.items:
                    self._answer(run, item, Finished(b"1", 2))
            if self.state.follow_ups:
                self.go_on()
            self.commit()
            self.read_windows()
            self.read_runs()
        assert not self.runs()
        self.pass_time(1)
        self.read_runs()
        self.pass_time(100)
        self.commit()
        assert not any(self.tables.items.values())
        assert not any(self.tables.waits.values())
        assert not {ref.kind for ref in self.tables.keys} - {"throttle"}
        assert not self.tables.quarantine
        turns = self.state.lines.turns
        assert not turns.room.counters._held
        assert len(turns) == 0
        ends = [row for row in self.tables.events.values() if row.name == "inngest/function.finished"]
        assert len(ends) == len(self.tables.runs)


TestFlowEngine = FlowEngine.TestCase
TestFlowEngine.settings = settings(
    max_examples=80, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

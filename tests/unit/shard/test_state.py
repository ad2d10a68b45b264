"""Whatever apps answer, in whatever order: planning and applying keep the promises of the engine.

A machine drives one shard's state without loop, store or network. Its apps answer calls that are under way with any
ops, timers fire, events and signals come, runs are cancelled, and now and then a batch is committed. After each rule
everything that memory says is compared with what it should be, and with the rows that a store would hold.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from perdure.core import planning
from perdure.core.model import CALLING, FIRST_ITEM, Item, ItemKind, Run, RunStatus
from perdure.core.settings import Settings
from perdure.protocol.failures import ErrorInfo
from perdure.protocol.ops import read_ops
from perdure.protocol.replies import Finished, FunctionError, OpsReply
from perdure.shard.batch import Batch
from perdure.shard.decide import context, signal_holder
from perdure.shard.memory import run_from_rows
from perdure.shard.rows import ItemRef
from perdure.shard.state import State
from tests.sim.memory_store import Tables
from tests.unit.shard.shards import a_function, a_state, an_event

RULES = Settings(
    retry_interval_ms=1_000, default_retries=2, steps_per_run=12, state_bytes=600, idle_replies=4
)
FUNCTION, CALLEE = a_function("f", "x"), a_function("callee", "never")
IDS = [*"abcdef", "complete-me"]
SIGNALS = ["s1", "s2"]

step_ids = st.sampled_from(IDS)
options = st.fixed_dictionaries({}, optional={"parallelMode": st.sampled_from(["race", "wait"])})


@st.composite
def an_op(draw: st.DrawFn) -> dict[str, Any]:
    """One op: mostly usable, sometimes not."""
    kind = draw(
        st.sampled_from(
            [
                *["StepRun"] * 4,
                *["StepPlanned"] * 4,
                *["StepError"] * 2,
                "StepFailed",
                "Step",
                *["Sleep"] * 2,
                *["WaitForEvent"] * 2,
                "WaitForSignal",
                *["InvokeFunction"] * 2,
                "Gateway",
                "DiscoveryRequest",
                "None",
                "RunComplete",
                "DeferAdd",
            ]
        )
    )
    id = draw(step_ids)
    opts: dict[str, Any] = draw(options)
    op = {
        "op": kind,
        "id": id,
        "displayName": id,
        "opts": opts,
        "data": draw(st.sampled_from([None, 1, "x" * 90])),
    }
    if kind in ("StepError", "StepFailed"):
        op["error"] = {"name": "Boom", "message": "no"}
    elif kind == "Sleep":
        op["name"] = draw(st.sampled_from(["1s", "5s", "1s", "5s", "nonsense"]))
    elif kind == "WaitForEvent":
        op["name"] = draw(st.sampled_from(["go", "stop"]))
        opts |= {"timeout": "5s"}
        opts |= draw(st.sampled_from([{}, {"if": "event.data.u == async.data.u"}, {"if": "async.data.u"}]))
    elif kind == "WaitForSignal":
        opts |= {"signal": draw(st.sampled_from(SIGNALS)), "timeout": "5s"}
        opts |= draw(st.sampled_from([{}, {"conflict": "replace"}]))
    elif kind == "InvokeFunction":
        opts |= {
            "function_id": draw(st.sampled_from(["app-callee", "app-callee", "nobody"])),
            "timeout": "5s",
        }
    elif kind == "Gateway":
        opts |= {"url": "http://example.test/"}
    return op


class Engine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state: State = a_state(FUNCTION, CALLEE, settings=RULES)
        self.tables = Tables()
        self.recorded: dict[str, list[tuple[str, bytes]]] = {}
        self.ended: dict[str, tuple[RunStatus, bytes | None]] = {}

    @initialize()
    def begin(self) -> None:
        self.start()

    # What a shard would do

    def runs(self) -> list[Run]:
        return [run for run in self.state.memory.runs.values() if not run.status.ended]

    def items(self, *kinds: ItemKind, in_flight: bool) -> list[tuple[Run, Item]]:
        return [
            (run, item)
            for run in self.runs()
            for item in run.items.values()
            if item.kind in kinds and item.in_flight is in_flight
        ]

    def pick(self, data: st.DataObject, *kinds: ItemKind) -> tuple[Run, Item] | None:
        """An item that is under way, or is sent now."""
        found = [*self.items(*kinds, in_flight=True), *self.items(*kinds, in_flight=False)]
        if not found:
            return None
        run, item = found[data.draw(st.integers(0, len(found) - 1))]
        self._send(run, item)
        return run, item

    def _send(self, run: Run, item: Item) -> None:
        if not item.in_flight:
            item.in_flight, item.generation = True, item.generation + 1
            run.status = RunStatus.RUNNING
            self.state.batch.put_item(run, item)
            self.state.batch.touch_run(run)

    @rule()
    def start(self) -> None:
        if len(self.runs()) < 6:
            event = an_event("x", {"u": len(self.state.memory.runs) % 2})
            run = self.state.create_run(FUNCTION, [(self.state.store_event(event, internal=False), event)])
            assert list(run.items) == [FIRST_ITEM]

    @rule()
    def send(self) -> None:
        """All calls leave that can."""
        for run, item in self.items(*CALLING, ItemKind.REQUEST, in_flight=False):
            self._send(run, item)

    @rule(
        data=st.data(), ops=st.lists(an_op(), max_size=4), no_retry=st.sampled_from([None, None, False, True])
    )
    def answer(self, data: st.DataObject, ops: list[dict[str, Any]], no_retry: bool | None) -> None:
        if (found := self.pick(data, *CALLING)) is not None:
            version = data.draw(st.sampled_from([2, 2, 2, 1, None]))
            self._answer(*found, OpsReply(read_ops(json.dumps(ops).encode()), version, no_retry, None))

    @rule(data=st.data(), ops=st.lists(an_op(), min_size=2, max_size=5, unique_by=lambda op: op["id"]))
    def plan(self, data: st.DataObject, ops: list[dict[str, Any]]) -> None:
        """A set of parallel steps, as an SDK reports them."""
        if (found := self.pick(data, ItemKind.DISCOVERY)) is not None:
            ops = [
                op
                for op in ops
                if op["op"] not in ("RunComplete", "DeferAdd") and op.get("name") != "nonsense"
            ]
            self._answer(*found, OpsReply(read_ops(json.dumps(ops).encode()), 2, None, None))

    @rule(data=st.data())
    def run_step(self, data: st.DataObject) -> None:
        """A planned step runs, as it should."""
        if (found := self.pick(data, ItemKind.STEP)) is not None:
            id = found[1].step_id
            op = {"op": "StepRun", "id": id, "displayName": id, "data": 1}
            self._answer(*found, OpsReply(read_ops(json.dumps([op]).encode()), 2, None, None))

    @rule(
        data=st.data(), outcome=st.sampled_from(["throws", "throws", "throws", "throws for good", "returns"])
    )
    def end_call(self, data: st.DataObject, outcome: str) -> None:
        if (found := self.pick(data, *CALLING)) is not None:
            if outcome == "returns":
                self._answer(*found, Finished(b"1", 2))
            else:
                error = ErrorInfo("invalid status code: 500", "Boom", "no")
                self._answer(*found, FunctionError(b"{}", error, no_retry=outcome == "throws for good"))

    def _answer(self, run: Run, item: Item, reply: Any) -> None:
        signals = {name: signal_holder(self.state, name, None) for name in SIGNALS}
        plan = planning.plan_reply(run, item, reply, 206, context(self.state, run, signals))
        self.state.apply(plan)

    @rule(data=st.data(), ids=st.lists(step_ids, max_size=3))
    def checkpoint(self, data: st.DataObject, ids: list[str]) -> None:
        if (found := self.pick(data, *CALLING)) is None:
            return
        run, item = found
        ops = read_ops(
            json.dumps([{"op": "StepRun", "id": id, "displayName": id, "data": 2} for id in ids]).encode()
        )
        before = set(run.items)
        self.state.apply(planning.plan_checkpoint(run, item, ops, context(self.state, run)))
        assert run.status.ended or set(run.items) == before, "a checkpoint starts and ends nothing"

    @rule(data=st.data(), failed=st.booleans())
    def end_request(self, data: st.DataObject, failed: bool) -> None:
        if (found := self.pick(data, ItemKind.REQUEST)) is None:
            return
        run, item = found
        rules = context(self.state, run)
        if failed and item.attempt + 1 < rules.attempts:
            self.state.apply(planning.plan_request_retry(run, item, b"{}", rules))
        else:
            plan = planning.plan_request_answer(run, item, b"{}", "Gateway", self.state.now, RULES, failed)
            self.state.apply(plan)

    @rule(seconds=st.sampled_from([0, 1, 6]))
    def pass_time(self, seconds: int) -> None:
        """Timers fire that are due then."""
        self.state.now += seconds * 1_000
        for run, item in self.items(ItemKind.SLEEP, ItemKind.WAIT, in_flight=False):
            if item.due <= self.state.now and item.n in run.items:
                self.state.apply(planning.plan_timer(run, item, self.state.now, RULES))

    @rule(data=st.data())
    def match(self, data: st.DataObject) -> None:
        """Something that a run waits for comes."""
        found = [(run, n) for run in self.runs() for n in run.waits]
        if found:
            run, n = found[data.draw(st.integers(0, len(found) - 1))]
            self.state.apply(
                planning.plan_match(run, run.waits[n], b'{"data":3}', "e", self.state.now, RULES)
            )

    @rule(data=st.data(), really=st.sampled_from([False, False, True]))
    def cancel(self, data: st.DataObject, really: bool) -> None:
        runs = self.runs()
        if runs and really:
            run = runs[data.draw(st.integers(0, len(runs) - 1))]
            self.state.apply(planning.plan_cancel(run, self.state.now))

    @rule()
    def commit(self) -> None:
        """The batch is on disk; what it leaves is compared with memory."""
        batch = self.state.batch
        changes = batch.seal()
        self.tables.check(changes)
        self.tables.apply(changes)
        self.state.batch = Batch(batch.number + 1)
        self.state.memory.committed = batch.number
        for run in self.state.memory.runs.values():
            stored = run_from_rows(self.tables.stored_run(run.id))
            for name in (
                "status",
                "version",
                "parallel",
                "waits",
                "output",
                "seq",
                "state_bytes",
                "correlation",
            ):
                assert getattr(stored, name) == getattr(run, name), name
            assert [(s.id, s.position, s.memo) for s in stored.steps.values()] == [
                (s.id, s.position, s.memo) for s in run.steps.values()
            ]
            for item in run.items.values():
                item.sent_at = 0
            assert stored.items == run.items
        counts = {(event, path): count for event, path, count in self.tables.wait_counts()}
        assert counts == self._wait_counts()
        self.state.forget(batch.runs.values())

    def _wait_counts(self) -> dict[tuple[str, str], int]:
        return {
            (event, path): count
            for event, paths in self.state.memory.wait_counts.items()
            for path, count in paths.items()
        }

    # What must hold

    @invariant()
    def a_live_run_has_something_ahead(self) -> None:
        for run in self.runs():
            assert run.items, "a run that nothing would ever happen to"

    @invariant()
    def an_ended_run_is_over(self) -> None:
        for run in self.state.memory.runs.values():
            if run.status.ended:
                assert not run.items
                assert not run.waits
                end = (run.status, run.output)
                assert self.ended.setdefault(run.id, end) == end, "a run has one end"

    @invariant()
    def a_recorded_step_never_changes(self) -> None:
        for run in self.state.memory.runs.values():
            now = [(step.id, step.memo or b"") for step in run.steps.values()]
            assert now[: len(self.recorded.get(run.id, []))] == self.recorded.get(run.id, [])
            assert [step.position for step in run.steps.values()] == list(range(len(now)))
            self.recorded[run.id] = now
            if not run.status.ended:
                assert len(now) <= RULES.steps_per_run
                assert run.state_bytes == sum(len(memo) for _, memo in now) <= RULES.state_bytes

    @invariant()
    def a_step_has_one_thing_under_way(self) -> None:
        for run in self.runs():
            ids = [item.step_id for item in run.items.values() if item.kind is not ItemKind.DISCOVERY]
            assert len(ids) == len(set(ids))

    @invariant()
    def one_discovery_is_queued_for_a_stack(self) -> None:
        for run in self.runs():
            queued = [
                item.data
                for item in run.items.values()
                if item.kind is ItemKind.DISCOVERY and not item.in_flight and not item.attempt
            ]
            assert len(queued) == len(set(queued))

    @invariant()
    def attempts_are_bounded(self) -> None:
        for run in self.runs():
            assert all(item.attempt < FUNCTION.attempts for item in run.items.values())

    @invariant()
    def the_index_of_waits_is_that_of_the_runs(self) -> None:
        memory: Any = self.state.memory
        expected: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
        counts: dict[tuple[str, str], int] = {}
        for run in memory.runs.values():
            for n, wait in run.waits.items():
                assert n in run.items
                expected.setdefault((wait.event, wait.path, wait.value), set()).add((run.id, n))
                counts[wait.event, wait.path] = counts.get((wait.event, wait.path), 0) + 1
        assert memory._waits == expected
        assert self._wait_counts() == counts

    @invariant()
    def a_signal_has_one_waiter(self) -> None:
        for name in SIGNALS:
            assert len(self.state.memory.waits_in_memory("perdure/signal", "signal", name)) <= 1

    @invariant()
    def memory_counts_its_bytes(self) -> None:
        memory = self.state.memory
        assert memory.memo_bytes == sum(run.state_bytes for run in memory.runs.values())

    @invariant()
    def every_item_that_is_not_in_flight_is_in_its_queue(self) -> None:
        for run in self.runs():
            for item in run.items.values():
                if not item.in_flight:
                    queue = self.state.queue(run.function_id, item.part)
                    assert ItemRef(item.rank, run.id, item.n) in queue.heap

    def teardown(self) -> None:
        """Let every app behave: each run reaches its end, whatever it has been through."""
        for _ in range(400):
            if not self.runs():
                break
            self.pass_time(6)
            for run, item in self.items(*CALLING, ItemKind.REQUEST, in_flight=False):
                item.in_flight = True
                run.status = RunStatus.RUNNING
            for run, item in self.items(ItemKind.REQUEST, in_flight=True):
                if item.n in run.items:
                    plan = planning.plan_request_answer(
                        run, item, b"{}", "Gateway", self.state.now, RULES, False
                    )
                    self.state.apply(plan)
            for run, item in self.items(*CALLING, in_flight=True):
                if item.n not in run.items:
                    continue
                if item.kind is ItemKind.STEP:
                    op = {"op": "StepRun", "id": item.step_id, "displayName": "x", "data": 1}
                    self._answer(run, item, OpsReply(read_ops(json.dumps([op]).encode()), 2, None, None))
                else:
                    self._answer(run, item, Finished(b"1", 2))
            self.an_ended_run_is_over()
        assert not self.runs()
        self.commit()
        assert not any(self.tables.items.values())
        assert not any(self.tables.waits.values())
        ends = [row for row in self.tables.events.values() if row.name == "inngest/function.finished"]
        assert len(ends) == len(self.tables.runs)


TestEngine = Engine.TestCase
TestEngine.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

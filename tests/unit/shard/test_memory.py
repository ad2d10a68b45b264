"""What may leave memory, and when: only what every read from now on will see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.flow.admission import RunFlow
from perdure.core.flow.concurrency import Need
from perdure.core.model import Item, ItemKind, Run, RunStatus, Step, Wait, WaitKind
from perdure.shard import memory as memory_module
from perdure.shard.keys import RATE, SINGLETON
from perdure.shard.memory import Memory, memos_size, run_from_rows
from perdure.shard.rows import EventRow, ItemRow, KeyRef, RunRow, StepRow, StoredRun, WaitRow

NOW = 1_700_000_000_000


def a_run(id: str, commit: int = 0, memo: bytes | None = None, in_flight: bool = False) -> Run:
    run = Run(id, "f", RunStatus.RUNNING, [1], ["e"], [b"{}"], "x", NOW, commit=commit)
    item = Item(1, ItemKind.DISCOVERY, "", "", NOW, NOW, in_flight=in_flight)
    run.items = {1: item}
    if memo is not None:
        run.steps = {"a": Step("a", 0, "a", "StepRun", memo, len(memo), NOW)}
        run.state_bytes = len(memo)
    return run


def a_wait(n: int, event: str = "x", path: str = "", value: str = "") -> Wait:
    return Wait(n, WaitKind.EVENT, event, path, value, None, 0)


def holding(*runs: Run, committed: int = 0) -> Memory:
    memory = Memory()
    memory.committed = committed
    for run in runs:
        memory.add(run)
    return memory


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_RESIDENT_RUNS", 2)
    monkeypatch.setattr(memory_module, "MAX_MEMO_BYTES", 100)


class TestLeaving:
    """A run leaves only when its changes are committed and no read is under way that began before."""

    def ended(self, commit: int) -> Run:
        run = a_run("r", commit)
        run.items.clear()
        run.status = RunStatus.COMPLETED
        return run

    def test_an_ended_run_leaves_with_its_commit(self) -> None:
        run = self.ended(3)
        memory = holding(run, committed=2)
        memory.forget_ended([run])
        assert memory.get("r") is run
        memory.committed = 3
        memory.forget_ended([run])
        assert memory.get("r") is None

    def test_a_live_run_stays(self) -> None:
        run = a_run("r", 3)
        memory = holding(run, committed=3)
        memory.forget_ended([run])
        assert memory.get("r") is run

    def test_a_read_that_began_before_the_commit_keeps_it(self) -> None:
        run = self.ended(3)
        memory = holding(run, committed=2)
        read = memory.begin_read()
        memory.committed = 3
        later = memory.begin_read()
        memory.forget_ended([run])
        assert memory.get("r") is run
        memory.end_read(read)
        assert memory.oldest_snapshot() == 3
        memory.forget_ended([run])
        assert memory.get("r") is None
        memory.end_read(later)

    def test_a_pinned_run_stays_until_each_pin_is_undone(self) -> None:
        run = self.ended(1)
        memory = holding(run, committed=1)
        memory.pin("r")
        memory.pin("r")
        memory.unpin("r")
        memory.forget_ended([run])
        assert memory.get("r") is run
        memory.unpin("r")
        memory.unpin("r")
        memory.forget_ended([run])
        assert memory.get("r") is None

    def test_a_call_under_way_keeps_it(self, small: None) -> None:
        memory = holding(*(a_run(f"r{n}", in_flight=n == 0) for n in range(4)), committed=1)
        memory.shrink()
        assert set(memory.runs) == {"r0", "r3"}

    def test_an_older_copy_does_not_remove_a_newer_one(self) -> None:
        old, new = self.ended(1), self.ended(1)
        memory = holding(new, committed=1)
        memory.forget_ended([old])
        assert memory.get("r") is new

    def test_those_used_longest_ago_leave_first(self, small: None) -> None:
        memory = holding(*(a_run(f"r{n}") for n in range(4)))
        memory.get("r0")
        memory.shrink()
        assert set(memory.runs) == {"r3", "r0"}

    def test_uncommitted_runs_stay_over_the_bound(self, small: None) -> None:
        memory = holding(*(a_run(f"r{n}", commit=1) for n in range(4)))
        memory.shrink()
        assert len(memory.runs) == 4
        memory.committed = 1
        memory.shrink()
        assert len(memory.runs) == 2

    def test_its_waits_leave_the_index_and_stay_in_the_counts(self) -> None:
        run = a_run("r")
        memory = holding(run)
        memory.add_wait(run, a_wait(2, path="data.u", value="7"))
        run.status = RunStatus.COMPLETED
        memory.forget_ended([run])
        assert memory.waits_in_memory("x", "data.u", "7") == set()
        assert memory.wait_counts == {"x": {"data.u": 1}}


class TestMemos:
    def test_the_budget_lets_whole_runs_go(self, small: None) -> None:
        memory = holding(a_run("r0", memo=b"x" * 60), a_run("r1", memo=b"x" * 60))
        memory.shrink()
        assert set(memory.runs) == {"r1"}
        assert memory.memo_bytes == 60

    def test_runs_that_must_stay_lose_only_their_results(self, small: None) -> None:
        run = a_run("r0", memo=b"x" * 160, in_flight=True)
        memory = holding(run)
        memory.shrink()
        assert memory.get("r0") is run
        assert run.steps["a"].memo is None
        assert not run.memos_resident
        assert (run.state_bytes, memory.memo_bytes) == (160, 0)

    def test_results_that_are_not_on_disk_stay(self, small: None) -> None:
        run = a_run("r0", commit=1, memo=b"x" * 160, in_flight=True)
        memory = holding(run)
        memory.shrink()
        assert run.memos_resident
        memory.committed = 1
        memory.shrink()
        assert not run.memos_resident

    def test_they_come_back(self, small: None) -> None:
        run = a_run("r0", memo=b"x" * 160, in_flight=True)
        memory = holding(run)
        memory.shrink()
        memory.take_memos(run, {"a": b"x" * 160})
        assert run.memos_resident
        assert memory.memo_bytes == 160
        memory.take_memos(run, {"a": b"other"})
        assert run.steps["a"].memo == b"x" * 160

    @given(
        st.lists(
            st.tuples(st.sampled_from(["add", "save", "commit", "shrink", "load", "end"]), st.integers(0, 3)),
            max_size=60,
        )
    )
    def test_the_count_of_bytes_is_right(self, acts: list[tuple[str, int]]) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory_module, "MAX_RESIDENT_RUNS", 3)
            patch.setattr(memory_module, "MAX_MEMO_BYTES", 50)
            memory = Memory()
            batch = 1
            for act, n in acts:
                run = memory.runs.get(f"r{n}")
                if act == "add" and run is None:
                    memory.add(a_run(f"r{n}", batch, b"x" * (10 + n), in_flight=n == 0))
                elif act == "save" and run is not None:
                    size = 10
                    memo = b"y" * size if run.memos_resident else None
                    name = f"s{len(run.steps)}"
                    run.steps[name] = Step(name, len(run.steps), name, "StepRun", memo, size, NOW)
                    run.state_bytes += size
                    memory.memo_bytes += size if memo else 0
                    run.commit = batch
                elif act == "commit":
                    memory.committed, batch = batch, batch + 1
                elif act == "shrink":
                    memory.shrink()
                elif act == "load" and run is not None:
                    memory.take_memos(run, {step.id: b"z" * step.size for step in run.steps.values()})
                elif act == "end" and run is not None:
                    run.status = RunStatus.COMPLETED
                    run.items.clear()
                    memory.forget_ended([run])
                for held in memory.runs.values():
                    if held.memos_resident:
                        assert all(step.memo is not None for step in held.steps.values())
                assert memory.memo_bytes == sum(map(memos_size, memory.runs.values()))


class TestWaits:
    def test_found_by_event_path_and_value(self) -> None:
        run = a_run("r")
        memory = holding(run)
        memory.add_wait(run, a_wait(2, "x", "data.u", "7"))
        memory.add_wait(run, a_wait(3, "x"))
        assert memory.waits_in_memory("x", "data.u", "7") == {("r", 2)}
        assert memory.waits_in_memory("x", "", "") == {("r", 3)}
        assert memory.waits_in_memory("x", "data.u", "8") == set()
        assert memory.wait_counts == {"x": {"data.u": 1, "": 1}}

    def test_an_end_is_counted_once(self) -> None:
        run = a_run("r")
        memory = holding(run)
        memory.add_wait(run, a_wait(2))
        assert memory.drop_wait(run, 2)
        assert not memory.drop_wait(run, 2)
        assert memory.wait_counts == {}
        assert run.waits == {}
        assert memory.waits_in_memory("x", "", "") == set()

    def test_a_run_that_is_read_brings_its_waits_but_not_their_counts(self) -> None:
        """All waits of the store were counted when the shard started."""
        memory = Memory()
        memory.wait_counts = {"x": {"": 1}}
        run = a_run("r")
        run.waits = {2: a_wait(2)}
        memory.add(run)
        assert memory.waits_in_memory("x", "", "") == {("r", 2)}
        assert memory.wait_counts == {"x": {"": 1}}


class TestKeys:
    def test_what_a_batch_has_changed_wins_until_every_read_sees_it(self) -> None:
        memory, ref = Memory(), KeyRef(RATE, "f", "k")
        memory.keys.put(ref, b"new", 1)
        memory.keys.forget(memory.oldest_snapshot())
        assert memory.keys.value(ref, {ref: b"old"}) == b"new"
        assert memory.keys.value(KeyRef(RATE, "g", "k"), {}) is None
        read = memory.begin_read()
        memory.committed = 1
        memory.keys.forget(memory.oldest_snapshot())
        assert memory.keys.value(ref, {ref: b"old"}) == b"new"
        memory.end_read(read)
        memory.keys.forget(memory.oldest_snapshot())
        assert memory.keys.value(ref, {ref: b"read"}) == b"read"

    def test_a_removal_wins_too(self) -> None:
        memory, ref = Memory(), KeyRef(SINGLETON, "f", "k")
        memory.keys.put(ref, None, 1)
        assert memory.keys.value(ref, {ref: b"holder"}) is None

    def test_newer_ones_stay(self) -> None:
        memory = Memory()
        old, again, new = (KeyRef(RATE, "f", name) for name in ("old", "again", "new"))
        memory.keys.put(old, b"1", 1)
        memory.keys.put(again, b"1", 1)
        memory.keys.put(new, b"1", 2)
        memory.keys.put(again, b"2", 2)
        memory.keys.forget(1)
        assert [memory.keys.value(ref, {}) for ref in (old, again, new)] == [None, b"2", b"1"]

    def test_a_kind_can_be_forgotten_at_once(self) -> None:
        memory = Memory()
        gone, kept = KeyRef(RATE, "f", "k"), KeyRef(SINGLETON, "f", "k")
        memory.keys.put(gone, b"1", 1)
        memory.keys.put(kept, b"1", 1)
        memory.keys.forget_kind(RATE)
        assert [memory.keys.value(ref, {}) for ref in (gone, kept)] == [None, b"1"]


class TestReads:
    def test_the_oldest_counts(self) -> None:
        memory = Memory()
        memory.committed = 5
        assert memory.oldest_snapshot() == 5
        first = memory.begin_read()
        memory.committed = 7
        second = memory.begin_read()
        assert (memory.snapshot(first), memory.snapshot(second), memory.oldest_snapshot()) == (5, 7, 5)
        memory.end_read(first)
        memory.end_read(first)
        assert memory.oldest_snapshot() == 7


FLOW = RunFlow(NOW, NOW, steps=(Need("counter", "limit"),))


def test_a_run_from_its_rows() -> None:
    row = RunRow(
        "r",
        "f",
        "RUNNING",
        "e1",
        '["e1","e2"]',
        "[4,5]",
        "x",
        NOW,
        NOW + 1,
        None,
        2,
        1,
        "p.s",
        "orig",
        None,
        FLOW.encode(),
        "b",
        "0 0 * * *",
    )
    steps = [
        StepRow("r", "a", 0, "A", "StepRun", NOW, b"{}"),
        StepRow("r", "b", 1, "B", "Sleep", NOW, b"null"),
    ]
    item = ItemRow("r", 7, "f", "wait", "c", "C", NOW, NOW, 1, 2, 3, 1, 2, b"{}", "t", 99)
    wait = WaitRow("r", 7, "event", "x", "p", "v", "true", 4, NOW)
    run = run_from_rows(StoredRun(row, [b"1", b"2"], steps, [item], [wait], 9))
    assert (run.receipts, run.event_ids, run.events) == ([4, 5], ["e1", "e2"], [b"1", b"2"])
    assert (run.version, run.parallel, run.correlation, run.original_run_id) == (2, True, "p.s", "orig")
    assert (run.flow, run.batch_id, run.cron) == (FLOW, "b", "0 0 * * *")
    assert (list(run.steps), run.state_bytes, run.memos_resident, run.seq) == (["a", "b"], 6, True, 10)
    kept = run.items[7]
    assert (kept.kind, kept.attempt, kept.generation, kept.recoveries) == (ItemKind.WAIT, 1, 2, 3)
    assert (kept.in_flight, kept.group, kept.data) == (True, 2, b"{}")
    assert (kept.part, kept.rank) == ("t", 99)
    assert run.waits[7] == Wait(7, WaitKind.EVENT, "x", "p", "v", "true", 4, NOW)


def test_rows_and_columns_agree() -> None:
    """What `run_from_rows` reads by position is named so."""
    assert EventRow._fields[:2] == ("receipt", "internal_id")
    assert RunRow._fields[-5:] == ("output", "flow", "batch_id", "cron", "from_step")

"""Queues of which only a window is in memory: nothing is lost, nothing comes before its turn."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from perdure.core.pacing import Gate
from perdure.shard import queues
from perdure.shard.queues import END, START, Queue, Queues
from perdure.shard.rows import ItemRef

WINDOW, HEAP_MAX = 4, 8


class WindowedQueue(RuleBasedStateMachine):
    """A queue, the store behind it, batches on their way there, and reads that see some of them.

    The model is a set: the references of all items that are queued, as decided.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(queues, "WINDOW", WINDOW)
        self.patch.setattr(queues, "HEAP_MAX", HEAP_MAX)
        self.queued: set[ItemRef] = set()
        self.taken: set[ItemRef] = set()
        self.stored: set[ItemRef] = set()
        self.open: list[tuple[bool, ItemRef]] = []
        self.committing: list[tuple[bool, ItemRef]] | None = None
        self.committed = 0
        self.batch = 1
        self.reading: tuple[int, ItemRef, list[ItemRef] | None] | None = None
        self.numbers = 0

    def teardown(self) -> None:
        try:
            if self.numbers:
                self.drain()
        finally:
            self.patch.undo()

    @initialize(stored=st.lists(st.integers(0, 50), max_size=30))
    def start(self, stored: list[int]) -> None:
        """Items that were there when the server started."""
        for due in stored:
            self.numbers += 1
            ref = ItemRef(due, f"r{self.numbers % 5}", self.numbers)
            self.stored.add(ref)
            self.queued.add(ref)
        self.queue = Queue("f", "c", Gate(), START if stored else END)

    # What the shard does

    def _put(self, ref: ItemRef) -> None:
        self.queued.add(ref)
        self.open.append((True, ref))
        if self.queue.push(ref, self.batch):
            assert len(self.queue.heap) <= HEAP_MAX

    def _drop(self, ref: ItemRef) -> None:
        self.queued.discard(ref)
        self.open.append((False, ref))

    @rule(dues=st.lists(st.integers(0, 50), min_size=1, max_size=HEAP_MAX))
    def add(self, dues: list[int]) -> None:
        for due in dues:
            self.numbers += 1
            self._put(ItemRef(due, f"r{self.numbers % 5}", self.numbers))

    @precondition(lambda self: self.queued)
    @rule(data=st.data(), rank=st.integers(0, 50))
    def move(self, data: st.DataObject, rank: int) -> None:
        """An item is due at another time."""
        ref = data.draw(st.sampled_from(sorted(self.queued)))
        if rank != ref.rank:
            self._drop(ref)
            self._put(ref._replace(rank=rank))

    @precondition(lambda self: self.queued)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._drop(data.draw(st.sampled_from(sorted(self.queued))))

    @rule(count=st.integers(1, HEAP_MAX))
    def take(self, count: int) -> None:
        for _ in range(count):
            self._take(False)

    @rule()
    def take_too_early(self) -> None:
        self._take(True)

    def _take(self, put_back: bool) -> None:
        if not self.queue.heap:
            return
        ref = heapq.heappop(self.queue.heap)
        if ref not in self.queued:
            return
        assert ref == min((other for other in self.queued if other <= self.queue.edge), default=ref)
        if put_back:
            self.queue.put_back(ref)
            return
        assert ref not in self.taken
        self.taken.add(ref)
        self._drop(ref)

    # What the store does

    @precondition(lambda self: self.committing is None)
    @rule()
    def commit(self) -> None:
        self.committing, self.open = self.open, []
        self.batch += 1

    @precondition(lambda self: self.committing is not None)
    @rule()
    def land(self) -> None:
        assert self.committing is not None
        self._write()
        self.committing = None
        self.committed += 1
        self.queue.forget_late(self.committed if self.reading is None else self.reading[0])

    def _write(self) -> None:
        for added, ref in self.committing or ():
            if added:
                self.stored.add(ref)
            else:
                self.stored.discard(ref)

    @precondition(lambda self: self.reading is None and self.queue.edge is not END)
    @rule(early=st.booleans())
    def begin_read(self, early: bool) -> None:
        """The store may be looked at now, or only after some more batches have landed."""
        if self.queue.wants_window():
            self.queue.reading = True
            after = self.queue.edge
            self.reading = (self.committed, after, self._window(after) if early else None)

    @precondition(lambda self: self.reading is not None)
    @rule(unreported=st.booleans())
    def end_read(self, unreported: bool) -> None:
        """A read may also see a batch whose commit has not been reported yet."""
        assert self.reading is not None
        snapshot, after, window = self.reading
        self.reading = None
        if window is None:
            stored = set(self.stored)
            if unreported:
                self._write()
            window = self._window(after)
            self.stored = stored
        self.queue.take_window(window, snapshot, WINDOW)

    def _window(self, after: ItemRef) -> list[ItemRef]:
        return sorted(ref for ref in self.stored if ref > after)[:WINDOW]

    # What must hold

    @invariant()
    def what_is_before_the_edge_is_in_memory(self) -> None:
        if self.numbers:
            assert {ref for ref in self.queued if ref <= self.queue.edge} <= set(self.queue.heap)

    def drain(self) -> None:
        """From any state: let everything land, read on, and take everything, in order of due."""
        for _ in range(2):
            if self.committing is None:
                self.commit()
            self.land()
        if self.reading is not None:
            self.end_read(False)
        last = START
        stale = len(self.queue.heap) + len(self.queue.late)  # references to what has moved since
        for _ in range(10 * len(self.queued) + 20 + stale):
            if not self.queue.heap:
                if self.queue.edge is END:
                    break
                assert self.queue.wants_window()
                self.begin_read(False)
                self.end_read(False)
                continue
            before = len(self.taken)
            smallest = self.queue.heap[0]
            self._take(False)
            if len(self.taken) > before:
                assert smallest > last
                last = smallest
        assert not self.queued


TestWindowedQueue = WindowedQueue.TestCase
TestWindowedQueue.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


class TestTurns:
    def queue(self, all: Queues, name: str, *dues: int) -> Queue:
        queue = all.all[name, "c"] = Queue(name, "c", Gate())
        for n, due in enumerate(dues):
            queue.push(ItemRef(due, name, n), 1)
        all.look(queue, 0)
        return queue

    def taken(self, all: Queues, now: int) -> list[str]:
        all.wake(now)
        found = []
        while (queue := all.take_turn(now)) is not None:
            ref = queue.take(now)
            assert ref is not None
            found.append(f"{ref.run_id}{ref.rank}")
            all.look(queue, now)
        return found

    def test_functions_take_turns(self) -> None:
        all = Queues()
        self.queue(all, "a", 1, 2, 3)
        self.queue(all, "b", 1)
        self.queue(all, "c", 1, 2)
        assert self.taken(all, 5) == ["a1", "b1", "c1", "a2", "c2", "a3"]

    def test_nothing_comes_early(self) -> None:
        all = Queues()
        self.queue(all, "a", 10, 20)
        assert all.next_time() == 10
        assert self.taken(all, 9) == []
        assert self.taken(all, 10) == ["a10"]
        assert all.next_time() == 20
        assert self.taken(all, 30) == ["a20"]
        assert all.next_time() is None

    def test_an_earlier_item_moves_the_time(self) -> None:
        all = Queues()
        queue = self.queue(all, "a", 20)
        queue.push(ItemRef(5, "a", 9), 1)
        all.look(queue, 0)
        assert all.next_time() == 5
        assert self.taken(all, 5) == ["a5"]
        assert self.taken(all, 20) == ["a20"]

    def test_a_blocked_queue_is_passed_over_until_it_is_looked_at_again(self) -> None:
        all = Queues()
        in_line, waiting = self.queue(all, "a", 0), self.queue(all, "b", 1)
        self.queue(all, "c", 1)
        in_line.blocked = waiting.blocked = True
        assert self.taken(all, 5) == ["c1"]
        for queue in (in_line, waiting):
            queue.blocked = False
            all.look(queue, 5)
        assert self.taken(all, 5) == ["a0", "b1"]

    def test_a_queue_stands_in_line_once(self) -> None:
        all = Queues()
        queue = self.queue(all, "a", 1)
        for _ in range(3):
            all.look(queue, 5)
        assert len(all.line) == 1


def test_order_is_by_time_then_run_then_number() -> None:
    refs = [ItemRef(2, "a", 1), ItemRef(1, "b", 2), ItemRef(1, "b", 10), ItemRef(1, "a", 3)]
    assert sorted(refs) == [ItemRef(1, "a", 3), ItemRef(1, "b", 2), ItemRef(1, "b", 10), ItemRef(2, "a", 1)]
    assert all(START < ref < END for ref in refs)


def test_a_new_function_never_asks_the_store() -> None:
    assert not Queue("f", "c", Gate()).wants_window()
    assert Queue("f", "c", Gate(), START).wants_window()

"""The queues of items, some for each function (`core.model.Part`), each with a window of itself in memory.

A queue is ordered by (rank, run id, n); the rank is the time at which an item is due, or in a line its place. What
comes first is in memory, as references in a heap; the rest is only in the store. `edge` is the border: every stored
item at or before it is in the heap, in flight, or done; items after it are in the store only. While the whole queue
fits, the edge is at the end of time and the store is not asked at all. When the heap grows over its bound, the farther
half is dropped and the edge moves down; when the heap runs low, a window is read and the edge moves up.

Two things can go wrong with such a window, and both are answered here:

- A window is read while batches that add items beyond the edge are not committed yet, or are committed
  after the read began. Such items are remembered as `late` with the number of their batch until no read can
  miss them; a read that began before takes them in as well.
- A read shows an item that has changed or gone since. References are therefore only hints: whoever takes
  one compares it with the run, and drops it if the item is gone, in flight, or due at another time.
"""

from __future__ import annotations

import heapq
from collections import deque

from perdure.core.pacing import Gate
from perdure.shard.rows import ItemRef

START = ItemRef(-1, "", 0)
END = ItemRef(1 << 62, "", 0)
WINDOW = 1_000
"""References read from the store at once."""
HEAP_MAX = 4_000
"""More references than this in one queue are cut to half."""


class Queue:
    """A queue of one function: items that are not in flight. `gate` is None where no calls leave."""

    __slots__ = (
        "blocked",
        "edge",
        "function_id",
        "gate",
        "heap",
        "hot",
        "late",
        "loading",
        "part",
        "reading",
        "timer",
    )

    def __init__(self, function_id: str, part: str, gate: Gate | None, edge: ItemRef = END) -> None:
        self.function_id = function_id
        self.part = part
        self.gate = gate
        self.edge = edge
        self.heap: list[ItemRef] = []
        self.late: list[tuple[int, ItemRef]] = []
        self.hot = False
        """Whether it stands in the line of queues with something due."""
        self.blocked = False
        """Whether it waits for room in its gate, or for its function to be resumed."""
        self.reading = False
        """Whether a window is being read."""
        self.loading = 0
        """References taken whose runs are being read."""
        self.timer: int | None = None
        """The time at which the queue is to be looked at next."""

    @property
    def empty(self) -> bool:
        """Whether nothing of it is left, here or in the store."""
        return not (self.heap or self.late or self.reading or self.loading) and self.edge is END

    def has_due(self, now: int) -> bool:
        """Whether something may be taken now."""
        return bool(self.heap) and self.heap[0].rank <= now

    def take(self, now: int) -> ItemRef | None:
        """Take the first reference off, if it is due."""
        return heapq.heappop(self.heap) if self.heap and self.heap[0].rank <= now else None

    def push(self, ref: ItemRef, batch: int) -> bool:
        """Take in an item that a batch has added or moved.

        False if it lies beyond the edge, in the store only.
        """
        if ref > self.edge:
            self.late.append((batch, ref))
            return False
        heapq.heappush(self.heap, ref)
        if len(self.heap) > HEAP_MAX:
            self._cut(batch)
        return True

    def put_back(self, ref: ItemRef) -> None:
        """Take in a reference again that was taken too early."""
        heapq.heappush(self.heap, ref)

    def _cut(self, batch: int) -> None:
        self.heap.sort()
        kept = HEAP_MAX // 2
        self.late.extend((batch, ref) for ref in self.heap[kept:])
        del self.heap[kept:]
        self.edge = self.heap[-1]

    def wants_window(self) -> bool:
        """Whether it is time to read on in the store."""
        return not self.reading and self.edge is not END and len(self.heap) < WINDOW // 4

    def take_window(self, refs: list[ItemRef], snapshot: int, limit: int) -> None:
        """Take in a window read after the edge, by a read that saw all batches up to `snapshot`."""
        self.reading = False
        self.edge = END if len(refs) < limit else refs[-1]
        taken = set(refs)
        late, self.late = self.late, []
        for batch, ref in late:
            if ref > self.edge:
                self.late.append((batch, ref))
            elif batch > snapshot and ref not in taken:
                taken.add(ref)
        for ref in taken:
            heapq.heappush(self.heap, ref)

    def forget_late(self, oldest_snapshot: int) -> None:
        """Forget late items that every read from now on will see."""
        if self.late and not self.reading:
            self.late = [(batch, ref) for batch, ref in self.late if batch > oldest_snapshot]


class Queues:
    """The queues that are looked at: which of them have something due, in turn, and when the next one will."""

    def __init__(self) -> None:
        self.all: dict[tuple[str, str], Queue] = {}
        self.line: deque[Queue] = deque()
        self._timers: list[tuple[int, int, Queue]] = []
        self._seq = 0

    def look(self, queue: Queue, now: int) -> None:
        """Put the queue in line if something of it is due, else remember when it will be."""
        if queue.hot or queue.blocked:
            return
        if queue.has_due(now):
            queue.hot = True
            self.line.append(queue)
        elif queue.heap:
            due = queue.heap[0].rank
            if queue.timer is None or due < queue.timer:
                queue.timer = due
                self._seq += 1
                heapq.heappush(self._timers, (due, self._seq, queue))

    def wake(self, now: int) -> None:
        """Put the queues in line whose time has come."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            due, _, queue = heapq.heappop(timers)
            if queue.timer == due:
                queue.timer = None
                self.look(queue, now)

    def next_time(self) -> int | None:
        """When the next queue will have something due (ms), or None."""
        return self._timers[0][0] if self._timers else None

    def take_turn(self, now: int) -> Queue | None:
        """The next queue in line that has something due. Call `look` on it afterwards."""
        line = self.line
        while line:
            queue = line.popleft()
            queue.hot = False
            if queue.blocked:
                continue
            if queue.has_due(now):
                return queue
            self.look(queue, now)
        return None

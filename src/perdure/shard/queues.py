"""The queues of items, one for each function, each with a window of itself in memory.

A queue is ordered by (due, run id, n). What is due soonest is in memory, as references in a heap; the rest
is only in the store. `edge` is the border: every stored item at or before it is in the heap, in flight, or
done; items after it are in the store only. While the whole queue fits, the edge is at the end of time and
the store is not asked at all. When the heap grows over its bound, the farther half is dropped and the edge
moves down; when the heap runs low, a window is read and the edge moves up.

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


class FunctionQueue:
    """The items of one function that are not in flight."""

    __slots__ = (
        "blocked",
        "edge",
        "function_id",
        "gate",
        "heap",
        "hot",
        "late",
        "loading",
        "reading",
        "timer",
    )

    def __init__(self, function_id: str, gate: Gate, edge: ItemRef = START) -> None:
        self.function_id = function_id
        self.gate = gate
        self.edge = edge
        self.heap: list[ItemRef] = []
        self.late: list[tuple[int, ItemRef]] = []
        self.hot = False
        """Whether it stands in the line of queues with something due."""
        self.blocked = False
        """Whether it waits for room in its gate."""
        self.reading = False
        """Whether a window is being read."""
        self.loading = 0
        """References taken whose runs are being read."""
        self.timer: int | None = None
        """The time at which the queue is to be looked at next."""

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
    """All queues: which of them have something due, in turn, and when the next one will."""

    def __init__(self) -> None:
        self.by_function: dict[str, FunctionQueue] = {}
        self.line: deque[FunctionQueue] = deque()
        self._timers: list[tuple[int, str]] = []

    def look(self, queue: FunctionQueue, now: int) -> None:
        """Put the queue in line if its first item is due, else remember when it will be."""
        if queue.hot or queue.blocked or not queue.heap:
            return
        due = queue.heap[0].due
        if due <= now:
            queue.hot = True
            self.line.append(queue)
        elif queue.timer is None or due < queue.timer:
            queue.timer = due
            heapq.heappush(self._timers, (due, queue.function_id))

    def wake(self, now: int) -> None:
        """Put the queues in line whose time has come."""
        timers = self._timers
        while timers and timers[0][0] <= now:
            due, function_id = heapq.heappop(timers)
            queue = self.by_function.get(function_id)
            if queue is not None and queue.timer == due:
                queue.timer = None
                self.look(queue, now)

    def next_time(self) -> int | None:
        """When the next queue will have something due (ms), or None."""
        return self._timers[0][0] if self._timers else None

    def take_turn(self, now: int) -> tuple[FunctionQueue, ItemRef] | None:
        """The next queue in line, and its first due reference, which is taken off.

        Call `look` on the queue afterwards.
        """
        line = self.line
        while line:
            queue = line.popleft()
            queue.hot = False
            if queue.blocked or not queue.heap:
                continue
            if queue.heap[0].due > now:
                self.look(queue, now)
                continue
            return queue, heapq.heappop(queue.heap)
        return None

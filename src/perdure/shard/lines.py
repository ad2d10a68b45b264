"""Lines: calls that wait for places, and how they come to their turns.

Calls that need the same places (`core.flow.turns`) form a line: a queue of their function in the order of their rank,
of which a window is in memory like that of any other queue. Of each line only the first few stand in `Turns`, as
tickets; the next one follows when one has been served. So a line of a million costs as much as one of ten, and a
short line is served beside a long one as though that were not there.

What has been given a turn holds its places from that moment, in `Turns.room`. It gives them back when its call has
ended, or when it turns out that there is nothing to call any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from perdure.core.flow.admission import RunFlow
from perdure.core.flow.concurrency import Need
from perdure.core.flow.keys import digest
from perdure.core.flow.throttle import ThrottleState
from perdure.core.flow.turns import Turns
from perdure.core.flow.waiting import Ticket
from perdure.core.model import Item, Run
from perdure.core.pacing import Gate
from perdure.shard.calls import job_id
from perdure.shard.directory import PAGE, Directory
from perdure.shard.queues import END, START, Queue, Queues
from perdure.shard.rows import ItemRef

TICKETS = 64
"""So many of a line stand in `Turns` at once."""
AT_ONCE = 1_000
"""So many calls of a function that have their turn wait for its app at most."""
_OWN = ("step/fn/", "run/fn/")
PREFIX = "wait:"
"""The names of lines begin with it, and so come after those of all other parts."""
MAX_TICKETS = 2 * TICKETS
"""More than `TICKETS` up to here only where one that comes later goes before them."""


class Line(Queue):
    """A line: its window, and the tickets of it that wait for their turn."""

    __slots__ = ("fed", "gone", "last", "needs")

    def __init__(self, function_id: str, part: str, edge: ItemRef) -> None:
        super().__init__(function_id, part, None, edge)
        self.fed: dict[str, ItemRef] = {}
        self.gone: set[str] = set()
        """Names of items of the window that have ended meanwhile."""
        self.last = START
        """The last in order that became a ticket."""
        self.needs: Needs | None = None
        """None until a run of it has been seen."""

    def has_due(self, now: int) -> bool:  # noqa: ARG002
        """Never: it is not looked at in turn, but through `Turns`."""
        return False


class Needs(msgspec.Struct, frozen=True, gc=False):
    """What the calls of one line need."""

    steps: tuple[Need, ...] = ()
    runs: tuple[Need, ...] = ()
    throttle: Need | None = None


class LineOf(NamedTuple):
    """A line's part, whether no other function counts by the same counters, and all that its calls need."""

    part: str
    own: bool
    needs: tuple[Need, ...]


class TurnQueue(Queue):
    """The calls of a function whose turn it is.

    `heap` are those that have it already: nobody was before them, or their run had to be read.
    """

    __slots__ = ("_heap_next", "lines")

    def __init__(self, function_id: str, gate: Gate, lines: Lines) -> None:
        super().__init__(function_id, "", gate, END)
        self.lines = lines
        self._heap_next = False

    def has_due(self, now: int) -> bool:
        """Whether it is worth asking: a turn may still find no room."""
        return bool(self.heap) or (self._may_grant(now) and self.lines.turns.can_turn(self.function_id))

    def take(self, now: int) -> ItemRef | None:
        """The next call, its places taken; None if none has room. Those that have them and the others take turns."""
        self._heap_next = not self._heap_next
        can_turn = self.lines.turns.can_turn(self.function_id)
        if can_turn and self._may_grant(now) and not (self.heap and self._heap_next):
            ref = self.lines.grant(self.function_id, now)
            if ref is not None:
                return ref
        return heapq.heappop(self.heap) if self.heap else None

    def _may_grant(self, now: int) -> bool:
        """Not more turns are given to runs that must be read first than the app takes calls.

        The others would hold places while they wait for it, from other functions too. When a run has been read, the
        queue is looked at again.
        """
        return not self.loading or self.gate is None or self.loading < self.gate.free(now)


def _has_place(line: Line) -> bool:
    """Whether the first of the line becomes a ticket: there are few, or it comes before one of them."""
    fed = len(line.fed)
    return fed < TICKETS or (fed < MAX_TICKETS and line.heap[0] < line.last)


def needs_of(run: Run) -> Needs | None:
    """What the next call of a run needs; None if it need not stand in line."""
    flow = run.flow
    if flow is None:
        return None
    if run.started_at is not None:
        return Needs(flow.steps) if flow.steps or flow.ranked else None
    if flow.steps or flow.runs or flow.throttle or flow.ranked:
        return Needs(flow.steps, flow.runs, flow.throttle)
    return None


@lru_cache(maxsize=4_000)
def line_of(needs: Needs) -> LineOf:
    """The line of the calls that need this."""
    places = needs.steps + needs.runs
    names = [need.counter + "\0" + need.limit for need in places]
    if needs.throttle is not None:
        names.append(needs.throttle.counter + "\0" + needs.throttle.limit)
    own = all(need.counter.startswith(_OWN) for need in places)
    return LineOf(
        PREFIX + digest("\0".join(names)),
        own,
        places if needs.throttle is None else (needs.throttle, *places),
    )


class Lines:
    """All lines of a shard, and who has a ticket."""

    def __init__(self, queues: Queues) -> None:
        self.turns = Turns()
        self.touched: dict[Line, None] = {}
        """Lines that may have somebody to put in turn."""
        self.throttled: dict[str, ThrottleState] = {}
        """Schedules that grants have changed and that are to be stored with them."""
        self.directory = Directory()
        self._queues = queues
        self._tickets: dict[str, tuple[Line, Ticket]] = {}
        self._let_through: dict[str, Need] = {}
        """Starts that a throttle has let through and that have not left."""

    def line(self, function_id: str, part: str, edge: ItemRef = END) -> Line:
        """The line of this name, made if it does not exist."""
        line = self._queues.all.get((function_id, part))
        if line is None:
            line = self._queues.all[function_id, part] = Line(function_id, part, edge)
            self.directory.listed += 1
        assert isinstance(line, Line)
        return line

    def goes_at_once(
        self, run: Run, item: Item, needs: Needs, all_needs: tuple[Need, ...], turn: TurnQueue, now: int
    ) -> bool:
        """Give a call its turn without a line, if nobody stands before it and there is room.

        Its places must be the function's own: they are held until the app takes the call, which others need not wait
        for.
        """
        function_id, turns = run.function_id, self.turns
        if (
            len(turn.heap) >= AT_ONCE
            or (function_id, item.part) in self._queues.all
            or function_id in self.directory.beyond
            or not turns.free(all_needs, now)
        ):
            return False
        name = job_id(run.id, item.n)
        schedule = turns.room.take(name, run.id, needs, now)
        if schedule is not None and needs.throttle is not None:
            self._let_pass(name, needs.throttle, schedule)
        heapq.heappush(turn.heap, ItemRef(item.rank, run.id, item.n))
        return True

    def push(self, run: Run, item: Item, needs: Needs, batch: int) -> Line | None:
        """Put a call in its line; None if that is not listed, and the call in the store only."""
        key, directory = (run.function_id, item.part), self.directory
        if key in self._queues.all:
            line = self.line(*key)
        elif directory.full:
            directory.leave_out(key, ItemRef(item.rank, run.id, item.n), batch)
            return None
        elif run.function_id in directory.beyond:
            line = self._list(key)
        else:
            line = self.line(*key)
        line.needs = needs
        name = job_id(run.id, item.n)
        line.gone.discard(name)
        line.push(ItemRef(item.rank, run.id, item.n), batch)
        self.touched[line] = None
        return line

    def give_up(self, run_id: str, n: int, now: int) -> None:
        """A call that was given its turn will not leave."""
        name = job_id(run_id, n)
        self._left(name, now)
        self.turns.give_back(name)

    def leave(self, run: Run, item: Item, now: int) -> None:
        """A call has ended, or will never be made: its places are free, its place in line is gone."""
        name = job_id(run.id, item.n)
        found = self._tickets.pop(name, None)
        if found is not None:
            line, ticket = found
            del line.fed[name]
            self.turns.withdraw(ticket)
            self.touched[line] = None
            if not item.in_flight:
                return
        if self._let_through:
            self._left(name, now)
        self.turns.give_back(name)
        if item.in_flight:
            return
        waiting = self._queues.all.get((run.function_id, item.part))
        if isinstance(waiting, Line) and (item.rank, run.id, item.n) <= waiting.edge:
            waiting.gone.add(name)
            self.touched[waiting] = None

    def regret(self, run: Run, n: int, now: int) -> None:
        """A call that was given its turn turns out to be gone, or to be under way already: then it keeps its places.

        A window that was read a while ago may show such calls.
        """
        item = run.items.get(n)
        if item is None or not item.in_flight:
            self.give_up(run.id, n, now)
        if run.started_at is None or run.status.ended:
            self.turns.give_back(run.id)

    def hold(self, run: Run, item: Item) -> None:
        """Count the places of a call that is under way already."""
        if run.flow is not None:
            self.turns.hold(job_id(run.id, item.n), run.flow.steps)

    def hold_run(self, run_id: str, flow: RunFlow) -> None:
        """Count the places of a run that has begun."""
        self.turns.hold(run_id, flow.runs)

    def grant(self, function_id: str, now: int) -> ItemRef | None:
        """The next call of a function whose turn it is; its places are taken."""
        grant = self.turns.next(now, function_id)
        if grant is None:
            return None
        line, ticket = self._tickets.pop(grant.item)
        ref = line.fed.pop(grant.item)
        self.touched[line] = None
        if grant.throttle is not None and ticket.throttle is not None:
            self._let_pass(grant.item, ticket.throttle, grant.throttle)
        return ref

    def _let_pass(self, name: str, need: Need, schedule: tuple[str, ThrottleState]) -> None:
        self.throttled[schedule[0]] = schedule[1]
        self._let_through[name] = need
        self.turns.room.expect(need)

    def begun(self, run_id: str, n: int, now: int) -> None:
        """A call that had its turn leaves: its throttle counts from now."""
        if self._let_through:
            self._left(job_id(run_id, n), now)

    def _left(self, name: str, now: int) -> None:
        need = self._let_through.pop(name, None)
        schedule = None if need is None else self.turns.left(need, now)
        if schedule is not None:
            self.throttled[schedule[0]] = schedule[1]

    def lists(self, line: Line) -> bool:
        """Whether a line is listed still: one that has stepped back stands for nothing."""
        return self._queues.all.get((line.function_id, line.part)) is line

    def feed(self, line: Line) -> ItemRef | None:
        """Put the first of a line in turn. Gives back a reference, taken off, whose run must be read first."""
        if line.blocked:
            return None
        while line.heap and _has_place(line):
            ref = line.heap[0]
            name = job_id(ref.run_id, ref.n)
            if name in line.gone or name in line.fed:
                line.gone.discard(name)
                Queue.take(line, ref.rank)
                continue
            if line.needs is None:
                return Queue.take(line, ref.rank)
            Queue.take(line, ref.rank)
            self._admit(line, ref, name, line.needs)
        if not line.heap:
            line.gone.clear()
        return None

    def _admit(self, line: Line, ref: ItemRef, name: str, needs: Needs) -> None:
        ticket = Ticket(line.function_id, ref.run_id, name, ref.rank, needs.steps, needs.runs, needs.throttle)
        line.fed[name] = ref
        line.last = ref if len(line.fed) == 1 else max(line.last, ref)
        self._tickets[name] = (line, ticket)
        self.turns.wait(ticket)

    def close_if_empty(self, line: Line) -> None:
        """Forget a line in which nobody stands."""
        if line.empty and not line.fed and not line.blocked and self.lists(line):
            del self._queues.all[line.function_id, line.part]
            self.directory.listed -= 1

    def _list(self, key: tuple[str, str]) -> Line:
        """List a line of which the store may hold some."""
        line = self.line(*key, START)
        line.late = self.directory.late(key)
        self.touched[line] = None
        return line

    def list_parts(self, function_id: str, parts: list[str], batch: int) -> None:
        """List lines whose names were read, as far as there is room. `batch` is the open one."""
        directory = self.directory
        if directory.full and parts:
            self._step_back(batch)
        taken = 0
        for part in parts:
            if (function_id, part) not in self._queues.all:
                if directory.full:
                    break
                self._list((function_id, part))
            taken += 1
        directory.take(function_id, parts[:taken], taken < len(parts))

    def _step_back(self, batch: int) -> None:
        """Let the lines go that were listed first."""
        leaving: list[Line] = []
        for queue in self._queues.all.values():
            if len(leaving) == PAGE:
                break
            if isinstance(queue, Line) and not (queue.reading or queue.loading or queue.blocked):
                leaving.append(queue)
        for line in leaving:
            key = (line.function_id, line.part)
            for name, ref in [*line.fed.items()]:
                self.turns.withdraw(self._tickets.pop(name)[1])
                line.put_back(ref)
            line.fed.clear()
            for ref in line.heap:
                if job_id(ref.run_id, ref.n) not in line.gone:
                    self.directory.leave_out(key, ref, batch)
            for seen, ref in line.late:
                self.directory.leave_out(key, ref, seen)
            self.touched.pop(line, None)
            del self._queues.all[key]
            self.directory.listed -= 1

    def settle(self, now: int) -> Iterable[str]:
        """Let what has become free be used; gives back the functions that have a turn because of it."""
        turns = self.turns
        if len(turns) or turns.next_time() is not None:
            turns.next(now, "")
        woken, turns.woken = turns.woken, []
        return woken

    def waiting(self, function_id: str) -> int:
        """How many calls of a function have a ticket."""
        return sum(1 for line, _ in self._tickets.values() if line.function_id == function_id)

    def opening(self, now: int) -> tuple[int, Ticket] | None:
        """The next time (ms) at which a throttle lets somebody through who waits, and who that is. Looks at all."""
        found: tuple[int, Ticket] | None = None
        for _, ticket in self._tickets.values():
            need = ticket.throttle
            due = None if need is None else self.turns.room.opens_at(need.counter, need.limit, now)
            if due is not None and due > now and (found is None or due < found[0]):
                found = due, ticket
        return found

    def ticket(self, run_id: str, n: int) -> Ticket | None:
        """The ticket of a call, if it has one."""
        found = self._tickets.get(job_id(run_id, n))
        return None if found is None else found[1]

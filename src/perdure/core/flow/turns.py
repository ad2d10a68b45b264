"""Turns: who waits for room, for what, and whose turn it is.

An item that is due may need several things at once: a place in one or more concurrency counters, and, if it
starts a run, a moment in its throttle. `Turns` keeps the items that are due but have not been given everything, and
hands them out so that no limit is ever exceeded, no room stays unused that somebody could use, keys get their
turns evenly, and nobody waits for ever. The cost of an item does not depend on how many wait.

The tree. A line for each counter is not enough, since an item stands in all its lines at once, and looking through
the first line for someone whose other counters have room as well can mean looking at everybody. So the needs of an
item are put in order, those that many share first (a limit without key before one by user), and the items form a
tree: under the function a branch for each counter of the first need, under that one for the second, and so on;
items hang at the end of their path, ordered by the `order` that the caller gives them. A branch whose counter is
full is taken out of its parent as a whole, with all that hangs under it, and put in that counter's line: a
function-wide limit that is full stops a hundred thousand users' branches by moving one.

    ready       the branch stands in its parent's round: it gets turns
    parked      it stands in the line of its own counter, until there is room
    idle        nothing under it is ready: it is put in the round when something becomes so
    put off     it would take a place that is kept for another (`favourite`)

A turn goes down from the function's root: at each branch the next child of the round is tried, and goes back to
the end of it; a child without room is parked. Items directly at a branch go before its children: they are calls
of runs that began already, and hold what the children still need.

Room that appears (a place is given back, a throttle's moment comes, a limit is raised) makes the counter one to be
looked at again. For each, one waiter is woken at a time and goes to the end of its parent's round; as long as room
and waiters are left, the counter stays on the list. A newcomer does not pass those who wait in the line.

Why this is cheap. A branch moves between a round and a line only because room appeared where it waited, and one at
a time. Branches with the same first needs are one branch. What can be constructed against that (two keys that
cross, both full) is met twice: needs with fewer values are put first, and one call moves at most `MOVES`
branches, leaving the rest to the next.

Why nobody waits for ever. Within one line that holds by turns; across lines, by making room for one branch that has
been passed over too often (`favourite`).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping

from perdure.core.flow.concurrency import Need
from perdure.core.flow.favourite import Favourite
from perdure.core.flow.room import Room
from perdure.core.flow.throttle import ThrottleState
from perdure.core.flow.waiting import (
    ACTIVE,
    IDLE,
    PARKED,
    READY,
    Crossing,
    Explanation,
    Gate,
    Grant,
    Node,
    Obstacle,
    Ticket,
)
from perdure.protocol.functions import Throttle

MOVES = 200
"""Branches that one call of `next` wakes, parks or puts off at most."""

LOOKED_AT = 4
"""Counters with new room that each call looks at first; one item gives back at most three."""


class Turns:
    """All items that wait for their turn. `room` is what they take when they get it."""

    def __init__(self) -> None:
        self.room = Room()
        self.woken: list[str] = []
        """Functions for which a turn has become possible since the caller last cleared the list."""
        self._roots: dict[str, Node] = {}
        self._ready: OrderedDict[str, Node] = OrderedDict()
        self._crossings: dict[str, Crossing] = {}
        self._gates_of: dict[str, int] = {}
        self._list: deque[str] = deque()
        self._timers: list[tuple[int, str]] = []
        self._favourite = Favourite()
        self._moves = 0
        self._unfinished = False
        self._seq = 0
        self._now = 0

    # What the caller tells

    def set_limits(self, function_id: str, limits: Mapping[str, int | Throttle]) -> None:
        """Put the limits of a function in force, by the names that needs carry; those not named end.

        Costs a look at every counter that somebody waits for: it is meant for a sync or a person's change.
        """
        self.room.set_limits(function_id, limits)
        for counter in self._crossings:
            self._look_at(counter)

    def wait(self, ticket: Ticket) -> None:
        """Put an item in line that is due."""
        node = self._roots.get(ticket.function_id)
        if node is None:
            node = self._roots[ticket.function_id] = Node(ticket.function_id, None, None)
        needs = ticket.needs()
        for need in needs if len(needs) < 2 else sorted(needs, key=self._breadth):
            children = node.children
            child = None if children is None else children.get((need.counter, need.limit))
            node = child or self._grow(node, need)
        self._seq += 1
        ticket.seq = self._seq
        ticket.node = node
        heapq.heappush(node.items, (ticket.order, ticket.run, ticket.seq, ticket))
        node.live += 1
        if node.state == IDLE:
            self._rouse(node)

    def free(self, needs: Iterable[Need], now: int) -> bool:
        """Whether an item that needs this may be served without a wait: nobody waits for it, and all has room."""
        crossings, room = self._crossings, self.room
        for need in needs:  # noqa: SIM110  a generator costs more than all the rest
            if need.counter in crossings or not room.has(need.counter, need.limit, now):
                return False
        return True

    def withdraw(self, ticket: Ticket) -> None:
        """Take an item out of line, as when its run is cancelled. It may have been served already."""
        node = ticket.node
        if node is not None:
            ticket.node = None
            node.live -= 1
            if node is self._favourite.node and not node.has_work:
                self._release_favourite()
            self._prune(node)

    def hold(self, holder: str, needs: Iterable[Need]) -> None:
        """Count places that are taken already, as after a restart."""
        self.room.counters.take(holder, needs)

    def give_back(self, holder: str) -> None:
        """Give back the places of an item whose call has ended, or of a run that has ended."""
        for counter in self.room.counters.give_back(holder):
            self._look_at(counter)

    def left(self, need: Need, now: int) -> tuple[str, ThrottleState] | None:
        """A start that its throttle has let through has left, or will not; see `Room.left`."""
        self._look_at(need.counter)
        return self.room.left(need, now)

    # What the caller asks

    def next(self, now: int, function_id: str | None = None) -> Grant | None:
        """The next item, of one function or of all in turn; None if none has room. Its places are taken.

        After None, `next_time` may be now: then it has only done a part of its work, and is to be asked again.
        """
        self._at(now)
        self._moves = MOVES
        self._settle(now)
        while True:
            grant = self._turn(now, function_id)
            if grant is not None:
                return grant
            if self._moves <= 0 or not self._list:
                break
            self._settle(now)
        self._unfinished = self._moves <= 0
        return None

    def next_time(self) -> int | None:
        """When (ms) `next` should be asked again although nothing else has happened; None for never."""
        if self._unfinished:
            return self._now
        times = [self._timers[0][0]] if self._timers else []
        lapse = self._favourite.lapses_at()
        return min(times if lapse is None else [*times, lapse], default=None)

    def explain(self, ticket: Ticket, now: int, most_holders: int = 10) -> Explanation | None:
        """Why an item waits; None if it does not. It looks at everybody before it: for people, not for the loop."""
        node = ticket.node
        if node is None:
            return None
        needs = {need.counter: need for need in ticket.needs()}
        obstacles = []
        branch: Node | None = node
        while branch is not None and branch.gate is not None:
            obstacles.append(
                self._obstacle(branch, branch.gate, needs[branch.gate.counter], now, most_holders)
            )
            branch = branch.parent
        mine = (ticket.order, ticket.run, ticket.seq)
        ahead = sum(1 for entry in node.items if entry[:3] < mine and entry[3].node is node)
        return Explanation(tuple(reversed(obstacles)), ahead)

    def can_turn(self, function_id: str) -> bool:
        """Whether it is worth asking for the next item of a function: a turn may still find no room."""
        return function_id in self._ready

    def __len__(self) -> int:
        """How many counters have items in line or on turn: memory is spent on these."""
        return len(self._crossings)

    def _obstacle(self, branch: Node, gate: Gate, need: Need, now: int, most: int) -> Obstacle:
        room, counters = self.room, self.room.counters
        limit = room.limit(gate.limit)
        place = gate.line.index(branch) + 1 if gate.line and branch.state == PARKED else 0
        return Obstacle(
            need=need,
            limit=limit.limit if isinstance(limit, Throttle) else limit or 0,
            taken=counters.count(gate.counter),
            holders=tuple(counters.holders(gate.counter, most)),
            free_at=room.opens_at(gate.counter, gate.limit, now) or 0,
            open=room.has(gate.counter, gate.limit, now),
            place=place,
            lines=self._lines_at(gate.counter),
        )

    def _lines_at(self, counter: str) -> int:
        crossing = self._crossings.get(counter)
        return 0 if crossing is None else sum(len(gate.line or ()) for gate in crossing.gates.values())

    # The tree

    def _breadth(self, need: Need) -> tuple[bool, int]:
        """Sorts needs with few values first; in powers of two, so that it seldom changes."""
        return need.narrow, self._gates_of.get(need.limit, 0).bit_length()

    def _grow(self, parent: Node, need: Need) -> Node:
        crossing = self._crossings.get(need.counter)
        if crossing is None:
            crossing = self._crossings[need.counter] = Crossing()
        gate = crossing.gates.get(need.limit)
        if gate is None:
            gate = crossing.gates[need.limit] = Gate(need.counter, need.limit)
            self._gates_of[need.limit] = self._gates_of.get(need.limit, 0) + 1
        gate.branches += 1
        node = Node(parent.function_id, parent, gate)
        if parent.children is None:
            parent.children = {}
        parent.children[need.counter, need.limit] = node
        return node

    def _prune(self, node: Node) -> None:
        """Remove branches that hold nothing and stand nowhere."""
        while node.live == 0 and not node.children and node.state == IDLE:
            parent, gate = node.parent, node.gate
            if parent is None or gate is None or parent.children is None:
                self._roots.pop(node.function_id, None)
                return
            del parent.children[gate.counter, gate.limit]
            gate.branches -= 1
            if gate.branches == 0:
                self._close(gate)
            if node is self._favourite.node:
                self._release_favourite()
            node = parent

    def _close(self, gate: Gate) -> None:
        crossing = self._crossings[gate.counter]
        del crossing.gates[gate.limit]
        left = self._gates_of[gate.limit] - 1
        if left:
            self._gates_of[gate.limit] = left
        else:
            del self._gates_of[gate.limit]
        if not crossing.gates:
            del self._crossings[gate.counter]

    # A turn

    def _turn(self, now: int, function_id: str | None) -> Grant | None:
        if function_id is not None:
            root = self._ready.pop(function_id, None)
            return None if root is None else self._turn_of(root, now)
        while self._ready and self._moves > 0:
            grant = self._turn_of(self._ready.popitem(last=False)[1], now)
            if grant is not None:
                return grant
        return None

    def _turn_of(self, root: Node, now: int) -> Grant | None:
        root.state = ACTIVE
        self._favourite.asked(root.function_id, now)
        grant = self._down(root, now)
        self._after_turn(root)
        return grant

    def _down(self, node: Node, now: int) -> Grant | None:
        """Serve somebody at or under a branch that has room itself."""
        if node.live:
            return self._serve(node, now)
        while node.round and self._moves > 0:
            child = node.round.popleft()
            child.state = ACTIVE
            if child.has_work and self._admits(child, now):
                grant = self._down(child, now)
                if grant is None:
                    self._turn_failed(child)
                self._after_turn(child)
                if grant is not None:
                    return grant
            elif child.state == ACTIVE:
                self._after_turn(child)
        return None

    def _admits(self, child: Node, now: int) -> bool:
        """Whether a branch has room; it is parked if not, and if others stand in line for that room."""
        gate = child.gate
        if gate is None:
            return True
        if self.room.has(gate.counter, gate.limit, now):
            if not gate.line or child.woken or child is self._favourite.node:
                return True
            self._park(child, gate, now)
            self._look_at(gate.counter)
            return False
        self._favourite.pass_over(child, now)
        self._park(child, gate, now)
        return False

    def _park(self, node: Node, gate: Gate, now: int) -> None:
        self._moves -= 1
        node.state = PARKED
        if not gate.line:
            # Functions that share the counter stand in the order in which they came.
            gates = self._crossings[gate.counter].gates
            gates[gate.limit] = gates.pop(gate.limit)
        line = gate.line = gate.line if gate.line is not None else deque()
        if node.woken or node is self._favourite.node:
            line.appendleft(node)
        else:
            line.append(node)
        node.woken = False
        self._arm(gate, now)

    def _turn_failed(self, child: Node) -> None:
        """Nobody under a branch could use its room: it is left to others, who are woken while there is any."""
        if child is self._favourite.node:
            self._release_favourite()
        child.woken = False

    def _after_turn(self, node: Node) -> None:
        if node.state != ACTIVE:
            return
        node.state = IDLE
        if not node.has_work:
            self._prune(node)
            return
        node.state = READY
        if node.parent is None:
            self._ready[node.function_id] = node
        else:
            node.parent.join(node)

    def _serve(self, node: Node, now: int) -> Grant | None:
        items = node.items
        while items[0][3].node is not node:
            heapq.heappop(items)
        ticket = items[0][3]
        if self._favourite.needs(node, ticket, self.room):
            self._moves -= 1
            self._favourite.put_off(node)
            return None
        heapq.heappop(items)
        node.live -= 1
        ticket.node = None
        throttle = self.room.take(ticket.item, ticket.run, ticket, now)
        if self._favourite.node is not None and node.is_under(self._favourite.node):
            self._release_favourite()
        branch: Node | None = node
        while branch is not None:
            branch.passed = 0
            branch.woken = False
            branch = branch.parent
        return Grant(ticket.item, ticket.run, ticket.function_id, throttle, node.live)

    # Room

    def _look_at(self, counter: str) -> None:
        """Put a counter on the list of those to be looked at, if somebody waits there."""
        crossing = self._crossings.get(counter)
        if crossing is None or crossing.listed:
            return
        for gate in crossing.gates.values():
            if gate.line:
                crossing.listed = True
                self._list.append(counter)
                return

    def _settle(self, now: int) -> None:
        """Wake one waiter of each of the first counters on the list."""
        for _ in range(min(LOOKED_AT, len(self._list))):
            counter = self._list.popleft()
            crossing = self._crossings.get(counter)
            if crossing is not None:
                crossing.listed = False
                if self._wake_one(crossing, now):
                    self._look_at(counter)

    def _wake_one(self, crossing: Crossing, now: int) -> bool:
        """Wake the first waiter that has room, of each gate in turn. False if there is none."""
        refused = []
        for gate in list(crossing.gates.values()):
            if not gate.line:
                continue
            if not self.room.has(gate.counter, gate.limit, now):
                refused.append(gate.line)
                self._arm(gate, now)
                continue
            crossing.gates[gate.limit] = crossing.gates.pop(gate.limit)
            self._moves -= 1
            node = gate.line.popleft()
            node.state = IDLE
            if node.has_work:
                node.woken = True
                self._rouse(node)
            else:
                self._prune(node)
            for line in refused:
                self._favourite.pass_over(line[0], now)
            return True
        return False

    def _rouse(self, node: Node) -> None:
        """Put an idle branch in its parent's round, and so on upwards."""
        node.state = READY
        while node.parent is not None:
            parent = node.parent
            parent.join(node, first=node is self._favourite.node)
            if parent.state != IDLE:
                return
            parent.state = READY
            node = parent
        self._ready[node.function_id] = node
        self._favourite.asked(node.function_id, self._now)
        self.woken.append(node.function_id)

    def _release_favourite(self) -> None:
        for node in self._favourite.release():
            node.state = IDLE
            if node.has_work:
                self._rouse(node)
            else:
                self._prune(node)

    # Time

    def _at(self, now: int) -> None:
        if now < self._now:
            # The clock was set back: what was armed for later may be due sooner.
            for counter, crossing in self._crossings.items():
                if crossing.timer is not None:
                    crossing.timer = None
                    self._look_at(counter)
        self._now = now
        while self._timers and self._timers[0][0] <= now:
            due, counter = heapq.heappop(self._timers)
            waiting = self._crossings.get(counter)
            if waiting is not None and waiting.timer == due:
                waiting.timer = None
                self._look_at(counter)
        self.room.forget_rested(now)
        lapse = self._favourite.lapses_at()
        if lapse is not None and lapse <= now:
            self._release_favourite()

    def _arm(self, gate: Gate, now: int) -> None:
        """Remember when a throttle that somebody waits for lets the next start through."""
        due = self.room.opens_at(gate.counter, gate.limit, now)
        if due is None:
            return
        crossing = self._crossings[gate.counter]
        if crossing.timer is None or due < crossing.timer:
            crossing.timer = due
            heapq.heappush(self._timers, (due, gate.counter))

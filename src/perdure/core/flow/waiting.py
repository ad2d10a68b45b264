"""What `turns` works with: the items that wait, what they are given, and the branches of the tree they wait in."""

from __future__ import annotations

from collections import deque

import msgspec

from perdure.core.flow.concurrency import Need
from perdure.core.flow.throttle import ThrottleState


class Ticket:
    """An item that waits for its turn.

    `item` and `run` are the names under which it and its run hold places. `runs` are places that the run takes for
    its life (on its first call only), `steps` places for this call, `throttle` the schedule that a start must keep.
    `order` says which of two with the same needs goes first: the smaller; then that of the run whose name is.
    """

    __slots__ = ("function_id", "item", "node", "order", "run", "runs", "seq", "steps", "throttle")

    def __init__(
        self,
        function_id: str,
        run: str,
        item: str,
        order: int,
        steps: tuple[Need, ...] = (),
        runs: tuple[Need, ...] = (),
        throttle: Need | None = None,
    ) -> None:
        self.function_id = function_id
        self.run = run
        self.item = item
        self.order = order
        self.steps = steps
        self.runs = runs
        self.throttle = throttle
        self.seq = 0
        self.node: Node | None = None

    def needs(self) -> tuple[Need, ...]:
        """All that it needs."""
        if self.throttle is not None:
            return (self.throttle, *self.steps, *self.runs)
        return self.steps + self.runs


class Grant(msgspec.Struct, frozen=True, gc=False):
    """An item whose turn it is; its places are taken.

    `throttle` is the counter and the schedule to be stored for it, if its start was throttled. `left` is how many
    items still wait with the same needs.
    """

    item: str
    run: str
    function_id: str
    throttle: tuple[str, ThrottleState] | None
    left: int


class Obstacle(msgspec.Struct, frozen=True, gc=False):
    """One thing that a waiting item needs, and what stands in its way.

    `taken` places of `limit` are held by `holders` (the longest holders, some of them). For a throttle, `free_at`
    is the next moment (ms) at which a run may start; for places it is 0: they are free when a holder ends. `open`
    tells whether there is room now. `place` is that of the item's group in the line of the counter, from 1; 0 if
    it does not stand there. `lines` is how many groups take turns at the counter, those of other limits on it too.
    """

    need: Need
    limit: int
    taken: int
    holders: tuple[str, ...]
    free_at: int
    open: bool
    place: int
    lines: int


class Explanation(msgspec.Struct, frozen=True, gc=False):
    """Why an item waits: all that it needs, and how many items with the same needs go before it."""

    obstacles: tuple[Obstacle, ...]
    ahead: int


IDLE, READY, PARKED, PUT_OFF, ACTIVE = range(5)
"""Where a branch is: nowhere, in its parent's round, in its gate's line, put off for the favourite, or on its turn."""


class Gate:
    """One counter as one function's limit sees it, and the branches that are parked there.

    Most gates never have a line, and most branches no children: neither is made before it is needed, since there
    may be a hundred thousand of them.
    """

    __slots__ = ("branches", "counter", "limit", "line")

    def __init__(self, counter: str, limit: str) -> None:
        self.counter = counter
        self.limit = limit
        self.line: deque[Node] | None = None
        self.branches = 0


class Crossing:
    """All gates of one counter.

    `listed` tells that it is to be looked at for new room, `timer` when (ms) there will be some by itself.
    """

    __slots__ = ("gates", "listed", "timer")

    def __init__(self) -> None:
        self.gates: dict[str, Gate] = {}
        self.listed = False
        self.timer: int | None = None


class Node:
    """A branch of the tree; the root of a function has no gate."""

    __slots__ = (
        "children",
        "function_id",
        "gate",
        "items",
        "live",
        "parent",
        "passed",
        "round",
        "state",
        "woken",
    )

    def __init__(self, function_id: str, parent: Node | None, gate: Gate | None) -> None:
        self.function_id = function_id
        self.parent = parent
        self.gate = gate
        self.children: dict[tuple[str, str], Node] | None = None
        self.round: deque[Node] | None = None
        self.items: list[tuple[int, str, int, Ticket]] = []
        self.live = 0
        self.state = IDLE
        self.passed = 0
        self.woken = False

    @property
    def has_work(self) -> bool:
        """Whether a turn here could serve somebody."""
        return self.live > 0 or bool(self.round)

    def join(self, child: Node, *, first: bool = False) -> None:
        """Put a child in the round."""
        if self.round is None:
            self.round = deque()
        if first:
            self.round.appendleft(child)
        else:
            self.round.append(child)

    def path(self) -> list[Gate]:
        """The gates from the function's root to here."""
        gates: list[Gate] = []
        node: Node | None = self
        while node is not None and node.gate is not None:
            gates.append(node.gate)
            node = node.parent
        gates.reverse()
        return gates

    def is_under(self, other: Node) -> bool:
        """Whether this is the other branch or one below it."""
        node: Node | None = self
        while node is not None:
            if node is other:
                return True
            node = node.parent
        return False

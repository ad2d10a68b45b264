"""The favourite: the one branch for which the others make room, so that nobody waits for ever.

Within one line everybody gets a turn. But a branch that needs two counters may find, each time it is woken by one of
them, that the other was just taken; and where functions with different limits share a counter, the larger limit may
keep the count above the smaller one. So a branch that was passed over `PATIENCE` times becomes the favourite. Until
it has been served, others leave one place of every counter on its path, and the next start of every throttle;
whoever would take the last one is put off.

Why it is served. There is only one favourite at a time, and it holds nothing while it waits, so nobody waits for
it in a circle. What it waits for is held by calls and runs that end, and is not taken by others meanwhile; a
throttle's moment comes by itself.

Others must not wait for a function that cannot take its turn, as when its app takes no calls. If the favourite could
be served but its function has not been asked for `LAPSE_MS`, it is the favourite no longer.
"""

from __future__ import annotations

from perdure.core.flow.room import Room
from perdure.core.flow.waiting import PUT_OFF, READY, Gate, Node, Ticket

PATIENCE = 8
"""So many times a branch is passed over before the others make room for it."""

LAPSE_MS = 10_000
"""So long a favourite that could be served may keep room without being asked."""


class Favourite:
    """The favourite, if there is one, what is kept for it, and who was put off."""

    __slots__ = ("_kept", "_put_off", "asked_at", "node")

    def __init__(self) -> None:
        self.node: Node | None = None
        self.asked_at = 0
        """When (ms) its function last was asked for a turn, or first could have been."""
        self._kept: dict[str, Gate] = {}
        self._put_off: list[Node] = []

    def pass_over(self, node: Node, now: int) -> None:
        """Count that others were served before this branch."""
        node.passed += 1
        if node.passed >= PATIENCE and self.node is None and node.has_work:
            self.node = node
            self.asked_at = now
            self._kept = {gate.counter: gate for gate in node.path()}

    def needs(self, node: Node, ticket: Ticket, room: Room) -> bool:
        """Whether serving the item, which waits at `node`, would take what is kept."""
        if self.node is None or node.is_under(self.node):
            return False
        for need in ticket.needs():
            gate = self._kept.get(need.counter)
            if gate is not None and not room.has_one_more(gate.counter, gate.limit):
                return True
        return False

    def asked(self, function_id: str, now: int) -> None:
        """Note that a function was asked for a turn, or has just become ready for one."""
        if self.node is not None and self.node.function_id == function_id:
            self.asked_at = now

    def put_off(self, node: Node) -> None:
        """Take a branch out of its round until there is no favourite any more."""
        node.state = PUT_OFF
        self._put_off.append(node)

    def lapses_at(self) -> int | None:
        """When (ms) it stops being the favourite if its function is not asked; None if that does not matter."""
        node = self.node
        if node is None or not self._put_off:
            return None
        while node is not None:
            if node.state != READY:
                return None
            node = node.parent
        return self.asked_at + LAPSE_MS

    def release(self) -> list[Node]:
        """There is no favourite any more. Returns the branches that were put off."""
        if self.node is not None:
            self.node.passed = 0
        self.node = None
        self._kept = {}
        put_off, self._put_off = self._put_off, []
        return put_off

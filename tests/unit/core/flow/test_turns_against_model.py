"""Turns against a plain model: all places and starts written down, every waiting item tried by hand."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from perdure.core.flow.concurrency import Need
from perdure.core.flow.turns import Turns
from perdure.core.flow.waiting import IDLE, PARKED, PUT_OFF, READY, Node, Ticket
from perdure.protocol.functions import Throttle

T0 = 1_700_000_000_000
FUNCTIONS = ("F", "G", "H")


@dataclass
class World:
    """Turns, and beside it all that happened, in lists."""

    limits: dict[str, dict[str, int | Throttle]]
    turns: Turns = field(default_factory=Turns)
    now: int = T0
    waiting: list[Ticket] = field(default_factory=list)
    running: list[Ticket] = field(default_factory=list)
    live: dict[str, Ticket] = field(default_factory=dict)
    starts: dict[str, list[int]] = field(default_factory=dict)
    served: list[str] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        for function, limits in self.limits.items():
            self.set_limits(function, limits)

    def set_limits(self, function: str, limits: dict[str, int | Throttle]) -> None:
        self.limits[function] = limits
        self.turns.set_limits(function, {f"{function}/{name}": limit for name, limit in limits.items()})

    def wait(self, function: str, user: int) -> None:
        self.count += 1
        name = f"{function}{self.count}"

        def need(counter: str, limit: str, narrow: bool = False) -> Need:
            return Need(counter, f"{function}/{limit}", "", narrow)

        steps = (
            need(f"{function}.x", "x"),
            need("shared", "shared"),
            need(f"u={user}", "u", True),
        )
        runs = (need(f"{function}.runs={user % 2}", "runs", True),)
        # Every third has begun before.
        first = self.count % 3 != 0
        ticket = Ticket(
            function,
            f"run-{name}",
            name,
            self.count,
            steps,
            runs if first else (),
            need(f"{function}.t={user % 2}", "t", True) if first else None,
        )
        self.waiting.append(ticket)
        self.turns.wait(ticket)

    def taken(self, counter: str) -> int:
        steps = sum(any(need.counter == counter for need in each.steps) for each in self.running)
        return steps + sum(any(need.counter == counter for need in each.runs) for each in self.live.values())

    def has_room(self, ticket: Ticket) -> bool:
        for need in ticket.needs():
            limit = self.limits[ticket.function_id].get(need.limit.partition("/")[2])
            if isinstance(limit, int):
                if self.taken(need.counter) >= limit:
                    return False
            elif limit is not None and not self.throttle_is_open(need.counter):
                return False
        return True

    def throttle_is_open(self, counter: str) -> bool:
        return self.turns.room.opens_at(counter, self._throttle_name(counter), self.now) == self.now

    def _throttle_name(self, counter: str) -> str:
        return f"{counter[0]}/t"

    def serve_one(self) -> bool:
        grant = self.turns.next(self.now)
        if grant is None:
            return False
        ticket = next(each for each in self.waiting if each.item == grant.item)
        assert self.has_room(ticket) or ticket.throttle is not None
        for need in (*ticket.steps, *ticket.runs):
            limit = self.limits[ticket.function_id].get(need.limit.partition("/")[2])
            assert not isinstance(limit, int) or self.taken(need.counter) < limit, "a limit was exceeded"
        self.waiting.remove(ticket)
        self.running.append(ticket)
        self.live[ticket.run] = ticket
        self.served.append(ticket.item)
        if ticket.throttle is not None and grant.throttle is not None:
            self.starts.setdefault(ticket.throttle.counter, []).append(self.now)
        return True

    def serve(self) -> None:
        while self.serve_one() or self.turns.next_time() == self.now:
            pass

    def end(self, which: int, whole_run: bool) -> None:
        if self.running:
            ticket = self.running.pop(which % len(self.running))
            self.turns.give_back(ticket.item)
            if whole_run:
                self.live.pop(ticket.run)
                self.turns.give_back(ticket.run)


def check_tree(turns: Turns) -> None:
    """Each branch is in exactly the place that its state says, and room that somebody waits for is on the list."""
    seen: set[int] = set()

    def visit(node: Node) -> None:
        seen.add(id(node))
        assert node.live == sum(1 for *_, ticket in node.items if ticket.node is node)
        in_round = 0
        if node.parent is not None:
            in_round = sum(1 for other in node.parent.round or () if other is node)
        elif node.function_id in turns._ready:
            in_round = 1
        in_line = 0
        if node.gate is not None:
            in_line = sum(1 for other in node.gate.line or () if other is node)
        put_off = sum(1 for other in turns._favourite._put_off if other is node)
        assert (in_round, in_line, put_off) == {
            IDLE: (0, 0, 0),
            READY: (1, 0, 0),
            PARKED: (0, 1, 0),
            PUT_OFF: (0, 0, 1),
        }[node.state]
        if node.state == IDLE:
            assert not node.has_work
            assert node.children or node.parent is None
        for child in (node.children or {}).values():
            assert child.parent is node
            visit(child)

    for root in turns._roots.values():
        visit(root)
    for counter, crossing in turns._crossings.items():
        assert crossing.gates
        for gate in crossing.gates.values():
            if gate.line and turns.room.has(counter, gate.limit, turns._now):
                assert crossing.listed or turns.room.opens_at(counter, gate.limit, turns._now) is not None
    favourite = turns._favourite.node
    assert favourite is None or id(favourite) in seen
    assert favourite is not None or not turns._favourite._put_off


def tight_limits(chance: random.Random) -> dict[str, int | Throttle]:
    """Some of the limits, most of them small."""
    every: dict[str, int | Throttle] = {
        "x": chance.choice((1, 2, 3)),
        "shared": chance.choice((1, 1, 2, 3)),
        "u": chance.choice((1, 1, 2)),
        "runs": chance.choice((1, 2, 3)),
        "t": Throttle(chance.choice((1, 2, 3)), 1_000, chance.choice((0, 1))),
    }
    return {name: limit for name, limit in every.items() if chance.random() < 0.6}


@pytest.mark.parametrize("seed", range(120))
def test_limits_hold_room_is_used_and_everybody_is_served(seed: int) -> None:
    """Three functions whose limits cross, always crowded. The seed is the whole history."""
    chance = random.Random(seed)
    world = World({function: tight_limits(chance) for function in FUNCTIONS})
    changing = seed % 4 == 0
    withdrawn = 0
    for _ in range(400):
        action = chance.random()
        if action < 0.42:
            world.wait(chance.choice(FUNCTIONS), chance.randrange(4))
        elif action < 0.8:
            world.end(chance.randrange(50), chance.random() < 0.7)
        elif action < 0.84 and world.waiting:
            world.turns.withdraw(world.waiting.pop(chance.randrange(len(world.waiting))))
            withdrawn += 1
        elif action < 0.9:
            world.now += chance.randrange(700)
        elif action < 0.92 and changing:
            world.set_limits(chance.choice(FUNCTIONS), tight_limits(chance))
        elif action < 0.95 and chance.random() < 0.5:
            world.turns.next(world.now - 1, "nobody")
        check_tree(world.turns)
        if chance.random() < 0.7:
            world.serve()
            check_tree(world.turns)
            idle = [ticket.item for ticket in world.waiting if world.has_room(ticket)]
            assert not idle or world.turns._favourite.node is not None, "room stays unused"
        else:
            world.serve_one()
    finish(world)
    assert len(world.served) == world.count - withdrawn
    assert len(set(world.served)) == len(world.served)
    if not changing:
        for counter, starts in world.starts.items():
            rule = world.limits[counter[0]]["t"]
            assert isinstance(rule, Throttle)
            most = max(
                sum(1 for other in starts if start <= other < start + rule.period_ms) for start in starts
            )
            assert most <= rule.limit + rule.burst


def finish(world: World) -> None:
    """End what runs, oldest first, and let time pass: everything must come to its turn."""
    for _ in range(40 * (world.count + 1)):
        world.serve()
        if world.running:
            world.end(0, True)
        for run in [run for run, ticket in world.live.items() if ticket not in world.running]:
            del world.live[run]
            world.turns.give_back(run)
        world.now += 100
        if not world.waiting and not world.running:
            break
    assert not world.waiting
    world.now += 10_000
    world.serve()
    assert len(world.turns) == 0
    assert not world.turns._roots
    assert len(world.turns.room.counters) == 0
    assert world.turns.room.throttles == {}

"""Turns against a plain model: all places and starts written down, every waiting item tried by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.core.flow.concurrency import Need
from perdure.core.flow.turns import Turns
from perdure.core.flow.waiting import Ticket
from perdure.protocol.functions import Throttle
from tests.unit.core.unhurried import unhurried

T0 = 1_700_000_000_000
FUNCTIONS = ("F", "G", "H")

limit_sets = st.fixed_dictionaries(
    {},
    optional={
        "x": st.integers(1, 3),
        "shared": st.integers(1, 3),
        "u": st.integers(1, 2),
        "runs": st.integers(1, 3),
        "t": st.builds(Throttle, st.integers(1, 3), st.just(1_000), st.integers(0, 1)),
    },
)
actions = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from(FUNCTIONS), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.sampled_from(FUNCTIONS), st.integers(0, 3)),
        st.tuples(st.just("end"), st.integers(0, 50), st.booleans()),
        st.tuples(st.just("end"), st.integers(0, 50), st.booleans()),
        st.tuples(st.just("withdraw"), st.integers(0, 50), st.none()),
        st.tuples(st.just("pass"), st.integers(0, 700), st.none()),
        st.tuples(st.just("limits"), st.sampled_from(FUNCTIONS), limit_sets),
        st.tuples(st.just("serve"), st.integers(1, 4), st.none()),
    ),
    max_size=120,
)


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


@settings(unhurried, max_examples=250)
@given(st.fixed_dictionaries(dict.fromkeys(FUNCTIONS, limit_sets)), actions)
def test_limits_hold_room_is_used_and_everybody_is_served(
    limits: dict[str, dict[str, int | Throttle]], todo: list[tuple[str, object, object]]
) -> None:
    world = World(dict(limits))
    changed = False
    withdrawn = 0
    for action, one, two in todo:
        if action == "wait":
            world.wait(str(one), int(str(two)))
        elif action == "end":
            world.end(int(str(one)), bool(two))
        elif action == "withdraw" and world.waiting:
            ticket = world.waiting.pop(int(str(one)) % len(world.waiting))
            world.turns.withdraw(ticket)
            withdrawn += 1
        elif action == "pass":
            world.now += int(str(one))
        elif action == "limits":
            assert isinstance(two, dict)
            world.set_limits(str(one), two)
            changed = True
        elif action == "serve":
            for _ in range(int(str(one))):
                world.serve_one()
        if action != "serve":
            world.serve()
            idle = [ticket.item for ticket in world.waiting if world.has_room(ticket)]
            assert not idle or world.turns._favourite.node is not None, "room stays unused"
    finish(world)
    assert len(world.served) == world.count - withdrawn
    assert len(set(world.served)) == len(world.served)
    if not changed:
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

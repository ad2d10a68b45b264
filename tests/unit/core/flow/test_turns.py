"""Turns: who is served, when, and what a waiting item is told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from perdure.core.flow.concurrency import Need
from perdure.core.flow.favourite import LAPSE_MS, PATIENCE
from perdure.core.flow.room import Room
from perdure.core.flow.throttle import ThrottleState
from perdure.core.flow.turns import MOVES, Turns
from perdure.core.flow.waiting import Grant, Ticket
from perdure.protocol.functions import Throttle

T0 = 1_700_000_000_000


def wide(name: str, function: str = "F") -> Need:
    return Need(name, f"{function}/{name}")


def narrow(name: str, value: object, function: str = "F") -> Need:
    return Need(f"{name}={value}", f"{function}/{name}", str(value), True)


def ticket(item: str, *steps: Need, function: str = "F", order: int = 0) -> Ticket:
    return Ticket(function, f"run-{item}", item, order, steps)


def drain(turns: Turns, now: int = T0) -> list[str]:
    found = []
    while (grant := turns.next(now)) is not None or turns.next_time() == now:
        if grant is not None:
            found.append(grant.item)
    return found


def wait_all(turns: Turns, tickets: Iterable[Ticket]) -> None:
    for each in tickets:
        turns.wait(each)


def test_without_needs_everything_is_served_in_order() -> None:
    turns = Turns()
    wait_all(turns, [ticket("a", order=2), ticket("b", order=1), ticket("c", order=2)])
    assert drain(turns) == ["b", "a", "c"]


def test_a_limit_is_kept_and_a_place_given_back_serves_the_next() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 2})
    wait_all(turns, [ticket(name, wide("x")) for name in "abcd"])
    assert drain(turns) == ["a", "b"]
    assert drain(turns) == []
    turns.give_back("b")
    assert drain(turns) == ["c"]
    turns.give_back("a")
    turns.give_back("c")
    assert drain(turns) == ["d"]


def test_both_limits_must_have_room_and_none_is_taken_alone() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 2, "F/u": 1})
    wait_all(turns, [ticket(f"a{n}", wide("x"), narrow("u", "ada")) for n in range(3)])
    assert drain(turns) == ["a0"]
    turns.wait(ticket("b0", wide("x"), narrow("u", "bob")))
    assert drain(turns) == ["b0"]
    turns.wait(ticket("c0", wide("x"), narrow("u", "cid")))
    assert drain(turns) == []
    assert turns.room.counters.count("u=cid") == 0
    turns.give_back("b0")
    assert drain(turns) == ["c0"]


def test_keys_take_turns() -> None:
    """A tenant with many does not hold up those with few."""
    turns = Turns()
    turns.set_limits("F", {"F/x": 1, "F/u": 1})
    wait_all(turns, [ticket(f"big{n}", wide("x"), narrow("u", "big")) for n in range(1_000)])
    for tenant in range(10):
        wait_all(turns, [ticket(f"small{tenant}.{n}", wide("x"), narrow("u", tenant)) for n in range(2)])
    served = []
    for _ in range(22):
        (item,) = drain(turns)
        served.append(item)
        turns.give_back(item)
    assert sum(item.startswith("small") for item in served) == 20
    assert sum(item.startswith("big") for item in served) == 2


def test_priority_counts_within_a_key_only() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    wait_all(turns, [ticket(f"a{n}", wide("x"), narrow("u", "ada"), order=-n) for n in range(3)])
    wait_all(turns, [ticket(f"b{n}", wide("x"), narrow("u", "bob"), order=100 - n) for n in range(3)])
    served = []
    for _ in range(6):
        (item,) = drain(turns)
        served.append(item)
        turns.give_back(item)
    assert served == ["a2", "b2", "a1", "b1", "a0", "b0"]


def test_calls_of_runs_that_began_go_before_new_runs() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1, "F/runs": 5})
    for n in range(3):
        turns.wait(Ticket("F", f"new{n}", f"new{n}.1", 0, (wide("x"),), (narrow("runs", n),)))
    assert drain(turns) == ["new0.1"]
    turns.wait(Ticket("F", "new0", "new0.2", 99, (wide("x"),)))
    turns.give_back("new0.1")
    assert drain(turns) == ["new0.2"]


def test_a_run_holds_its_place_until_it_ends() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/runs": 1})
    for run in "ab":
        turns.wait(Ticket("F", run, f"{run}1", 0, (), (wide("runs"),)))
    assert drain(turns) == ["a1"]
    turns.give_back("a1")
    turns.wait(Ticket("F", "a", "a2", 0))
    assert drain(turns) == ["a2"]
    turns.give_back("a2")
    assert drain(turns) == []
    turns.give_back("a")
    assert drain(turns) == ["b1"]


def test_functions_share_a_counter_and_take_turns_at_it() -> None:
    turns = Turns()
    for function in "FG":
        turns.set_limits(function, {f"{function}/x": 1})
        wait_all(turns, [ticket(f"{function}{n}", wide("x", function), function=function) for n in range(3)])
    served = []
    for _ in range(6):
        (item,) = drain(turns)
        served.append(item)
        turns.give_back(item)
    assert served == ["F0", "G0", "F1", "G1", "F2", "G2"]


def test_a_function_with_many_in_line_does_not_go_before_one_with_few() -> None:
    turns = Turns()
    for function in "FG":
        turns.set_limits(function, {f"{function}/x": 1, f"{function}/u": 9})
    turns.hold("old", [wide("x")])
    at_x = Need("x", "F/x", "", True)
    for n in range(4):
        turns.wait(ticket(f"F{n}", narrow("u", n), at_x))
    turns.wait(ticket("G0", Need("x", "G/x", "", True), function="G"))
    assert drain(turns) == []
    served = []
    holder = "old"
    for _ in range(3):
        turns.give_back(holder)
        (holder,) = drain(turns)
        served.append(holder)
    assert "G0" in served[:2]


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/u": 9, "F/x": 1})
    for n in range(20):
        # Many values of the other key, so that x is the last need of a path and has a line of several branches.
        turns.hold("old", [narrow("x", n)])
        turns.wait(ticket(f"pad{n}", narrow("x", n)))
    for n in range(3):
        turns.wait(ticket(f"i{n}", narrow("u", n), narrow("x", 0)))
    assert drain(turns) == []
    turns.give_back("old")
    turns.hold("old", [narrow("x", n) for n in range(1, 20)])
    turns.wait(ticket("new", narrow("u", "new"), narrow("x", 0)))
    served = drain(turns)
    assert len(served) == 1
    assert served[0] in ("pad0", "i0", "i1")


def test_nobody_makes_room_for_an_item_that_is_gone() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    turns.set_limits("G", {"G/x": 2})
    for n in range(100):
        turns.wait(ticket(f"g{n}", wide("x", "G"), function="G"))
    running = drain(turns)
    small = ticket("small", wide("x"))
    turns.wait(small)
    running += drain(turns)
    turns.withdraw(small)
    served = len(running)
    while running:
        assert len(running) == 2 or served >= 99
        turns.give_back(running.pop(0))
        new = drain(turns)
        served += len(new)
        running += new
    assert served == 100


def test_room_for_several_wakes_several() -> None:
    turns = Turns()
    for function in "FGH":
        turns.set_limits(function, {f"{function}/x": 1})
    turns.hold("old", [wide("x")])
    for function in "FGH":
        turns.wait(ticket(f"{function}0", wide("x", function), function=function))
    assert drain(turns) == []
    turns.give_back("old")
    for function in "FGH":
        turns.set_limits(function, {f"{function}/x": 3})
    assert sorted(drain(turns)) == ["F0", "G0", "H0"]


def test_one_function_can_be_asked_alone() -> None:
    turns = Turns()
    wait_all(turns, [ticket("f1"), ticket("g1", function="G"), ticket("f2")])
    assert turns.woken == ["F", "G"]
    assert turns.can_turn("G")
    grant = turns.next(T0, "G")
    assert grant is not None
    assert (grant.item, grant.run, grant.function_id, grant.left) == ("g1", "run-g1", "G", 0)
    assert not turns.can_turn("G")
    assert turns.next(T0, "G") is None
    assert turns.next(T0, "nobody") is None
    assert drain(turns) == ["f1", "f2"]


def test_a_throttle_spaces_starts_and_says_when_the_next_is() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/t": Throttle(1, 5_000)})
    for n in range(3):
        turns.wait(Ticket("F", f"r{n}", f"i{n}", n, (), (), narrow("t", "k")))
    first = turns.next(T0)
    assert first is not None
    assert first.throttle == ("t=k", ThrottleState((T0 + 5_000) * 1_000_000))
    assert first.left == 2
    assert drain(turns) == []
    assert turns.next_time() == T0 + 5_000
    assert drain(turns, T0 + 4_999) == []
    assert drain(turns, T0 + 5_000) == ["i1"]
    assert turns.next_time() is not None
    assert drain(turns, T0 + 30_000) == ["i2"]
    assert turns.next_time() is None


def test_a_throttled_start_that_waits_for_a_place_uses_no_turn_of_the_throttle() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1, "F/t": Throttle(1, 1_000)})
    for n in range(5):
        turns.wait(Ticket("F", f"r{n}", f"i{n}", n, (wide("x"),), (), wide("t")))
    assert drain(turns) == ["i0"]
    assert drain(turns, T0 + 60_000) == []
    turns.give_back("i0")
    assert drain(turns, T0 + 60_001) == ["i1"]
    turns.give_back("i1")
    assert drain(turns, T0 + 60_002) == []
    assert drain(turns, T0 + 61_001) == ["i2"]


def test_a_schedule_that_was_stored_is_kept_to() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/t": Throttle(1, 5_000)})
    turns.room.restore_throttle("t", ThrottleState((T0 + 3_000) * 1_000_000))
    turns.wait(Ticket("F", "r", "i", 0, (), (), wide("t")))
    assert drain(turns) == []
    assert turns.next_time() == T0 + 3_000
    assert drain(turns, T0 + 3_000) == ["i"]


def test_a_clock_set_back_does_not_hold_a_throttle_for_its_jump() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/t": Throttle(1, 5_000)})
    for n in range(2):
        turns.wait(Ticket("F", f"r{n}", f"i{n}", n, (), (), wide("t")))
    assert drain(turns) == ["i0"]
    back = T0 - 3_600_000
    assert drain(turns, back) == []
    due = turns.next_time()
    assert due is not None
    assert due <= back + 5_002
    assert drain(turns, due) == ["i1"]


def test_schedules_of_rested_keys_are_forgotten() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/t": Throttle(1, 1_000)})
    for n in range(50):
        turns.wait(Ticket("F", f"r{n}", f"i{n}", 0, (), (), narrow("t", n)))
    assert len(drain(turns)) == 50
    assert len(turns.room.throttles) == 50
    assert drain(turns, T0 + 1_000) == []
    assert turns.room.throttles == {}


def test_an_item_that_is_withdrawn_is_not_served() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    tickets = [ticket(name, wide("x")) for name in "abc"]
    wait_all(turns, tickets)
    assert drain(turns) == ["a"]
    turns.withdraw(tickets[1])
    turns.withdraw(tickets[1])
    turns.withdraw(tickets[0])
    turns.give_back("a")
    assert drain(turns) == ["c"]


def test_a_limit_changed_takes_effect_at_once() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    wait_all(turns, [ticket(name, wide("x")) for name in "abcdef"])
    assert drain(turns) == ["a"]
    turns.set_limits("F", {"F/x": 3})
    assert drain(turns) == ["b", "c"]
    turns.set_limits("F", {"F/x": 2})
    turns.give_back("a")
    assert drain(turns) == []
    turns.give_back("b")
    assert drain(turns) == ["d"]
    turns.set_limits("F", {})
    assert drain(turns) == ["e", "f"]


def test_places_taken_before_a_restart_count() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    turns.hold("old", [wide("x")])
    turns.wait(ticket("a", wide("x")))
    assert drain(turns) == []
    turns.give_back("old")
    assert drain(turns) == ["a"]


def test_nothing_is_left_behind() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1, "F/u": 1, "F/t": Throttle(1, 1_000)})
    for n in range(30):
        turns.wait(Ticket("F", f"r{n}", f"i{n}", 0, (wide("x"), narrow("u", n % 7)), (), narrow("t", n % 3)))
    now, served = T0, 0
    while served < 30:
        for item in drain(turns, now):
            served += 1
            turns.give_back(item)
        now += 1_000
    drain(turns, now + 60_000)
    assert len(turns) == 0
    assert not turns._roots
    assert not turns._gates_of
    assert len(turns.room.counters) == 0
    assert turns.room.throttles == {}


def test_why_an_item_waits() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 2, "F/u": 1, "F/t": Throttle(1, 60_000)})
    tickets = [
        Ticket("F", f"r{n}", f"i{n}", n, (wide("x"), narrow("u", "ada")), (), wide("t")) for n in range(4)
    ]
    wait_all(turns, tickets)
    assert drain(turns) == ["i0"]
    assert turns.explain(tickets[0], T0) is None
    told = turns.explain(tickets[3], T0)
    assert told is not None
    assert told.ahead == 2
    by_counter = {obstacle.need.counter: obstacle for obstacle in told.obstacles}
    assert set(by_counter) == {"x", "u=ada", "t"}
    assert (by_counter["x"].taken, by_counter["x"].limit, by_counter["x"].open) == (1, 2, True)
    ada = by_counter["u=ada"]
    assert (ada.taken, ada.limit, ada.open, ada.holders) == (1, 1, False, ("i0",))
    assert (by_counter["t"].open, by_counter["t"].free_at) == (False, T0 + 60_000)


def test_the_place_in_the_line_of_a_counter() -> None:
    turns = Turns()
    for function in "FGH":
        turns.set_limits(function, {f"{function}/x": 1, f"{function}/u": 9})
    turns.hold("old", [wide("x")])
    waiting = {}
    for n in range(3):
        waiting[n] = ticket(f"i{n}", narrow("u", n), Need("x", "F/x", "", True))
        turns.wait(waiting[n])
    drain(turns)
    places = []
    for n in range(3):
        told = turns.explain(waiting[n], T0)
        assert told is not None
        places.append(max(obstacle.place for obstacle in told.obstacles))
    assert sorted(places) == [1, 2, 3] or places == [1, 1, 1]


def test_a_branch_that_needs_two_counters_is_served_beside_streams_that_need_one() -> None:
    """Each time one of the two has room, somebody who needs only that one is there first."""
    turns = Turns()
    turns.set_limits("F", {"F/x": 1, "F/y": 1})
    turns.set_limits("G", {"G/x": 1})
    turns.set_limits("H", {"H/y": 1})
    for n in range(300):
        turns.wait(ticket(f"g{n}", wide("x", "G"), function="G"))
        turns.wait(ticket(f"h{n}", wide("y", "H"), function="H"))
    running = drain(turns)
    turns.wait(ticket("both", wide("x"), wide("y")))
    for _ in range(8 * PATIENCE):
        # The two streams end their calls in turn, never at once.
        turns.give_back(running.pop(0))
        running += drain(turns)
        if "both" in running:
            break
    assert "both" in running


def test_a_small_limit_is_served_beside_a_large_one_on_the_same_counter() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    turns.set_limits("G", {"G/x": 3})
    for n in range(300):
        turns.wait(ticket(f"g{n}", wide("x", "G"), function="G"))
    running = drain(turns)
    turns.wait(ticket("small", wide("x")))
    for _ in range(100):
        turns.give_back(running.pop(0))
        running += drain(turns)
        if "small" in running:
            break
    assert running[0] == "small"
    assert len(running) == 3


def test_a_function_that_takes_no_turns_does_not_hold_up_the_others_for_long() -> None:
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    turns.set_limits("G", {"G/x": 2})
    for n in range(300):
        turns.wait(ticket(f"g{n}", wide("x", "G"), function="G"))
    turns.wait(ticket("dead", wide("x")))
    now = T0
    running: list[str] = []

    def serve_g() -> None:
        while (grant := turns.next(now, "G")) is not None:
            running.append(grant.item)

    serve_g()
    turns.next(now, "F")  # it stands in line, and then its app stops taking calls
    idle_since = None
    for _ in range(200):
        if running:
            turns.give_back(running.pop(0))
        serve_g()
        if not running:
            idle_since = now
            break
        now += 1
    assert idle_since is not None
    due = turns.next_time()
    assert due is not None
    assert due <= idle_since + LAPSE_MS + 1
    now = due
    serve_g()
    assert len(running) == 2


def crowded() -> tuple[Turns, Ticket]:
    """A small limit that has just become the favourite beside a larger one on the same counter."""
    turns = Turns()
    turns.set_limits("F", {"F/x": 1})
    turns.set_limits("G", {"G/x": 2})
    for n in range(300):
        turns.wait(ticket(f"g{n}", wide("x", "G"), function="G"))
    running = drain(turns)
    small = ticket("small", wide("x"))
    turns.wait(small)
    while turns._favourite.node is None:
        turns.give_back(running.pop(0))
        running += drain(turns)
    assert turns.room.counters.count("x") == 1
    assert drain(turns) == []
    return turns, small


def test_a_favourite_that_is_withdrawn_lets_the_others_go_on() -> None:
    turns, small = crowded()
    turns.withdraw(small)
    assert len(drain(turns)) == 1


def test_a_favourite_does_not_stand_in_its_own_way() -> None:
    turns, small = crowded()
    favourite = turns._favourite
    assert small.node is not None
    assert not favourite.needs(small.node, small, turns.room)
    assert favourite.needs(turns._roots["G"], ticket("g", wide("x", "G"), function="G"), turns.room)
    assert not favourite.needs(turns._roots["G"], ticket("g", wide("y", "G"), function="G"), turns.room)


# Cost


class CountingRoom(Room):
    """Counts how often somebody asks for room."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def has(self, counter: str, name: str, now: int) -> bool:
        self.asked += 1
        return super().has(counter, name, now)


def most_questions(keys: int, per_key: int, limits: dict[str, int], ended: int = 300) -> int:
    turns = Turns()
    room = CountingRoom()
    turns.room = room
    turns.set_limits("F", limits)
    for n in range(keys * per_key):
        turns.wait(ticket(f"i{n}", wide("x"), narrow("u", n % keys)))
    running = drain(turns)
    most = 0
    for _ in range(min(ended, keys * per_key - len(running))):
        turns.give_back(running.pop(0))
        room.asked = 0
        running += drain(turns)
        most = max(most, room.asked)
    return most


@pytest.mark.parametrize(
    "limits", [{"F/x": 10}, {"F/u": 1}, {"F/x": 10, "F/u": 1}, {"F/x": 10, "F/u": 2}, {"F/x": 1000, "F/u": 1}]
)
def test_what_a_turn_costs_does_not_depend_on_how_many_wait(limits: dict[str, int]) -> None:
    few = most_questions(20, 20, limits)
    many = most_questions(5_000, 2, limits)
    assert many <= few + 4
    assert many <= 12


def test_one_call_moves_a_bounded_number_of_branches_and_asks_to_be_called_again() -> None:
    """Two keys that cross, both full."""
    turns = Turns()
    turns.set_limits("F", {"F/u": 1, "F/r": 1})
    turns.room = CountingRoom()
    turns.set_limits("F", {"F/u": 1, "F/r": 1})
    for n in range(2_000):
        turns.wait(ticket(f"i{n}", narrow("u", n), narrow("r", n % 3)))
    served: list[Grant] = []
    calls = 0
    while len(served) < 2_000:
        calls += 1
        assert calls < 20_000
        assert isinstance(turns.room, CountingRoom)
        turns.room.asked = 0
        grant = turns.next(T0)
        assert turns.room.asked <= 4 * MOVES
        if grant is not None:
            served.append(grant)
        elif turns.next_time() is None:
            for each in served[-3:]:
                turns.give_back(each.item)
    assert len({grant.item for grant in served}) == 2_000

"""Concurrency: which counters a run needs, and the counting."""

from __future__ import annotations

from perdure.core.flow.concurrency import ConcurrencyRules, Counters, Need
from perdure.core.flow.keys import digest
from perdure.protocol.functions import ConcurrencyLimit, FunctionConfig

EVENT: dict[str, object] = {"data": {"user": "ada", "region": "eu"}}


def rules(
    function_id: str, *limits: ConcurrencyLimit, runs: ConcurrencyLimit | None = None
) -> ConcurrencyRules:
    config = FunctionConfig("app-f", "f", "http://x", concurrency=limits, run_concurrency=runs)
    return ConcurrencyRules(function_id, config)


def test_a_function_without_limits_needs_nothing() -> None:
    needs = rules("F").needs(EVENT, 0)
    assert (needs.runs, needs.steps) == ((), ())


def test_a_limit_of_a_function_is_its_own() -> None:
    (one,) = rules("F1", ConcurrencyLimit(5)).needs(EVENT, 0).steps
    (two,) = rules("F2", ConcurrencyLimit(5)).needs(EVENT, 0).steps
    assert one.counter != two.counter
    assert not one.narrow


def test_values_of_a_key_are_counted_apart() -> None:
    limits = rules("F", ConcurrencyLimit(5, "event.data.user"))
    (ada,) = limits.needs(EVENT, 0).steps
    (bob,) = limits.needs({"data": {"user": "bob"}}, 0).steps
    assert ada.counter != bob.counter
    assert ada.limit == bob.limit
    assert (ada.value, ada.narrow) == ("ada", True)
    assert ada.counter.endswith(digest("ada"))


def test_env_and_account_are_shared_by_equal_expression_and_value() -> None:
    for scope in ("env", "account"):
        (one,) = rules("F1", ConcurrencyLimit(5, "event.data.user", scope)).needs(EVENT, 0).steps
        (two,) = rules("F2", ConcurrencyLimit(9, " event.data.user ", scope)).needs(EVENT, 0).steps
        (three,) = rules("F3", ConcurrencyLimit(5, "event.data.user + ''", scope)).needs(EVENT, 0).steps
        assert one.counter == two.counter
        assert one.counter != three.counter
        assert one.limit != two.limit
    (env,) = rules("F1", ConcurrencyLimit(5, "'k'", "env")).needs(EVENT, 0).steps
    (account,) = rules("F1", ConcurrencyLimit(5, "'k'", "account")).needs(EVENT, 0).steps
    assert env.counter != account.counter
    assert not env.narrow


def test_runs_and_steps_are_counted_apart() -> None:
    needs = rules("F", ConcurrencyLimit(5), runs=ConcurrencyLimit(5)).needs(EVENT, 0)
    assert needs.runs[0].counter != needs.steps[0].counter
    assert needs.runs[0].limit != needs.steps[0].limit


def test_limits_are_found_by_the_name_that_the_need_carries() -> None:
    limits = rules("F", ConcurrencyLimit(5, "event.data.user"), ConcurrencyLimit(9), runs=ConcurrencyLimit(2))
    needs = limits.needs(EVENT, 0)
    assert [limits.limits[need.limit] for need in (*needs.steps, *needs.runs)] == [5, 9, 2]


def test_two_limits_of_one_key_are_one_and_the_smaller_counts() -> None:
    for one, two in ((5, 3), (3, 5)):
        limits = rules(
            "F", ConcurrencyLimit(one, "event.data.user"), ConcurrencyLimit(two, "event.data.user")
        )
        (need,) = limits.needs(EVENT, 0).steps
        assert limits.limits == {need.limit: 3}


def test_a_key_that_fails_is_the_empty_bucket_and_is_told() -> None:
    needs = rules("F", ConcurrencyLimit(5, "1 / 0")).needs(EVENT, 0)
    assert needs.steps[0].counter.endswith("/")
    assert len(needs.problems) == 1


def test_places_are_taken_and_given_back() -> None:
    a, b = Need("a", "A"), Need("b", "B")
    limits = {"A": 1, "B": 2}
    counters = Counters()
    assert counters.has_room((a, b), limits)
    counters.take("item1", (a, b))
    assert not counters.has_room((a, b), limits)
    assert counters.has_room((b,), limits)
    counters.take("item2", (b,))
    assert not counters.has_room((b,), limits)
    assert counters.holders("b", 10) == ["item1", "item2"]
    assert counters.holders("b", 1) == ["item1"]
    assert counters.give_back("item1") == ("a", "b")
    assert counters.give_back("item1") == ()
    assert counters.has_room((a, b), limits)
    counters.give_back("item2")
    assert len(counters) == 0


def test_what_is_taken_is_told_by_value() -> None:
    limits = rules("F", ConcurrencyLimit(5, "event.data.user"), runs=ConcurrencyLimit(9))
    other = rules("G", ConcurrencyLimit(5))
    counters = Counters()
    for n, user in enumerate(("ada", "ada", "bob")):
        needs = limits.needs({"data": {"user": user}}, 0)
        counters.take(f"call-{n}", needs.steps)
        counters.take(f"run-{n}", needs.runs)
    counters.take("other", other.needs(EVENT, 0).steps)
    steps, runs = limits.limits
    assert limits.taken(steps, counters, 100) == ([("ada", 2), ("bob", 1)], True)
    assert limits.taken(runs, counters, 100) == ([("", 3)], True)
    assert limits.taken(steps, counters, 1) == ([("ada", 2)], False)
    restarted = rules("F", ConcurrencyLimit(5, "event.data.user"), runs=ConcurrencyLimit(9))
    assert restarted.taken(steps, counters, 100) == ([("", 2), ("", 1)], True), (
        "values are not known any more"
    )


def test_a_limit_that_is_gone_stops_nobody_and_a_lowered_one_throws_nobody_out() -> None:
    a = Need("a", "A")
    counters = Counters()
    for n in range(5):
        counters.take(f"item{n}", (a,))
    assert counters.has_room((a,), {})
    for n in range(4):
        assert not counters.has_room((a,), {"A": 2})
        counters.give_back(f"item{n}")
    assert counters.has_room((a,), {"A": 2})


def test_one_holder_takes_a_place_once_and_may_take_more_later() -> None:
    a, b = Need("a", "A"), Need("b", "B")
    counters = Counters()
    counters.take("run", (a,))
    counters.take("run", (a,))
    counters.take("run", (b,))
    counters.take("run", ())
    assert (counters.count("a"), counters.count("b")) == (1, 1)
    assert counters.give_back("run") == ("a", "b")


def test_a_need_can_be_stored_with_its_run() -> None:
    need = Need("step/fn/F//", "F/step/fn/", "ada", True)
    assert Need.decode(need.encode()) == need

"""A plan answers questions about the run as it will be."""

from __future__ import annotations

from perdure.core.model import Group, ItemKind
from perdure.core.plan import NewItem, Plan, failure
from perdure.protocol.failures import OpError
from tests.unit.core.runs import NOW, a_run, called, discovery, sleeping, told


def test_the_first_result_wins() -> None:
    plan = Plan(a_run("a"), NOW)
    assert not plan.save("a", "a", "StepRun", b"1")
    assert plan.save("b", "b", "StepRun", b"1")
    assert not plan.save("b", "b", "StepRun", b"2")
    assert told(plan)["saved"] == {"b": 1}
    assert plan.stack_size() == 2


def test_what_is_pending() -> None:
    plan = Plan(a_run(items=[discovery(1), sleeping(2, "a")]), NOW)
    assert plan.pending("a")
    assert not plan.pending("b")
    assert not plan.pending("")
    plan.add(NewItem(ItemKind.STEP, "b", "b", NOW))
    assert plan.pending("b")


def test_what_is_left() -> None:
    plan = Plan(a_run(items=[discovery(1), called(2, "a", "wait")]), NOW)
    assert [item.n for item in plan.left()] == [1, 2]
    assert plan.group_left()
    plan.ended.append(2)
    assert [item.n for item in plan.left()] == [1]
    assert not plan.group_left()
    plan.add(NewItem(ItemKind.SLEEP, "b", "b", NOW, group=Group.WAIT))
    assert plan.group_left()


def test_when_nothing_more_would_happen() -> None:
    plan = Plan(a_run(), NOW)
    assert not plan.stuck()
    plan.ended.append(1)
    assert plan.stuck()
    plan.discover()
    assert not plan.stuck()


def test_one_discovery_for_one_stack() -> None:
    plan = Plan(a_run("a"), NOW)
    plan.discover()
    plan.discover()
    assert told(plan)["added"] == ["discovery@1"]
    plan.save("b", "b", "StepRun", b"1")
    plan.discover()
    assert told(plan)["added"] == ["discovery@1", "discovery@2"]


def test_a_discovery_that_this_plan_ends_is_no_excuse() -> None:
    plan = Plan(a_run("a", [discovery(1, stack=1, in_flight=False)]), NOW)
    plan.discover()
    assert "added" not in told(plan)
    plan.ended.append(1)
    plan.discover()
    assert told(plan)["added"] == ["discovery@1"]


def test_a_failure_of_the_server_reads_the_same_everywhere() -> None:
    outcome = failure(OpError("Name", "text"))
    assert outcome.output == b'{"error":{"error":"Name: text","name":"Name","message":"text"}}'
    assert outcome.error is not None
    assert (outcome.error.error, outcome.error.name, outcome.error.message) == ("Name: text", "Name", "text")

"""What is written down of each op, and in which order they are handled."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core.history import OpNote
from perdure.core.operations import OperationPlanner
from perdure.core.plan import Plan
from perdure.protocol.ops import OPS
from tests.unit.core.runs import NOW, a_run, context, discovery, op, reply, told

ALL = {
    "None": {},
    "DiscoveryRequest": {},
    "StepRun": {"data": 1},
    "Step": {"data": 1},
    "StepError": {"error": {"message": "no"}},
    "StepFailed": {"error": {"message": "no"}},
    "StepPlanned": {},
    "Sleep": {"name": "1s"},
    "WaitForEvent": {"name": "test/go", "opts": {"timeout": "1s", "if": "async.data.ok"}},
    "WaitForSignal": {"opts": {"signal": "go", "timeout": "1s"}},
    "InvokeFunction": {"opts": {"function_id": "app-known", "timeout": "1s"}},
    "Gateway": {"opts": {"url": "http://example.test"}},
    "AIGateway": {"opts": {"url": "http://example.test", "auth_key": "sk-secret"}},
    "RunComplete": {"data": 1},
    "SyncRunComplete": {},
    "DeferAdd": {},
    "DeferAbort": {},
}


def handled(*ops: dict[str, Any]) -> tuple[OperationPlanner, list[OpNote]]:
    run = a_run()
    planner = OperationPlanner(Plan(run, NOW), run.items[1], reply(*ops), context())
    return planner, planner.run()


def test_every_op_of_the_protocol_is_answered() -> None:
    assert set(ALL) == OPS
    for kind, fields in ALL.items():
        planner, _ = handled(op(kind, "a", **fields))
        plan = planner.plan
        assert (
            plan.saved or plan.added or plan.retried or plan.outcome or planner.discover or kind == "None"
        ), kind


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        ("Sleep", {"until": NOW + 1_000}),
        ("WaitForEvent", {"until": NOW + 1_000, "event": "test/go", "expression": "async.data.ok"}),
        ("WaitForSignal", {"until": NOW + 1_000, "event": "go"}),
        ("InvokeFunction", {"until": NOW + 1_000, "function": "app-known"}),
        ("StepPlanned", {"planned": True}),
        ("StepRun", {"size": 1}),
    ],
)
def test_history_gets_what_a_person_wants_to_see(kind: str, details: dict[str, object]) -> None:
    _, (note,) = handled(op(kind, "a", **ALL[kind]))
    assert (note.op, note.id, note.name) == (kind, "a", "a")
    assert {name: getattr(note, name) for name in details} == details


def test_history_gets_no_secret() -> None:
    _, notes = handled(op("AIGateway", "a", **ALL["AIGateway"]))
    assert "sk-secret" not in repr(notes)


def test_timing_and_flavour_are_kept() -> None:
    sent = op(
        "StepRun", "a", timing={"a": 1_700_000_000_123_456_789, "b": 2_500_000}, opts={"type": "step.ai.wrap"}
    )
    _, (note,) = handled(sent)
    assert (note.type, note.took) == ("step.ai.wrap", 2.5)
    assert note.at == pytest.approx(1_700_000_000_123.456, abs=0.01)


def test_waits_are_handled_first_and_the_end_last() -> None:
    order = ["RunComplete", "Sleep", "StepRun", "WaitForSignal", "InvokeFunction", "WaitForEvent"]
    _, notes = handled(*(op(kind, f"{n}", **ALL[kind]) for n, kind in enumerate(order)))
    assert [note.op for note in notes] == [
        "WaitForSignal",
        "InvokeFunction",
        "WaitForEvent",
        "Sleep",
        "StepRun",
        "RunComplete",
    ]


def test_nothing_is_handled_after_the_run_has_failed() -> None:
    planner, notes = handled(op("Sleep", "a", name="soon"), op("StepRun", "b"))
    assert [note.op for note in notes] == ["Sleep"]
    assert told(planner.plan) == {"outcome": "FAILED Error"}


def test_a_missing_feature_is_named() -> None:
    planner, _ = handled(op("DeferAdd", "a"))
    assert planner.plan.outcome is not None
    assert planner.plan.outcome.error is not None
    assert planner.plan.outcome.error.message == (
        "The app sent DeferAdd, but this server does not offer deferred functions yet."
    )


def test_a_thousand_steps_at_once() -> None:
    sent = [op("StepPlanned", f"s{n}") for n in range(1_000)]
    run = a_run(items=[discovery()])
    planner = OperationPlanner(Plan(run, NOW), run.items[1], reply(*sent), context())
    planner.run()
    assert len(planner.plan.added) == 1_000
    assert planner.plan.outcome is None

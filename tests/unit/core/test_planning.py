"""What follows an answer, a timer or an event, as tables: the run, what came, what the plan says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.core import planning
from perdure.core.model import Item, Run, RunStatus, WaitKind
from perdure.core.operations import COMPLETE
from perdure.core.plan import Plan
from perdure.core.settings import Settings
from perdure.protocol.failures import ErrorInfo
from perdure.protocol.replies import Finished, FunctionError
from tests.unit.core.runs import (
    NOW,
    a_run,
    a_wait,
    called,
    context,
    discovery,
    op,
    reply,
    requesting,
    sleeping,
    told,
    waiting,
)

SETTINGS = Settings(retry_interval_ms=1_000)
RACE = {"parallelMode": "race"}


def run_step(step: str, data: Any = None, **fields: Any) -> dict[str, Any]:
    return op("StepRun", step, data=data, **fields)


def step_error(step: str, kind: str = "StepError") -> dict[str, Any]:
    return op(kind, step, error={"name": "Boom", "message": "no"})


def plan_of(run: Run, answer: Any, item: int = 1, **rules: Any) -> Plan:
    return planning.plan_reply(run, run.items[item], answer, 206, context(**rules))


FAILED_MEMO = {"error": {"name": "Boom", "message": "no"}}

ONE_OP = {
    "a step that has run is recorded, and discovery follows": (
        run_step("a", {"v": 1}),
        {"saved": {"a": {"data": {"v": 1}}}, "ended": [1], "added": ["discovery@1"]},
    ),
    "a step of the old form is recorded as it is": (
        op("Step", "a", data={"v": 1}),
        {"saved": {"a": {"v": 1}}, "ended": [1], "added": ["discovery@1"]},
    ),
    "a step without data is null": (
        op("StepRun", "a"),
        {"saved": {"a": {"data": None}}, "ended": [1], "added": ["discovery@1"]},
    ),
    "a step that failed for good is recorded, and the run goes on": (
        step_error("a", "StepFailed"),
        {"saved": {"a": FAILED_MEMO}, "ended": [1], "added": ["discovery@1"]},
    ),
    "a step that failed is tried again by the same item": (step_error("a"), {"retried": [(1, 1_000, 1)]}),
    "one planned step is called, outside of any set": (
        op("StepPlanned", "a"),
        {"ended": [1], "added": ["step a"]},
    ),
    "a sleep": (op("Sleep", "a", name="5s"), {"ended": [1], "added": ["sleep a +5000"]}),
    "a wait for an event": (
        op("WaitForEvent", "a", name="test/go", opts={"timeout": "5s"}),
        {"ended": [1], "added": ["wait a +5000"]},
    ),
    "a wait for a signal": (
        op("WaitForSignal", "a", opts={"signal": "go", "timeout": "5s"}),
        {"ended": [1], "added": ["wait a +5000"]},
    ),
    "an invoke": (
        op("InvokeFunction", "a", opts={"function_id": "app-known", "payload": {}, "timeout": "5s"}),
        {"ended": [1], "added": ["wait a +5000"]},
    ),
    "an invoke of nobody is a failed step": (
        op("InvokeFunction", "a", opts={"function_id": "app-unknown"}),
        {
            "saved": {
                "a": {"error": {"name": "Error", "message": "could not find function with ID: app-unknown"}}
            },
            "ended": [1],
            "added": ["discovery@1"],
        },
    ),
    "a request": (op("Gateway", "a", opts={"url": "http://x"}), {"ended": [1], "added": ["request a"]}),
    "a request to a model": (
        op("AIGateway", "a", opts={"url": "http://x"}),
        {"ended": [1], "added": ["request a"]},
    ),
    "the same in its other spelling": (
        op("AiGateway", "a", opts={"url": "http://x"}),
        {"ended": [1], "added": ["request a"]},
    ),
    "the app wants to be asked again": (op("DiscoveryRequest"), {"ended": [1], "added": ["discovery@0"]}),
    "the run is complete": (op("RunComplete", "x", data=7), {"outcome": "COMPLETED"}),
    "nothing at all, and nothing pending": (
        op("None"),
        {"ended": [1], "outcome": "FAILED NoProgress", "added": ["discovery@0"]},
    ),
    "durable endpoints are refused": (op("SyncRunComplete", "x"), {"outcome": "FAILED Unsupported"}),
    "a deferred call is refused": (op("DeferAdd", "x"), {"outcome": "FAILED Unsupported"}),
    "taking back a deferred call is refused": (op("DeferAbort", "x"), {"outcome": "FAILED Unsupported"}),
}


@pytest.mark.parametrize(("sent", "expected"), ONE_OP.values(), ids=ONE_OP)
def test_one_op(sent: dict[str, Any], expected: dict[str, Any]) -> None:
    assert told(plan_of(a_run(), reply(sent))) == expected


def in_set(step: str, kind: str = "StepPlanned", mode: str = "race", **fields: Any) -> dict[str, Any]:
    return op(kind, step, **{"opts": {"parallelMode": mode}, **fields})


SEVERAL_OPS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "planned steps are a set": (
        [op("StepPlanned", "a"), op("StepPlanned", "b")],
        {"ended": [1], "added": ["step a wait", "step b wait"]},
    ),
    "race is asked for by each": (
        [in_set("a"), in_set("b", mode="RACE"), op("StepPlanned", "c")],
        {"ended": [1], "added": ["step a race", "step b race", "step c wait"]},
    ),
    "waits are armed before the steps that could satisfy them": (
        [
            run_step("a"),
            op("StepPlanned", "b"),
            op("WaitForEvent", "c", name="test/go", opts={"timeout": "1s"}),
            op("WaitForSignal", "d", opts={"signal": "s", "timeout": "1s"}),
            op("InvokeFunction", "e", opts={"function_id": "app-known", "timeout": "1s"}),
        ],
        {
            "saved": {"a": {"data": None}},
            "ended": [1],
            "added": ["wait c wait +1000", "wait d wait +1000", "wait e wait +1000", "step b wait"],
        },
    ),
    "finished steps alone are no set": (
        [run_step("a"), run_step("b")],
        {"saved": {"a": {"data": None}, "b": {"data": None}}, "ended": [1], "added": ["discovery@2"]},
    ),
    "a finished step beside a pending one waits for it": (
        [run_step("a"), op("Sleep", "b", name="5s")],
        {"saved": {"a": {"data": None}}, "ended": [1], "added": ["sleep b wait +5000"]},
    ),
    "a finished step of a race does not": (
        [in_set("a", "StepRun"), in_set("b", "Sleep", name="5s")],
        {"saved": {"a": {"data": None}}, "ended": [1], "added": ["sleep b race +5000", "discovery@1"]},
    ),
    "what fails at once leaves the set": (
        [op("InvokeFunction", "a", opts={"function_id": "app-unknown"}), op("StepPlanned", "b")],
        {
            "saved": {
                "a": {"error": {"name": "Error", "message": "could not find function with ID: app-unknown"}}
            },
            "ended": [1],
            "added": ["step b wait"],
        },
    ),
    "if all fail at once, discovery follows": (
        [
            op("InvokeFunction", "a", opts={"function_id": "app-unknown"}),
            op("InvokeFunction", "b", opts={"function_id": "app-unknown"}),
        ],
        {
            "saved": {
                name: {"error": {"name": "Error", "message": "could not find function with ID: app-unknown"}}
                for name in "ab"
            },
            "ended": [1],
            "added": ["discovery@2"],
        },
    ),
    "a failed step among pending ones is tried again alone": (
        [step_error("a"), op("StepPlanned", "b")],
        {"ended": [1], "added": ["step a wait +1000 try 1", "step b wait"]},
    ),
    "a failed step after finished ones has all its attempts, and keeps the item": (
        [run_step("a"), step_error("b")],
        {"saved": {"a": {"data": None}}, "retried": [(1, 1_000, 1)]},
    ),
    "two failed steps are one retry": ([step_error("a"), step_error("b")], {"retried": [(1, 1_000, 1)]}),
    "one step planned twice is called once": (
        [op("StepPlanned", "a"), op("StepPlanned", "a")],
        {"ended": [1], "added": ["step a wait"]},
    ),
    "one step run twice is recorded once": (
        [run_step("a", 1), run_step("a", 2)],
        {"saved": {"a": {"data": 1}}, "ended": [1], "added": ["discovery@1"]},
    ),
    "buffered steps come before the end": (
        [op("RunComplete", "x", data=1), run_step("a"), run_step("b")],
        {"saved": {"a": {"data": None}, "b": {"data": None}}, "outcome": "COMPLETED"},
    ),
    "a request for discovery does not make a set": (
        [op("StepPlanned", "a"), op("DiscoveryRequest")],
        {"ended": [1], "added": ["step a", "discovery@0"]},
    ),
    "None beside a step does not count": (
        [op("None"), run_step("a")],
        {"saved": {"a": {"data": None}}, "ended": [1], "added": ["discovery@1"]},
    ),
    "the server's limits come before what it does not offer": (
        [run_step("a"), op("DeferAdd", "x")],
        {"outcome": "FAILED Unsupported"},
    ),
    "one bad sleep fails the run, though others are fine": (
        [run_step("a"), op("Sleep", "b", name="soon")],
        {"saved": {"a": {"data": None}}, "outcome": "FAILED Error"},
    ),
}


@pytest.mark.parametrize(("sent", "expected"), SEVERAL_OPS.values(), ids=SEVERAL_OPS)
def test_several_ops(sent: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    assert told(plan_of(a_run(), reply(*sent))) == expected


@pytest.mark.parametrize("version", [0, 1])
def test_old_request_versions_race(version: int) -> None:
    planned = plan_of(
        a_run(version=-1), reply(op("StepPlanned", "a"), op("StepPlanned", "b"), version=version)
    )
    assert told(planned) == {"version": version, "ended": [1], "added": ["step a race", "step b race"]}
    pinned = plan_of(a_run(version=version), reply(op("StepPlanned", "a"), op("StepPlanned", "b"), version=2))
    assert told(pinned)["added"] == ["step a race", "step b race"]
    assert planned.parallel


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        (reply(run_step("a"), version=1), 1),
        (reply(step_error("a"), version=2), 2),
        (reply(version=2), None),
        (reply(run_step("a"), version=None), None),
        (FunctionError(b"{}", ErrorInfo("x"), version=2), None),
        (Finished(b"1", 2), None),
    ],
)
def test_the_version_is_pinned_by_the_first_answer_with_ops(answer: Any, version: int | None) -> None:
    assert plan_of(a_run(version=-1), answer).version == version
    assert plan_of(a_run(version=1), answer).version is None


SET = [called(2, "a", "wait"), called(3, "b", "wait")]

IN_SET: dict[str, tuple[list[Item], str, dict[str, Any], dict[str, Any]]] = {
    "a step while others of its set are under way": (
        SET,
        "",
        run_step("a"),
        {"saved": {"a": {"data": None}}, "ended": [2]},
    ),
    "the last of a set": (
        [called(2, "a", "wait")],
        "b",
        run_step("a"),
        {"saved": {"a": {"data": None}}, "ended": [2], "added": ["discovery@2"]},
    ),
    "a failed one while others are under way": (
        SET,
        "",
        step_error("a", "StepFailed"),
        {"saved": {"a": FAILED_MEMO}, "ended": [2]},
    ),
    "one that is tried again stays in its set": (SET, "", step_error("a"), {"retried": [(2, 1_000, 1)]}),
    "each of a race": (
        [called(2, "a", "race"), called(3, "b", "race")],
        "",
        run_step("a"),
        {"saved": {"a": {"data": None}}, "ended": [2], "added": ["discovery@1"]},
    ),
    "a lone step beside a set": (
        [called(2, "a"), called(3, "b", "wait")],
        "",
        run_step("a"),
        {"saved": {"a": {"data": None}}, "ended": [2], "added": ["discovery@1"]},
    ),
    "a step that is recorded already still ends its item": (
        [called(2, "a", "wait")],
        "ab",
        run_step("a", 9),
        {"ended": [2], "added": ["discovery@2"]},
    ),
    "a planned step that is a sleep after all": (
        SET,
        "",
        op("Sleep", "a", name="5s"),
        {"ended": [2], "added": ["sleep a wait +5000"]},
    ),
    "a planned step that the app only plans again": (
        [called(2, "a")],
        "",
        op("StepPlanned", "a"),
        {"ended": [2], "added": ["discovery@0"]},
    ),
    "a planned step that the app does not know, others under way": (SET, "", op("None"), {"ended": [2]}),
}


@pytest.mark.parametrize(("items", "steps", "sent", "expected"), IN_SET.values(), ids=IN_SET)
def test_an_answer_for_a_planned_step(
    items: list[Item], steps: str, sent: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert told(plan_of(a_run(steps, items), reply(sent), 2)) == expected


def test_a_planned_step_that_fails_beside_others_is_tried_again_by_its_own_item() -> None:
    plan = plan_of(a_run(items=[called(2, "a", "wait")]), reply(step_error("a"), op("StepPlanned", "b")), 2)
    assert told(plan) == {"retried": [(2, 1_000, 1)], "added": ["step b wait"]}


def test_a_planned_step_goes_on_in_one_way() -> None:
    """The first word on it counts."""
    nap, other = op("Sleep", "a", name="5s"), op("Sleep", "a", name="9s")
    for ops, expected in (
        ([nap, other], {"ended": [2], "added": ["sleep a wait +5000"]}),
        ([nap, step_error("a")], {"ended": [2], "added": ["sleep a wait +5000"]}),
        ([step_error("a"), nap], {"retried": [(2, 1_000, 1)]}),
    ):
        assert told(plan_of(a_run(items=[called(2, "a")]), reply(*ops), 2)) == expected


def test_how_many_steps_a_planned_step_knows_of() -> None:
    """What calls say as `stack.current`: for parallel steps the reference server says 0."""
    alone = plan_of(a_run("xy"), reply(op("StepPlanned", "a")))
    parallel = plan_of(a_run("xy"), reply(op("StepPlanned", "a"), op("StepPlanned", "b")))
    assert [item.data for item in (*alone.added, *parallel.added)] == [b"2", b"0", b"0"]


def test_plans_repeated_in_a_race_add_nothing() -> None:
    """A discovery between the ends of racing steps plans the unfinished ones again."""
    run = a_run("a", [discovery(4, stack=1), called(2, "b", "race"), called(3, "c", "race")])
    assert told(plan_of(run, reply(in_set("b"), in_set("c")), 4)) == {"ended": [4]}


def test_a_stale_plan_of_steps_that_have_finished_asks_once_more_only_if_nothing_else_does() -> None:
    queued = discovery(5, stack=3, in_flight=False)
    run = a_run("abc", [discovery(4, stack=1), queued])
    assert told(plan_of(run, reply(in_set("b"), in_set("c")), 4)) == {"ended": [4]}
    alone = a_run("abc", [discovery(4, stack=1)])
    assert told(plan_of(alone, reply(in_set("b"), in_set("c")), 4)) == {
        "ended": [4],
        "added": ["discovery@3"],
    }


def test_at_most_one_discovery_is_queued_for_a_state_of_the_stack() -> None:
    def follows(other: Item) -> bool:
        run = a_run("", [called(2, "a", "race"), other])
        return "added" in told(plan_of(run, reply(run_step("a")), 2))

    assert not follows(discovery(3, stack=1, in_flight=False))
    assert follows(discovery(3, stack=0, in_flight=False))
    assert follows(discovery(3, stack=1, in_flight=True))
    assert follows(discovery(3, stack=1, in_flight=False, attempt=1))


class TestStepErrors:
    def test_attempts_run_out(self) -> None:
        plan = plan_of(a_run(items=[discovery(attempt=3)]), reply(step_error("a")), attempts=4)
        assert told(plan) == {"saved": {"a": FAILED_MEMO}, "ended": [1], "added": ["discovery@1"]}
        plan = plan_of(a_run(items=[discovery(attempt=2)]), reply(step_error("a")), attempts=4)
        assert told(plan) == {"retried": [(1, 1_000, 3)]}

    def test_the_header_decides(self) -> None:
        assert "saved" in told(plan_of(a_run(), reply(step_error("a"), no_retry=True)))
        assert "retried" in told(plan_of(a_run(), reply(step_error("a"), no_retry=False)))
        marked = {**step_error("a"), "error": {"name": "Boom", "message": "no", "noRetry": True}}
        assert "retried" in told(plan_of(a_run(), reply(marked)))

    def test_retry_after(self) -> None:
        plan = plan_of(a_run(), reply(step_error("a"), retry_at=NOW + 600_000))
        assert told(plan) == {"retried": [(1, 600_000, 1)]}

    def test_its_error_stands_in_history(self) -> None:
        ((kind, body),) = plan_of(a_run(), reply(step_error("a"))).history
        note = json.loads(body)
        assert (kind, note["error"], note["retry"]) == (
            "call",
            {"name": "Boom", "message": "no"},
            NOW + 1_000,
        )

    def test_attempts_begin_anew_after_a_step_of_the_same_answer(self) -> None:
        plan = plan_of(a_run(items=[discovery(attempt=3)]), reply(run_step("a"), step_error("b")), attempts=4)
        assert told(plan) == {"saved": {"a": {"data": None}}, "retried": [(1, 1_000, 1)]}


class TestTheWordComplete:
    """SDKs speak of the function itself by the hash of `complete`, and a user may call a step so."""

    def function_error(self, kind: str) -> dict[str, Any]:
        return {"op": kind, "id": COMPLETE, "error": {"name": "Boom", "message": "no"}}

    def test_a_function_error_in_the_ops(self) -> None:
        plan = plan_of(a_run(), reply(run_step("a"), self.function_error("StepFailed")))
        assert told(plan) == {"saved": {"a": {"data": None}}, "outcome": "FAILED Boom"}
        assert told(plan_of(a_run(), reply(self.function_error("StepError")))) == {"retried": [(1, 1_000, 1)]}
        last = plan_of(a_run(items=[discovery(attempt=3)]), reply(self.function_error("StepError")))
        assert told(last) == {"outcome": "FAILED Boom"}

    @pytest.mark.parametrize("kind", ["StepRun", "StepFailed"])
    def test_a_step_of_that_name_is_a_step(self, kind: str) -> None:
        step = {**self.function_error(kind), "displayName": "complete", "name": "complete", "data": 1}
        plan = plan_of(a_run(), reply(step))
        assert plan.outcome is None
        assert len(plan.saved) == 1


BAD_OPTIONS = {
    "a sleep that is no time": (op("Sleep", "a", name="soon"), "Error", "neither a duration"),
    "a sleep of more than a year": (
        op("Sleep", "a", name="9000h"),
        "InngestErrTimeoutTooLong",
        'The sleep "9000h" ends more than one year in the future; sleeps may last at most one year.',
    ),
    "a wait without an event": (op("WaitForEvent", "a", displayName="", opts={}), "Error", "event name"),
    "a wait of more than a year": (
        op("WaitForEvent", "a", name="x", opts={"timeout": "9000h"}),
        "InngestErrTimeoutTooLong",
        "more than one year",
    ),
    "a wait whose expression does not compile": (
        op("WaitForEvent", "a", name="x", opts={"timeout": "1h", "if": "event.("}),
        "InvalidExpression",
        "Wait for event If expression failed to compile",
    ),
    "a signal without a name": (op("WaitForSignal", "a", displayName="", opts={}), "Error", "signal name"),
    "a signal with a bad timeout": (
        op("WaitForSignal", "a", opts={"signal": "s", "timeout": "later"}),
        "Error",
        "neither a duration nor a time",
    ),
    "an invoke with data that is no object": (
        op("InvokeFunction", "a", opts={"function_id": "app-known", "payload": {"data": [1]}}),
        "Error",
        "must be a JSON object",
    ),
}


@pytest.mark.parametrize(("sent", "name", "text"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_options_that_cannot_be_used_fail_the_run(sent: dict[str, Any], name: str, text: str) -> None:
    plan = plan_of(a_run(), reply(sent))
    assert plan.outcome is not None
    assert plan.outcome.error is not None
    assert plan.outcome.output is not None
    assert plan.outcome.error.name == name
    assert text in plan.outcome.error.message
    assert json.loads(plan.outcome.output)["error"]["error"] == f"{name}: {plan.outcome.error.message}"


class TestOptions:
    def test_go_has_the_time_of_a_sleep_in_its_options(self) -> None:
        plan = plan_of(a_run(), reply(op("Sleep", "a", name="my nap", opts={"duration": "5s"})))
        assert told(plan)["added"] == ["sleep a +5000"]

    def test_a_sleep_that_is_over_is_due_at_once(self) -> None:
        assert told(plan_of(a_run(), reply(op("Sleep", "a", name="2001-01-01T00:00:00Z"))))["added"] == [
            "sleep a"
        ]

    def test_a_wait_without_a_timeout_is_over_at_once(self) -> None:
        assert told(plan_of(a_run(), reply(op("WaitForEvent", "a", name="x", opts={}))))["added"] == [
            "wait a"
        ]

    def test_a_wait_is_kept_under_its_equality(self) -> None:
        text = "event.data.user == async.data.user && async.data.ok"
        plan = plan_of(a_run(), reply(op("WaitForEvent", "a", name="x", opts={"timeout": "1h", "if": text})))
        wait = plan.added[0].wait
        assert wait is not None
        assert (wait.kind, wait.event, wait.path, wait.expression) == (WaitKind.EVENT, "x", "data.user", text)
        assert "u1" in wait.value

    def test_a_wait_without_equality(self) -> None:
        plan = plan_of(
            a_run(),
            reply(op("WaitForEvent", "a", name="x", opts={"timeout": "1h", "if": "async.data.n > 3"})),
        )
        wait = plan.added[0].wait
        assert wait is not None
        assert (wait.path, wait.value) == ("", "")

    def test_an_invoke_waits_for_the_end_of_what_it_starts(self) -> None:
        options = {
            "function_id": "app-known",
            "payload": {"data": {"n": 1}, "user": {"u": 2}, "v": "3", "meta": {"m": 4}},
        }
        plan = plan_of(a_run(), reply(op("InvokeFunction", "a", opts=options)))
        (item,) = plan.added
        wait, invocation = item.wait, item.invocation
        assert wait is not None
        assert invocation is not None
        assert (wait.kind, wait.event, wait.path) == (
            WaitKind.INVOKE,
            "inngest/function.finished",
            "data.correlation_id",
        )
        assert "RUN.a" in wait.value
        assert (invocation.data, invocation.user, invocation.v, invocation.meta) == (
            b'{"n": 1}',
            b'{"u": 2}',
            "3",
            b'{"m": 4}',
        )
        assert item.due == invocation.expires_at == NOW + 365 * 24 * 3_600_000

    def test_known_and_pending_steps_are_not_started_again(self) -> None:
        sent = [
            op("Sleep", "a", name="5s"),
            op("WaitForEvent", "b", name="x", opts={"timeout": "1h"}),
            op("WaitForSignal", "c", opts={"signal": "s", "timeout": "1h"}),
            op("InvokeFunction", "d", opts={"function_id": "app-known"}),
            op("Gateway", "e", opts={"url": "http://x"}),
            op("StepPlanned", "f"),
        ]
        done = a_run("abcdef", [discovery(), sleeping(2, "z", "wait")])
        assert told(plan_of(done, reply(*sent))) == {"ended": [1]}
        under_way = a_run(
            items=[discovery(), *(sleeping(n, name, "wait") for n, name in enumerate("abcdef", 2))]
        )
        assert told(plan_of(under_way, reply(*sent))) == {"ended": [1]}


class TestSignals:
    def wait(self, step: str = "a", **opts: Any) -> dict[str, Any]:
        return op("WaitForSignal", step, opts={"signal": "go", "timeout": "1h", **opts})

    def test_a_conflict_fails_the_run(self) -> None:
        plan = plan_of(a_run(), reply(self.wait(conflict="fail")), signals={"go": ("OTHER", 3)})
        assert told(plan) == {"outcome": "FAILED Error"}
        assert plan.outcome is not None
        assert json.loads(plan.outcome.output or b"") == {
            "error": {
                "error": "Error: Signal conflict; signal wait already exists for another run",
                "name": "Error",
                "message": "Signal conflict; signal wait already exists for another run",
            }
        }

    def test_replacing_takes_it_from_the_other(self) -> None:
        plan = plan_of(a_run(), reply(self.wait(conflict="replace")), signals={"go": ("OTHER", 3)})
        assert told(plan) == {"freed": [("OTHER", 3)], "ended": [1], "added": ["wait a +3600000"]}

    def test_nobody_waits(self) -> None:
        assert told(plan_of(a_run(), reply(self.wait()), signals={"go": None}))["added"] == [
            "wait a +3600000"
        ]

    def test_one_answer_cannot_wait_twice_for_one_signal(self) -> None:
        plan = plan_of(a_run(), reply(self.wait("a"), self.wait("b", conflict="replace")))
        assert told(plan)["outcome"] == "FAILED Error"


class TestFunctionErrors:
    def error(self, **fields: Any) -> FunctionError:
        return FunctionError(
            b'{"message":"no"}', ErrorInfo("invalid status code: 500", "Boom", "no"), **fields
        )

    @pytest.mark.parametrize("item", [discovery(), called(1, "a", "wait")])
    def test_it_is_tried_again(self, item: Item) -> None:
        plan = plan_of(a_run(items=[item]), self.error())
        assert told(plan) == {"retried": [(1, 1_000, 1)]}

    def test_no_retry(self) -> None:
        assert told(plan_of(a_run(), self.error(no_retry=True))) == {"outcome": "FAILED Boom"}

    def test_attempts_run_out(self) -> None:
        assert told(plan_of(a_run(items=[discovery(attempt=2)]), self.error())) == {
            "retried": [(1, 1_000, 3)]
        }
        plan = plan_of(a_run(items=[discovery(attempt=3)]), self.error())
        assert told(plan) == {"outcome": "FAILED Boom"}
        assert plan.outcome is not None
        assert plan.outcome.output == b'{"message":"no"}'

    def test_one_attempt_only(self) -> None:
        assert told(plan_of(a_run(), self.error(), attempts=1)) == {"outcome": "FAILED Boom"}

    def test_retry_after(self) -> None:
        assert told(plan_of(a_run(), self.error(retry_at=NOW + 7_000))) == {"retried": [(1, 7_000, 1)]}

    def test_backoff_without_either(self) -> None:
        plan = planning.plan_reply(a_run(), discovery(), self.error(), 500, context(settings=Settings()))
        assert told(plan) == {"retried": [(1, 15_000, 1)]}

    def test_a_retry_leaves_the_count_of_idle_answers(self) -> None:
        assert plan_of(a_run(idle=5), self.error()).idle_replies is None

    def test_history_tells_of_each(self) -> None:
        tried, failed = plan_of(a_run(), self.error()), plan_of(a_run(), self.error(no_retry=True))
        notes = [json.loads(plan.history[0][1]) for plan in (tried, failed)]
        assert [note["error"] for note in notes] == [{"message": "no"}] * 2
        assert [(note.get("retry"), note.get("end")) for note in notes] == [(NOW + 1_000, None), (None, True)]


def test_a_function_that_returned() -> None:
    plan = plan_of(a_run("a", [discovery(), sleeping(2, "b", "race")]), Finished(b'{"ok":1}'))
    assert plan.outcome is not None
    assert (plan.outcome.status, plan.outcome.output) == (RunStatus.COMPLETED, b'{"ok":1}')
    assert plan.outcome.error is None


class TestProgress:
    """A run whose answers bring nothing new ends with a reason instead of being called for ever."""

    def test_an_empty_answer_asks_again(self) -> None:
        plan = plan_of(a_run(idle=3), reply())
        assert told(plan) == {"ended": [1], "added": ["discovery@0"]}
        assert plan.idle_replies == 4

    def test_the_tenth_in_a_row_fails_the_run(self) -> None:
        plan = plan_of(a_run(idle=9), reply())
        assert told(plan)["outcome"] == "FAILED NoProgress"
        assert plan.outcome is not None
        assert plan.outcome.error is not None
        assert "10 times in a row" in plan.outcome.error.message
        assert told(plan_of(a_run(idle=8), reply())) == {"ended": [1], "added": ["discovery@0"]}

    def test_a_step_begins_the_count_anew(self) -> None:
        assert plan_of(a_run(idle=9), reply(run_step("a"))).idle_replies == 0
        assert planning.plan_timer(a_run(idle=9), sleeping(1, "a"), NOW, SETTINGS).idle_replies == 0

    def test_a_step_that_was_known_does_not(self) -> None:
        plan = plan_of(a_run("a", idle=9), reply(run_step("a")))
        assert told(plan)["outcome"] == "FAILED NoProgress"
        posted = planning.plan_checkpoint(
            a_run("a", idle=9), discovery(), reply(run_step("a")).ops, context()
        )
        assert posted.idle_replies is None

    def test_a_request_for_discovery_alone_counts(self) -> None:
        plan = plan_of(a_run(idle=3), reply(op("DiscoveryRequest")))
        assert plan.idle_replies == 4
        assert told(plan) == {"ended": [1], "added": ["discovery@0"]}
        busy = a_run(items=[discovery(), sleeping(2, "b")], idle=9)
        assert told(plan_of(busy, reply(op("DiscoveryRequest"))))["outcome"] == "FAILED NoProgress"

    def test_a_step_planned_for_ever_ends(self) -> None:
        """Discovery plans it, its call does not run it, and so on."""
        run = a_run()
        answers = 0
        while True:
            item = next(iter(run.items.values()))
            plan = plan_of(run, reply(op("StepPlanned", "a")), item.n)
            answers += 1
            if plan.outcome is not None:
                break
            assert answers < 100
            (new,) = plan.added
            n = item.n + 1
            run.items = {n: Item(n, new.kind, new.step_id, "", NOW, NOW, in_flight=True, data=new.data)}
            run.idle_replies = run.idle_replies if plan.idle_replies is None else plan.idle_replies
        assert told(plan)["outcome"] == "FAILED NoProgress"
        assert answers <= 2 * SETTINGS.idle_replies

    def test_an_empty_answer_while_something_is_pending_waits_for_it(self) -> None:
        run = a_run(items=[discovery(), sleeping(2, "b", "wait")], idle=9)
        assert told(plan_of(run, reply())) == {"ended": [1]}

    def test_nothing_is_said_to_be_left_only_if_nothing_is(self) -> None:
        run = a_run(items=[discovery(), sleeping(2, "b")])
        assert told(plan_of(run, reply(op("None")))) == {"ended": [1]}


class TestLimits:
    def test_steps(self) -> None:
        few = Settings(steps_per_run=2, retry_interval_ms=1_000)
        assert plan_of(a_run("a"), reply(run_step("b")), settings=few).outcome is None
        plan = plan_of(a_run("ab"), reply(run_step("c")), settings=few)
        assert told(plan)["outcome"] == "FAILED InngestErrFunctionOverflowed"
        assert plan.outcome is not None
        assert plan.outcome.error is not None
        assert plan.outcome.error.message == "The function run exceeded the step limit of 2 steps."

    def test_state(self) -> None:
        small = Settings(state_bytes=20, retry_interval_ms=1_000)
        memo = len(b'{"data":12345678}')
        assert plan_of(a_run(), reply(run_step("b", 12345678)), settings=small).outcome is None
        assert memo + 4 > 20
        plan = plan_of(a_run("a"), reply(run_step("b", 12345678)), settings=small)
        assert told(plan)["outcome"] == "FAILED InngestErrStateOverflowed"
        assert plan.outcome is not None
        assert plan.outcome.error is not None
        assert plan.outcome.error.message == "The function run exceeded the state size limit of 20 bytes."

    def test_what_is_recorded_outside_of_calls_counts_too(self) -> None:
        few = Settings(steps_per_run=2)
        run = a_run("ab", [sleeping(1, "c"), waiting(2, "d"), requesting(3, "e")], [a_wait(2)])
        plans = [
            planning.plan_timer(run, run.items[1], NOW, few),
            planning.plan_match(run, run.waits[2], b"{}", "e2", NOW, few),
            planning.plan_request_answer(run, run.items[3], b"null", "Gateway", NOW, few, False),
        ]
        assert [told(plan)["outcome"] for plan in plans] == ["FAILED InngestErrFunctionOverflowed"] * 3
        assert planning.plan_timer(run, run.items[1], NOW, Settings(steps_per_run=3)).outcome is None

    def test_checkpoints(self) -> None:
        few = Settings(steps_per_run=1)
        posted = reply(run_step("a"), run_step("b")).ops
        plan = planning.plan_checkpoint(a_run(), discovery(), posted, context(settings=few))
        assert told(plan)["outcome"] == "FAILED InngestErrFunctionOverflowed"

    def test_a_run_that_completes_with_its_last_steps_is_complete(self) -> None:
        few = Settings(steps_per_run=1)
        plan = plan_of(a_run(), reply(run_step("a"), run_step("b"), op("RunComplete", "x")), settings=few)
        assert told(plan)["outcome"] == "COMPLETED"


class TestTimers:
    @pytest.mark.parametrize(
        ("item", "kind", "memo", "how"),
        [
            (sleeping(1, "a"), None, None, "slept"),
            (waiting(1, "a"), WaitKind.EVENT, None, "timeout"),
            (waiting(1, "a"), WaitKind.SIGNAL, None, "timeout"),
            (
                waiting(1, "a"),
                WaitKind.INVOKE,
                {
                    "error": {
                        "error": "InngestInvokeTimeoutError: Timed out waiting for invoked function to complete",
                        "name": "InngestInvokeTimeoutError",
                        "message": "Timed out waiting for invoked function to complete",
                    }
                },
                "timeout",
            ),
        ],
    )
    def test_a_lone_one(self, item: Item, kind: WaitKind | None, memo: Any, how: str) -> None:
        run = a_run(items=[item], waits=[] if kind is None else [a_wait(1, kind)])
        plan = planning.plan_timer(run, item, NOW, SETTINGS)
        assert told(plan) == {"saved": {"a": memo}, "ended": [1], "added": ["discovery@1"]}
        (entry,) = plan.history
        assert entry[0] == "resumed"
        assert json.loads(entry[1])["how"] == how

    def test_a_wait_that_lost_its_signal_times_out_as_a_wait(self) -> None:
        plan = planning.plan_timer(a_run(items=[waiting(1, "a")]), waiting(1, "a"), NOW, SETTINGS)
        assert plan.saved[0].op == "WaitForSignal"
        assert json.loads(plan.history[0][1])["how"] == "timeout"

    @pytest.mark.parametrize(("group", "follows"), [("wait", False), ("race", True), ("", True)])
    def test_one_of_several(self, group: str, follows: bool) -> None:
        run = a_run(items=[sleeping(1, "a", group), sleeping(2, "b", group or "wait")])
        plan = planning.plan_timer(run, run.items[1], NOW, SETTINGS)
        assert (told(plan).get("added") == ["discovery@1"]) is follows

    def test_a_set_that_timers_empty_is_followed_by_one_discovery(self) -> None:
        run = a_run(items=[sleeping(2, "b", "wait")], steps="a")
        plan = planning.plan_timer(run, run.items[2], NOW, SETTINGS)
        assert told(plan) == {"saved": {"b": None}, "ended": [2], "added": ["discovery@2"]}


class TestMatches:
    @pytest.mark.parametrize(
        ("kind", "failed", "op_name", "how"),
        [
            (WaitKind.EVENT, False, "WaitForEvent", "matched"),
            (WaitKind.SIGNAL, False, "WaitForSignal", "signal"),
            (WaitKind.INVOKE, False, "InvokeFunction", "finished"),
            (WaitKind.INVOKE, True, "InvokeFunction", "failed"),
        ],
    )
    def test_each_kind(self, kind: WaitKind, failed: bool, op_name: str, how: str) -> None:
        run = a_run(items=[waiting(1, "a")], waits=[a_wait(1, kind)])
        plan = planning.plan_match(run, run.waits[1], b'{"data":1}', "e2", NOW, SETTINGS, failed)
        assert told(plan) == {"saved": {"a": {"data": 1}}, "ended": [1], "added": ["discovery@1"]}
        assert plan.saved[0].op == op_name
        note = json.loads(plan.history[0][1])
        assert (note["how"], note["event"]) == (how, "e2")

    def test_in_a_set(self) -> None:
        run = a_run(items=[waiting(1, "a", "wait"), called(2, "b", "wait")], waits=[a_wait(1)])
        plan = planning.plan_match(run, run.waits[1], b"{}", "e2", NOW, SETTINGS)
        assert told(plan) == {"saved": {"a": {}}, "ended": [1]}


class TestRequests:
    def test_an_answer(self) -> None:
        run = a_run(items=[requesting(1, "a")])
        plan = planning.plan_request_answer(run, run.items[1], b'{"data":1}', "Gateway", NOW, SETTINGS, False)
        assert told(plan) == {"saved": {"a": {"data": 1}}, "ended": [1], "added": ["discovery@1"]}
        assert json.loads(plan.history[0][1])["how"] == "request"

    def test_a_failure_in_a_set_does_not_add_calls(self) -> None:
        run = a_run(items=[requesting(1, "a", "wait"), sleeping(2, "b", "wait")])
        memo = b'{"error":{"name":"GatewayError","message":"no"}}'
        plan = planning.plan_request_answer(run, run.items[1], memo, "Gateway", NOW, SETTINGS, True)
        assert told(plan) == {"saved": {"a": json.loads(memo)}, "ended": [1]}
        assert json.loads(plan.history[0][1])["how"] == "failed"

    def test_a_retry(self) -> None:
        run = a_run(items=[requesting(1, "a", attempt=1)])
        plan = planning.plan_request_retry(run, run.items[1], b'{"message":"no"}', context())
        assert told(plan) == {"retried": [(1, 1_000, 2)]}
        ((kind, body),) = plan.history
        assert kind == "request"
        assert json.loads(body)["error"] == {"message": "no"}


class TestCheckpoints:
    def test_steps_are_recorded_and_nothing_else_happens(self) -> None:
        run = a_run("a", [discovery(attempt=2)])
        plan = planning.plan_checkpoint(
            run, run.items[1], reply(run_step("b", 1), op("Step", "c", data=2)).ops, context()
        )
        assert told(plan) == {"saved": {"b": {"data": 1}, "c": 2}}
        assert plan.reset_attempt == 1
        assert [kind for kind, _ in plan.history] == ["checkpoint"]

    def test_a_known_step_changes_nothing_and_resets_no_attempt(self) -> None:
        run = a_run("a", [discovery(attempt=2)])
        plan = planning.plan_checkpoint(run, run.items[1], reply(run_step("a", 9)).ops, context())
        assert told(plan) == {}
        assert plan.reset_attempt is None

    def test_a_plan_is_for_the_trace_only(self) -> None:
        run = a_run()
        plan = planning.plan_checkpoint(run, run.items[1], reply(op("StepPlanned", "a")).ops, context())
        assert told(plan) == {}
        assert json.loads(plan.history[0][1])["ops"][0]["planned"] is True

    def test_no_ops_leave_no_entry(self) -> None:
        assert planning.plan_checkpoint(a_run(), discovery(), [], context()).history == []

    @pytest.mark.parametrize(
        ("kind", "taken"),
        [
            ("StepRun", True),
            ("Step", True),
            ("StepPlanned", True),
            ("Sleep", False),
            ("WaitForEvent", False),
            ("InvokeFunction", False),
            ("WaitForSignal", False),
            ("Gateway", False),
            ("AIGateway", False),
            ("StepError", False),
            ("StepFailed", False),
            ("RunComplete", False),
            ("SyncRunComplete", False),
            ("DeferAdd", False),
            ("DeferAbort", False),
            ("DiscoveryRequest", False),
            ("None", False),
        ],
    )
    def test_what_may_be_posted(self, kind: str, taken: bool) -> None:
        (posted,) = reply({**op(kind, "a"), "error": {"message": "no"}}).ops
        assert planning.checkpointable(posted) is taken


def test_cancel() -> None:
    plan = planning.plan_cancel(a_run("a"), NOW)
    assert told(plan) == {"outcome": "CANCELLED"}
    assert plan.outcome is not None
    assert plan.outcome.output is None


def test_crash() -> None:
    plan = planning.plan_crash(a_run("a"), NOW, "because")
    assert told(plan) == {"outcome": "FAILED PerdureError"}
    assert plan.outcome is not None
    assert plan.outcome.error is not None
    assert plan.outcome.error.message == "because"


def test_planning_changes_nothing() -> None:
    """A plan that is dropped leaves the run as it was."""
    run = a_run("a", [discovery(), waiting(2, "w", "wait")], [a_wait(2)])
    before = repr(run)
    plan_of(run, reply(run_step("b"), op("StepPlanned", "c"), step_error("d")))
    plan_of(run, FunctionError(b"{}", ErrorInfo("x")))
    planning.plan_timer(run, run.items[2], NOW, SETTINGS)
    planning.plan_match(run, run.waits[2], b"{}", "e", NOW, SETTINGS)
    planning.plan_checkpoint(run, run.items[1], reply(run_step("b")).ops, context())
    assert repr(run) == before

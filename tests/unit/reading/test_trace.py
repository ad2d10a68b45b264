"""Traces of runs in every state, from the history that the engine writes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perdure.core.history import CopiedNote, CutNote, InvokedNote, OpNote, RequestNote
from perdure.core.operations import COMPLETE
from perdure.protocol.ids import hash_step_id
from perdure.reading.outputs import OutputName, read_output_name
from perdure.reading.port import WaitRecord, WholeRun
from perdure.reading.spans import InvokeInfo, Span
from perdure.reading.timeline import read_timeline
from perdure.reading.trace import current_trace, older_trace
from tests.unit.reading.histories import RUN, T0, History, op

ERROR = b'{"message":"no","name":"E"}'


def shape(span: Span) -> Any:
    """Names and statuses of a tree."""
    line = f"{span.name} {span.status}"
    return (line, [shape(child) for child in span.children]) if span.children else line


def both(whole: WholeRun) -> tuple[list[Any], list[Any]]:
    """What stands below the root, in both renderings."""
    current, older = current_trace(whole), older_trace(whole, "app-fn")
    assert (current.name, older.name) == ("Run", "app-fn")
    assert current.status == older.status == whole.run.status
    return [shape(child) for child in current.children], [shape(child) for child in older.children]


def child(whole: WholeRun, name: str) -> Span:
    return next(span for span in current_trace(whole).children if span.name == name)


def output(span: Span) -> OutputName:
    assert span.output_id is not None
    return read_output_name(span.output_id)


class TestBeforeTheEnd:
    def test_queued(self):
        whole = History().item("discovery").run("QUEUED", started=None)
        assert both(whole) == ([], [])
        assert current_trace(whole).started is None

    def test_first_call_under_way(self):
        whole = History().item("discovery", in_flight=True).run()
        execution = [("Execution RUNNING", ["Attempt 0 RUNNING"])]
        assert both(whole) == (execution, [("execute RUNNING", ["Attempt 0 RUNNING"])])

    def test_deadlines_and_waits_that_cancel_are_no_steps(self):
        history = History().item("discovery").item("deadline", n=3)
        assert both(history.run("QUEUED", started=None)) == ([], [])
        history = History().call(20, op("Sleep", "nap", until=T0 + 500)).item("deadline", n=3)
        whole = history.item("sleep", n=5, step="nap").run()
        cancel = WaitRecord(RUN, 4, "cancel", "test/stop", "", "", None, 1, T0 + 999)
        whole = msgspec.structs.replace(whole, waits=[cancel])
        assert both(whole) == (["nap WAITING"], [("nap RUNNING", ["Attempt 0 RUNNING"])])

    def test_between_calls(self):
        whole = History().call(20, op("StepRun", "a")).step("a", "StepRun", 20).item("discovery", n=4).run()
        assert both(whole) == (["a COMPLETED"], ["a COMPLETED", "Queued step QUEUED"])

    def test_a_call_waits_to_be_tried_again(self):
        whole = History().call(20, status=500, error=ERROR, retry=T0 + 100).item("discovery", attempt=1).run()
        tries = ["Attempt 0 FAILED", "Attempt 1 QUEUED"]
        assert both(whole) == ([("Execution RUNNING", tries)], [("execute RUNNING", tries)])

    def test_a_call_that_failed_once_and_went_on(self):
        history = History().call(20, status=500, error=ERROR, retry=T0 + 100)
        history.call(120, op("Sleep", "nap", until=T0 + 500), attempt=1).item("sleep", n=5, step="nap")
        tries = ["Attempt 0 FAILED", "Attempt 1 COMPLETED"]
        current, older = both(history.run())
        assert current == [("Execution COMPLETED", tries), "nap WAITING"]
        assert older == [("execute COMPLETED", tries), ("nap RUNNING", ["Attempt 0 RUNNING"])]

    def test_a_step_that_a_discovery_ran_waits_to_be_tried_again(self):
        history = History().call(20, op("StepError", "a"), error=ERROR, retry=T0 + 100)
        tries = ["Attempt 0 FAILED", "Attempt 1 QUEUED"]
        expected = [("a RUNNING", tries)]
        assert both(history.item("discovery", attempt=1).run()) == (expected, expected)

    def test_parallel_steps(self):
        history = History().call(20, op("StepPlanned", "a"), op("StepPlanned", "b"), op("StepPlanned", "c"))
        history.item("step", n=3, step="a", in_flight=True).item("step", n=4, step="b")
        history.call(50, op("StepRun", "c"), item=5).step("c", "StepRun", 50)
        expected = ["a RUNNING", "b QUEUED", "c COMPLETED"]
        assert both(history.run()) == (expected, expected)

    @pytest.mark.parametrize(
        ("code", "more", "current", "older"),
        [
            ("Sleep", {}, "WAITING", ("x RUNNING", ["Attempt 0 RUNNING"])),
            ("WaitForEvent", {"event": "e"}, "WAITING", "x WAITING"),
            ("WaitForSignal", {"event": "s"}, "WAITING", "x WAITING"),
            ("InvokeFunction", {"function": "f"}, "RUNNING", ("x RUNNING", ["Attempt 0 RUNNING"])),
            ("Gateway", {}, "RUNNING", "x RUNNING"),
        ],
    )
    def test_waits(self, code: str, more: dict[str, Any], current: str, older: Any):
        whole = History().call(20, op(code, "x", until=T0 + 500, **more)).item("wait", n=5, step="x").run()
        assert both(whole) == ([f"x {current}"], [older])
        span = child(whole, "x")
        assert (span.queued, span.started, span.ended, span.output_id) == (T0 + 20, T0 + 20, None, None)


class TestWaits:
    def test_an_expression_has_its_values_filled_in(self):
        wait = op("WaitForEvent", "w", until=T0 + 9, event="e", expression="event.data.id == async.data.id")
        info = child(History().call(20, wait).run(), "w").info
        assert info is not None
        assert info.expression == '"7" == async.data.id'  # type: ignore[union-attr]

    def test_invoke_from_its_start(self):
        history = History().call(20, op("InvokeFunction", "i", until=T0 + 999, function="app-other"))
        history.add(20, InvokedNote(5, hash_step_id("i"), "01EVENT", "01RUN"))
        info = child(history.run(), "i").info
        assert info == InvokeInfo("01EVENT", "app-other", T0 + 999, None, "01RUN", None)
        ended = history.step("i", "InvokeFunction", 60).resumed(60, "i", "finished", event="01BACK")
        span = child(ended.run(), "i")
        assert span.info == InvokeInfo("01EVENT", "app-other", T0 + 999, "01BACK", "01RUN", False)
        assert (span.status, span.ended, output(span).kind) == ("COMPLETED", T0 + 60, "step")

    @pytest.mark.parametrize(
        ("code", "how", "status", "timed_out", "has_output"),
        [
            ("WaitForEvent", "matched", "COMPLETED", False, True),
            ("WaitForEvent", "timeout", "COMPLETED", True, False),
            ("WaitForSignal", "signal", "COMPLETED", False, True),
            ("WaitForSignal", "timeout", "COMPLETED", True, False),
            ("InvokeFunction", "failed", "FAILED", False, True),
            ("InvokeFunction", "timeout", "FAILED", True, True),
        ],
    )
    def test_ends(self, code: str, how: str, status: str, timed_out: bool, has_output: bool):
        history = History().call(20, op(code, "x", until=T0 + 50, event="e", function="f"))
        span = child(history.resumed(50, "x", how).run(), "x")
        assert span.status == status
        assert span.info.timed_out is timed_out  # type: ignore[union-attr]
        assert (span.output_id is not None) == has_output

    def test_a_sleep_leaves_no_output(self):
        span = child(History().call(20, op("Sleep", "x", until=T0 + 50)).resumed(51, "x", "slept").run(), "x")
        assert (span.status, span.output_id, span.duration) == ("COMPLETED", None, 31)


class TestRequests:
    def test_tried_again(self):
        step = hash_step_id("f")
        history = History().call(20, op("Gateway", "f"))
        history.add(30, RequestNote(5, step, 0, retry=T0 + 1000)).add(
            1010, RequestNote(5, step, 1, retry=T0 + 2000)
        )
        waiting = history.item("request", n=5, step="f", attempt=2).run()
        tries = ["Attempt 0 FAILED", "Attempt 1 FAILED", "Attempt 2 QUEUED"]
        assert both(waiting)[0] == [("f RUNNING", tries)]
        done = History().call(20, op("Gateway", "f")).add(30, RequestNote(5, step, 0, retry=T0 + 1000))
        whole = done.resumed(1020, "f", "request").run()
        span = child(whole, "f")
        assert shape(span) == ("f COMPLETED", ["Attempt 0 FAILED", "Attempt 1 COMPLETED"])
        assert (span.attempts, span.step_op) == (1, "AI_GATEWAY")
        assert [child.started for child in span.children] == [T0 + 20, T0 + 1000]


class TestCheckpoints:
    def test_have_their_own_times(self):
        history = History().checkpoint(
            100, op("StepRun", "a", at=T0 + 40.0, took=30.0), op("StepPlanned", "b", planned=True)
        )
        span = child(history.run(), "a")
        assert (span.started, span.ended, span.duration, span.code) == (T0 + 40, T0 + 70, 30, None)
        assert both(history.run()) == (["a COMPLETED"], ["a COMPLETED"])

    def test_that_the_apps_clock_cannot_know(self):
        """A clock that is behind would put the step before its run."""
        span = child(History().checkpoint(100, op("StepRun", "a", at=T0 - 60_000.0, took=30.0)).run(), "a")
        assert (span.started, span.ended) == (T0 + 70, T0 + 100)

    def test_after_failed_tries(self):
        history = History().call(20, op("StepError", "a"), error=ERROR, retry=T0 + 60)
        history.checkpoint(80, op("StepRun", "a", at=T0 + 70.0, took=5.0))
        expected = [("a COMPLETED", ["Attempt 0 FAILED", "Attempt 1 COMPLETED"])]
        assert both(history.run()) == (expected, expected)


class TestEnds:
    def test_completed_after_failed_calls(self):
        history = History().call(20, status=500, error=ERROR, retry=T0 + 100)
        history.call(120, status=200, attempt=1, end=True).ended(120, "COMPLETED")
        tries = ["Attempt 0 FAILED", "Attempt 1 COMPLETED"]
        current, older = both(history.run("COMPLETED", ended=120, output=b"1"))
        steps = ["executor.nonstep FAILED", "executor.nonstep COMPLETED"]
        assert current == [("Finalization COMPLETED", tries), *steps]
        assert older == [("function success COMPLETED", tries)]

    def test_by_run_complete(self):
        last = op("RunComplete", "complete")
        assert last.id == COMPLETE
        history = History().call(20, op("StepRun", "a"), last, end=True).step("a", "StepRun", 20)
        whole = history.ended(20, "COMPLETED").run("COMPLETED", ended=20, output=b"1")
        current, older = both(whole)
        assert current == ["a COMPLETED", "Finalization COMPLETED", "executor.nonstep COMPLETED"]
        assert older == ["a COMPLETED", "function success COMPLETED"]
        assert output(child(whole, "executor.nonstep")).kind == "end"

    def test_failed_by_an_operation_about_the_function(self):
        history = (
            History().call(20, OpNote("StepFailed", COMPLETE, COMPLETE), end=True).ended(20, "FAILED", "no")
        )
        current, older = both(history.run("FAILED", ended=20, output=ERROR))
        assert current == [("Finalization FAILED", ["Attempt 0 FAILED"]), "executor.nonstep FAILED"]
        assert older == [("function error FAILED", ["Attempt 0 FAILED"])]

    def test_a_step_that_is_called_complete_is_one(self):
        history = (
            History().call(20, op("StepFailed", "complete")).step("complete", "StepFailed", 20, failed=True)
        )
        assert both(history.item("discovery", n=4).run())[0] == ["complete FAILED"]

    def test_failed_by_the_server(self):
        history = (
            History().call(20, op("StepRun", "a"), op("WaitForEvent", "w"), end=True).step("a", "StepRun", 20)
        )
        whole = history.ended(20, "FAILED", "bad expression").run("FAILED", ended=20, output=ERROR)
        current, older = both(whole)
        assert current == ["a COMPLETED", "w FAILED", "executor.nonstep FAILED"]
        assert older == ["a COMPLETED", "w FAILED", "function error FAILED"]
        assert output(child(whole, "w")).kind == "end"

    def test_failed_without_a_call(self):
        history = History().call(20).ended(20, "FAILED", "no progress")
        current, older = both(history.run("FAILED", ended=20, output=ERROR))
        assert (current, older) == (["executor.nonstep FAILED"], ["function error FAILED"])

    def test_failed_within_a_planned_step(self):
        history = History().call(20, op("StepPlanned", "a"), op("StepPlanned", "b"))
        history.call(50, item=3, step=hash_step_id("a"), status=500, error=ERROR, end=True).ended(
            50, "FAILED", "no"
        )
        current, _ = both(history.run("FAILED", ended=50, output=ERROR))
        assert current[:2] == ["a FAILED", "b CANCELLED"]
        assert current[2] == ("Finalization FAILED", ["Attempt 0 FAILED"])

    def test_cancelled(self):
        history = History().call(20, op("StepRun", "a"), op("Sleep", "nap", until=T0 + 9999))
        whole = history.step("a", "StepRun", 20).ended(70, "CANCELLED").run("CANCELLED", ended=70)
        expected = ["a COMPLETED", "nap CANCELLED"]
        assert both(whole) == (expected, expected)
        assert child(whole, "nap").ended == T0 + 70
        assert current_trace(whole).code == 0
        assert older_trace(whole, "x").output_id is None

    def test_cancelled_before_it_began(self):
        history = History().ended(70, "CANCELLED", "It did not begin in time.")
        whole = history.run("CANCELLED", started=None, ended=70)
        assert both(whole) == ([], [])
        assert read_timeline(whole).reason == "It did not begin in time."

    def test_skipped(self):
        history = History().ended(1, "SKIPPED", "Singleton", "01M86GN1T1P7R8GVWCECW2XB2E")
        whole = history.run("SKIPPED", started=1, ended=1)
        current, older = current_trace(whole), older_trace(whole, "app-fn")
        assert (current.name, older.name) == ("executor.run", "app-fn")
        for trace in (current, older):
            assert (trace.status, trace.children, trace.code) == ("SKIPPED", [], None)
            assert (trace.skip_reason, trace.skip_existing) == ("Singleton", "01M86GN1T1P7R8GVWCECW2XB2E")

    def test_skipped_by_a_pause(self):
        whole = History().ended(1, "SKIPPED", "FunctionPaused").run("SKIPPED", started=1, ended=1)
        trace = current_trace(whole)
        assert (trace.skip_reason, trace.skip_existing) == ("FunctionPaused", None)

    def test_a_race_that_ended_while_others_waited(self):
        history = History().call(20, op("Sleep", "long", until=T0 + 9999), op("StepRun", "quick"))
        history.step("quick", "StepRun", 20).call(40, status=200, item=6, end=True)
        current, _ = both(history.ended(40, "COMPLETED").run("COMPLETED", ended=40, output=b"1"))
        assert current[:2] == ["long CANCELLED", "quick COMPLETED"]


class TestCallsThatWereCutOff:
    """The server died in the middle of them: they are shown, and count for nothing."""

    def test_of_a_step(self):
        history = History().call(20, op("StepPlanned", "a"), op("StepPlanned", "b"))
        history.add(60, CutNote(4, 0, 1, T0 + 20, hash_step_id("a")))
        history.call(90, op("StepRun", "a"), item=4, step=hash_step_id("a")).step("a", "StepRun", 90)
        span = child(history.run(), "a")
        assert [(each.name, each.status) for each in span.children] == [
            ("Attempt 0", "CANCELLED"),
            ("Attempt 0", "COMPLETED"),
        ]
        first = span.children[0]
        assert (first.started, first.ended, output(first)) == (
            T0 + 20,
            T0 + 60,
            OutputName(RUN, "entry", "3"),
        )

    def test_of_a_discovery(self):
        history = History().add(40, CutNote(2, 0, 1, T0 + 5))
        history.call(80, op("StepRun", "a")).step("a", "StepRun", 80)
        current, _ = both(history.run())
        assert current == [
            ("Execution COMPLETED", ["Attempt 0 CANCELLED", "Attempt 0 COMPLETED"]),
            "a COMPLETED",
        ]

    def test_a_posted_step_after_it_is_the_first_attempt(self):
        history = History().call(20, op("StepPlanned", "a"), op("StepPlanned", "b"))
        history.add(60, CutNote(4, 0, 1, T0 + 20, hash_step_id("a")))
        history.checkpoint(90, op("StepRun", "a"), item=4).step("a", "StepRun", 90)
        assert [each.attempts for each in child(history.run(), "a").children] == [0, 0]


class TestSteps:
    def test_results_of_attempts_are_their_errors(self):
        history = History().call(20, op("StepError", "a"), error=ERROR, retry=T0 + 60)
        history.call(80, op("StepRun", "a"), attempt=1).step("a", "StepRun", 80)
        span = child(history.run(), "a")
        first, second = span.children
        assert output(first) == OutputName(RUN, "entry", "2")
        assert output(second) == output(span) == OutputName(RUN, "step", hash_step_id("a"))

    def test_errors_that_no_attempt_is_left_for(self):
        history = History().call(20, op("StepError", "a")).step("a", "StepError", 20, failed=True)
        whole = history.item("discovery", n=4).run()
        current, older = both(whole)
        assert current == ["a FAILED"]
        assert older[0] == ("a FAILED", ["Attempt 0 FAILED"])

    def test_a_result_that_came_twice_counts_once(self):
        history = (
            History()
            .call(20, op("StepRun", "a"))
            .step("a", "StepRun", 20)
            .call(40, op("StepRun", "a"), item=3)
        )
        assert both(history.run())[0] == ["a COMPLETED"]

    def test_what_was_planned_twice_stands_once(self):
        history = History().call(20, op("Sleep", "s", until=T0 + 500))
        history.call(40, op("Sleep", "s", planned=True), item=3).item("sleep", n=5, step="s")
        assert both(history.run())[0] == ["s WAITING"]

    def test_every_span_has_an_id_of_its_own(self):
        history = History().call(20, op("StepError", "a"), error=ERROR, retry=T0 + 60)
        history.call(80, op("StepRun", "a"), attempt=1).step("a", "StepRun", 80)
        history.call(90, status=200, item=4, end=True).ended(90, "COMPLETED")
        whole = history.run("COMPLETED", ended=90, output=b"1")
        for trace in (current_trace(whole), older_trace(whole, "x")):
            ids = [span.span_id for span in walk(trace)]
            assert len(set(ids)) == len(ids)
            assert all(c.parent_id == span.span_id for span in walk(trace) for c in span.children)

    def test_models_are_noticed(self):
        plain = History().call(20, op("StepRun", "a")).run()
        wrapped = History().call(20, op("StepRun", "a", type="step.ai.wrap")).run()
        inferred = History().call(20, op("AIGateway", "a")).run()
        assert [read_timeline(whole).has_ai for whole in (plain, wrapped, inferred)] == [False, True, True]


class TestRerunsFromAStep:
    def copied(self, edited: bool = False) -> History:
        """A rerun from `c` of a run whose steps `a` and `nap` ended well, and `bad` did not."""
        ids = [hash_step_id(step) for step in ("a", "nap", "bad")]
        history = History().add(0, CopiedNote("01OLD", hash_step_id("c"), "c", ids, edited))
        return (
            history.step("a", "StepRun", 0).step("nap", "Sleep", 0).step("bad", "StepFailed", 0, failed=True)
        )

    def test_copied_steps_stand_as_they_ended(self):
        whole = self.copied().call(20, op("StepRun", "c")).step("c", "StepRun", 20).run()
        told = ["a COMPLETED", "nap COMPLETED", "bad FAILED", "c COMPLETED"]
        assert both(whole) == (told, told)
        spans = [child(whole, name) for name in ("a", "nap", "bad", "c")]
        assert [span.copied_from for span in spans] == ["01OLD", "01OLD", "01OLD", None]
        assert [(span.started, span.ended) for span in spans[:3]] == [(T0, T0)] * 3
        assert [span.output_id is not None for span in spans] == [True, False, True, True]
        assert output(spans[0]) == OutputName(RUN, "step", hash_step_id("a"))

    def test_the_edited_step_is_there_before_it_runs(self):
        history = self.copied(edited=True).item("step", step="c")
        assert both(history.run("QUEUED", started=None))[0][-1] == "c QUEUED"
        history = self.copied(edited=True).item("step", step="c", in_flight=True)
        assert both(history.run())[0][-1] == "c RUNNING"
        assert both(self.copied(edited=True).run("CANCELLED", ended=50))[0][-1] == "c CANCELLED"

    def test_the_edited_step_is_there_once(self):
        whole = (
            self.copied(edited=True)
            .call(20, op("StepRun", "c"), step=hash_step_id("c"))
            .step("c", "StepRun", 20)
            .run()
        )
        assert both(whole)[0][-1] == "c COMPLETED"
        assert child(whole, "c").attempts == 0


def walk(span: Span) -> list[Span]:
    return [span, *(below for c in span.children for below in walk(c))]


def test_entries_of_a_later_version_are_passed_over():
    whole = History().call(20, op("StepRun", "a")).run()
    unknown = whole.history[0].__class__(RUN, 99, T0 + 30, "from-the-future", b'{"x":1}')
    whole.history.append(unknown)
    assert both(whole)[0] == ["a COMPLETED"]

"""Opcodes that are odd, wrong or repeated: nothing loops for ever or runs twice, and the run says why it failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.sdk.bare_app import Answer, Call, Scripted, by_target, op, ops, planned, ran, sha1
from tests.sdk.driver import until

Make = Callable[..., Scripted]
MIB = 1024 * 1024


def no_progress(run: dict[str, Any]) -> str:
    """The message of a run that was failed because its app leads nowhere."""
    assert run["status"] == "Failed"
    assert run["output"]["error"]["name"] == "NoProgress"
    message: str = run["output"]["error"]["message"]
    return message


def test_no_opcodes_at_all_are_bounded(scripted: Make) -> None:
    """The reference calls such an app for ever, as often as it can."""
    fn = scripted(lambda call: ops())
    assert "10 times in a row" in no_progress(fn.run())
    assert len(fn.calls) == 10
    assert all((call.ctx["attempt"], call.ctx["generation_id"]) == (0, 1) for call in fn.calls)


def test_a_few_answers_without_opcodes_do_no_harm(scripted: Make) -> None:
    fn = scripted([ops(), ops(), ops(ran("a", 1)), ops(), Answer(200, "end")])
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "end")


def test_none_alone_enqueues_nothing_and_the_run_does_not_hang(scripted: Make) -> None:
    """The reference leaves such a run standing for ever; nothing could ever move it."""
    fn = scripted([ops({"op": "None", "id": "x"})])
    no_progress(fn.run())
    time.sleep(0.3)
    assert len(fn.calls) == 1


def test_none_while_another_step_runs_changes_nothing(scripted: Make) -> None:
    race = {"opts": {"parallelMode": "race"}}
    fn = scripted(
        by_target(
            {
                "step": [
                    ops(planned("a", **race), planned("b", **race)),
                    ops({"op": "None", "id": "x"}),
                    Answer(200, "end"),
                ],
                "a": [ops(ran("a", 1))],
                "b": [ops(ran("b", 2), delay_s=0.4)],
            }
        )
    )
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "end")
    assert len(fn.calls) == 5


def test_unknown_opcode_fails_the_attempt(scripted: Make) -> None:
    fn = scripted([ops(op("Bogus")), ops(op("Bogus"))], retries=1)
    run = fn.run()
    assert run["status"] == "Failed"
    assert "Bogus does not belong to Opcode values" in str(run["output"])
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1]


def test_one_opcode_without_an_array(scripted: Make) -> None:
    fn = scripted([Answer(206, ran("single", 1)), Answer(200, "fin")])
    assert fn.run()["output"] == "fin"
    assert fn.calls[1].steps == {sha1("single"): {"data": 1}}


def test_legacy_step_is_saved_as_it_is(scripted: Make) -> None:
    fn = scripted(
        [ops(op("Step", "a", data={"data": "own"})), ops(op("Step", "b", data=7)), Answer(200, "fin")]
    )
    assert fn.run()["status"] == "Completed"
    assert fn.calls[2].steps == {sha1("a"): {"data": "own"}, sha1("b"): 7}


def test_planned_twice_runs_once(scripted: Make) -> None:
    fn = scripted(
        by_target({"step": [ops(planned("a"), planned("a")), Answer(200, "end")], "a": [ops(ran("a", 1))]})
    )
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "end")
    assert [call.target for call in fn.calls] == ["step", sha1("a"), "step"]


def test_planned_again_while_it_runs_runs_once(scripted: Make) -> None:
    race = {"opts": {"parallelMode": "race"}}
    fn = scripted(
        by_target(
            {
                "step": [
                    ops(planned("a", **race), planned("b", **race)),
                    ops(planned("b", **race)),
                    Answer(200, "end"),
                ],
                "a": [ops(ran("a", 1))],
                "b": [ops(ran("b", 2), delay_s=0.5)],
            }
        )
    )
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "end")
    assert sorted(call.target for call in fn.calls) == sorted(["step", "step", "step", sha1("a"), sha1("b")])


def test_one_planned_step_is_not_parallel(scripted: Make) -> None:
    fn = scripted(by_target({"step": [ops(planned("a")), Answer(200, "end")], "a": [ops(ran("a", 1))]}))
    assert fn.run()["status"] == "Completed"
    assert [call.ctx["disable_immediate_execution"] for call in fn.calls] == [False, False, False]
    assert [call.ctx["step_id"] for call in fn.calls] == ["step", "step", "step"]
    assert [call.headers["x-inngest-step-id"] for call in fn.calls] == ["step", sha1("a"), "step"]


def test_step_that_was_saved_already_keeps_its_first_result(scripted: Make) -> None:
    fn = scripted([ops(ran("a", 1)), ops(ran("a", 2), ran("b", 3)), Answer(200, "end")])
    assert fn.run()["status"] == "Completed"
    assert fn.calls[2].steps == {sha1("a"): {"data": 1}, sha1("b"): {"data": 3}}
    assert fn.calls[2].ctx["stack"]["stack"] == [sha1("a"), sha1("b")]


def test_several_finished_steps_in_one_answer(scripted: Make) -> None:
    fn = scripted([ops(ran("a", 1), ran("b", None), ran("c", [])), Answer(200, "end")])
    assert fn.run()["status"] == "Completed"
    assert fn.calls[1].steps == {sha1("a"): {"data": 1}, sha1("b"): {"data": None}, sha1("c"): {"data": []}}
    assert fn.calls[1].ctx["disable_immediate_execution"] is False


def test_run_complete_after_buffered_steps(scripted: Make) -> None:
    fn = scripted([ops(ran("a", 1), ran("b", 2), {**op("RunComplete", "complete"), "data": {"done": [1.5]}})])
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", {"done": [1.5]})
    assert len(fn.calls) == 1


def test_discovery_request_calls_again(scripted: Make) -> None:
    fn = scripted([ops(ran("a", 1), op("DiscoveryRequest", "again")), Answer(200, "end")])
    assert fn.run()["output"] == "end"
    assert fn.calls[1].steps == {sha1("a"): {"data": 1}}


def test_failed_step_keeps_name_message_stack_and_data_only(scripted: Make) -> None:
    error = {
        "name": "E",
        "message": "m",
        "stack": "st",
        "data": {"k": 1},
        "__serialized": True,
        "code": "c",
        "noRetry": True,
    }
    fn = scripted([ops(op("StepFailed", "a", error=error)), Answer(200, "end")])
    assert fn.run()["status"] == "Completed"
    assert fn.calls[1].steps == {
        sha1("a"): {"error": {"name": "E", "message": "m", "stack": "st", "data": {"k": 1}}}
    }


def test_only_the_header_stops_the_retry_of_a_step(scripted: Make) -> None:
    failing = op("StepError", "a", error={"name": "E", "message": "m", "stack": "st", "noRetry": True})
    fn = scripted([ops(failing), ops(failing), Answer(200, "end")], retries=1)
    assert fn.run()["status"] == "Completed"
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1, 0]
    assert fn.calls[2].steps == {sha1("a"): {"error": {"name": "E", "message": "m", "stack": "st"}}}
    assert [call.body["version"] for call in fn.calls] == [-1, 2, 2]


def test_step_error_with_no_retry_header_is_final(scripted: Make) -> None:
    failing = op("StepError", "a", error={"name": "E", "message": "m"})
    fn = scripted([ops(failing, headers={"x-inngest-no-retry": "true"}), Answer(200, "end")], retries=3)
    assert fn.run()["status"] == "Completed"
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 0]
    assert fn.calls[1].steps == {sha1("a"): {"error": {"name": "E", "message": "m"}}}


def test_retry_after_counts_on_step_errors(scripted: Make) -> None:
    failing = ops(op("StepError", "a", error={"name": "E", "message": "m"}), headers={"retry-after": "3"})
    fn = scripted([failing, ops(ran("a", 1)), Answer(200, "end")], retries=3)
    assert fn.run()["status"] == "Completed"
    assert 1.9 < fn.calls[1].at - fn.calls[0].at < 3.6


def test_sleep_text_that_is_neither_duration_nor_time_fails_the_run(scripted: Make) -> None:
    fn = scripted(lambda call: ops(op("Sleep", "nap", name="not a duration")), retries=1)
    run = fn.run()
    assert run["status"] == "Failed"
    assert "not a duration" in str(run["output"])
    assert len(fn.calls) <= 2


@pytest.mark.parametrize("name", ["9000h", "400d", "2099-01-01T00:00:00Z"])
def test_sleep_over_a_year_fails_the_run_at_once(scripted: Make, name: str) -> None:
    fn = scripted([ops(op("Sleep", "nap", name=name))], retries=3)
    run = fn.run()
    message = f'The sleep "{name}" ends more than one year in the future; sleeps may last at most one year.'
    error = "InngestErrTimeoutTooLong"
    assert run["status"] == "Failed"
    assert run["output"] == {"error": {"error": f"{error}: {message}", "name": error, "message": message}}


@pytest.mark.parametrize("name", ["", "0s", "2020-01-01T00:00:00Z", "1ms"])
def test_short_or_past_sleep_goes_on_at_once(scripted: Make, name: str) -> None:
    fn = scripted([ops(op("Sleep", "nap", name=name)), Answer(200, "woke")])
    started = time.monotonic()
    run = fn.run()
    assert (run["status"], run["output"]) == ("Completed", "woke")
    assert time.monotonic() - started < 2
    assert fn.calls[1].steps == {sha1("nap"): None}
    assert fn.calls[1].ctx["stack"]["stack"] == [sha1("nap")]


def test_wait_with_a_broken_expression_fails_the_run_at_once(scripted: Make) -> None:
    wait = op("WaitForEvent", "w", name="x/y", opts={"timeout": "10s", "if": "event.data. =="})
    run = scripted([ops(wait)], retries=3).run()
    assert run["status"] == "Failed"
    error = run["output"]["error"]
    assert error["name"] == "InvalidExpression"
    assert error["message"] == "Wait for event If expression failed to compile"
    assert error["error"] == f"InvalidExpression: {error['message']}"


def test_wait_with_an_empty_timeout_expires_at_once(scripted: Make) -> None:
    fn = scripted([ops(op("WaitForEvent", "w", name="x/y", opts={"timeout": ""})), Answer(200, "end")])
    assert fn.run()["output"] == "end"
    assert fn.calls[1].steps == {sha1("w"): None}


def test_step_output_over_four_mebibytes_fails_the_run_after_its_retries(scripted: Make) -> None:
    big = ops(ran("big", "x" * (4 * MIB + 10)))
    fn = scripted([big, big], retries=1)
    run = fn.run(timeout=30)
    assert run["status"] == "Failed"
    text = f"error validating generator opcode {sha1('big')}: step output size is greater than the limit"
    assert text in str(run["output"])
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1]


def test_step_output_just_below_four_mebibytes_is_kept(scripted: Make) -> None:
    fn = scripted([ops(ran("big", "x" * (4 * MIB - 1000))), Answer(200, "end")])
    assert fn.run(timeout=30)["output"] == "end"
    assert fn.calls[1].body["use_api"] is (len(fn.calls[1].steps) == 0)


def test_state_over_32_mebibytes_fails_the_run(scripted: Make) -> None:
    def script(call: Call) -> Answer:
        return ops(ran(f"s{len(call.ctx['stack']['stack'])}", "x" * (3 * MIB)))

    fn = scripted(script)
    run = fn.run(timeout=60)
    assert run["status"] == "Failed"
    assert "InngestErrStateOverflowed" in str(run["output"])
    assert 10 <= len(fn.calls) <= 12


def test_more_than_a_thousand_steps_fail_the_run(scripted: Make) -> None:
    def script(call: Call) -> Answer:
        done = len(call.ctx["stack"]["stack"])
        return ops(*(ran(f"s{n}", n) for n in range(done, done + 400)))

    run = scripted(script).run(timeout=60)
    assert run["status"] == "Failed"
    assert "InngestErrFunctionOverflowed" in str(run["output"])


def test_more_than_a_thousand_opcodes_in_one_answer_are_refused(scripted: Make) -> None:
    fn = scripted([ops(*(ran(f"s{n}", n) for n in range(1001)))])
    run = fn.run(timeout=30)
    assert run["status"] == "Failed"


def test_opcode_of_a_feature_that_is_missing_names_it(scripted: Make) -> None:
    fn = scripted([ops(op("SyncRunComplete", "complete", data={}))])
    run = fn.run()
    assert run["status"] == "Failed"
    assert "SyncRunComplete" in str(run["output"])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"op": "StepRun"}, id="no-id"),
        pytest.param({"op": "StepRun", "id": 5}, id="id-is-a-number"),
        pytest.param({"id": sha1("a")}, id="no-op"),
        pytest.param(7, id="number"),
        pytest.param(None, id="null"),
        pytest.param("StepRun", id="text"),
        pytest.param({"op": "StepError", "id": sha1("a")}, id="error-without-error"),
        pytest.param({"op": "InvokeFunction", "id": sha1("a"), "opts": None}, id="invoke-without-options"),
        pytest.param({"op": "Gateway", "id": sha1("a"), "opts": {"url": 5}}, id="url-is-a-number"),
    ],
)
def test_malformed_opcodes_end_in_a_failed_run(scripted: Make, bad: Any) -> None:
    fn = scripted(lambda call: Answer(206, [bad]) if len(call.steps) == 0 else Answer(200, "went on"))
    run = fn.run()
    assert run["status"] in {"Failed", "Completed"}
    assert len(fn.calls) <= 3
    assert run["status"] == "Failed" or run["output"] == "went on"


def test_answer_to_a_call_of_an_ended_run_is_ignored(scripted: Make) -> None:
    fn = scripted([ops(ran("a", 1), delay_s=0.8)])
    event = fn.trigger()
    until("the call", lambda: len(fn.calls) == 1)
    run_id = fn.server.run_of(event, fn.slug)["run_id"]
    assert fn.server.cancel(run_id) in {200, 204}
    time.sleep(1.2)
    assert fn.server.run(run_id)["status"] == "Cancelled"
    assert len(fn.calls) == 1


def test_failing_invoke_and_finished_branch_in_parallel(scripted: Make) -> None:
    """A wait is armed before the step beside it can satisfy it."""
    waiting = op("WaitForEvent", "w", name="bare/ping-pong", opts={"timeout": "5s"})
    unknown = op("InvokeFunction", "i", opts={"function_id": "nobody-knows", "payload": {"data": {}}})
    fn = scripted([ops(ran("r", 1), unknown, waiting), Answer(200, "end")])
    event = fn.trigger()
    until("the call", lambda: len(fn.calls) == 1)
    time.sleep(0.2)
    ping = fn.server.send({"name": "bare/ping-pong", "data": {"n": 1}})[0]
    assert fn.ended(event)["output"] == "end"
    steps = fn.calls[1].steps
    assert steps[sha1("r")] == {"data": 1}
    assert steps[sha1("i")] == {
        "error": {"name": "Error", "message": "could not find function with ID: nobody-knows"}
    }
    assert steps[sha1("w")]["id"] == ping
    assert len(fn.calls) == 2

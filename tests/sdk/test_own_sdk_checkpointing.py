"""Perdure's own SDK posts finished steps while the function goes on."""

from __future__ import annotations

import time

import pytest

from tests.sdk.driver import App
from tests.sdk.test_sdk_checkpointing import posted, proxied

pytestmark = pytest.mark.apps(
    "own",
    "own-sync",
    "own-flask",
    "own-connect",
    "own-connect-sync",
    "own-plain",
    "own-embedded",
    "own-embedded-sync",
)

__all__ = ["proxied"]


def test_each_step_is_posted_and_the_call_ends_the_run(app: App) -> None:
    run = app.run("four-steps")
    assert (run.status, run.output) == ("Completed", "four")
    assert run.log.steps() == ["a", "b", "c", "d"]
    assert posted(run.log) == [["a"], ["b"], ["c"], ["d"]]
    assert [call["status"] for call in run.log.calls] == [200]


@pytest.mark.apps("own-stream")
def test_a_streamed_answer_carries_what_an_ordinary_one_says(app: App) -> None:
    run = app.run("four-steps", a=0.1)
    assert (run.status, run.output) == ("Completed", "four")
    assert posted(run.log) == [["a"], ["b"], ["c"], ["d"]]
    assert [(call["status"], call["final_status"]) for call in run.log.calls] == [(201, 200)]
    retried = app.run("retry-after")
    assert (retried.status, retried.output) == ("Completed", 1)
    first, second = retried.log.at("body")
    assert 1.9 < second - first < 3.5, "the header inside of the stream counts"


def test_buffered_steps_are_posted_together_and_the_rest_comes_with_the_answer(app: App) -> None:
    run = app.run("buffered")
    assert (run.status, run.output) == ("Completed", "four")
    assert run.log.steps() == ["a", "b", "c", "d"]
    assert posted(run.log) == [["a", "b", "c"]]
    assert [call["ops"] for call in run.log.calls] == [["StepRun", "RunComplete"]]


def test_sleep_ends_the_call_and_the_next_one_goes_on(app: App) -> None:
    run = app.run("sleep")
    assert run.status == "Completed"
    assert run.log.steps() == ["before", "after"]
    assert posted(run.log) == [["before"], ["after"]]
    assert [call["ops"] for call in run.log.calls] == [["Sleep"], None]


@pytest.mark.apps("own", "own-connect")
def test_maximum_runtime_splits_the_run_without_repeating_a_step(app: App) -> None:
    run = app.run("max-runtime", a=0.6, b=0.6, c=0.6)
    assert (run.status, run.output) == ("Completed", "four")
    assert run.log.steps() == ["a", "b", "c", "d"]
    assert [call["ops"] for call in run.log.calls] == [["DiscoveryRequest"], None]


def test_failing_step_comes_with_the_answer_and_is_tried_again(app: App) -> None:
    run = app.run("flaky")
    assert run.log.attempts("flaky") == [0, 1, 2]
    assert [call["ops"] for call in run.log.calls[:2]] == [["StepError"], ["StepError"]]
    assert [call["attempt"] for call in run.log.calls] == [0, 1, 2, 0]


def test_checkpoint_of_a_cancelled_run_is_refused_and_stops_the_function(app: App) -> None:
    sent = app.trigger("slow-step", seconds=0.7)
    app.saw(sent.key, "the slow step", lambda log: "slow" in log.steps())
    app.server.cancel(app.server.run_of(sent.event_id, app.slug("slow-step"))["run_id"])
    told_before = app.connects or app.embeds
    if told_before:  # by the answer to its lease, or in process: perhaps before the step is done
        time.sleep(1.0)
    else:
        app.saw(sent.key, "the checkpoint", lambda log: log.checkpoints() and log.checkpoints()[-1]["status"])
    time.sleep(0.4)
    log = app.log(sent.key)
    assert {post["status"] for post in log.checkpoints()} <= {409}
    assert told_before or log.checkpoints()
    assert log.steps() == ["slow"]


@pytest.mark.apps("own")
def test_call_given_up_by_a_proxy_cannot_go_on_beside_its_successor(proxied: App) -> None:
    run = proxied.run("four-steps", a=3)
    assert (run.status, run.output) == ("Completed", "four")
    counts = {step: run.log.steps().count(step) for step in "abcd"}
    assert counts == {"a": 2, "b": 1, "c": 1, "d": 1}
    zombie = run.log.checkpoints()[0]
    assert (zombie["ops"], zombie["status"]) == ([["StepRun", "a"]], 409)
    assert posted(run.log) == [["b"], ["c"], ["d"]], "a retry brings its step with the answer"

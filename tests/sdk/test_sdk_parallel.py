"""Steps side by side: how often the app is called, what runs when, and what a failure does."""

from __future__ import annotations

import hashlib
import time

import pytest

from tests.sdk.driver import App

WAIT_MODE = (
    "fastapi",
    "fastapi-sync",
    "fastapi-stream",
    "flask",
    "flask-async",
    "js",
    "js-plain",
    "js-stream",
    "js3-wait",
)
OWN = ("own", "own-sync", "own-flask", "own-connect", "own-connect-sync")
RACE_MODE = (
    "fastapi",
    "fastapi-sync",
    "fastapi-stream",
    "flask",
    "flask-async",
    "js",
    "js-plain",
    "js-stream",
)
HASHES = {hashlib.sha1(step.encode()).hexdigest() for step in ("p1", "p2", "p3")}


@pytest.mark.apps(*WAIT_MODE, *OWN)
def test_three_steps_in_wait_mode_take_five_calls(app: App) -> None:
    run = app.run("parallel")
    assert (run.status, run.output) == ("Completed", [1, 2, 3])
    assert sorted(run.log.steps()) == ["p1", "p2", "p3"]
    calls = run.log.calls
    assert len(calls) == 5
    assert [calls[0]["target"], calls[4]["target"]] == ["step", "step"]
    assert {call["target"] for call in calls[1:4]} == HASHES
    assert [call["planned_only"] for call in calls] == [False, True, True, True, False]
    assert all(call["stack"] == [] and call["steps"] == [] for call in calls[:4])
    assert set(calls[4]["stack"]) == HASHES
    starts = [note["at"] for note in run.log.notes]
    assert max(starts) - min(starts) < 0.15, "the three run side by side"


@pytest.mark.apps(*RACE_MODE)
def test_three_steps_in_race_mode_take_seven_calls(app: App) -> None:
    run = app.run("parallel-race")
    assert (run.status, run.output) == ("Completed", [1, 2, 3])
    assert sorted(run.log.steps()) == ["p1", "p2", "p3"]
    targets = [call["target"] for call in run.log.calls]
    assert len(targets) == 7
    assert targets.count("step") == 4
    assert {target for target in targets if target != "step"} == HASHES


@pytest.mark.apps("js3")
def test_version_1_discovers_after_each_step_and_goes_on_planning(app: App) -> None:
    run = app.run("resume")
    assert (run.status, run.output) == ("Completed", "resumed")
    assert sorted(run.log.steps()) == sorted(["before", "p1", "p2", "t1", "t2", "t3"])
    after = [call for call in run.log.calls if len(call["stack"]) >= 2]
    assert all(call["planned_only"] for call in after)
    parallel = app.run("parallel")
    assert (parallel.status, parallel.output) == ("Completed", [1, 2, 3])
    assert len(parallel.log.calls) == 7


@pytest.mark.apps("js", "js-plain", "js-stream", "js3-wait")
def test_nothing_is_planned_once_the_parallel_steps_are_done(app: App) -> None:
    run = app.run("resume")
    assert (run.status, run.output) == ("Completed", "resumed")
    assert sorted(run.log.steps()) == sorted(["before", "p1", "p2", "t1", "t2", "t3"])
    ops = run.log.ops()
    assert ops.count("StepPlanned") == 2
    later = ops[len(ops) - 1 - ops[::-1].index("StepPlanned") :]
    assert "StepPlanned" not in later[1:]
    if app.checkpoints:
        assert ops[-1] == "RunComplete"


@pytest.mark.apps(*WAIT_MODE)
def test_wait_mode_finishes_a_round_before_the_next(app: App) -> None:
    run = app.run_among_peers("ordering")
    assert run.status == "Completed"
    steps = run.log.steps()
    assert sorted(steps[:2]) == ["a1", "b1"]
    assert sorted(steps[2:4]) == ["a2", "b2"]
    assert set(steps[4:]) == {"end"}
    assert run.log.at("a2")[0] - run.log.at("b1")[0] > 0.55


@pytest.mark.apps(*RACE_MODE, "js3", *OWN)
def test_race_mode_lets_each_branch_go_on_alone(app: App) -> None:
    run = app.run_among_peers("ordering-race")
    assert run.status == "Completed"
    steps = run.log.steps()
    assert sorted(steps[:3]) == ["a1", "a2", "b1"]
    assert steps[3] == "b2"
    assert set(steps[4:]) == {"end"}
    assert run.log.at("a2")[0] - run.log.at("b1")[0] < 0.5


@pytest.mark.apps("js-plain", "js3", "own", "own-connect")
def test_first_of_a_race_ends_the_function_while_the_other_runs(app: App) -> None:
    run = app.run_among_peers("first-wins")
    assert (run.status, run.output) == ("Completed", "fast")
    assert sorted(run.log.steps()) == ["fast", "slow"]
    time.sleep(1.7)
    log = app.log(run.key)
    assert sorted(log.steps()) == ["fast", "slow"], "the loser's answer starts nothing"
    assert app.server.run(run.run_id)["output"] == "fast"


def test_run_sleep_and_wait_side_by_side(app: App) -> None:
    sent = app.trigger("parallel-mixed")
    app.paused(sent, "WaitForEvent")
    app.server.send({"name": f"{app.app_id}/answer", "data": {"key": sent.key, "n": 7}})
    run = app.wait(sent, "parallel-mixed")
    assert (run.status, run.output) == ("Completed", ["ran", None, 7])
    assert run.log.steps() == ["run", "last"]
    if app.version != 1:
        follows_each = app.app_id.startswith("own")  # a discovery after the sleep as well
        assert len(run.log.calls) == (3 if app.checkpoints and not follows_each else 4)


def test_three_failing_branches_fail_the_run_once(app: App) -> None:
    run = app.run_among_peers("parallel-failing")
    assert run.status == "Failed"
    assert run.output["message"] == "branch"
    assert sorted(run.log.steps()) == ["f1", "f2", "f3"]
    app.saw(run.key, "the failure handler", lambda log: "failure" in log.steps())
    time.sleep(0.5)
    assert app.log(run.key).steps().count("failure") == 1

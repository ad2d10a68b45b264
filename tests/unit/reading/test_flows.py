"""The flow of a function, from what its runs did."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from perdure.reading.flows import END, MAX_STEPS, START, Flow, ObservedRun, flow_of, quantile
from perdure.reading.timeline import COMPLETED, FAILED, RUNNING, Activity, Attempt, read_timeline
from tests.unit.reading.histories import T0, History, op


def step(name: str, planned: int, ended: int | None, nth: int = 0, **more: object) -> Activity:
    fields = {"op": "StepRun", "status": RUNNING if ended is None else COMPLETED, "started": planned, **more}
    return Activity(
        key=f"{name}{nth}", step_id=f"{name}{nth}", name=name, queued=planned, ended=ended, **fields
    )  # type: ignore[arg-type]


def run(*steps: Activity, ended: bool = True) -> ObservedRun:
    return ObservedRun("run", list(steps), ended)


def edges(flow: Flow) -> dict[tuple[str, str], int]:
    return {
        (edge.before.removeprefix("step:"), edge.after.removeprefix("step:")): edge.runs
        for edge in flow.edges
    }


def layers(flow: Flow) -> dict[str, int]:
    return {one.name: one.layer for one in flow.steps}


def test_one_after_the_other_and_side_by_side() -> None:
    flow = flow_of(
        [run(step("pay", 0, 10), step("stock", 10, 40), step("label", 10, 60), step("mail", 60, 70))]
    )
    assert edges(flow) == {
        (START, "pay"): 1,
        ("pay", "stock"): 1,
        ("pay", "label"): 1,
        ("stock", "mail"): 1,
        ("label", "mail"): 1,
        ("mail", END): 1,
    }
    assert layers(flow) == {"pay": 1, "stock": 2, "label": 2, "mail": 3}


def test_branches_stay_apart() -> None:
    """The second of a branch follows the first of it, while another branch goes on."""
    flow = flow_of([run(step("a", 0, 10), step("b", 0, 100), step("a-next", 10, 20))])
    assert edges(flow) == {
        (START, "a"): 1,
        (START, "b"): 1,
        ("a", "a-next"): 1,
        ("a-next", END): 1,
        ("b", END): 1,
    }


def test_paths_of_several_runs_are_joined_and_counted() -> None:
    flow = flow_of(
        [
            run(step("pay", 0, 10), step("ship", 10, 20)),
            run(step("pay", 0, 10), step("refund", 10, 20, status=FAILED)),
            run(step("pay", 0, None), ended=False),
            run(),
        ]
    )
    assert edges(flow) == {
        (START, "pay"): 3,
        ("pay", "ship"): 1,
        ("pay", "refund"): 1,
        ("ship", END): 1,
        ("refund", END): 1,
        (START, END): 1,
    }
    pay, ship, refund = flow.steps
    assert (pay.runs, pay.times, pay.p50, flow.runs) == (3, 3, 10, 4)
    assert (ship.failed, refund.failed, refund.times) == (0, 1, 1)


def test_a_loop_is_one_node() -> None:
    flow = flow_of([run(*(step("page", 10 * n, 10 * n + 10, n) for n in range(5)))])
    (page,) = flow.steps
    assert (page.runs, page.times, page.layer) == (1, 5, 1)
    assert edges(flow) == {(START, "page"): 1, ("page", END): 1}


def test_retries_waits_and_targets() -> None:
    tries = [Attempt(0, FAILED, 0, 0, 100, 200), Attempt(1, COMPLETED, 200, 900, 1000, 1100)]
    flow = flow_of(
        [
            run(
                step("pay", 0, 1100, attempts=tries, started=1000),
                step("ask", 1100, 1200, op="InvokeFunction", function="shop-ask", timed_out=False),
                step("wait", 1200, 1300, op="WaitForEvent", event="order/paid", timed_out=True),
                step("tell", 1300, 1301, type="step.sendEvent"),
            )
        ]
    )
    pay, ask, wait, tell = flow.steps
    assert (pay.retried, pay.p50) == (1, 1000), "it took from its first try on"
    assert (ask.kind, ask.targets, ask.timed_out) == ("invoke", ["shop-ask"], 0)
    assert (wait.kind, wait.targets, wait.timed_out) == ("event", ["order/paid"], 1)
    assert (tell.kind, tell.last.step_id) == ("send", "tell0")


def test_from_a_real_history() -> None:
    whole = (
        History()
        .call(20, op("StepRun", "pay"))
        .step("pay", "StepRun", 20)
        .call(50, op("Sleep", "nap", until=T0 + 150))
        .resumed(150, "nap", "slept")
        .ended(200, "COMPLETED")
        .run("COMPLETED", ended=200)
    )
    flow = flow_of([ObservedRun(whole.run.id, read_timeline(whole).activities, True)])
    assert edges(flow) == {(START, "pay"): 1, ("pay", "sleep:nap"): 1, ("sleep:nap", END): 1}
    assert layers(flow) == {"pay": 1, "nap": 2}


def test_long_runs_are_cut_and_it_is_told() -> None:
    many = [step(f"s{n}", n * 10, n * 10 + 10) for n in range(MAX_STEPS + 1)]
    flow = flow_of([run(*many)])
    assert (len(flow.steps), flow.more) == (MAX_STEPS, True)
    assert not [edge for edge in flow.edges if edge.after == END]


STEPS = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 50), st.none() | st.integers(0, 50)))


@given(st.lists(STEPS, max_size=4))
def test_whatever_happened_everything_is_reached_from_the_start(given_runs: list[list[tuple]]) -> None:
    runs = [
        run(
            *(
                step(name, at, None if took is None else at + took, n)
                for n, (name, at, took) in enumerate(one)
            )
        )
        for one in given_runs
    ]
    flow = flow_of(runs)
    reached, waiting = {START}, [START]
    while waiting:
        node = waiting.pop()
        new = {edge.after for edge in flow.edges if edge.before == node} - reached
        reached |= new
        waiting += new
    assert {one.key for one in flow.steps} <= reached
    assert sum(one.times for one in flow.steps) == sum(len(one) for one in given_runs)
    assert all(1 <= edge.runs <= len(runs) for edge in flow.edges)


@given(st.lists(st.integers(0, 1000), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_quantiles(values: list[int], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= math.ceil(share * len(values))
    assert quantile([], share) is None

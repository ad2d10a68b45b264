"""Values attached to runs and steps: by request and beside results; traces show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.graphql.conftest import Graphql
from tests.sdk.bare_app import Answer, Scripted, ops, ran

METADATA = (
    "fragment M on RunTraceSpan{name stepID metadata{scope kind values updatedAt}}"
    "query($r:String!){run(runID:$r){trace(preview:true){...M childrenSpans{...M}}}}"
)
UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def shown(graphql: Graphql, run_id: str) -> dict[str, list[tuple[str, str, Any]]]:
    """Metadata by the names of spans, `Run` for the root; of those that have some."""
    root = graphql.ask(METADATA, r=run_id)["run"]["trace"]
    found = {}
    for span in [root, *root["childrenSpans"]]:
        if span["metadata"]:
            assert all(one["updatedAt"].endswith("Z") for one in span["metadata"])
            found[span["name"]] = [(one["scope"], one["kind"], one["values"]) for one in span["metadata"]]
    return found


def attach(graphql: Graphql, run_id: str, target: dict[str, Any], *updates: dict[str, Any]) -> int:
    body = {"target": {"run_id": run_id, **target}, "metadata": list(updates)}
    answer = graphql.server.http.post(f"/v1/runs/{run_id}/metadata", json=body)
    if answer.status_code == 200:
        assert answer.content == b""
    return answer.status_code


def update(kind: str, values: dict[str, Any], op: str = "merge") -> dict[str, Any]:
    return {"kind": kind, "op": op, "values": values}


def test_runs_and_steps_that_have_ended(graphql: Graphql, scripted: Callable[..., Scripted]):
    function = scripted([ops(ran("a", 1)), Answer(200, None)])
    run_id = function.run()["run_id"]
    assert shown(graphql, run_id) == {}
    assert attach(graphql, run_id, {}, update("userland.x", {"a": 1}), update("userland.x", {"b": 2})) == 200
    score = update("inngest.score", {"accuracy": {"value": 0.9}})
    assert attach(graphql, run_id, {"step_id": "a", "step_attempt": -1}, score) == 200
    assert attach(graphql, run_id, {"step_id": "ghost"}, score) == 200
    expected = {
        "Run": [("run", "userland.x", {"a": 1, "b": 2})],
        "a": [("step", "inngest.score", {"accuracy": {"value": 0.9}})],
    }
    assert shown(graphql, run_id) == expected
    assert attach(graphql, run_id, {}, update("userland.x", {"a": 1}, "delete")) == 200
    assert shown(graphql, run_id)["Run"] == [("run", "userland.x", {"b": 2})]
    assert graphql.server.run(run_id)["status"] == "Completed"


def test_a_run_that_goes_on_is_not_disturbed(graphql: Graphql, scripted: Callable[..., Scripted]):
    nap = {"op": "Sleep", "id": "n" * 40, "name": "600ms", "displayName": "nap", "opts": {}}
    function = scripted([ops(nap), Answer(200, "end")])
    event_id = function.trigger()
    run_id = graphql.server.run_of(event_id, function.slug)["run_id"]
    for n in range(20):
        assert attach(graphql, run_id, {}, update("userland.n", {"n": 1, f"k{n % 2}": n}, "add")) == 200
    assert function.ended(event_id)["output"] == "end"
    assert len(function.calls) == 2
    assert shown(graphql, run_id)["Run"] == [("run", "userland.n", {"n": 20, "k0": 90, "k1": 100})]


def test_beside_a_result(graphql: Graphql, scripted: Callable[..., Scripted]):
    step = {**ran("a", 1), "metadata": [update("inngest.ai", {"model": "m", "input_tokens": 3})]}
    function = scripted([ops(step), Answer(200, None)])
    run_id = function.run()["run_id"]
    assert shown(graphql, run_id) == {"a": [("step", "inngest.ai", {"model": "m", "input_tokens": 3})]}


def test_what_is_refused(graphql: Graphql, scripted: Callable[..., Scripted]):
    run_id = scripted([Answer(200, None)]).run()["run_id"]
    fine = update("userland.x", {"a": 1})
    assert attach(graphql, UNKNOWN, {}, fine) == 404
    assert attach(graphql, "bad", {}, fine) == 400
    assert attach(graphql, run_id, {"step_index": 0}, fine) == 400
    assert attach(graphql, run_id, {}, update("mine", {})) == 400
    assert attach(graphql, run_id, {}, update("userland.x", {"a": "x" * 70_000})) == 413
    assert shown(graphql, run_id) == {}


def test_a_run_holds_a_mebibyte(graphql: Graphql, scripted: Callable[..., Scripted]):
    run_id = scripted([Answer(200, None)]).run()["run_id"]
    large = update("userland.x", {"a": "x" * 60_000}, "set")
    answers = [attach(graphql, run_id, {}, large) for _ in range(20)]
    assert answers == [200] * 17 + [413] * 3

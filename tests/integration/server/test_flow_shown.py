"""REST and GraphQL as a live server answers them of batches, schedules, and runs that were skipped or cancelled."""

from __future__ import annotations

from typing import Any

import httpx

from perdure.protocol.durations import parse_time
from perdure.protocol.ids import ulid_time_ms
from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, Scripted, op, ops
from tests.sdk.driver import Server, until

RUN = "query($r:String!){run(runID:$r){status isBatch batchID batchCreatedAt cronSchedule reason triggerIDs}}"
TRACE = "query($r:String!){run(runID:$r){trace(preview:true){name skipReason skipExistingRunID}}}"


def ask(http: httpx.Client, query: str, run_id: str) -> dict[str, Any]:
    answer = http.post("/v0/gql", json={"query": query, "variables": {"r": run_id}})
    body = answer.json()
    assert "errors" not in body, body
    return dict(body["data"]["run"])


def runs_of(http: httpx.Client, event_id: str) -> list[dict[str, Any]]:
    return list(http.get(f"/v1/events/{event_id}/runs").json()["data"])


def napping(scripted: Make, **config: Any) -> tuple[Scripted, str, str]:
    """A function whose run sleeps, and the event and id of that run."""
    function = scripted([ops(op("Sleep", "nap", name="1h"))], **config)
    event_id = function.trigger(key="k")
    run = function.server.run_of(event_id, function.slug)
    until("its first call", lambda: function.calls)
    return function, event_id, run["run_id"]


def test_a_batch_is_found_by_each_of_its_events(http: httpx.Client, server: Server, scripted: Make):
    function = scripted([Answer(200, "end")], batchEvents={"maxSize": 3, "timeout": "60s"})
    name = f"bare/{function.slug}"
    ids = server.send(*[{"name": name, "data": {"n": n}} for n in range(3)])
    found = [until("the batch's run", lambda id=id: runs_of(http, id)) for id in ids]
    ((run,), *_) = found
    assert [[one["run_id"] for one in runs] for runs in found] == [[run["run_id"]]] * 3
    shown = ask(http, RUN, run["run_id"])
    assert (shown["isBatch"], shown["batchID"]) == (True, run["batch_id"])
    assert shown["triggerIDs"] == ids
    assert parse_time(shown["batchCreatedAt"]) == ulid_time_ms(run["batch_id"])
    assert parse_time(run["run_started_at"]) >= ulid_time_ms(run["batch_id"])


def test_a_skipped_run_is_listed_and_names_its_holder(http: httpx.Client, scripted: Make):
    single = {"mode": "skip", "key": "event.data.key"}
    function, _, holder = napping(scripted, singleton=single)
    event_id = function.trigger(key="k")
    (run,) = until("the skipped run", lambda: runs_of(http, event_id))
    assert (run["status"], run["output"], run["ended_at"] is None) == ("Skipped", None, False)
    assert ask(http, TRACE, run["run_id"])["trace"] == {
        "name": "executor.run",
        "skipReason": "Singleton",
        "skipExistingRunID": holder,
    }
    assert ask(http, RUN, run["run_id"])["reason"] == "Singleton"
    http.delete(f"/v1/runs/{holder}")


def test_guards_of_a_run_are_no_steps_and_the_reason_of_its_end_is_told(http: httpx.Client, scripted: Make):
    guards = {"timeouts": {"finish": "1h"}, "cancel": [{"event": "test/stop-it"}]}
    function, _, run_id = napping(scripted, **guards)

    def kinds() -> list[str]:
        return sorted(job["kind"] for job in http.get(f"/v1/runs/{run_id}/jobs").json()["data"])

    until("the sleep and the deadline", lambda: kinds() == ["deadline", "sleep"])
    query = "query($r:String!){run(runID:$r){trace(preview:true){childrenSpans{name status}}}}"
    assert ask(http, query, run_id)["trace"]["childrenSpans"] == [{"name": "nap", "status": "WAITING"}]
    (event_id,) = function.server.send({"name": "test/stop-it", "data": {}})
    until("the end", lambda: ask(http, RUN, run_id)["status"] == "CANCELLED")
    assert ask(http, RUN, run_id)["reason"] == f"The event test/stop-it ({event_id}) cancelled it."
    last = http.get(f"/v1/runs/{run_id}/history").json()["data"][-1]
    assert (last["kind"], event_id in last["details"]["reason"]) == ("ended", True)
    assert kinds() == []


def test_a_paused_function_and_its_overrides_are_shown(http: httpx.Client, server: Server, scripted: Make):
    function = scripted([Answer(200, "end")], concurrency=[{"limit": 5}])
    http.post(f"/v1/functions/{function.slug}/pause", json={"mode": "skip"}).raise_for_status()
    http.put(f"/v1/functions/{function.slug}/overrides", json={"concurrency": 2}).raise_for_status()
    (shown,) = http.get(f"/v1/apps/{function.slug}/functions").json()
    assert (shown["paused"], shown["overrides"]) == ("skip", {"concurrency": 2})
    assert shown["config"]["concurrency"] == [{"limit": 5}]
    event_id = function.trigger()
    (run,) = until("the skipped run", lambda: runs_of(http, event_id))
    assert run["status"] == "Skipped"
    trace = ask(http, TRACE, run["run_id"])["trace"]
    assert (trace["skipReason"], trace["skipExistingRunID"]) == ("FunctionPaused", None)


def test_timers_of_rules_are_nowhere_among_the_runs(http: httpx.Client, scripted: Make):
    function = scripted([Answer(200, "end")], debounce={"period": "60s", "key": "event.data.key"})
    event_id = function.trigger(key="k")
    live = "orderBy:[{field:QUEUED_AT,direction:DESC}],filter:{from:$f,status:[QUEUED,RUNNING]}"
    query = "query($f:Time!){runs(" + live + "){edges{node{eventName}}totalCount}}"
    body = {"query": query, "variables": {"f": "2020-01-01T00:00:00Z"}}
    listed = http.post("/v0/gql", json=body).json()["data"]["runs"]
    assert f"bare/{function.slug}" not in {edge["node"]["eventName"] for edge in listed["edges"]}
    assert len(listed["edges"]) == listed["totalCount"]
    assert runs_of(http, event_id) == []

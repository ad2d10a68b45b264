"""The recorded answers of the official SDK are played to the server: the traces must be those of the recording."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.graphql.conftest import Graphql
from tests.integration.graphql.golden_traces import (
    differences,
    expected,
    ordered,
    result_text,
    results,
    seen,
)
from tests.sdk.bare_app import Answer, BareApp, Call, function_config, register
from tests.sdk.driver import HERE, Server, until

TRACES: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "golden" / "traces.json").read_text())
RECORDED: dict[str, dict[str, Any]] = {
    f"{file.stem}-{item['sdk']}-{item['scenario']}": item
    for file in sorted((HERE / "golden").glob("*.json"))
    for item in json.loads(file.read_text())
}
PENDING = ("SLEEP", "WAIT_FOR_EVENT", "INVOKE")
PARALLEL = ("17-", "18-", "19-", "27-checkpoint-steps-ck-ckpar")
FAR_AHEAD = "sleepuntil"
"""Its recorded time of waking has passed, so it does not sleep any more."""

_FIELDS = (
    "name status attempts duration outputID queuedAt scheduledAt startedAt endedAt stepOp stepID stepType spanID"
    " traceID parentSpanID groupID isRoot isUserland debugPaused skipReason skipExistingRunID stepInfo{__typename"
    " ...on InvokeStepInfo{triggeringEventID functionID timeout returnEventID runID timedOut}"
    " ...on SleepStepInfo{sleepUntil}"
    " ...on WaitForEventStepInfo{eventName expression timeout foundEventID timedOut}"
    " ...on WaitForSignalStepInfo{signal timeout timedOut} ...on RunStepInfo{type}}"
    " metadata{scope kind values} response{statusCode}"
)
RUN_TRACE = (
    "query R($runID:String!,$p:Boolean){run(runID:$runID){id appID app{externalID} functionID function{slug name}"
    " traceID queuedAt startedAt endedAt status sourceID triggerIDs eventName isBatch batchCreatedAt cronSchedule"
    f" output hasAI isDeferred trace(preview:$p){{{_FIELDS} childrenSpans{{{_FIELDS} childrenSpans{{{_FIELDS}"
    " childrenSpans{name status attempts}}}}}}"
)
SPAN_OUTPUT = (
    "query O($o:String!){runTraceSpanOutputByID(outputID:$o){input data error{message name stack cause}}}"
)
RUN_TRIGGER = (
    "query T($r:String!){runTrigger(runID:$r){eventName IDs payloads timestamp isBatch batchID cron}}"
)


def test_there_are_recordings() -> None:
    assert len(TRACES) == 30
    assert sum(len(item["views"]) for item in TRACES.values()) >= 55


def calls_of(name: str) -> list[dict[str, Any]]:
    return list(TRACES[name].get("calls") or RECORDED[name]["calls"])


def sends_of(name: str) -> list[dict[str, Any]]:
    own = TRACES[name].get("send")
    return [{"after_calls": 0, "event": own}] if own else list(RECORDED[name]["sends"])


def slugs_of(name: str) -> dict[str, int]:
    return {
        call["slug"]: call.get("body", {}).get("ctx", {}).get("max_attempts", 5) - 1
        for call in calls_of(name)
    }


def trigger_of(slug: str) -> dict[str, str]:
    if slug.endswith("-failure"):
        failed = slug.removesuffix("-failure")
        return {"event": "inngest/function.failed", "expression": f"event.data.function_id == '{failed}'"}
    _, sdk, name = slug.split("-", 2)
    return {"event": f"golden-{sdk}/{name}"}


class Script:
    """The recorded answers of one function, by target; steps that the app posted meanwhile are posted."""

    def __init__(self, server: Server, name: str, slug: str) -> None:
        self._server = server
        self._rest: dict[str, list[dict[str, Any]]] = {}
        for call in calls_of(name):
            if call["slug"] == slug:
                self._rest.setdefault(call["target"], []).append(call)

    def __call__(self, call: Call) -> Answer | None:
        answers = self._rest.get(call.target)
        if not answers:
            return None
        given = answers.pop(0)
        for steps in given.get("posts", ()):
            self._post(call, steps)
        answer = given["answer"]
        delay = answer.get("took_ms", 0) / 1000
        return Answer(answer["status"], answer["body"], answer["headers"], delay_s=delay)

    def _post(self, call: Call, steps: list[dict[str, Any]]) -> None:
        context = call.ctx
        body = {
            "run_id": context["run_id"], "fn_id": context["fn_id"], "qi_id": context["qi_id"],
            "request_id": context["request_id"], "generation_id": context["generation_id"],
            "request_started_at": int(call.at * 1000), "steps": steps, "ts": int(time.time() * 1000),
        }  # fmt: skip
        answer = httpx.post(f"{self._server.url}/v1/checkpoint/{context['run_id']}/async", json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def golden(server: Server) -> Iterator[BareApp]:
    """A bare app with every function of the recordings."""
    app = BareApp()
    functions = {slug: retries for name in TRACES for slug, retries in slugs_of(name).items()}
    configs = [
        function_config(app, slug, retries=retries, triggers=[trigger_of(slug)])
        for slug, retries in functions.items()
    ]
    register(server, app, "golden-traces", configs)
    yield app
    app.close()


def trace_of(graphql: Graphql, run_id: str, preview: bool) -> dict[str, Any]:
    return dict(graphql.ask(RUN_TRACE, runID=run_id, p=preview)["run"])


def compare(name: str, view: dict[str, Any], run: dict[str, Any]) -> list[str]:
    parallel = name.startswith(PARALLEL)
    want = ordered(expected(view, name), parallel)
    have = ordered(seen(run["trace"], run["id"]), parallel)
    return [f"{'current' if view['preview'] else 'older'} {d}" for d in differences(want, have)]


def pending(graphql: Graphql, run_id: str) -> bool:
    """Whether the run waits for something, and has not ended."""
    spans = trace_of(graphql, run_id, True)["trace"]["childrenSpans"]
    return any(span["stepOp"] in PENDING and span["status"] in ("WAITING", "RUNNING") for span in spans)


@pytest.mark.parametrize("name", TRACES)
def test_traces_are_those_of_the_recording(
    server: Server, graphql: Graphql, golden: BareApp, name: str
) -> None:
    item = TRACES[name]
    for slug in slugs_of(name):
        golden.on(slug, Script(server, name, slug))
    first, *later = sends_of(name)
    (event_id,) = server.send(first["event"])
    slug = next(iter(slugs_of(name)))
    run_id = server.run_of(event_id, slug)["run_id"]
    found: list[str] = []
    waiting = [v for v in item["views"] if v["status"] == "RUNNING"]
    if waiting and FAR_AHEAD not in name:
        until("the run to wait", lambda: pending(graphql, run_id))
        for view in waiting:
            run = trace_of(graphql, run_id, view["preview"])
            assert run["status"] == "RUNNING"
            found += compare(name, view, run)
    ended = [v for v in item["views"] if v["status"] != "RUNNING"]
    if ended[0]["status"] == "CANCELLED":
        until("the run to wait", lambda: pending(graphql, run_id))
        cancelled = graphql.ask("mutation($r:ULID!){cancelRun(runID:$r){id status}}", r=run_id)
        assert cancelled == {"cancelRun": {"id": run_id, "status": "CANCELLED"}}
    for send in later:
        time.sleep(0.1)
        server.send(send["event"])
    server.ended(run_id)
    for view in ended:
        run = trace_of(graphql, run_id, view["preview"])
        assert run["status"] == view["status"]
        found += compare(name, view, run)
        found += compare_results(graphql, view, run)
        assert run["output"] == _output(graphql, run)
    assert found == []


def _output(graphql: Graphql, run: dict[str, Any]) -> str | None:
    """The run's output as its root span has it."""
    if run["status"] != "COMPLETED":
        return run["output"]  # type: ignore[no-any-return]
    return graphql.ask(SPAN_OUTPUT, o=run["trace"]["outputID"])["runTraceSpanOutputByID"]["data"]  # type: ignore[no-any-return]


def compare_results(graphql: Graphql, view: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """Differences between the recorded results and those that the spans of the same names lead to."""
    found = []
    for path, recorded in results(view):
        span = run["trace"]
        for name in path:
            span = next(child for child in span["childrenSpans"] if child["name"] == name)
        have = graphql.ask(SPAN_OUTPUT, o=span["outputID"])["runTraceSpanOutputByID"]
        found += differences(result_text(recorded), result_text(have), f"output of {path}")
        if not path:
            found += differences(_inputs(recorded), _inputs(have), "input")
    return found


def _inputs(result: dict[str, Any]) -> list[Any]:
    events = json.loads(result["input"])
    return [
        {"name": re.sub(r"^golden-", "", e["name"]), "data": e["data"], "keys": sorted(e)} for e in events
    ]


def test_the_events_that_an_invoke_names_exist(server: Server, graphql: Graphql, golden: BareApp) -> None:
    name = "14-invoke-ok-js-invokeok"
    for slug in slugs_of(name):
        golden.on(slug, Script(server, name, slug))
    (event_id,) = server.send(sends_of(name)[0]["event"])
    run_id = server.run_of(event_id, "golden-js-invokeok")["run_id"]
    server.ended(run_id)
    trace = trace_of(graphql, run_id, True)["trace"]
    (info,) = [span["stepInfo"] for span in trace["childrenSpans"] if span["stepOp"] == "INVOKE"]
    query = "query($a:ULID!,$b:ULID!){a:eventV2(id:$a){name runs{id sourceID}} b:eventV2(id:$b){name}}"
    events = graphql.ask(query, a=info["triggeringEventID"], b=info["returnEventID"])
    assert events["a"] == {
        "name": "inngest/function.invoked",
        "runs": [{"id": info["runID"], "sourceID": run_id}],
    }
    assert events["b"]["name"] == "inngest/function.finished"


def test_triggers_are_those_of_the_recording(server: Server, graphql: Graphql, golden: BareApp) -> None:
    name = "03-zero-step-js-zero"
    golden.on("golden-js-zero", Script(server, name, "golden-js-zero"))
    (event_id,) = server.send(sends_of(name)[0]["event"])
    run_id = server.run_of(event_id, "golden-js-zero")["run_id"]
    trigger = graphql.ask(RUN_TRIGGER, r=run_id)["runTrigger"]
    recorded = TRACES[name]["trigger"]
    assert trigger.keys() == {"eventName", "IDs", "payloads", "timestamp", "isBatch", "batchID", "cron"}
    assert (trigger["IDs"], trigger["isBatch"], trigger["cron"]) == ([event_id], False, None)
    assert trigger["eventName"] == f"golden-{recorded['eventName']}"
    have, want = json.loads(trigger["payloads"][0]), json.loads(recorded["payloads"][0])
    assert list(have) == list(want) == ["id", "name", "data", "ts"]
    assert (have["id"], have["data"]) == (event_id, want["data"])

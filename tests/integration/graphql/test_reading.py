"""Apps, functions, events and runs, as dashboards and the test helpers of the SDKs ask for them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.graphql.conftest import Graphql
from tests.sdk.bare_app import Answer, BareApp, Scripted, function_config, ops, ran, register, sha1
from tests.sdk.driver import until

FROM = "2026-01-01T00:00:00Z"
RUNS = (
    "query($f:RunsFilterV2!,$o:[RunsV2OrderBy!]!,$n:Int!,$a:String){runs(first:$n,after:$a,orderBy:$o,filter:$f)"
    "{edges{cursor node{id status queuedAt startedAt endedAt output eventName function{slug} app{externalID}"
    " triggerIDs isBatch cronSchedule hasAI}} pageInfo{hasNextPage hasPreviousPage startCursor endCursor}"
    " totalCount}}"
)
EVENTS = (
    "query($f:EventsFilter!,$n:Int!,$a:String){eventsV2(first:$n,after:$a,filter:$f){edges{cursor node{id envID name"
    " idempotencyKey occurredAt receivedAt raw version source{id} runs{id status function{slug}}}}"
    " pageInfo{hasNextPage hasPreviousPage startCursor endCursor} totalCount}}"
)
Maker = Callable[..., Scripted]


def page(
    graphql: Graphql, first: int = 40, after: str | None = None, order: str = "DESC", **given: Any
) -> dict[str, Any]:
    """A page of runs."""
    field = given.setdefault("timeField", "QUEUED_AT")
    given.setdefault("from", FROM)
    by = [{"field": field, "direction": order}]
    return dict(graphql.ask(RUNS, f=given, o=by, n=first, a=after)["runs"])


def ids(found: dict[str, Any]) -> list[str]:
    return [edge["node"]["id"] for edge in found["edges"]]


@pytest.fixture
def finished(scripted: Maker) -> tuple[Scripted, list[str]]:
    """A function, and the ids of five runs of it, in the order of their start; run k gives {"k": k}."""
    function = scripted(lambda call: Answer(200, {"k": call.body["event"]["data"]["k"]}))
    return function, [function.run(k=k)["run_id"] for k in range(5)]


class TestAppsAndFunctions:
    def test_an_app_with_its_functions(self, graphql: Graphql, bare: BareApp):
        configs = [
            function_config(
                bare, "shown-limits", retries=2,
                concurrency=[{"limit": 3, "key": "event.data.k"}], priority={"run": "event.data.p"},
                cancel=[{"event": "stop", "if": "event.data.a == async.data.a", "timeout": "1h"}],
                throttle={"limit": 2, "period": "1m"},
            ),
            function_config(bare, "shown-limits-failure", triggers=[{
                "event": "inngest/function.failed", "expression": "event.data.function_id == 'shown-limits'",
            }]),
            function_config(bare, "shown-timed", triggers=[{"cron": "0 0 1 1 *"}]),
        ]  # fmt: skip
        for config in configs[1:]:
            del config["steps"]["step"]["retries"]
        register(graphql.server, bare, "shown", configs, url=f"{bare.origin}/shown")
        query = (
            "{apps{id externalID name sdkLanguage sdkVersion framework url error method connected functionCount"
            " functions{slug name url appID app{name} config concurrency triggers{type value condition}"
            " failureHandler{slug} configuration{retries{value isDefault} priority"
            " cancellations{event condition timeout} concurrency{scope limit{value} key}"
            " throttle{limit period burst key} rateLimit{limit}}}}}"
        )
        (app,) = [app for app in graphql.ask(query)["apps"] if app["name"] == "shown"]
        functions = {function["slug"]: function for function in app.pop("functions")}
        assert graphql.ask("query($i:UUID!){app(id:$i){name}}", i=app.pop("id")) == {"app": {"name": "shown"}}
        assert app.pop("url").endswith("/shown")
        assert app == {
            "externalID": "shown", "name": "shown", "sdkLanguage": "js", "sdkVersion": "v4.24.0",
            "framework": "nodejs", "error": None, "method": "SERVE", "connected": True, "functionCount": 3,
        }  # fmt: skip
        limits, timed = functions["shown-limits"], functions["shown-timed"]
        assert json.loads(limits["config"])["triggers"] == [{"event": "bare/shown-limits"}]
        assert (limits["concurrency"], timed["concurrency"]) == (3, 0)
        assert limits["failureHandler"] == {"slug": "shown-limits-failure"}
        assert limits["url"].endswith("fnId=shown-limits&stepId=step")
        assert limits["configuration"] == {
            "retries": {"value": 2, "isDefault": False},
            "priority": "event.data.p",
            "cancellations": [
                {"event": "stop", "condition": "event.data.a == async.data.a", "timeout": "1h"}
            ],
            "concurrency": [{"scope": "FN", "limit": {"value": 3}, "key": "event.data.k"}],
            "throttle": {"limit": 2, "period": "1m", "burst": 0, "key": None},
            "rateLimit": None,
        }
        assert timed["triggers"] == [{"type": "CRON", "value": "0 0 1 1 *", "condition": None}]
        assert timed["configuration"]["retries"] == {"value": 3, "isDefault": True}
        by_slug = "query($s:String!){functionBySlug(query:{functionSlug:$s}){slug app{name}}}"
        assert graphql.ask(by_slug, s="shown-timed") == {
            "functionBySlug": {"slug": "shown-timed", "app": {"name": "shown"}}
        }
        assert {"slug": "shown-timed"} in graphql.ask("{functions{slug}}")["functions"]
        assert graphql.ask("{apps(filter:{method:CONNECT}){id}}") == {"apps": []}


class TestRuns:
    def test_page_by_page(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        function, run_ids = finished
        (function_id,) = [
            f["id"] for f in graphql.ask("{functions{id slug}}")["functions"] if f["slug"] == function.slug
        ]
        one = page(graphql, 2, functionIDs=[function_id])
        assert ids(one) == run_ids[:2:-1]
        assert one["totalCount"] == 5
        assert one["pageInfo"]["hasNextPage"]
        assert not one["pageInfo"]["hasPreviousPage"]
        assert one["pageInfo"]["startCursor"] == one["edges"][0]["cursor"]
        two = page(graphql, 2, one["pageInfo"]["endCursor"], functionIDs=[function_id])
        three = page(graphql, 2, two["pageInfo"]["endCursor"], functionIDs=[function_id])
        assert ids(two) + ids(three) == run_ids[2::-1]
        assert not three["pageInfo"]["hasNextPage"]
        assert ids(page(graphql, order="ASC", functionIDs=[function_id])) == run_ids
        node = one["edges"][0]["node"]
        assert (node["status"], node["eventName"], node["function"]) == (
            "COMPLETED",
            f"bare/{function.slug}",
            {"slug": function.slug},
        )
        assert json.loads(node["output"]) == {"k": 4}
        assert not node["hasAI"]

    @pytest.mark.parametrize("field", ["QUEUED_AT", "STARTED_AT", "ENDED_AT"])
    def test_by_app_and_time(self, graphql: Graphql, finished: tuple[Scripted, list[str]], field: str):
        function, run_ids = finished
        query = "query($s:String!){functionBySlug(query:{functionSlug:$s}){appID}}"
        app_id = graphql.ask(query, s=function.slug)["functionBySlug"]["appID"]
        found = page(graphql, timeField=field, appIDs=[app_id])
        assert ids(found) == run_ids[::-1]
        name = {"QUEUED_AT": "queuedAt", "STARTED_AT": "startedAt", "ENDED_AT": "endedAt"}[field]
        third = found["edges"][2]["node"][name]
        assert ids(page(graphql, timeField=field, appIDs=[app_id], **{"from": third}))[-1] == run_ids[2]
        assert ids(page(graphql, timeField=field, appIDs=[app_id], until=third)) == run_ids[1::-1]
        assert ids(page(graphql, appIDs=["00000000-0000-4000-a000-00000000dead"])) == []

    def test_by_status(self, graphql: Graphql, scripted: Maker):
        failing = scripted([Answer(400, {"name": "E", "message": "no"}, {"x-inngest-no-retry": "true"})])
        failed = failing.run()["run_id"]
        sleeping = scripted([ops(op_sleep("1h"))])
        event_id = sleeping.trigger()
        live = graphql.server.run_of(event_id, sleeping.slug)["run_id"]
        until("the run to sleep", lambda: sleeping.calls)
        assert failed in ids(page(graphql, status=["FAILED"]))
        assert live not in ids(page(graphql, status=["FAILED", "COMPLETED"]))
        assert live in ids(page(graphql, status=["RUNNING", "QUEUED"]))
        assert failed not in ids(page(graphql, status=["RUNNING", "QUEUED"]))
        assert page(graphql, status=["FAILED"])["totalCount"] >= 1
        (node,) = [e["node"] for e in page(graphql, status=["FAILED"])["edges"] if e["node"]["id"] == failed]
        assert json.loads(node["output"])["message"] == "no"

    def test_by_expression(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        function, run_ids = finished
        name = f"event.name == 'bare/{function.slug}'"
        assert ids(page(graphql, query=name)) == run_ids[::-1]
        assert ids(page(graphql, query=f"{name} && event.data.k >= 3")) == run_ids[:2:-1]
        assert ids(page(graphql, query=f"{name} && output.k == 1")) == [run_ids[1]]
        some = page(graphql, 2, query=name)
        assert ids(some) == run_ids[:2:-1]
        assert some["pageInfo"]["hasNextPage"]
        more = page(graphql, 3, some["pageInfo"]["endCursor"], query=name)
        assert ids(more) == run_ids[2::-1]
        assert ids(page(graphql, query="output.nothing.of.this == 1")) == []

    def test_orders_that_are_not_kept_are_refused(self, graphql: Graphql):
        given = {"from": FROM, "timeField": "QUEUED_AT"}
        assert "both must be the same time" in graphql.error(
            RUNS, f=given, o=[{"field": "ENDED_AT", "direction": "ASC"}], n=1
        )
        two = [{"field": f, "direction": "ASC"} for f in ("QUEUED_AT", "ENDED_AT")]
        assert "more than one field" in graphql.error(RUNS, f=given, o=two, n=1)

    def test_by_default_the_newest_come_first(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        found = graphql.ask(RUNS, f={"from": FROM}, o=[], n=1)["runs"]
        assert ids(found) == [finished[1][-1]]


class TestEvents:
    def test_page_by_page(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        function, run_ids = finished
        given = {"from": FROM, "eventNames": [f"bare/{function.slug}"]}
        one = graphql.ask(EVENTS, f=given, n=3)["eventsV2"]
        assert one["totalCount"] == 5
        assert [e["node"]["runs"][0]["id"] for e in one["edges"]] == run_ids[:1:-1]
        two = graphql.ask(EVENTS, f=given, n=3, a=one["pageInfo"]["endCursor"])["eventsV2"]
        assert [e["node"]["runs"][0]["id"] for e in two["edges"]] == run_ids[1::-1]
        assert (one["pageInfo"]["hasNextPage"], two["pageInfo"]["hasNextPage"]) == (True, False)
        node = one["edges"][0]["node"]
        raw = json.loads(node["raw"])
        assert list(raw) == ["data", "id", "name", "ts", "v"]
        assert (raw["data"], raw["v"]) == ({"k": 4}, None)
        assert node["idempotencyKey"] == node["id"] == raw["id"]
        assert node["runs"][0]["function"] == {"slug": function.slug}

    def test_the_servers_own_only_when_asked(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        def names(**given: Any) -> list[str]:
            found = graphql.ask(EVENTS, f={"from": FROM, **given}, n=40)["eventsV2"]
            return [e["node"]["name"] for e in found["edges"]]

        assert not any(name.startswith("inngest/") for name in names())
        assert "inngest/function.finished" in names(includeInternalEvents=True)
        only = names(includeInternalEvents=True, eventNames=["inngest/function.finished"])
        assert set(only) == {"inngest/function.finished"}
        both = names(eventNames=[f"bare/{finished[0].slug}", "nothing"])
        assert both == [f"bare/{finished[0].slug}"] * 5

    def test_by_time_and_expression(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        name = [f"bare/{finished[0].slug}"]

        def data(**given: Any) -> list[int]:
            found = graphql.ask(EVENTS, f={"from": FROM, "eventNames": name, **given}, n=40)["eventsV2"]
            return [json.loads(e["node"]["raw"])["data"]["k"] for e in found["edges"]]

        assert data() == [4, 3, 2, 1, 0]
        nodes = graphql.ask(EVENTS, f={"from": FROM, "eventNames": name}, n=40)["eventsV2"]["edges"]
        second = nodes[3]["node"]["receivedAt"]
        assert data(**{"from": second}) == [4, 3, 2, 1]
        assert data(until=second) == [0]
        assert data(query="event.data.k % 2 == 0") == [4, 2, 0]
        assert data(query="event.data.missing.value > 3") == []

    def test_one_event(self, graphql: Graphql, scripted: Maker):
        function = scripted([Answer(200, 1)])
        name = f"bare/{function.slug}"
        sent = {
            "name": name,
            "id": f"mine-{function.slug}",
            "data": {"a": 1},
            "user": {"id": 7},
            "ts": 1795515257192,
        }
        (event_id,) = graphql.server.send(sent)
        function.ended(event_id)
        found = graphql.ask("query($i:ULID!){eventV2(id:$i){idempotencyKey occurredAt raw}}", i=event_id)[
            "eventV2"
        ]
        assert found["idempotencyKey"] == sent["id"]
        assert found["occurredAt"].startswith("2026-11-24T")
        assert json.loads(found["raw"])["user"] == {"id": 7}
        query = (
            "query($e:ID!){event(query:{eventId:$e}){id externalID name payload status pendingRuns totalRuns raw"
            " functionRuns{id status output eventID event{name} events{id} function{slug} startedAt finishedAt cron}}}"
        )
        legacy = graphql.ask(query, e=event_id)["event"]
        (run,) = legacy.pop("functionRuns")
        assert (legacy["status"], legacy["pendingRuns"], legacy["totalRuns"]) == ("COMPLETED", 0, 1)
        assert json.loads(legacy["payload"]) == {"a": 1}
        assert (run["output"], run["eventID"], run["events"]) == ("1", event_id, [{"id": event_id}])

    def test_states_of_an_event(self, graphql: Graphql, scripted: Maker):
        query = "query($e:ID!){event(query:{eventId:$e}){status pendingRuns totalRuns}}"
        (lonely,) = graphql.server.send({"name": "nobody/listens", "data": {}})
        assert graphql.ask(query, e=lonely)["event"] == {
            "status": "NO_FUNCTIONS",
            "pendingRuns": 0,
            "totalRuns": 0,
        }
        waiting = scripted([ops(op_sleep("1h"))])
        event_id = waiting.trigger()
        graphql.server.run_of(event_id, waiting.slug)
        assert graphql.ask(query, e=event_id)["event"]["status"] == "RUNNING"
        failing = scripted([Answer(400, {}, {"x-inngest-no-retry": "true"})])
        event_id = failing.trigger()
        failing.ended(event_id)
        assert graphql.ask(query, e=event_id)["event"]["status"] == "FAILED"

    def test_the_stream_and_the_newest(self, graphql: Graphql, finished: tuple[Scripted, list[str]]):
        newest = graphql.ask("{events(query:{}){id name}}")["events"]
        assert newest[0]["name"] == f"bare/{finished[0].slug}"
        before = graphql.ask("query($e:ID){events(query:{lastEventId:$e}){id}}", e=newest[0]["id"])["events"]
        assert before[0]["id"] == newest[1]["id"]
        query = "query($q:StreamQuery!){stream(query:$q){id trigger type createdAt inBatch runs{id status}}}"
        stream = graphql.ask(query, q={"limit": 2})["stream"]
        assert [item["id"] for item in stream] == [event["id"] for event in newest[:2]]
        assert stream[0]["runs"] == [{"id": finished[1][-1], "status": "COMPLETED"}]
        assert (stream[0]["type"], stream[0]["inBatch"]) == ("EVENT", False)
        after = graphql.ask(query, q={"limit": 5, "after": newest[1]["id"]})["stream"]
        assert [item["id"] for item in after] == [newest[0]["id"]]
        own = graphql.ask(query, q={"limit": 1, "includeInternalEvents": True})["stream"]
        assert own[0]["trigger"] == "inngest/function.finished"


class TestHelpersOfSdks:
    """The very queries by which the SDKs' own test suites read runs."""

    def test_python(self, graphql: Graphql, scripted: Maker):
        function = scripted([ops(ran("first", {"a": [1, 2]})), Answer(200, "done")])
        event_id = function.trigger(x=1)
        from_event = (
            "query GetRunFromEventID($event_id: ID!){event(query:{eventId:$event_id}){functionRuns{id}}}"
        )
        run_ids = until(
            "the run",
            lambda: [r["id"] for r in graphql.ask(from_event, event_id=event_id)["event"]["functionRuns"]],
        )
        get_run = (
            "query GetRun($run_id: String!){run(runID:$run_id){output status}"
            " runTrigger(runID:$run_id){payloads}}"
        )
        data = until(
            "the end",
            lambda: (
                (d := graphql.ask(get_run, run_id=run_ids[0])) and d["run"]["status"] == "COMPLETED" and d
            ),
        )
        assert data["run"]["output"] == '"done"'
        assert json.loads(data["runTrigger"]["payloads"][0])["data"] == {"x": 1}
        # Asked once, right after the status has changed.
        steps = graphql.ask(
            "query GetHistory($run_id: String!){run(runID:$run_id){trace{childrenSpans{name outputID}}}}",
            run_id=run_ids[0],
        )["run"]["trace"]["childrenSpans"]
        output_id = next(step["outputID"] for step in steps if step["name"] == "first")
        output = graphql.ask(
            "query GetHistory($output_id: String!){runTraceSpanOutputByID(outputID:$output_id)"
            "{data error{message name stack}}}",
            output_id=output_id,
        )["runTraceSpanOutputByID"]
        assert (json.loads(output["data"]), output["error"]) == ({"a": [1, 2]}, None)

    def test_javascript(self, graphql: Graphql, scripted: Maker):
        function = scripted(
            [Answer(400, {"name": "TypeError", "message": "bad"}, {"x-inngest-no-retry": "true"})]
        )
        run_id = function.run()["run_id"]
        trace = graphql.ask(
            "query ($runId: String!){run(runID:$runId){status trace(preview:true){status outputID}}}",
            runId=run_id,
        )["run"]["trace"]
        assert trace["status"] == "FAILED"
        output = graphql.ask(
            "query ($traceID: String!){runTraceSpanOutputByID(outputID:$traceID){data error{message name}}}",
            traceID=trace["outputID"],
        )["runTraceSpanOutputByID"]
        assert output == {"data": None, "error": {"message": "bad", "name": "TypeError"}}
        metadata = (
            "fragment M on RunTraceSpan{name stepID spanID metadata{scope kind values updatedAt}}"
            "query($runId:String!){run(runID:$runId){trace(preview:true)"
            "{...M childrenSpans{...M childrenSpans{...M}}}}}"
        )
        spans = graphql.ask(metadata, runId=run_id)["run"]["trace"]["childrenSpans"]
        assert all(isinstance(span["metadata"], list) for span in spans)

    def test_status_spans_and_output_are_of_one_commit(self, graphql: Graphql, scripted: Maker):
        """A run that is seen to have ended is seen with all of its steps and its output."""
        for _ in range(15):
            function = scripted([ops(ran("a", 1)), ops(ran("b", 2)), Answer(200, "end")])
            event_id = function.trigger()
            run_id = graphql.server.run_of(event_id, function.slug)["run_id"]
            query = (
                "query($r:String!){run(runID:$r){status output trace{outputID childrenSpans{name status}}}}"
            )
            for _ in range(300):
                run = graphql.ask(query, r=run_id)["run"]
                if run["status"] == "COMPLETED":
                    break
            assert run["output"] == '"end"'
            assert run["trace"]["outputID"] is not None
            names = [(span["name"], span["status"]) for span in run["trace"]["childrenSpans"]]
            assert names == [("a", "COMPLETED"), ("b", "COMPLETED"), ("function success", "COMPLETED")]


class TestChanging:
    def test_invoke(self, graphql: Graphql, scripted: Maker):
        function = scripted([Answer(200, "invoked")])
        done = graphql.ask(
            "mutation($s:String!,$d:Map,$u:Map){invokeFunction(functionSlug:$s,data:$d,user:$u)}",
            s=function.slug,
            d={"a": {"b": [1, None, "x"]}},
            u={"id": 9},
        )
        assert done == {"invokeFunction": True}
        call = until("the call", lambda: function.calls)[0]
        event = call.body["event"]
        assert event["name"] == "inngest/function.invoked"
        assert event["data"]["a"] == {"b": [1, None, "x"]}
        assert event["user"] == {"id": 9}

    def test_invoke_with_what_is_no_data(self, graphql: Graphql, scripted: Maker):
        function = scripted([])
        query = "mutation($s:String!,$d:Map){invokeFunction(functionSlug:$s,data:$d)}"
        assert graphql.error(query, s=function.slug, d=[1])
        assert "debug sessions" in graphql.error(
            'mutation($s:String!){invokeFunction(functionSlug:$s,debugRunID:"01HZZZZZZZZZZZZZZZZZZZZZZZ")}',
            s=function.slug,
        )

    def test_cancel(self, graphql: Graphql, scripted: Maker):
        function = scripted([ops(op_sleep("1h"))])
        event_id = function.trigger()
        run_id = graphql.server.run_of(event_id, function.slug)["run_id"]
        query = "mutation($r:ULID!){cancelRun(runID:$r){id status finishedAt}}"
        cancelled = graphql.ask(query, r=run_id)["cancelRun"]
        assert (cancelled["id"], cancelled["status"]) == (run_id, "CANCELLED")
        assert cancelled["finishedAt"] is not None
        assert graphql.error(query, r=run_id) == "cannot cancel an ended run"

    def test_rerun(self, graphql: Graphql, scripted: Maker):
        function = scripted(lambda call: Answer(200, call.body["event"]["data"]))
        event_id = function.trigger(n=3)
        first = function.ended(event_id)["run_id"]
        second = graphql.ask("mutation($r:ULID!){rerun(runID:$r)}", r=first)["rerun"]
        assert second != first
        assert graphql.server.ended(second)["status"] == "Completed"
        query = "query($r:String!){run(runID:$r){originalRunID triggerIDs output sourceID}}"
        run = graphql.ask(query, r=second)["run"]
        assert run == {
            "originalRunID": first,
            "triggerIDs": [event_id],
            "output": graphql.ask(query, r=first)["run"]["output"],
            "sourceID": None,
        }
        assert {r["run_id"] for r in graphql.server.runs(event_id)} == {first, second}
        assert graphql.server.run(second)["original_run_id"] == first

    def test_rerun_from_a_step(self, graphql: Graphql, scripted: Maker):
        function = scripted(
            [ops(ran("a", 1)), ops(ran("b", 2)), Answer(200, 3), ops(ran("b", 20)), Answer(200, 30)]
        )
        first = function.run()["run_id"]
        rerun = "mutation($r:ULID!,$f:RerunFromStepInput){rerun(runID:$r,fromStep:$f)}"
        second = graphql.ask(rerun, r=first, f={"stepID": "b", "input": '[{"x": 1}]'})["rerun"]
        assert graphql.server.ended(second)["output"] == 30
        query = (
            "query($r:String!){run(runID:$r){originalRunID fromStep{stepID name input}"
            " trace(preview:true){childrenSpans{name status stepOp copiedFrom outputID}}}}"
        )
        run = graphql.ask(query, r=second)["run"]
        assert run["originalRunID"] == first
        assert run["fromStep"] == {"stepID": sha1("b"), "name": "b", "input": '[{"x": 1}]'}
        a, b = [span for span in run["trace"]["childrenSpans"] if span["name"] in "ab"]
        assert (a["copiedFrom"], a["status"], a["stepOp"]) == (first, "COMPLETED", "RUN")
        assert (b["copiedFrom"], b["status"], b["stepOp"]) == (None, "COMPLETED", "RUN")
        output = "query($o:String!){runTraceSpanOutputByID(outputID:$o){input data}}"
        shown = [graphql.ask(output, o=span["outputID"])["runTraceSpanOutputByID"] for span in (a, b)]
        assert shown == [{"input": None, "data": "1"}, {"input": '[{"x": 1}]', "data": "20"}]
        assert graphql.ask(query, r=first)["run"]["fromStep"] is None
        error = graphql.error(rerun, r=first, f={"stepID": "c"})
        assert error == f"Run {first} has no step 'c'. Its steps are: a, b."
        assert "must be a JSON list" in graphql.error(rerun, r=first, f={"stepID": "b", "input": "7"})
        listed = (
            "query($f:RunsFilterV2!){runs(first:1,orderBy:[],filter:$f){edges{node{id fromStep{input}}}}}"
        )
        wanted = {"from": FROM, "functionIDs": [id_of(graphql, function.slug)]}
        (edge,) = graphql.ask(listed, f=wanted)["runs"]["edges"]
        assert edge["node"] == {"id": second, "fromStep": {"input": '[{"x": 1}]'}}

    def test_rerun_of_an_invoked_run_does_not_wake_its_parent(
        self, graphql: Graphql, bare: BareApp, scripted: Maker
    ):
        child = scripted(lambda call: Answer(200, "child"))
        invoke = {
            "op": "InvokeFunction", "id": sha1("inv"), "name": "inv", "displayName": "inv",
            "opts": {"function_id": child.slug, "payload": {"data": {}}},
        }  # fmt: skip
        parent = scripted([ops(invoke), Answer(200, "parent")])
        parent.run()
        spans = (
            "query($r:String!){run(runID:$r){trace{childrenSpans{stepInfo{...on InvokeStepInfo{runID}}}}}}"
        )
        runs = page(graphql, functionIDs=[id_of(graphql, child.slug)])
        (old,) = ids(runs)
        new = graphql.ask("mutation($r:ULID!){rerun(runID:$r)}", r=old)["rerun"]
        assert graphql.server.ended(new)["status"] == "Completed"
        time.sleep(0.2)
        assert len(parent.calls) == 2
        assert graphql.ask(spans, r=new)["run"]["trace"]["childrenSpans"] == [{"stepInfo": None}]

    def test_apps_come_and_go(self, graphql: Graphql, bare: BareApp):
        register(
            graphql.server,
            bare,
            "leaving",
            [function_config(bare, "leaving-x")],
            url=f"{bare.origin}/leaving",
        )
        (app,) = [a for a in graphql.ask("{apps{id name}}")["apps"] if a["name"] == "leaving"]
        assert graphql.ask("mutation($i:String!){deleteApp(id:$i)}", i=app["id"]) == {"deleteApp": app["id"]}
        assert "leaving" not in [a["name"] for a in graphql.ask("{apps{name}}")["apps"]]
        assert "leaving-x" not in graphql.server.functions()
        register(
            graphql.server,
            bare,
            "leaving",
            [function_config(bare, "leaving-x")],
            url=f"{bare.origin}/leaving",
        )
        assert graphql.ask('mutation{deleteAppByName(name:"leaving")}') == {"deleteAppByName": True}
        assert "no app" in graphql.error('mutation{deleteAppByName(name:"leaving")}')

    def test_create_an_app_from_a_url(self, graphql: Graphql, bare: BareApp):
        """A sync asks the app, which registers; here the app registers from within its answer."""
        url = f"{bare.origin}/created"

        def on_put() -> None:
            register(graphql.server, bare, "created", [function_config(bare, "created-x", url=url)], url=url)

        bare.on("", lambda call: on_put() or Answer(200, {"message": "ok", "modified": True}))
        query = "mutation($u:String!){createApp(input:{url:$u}){id name url functionCount error connected}}"
        created = graphql.ask(query, u=url)["createApp"]
        assert (created["name"], created["functionCount"], created["connected"]) == ("created", 1, True)
        update = "mutation($i:String!,$u:String!){updateApp(input:{id:$i,url:$u}){name}}"
        assert graphql.ask(update, i=created["id"], u=url)["updateApp"] == {"name": "created"}
        (other,) = [a["id"] for a in graphql.ask("{apps{id name}}")["apps"] if a["name"] != "created"][:1]
        assert "serves the app 'created'" in graphql.error(update, i=other, u=url)
        assert "unreachable" in graphql.error(query, u="http://127.0.0.1:1/none")


def op_sleep(duration: str, step: str = "nap") -> dict[str, Any]:
    return {"op": "Sleep", "id": sha1(step), "name": duration, "displayName": step, "opts": {}}


def id_of(graphql: Graphql, slug: str) -> str:
    query = "query($s:String!){functionBySlug(query:{functionSlug:$s}){id}}"
    return str(graphql.ask(query, s=slug)["functionBySlug"]["id"])

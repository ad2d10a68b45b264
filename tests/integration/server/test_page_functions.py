"""What the page of a function asks for: its limits, what it is busy with, its failures by kind, jobs, its flow."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.integration.server.test_page_api import Api, finished
from tests.sdk.bare_app import Answer, Call, op, ops, ran
from tests.sdk.driver import Server, until


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/api/openapi.json").json()
    return found


@pytest.fixture
def api(http: httpx.Client, document: dict[str, Any]) -> Api:
    return Api(http, document)


def final(name: str, message: str) -> Answer:
    return Answer(500, {"name": name, "message": message}, headers={"x-inngest-no-retry": "true"})


class TestLimits:
    def test_code_and_what_is_in_force(self, api: Api, scripted: Make) -> None:
        config = {
            "concurrency": [{"limit": 5}, {"limit": 2, "key": "event.data.user"}],
            "throttle": {"limit": 3, "period": "1m"},
        }
        fn = scripted([], **config)
        limits = api("GET", f"/api/functions/{fn.slug}")["limits"]
        assert [(one["limit"], one["key"]) for one in limits["concurrency"]] == [
            (5, None),
            (2, "event.data.user"),
        ]
        assert (limits["throttle"]["limit"], limits["throttle"]["period_ms"]) == (3, 60_000)
        overrides = {"throttle": None, "concurrency": 9, "idempotency": "event.data.id"}
        shown = api("PUT", f"/api/functions/{fn.slug}/overrides", {"overrides": overrides})
        assert shown["limits_of_code"] == limits
        now = shown["limits"]
        assert (now["throttle"], now["concurrency"][0]["limit"], now["idempotency"]) == (
            None,
            9,
            "event.data.id",
        )
        assert now["rate_limit"] is None, "idempotency is told once"
        told = api.refused(
            "PUT", f"/api/functions/{fn.slug}/overrides", 400, {"overrides": {"throttle": {"limit": 1}}}
        )
        assert "period" in told
        back = api("PUT", f"/api/functions/{fn.slug}/overrides", {"overrides": {}})
        assert back["limits"] == limits

    def test_what_is_taken(self, api: Api, server: Server, scripted: Make) -> None:
        limits = [{"limit": 5}, {"limit": 1, "key": "event.data.user"}]
        fn = scripted(lambda call: Answer(200, None, delay_s=1.5), concurrency=limits)
        name = f"bare/{fn.slug}"
        server.send(*({"name": name, "data": {"user": user}} for user in ("ada", "ada", "bob")))

        def look() -> Any:
            found = api("GET", f"/api/functions/{fn.slug}/now")
            return found if found["uses"][0]["taken"] == 2 else None

        now = until("two calls", look)
        whole, keyed = now["uses"]
        assert (whole["of"], whole["limit"], whole["key"], whole["busiest"]) == ("steps", 5, None, [])
        assert (keyed["taken"], keyed["keys"]) == (2, 2)
        assert sorted((use["value"], use["taken"]) for use in keyed["busiest"]) == [("ada", 1), ("bob", 1)]
        assert (now["queued"], now["running"]) == (1, 2), "the third has not begun"

        def ended() -> bool:
            found = api("GET", f"/api/functions/{fn.slug}/now")
            return (found["queued"], found["running"], found["uses"][0]["taken"]) == (0, 0, 0)

        until("the end", ended)
        assert "ghost" in api.refused("GET", "/api/functions/ghost/now", 404)


class TestFailures:
    def test_one_kind_for_the_same_error(self, api: Api, server: Server, scripted: Make) -> None:
        def fails(call: Call) -> Answer:
            n = call.body["event"]["data"]["n"]
            return (
                final("Declined", f"the card of order {n} was declined")
                if n < 3
                else final("Timeout", "too late")
            )

        fn = scripted(fails)
        events = server.send(*({"name": f"bare/{fn.slug}", "data": {"n": n}} for n in range(4)))
        runs = [finished(server, event, fn.slug) for event in events]
        found = api("GET", "/api/failures", function=fn.slug)
        assert (found["runs"], found["whole"]) == (4, True)
        declined, late = found["kinds"]
        assert (declined["name"], declined["pattern"]) == ("Declined", "the card of order # was declined")
        assert declined["run_ids"] == sorted(runs[:3], reverse=True)
        assert declined["message"] == "the card of order 2 was declined"
        assert declined["functions"] == [fn.slug]
        assert declined["first"] <= declined["last"]
        assert (late["name"], late["run_ids"]) == ("Timeout", [runs[3]])

    def test_of_a_time_and_of_nobody(self, api: Api, scripted: Make) -> None:
        fn = scripted([])
        assert api("GET", "/api/failures", function=fn.slug)["kinds"] == []
        assert api("GET", "/api/failures", function="ghost")["kinds"] == []
        assert api("GET", "/api/failures", since=0, until=1)["runs"] == 0
        assert "since" in api.refused("GET", "/api/failures", 400, since=5, until=5)


class TestJobs:
    def test_a_replay_and_its_progress(self, api: Api, server: Server, scripted: Make) -> None:
        tries = dict[str, int]()

        def fails_at_first(call: Call) -> Answer:
            key = str(call.body["event"]["data"]["n"])
            tries[key] = tries.get(key, 0) + 1
            return final("E", "no") if tries[key] == 1 else Answer(200, None)

        fn = scripted(fails_at_first)
        events = server.send(*({"name": f"bare/{fn.slug}", "data": {"n": n}} for n in range(3)))
        for event in events:
            finished(server, event, fn.slug)
        wanted = {"kind": "replay", "function": fn.slug, "condition": "event.data.n > 0"}
        assert api("POST", "/api/jobs/count", wanted) == {"matching": 2, "whole": True}
        begun = api("POST", "/api/jobs", wanted)
        assert (begun["kind"], begun["function"], begun["statuses"]) == ("replay", fn.slug, ["FAILED"])

        def over() -> Any:
            (job,) = api("GET", "/api/jobs", function=fn.slug)["jobs"]
            return job if job["state"] == "done" else None

        job = until("the end of the job", over)
        assert (job["id"], job["seen"], job["done"]) == (begun["id"], 3, 2)
        again = lambda: api("GET", "/api/runs", function=fn.slug, status="COMPLETED")["runs"]  # noqa: E731
        until("the new runs", lambda: len(again()) == 2)
        assert api("DELETE", f"/api/jobs/{job['id']}")["state"] == "done", "what is over stays so"

    def test_a_bulk_cancellation(self, api: Api, server: Server, scripted: Make) -> None:
        nap = ops(op("Sleep", "nap", name="1h"))
        fn = scripted(lambda call: nap)
        (event,) = server.send({"name": f"bare/{fn.slug}", "data": {}})
        run_id = until("the run", lambda: server.runs(event))[0]["run_id"]
        api("POST", "/api/jobs", {"kind": "cancel", "function": fn.slug})
        until("the end", lambda: server.run(run_id)["status"] == "Cancelled")

    def test_what_is_refused(self, api: Api, scripted: Make) -> None:
        fn = scripted([])
        of = {"kind": "replay", "function": fn.slug}
        assert "before until" in api.refused("POST", "/api/jobs", 400, {**of, "since": 2**46})
        assert "compile" in api.refused("POST", "/api/jobs", 400, {**of, "condition": "event.data =="})
        cancel = {"kind": "cancel", "function": fn.slug, "statuses": ["FAILED"]}
        assert "replays" in api.refused("POST", "/api/jobs/count", 400, cancel)
        assert "ghost" in api.refused("POST", "/api/jobs", 404, {**of, "function": "ghost"})
        assert "no job" in api.refused("DELETE", "/api/jobs/ghost", 404)


class TestFlow:
    def test_what_the_newest_runs_did(self, api: Api, server: Server, scripted: Make) -> None:
        def shop(call: Call) -> Answer:
            if not call.steps:
                return ops(ran("pay", {"n": 1}))
            if len(call.steps) == 1:
                return ops(op("Sleep", "nap", name="10ms"))
            return Answer(200, None)

        fn = scripted(shop)
        runs = [finished(server, fn.trigger(), fn.slug) for _ in range(2)]
        flow = api("GET", f"/api/functions/{fn.slug}/flow")
        assert (flow["runs"], flow["ended"], flow["failed"], flow["more"]) == (2, 2, 0, False)
        assert flow["started_by"] == [{"event": f"bare/{fn.slug}", "cron": None, "runs": 2}]
        assert [(step["name"], step["kind"], step["layer"], step["times"]) for step in flow["steps"]] == [
            ("pay", "step", 1, 2),
            ("nap", "sleep", 2, 2),
        ]
        assert {(edge["before"], edge["after"], edge["runs"]) for edge in flow["edges"]} == {
            ("start", "step:pay", 2),
            ("step:pay", "sleep:nap", 2),
            ("sleep:nap", "end", 2),
        }
        assert flow["steps"][0]["last"]["run_id"] == runs[1]

    def test_what_a_step_sends(self, api: Api, server: Server, scripted: Make) -> None:
        (sent,) = server.send({"name": "bare/told", "data": {}})

        def tells(call: Call) -> Answer:
            if not call.steps:
                return ops({**ran("tell", {"ids": [sent]}), "opts": {"type": "step.sendEvent"}})
            return Answer(200, None)

        fn = scripted(tells)
        finished(server, fn.trigger(), fn.slug)
        flow = api("GET", f"/api/functions/{fn.slug}/flow")
        assert flow["steps"][0]["kind"] == "send"
        assert flow["sends"] == [{"step": "send:tell", "events": ["bare/told"]}]

    def test_a_function_that_never_ran(self, api: Api, scripted: Make) -> None:
        flow = api("GET", f"/api/functions/{scripted([]).slug}/flow")
        assert (flow["runs"], flow["steps"], flow["since"]) == (0, [], None)

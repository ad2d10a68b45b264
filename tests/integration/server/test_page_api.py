"""The API of the pages: each answer fits the document that the pages' types are made from."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, Call, Scripted, op, ops, ran
from tests.sdk.driver import Server, until


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.http.get("/api/openapi.json").json()
    return found


class Api:
    """A client that holds every answer against the document."""

    def __init__(self, http: httpx.Client, document: dict[str, Any]) -> None:
        self._http = http
        self._document = document

    def __call__(self, method: str, path: str, body: object = None, **query: Any) -> Any:
        answer = self._http.request(method, path, params=query, json=body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        schema = self._operation(method, path)["responses"]["200"]["content"]["application/json"]["schema"]
        whole = {**schema, "components": self._document["components"]}
        assert not [str(error) for error in jsonschema_rs.validator_for(whole).iter_errors(found)]
        return found

    def refused(self, method: str, path: str, code: int, body: object = None, **query: Any) -> str:
        answer = self._http.request(method, path, params=query, json=body)
        assert answer.status_code == code, answer.text
        error: str = answer.json()["error"]
        return error

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        for template, operations in sorted(self._document["paths"].items()):
            pattern = re.sub(r"\{\w+\}", "[^/]+", template)
            if re.fullmatch(pattern, path) and method.lower() in operations:
                found: dict[str, Any] = operations[method.lower()]
                return found
        raise AssertionError(f"{method} {path} is not in the document")


@pytest.fixture
def api(http: httpx.Client, document: dict[str, Any]) -> Api:
    return Api(http, document)


def finished(server: Server, event: str, slug: str) -> str:
    """The id of the run of an event, once it has ended."""
    run = until("the end", lambda: next((r for r in server.runs(event) if r["ended_at"]), None))
    assert slug
    return str(run["run_id"])


def fails_once(call: Call) -> Answer:
    if call.ctx["attempt"] == 0 and not call.steps:
        return Answer(500, {"name": "Error", "message": "not yet"}, headers={"Retry-After": "0"})
    if len(call.steps) == 0:
        return ops(ran("first", {"n": 1}))
    return Answer(200, {"done": True})


class TestRuns:
    def test_pages_hold_each_run_once(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(lambda call: Answer(200, None))
        ids = [finished(server, fn.trigger(), fn.slug) for _ in range(5)]
        seen: list[str] = []
        cursor = ""
        for _ in range(3):
            page = api("GET", "/api/runs", function=fn.slug, limit=2, cursor=cursor)
            seen += [run["id"] for run in page["runs"]]
            cursor = page["cursor"]
        assert seen == sorted(ids, reverse=True)
        assert cursor is None

    def test_filters(self, api: Api, server: Server, scripted: Make) -> None:
        good = scripted(lambda call: Answer(200, None))
        bad = scripted(
            lambda call: Answer(500, {"name": "E", "message": "m"}, headers={"x-inngest-no-retry": "true"})
        )
        one = finished(server, good.trigger(), good.slug)
        two = finished(server, bad.trigger(), bad.slug)
        both = {"function": [good.slug, bad.slug]}
        assert {run["id"] for run in api("GET", "/api/runs", **both)["runs"]} == {one, two}
        assert [run["id"] for run in api("GET", "/api/runs", status="FAILED", **both)["runs"]] == [two]
        (run,) = api("GET", "/api/runs", status=["COMPLETED", "RUNNING"], **both)["runs"]
        assert (run["id"], run["function"], run["trigger"]) == (one, good.slug, "event")
        assert api("GET", "/api/runs", since=run["queued_at"] + 60_000, **both)["runs"] == []
        ascending = api("GET", "/api/runs", time="ended_at", ascending="true", **both)["runs"]
        assert [run["id"] for run in ascending] == [one, two]
        assert api("GET", "/api/runs", function="no-such")["runs"] == []
        assert api("GET", "/api/runs", app="no-such")["runs"] == []

    @pytest.mark.parametrize(
        ("query", "told"),
        [
            ({"limit": "0"}, "limit is 0"),
            ({"limit": "x"}, "limit"),
            ({"status": "GONE"}, "status"),
            ({"colour": "red"}, "'colour'"),
            ({"cursor": "AAAA"}, "cursor"),
        ],
    )
    def test_bad_queries_are_told(self, api: Api, query: dict[str, str], told: str) -> None:
        assert told in api.refused("GET", "/api/runs", 400, **query)

    def test_search(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(lambda call: Answer(200, {"n": call.body["event"]["data"]["n"]}))
        events = server.send(*({"name": f"bare/{fn.slug}", "data": {"n": n}} for n in range(130)))
        ids = [finished(server, event, fn.slug) for event in events]
        found = api("GET", "/api/runs/search", function=fn.slug, query="event.data.n == 3 || output.n == 5")
        assert {run["id"] for run in found["runs"]} == {ids[3], ids[5]}
        assert (found["tried"], found["cursor"]) == (130, None)
        seen, cursor = list[str](), ""
        while cursor is not None:
            found = api(
                "GET", "/api/runs/search", function=fn.slug, query="output.n < 120", limit=1, cursor=cursor
            )
            seen += [run["id"] for run in found["runs"]]
            cursor = found["cursor"]
        assert sorted(seen) == sorted(ids[:120]), "each once, over several requests"
        told = api.refused("GET", "/api/runs/search", 400, query="event.data.n ==")
        assert "no CEL expression" in told

    def test_cancel_and_rerun_many(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted([ops(op("Sleep", "nap", name="1h")), ops(op("Sleep", "nap", name="1h"))])
        event = fn.trigger()
        run = until("the run", lambda: server.runs(event))[0]["run_id"]
        ghost = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
        outcomes = api("POST", "/api/runs/cancel", {"run_ids": [run, ghost]})["outcomes"]
        assert (outcomes[0]["new_run_id"], outcomes[0]["problem"]) == (run, None)
        assert "there is no run" in outcomes[1]["problem"]
        (again,) = api("POST", "/api/runs/cancel", {"run_ids": [run]})["outcomes"]
        assert again["problem"] == "it had ended already: cancelled"
        (rerun,) = api("POST", "/api/runs/rerun", {"run_ids": [run]})["outcomes"]
        assert rerun["new_run_id"] not in (run, None)
        assert api("GET", f"/api/runs/{rerun['new_run_id']}")["run"]["original_run_id"] == run
        server.cancel(rerun["new_run_id"])
        assert "too many" in api.refused(
            "POST", "/api/runs/cancel", 400, {"run_ids": [f"{ghost[:-4]}{n:04d}" for n in range(201)]}
        )


class TestOneRun:
    def test_its_trace_and_results(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(fails_once, retries=1)
        run_id = finished(server, fn.trigger(), fn.slug)
        shown = api("GET", f"/api/runs/{run_id}")
        assert shown["run"]["status"] == "COMPLETED"
        assert shown["events"][0]["name"] == f"bare/{fn.slug}"
        step = next(line for line in shown["lines"] if line["kind"] == "step")
        assert (step["name"], step["status"]) == ("first", "COMPLETED")
        result = api("GET", f"/api/results/{step['output']}")
        assert json.loads(result["data"]) == {"n": 1}
        failed = next(one for line in shown["lines"] for one in line["tries"] if one["status"] == "FAILED")
        assert api("GET", f"/api/results/{failed['output']}")["error"]["message"] == "not yet"
        assert json.loads(api("GET", f"/api/results/{shown['output']}")["data"]) == {"done": True}

    def test_its_logs(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(fails_once, retries=1)
        run_id = finished(server, fn.trigger(), fn.slug)
        own = {"run_id": run_id, "step": "s1", "step_id": "load", "attempt": 0, "ts": 1_767_225_600_000}
        lines = [{**own, "level": "INFO", "logger": "shop", "message": f"line {n}"} for n in range(3)]
        server.http.post("/v1/step-logs", json=[*lines, {**own, "progress": 0.5, "message": "half"}])
        shown = until(
            "the lines",
            lambda: (
                api("GET", f"/api/runs/{run_id}/logs")
                if api("GET", f"/api/runs/{run_id}/logs")["lines"]
                else None
            ),
        )
        assert [one["message"] for one in shown["lines"]] == ["line 0", "line 1", "line 2"]
        assert [(one["name"], one["progress"], one["lines"]) for one in shown["steps"]] == [("load", 0.5, 3)]
        last = shown["lines"][0]["n"]
        assert len(api("GET", f"/api/runs/{run_id}/logs", step="s1", after=last)["lines"]) == 2
        assert api("GET", f"/api/runs/{run_id}/logs", step="ghost")["lines"] == []

    def test_what_is_not_there(self, api: Api) -> None:
        assert "26 letters" in api.refused("GET", "/api/runs/x", 404)
        assert "there is no run" in api.refused("GET", "/api/runs/01ARZ3NDEKTSV4RRFFQ69G5FAV", 404)
        assert "not made by this server" in api.refused("GET", "/api/results/x", 404)

    def test_why_it_waits(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted([ops(op("Sleep", "nap", name="1h"))])
        event = fn.trigger()
        run = until("the run", lambda: server.runs(event))[0]["run_id"]
        why = until(
            "the nap",
            lambda: next(
                iter(w for w in [api("GET", f"/api/runs/{run}/why")["why"]] if "nap" in json.dumps(w)), None
            ),
        )
        assert why["text"]
        server.cancel(run)

    def test_rerun_from_a_step(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(fails_once, retries=1)
        run_id = finished(server, fn.trigger(), fn.slug)
        new = api("POST", f"/api/runs/{run_id}/rerun", {"from_step": "first"})["run_id"]
        assert new != run_id
        assert "no step 'ghost'" in api.refused(
            "POST", f"/api/runs/{run_id}/rerun", 404, {"from_step": "ghost"}
        )


class TestFunctionsEventsApps:
    def test_functions(self, api: Api, scripted: Make) -> None:
        fn = scripted([])
        assert fn.slug in [one["id"] for one in api("GET", "/api/functions")["functions"]]
        shown = api("GET", f"/api/functions/{fn.slug}")
        assert shown["head"]["triggers"] == [{"event": f"bare/{fn.slug}", "expression": None, "cron": None}]
        assert api("POST", f"/api/functions/{fn.slug}/pause", {"mode": "hold"})["head"]["paused"] == "hold"
        assert api("POST", f"/api/functions/{fn.slug}/pause", {"mode": None})["head"]["paused"] is None
        limit = {"concurrency": [{"limit": 3}]}
        set_to = api("PUT", f"/api/functions/{fn.slug}/overrides", {"overrides": limit})
        assert set_to["overrides"] == limit
        assert set_to["head"]["overridden"] is True
        assert api("PUT", f"/api/functions/{fn.slug}/overrides", {"overrides": {}})["overrides"] is None
        assert "ghost" in api.refused("GET", "/api/functions/ghost", 404)

    def test_events(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(lambda call: Answer(200, None))
        event = fn.trigger()
        run_id = finished(server, event, fn.slug)
        first, *_ = api("GET", "/api/events", name=f"bare/{fn.slug}", limit=1)["events"]
        assert first["internal_id"] == event
        shown = api("GET", f"/api/events/{event}")
        assert [run["id"] for run in shown["runs"]] == [run_id]
        assert "there is no event" in api.refused("GET", "/api/events/x", 404)
        assert "cursor" in api.refused("GET", "/api/events", 400, cursor="x")

    def test_sending(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(lambda call: Answer(200, None))
        name = f"bare/{fn.slug}"
        (first, second) = api(
            "POST", "/api/events", {"events": [{"name": name}, {"name": name, "data": {"n": 1}}]}
        )["ids"]
        assert finished(server, first, fn.slug) != finished(server, second, fn.slug)
        told = api.refused("POST", "/api/events", 400, {"events": [{"name": name}, {"data": {}}]})
        assert "name" in told
        assert len(api("GET", "/api/events", name=name)["events"]) == 2, "all of them or none"

    def test_apps_and_server(self, api: Api, scripted: Make) -> None:
        fn = scripted([])
        apps = api("GET", "/api/apps")["apps"]
        assert any(fn.slug in app["functions"] for app in apps)
        assert api("GET", "/api/server")["apps"] == len(apps)
        assert "no address" in api.refused("POST", "/api/apps/sync", 400, {"url": "nowhere"})
        assert api("POST", "/api/apps/sync", {"url": "http://127.0.0.1:9/api/inngest"})["problem"]
        assert "no app" in api.refused("DELETE", "/api/apps/ghost", 404)


class TestSchedules:
    def test_what_will_happen(self, api: Api, server: Server, scripted: Make) -> None:
        cron = scripted(lambda call: Answer(200, None), triggers=[{"cron": "*/5 * * * *"}])
        sleeper = scripted([ops(op("Sleep", "long-nap", name="36h"))])
        event = sleeper.trigger()
        run = until("the run", lambda: server.runs(event))[0]["run_id"]
        until("the nap", lambda: [t for t in api("GET", "/api/schedules")["timers"] if t["run_id"] == run])
        shown = api("GET", "/api/schedules")
        (timer,) = [one for one in shown["timers"] if one["run_id"] == run]
        assert (timer["name"], timer["kind"], timer["function"]) == ("long-nap", "sleep", sleeper.slug)
        assert 35 * 3_600_000 < timer["at"] - shown["now"] <= 36 * 3_600_000
        (schedule,) = [one for one in shown["schedules"] if one["function"] == cron.slug]
        assert [later - at for at, later in itertools.pairwise(schedule["next"])] == [300_000] * 399
        assert schedule["more"] is True
        soon = api("GET", "/api/schedules", until=shown["now"] + 3_600_000)
        assert run not in [one["run_id"] for one in soon["timers"]]
        (schedule,) = [one for one in soon["schedules"] if one["function"] == cron.slug]
        assert (len(schedule["next"]), schedule["more"]) == (12, False)
        server.cancel(run)

    def test_bad_times(self, api: Api) -> None:
        assert "31 days" in api.refused("GET", "/api/schedules", 400, until=5)

    def test_a_function_is_started_by_hand(self, api: Api, server: Server, scripted: Make) -> None:
        fn = scripted(lambda call: Answer(200, call.body["event"]["data"].get("n")))
        event = api("POST", f"/api/functions/{fn.slug}/start", {"data": {"n": 7}})["event_id"]
        assert server.run(finished(server, event, fn.slug))["output"] == 7
        assert api("POST", f"/api/functions/{fn.slug}/start", {})["event_id"]
        assert "data" in api.refused("POST", f"/api/functions/{fn.slug}/start", 400, {"data": 7})


class Listener:
    """Reads the live stream in a thread of its own."""

    def __init__(self, url: str, last_id: str = "") -> None:
        self.heard: list[tuple[str, str, dict[str, Any]]] = []
        self._client = httpx.Client(timeout=None)
        headers = {"last-event-id": last_id} if last_id else {}
        self._stream = self._client.stream("GET", f"{url}/api/live", headers=headers)
        self._response = self._stream.__enter__()
        assert self._response.headers["content-type"].startswith("text/event-stream")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self._response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    self.heard.append((fields["event"], fields["id"], json.loads(fields["data"])))
                    fields = {}
        except (httpx.HTTPError, httpx.StreamError):
            return

    def updates(self) -> list[dict[str, Any]]:
        return [data for event, _, data in self.heard if event == "update"]

    def close(self) -> None:
        self._response.close()
        self._client.close()


@pytest.fixture
def listen(server: Server) -> Iterator[Any]:
    open_ones: list[Listener] = []

    def start(last_id: str = "") -> Listener:
        listener = Listener(server.url, last_id)
        open_ones.append(listener)
        return listener

    yield start
    for one in open_ones:
        one.close()


class TestLive:
    def test_a_run_is_told_from_its_start_to_its_end(
        self, listen: Any, server: Server, scripted: Make, document: dict[str, Any]
    ) -> None:
        fn: Scripted = scripted(lambda call: Answer(200, None, delay_s=0.3))
        listener = listen()
        until("the beginning", lambda: listener.heard)
        assert listener.heard[0][0] == "resync", "whoever comes new reads all there is"
        run_id = finished(server, fn.trigger(), fn.slug)
        runs = lambda: [r for u in listener.updates() for r in u["runs"] if r["id"] == run_id]  # noqa: E731
        until("the end", lambda: [r for r in runs() if r["status"] == "COMPLETED"])
        assert runs()[0]["status"] in ("QUEUED", "RUNNING")
        assert any(e["name"] == f"bare/{fn.slug}" for u in listener.updates() for e in u["events"])
        assert any(run_id in u["changed"] for u in listener.updates())

    def test_who_comes_back_with_the_newest_id_has_missed_nothing(self, listen: Any, scripted: Make) -> None:
        first = listen()
        until("the beginning", lambda: first.heard)
        fn = scripted([])
        until("the function", lambda: [u for u in first.updates() if u["functions"]])
        second = listen(first.heard[-1][1])
        fn.trigger()
        until("an update", second.updates)
        assert [event for event, _, _ in second.heard] == ["update"] * len(second.heard)

    def test_who_was_away_reads_all_again(self, listen: Any) -> None:
        listener = listen("another-7")
        until("the beginning", lambda: listener.heard)
        assert listener.heard[0][0] == "resync"

"""REST: what an SDK fetches in the middle of a call, and events, runs, jobs, history and signals for others."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, Call, op, ops, ran, sha1
from tests.sdk.driver import Server, until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def data(answer: httpx.Response) -> Any:
    """What is wrapped in an answer, after a check of the wrapping."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"data", "metadata"}
    assert TIME.fullmatch(body["metadata"]["fetched_at"])
    assert body["metadata"].get("cached_until") is None
    return body["data"]


class TestWhatSdksFetch:
    def test_at_any_time_of_the_run(self, http: httpx.Client, scripted: Make) -> None:
        seen: list[tuple[Any, Any]] = []

        def script(call: Call) -> Answer:
            run = call.ctx["run_id"]
            seen.append((http.get(f"/v0/runs/{run}/batch"), http.get(f"/v0/runs/{run}/actions")))
            return ops(ran("a", {"n": 1.0})) if len(seen) == 1 else Answer(200, "end")

        fn = scripted(script)
        run = fn.run(key="k")
        assert [(b.status_code, a.status_code) for b, a in seen] == [(200, 200)] * 2
        (event,) = seen[0][0].json()
        assert (event["name"], event["data"]) == (f"bare/{fn.slug}", {"key": "k"})
        assert seen[0][1].json() == {}
        assert seen[1][1].json() == {sha1("a"): {"data": {"n": 1.0}}}
        assert b"1.0" in seen[1][1].content, "as the bytes that came"
        for part in ("batch", "actions"):
            answer = http.get(f"/v0/runs/{run['run_id']}/{part}")
            text = f"runtime state is no longer available for runID: {run['run_id']}"
            assert (answer.status_code, answer.json()["error"]) == (410, text)

    @pytest.mark.parametrize("part", ["batch", "actions"])
    def test_bad_and_unknown_ids(self, http: httpx.Client, part: str) -> None:
        assert http.get(f"/v0/runs/bad/{part}").status_code == 400
        assert http.get(f"/v0/runs/{GHOST.lower()}/{part}").status_code == 400
        assert http.get(f"/v0/runs/{GHOST}/{part}").status_code == 410

    def test_cancelling(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([ops(op("Sleep", "nap", name="1h"))])
        run = server.run_of(fn.trigger(), fn.slug)["run_id"]
        assert [http.delete(f"/v0/runs/{run}").status_code for _ in range(2)] == [204, 204]
        assert server.run(run)["status"] == "Cancelled"
        ended = scripted([Answer(200, None)]).run()["run_id"]
        answer = http.delete(f"/v0/runs/{ended}")
        text = "A function run with the given ID could not be found"
        assert (answer.status_code, answer.json()["error"]) == (404, text)
        assert http.delete(f"/v0/runs/{GHOST}").status_code == 404
        assert http.delete("/v0/runs/bad").status_code == 400


class TestEvents:
    @pytest.fixture(scope="class")
    @staticmethod
    def name(server: Server) -> str:
        """Sixty events of one name, one second apart in their ids."""
        name = f"rest/{time.time_ns()}"
        server.send(*[{"name": name, "data": {"n": n}} for n in range(60)])
        return name

    def listed(self, http: httpx.Client, **query: Any) -> list[dict[str, Any]]:
        return list(data(http.get("/v1/events", params=query)))

    def test_newest_first_by_pages(self, http: httpx.Client, name: str) -> None:
        seen: list[int] = []
        cursor: dict[str, str] = {}
        while page := self.listed(http, name=name, limit=7, **cursor):
            seen += [event["data"]["n"] for event in page]
            cursor = {"cursor": page[-1]["internal_id"]}
            assert len(page) == 7 or len(seen) == 60
        assert seen == list(reversed(range(60)))

    @pytest.mark.parametrize(
        ("limit", "count"),
        [(None, 20), ("", 20), ("0", 20), ("1", 1), ("51", 51), ("52", 51), ("999999", 51)],
    )
    def test_limits(self, http: httpx.Client, name: str, limit: str | None, count: int) -> None:
        query = {} if limit is None else {"limit": limit}
        assert len(self.listed(http, name=name, **query)) == count

    @pytest.mark.parametrize("limit", ["x", "-1", "1.5", "9" * 30, "²"])
    def test_bad_limits(self, http: httpx.Client, limit: str) -> None:
        answer = http.get("/v1/events", params={"limit": limit})
        assert answer.status_code == 400
        assert "limit" in answer.json()["error"]

    def test_shape(self, http: httpx.Client, name: str) -> None:
        event = self.listed(http, name=name, limit=1)[0]
        assert set(event) == {
            "internal_id", "account_id", "environment_id", "source", "source_id", "received_at", "id", "name",
            "data", "ts",
        }  # fmt: skip
        assert (event["source"], event["source_id"], event["id"]) == ("", None, event["internal_id"])
        assert TIME.fullmatch(event["received_at"])

    def test_times(self, http: httpx.Client, server: Server) -> None:
        name = f"rest/times-{time.time_ns()}"
        server.send({"name": name, "data": {"n": 0}})
        time.sleep(0.02)
        between = datetime.now(UTC)
        time.sleep(0.02)
        server.send({"name": name, "data": {"n": 1}})
        text = between.isoformat().replace("+00:00", "Z")
        assert [e["data"]["n"] for e in self.listed(http, name=name, received_after=text)] == [1]
        assert [e["data"]["n"] for e in self.listed(http, name=name, received_before=text)] == [0]
        hour = (between + timedelta(hours=1)).isoformat()
        assert self.listed(http, name=name, received_after=hour) == []
        assert len(self.listed(http, name=name, received_before=hour, received_after="")) == 2

    @pytest.mark.parametrize("field", ["received_after", "received_before", "cursor"])
    @pytest.mark.parametrize("value", ["bad", "2026-13-01T00:00:00Z", "1", "\x00", "9" * 400])
    def test_bad_values_name_their_field(self, http: httpx.Client, field: str, value: str) -> None:
        answer = http.get("/v1/events", params={field: value})
        assert answer.status_code == 400
        assert field in answer.json()["error"]
        assert len(answer.json()["error"]) < 300

    def test_own_events_of_the_server_are_not_listed(self, http: httpx.Client, scripted: Make) -> None:
        scripted([Answer(200, None)]).run()
        assert self.listed(http, name="inngest/function.finished") == []
        assert not [e for e in self.listed(http, limit=51) if e["name"].startswith("inngest/")]

    def test_one_event(self, http: httpx.Client, server: Server) -> None:
        (event_id,) = server.send({"name": "rest/one"})
        assert data(http.get(f"/v1/events/{event_id}"))["data"] == {}
        answer = http.get("/v1/events/bad")
        assert (answer.status_code, answer.json()["error"]) == (400, "Invalid event ID: bad")
        answer = http.get(f"/v1/events/{GHOST}")
        assert (answer.status_code, answer.json()["error"]) == (404, "Event not found")

    def test_runs_of_an_event(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([Answer(200, {"n": 2.0})])
        event_id = fn.trigger()
        fn.ended(event_id)
        (run,) = data(http.get(f"/v1/events/{event_id}/runs"))
        assert set(run) == {
            "run_id", "run_started_at", "function_id", "function_version", "environment_id", "event_id", "status",
            "ended_at", "output",
        }  # fmt: skip
        assert (run["status"], run["output"], run["event_id"]) == ("Completed", {"n": 2.0}, event_id)
        assert run["function_id"] == server.functions()[fn.slug]["id"]
        assert TIME.fullmatch(run["run_started_at"])
        assert TIME.fullmatch(run["ended_at"])
        assert data(http.get(f"/v1/events/{GHOST}/runs")) == []
        assert http.get("/v1/events/bad/runs").status_code == 400


class TestRuns:
    def test_from_start_to_end(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        seen: list[dict[str, Any]] = []

        def script(call: Call) -> Answer:
            seen.append(data(http.get(f"/v1/runs/{call.ctx['run_id']}")))
            return Answer(200, "out")

        run = scripted(script).run()
        assert seen[0]["status"] == "Running"
        assert seen[0]["ended_at"] is None
        assert "output" not in seen[0]
        assert data(http.get(f"/v1/runs/{run['run_id']}"))["output"] == "out"

    def test_failed_and_cancelled(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        failed = scripted([Answer(500, {"name": "Error", "message": "no"})]).run()
        assert (failed["status"], failed["output"]) == ("Failed", {"name": "Error", "message": "no"})
        fn = scripted([ops(op("Sleep", "nap", name="1h"))])
        run = server.run_of(fn.trigger(), fn.slug)["run_id"]
        answers = [http.delete(f"/v1/runs/{run}") for _ in range(2)]
        assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"")] * 2
        assert server.run(run)["status"] == "Cancelled"
        assert http.delete(f"/v1/runs/{failed['run_id']}").status_code == 200, "also when it has ended"
        assert server.run(failed["run_id"])["status"] == "Failed"

    def test_future_event_is_scheduled(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([])
        ts = int(time.time() * 1000) + 3_600_000
        (event,) = server.send({"name": f"bare/{fn.slug}", "ts": ts})
        run = server.run_of(event, fn.slug)
        assert run["status"] == "Scheduled"
        (job,) = data(http.get(f"/v1/runs/{run['run_id']}/jobs"))
        assert (job["kind"], job["attempt"], job["position"]) == ("start", 0, 0)
        assert job["at"] == datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="milliseconds").replace(
            "+00:00", "Z"
        )
        assert server.cancel(run["run_id"]) == 200

    def test_errors(self, http: httpx.Client) -> None:
        for path in ("/v1/runs/bad", "/v1/runs/bad/jobs", "/v1/runs/bad/history"):
            answer = http.get(path)
            assert (answer.status_code, answer.json()["error"]) == (400, "Invalid run ID: bad")
        answer = http.get(f"/v1/runs/{GHOST}")
        assert answer.json()["error"] == f"Unable to load function run: {GHOST}"
        answer = http.delete(f"/v1/runs/{GHOST}")
        assert (answer.status_code, answer.json()["status"]) == (404, 404)
        assert http.delete("/v1/runs/bad").status_code == 400

    def test_jobs(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        planned = [
            op("Sleep", "nap", name="1h"),
            op("WaitForEvent", "wait", opts={"event": "x", "timeout": "1h"}),
        ]
        fn = scripted([ops(*planned)])
        run = server.run_of(fn.trigger(), fn.slug)["run_id"]
        found = until("both jobs", lambda: len(data(http.get(f"/v1/runs/{run}/jobs"))) == 2)
        assert found
        jobs = data(http.get(f"/v1/runs/{run}/jobs"))
        assert sorted(job["kind"] for job in jobs) == ["pause", "sleep"]
        for job in jobs:
            assert set(job) == {"JobID", "at", "position", "kind", "attempt", "Raw"}
            assert job["Raw"]["id"] == job["JobID"]
            assert job["Raw"]["data"]["identifier"]["runID"] == run
        server.cancel(run)
        assert data(http.get(f"/v1/runs/{run}/jobs")) == []

    def test_history(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([ops(ran("a", 1)), Answer(200, None)])
        run = fn.run()["run_id"]
        entries = data(http.get(f"/v1/runs/{run}/history"))
        assert [entry["kind"] for entry in entries] == ["queued", "call", "call", "ended"]
        numbers = [entry["n"] for entry in entries]
        assert numbers == sorted(set(numbers))
        rest = data(http.get(f"/v1/runs/{run}/history", params={"after": numbers[1]}))
        assert rest == entries[2:]
        assert http.get(f"/v1/runs/{run}/history", params={"after": "x"}).status_code == 400


class TestSignals:
    def test_wakes_the_run_that_waits(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        name = f"sig-{time.time_ns()}"
        wait = op("WaitForSignal", "wait", opts={"signal": name, "timeout": "1h"})
        fn = scripted(lambda call: Answer(200, call.steps) if call.steps else ops(wait))
        event = fn.trigger()
        run = server.run_of(event, fn.slug)["run_id"]
        body = b'{"signal":"%b","data":{"big":1152921504606846976}}' % name.encode()
        answers: list[httpx.Response] = []

        def send() -> bool:
            answers.append(http.post("/v1/signals", content=body))
            return answers[-1].status_code == 200

        until("a waiter", send)
        assert data(answers[-1]) == {"run_id": run}
        memo = {"data": {"signal": name, "data": {"big": 1152921504606846976}}}
        assert fn.ended(event)["output"] == {sha1("wait"): memo}
        assert http.post("/v1/signals", content=body).status_code == 404, "it waits no longer"

    def test_nobody_waits(self, http: httpx.Client) -> None:
        answer = http.post("/v1/signals", json={"signal": "nobody", "data": 1})
        assert (answer.status_code, answer.json()["error"]) == (404, "No signal found")

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"{", b"[]", b"{}", b'{"signal":7}', b'{"signal":""}', b'{"data":1}', b'{"signal":"a","data":}',
            b'{"signal":"a","data":%b%b}' % (b"[" * 5000, b"]" * 5000),
        ],
        ids=lambda body: repr(body[:24]),
    )  # fmt: skip
    def test_unreadable(self, http: httpx.Client, body: bytes) -> None:
        answer = http.post("/v1/signals", content=body)
        assert answer.status_code == 400
        assert answer.json()["status"] == 400

    def test_bytes_that_are_no_text_do_not_reach_the_app(
        self, http: httpx.Client, server: Server, scripted: Make
    ) -> None:
        name = f"sig-{time.time_ns()}"
        wait = op("WaitForSignal", "wait", opts={"signal": name, "timeout": "1h"})
        fn = scripted(lambda call: Answer(200, call.steps) if call.steps else ops(wait))
        event = fn.trigger()
        body = b'{"signal":"%b","data":"\xff \\ud800"}' % name.encode()
        until("a waiter", lambda: http.post("/v1/signals", content=body).status_code == 200)
        output = fn.ended(event)["output"]
        assert output[sha1("wait")]["data"]["data"] == "\ufffd \ufffd"

    def test_too_large(self, http: httpx.Client) -> None:
        answer = http.post("/v1/signals", content=b'{"signal":"a","data":"%b"}' % (b"x" * (4 << 20)))
        assert answer.status_code == 413
        assert "4194304" in answer.json()["error"]

"""What `perdure dev` offers to test suites: limits of single functions, and a clean slate."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, Call, Scripted, op, ops, ran
from tests.sdk.driver import Server, until


def growing(call: Call) -> Answer:
    """One more step at each call, for ever."""
    return ops(ran(f"step-{len(call.steps)}", "x" * 2000))


def live(fn: Scripted, event: str) -> dict[str, Any]:
    return fn.server.run_of(event, fn.slug)


def test_presence(http: httpx.Client) -> None:
    assert http.get("/test").status_code == 200


def test_limit_of_steps(http: httpx.Client, scripted: Make) -> None:
    fn = scripted(growing)
    query: dict[str, str | int] = {"functionId": fn.slug, "limit": 3}
    assert http.post("/fn/step-limit", params=query).status_code == 200
    run = fn.run()
    assert run["status"] == "Failed"
    assert "InngestErrFunctionOverflowed" in str(run["output"])
    assert max(len(call.steps) for call in fn.calls) == 3
    assert http.delete("/fn/step-limit", params={"functionId": fn.slug}).status_code == 200
    event = fn.trigger()
    until("more steps than that", lambda: any(len(call.steps) > 10 for call in fn.calls))
    fn.server.cancel(live(fn, event)["run_id"])


def test_limit_of_state(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn, other = scripted(growing), scripted(growing)
    own_id = server.functions()[fn.slug]["id"]
    query = {"functionId": own_id, "limit": 5000}
    assert http.post("/fn/state-size-limit", params=query).status_code == 200, "by id as well as by slug"
    run = fn.run()
    assert run["status"] == "Failed"
    assert "InngestErrStateOverflowed" in str(run["output"])
    assert max(len(call.steps) for call in fn.calls) == 2
    event = other.trigger()
    until("another function is not held to it", lambda: any(len(call.steps) > 5 for call in other.calls))
    server.cancel(live(other, event)["run_id"])
    assert http.delete("/fn/state-size-limit", params={"functionId": fn.slug}).status_code == 200
    event = fn.trigger()
    until("more than that", lambda: any(len(call.steps) > 5 for call in fn.calls))
    server.cancel(live(fn, event)["run_id"])


@pytest.mark.parametrize("path", ["/fn/step-limit", "/fn/state-size-limit"])
@pytest.mark.parametrize("limit", ["", "0", "-1", "x", "1.5", "9" * 40, "10000000000"])
def test_bad_limits(http: httpx.Client, scripted: Make, path: str, limit: str) -> None:
    fn = scripted([])
    answer = http.post(path, params={"functionId": fn.slug, "limit": limit})
    assert answer.status_code == 400
    assert "limit is" in answer.json()["error"]
    assert http.delete(path, params={"functionId": "ghost"}).status_code == 404


def test_cancelling(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted([ops(op("Sleep", "nap", name="1h"))])
    run = live(fn, fn.trigger())["run_id"]
    assert http.post("/test/function/runs/cancel", params={"runId": run}).status_code == 200
    assert server.run(run)["status"] == "Cancelled"
    assert http.post("/test/function/runs/cancel", params={"runId": "x"}).status_code == 404
    assert http.post("/test/function/runs/cancel").status_code == 404


def test_pausing(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted(lambda call: Answer(200, None))
    query = {"fnId": server.functions()[fn.slug]["id"], "accountId": "any"}
    assert http.post("/test/function/pause", params=query).status_code == 200
    event = fn.trigger()
    assert live(fn, event)["status"] == "Scheduled"
    assert http.post(f"/v1/functions/{fn.slug}/resume").status_code == 200
    assert fn.ended(event)["status"] == "Completed"
    assert http.post("/test/function/pause", params={"fnId": "ghost"}).status_code == 404
    assert http.post("/test/function/pause").status_code == 404


def test_size_of_a_queue(http: httpx.Client, scripted: Make, server: Server) -> None:
    fn = scripted([])
    future = int(time.time() * 1000) + 3_600_000
    server.send(*[{"name": f"bare/{fn.slug}", "ts": future}] * 3)
    for query in ({"functionId": fn.slug}, {"fnId": server.functions()[fn.slug]["id"], "accountId": "any"}):
        assert http.get("/test/queue/function-queue-size", params=query).json() == {"count": 3, "size": 3}
    assert http.get("/test/queue/function-queue-size").status_code == 404
    assert http.post("/test/reset").status_code == 200


class TestReset:
    def test_ends_what_is_live_without_a_word(
        self, http: httpx.Client, scripted: Make, server: Server
    ) -> None:
        heard = scripted(
            lambda call: Answer(200, None),
            triggers=[{"event": f"inngest/function.{end}"} for end in ("cancelled", "finished", "failed")],
        )

        def script(call: Call) -> Answer:
            return ops(
                op("Sleep", "nap", name="1h"),
                op("WaitForEvent", "wait", opts={"event": "wake/up", "timeout": "1h"}),
                op("WaitForSignal", "sign", opts={"signal": call.ctx["run_id"], "timeout": "1h"}),
            )

        fn = scripted(script)
        events = [fn.trigger() for _ in range(5)]
        runs = [live(fn, event)["run_id"] for event in events]
        for run in runs:
            jobs = f"/v1/runs/{run}/jobs"
            until("its jobs", lambda jobs=jobs: len(http.get(jobs).json()["data"]) == 3)  # type: ignore[misc]
        answer = http.post("/test/reset")
        assert answer.status_code == 200
        assert answer.json()["cancelled"] >= 5
        assert {server.run(run)["status"] for run in runs} == {"Cancelled"}
        assert all(http.get(f"/v1/runs/{run}/jobs").json()["data"] == [] for run in runs)
        calls = len(fn.calls)
        server.send({"name": "wake/up"})
        assert {http.post("/v1/signals", json={"signal": run}).status_code for run in runs} == {404}
        time.sleep(0.5)
        assert len(fn.calls) == calls, "nothing wakes them"
        assert heard.calls == [], "and no event told of it"
        assert fn.slug in server.functions(), "apps stay"

    def test_answer_of_a_call_under_way_is_ignored(
        self, http: httpx.Client, scripted: Make, server: Server
    ) -> None:
        fn = scripted(lambda call: Answer(200, "late", delay_s=0.7))
        event = fn.trigger()
        until("the call", lambda: fn.calls)
        assert http.post("/test/reset").status_code == 200
        time.sleep(1)
        (run,) = server.runs(event)
        assert (run["status"], run["output"]) == ("Cancelled", None)
        assert http.get("/health").status_code == 200

    def test_ids_are_free_again_and_stay_unique_afterwards(
        self, http: httpx.Client, scripted: Make, server: Server
    ) -> None:
        fn = scripted(lambda call: Answer(200, None))

        def send() -> list[dict[str, Any]]:
            (event,) = server.send({"name": f"bare/{fn.slug}", "id": f"once-{fn.slug}"})
            time.sleep(0.3)
            return server.runs(event)

        assert [len(send()), len(send())] == [1, 0]
        assert http.post("/test/reset").status_code == 200
        assert [len(send()), len(send())] == [1, 0]

    def test_limits_are_taken_back(self, http: httpx.Client, scripted: Make, server: Server) -> None:
        fn = scripted(growing)
        assert http.post("/fn/step-limit", params={"functionId": fn.slug, "limit": 1}).status_code == 200
        assert http.post("/test/reset").status_code == 200
        event = fn.trigger()
        until("more steps", lambda: any(len(call.steps) > 5 for call in fn.calls))
        server.cancel(live(fn, event)["run_id"])

    def test_what_is_still_to_be_matched_starts_nothing_afterwards(
        self, http: httpx.Client, scripted: Make, server: Server
    ) -> None:
        """The end of a run is told of by an event that is matched after the answer to whoever cancelled it."""
        scripted(
            lambda call: ops(op("Sleep", "nap", name="1h")),
            triggers=[{"event": "inngest/function.cancelled"}],
        )
        fn = scripted(lambda call: ops(op("Sleep", "nap", name="1h")))
        runs = [live(fn, fn.trigger())["run_id"] for _ in range(10)]
        for run in runs:
            server.cancel(run)
        assert http.post("/test/reset").json()["cancelled"] >= len(runs)
        assert http.post("/test/reset").json() == {"ok": True, "cancelled": 0}

    def test_of_nothing(self, http: httpx.Client) -> None:
        http.post("/test/reset")
        assert http.post("/test/reset").json() == {"ok": True, "cancelled": 0}

"""Cancelling and replaying many runs over HTTP: which runs, in pages, over kills, and what is refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import SLOW_PAGES, Make, start_with
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, function_config, op, ops, register
from tests.sdk.driver import Server, until

HOUR_MS = 3_600_000
UNKNOWN = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
NAP = ops(op("Sleep", "nap", name="1h"))


def now_text(offset_ms: int = 0) -> str:
    return datetime.fromtimestamp(time.time() + offset_ms / 1000, UTC).isoformat()


def ended_job(server: Server, path: str, **body: Any) -> dict[str, Any]:
    """Start a job, and wait until it is over."""
    answer = server.http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    job_path = f"{path}/{answer.json()['data']['id']}"

    def look() -> dict[str, Any] | None:
        job: dict[str, Any] = server.http.get(job_path).json()["data"]
        return job if job["state"] != "running" else None

    return until("the end of the job", look)


def cancel_all(fn: Scripted, **body: Any) -> dict[str, Any]:
    given = {"function_id": fn.slug, "started_before": now_text(2_000), **body}
    return ended_job(fn.server, "/v1/cancellations", **given)


def replay(fn: Scripted, **body: Any) -> dict[str, Any]:
    return ended_job(fn.server, "/v1/replays", **{"function_id": fn.slug, **body})


def run_ids(fn: Scripted, events: list[str]) -> list[str]:
    """The first run of each event."""
    return [fn.server.run_of(event, fn.slug)["run_id"] for event in events]


def status_of(fn: Scripted, runs: list[str]) -> Counter[str]:
    return Counter(fn.server.run(run)["status"] for run in runs)


def send_many(fn: Scripted, count: int, **fields: Any) -> list[str]:
    name = f"bare/{fn.slug}"
    return fn.server.send(*({"name": name, "data": {"n": n}, **fields} for n in range(count)))


def by_kind(call: Call) -> Answer:
    """Sleeps, takes long, or fails, as the event says."""
    kind = call.body["event"]["data"].get("kind")
    if kind == "slow":
        return Answer(200, "late", delay_s=1.5)
    return NAP if kind == "nap" else Answer(200, "done")


class TestCancelling:
    def test_queued_running_and_sleeping_runs(self, scripted: Make, http: httpx.Client):
        fn = scripted(by_kind)
        done = fn.run()["run_id"]
        live = [fn.trigger(kind="nap"), fn.trigger(kind="slow")]
        live += fn.server.send({"name": f"bare/{fn.slug}", "ts": int(time.time() * 1000) + HOUR_MS})
        runs = run_ids(fn, live)
        until("the calls", lambda: len(fn.calls) >= 3)
        job = cancel_all(fn)
        assert (job["state"], job["seen"], job["done"], job["refused"]) == ("done", 3, 3, 0)
        assert status_of(fn, runs) == {"Cancelled": 3}
        assert fn.server.run(done)["status"] == "Completed"
        time.sleep(1.8)
        assert status_of(fn, runs) == {"Cancelled": 3}, "an answer that comes later changes nothing"
        assert http.get(f"/v1/runs/{runs[0]}/jobs").json()["data"] == []

    def test_handlers_of_cancellations_start(self, scripted: Make):
        fn = scripted([NAP])
        heard = scripted(
            lambda _: Answer(200, None),
            triggers=[
                {
                    "event": "inngest/function.cancelled",
                    "expression": f"event.data.function_id == '{fn.slug}'",
                }
            ],
        )
        runs = run_ids(fn, [fn.trigger()])
        until("the sleep", lambda: fn.calls)
        cancel_all(fn)
        until("the handler", lambda: heard.calls)
        assert heard.calls[0].body["event"]["data"]["run_id"] == runs[0]

    def test_by_time_and_condition(self, scripted: Make):
        fn = scripted(lambda _: NAP)
        early = send_many(fn, 4)
        time.sleep(0.02)
        between = now_text()
        time.sleep(0.02)
        late = send_many(fn, 4)
        early_runs, late_runs = run_ids(fn, early), run_ids(fn, late)
        job = cancel_all(fn, started_before=between, **{"if": "event.data.n >= 2"})
        assert (job["seen"], job["done"], job["if"]) == (4, 2, "event.data.n >= 2")
        assert [fn.server.run(run)["status"] for run in early_runs].count("Cancelled") == 2
        assert status_of(fn, early_runs[2:]) == {"Cancelled": 2}
        assert "Cancelled" not in status_of(fn, late_runs)
        job = cancel_all(fn, started_after=between, **{"if": "event.data.missing.x == 1"})
        assert (job["seen"], job["done"]) == (4, 0), "a condition that cannot be computed is not met"
        assert cancel_all(fn, started_after=between)["done"] == 4
        assert cancel_all(fn)["done"] == 2

    def test_several_pages(self, scripted: Make):
        fn = scripted(lambda _: NAP)
        events = send_many(fn, 130)
        until("the runs", lambda: len(fn.calls) >= 130)
        job = cancel_all(fn)
        assert (job["seen"], job["done"], job["state"]) == (130, 130, "done")
        assert status_of(fn, run_ids(fn, events)) == {"Cancelled": 130}

    def test_shape(self, scripted: Make, http: httpx.Client):
        fn = scripted([])
        after, before = "2026-01-01T00:00:00Z", now_text(-1000)
        body = {
            "function_id": fn.slug,
            "app_id": fn.slug,
            "started_after": after,
            "started_before": before,
            "if": "true",
        }
        shown = http.post("/v1/cancellations", json=body).json()["data"]
        protocol = {
            "created_at", "name", "id", "account_id", "environment_id", "app_id", "function_internal_id", "function_id",
            "started_after", "started_before", "if", "kind", "cause",
        }  # fmt: skip
        assert protocol - set(shown) == set()
        own = fn.server.functions()[fn.slug]
        assert (shown["function_id"], shown["function_internal_id"]) == (fn.slug, own["id"])
        assert (shown["started_after"], shown["kind"], shown["cause"]) == (
            "2026-01-01T00:00:00.000Z",
            "bulk_run",
            "api",
        )
        assert shown["name"] is None
        listed = http.get("/v1/cancellations").json()["data"]
        assert shown["id"] == listed[0]["id"], "newest first"
        assert [job["id"] for job in listed] == sorted((job["id"] for job in listed), reverse=True)
        assert shown["id"] not in [job["id"] for job in http.get("/v1/replays").json()["data"]]
        assert http.get(f"/v1/replays/{shown['id']}").status_code == 404
        stopped = http.delete(f"/v1/cancellations/{shown['id']}")
        assert (stopped.status_code, stopped.json()["data"]) == (200, {"ok": True})
        assert http.get(f"/v1/cancellations/{shown['id'].lower()}").json()["data"]["state"] == "done", (
            "it was over"
        )

    def test_short_name_within_its_app(self, server: Server, bare: BareApp, http: httpx.Client):
        for app in ("lake", "hill"):
            config = function_config(bare, f"{app}-import", triggers=[{"event": f"{app}/import"}])
            register(server, bare, app, [config], url=f"{bare.origin}/{app}")
        body = {"function_id": "import", "started_before": now_text(), "dry_run": True}
        assert http.post("/v1/cancellations", json=body).status_code == 404, "of which app?"
        assert http.post("/v1/cancellations", json={**body, "app_id": "lake"}).status_code == 200
        assert http.post("/v1/cancellations", json={**body, "app_id": "sea"}).status_code == 404
        wrong = {**body, "app_id": "lake", "function_id": "hill-import"}
        assert http.post("/v1/cancellations", json=wrong).status_code == 404, "it is another app's"

    def test_dry_run_only_counts(self, scripted: Make, http: httpx.Client):
        fn = scripted(lambda _: NAP)
        send_many(fn, 7)
        until("the sleeps", lambda: len(fn.calls) >= 7)
        body = {"function_id": fn.slug, "started_before": now_text(), "dry_run": True}
        assert http.post("/v1/cancellations", json=body).json()["data"] == {"matching": 7, "whole": True}
        body["if"] = "event.data.n < 3"
        assert http.post("/v1/cancellations", json=body).json()["data"] == {"matching": 3, "whole": True}
        assert fn.slug not in [job["function_id"] for job in http.get("/v1/cancellations").json()["data"]]
        assert cancel_all(fn)["done"] == 7


class TestReplaying:
    def test_failed_runs_by_default(self, scripted: Make):
        def script(call: Call) -> Answer:
            bad = call.body["event"]["data"]["n"] % 2
            return (
                Answer(400, {"name": "Error", "message": "odd"}, {"x-inngest-no-retry": "true"})
                if bad
                else Answer(200, "even")
            )

        fn = scripted(script)
        events = send_many(fn, 6)
        for event in events:
            fn.ended(event)
        job = replay(fn)
        assert (job["seen"], job["done"], job["statuses"], job["kind"]) == (3, 3, ["FAILED"], "replay")
        counts = [len(until("runs", lambda e=e: fn.server.runs(e))) for e in events]
        assert counts == [1, 2, 1, 2, 1, 2]
        until("the calls", lambda: len(fn.calls) == 9)
        assert fn.calls[-1].body["event"]["data"]["n"] in (1, 3, 5)

    def test_statuses_and_condition(self, scripted: Make):
        fn = scripted(by_kind)
        done = [fn.trigger(kind="x", n=n) for n in range(3)]
        for event in done:
            fn.ended(event)
        nap = fn.trigger(kind="nap", n=9)
        (run,) = run_ids(fn, [nap])
        until("the sleep", lambda: len(fn.calls) >= 4)
        fn.server.cancel(run)
        assert replay(fn)["done"] == 0, "none has failed"
        job = replay(fn, statuses=["completed", "COMPLETED"], **{"if": "event.data.n == 1"})
        assert (job["seen"], job["done"], job["statuses"]) == (3, 1, ["COMPLETED"])
        assert [len(fn.server.runs(event)) for event in done] == [1, 2, 1]
        assert replay(fn, statuses=["CANCELLED"])["done"] == 1
        assert replay(fn, statuses=["SKIPPED"])["seen"] == 0
        cancel_all(fn)

    def test_its_own_runs_are_no_part_of_it(self, scripted: Make):
        fn = scripted(lambda _: Answer(200, "done"))
        events = send_many(fn, 120)
        for event in events:
            fn.ended(event)
        job = replay(fn, statuses=["COMPLETED"])
        assert (job["seen"], job["done"]) == (120, 120)
        assert {len(fn.server.runs(event)) for event in events} == {2}

    def test_batch_with_all_of_its_events(self, scripted: Make):
        fn = scripted(
            lambda call: Answer(200, [event["data"]["n"] for event in call.body["events"]]),
            batchEvents={"maxSize": 3, "timeout": "60s"},
        )
        events = send_many(fn, 3)
        first = fn.ended(events[0])
        assert first["output"] == [0, 1, 2]
        assert replay(fn, statuses=["COMPLETED"])["done"] == 1
        until("another call", lambda: len(fn.calls) == 2)
        again = [run for run in fn.server.runs(events[0]) if run["run_id"] != first["run_id"]]
        assert fn.server.ended(again[0]["run_id"])["output"] == [0, 1, 2]
        assert {len(fn.server.runs(event)) for event in events} == {2}

    def test_singleton_runs_once_and_the_others_are_skipped(self, scripted: Make):
        naps = False

        def script(_: Call) -> Answer:
            return NAP if naps else Answer(200, "done")

        fn = scripted(script, singleton={"mode": "skip"})
        events = []
        for _ in range(4):
            events.append(fn.trigger())
            fn.ended(events[-1])
        naps = True
        job = replay(fn, statuses=["COMPLETED"])
        assert (job["seen"], job["done"], job["refused"]) == (4, 1, 3)
        assert "Skipped" in job["reason"]
        statuses = Counter(run["status"] for event in events for run in fn.server.runs(event))
        assert statuses["Skipped"] == 3
        cancel_all(fn)

    @pytest.mark.parametrize(("mode", "done", "status"), [("hold", 3, "Scheduled"), ("skip", 0, "Skipped")])
    def test_paused_function(self, scripted: Make, http: httpx.Client, mode: str, done: int, status: str):
        fn = scripted(lambda _: Answer(200, "done"))
        events = send_many(fn, 3)
        old = [fn.ended(event)["run_id"] for event in events]
        http.post(f"/v1/functions/{fn.slug}/pause", json={"mode": mode})
        job = replay(fn, statuses=["COMPLETED"])
        assert (job["done"], job["refused"]) == (done, 3 - done)
        new = [run for event in events for run in fn.server.runs(event) if run["run_id"] not in old]
        assert [run["status"] for run in new] == [status] * 3
        calls = len(fn.calls)
        http.post(f"/v1/functions/{fn.slug}/resume")
        if mode == "hold":
            assert {fn.server.ended(run["run_id"])["status"] for run in new} == {"Completed"}
        else:
            time.sleep(0.3)
            assert len(fn.calls) == calls

    def test_archived_function(self, scripted: Make, http: httpx.Client):
        fn = scripted(by_kind)
        fn.run()
        (nap,) = run_ids(fn, [fn.trigger(kind="nap")])
        assert http.delete(f"/v1/apps/{fn.slug}").status_code == 200
        answer = http.post("/v1/replays", json={"function_id": fn.slug})
        assert (answer.status_code, "Sync its app" in answer.json()["error"]) == (409, True)
        assert cancel_all(fn)["done"] == 1, "its runs may still be cancelled"
        assert fn.server.run(nap)["status"] == "Cancelled"


class TestRefusals:
    @pytest.mark.parametrize(
        ("path", "body", "status", "text"),
        [
            ("cancellations", {}, 400, "started_before is required"),
            ("cancellations", {"started_before": now_text()}, 400, "function_id is required"),
            (
                "cancellations",
                {"function_id": "ghost", "started_before": now_text()},
                404,
                "function not found",
            ),
            ("cancellations", {"started_before": "yesterday"}, 400, "RFC 3339"),
            ("cancellations", {"started_before": "2100-01-01T00:00:00Z"}, 400, "must be in the past"),
            (
                "cancellations",
                {"started_before": now_text(), "started_after": now_text()},
                400,
                "before started_before",
            ),
            (
                "cancellations",
                {"started_before": now_text(), "if": "event.data."},
                400,
                "if does not compile",
            ),
            ("cancellations", {"started_before": now_text(), "condition": "true"}, 400, "condition"),
            ("cancellations", {"started_before": now_text(), "statuses": ["QUEUED"]}, 400, "statuses"),
            ("cancellations", {"started_before": 7}, 400, "started_before"),
            ("replays", {}, 400, "function_id is required"),
            ("replays", {"statuses": ["RUNNING"]}, 400, "it can have COMPLETED, FAILED"),
            ("replays", {"status": ["FAILED"]}, 400, "status"),
            ("replays", {"started_after": "x"}, 400, "RFC 3339"),
            ("replays", {"if": "1 +"}, 400, "if does not compile"),
        ],
    )
    def test_wrong_requests(
        self, scripted: Make, http: httpx.Client, path: str, body: dict[str, Any], status: int, text: str
    ):
        known = {"function_id is required", "started_before is required", "function not found"}
        if "function_id" not in body and text not in known:
            body = {**body, "function_id": scripted([]).slug}
        answer = http.post(f"/v1/{path}", json=body)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert text in answer.json()["error"]

    @pytest.mark.parametrize("path", ["cancellations", "replays"])
    @pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff", b"[" * 5000, b'{"function_id": 7}'])
    def test_broken_bodies(self, http: httpx.Client, path: str, body: bytes):
        answer = http.post(f"/v1/{path}", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]

    @pytest.mark.parametrize(("path", "word"), [("cancellations", "ancellation"), ("replays", "eplay")])
    def test_unknown_jobs(self, http: httpx.Client, path: str, word: str):
        for method in ("GET", "DELETE"):
            unknown = http.request(method, f"/v1/{path}/{UNKNOWN}")
            assert (unknown.status_code, f"{word} not found" in unknown.json()["error"]) == (404, True)
            bad = http.request(method, f"/v1/{path}/x")
            assert (bad.status_code, bad.json()["error"]) == (400, f"Invalid {path[:-1]} ID")

    def test_methods(self, http: httpx.Client):
        assert http.put("/v1/cancellations").status_code == 405
        assert http.post(f"/v1/replays/{UNKNOWN}").status_code == 405

    def test_too_large(self, http: httpx.Client):
        assert http.post("/v1/replays", content=b" " * (2 * 1024 * 1024)).status_code == 413


@contextmanager
def slow_pages(folder: Path) -> Iterator[Server]:
    server = start_with(folder, SLOW_PAGES)
    try:
        yield server
    finally:
        server.stop()


def finished(server: Server, bare: BareApp, count: int) -> tuple[Scripted, list[str]]:
    """A function, and the events of so many runs of it, which have completed."""
    fn = Scripted.make(server, bare, lambda _: Answer(200, "done"))
    events = send_many(fn, count)
    for event in events:
        fn.ended(event)
    return fn, events


class TestInTheMiddle:
    def under_way(self, server: Server, path: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job: dict[str, Any] = server.http.get(path).json()["data"]
            assert job["state"] == "running", job
            return job if job["done"] >= 6 else None

        return until("a part of the job", look)

    def test_stop(self, tmp_path: Path, bare: BareApp):
        with slow_pages(tmp_path) as server:
            fn, events = finished(server, bare, 60)
            started = server.http.post(
                "/v1/replays", json={"function_id": fn.slug, "statuses": ["COMPLETED"]}
            )
            path = f"/v1/replays/{started.json()['data']['id']}"
            seen = self.under_way(server, path)
            assert seen["seen"] == seen["done"]
            stopped = server.http.delete(path).json()["data"]
            assert (stopped["state"], stopped["ended_at"] is None) == ("stopped", False)
            time.sleep(0.3)
            after = server.http.get(path).json()["data"]
            assert after["done"] == stopped["done"] < 60, "it goes no further"
            assert sum(len(server.runs(event)) for event in events) == 60 + after["done"]
            assert server.http.delete(path).json()["data"]["ended_at"] == stopped["ended_at"], (
                "once more is the same"
            )

    @pytest.mark.parametrize("kills", [1, 3])
    def test_kill_of_the_server(self, tmp_path: Path, bare: BareApp, kills: int):
        with slow_pages(tmp_path) as server:
            fn, events = finished(server, bare, 60)
            started = server.http.post(
                "/v1/replays", json={"function_id": fn.slug, "statuses": ["COMPLETED"]}
            )
            path = f"/v1/replays/{started.json()['data']['id']}"
            self.under_way(server, path)
            kill(server)
        for left in range(kills, 0, -1):
            with slow_pages(tmp_path) as server:
                if left > 1:
                    time.sleep(0.15)
                    kill(server)
                    continue
                job = until("the end of the job", lambda s=server: ended(s, path))
                assert (job["state"], job["seen"], job["done"]) == ("done", 60, 60)
                assert Counter(len(server.runs(event)) for event in events) == {2: 60}, "each once"

    def test_kill_while_cancelling(self, tmp_path: Path, bare: BareApp):
        with slow_pages(tmp_path) as server:
            fn = Scripted.make(server, bare, lambda _: NAP)
            events = send_many(fn, 40)
            until("the sleeps", lambda: len(fn.calls) >= 40)
            body = {"function_id": fn.slug, "started_before": now_text()}
            path = (
                f"/v1/cancellations/{server.http.post('/v1/cancellations', json=body).json()['data']['id']}"
            )
            self.under_way(server, path)
            kill(server)
        with slow_pages(tmp_path) as server:
            job = until("the end of the job", lambda: ended(server, path))
            assert (job["seen"], job["done"]) == (40, 40)
            assert {run["status"] for event in events for run in server.runs(event)} == {"Cancelled"}


BROKEN = """
from perdure.errors import RequestError, StoreUnavailable
from perdure.server import jobs
jobs.AGAIN_S = 0.1
step, faults = jobs.JobDriver._step, [RequestError(503, 'busy'), StoreUnavailable('no'), {last}]
async def broken(self, job):
    if faults:
        raise faults.pop(0)
    return await step(self, job)
jobs.JobDriver._step = broken
"""


@pytest.mark.parametrize(
    ("last", "state"),
    [
        ("StoreUnavailable('no')", "done"),
        ("RequestError(500, 'no')", "stopped"),
        ("ValueError('no')", "stopped"),
    ],
)
def test_what_goes_wrong_is_waited_for_or_told(tmp_path: Path, bare: BareApp, last: str, state: str):
    server = start_with(tmp_path, BROKEN.format(last=last))
    try:
        fn, events = finished(server, bare, 2)
        job = replay(fn, statuses=["COMPLETED"])
        assert job["state"] == state
        assert (job["reason"] is None) == (state == "done")
        assert {len(server.runs(event)) for event in events} == {2 if state == "done" else 1}
        if state == "stopped":
            assert "its log says why" in job["reason"]
            assert f"job {job['id']} is stopped" in server.process.output.read_text()
    finally:
        server.stop()


def test_after_travel_in_time(tmp_path: Path, bare: BareApp):
    server = Server.start(tmp_path)
    try:
        fn = Scripted.make(server, bare, lambda _: Answer(200, "done"))
        early = send_many(fn, 3)
        for event in early:
            fn.ended(event)
        first = replay(fn, statuses=["COMPLETED"])
        assert first["done"] == 3
        assert server.http.post("/dev/clock", json={"by": "31d"}).status_code == 200
        late = send_many(fn, 60)
        for event in late:
            fn.ended(event)
        day = server.run(server.runs(late[0])[0]["run_id"])["run_started_at"][:10]
        job = replay(fn, statuses=["COMPLETED"], started_after=f"{day}T00:00:00Z")
        assert (job["seen"], job["done"]) == (60, 60), "only what came after the move, and not its own"
        assert {len(server.runs(event)) for event in early} == {2}
        listed = [each["id"] for each in server.http.get("/v1/replays").json()["data"]]
        assert listed == [job["id"]], "the record of the first is forgotten after 30 days"
    finally:
        server.stop()


def ended(server: Server, path: str) -> dict[str, Any] | None:
    job: dict[str, Any] = server.http.get(path).json()["data"]
    return job if job["state"] != "running" else None


def kill(server: Server) -> None:
    server.process._child.kill()
    server.process._child.wait()

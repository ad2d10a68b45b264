"""Charts: what they show is what happened, also after the server was stopped or killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, ops, ran
from tests.sdk.driver import Server, until

COUNTS = ("queued", "completed", "failed", "cancelled")


def sums(server: Server, slug: str) -> dict[str, int]:
    metrics = server.http.get("/api/metrics", params={"function": slug}).json()
    for name in COUNTS:
        assert sum(metrics[name]) == metrics["total"][name]
    return {name: metrics["total"][name] for name in COUNTS}


def two_steps(call: Call) -> Answer:
    if len(call.steps) < 2:
        return ops(ran(f"step-{len(call.steps)}", 1))
    return Answer(200, None, delay_s=0.05)


def fails(_: Call) -> Answer:
    return Answer(500, {"name": "E", "message": "no"}, headers={"x-inngest-no-retry": "true"})


def test_what_happened_is_counted(server: Server, scripted: Make) -> None:
    good, bad = scripted(two_steps), scripted(fails)
    for _ in range(3):
        good.run()
    bad.run()
    assert until("three", lambda: sums(server, good.slug)["completed"] == 3)
    assert sums(server, good.slug) == {"queued": 3, "completed": 3, "failed": 0, "cancelled": 0}
    until("one", lambda: sums(server, bad.slug) == {"queued": 1, "completed": 0, "failed": 1, "cancelled": 0})
    metrics = server.http.get("/api/metrics", params={"function": good.slug}).json()
    assert sum(metrics["steps"]) == 6
    assert sum(metrics["calls"]) == 9
    assert sum(metrics["started"]) == 3
    assert sum(metrics["calls_failed"]) == 0
    assert 50 <= metrics["total"]["took_p50"] < 5_000
    assert metrics["total"]["answered_p95"] >= 45, "one call in three takes 50 ms"
    assert {len(metrics[name]) for name in (*COUNTS, "depth", "at")} == {len(metrics["at"])}
    health = {one["function"]: one for one in server.http.get("/api/health").json()["functions"]}
    assert (sum(health[good.slug]["ended"]), sum(health[good.slug]["failed"])) == (3, 0)
    assert (sum(health[bad.slug]["ended"]), sum(health[bad.slug]["failed"])) == (1, 1)


def test_a_short_time_is_shown_by_the_minute(http: httpx.Client) -> None:
    now = http.get("/api/server").json()["now"]
    metrics = http.get("/api/metrics", params={"since": now - 3_600_000, "until": now}).json()
    assert metrics["step"] == 60_000
    assert metrics["at"][-1] <= now < metrics["at"][-1] + 60_000


@pytest.mark.parametrize("query", [{"since": "5", "until": "5"}, {"since": "0", "until": "99999999999999"}])
def test_bad_times_are_told(http: httpx.Client, query: dict[str, str]) -> None:
    answer = http.get("/api/metrics", params=query)
    assert answer.status_code == 400
    assert "ms apart" in answer.json()["error"]


def test_unknown_functions_have_no_charts_but_are_no_error(http: httpx.Client) -> None:
    metrics = http.get("/api/metrics", params={"function": "ghost"}).json()
    assert metrics["total"]["queued"] == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_nothing_is_lost_or_counted_twice_over_a_restart(tmp_path: Path, bare: BareApp, end: str) -> None:
    server = Server.start(tmp_path)
    fn: Any = Scripted.make(server, bare, lambda call: Answer(200, None))
    events = [fn.trigger() for _ in range(20)]
    for event in events:
        server.ended(server.run_of(event, fn.slug)["run_id"])
    if end == "kill":
        server.process.kill()
    else:
        server.process.stop()
    server = Server.start(tmp_path)
    wanted = {"queued": 20, "completed": 20, "failed": 0, "cancelled": 0}
    until("all of them", lambda: sums(server, fn.slug) == wanted)
    server.process.stop()
    server = Server.start(tmp_path)
    until("still all of them", lambda: sums(server, fn.slug) == wanted)
    server.stop()

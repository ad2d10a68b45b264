"""Log lines, progress and signs of life of steps: taken over HTTP, bounded, kept, and shown."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.protocol.signing import hash_signing_key
from tests.integration.server.conftest import Make, start_with
from tests.sdk.bare_app import Answer, Call, ops, ran, sha1
from tests.sdk.driver import Server, until

GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
STEP = sha1("a")


def entry(run_id: str, **fields: Any) -> dict[str, Any]:
    own = {"run_id": run_id, "step": STEP, "step_id": "a", "attempt": 0, "ts": 1_767_225_600_000}
    return {**own, **fields}


def line(run_id: str, message: str, **fields: Any) -> dict[str, Any]:
    return entry(run_id, **{"level": "INFO", "logger": "shop", "message": message, **fields})


def post(http: httpx.Client, *entries: Any) -> Any:
    answer = http.post("/v1/step-logs", json=list(entries))
    assert answer.status_code == 200, answer.text
    return answer.json()


def logs(http: httpx.Client, run_id: str, **query: Any) -> Any:
    answer = http.get(f"/v1/runs/{run_id}/logs", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def messages(http: httpx.Client, run_id: str, **query: Any) -> list[str]:
    return [one["message"] for one in logs(http, run_id, **query)["lines"]]


@pytest.fixture
def run_id(scripted: Make) -> str:
    """A run that has ended."""
    found: str = scripted([ops(ran("a", 1)), Answer(200, "end")]).run()["run_id"]
    return found


def test_lines_are_shown_on_their_run(http: httpx.Client, run_id: str) -> None:
    told = post(
        http,
        line(run_id, "one", fields={"amount": 7}),
        {**line(run_id, "between"), "step": "", "step_id": ""},
        line(run_id, "two", attempt=1, level="ERROR"),
        line(GHOST, "nobody's"),
    )
    assert told == {"taken": 3, "dropped": 1, "cancelled": []}
    found = until("the lines", lambda: len(messages(http, run_id)) == 3 and logs(http, run_id))
    assert [one["n"] for one in found["lines"]] == sorted(one["n"] for one in found["lines"])
    shown = {key: value for key, value in found["lines"][0].items() if key != "n"}
    assert shown == {
        "at": "2026-01-01T00:00:00.000Z", "step": STEP, "attempt": 0, "level": "INFO", "logger": "shop",
        "message": "one", "fields": {"amount": 7},
    }  # fmt: skip
    assert [one["step"] for one in found["lines"]] == [STEP, None, STEP]
    assert found["more"] is False
    assert [(one["name"], one["lines"], one["dropped_lines"]) for one in found["steps"]] == [
        ("", 1, 0),
        ("a", 2, 0),
    ]
    assert messages(http, run_id, step="a") == messages(http, run_id, step=STEP) == ["one", "two"]
    assert messages(http, run_id, step="") == ["between"]
    assert messages(http, run_id, step="none") == []
    first = logs(http, run_id, limit=1)
    assert first["more"] is True
    assert messages(http, run_id, after=first["lines"][-1]["n"]) == ["between", "two"]


def test_progress_is_shown_with_the_run(http: httpx.Client, run_id: str) -> None:
    post(http, entry(run_id, progress=0.25, message="1 of 4", ts=1000), entry(run_id, ts=3000))
    post(http, entry(run_id, progress=0.5, message="2 of 4", ts=4000), entry(run_id, progress=0.1, ts=2000))

    def steps() -> Any:
        return http.get(f"/v1/runs/{run_id}").json()["data"].get("steps")

    (shown,) = until("a report", lambda: (steps() or [{}])[0].get("progress") == 0.5 and steps())
    assert shown == {
        "step": STEP, "name": "a", "attempt": 0, "progress": 0.5, "message": "2 of 4",
        "at": "1970-01-01T00:00:04.000Z", "lines": 0, "dropped_lines": 0,
    }  # fmt: skip
    post(http, entry(run_id, attempt=1, ts=5000))
    until("the next attempt begins anew", lambda: steps()[0]["progress"] is None)
    post(http, entry(run_id, progress=0.9, attempt=0, ts=9000), entry(run_id, attempt=1, progress=7, ts=6000))
    until("an attempt that is over says nothing", lambda: steps()[0]["progress"] == 1.0)


def test_a_step_has_64_kib_and_what_is_over_is_counted(http: httpx.Client, run_id: str) -> None:
    before = int(metric(http, 'step_log_entries_total{fate="dropped"}'))
    text = "x" * 10_000
    told = [post(http, line(run_id, f"{number} {text}")) for number in range(8)]
    assert [one["taken"] for one in told] == [1] * 6 + [0] * 2
    assert post(http, line(run_id, "short"))["taken"] == 1
    other = {**line(run_id, text), "step": sha1("b"), "step_id": "b"}
    assert post(http, other)["taken"] == 1, "other steps have room of their own"
    until("all is written", lambda: len(messages(http, run_id)) == 8)
    dropped = {one["name"]: one["dropped_lines"] for one in logs(http, run_id)["steps"]}
    assert dropped == {"a": 2, "b": 0}
    assert int(metric(http, 'step_log_entries_total{fate="dropped"}')) == before + 2
    assert post(http, line(run_id, "é" * 30_000))["taken"] == 0


def metric(http: httpx.Client, name: str) -> str:
    return next(row.split()[-1] for row in http.get("/metrics").text.splitlines() if f"perdure_{name}" in row)


def test_a_long_message_is_cut(http: httpx.Client, run_id: str) -> None:
    post(http, line(run_id, "y" * 50_000))
    (found,) = until("the line", lambda: messages(http, run_id))
    assert len(found) == 16_384
    assert found.endswith("y…")


def test_a_run_as_a_whole_is_bounded(http: httpx.Client, run_id: str) -> None:
    """Also against a client that invents steps."""
    taken = 0
    for start in range(0, 70_000, 1_000):
        many = [{**entry(run_id), "step": f"s{number}"} for number in range(start, start + 1_000)]
        taken += post(http, *many)["taken"]
    assert taken == 4 * 1024 * 1024 // 128


def test_a_cancelled_run_is_named(http: httpx.Client, scripted: Make) -> None:
    told: list[Any] = []

    def script(call: Call) -> Answer:
        run = call.ctx["run_id"]
        told.append(post(http, entry(run, progress=0.1)))
        http.delete(f"/v1/runs/{run}").raise_for_status()
        told.append(post(http, entry(run, progress=0.2)))
        told.append(post(http, line(run, "a line asks nothing")))
        return Answer(200, "end")

    fn = scripted(script)
    fn.trigger()
    until("the call", lambda: len(told) == 3)
    run = fn.calls[0].ctx["run_id"]
    assert [one["cancelled"] for one in told] == [[], [run], []]
    assert post(http, entry(run))["cancelled"] == [run], "also when it is not in memory any more"


def test_a_call_may_ask_without_leaving_anything(http: httpx.Client, scripted: Make, run_id: str) -> None:
    told: list[Any] = []

    def script(call: Call) -> Answer:
        run = call.ctx["run_id"]
        told.append(post(http, {"run_id": run}, {"run_id": run_id}, {"run_id": GHOST}))
        http.delete(f"/v1/runs/{run}").raise_for_status()
        told.append(post(http, {"run_id": run}))
        return Answer(200, "end")

    fn = scripted(script)
    fn.trigger()
    until("the call", lambda: len(told) == 2)
    run = fn.calls[0].ctx["run_id"]
    assert told[0] == {"taken": 2, "dropped": 1, "cancelled": []}
    assert told[1] == {"taken": 1, "dropped": 0, "cancelled": [run]}
    post(http, line(run, "the only thing that is kept"))
    until("a line", lambda: messages(http, run))
    until("its step", lambda: logs(http, run)["steps"])
    assert [one["name"] for one in logs(http, run)["steps"]] == ["a"]
    assert logs(http, run_id)["steps"] == []


def test_they_survive_a_restart_and_so_do_the_limits(tmp_path: Path, scripted: Make, run_id: str) -> None:
    """On a server of its own, whose runs are read from the store after the restart."""
    server = start_with(tmp_path, "")
    try:
        run = _run_of(server)
        for number in range(6):
            post(server.http, line(run, f"{number} " + "x" * 10_000))
        post(server.http, entry(run, progress=0.3))
        until("all is written", lambda: len(messages(server.http, run)) == 6)
    finally:
        server.stop()
    server = start_with(tmp_path, "")
    try:
        assert [one[0] for one in messages(server.http, run)] == list("012345")
        assert post(server.http, line(run, "x" * 10_000))["taken"] == 0
        assert post(server.http, line(run, "after"))["taken"] == 1
        until("it comes after the others", lambda: messages(server.http, run)[-1] == "after")
        (report,) = logs(server.http, run)["steps"]
        assert (report["progress"], report["lines"], report["dropped_lines"]) == (0.3, 7, 1)
    finally:
        server.stop()


def _run_of(server: Server) -> str:
    """A run of a function whose app is not there: it stays."""
    body = {
        "url": "http://127.0.0.1:9/api", "appName": "away", "sdk": "test:v1", "framework": "", "deployType": "ping",
        "functions": [{
            "id": "away-fn", "name": "fn", "triggers": [{"event": "away/go"}],
            "steps": {"step": {"id": "step", "name": "step", "runtime": {
                "type": "http", "url": "http://127.0.0.1:9/api?fnId=away-fn&stepId=step"}}},
        }],
    }  # fmt: skip
    server.http.post("/fn/register", json=body).raise_for_status()
    event = server.http.post("/e/key", json={"name": "away/go", "data": {}}).json()["ids"][0]
    runs = until("its run", lambda: server.http.get(f"/v1/events/{event}/runs").json()["data"])
    return str(runs[0]["run_id"])


BAD = [
    b"", b"{}", b"null", b"[1]", b"[null]", b"[{}]", b'[{"run_id":7}]', b"not json", b"[[[[", b"\xff\xfe", b'"text"',
    b'[{"run_id":"r","attempt":"x"}]', b'[{"run_id":"r","progress":"half"}]', b"[" * 3000 + b"]" * 3000,
    b'[{"run_id":"r","message":{}}]',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD, ids=range(len(BAD)))
def test_bad_bodies_are_refused_with_a_reason(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/step-logs", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Invalid step logs: ")


def test_too_much_at_once(http: httpx.Client) -> None:
    answer = http.post("/v1/step-logs", json=[line(GHOST, "x")] * 1_001)
    assert (answer.status_code, answer.json()["error"]) == (
        413,
        "1001 entries in one body; at most 1000 are taken",
    )
    assert http.post("/v1/step-logs", content=b"[" + b" " * 3_000_000 + b"]").status_code == 413
    assert http.get("/v1/step-logs").status_code == 405
    assert http.get(f"/v1/runs/{GHOST}/logs").status_code == 404
    assert http.get("/v1/runs/nothing/logs").status_code == 400
    assert http.get(f"/v1/runs/{GHOST}/logs?after=x").status_code == 400


def test_odd_values_harm_nothing(http: httpx.Client, run_id: str) -> None:
    """Whatever stands in the fields, the server stays well, and what it took can be read."""
    chance = random.Random(7)
    odd: list[Any] = [
        0, -1, 2**31, 2**63, 2**70, -(2**70), 1e308, "", "\x00", "é\U0001f600", "x" * 500, [], {}, {"a": [1]}, None,
        True, 0.5,
    ]  # fmt: skip
    names = ["step", "step_id", "attempt", "ts", "level", "logger", "message", "fields", "progress"]
    statuses = set()
    for _ in range(300):
        given = {**line(run_id, "m"), **{chance.choice(names): chance.choice(odd) for _ in range(3)}}
        answer = http.post("/v1/step-logs", content=json.dumps([given]))
        statuses.add(answer.status_code)
    answer = http.post("/v1/step-logs", content=b'[{"run_id":"%s","message":"\\ud800"}]' % run_id.encode())
    assert answer.status_code == 200
    assert statuses == {200, 400}
    post(http, line(run_id, "last"))
    until("the last line", lambda: "last" in messages(http, run_id))
    assert http.get("/health").status_code == 200


def test_with_keys_it_takes_a_bearer(tmp_path: Path) -> None:
    key = "signkey-test-12345678"
    server = start_with(tmp_path, "", "--signing-key", key, "--event-key", "event-key-1234")
    try:
        assert server.http.post("/v1/step-logs", json=[]).status_code == 401
        bearer = {"authorization": f"Bearer {hash_signing_key(key)}"}
        answer = server.http.post("/v1/step-logs", json=[], headers=bearer)
        assert (answer.status_code, answer.json()) == (200, {"taken": 0, "dropped": 0, "cancelled": []})
    finally:
        server.stop()


def test_ten_thousand_lines_at_once_hold_up_no_event(http: httpx.Client, scripted: Make, run_id: str) -> None:
    fn = scripted(lambda _: Answer(200, "end"))
    runs = [fn.run(key=str(number))["run_id"] for number in range(20)]
    for run in runs:
        post(http, *[line(run, f"line {number}") for number in range(500)])
    began = time.monotonic()
    fn.run(key="last")
    assert time.monotonic() - began < 10
    until("all are there", lambda: all(len(messages(http, run)) == 500 for run in runs))

"""Checkpoints of many runs in one request: each has its own fate, whatever becomes of the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sdk.bare_app import Answer, Call, Scripted, op, ops, ran, sha1
from tests.sdk.driver import Server

Make = Callable[..., Scripted]
MIB = 1024 * 1024
GHOST = "01M86GK8V62YF2MX9KZ505TM13"


def entry(call: Call, *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """One checkpoint of a running call."""
    names = ("run_id", "fn_id", "qi_id", "request_id", "generation_id")
    return {name: call.ctx[name] for name in names} | {"steps": list(steps), **fields}


def post(server: Server, *entries: Any) -> httpx.Response:
    return server.http.post("/v1/checkpoints", json=list(entries))


def statuses(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [fate["status"] for fate in answer.json()]


class Meeting:
    """Starts runs, waits until all of them are being called, and then does something with all calls at once.

    Each run then answers with a last step, and its next call gives back the state that it was brought.
    """

    def __init__(self, make: Make, count: int, work: Callable[[list[Call]], None]) -> None:
        self.calls: list[Call] = []
        met = threading.Barrier(count, action=lambda: work(self.calls), timeout=20)

        def script(call: Call) -> Answer:
            if sha1("last") in call.steps:
                return Answer(200, call.steps)
            self.calls.append(call)
            met.wait()
            return ops(ran("last"))

        self.fn = make(script)
        sent = [self.fn.trigger() for _ in range(count)]
        self.states = {run["run_id"]: run["output"] for run in map(self.fn.ended, sent)}

    def state(self, call: Call) -> dict[str, Any]:
        """What a run had at its end, without the last step."""
        return {step: memo for step, memo in self.states[call.ctx["run_id"]].items() if step != sha1("last")}


def test_steps_of_many_runs_are_saved(scripted: Make, server: Server) -> None:
    answers: list[httpx.Response] = []

    def work(calls: list[Call]) -> None:
        entries = [entry(call, ran("a", number), ran("b")) for number, call in enumerate(calls)]
        answers.append(post(server, *entries))
        answers.append(post(server, *(entry(call, ran("c")) for call in calls)))

    meeting = Meeting(scripted, 8, work)
    assert [answer.json() for answer in answers] == [[{"status": 200}] * 8] * 2
    for number, call in enumerate(meeting.calls):
        assert meeting.state(call) == {
            sha1("a"): {"data": number},
            sha1("b"): {"data": None},
            sha1("c"): {"data": None},
        }


def test_each_has_its_own_fate(scripted: Make, server: Server) -> None:
    answers: list[httpx.Response] = []

    def work(calls: list[Call]) -> None:
        first, second, third, fourth, fifth = calls
        answers.append(
            post(
                server,
                entry(first, ran("a", 1)),
                entry(second, ran("a", 1), generation_id=99),
                entry(third, op("Sleep", "nap", name="1s")),
                entry(fourth, ran("big", "x" * (4 * MIB + 10))),
                7,
                {"run_id": GHOST, "qi_id": entry(first)["qi_id"], "steps": []},
                entry(fifth, ran("a", 1), run_id=second.ctx["run_id"]),
                {"run_id": "nobody", "steps": []},
                {"run_id": 5},
                entry(fifth) | {"steps": [8]},
                entry(fifth, ran("a", "in spite of all")),
                entry(first, ran("a", 2)),
            )
        )

    meeting = Meeting(scripted, 5, work)
    assert statuses(answers[0]) == [200, 409, 400, 413, 400, 409, 409, 400, 400, 400, 200, 200]
    errors = [fate.get("error") for fate in answers[0].json()]
    assert [error is None for error in errors] == [fate["status"] == 200 for fate in answers[0].json()]
    assert errors[1] == "stale dispatch: dispatch generation 99 does not match queue item generation 1"
    first, second, third, fourth, fifth = meeting.calls
    assert meeting.state(first) == {sha1("a"): {"data": 1}}, "the first result stands"
    assert meeting.state(second) == meeting.state(third) == meeting.state(fourth) == {}
    assert meeting.state(fifth) == {sha1("a"): {"data": "in spite of all"}}


def test_the_run_of_one_may_have_ended(scripted: Make, server: Server) -> None:
    answers: list[httpx.Response] = []

    def work(calls: list[Call]) -> None:
        server.cancel(calls[0].ctx["run_id"])
        answers.append(post(server, *(entry(call, ran("a", 1)) for call in calls)))

    meeting = Meeting(scripted, 2, work)
    assert statuses(answers[0]) == [409, 200]
    assert meeting.state(meeting.calls[1]) == {sha1("a"): {"data": 1}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"[", 400),
        (b'[{"run_id": "x"}', 400),
        (b"[" * 100_000, 400),
        (b"[" + b",".join([b"{}"] * 1_001) + b"]", 413),
        (b'["' + b"x" * (17 * MIB) + b'"]', 413),
    ],
    ids=["empty", "object", "half", "open", "deep", "too many", "too large"],
)
def test_what_is_no_list_of_checkpoints_is_refused(server: Server, body: bytes, status: int) -> None:
    answer = server.http.post("/v1/checkpoints", content=body)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


def test_no_checkpoints_at_all(server: Server) -> None:
    assert server.http.post("/v1/checkpoints", content=b" [] ").json() == []
    assert server.http.get("/v1/checkpoints").status_code == 405


def test_calls_announce_the_route(scripted: Make) -> None:
    fn = scripted([Answer(200, "end")])
    fn.run()
    assert "checkpoints" in fn.calls[0].headers["x-perdure-capabilities"].split(",")


def test_a_key_is_needed(tmp_path: Path) -> None:
    server = Server.start(tmp_path, "--signing-key", "signkey-test-" + "ab" * 32, "--event-key", "test")
    try:
        assert server.http.post("/v1/checkpoints", content=b"[]").status_code == 401
    finally:
        server.stop()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "run_id": st.just(GHOST) | ANYTHING,
        "qi_id": st.just("MDFIWg==") | ANYTHING,
        "generation_id": st.integers() | ANYTHING,
        "steps": st.lists(st.just(ran("a", 1)) | ANYTHING, max_size=3) | ANYTHING,
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(entries=st.lists(ENTRIES | ANYTHING, max_size=5))
def test_whatever_is_posted_each_entry_gets_a_status(server: Server, entries: list[Any]) -> None:
    answer = server.http.post("/v1/checkpoints", content=json.dumps(entries))
    told = statuses(answer)
    assert len(told) == len(entries)
    assert set(told) <= {400, 409, 413}

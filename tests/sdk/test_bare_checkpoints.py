"""Checkpoints made by hand from inside a call: what is saved, what is refused and how, and what the run shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sdk.bare_app import Answer, Call, Scripted, op, ops, ran, sha1
from tests.sdk.driver import Server

Make = Callable[..., Scripted]
MIB = 1024 * 1024


def checkpoint(
    server: Server, call: Call, *steps: dict[str, Any], base: str = "/v1/checkpoint", **fields: Any
) -> httpx.Response:
    """What an SDK posts while it still answers `call`."""
    ctx = call.ctx
    body = {name: ctx[name] for name in ("run_id", "fn_id", "qi_id", "request_id", "generation_id")}
    body |= {
        "request_started_at": int(call.at * 1000),
        "ts": int(time.time() * 1000),
        "steps": list(steps),
        **fields,
    }
    return server.http.post(f"{base}/{ctx['run_id']}/async", json=body)


class Inside:
    """Runs a function that does something within its first call, and keeps the server's answers to it."""

    def __init__(self, make: Make, work: Callable[[Call], list[httpx.Response]], **config: Any) -> None:
        self.answers: list[httpx.Response] = []

        def script(call: Call) -> Answer:
            if len(self.fn.calls) > 1:
                return Answer(200, "end")
            self.answers = work(call)
            return ops(ran("last", "in the answer"))

        self.fn: Scripted = make(script, **config)
        self.run = self.fn.run(timeout=30)

    @property
    def statuses(self) -> list[int]:
        return [answer.status_code for answer in self.answers]

    @property
    def memo(self) -> dict[str, Any]:
        """State as the second call shows it."""
        return self.fn.calls[1].steps


LAST = {sha1("last"): {"data": "in the answer"}}


def test_steps_are_saved_and_nothing_is_enqueued(scripted: Make, server: Server) -> None:
    def work(call: Call) -> list[httpx.Response]:
        first = checkpoint(server, call, ran("a", {"n": 1}))
        second = checkpoint(server, call, ran("b", None), ran("c", [1.0]))
        time.sleep(0.3)
        return [first, second]

    inside = Inside(scripted, work)
    assert inside.statuses == [200, 200]
    assert [answer.content.strip() for answer in inside.answers] == [b"", b""]
    assert inside.run["output"] == "end"
    assert len(inside.fn.calls) == 2
    saved = {sha1("a"): {"data": {"n": 1}}, sha1("b"): {"data": None}, sha1("c"): {"data": [1.0]}}
    assert inside.memo == {**saved, **LAST}
    assert inside.fn.calls[1].ctx["stack"]["stack"] == [sha1(step) for step in ("a", "b", "c", "last")]


def test_older_name_of_the_route(scripted: Make, server: Server) -> None:
    inside = Inside(scripted, lambda call: [checkpoint(server, call, ran("a", 1), base="/v1/http/runs")])
    assert inside.statuses == [200]
    assert inside.memo == {sha1("a"): {"data": 1}, **LAST}


def test_same_step_again_is_accepted_and_keeps_its_first_result(scripted: Make, server: Server) -> None:
    inside = Inside(
        scripted, lambda call: [checkpoint(server, call, ran("a", 1)), checkpoint(server, call, ran("a", 2))]
    )
    assert inside.statuses == [200, 200]
    assert inside.memo == {sha1("a"): {"data": 1}, **LAST}


@pytest.mark.parametrize("started_ago_s", [0, 20], ids=["fresh", "old"])
def test_wrong_generation_is_refused(scripted: Make, server: Server, started_ago_s: float) -> None:
    def work(call: Call) -> list[httpx.Response]:
        started = int((time.time() - started_ago_s) * 1000)
        return [checkpoint(server, call, ran("a", 1), generation_id=99, request_started_at=started)]

    inside = Inside(scripted, work)
    assert inside.statuses == [409]
    error = inside.answers[0].json()
    text = "stale dispatch: dispatch generation 99 does not match queue item generation 1"
    assert (error["error"], error["status"], error["data"]) == (text, 409, {"run_id": inside.run["run_id"]})
    assert inside.memo == LAST


def test_queue_item_that_is_gone_is_refused(scripted: Make, server: Server) -> None:
    inside = Inside(
        scripted, lambda call: [checkpoint(server, call, ran("a", 1), qi_id="Z29uZTo6ZGVmYXVsdA==")]
    )
    assert inside.statuses == [409]
    assert inside.answers[0].json()["error"] == "stale dispatch: queue item not found"
    assert inside.memo == LAST


def test_steps_that_wait_are_refused(scripted: Make, server: Server) -> None:
    inside = Inside(scripted, lambda call: [checkpoint(server, call, op("Sleep", "nap", name="1s"))])
    assert inside.statuses == [400]
    assert inside.answers[0].json()["error"].startswith("cannot checkpoint async steps")
    assert inside.memo == LAST


def test_step_over_four_mebibytes_is_refused(scripted: Make, server: Server) -> None:
    inside = Inside(scripted, lambda call: [checkpoint(server, call, ran("big", "x" * (4 * MIB + 10)))])
    assert inside.statuses == [413]
    text = f"step {sha1('big')} output too large: step output size is greater than the limit"
    assert inside.answers[0].json()["error"] == text
    assert inside.memo == LAST


def test_run_that_ended_or_never_was(scripted: Make, server: Server) -> None:
    inside = Inside(scripted, lambda call: [])
    late = checkpoint(server, inside.fn.calls[0], ran("late", 1))
    assert late.status_code in {400, 409}
    assert late.json()["status"] == late.status_code
    unknown = server.http.post(
        "/v1/checkpoint/01M86GK8V62YF2MX9KZ505TM13/async", json={"run_id": "x", "steps": []}
    )
    assert unknown.status_code in {400, 409}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"steps": 5}', b'{"steps": [7]}'], ids=repr)
def test_unreadable_checkpoints_are_refused(scripted: Make, server: Server, body: bytes) -> None:
    def work(call: Call) -> list[httpx.Response]:
        return [server.http.post(f"/v1/checkpoint/{call.ctx['run_id']}/async", content=body)]

    inside = Inside(scripted, work)
    assert inside.statuses == [400]
    assert inside.answers[0].json()["status"] == 400
    assert inside.run["output"] == "end"


def test_saved_step_gives_the_call_its_attempts_back(scripted: Make, server: Server) -> None:
    """Fails at attempt 1 of 2 after a step was saved: that counts as the first failure of what follows the step."""

    def script(call: Call) -> Answer:
        number = len(fn.calls)
        if number == 2:
            assert checkpoint(server, call, ran("a", 1)).status_code == 200
        return Answer(500, {"message": f"failure {number}"}) if number < 4 else Answer(200, "not reached")

    fn = scripted(script, retries=1)
    run = fn.run()
    assert run["status"] == "Failed"
    assert [call.ctx["attempt"] for call in fn.calls] == [0, 1, 1]
    assert run["output"] == {"message": "failure 3"}
    assert [call.ctx["generation_id"] for call in fn.calls] == [1, 2, 3]
    assert fn.calls[2].steps == {sha1("a"): {"data": 1}}

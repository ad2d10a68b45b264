"""What a call carries: headers, the event's fields, texts and numbers as they came, and not more than it can."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sdk.bare_app import Answer, Call, Scripted, op, ops, ran, sha1
from tests.sdk.driver import Server, until

Make = Callable[..., Scripted]
MIB = 1024 * 1024
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ULID = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


def test_headers_and_ids_agree(scripted: Make) -> None:
    fn = scripted([ops(ran("a", 1)), Answer(200, "end")])
    run = fn.run()
    for call in fn.calls:
        headers, ctx = call.headers, call.ctx
        assert headers["content-type"].startswith("application/json")
        assert headers["user-agent"] == "Inngest"
        assert headers["x-inngest-server-kind"] == "dev"
        assert headers["x-run-id"] == ctx["run_id"] == run["run_id"]
        assert headers["x-request-id"] == ctx["request_id"]
        assert ULID.fullmatch(ctx["request_id"])
        assert headers["x-inngest-job-id"] == ctx["job_id"]
        assert headers["x-inngest-generation-id"] == str(ctx["generation_id"])
        assert base64.b64decode(ctx["qi_id"]).decode().split("::")[0] == ctx["job_id"]
        assert UUID.fullmatch(headers["account-id"])
        assert UUID.fullmatch(ctx["fn_id"])
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", headers["traceparent"])
        assert "x-inngest-signature" not in headers
    first, second = fn.calls
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["x-inngest-job-id"] != second.headers["x-inngest-job-id"]
    assert first.headers["traceparent"].split("-")[1] == second.headers["traceparent"].split("-")[1]


def test_fields_of_the_event_arrive(scripted: Make, server: Server) -> None:
    fn = scripted([Answer(200, "end")])
    event = {
        "name": f"bare/{fn.slug}", "id": f"own-{fn.slug}", "ts": int(time.time() * 1000) - 5000, "v": "2024-01",
        "data": {"n": 1, "_inngest": {"forged": True}}, "user": {"id": "u1"}, "unknown": 1,
        "meta": {"sessions": {"chat": "c1", "count": 7}},
    }  # fmt: skip
    event_id = server.send(event)[0]
    assert fn.ended(event_id)["output"] == "end"
    kept = {name: event[name] for name in ("name", "id", "ts", "v", "user")}
    expected = {**kept, "data": {"n": 1}, "meta": {"sessions": {"chat": "c1", "count": "7"}}}
    assert fn.calls[0].body["event"] == expected
    assert fn.calls[0].body["events"] == [expected]


def test_absent_fields_of_the_event_are_filled_in(scripted: Make, server: Server) -> None:
    fn = scripted([Answer(200, "end")])
    before = time.time() * 1000
    event_id = server.send({"name": f"bare/{fn.slug}", "id": "", "ts": 0, "data": None})[0]
    assert fn.ended(event_id)["output"] == "end"
    event = fn.calls[0].body["event"]
    assert event == {"name": f"bare/{fn.slug}", "id": event_id, "data": {}, "user": {}, "ts": event["ts"]}
    assert before - 1 <= event["ts"] <= time.time() * 1000


TEXTS = [
    "1152921504606846976", "123456789012345678901234567890", "1.0", "1e21", "-0.0", "1E+2", "0.1",
    "1.7976931348623157e308", '"\\u2028"', '"\\u0000"', '"\\ud83d\\ude00"', '"\\/"', '"\u2028\u2029"',
    '{"b":1,"a":2}', '{"":{}}', "[[],{},null,true]",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_json_passes_through_event_memo_and_output(scripted: Make, server: Server, text: str) -> None:
    """Neither a number nor an order of keys changes on the way."""

    def script(call: Call) -> Answer:
        if not call.steps:
            op_text = f'[{{"op":"StepRun","id":"{sha1("a")}","displayName":"a","data":{text}}}]'
            return Answer(206, op_text.encode())
        return Answer(200, text.encode())

    fn = scripted(script)
    body = f'{{"name":"bare/{fn.slug}","data":{{"value":{text}}}}}'
    answer = server.http.post("/e/test", content=body.encode())
    assert answer.status_code == 200, answer.text
    run = fn.ended(answer.json()["ids"][0])
    assert run["status"] == "Completed"

    def same(seen: Any) -> None:
        assert json.dumps(seen) == json.dumps(json.loads(text))

    same(fn.calls[0].body["event"]["data"]["value"])
    same(fn.calls[1].steps[sha1("a")]["data"])
    same(run["output"])


def test_half_of_a_pair_is_refused_or_kept(scripted: Make, server: Server) -> None:
    """A lone surrogate is no text. It may be refused with a reason, but not break the run or be lost in silence."""
    fn = scripted(lambda call: Answer(200, b'"\\ud800"'))
    body = f'{{"name":"bare/{fn.slug}","data":{{"value":"\\ud800"}}}}'
    answer = server.http.post("/e/test", content=body.encode())
    if answer.status_code == 400:
        assert "error" in answer.json()
        event_id = fn.trigger()
    else:
        assert answer.status_code == 200
        event_id = answer.json()["ids"][0]
    run = fn.ended(event_id)
    assert run["status"] in {"Completed", "Failed"}
    assert server.http.get(f"/v1/events/{event_id}").status_code == 200


def test_state_that_is_too_large_is_left_out_and_can_be_fetched(scripted: Make, server: Server) -> None:
    fetched: list[httpx.Response] = []

    def script(call: Call) -> Answer:
        done = len(call.ctx["stack"]["stack"])
        if done < 3:
            return ops(ran(f"s{done}", str(done) * 1_500_000))
        fetched.extend(
            server.http.get(f"/v0/runs/{call.ctx['run_id']}/{part}") for part in ("actions", "batch")
        )
        return Answer(200, "end")

    fn = scripted(script)
    run = fn.run(timeout=30, small=True)
    assert run["output"] == "end"
    last = fn.calls[3]
    assert (last.body["use_api"], last.ctx["use_api"], last.steps) == (True, True, {})
    assert [call.body["use_api"] for call in fn.calls] == [False, False, False, True]
    assert last.body["event"]["data"] == last.body["events"][0]["data"] == {"small": True}
    assert last.ctx["stack"] == {"stack": [sha1(f"s{n}") for n in range(3)], "current": 3}
    actions, batch = fetched
    assert {step: len(memo["data"]) for step, memo in actions.json().items()} == dict.fromkeys(
        last.ctx["stack"]["stack"], 1_500_000
    )
    assert [event["data"] for event in batch.json()] == [{"small": True}]


def test_no_call_is_larger_than_four_mebibytes(scripted: Make) -> None:
    fn = scripted([ops(ran("a", "x" * 1_500_000)), Answer(200, "end")])
    assert fn.run(timeout=30, filler="x" * 1_500_000)["output"] == "end"
    assert fn.calls[1].body["use_api"] is True
    assert all(len(call.raw) <= 4 * MIB for call in fn.calls)


def test_request_sent_again_with_its_seed_starts_no_second_run(scripted: Make, server: Server) -> None:
    """What an SDK does when it lost the answer: the events are stored again under the same ids."""
    fn = scripted(lambda call: Answer(200, "once"))
    seed = f"{int(time.time() * 1000)},{base64.b64encode(bytes(range(10))).decode()}"
    events = [{"name": f"bare/{fn.slug}", "data": {"n": n}} for n in (1, 2)]
    first = server.send(*events, headers={"x-inngest-event-id-seed": seed})
    again = server.send(*events, headers={"x-inngest-event-id-seed": seed})
    assert first == again
    assert len(set(first)) == 2
    for event_id in first:
        assert fn.ended(event_id)["output"] == "once"
    time.sleep(0.3)
    assert len(fn.calls) == 2
    stored = [event["internal_id"] for event in server.events(f"bare/{fn.slug}")]
    assert sorted(stored) == sorted(first + again)
    assert all(len(server.runs(event_id)) == 1 for event_id in first)


@pytest.mark.parametrize(("route", "status"), [("/v1/runs", 200), ("/v0/runs", 204)])
def test_both_routes_cancel(scripted: Make, server: Server, route: str, status: int) -> None:
    fn = scripted([ops(op("Sleep", "nap", name="60s"))])
    event_id = fn.trigger()
    until("the call", lambda: len(fn.calls) == 1)
    run = server.run_of(event_id, fn.slug)
    jobs = until("a job", lambda: server.http.get(f"/v1/runs/{run['run_id']}/jobs").json()["data"])
    assert len(jobs) == 1
    assert server.http.delete(f"{route}/{run['run_id']}").status_code == status
    ended = fn.ended(event_id)
    assert ended["status"] == "Cancelled"
    assert ended["ended_at"] is not None
    assert server.http.get(f"/v1/runs/{run['run_id']}/jobs").json()["data"] == []

"""Why a run waits, asked over HTTP."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, Call, Scripted, op, ops, planned, ran
from tests.sdk.driver import Server, until

GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"


def why(http: httpx.Client, run_id: str, **query: Any) -> dict[str, Any]:
    answer = http.get(f"/v1/runs/{run_id}/why", params=query)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"data", "metadata"}
    return dict(body["data"])


def settled(http: httpx.Client, run_id: str, cause: str, **query: Any) -> dict[str, Any]:
    """The answer once its first cause is of this kind."""

    def look() -> dict[str, Any] | None:
        found = why(http, run_id, **query)
        return found if found["causes"] and found["causes"][0]["cause"] == cause else None

    return until(f"a run that waits for: {cause}", look)


def started(server: Server, fn: Scripted, **data: Any) -> str:
    return str(server.run_of(fn.trigger(**data), fn.slug)["run_id"])


def wait_for(event: str, condition: str | None = None) -> dict[str, Any]:
    opts = {"event": event, "timeout": "1h", **({"if": condition} if condition else {})}
    return op("WaitForEvent", "w", name=event, opts=opts)


class TestRuns:
    def test_in_line_with_the_holders(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        limits = {"fn": [{"limit": 1, "key": "event.data.u"}]}
        fn = scripted(lambda _: ops(op("Sleep", "nap", name="1h")), concurrency=limits)
        holder = started(server, fn, u="ann")
        settled(http, holder, "sleep")
        runs = []
        for _ in range(3):
            runs.append(started(server, fn, u="ann"))
            time.sleep(0.005)
        found = settled(http, runs[2], "line")
        assert found["text"] == "waiting for run concurrency key ann, place 3"
        (cause,) = found["causes"]
        assert cause["place"] == 3
        (limit,) = cause["limits"]
        assert (limit["key"], limit["value"], limit["limit"], limit["taken"]) == ("event.data.u", "ann", 1, 1)
        (who,) = limit["holders"]
        assert who["run_id"] == holder
        assert who["doing"].startswith("sleeping until ")
        assert datetime.fromisoformat(who["since"])
        assert found["next_at"] is None
        assert server.cancel(holder) == 200
        assert settled(http, runs[0], "sleep")["text"].startswith("sleeping until ")
        assert settled(http, runs[2], "line")["text"].endswith("place 2")
        for run in runs:
            server.cancel(run)

    def test_a_backoff_has_the_last_error(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fail = Answer(500, {"name": "Boom", "message": "no luck"}, {"retry-after": "3600"})
        run = started(server, scripted([fail], retries=4))
        found = settled(http, run, "backoff")
        (cause,) = found["causes"]
        assert (cause["attempt"], cause["attempts"], cause["error"]) == (2, 5, "Boom: no luck")
        assert found["text"] == (
            f"attempt 1 of 5 failed (Boom: no luck); the next one is made at {cause['until']}"
        )
        assert found["next_at"] == cause["until"]
        server.cancel(run)

    def test_a_wait_with_its_near_misses(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        event = f"paid-{time.time_ns()}"
        server.send({"name": event, "data": {"id": "before"}})
        condition = "async.data.id == event.data.id && async.data.sum > 10"
        run = started(server, scripted([ops(wait_for(event, condition))]), id="o1")
        assert settled(http, run, "event")["causes"][0]["missed"] == 0
        server.send(
            {"name": event, "data": {"id": "o2", "sum": 50, "at": 5, "secret": "s3cret"}},
            {"name": event, "data": {"id": "o1", "sum": 7}},
        )
        found = why(http, run)
        (cause,) = found["causes"]
        assert (cause["looked_at"], cause["missed"]) == (2, 2)
        newest, older = cause["near_misses"]
        assert newest["compared"] == [
            {
                "left": {"text": "async.data.id", "value": "o1"},
                "operator": "==",
                "right": {"text": "event.data.id", "value": "o1"},
                "holds": True,
            },
            {
                "left": {"text": "async.data.sum", "value": 7},
                "operator": ">",
                "right": {"text": "10", "value": 10},
            },
        ]
        assert [each["left"]["value"] for each in older["compared"]] == ["o2", 50]
        assert "s3cret" not in json.dumps(found)
        assert found["text"] == (
            f'waiting for event {event} if async.data.id == "o1" && async.data.sum > 10'
            f" until {cause['until']}; 2 such events have come since and do not match"
        )
        assert len(why(http, run, near_misses=1)["causes"][0]["near_misses"]) == 1
        assert why(http, run, near_misses=0)["causes"][0]["missed"] is None
        server.cancel(run)

    def test_a_wait_for_an_event_of_the_servers_own(
        self, http: httpx.Client, server: Server, scripted: Make
    ) -> None:
        name = "inngest/function.failed"
        run = started(server, scripted([ops(wait_for(name, "async.data.function_id == 'other'"))]))
        settled(http, run, "event")
        failed = scripted([Answer(400, {"name": "Error", "message": "no"}, {"x-inngest-no-retry": "true"})])
        failed.run()
        (cause,) = why(http, run)["causes"]
        assert cause["missed"] == 1
        assert cause["near_misses"][0]["compared"][0]["left"]["value"] == failed.slug
        server.cancel(run)

    def test_an_invoked_run_and_why_that_waits(
        self, http: httpx.Client, server: Server, scripted: Make
    ) -> None:
        child = scripted([ops(op("Sleep", "nap", name="1h"))])
        call = op("InvokeFunction", "i", opts={"function_id": child.slug, "payload": {"data": {}}})
        run = started(server, scripted([ops(call)]))
        until("the child", lambda: child.calls)
        found = until(
            "the child asleep",
            lambda: (
                w
                if (w := settled(http, run, "invoke"))["causes"][0]["why"]["text"].startswith("sleep")
                else None
            ),
        )
        (cause,) = found["causes"]
        assert cause["why"]["run_id"] == cause["run_id"]
        inner = cause["why"]["text"]
        assert found["text"] == f"waiting for run {cause['run_id']} of {child.slug}: {inner}"
        assert "trigger" not in cause["why"]
        assert found["next_at"] == cause["why"]["next_at"], "sooner than the timeout of the invoke"
        server.cancel(cause["run_id"])

    def test_a_call_under_way(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        seen: list[dict[str, Any]] = []

        def script(call: Call) -> Answer:
            seen.append(why(http, call.ctx["run_id"]))
            return (
                ops(planned("a"), planned("b")) if call.target == "step" and len(seen) == 1 else ops(ran("x"))
            )

        fn = scripted(script)
        run = started(server, fn)
        until("the steps", lambda: len(seen) >= 3)
        assert {cause["cause"] for cause in seen[0]["causes"]} == {"call"}
        assert {cause["step"] for found in seen[1:3] for cause in found["causes"]} >= {"a", "b"}
        server.cancel(run)

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (Answer(200, "x"), "completed at "),
            (Answer(400, {"name": "Error", "message": "no"}, {"x-inngest-no-retry": "true"}), "failed at "),
        ],
    )
    def test_how_it_ended(self, http: httpx.Client, scripted: Make, answer: Answer, text: str) -> None:
        found = why(http, scripted([answer]).run()["run_id"])
        assert found["text"].startswith(text)
        assert found["causes"] == []
        assert (found["reason"] or "").endswith("no" if "failed" in text else "")

    def test_how_it_failed(self, http: httpx.Client, scripted: Make) -> None:
        error = {"name": "KeyError", "message": "'tenant'"}
        found = why(http, scripted([Answer(400, error, {"x-inngest-no-retry": "true"})]).run()["run_id"])
        assert found["error"] == "KeyError: 'tenant'"
        assert found["text"] == f"failed at {found['ended_at']}: KeyError: 'tenant'"

    def test_how_the_server_failed_it(self, http: httpx.Client, scripted: Make) -> None:
        found = why(http, scripted([ops()]).run()["run_id"])
        assert found["text"].startswith(f"failed at {found['ended_at']}: ")
        assert found["reason"] in found["error"], found
        assert found["text"].endswith(found["error"])

    def test_skipped_by_a_singleton(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([ops(op("Sleep", "nap", name="1h"))], singleton={"mode": "skip"})
        first = started(server, fn)
        second = started(server, fn)
        found = why(http, second)
        assert found["text"].startswith("skipped at ")
        assert found["text"].endswith(f": another run was under way in its place: {first}")
        server.cancel(first)

    def test_errors(self, http: httpx.Client) -> None:
        answer = http.get("/v1/runs/bad/why")
        assert (answer.status_code, answer.json()["error"]) == (400, "Invalid run ID: bad")
        answer = http.get(f"/v1/runs/{GHOST}/why")
        assert (answer.status_code, answer.json()["error"]) == (404, f"Unable to load function run: {GHOST}")
        for number in ("x", "-1", "1001", "9" * 30, "²"):
            answer = http.get(f"/v1/runs/{GHOST}/why", params={"near_misses": number})
            assert answer.status_code == 400
            assert "near_misses" in answer.json()["error"]


class TestEvents:
    def fate(self, http: httpx.Client, event_id: str) -> dict[str, Any]:
        answer = http.get(f"/v1/events/{event_id}/why")
        assert answer.status_code == 200, answer.text
        (fate,) = answer.json()["data"]["functions"]
        assert answer.json()["data"]["text"] == f"{fate['function']}: {fate['text']}"
        return dict(fate)

    def test_a_run(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([Answer(200, "x")])
        event = fn.trigger()
        run = fn.ended(event)["run_id"]
        assert self.fate(http, event) == {
            "function": fn.slug,
            "fate": "run",
            "text": f"started run {run} (completed)",
            "run_ids": [run],
        }

    def test_debounced_and_replaced(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([], debounce={"period": "1h", "key": "event.data.u"})
        first, second = fn.trigger(u="ann"), fn.trigger(u="ann")
        held = self.fate(http, second)
        due = held["due_at"]
        assert held["text"] == f"held by a debounce with key ann until {due}, the last of 2 so far"
        assert (held["fate"], held["key"], held["value"]) == ("debounced", "event.data.u", "ann")
        replaced = self.fate(http, first)
        assert replaced["fate"] == "replaced"
        assert (
            replaced["text"]
            == f"another event has its place in a debounce with key ann, and starts a run at {due}"
        )

    def test_rate_limited_beside_an_open_debounce(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([], debounce={"period": "1h"}, rateLimit={"limit": 1, "period": "1h"})
        first, second = fn.trigger(), fn.trigger()
        assert self.fate(http, first)["fate"] == "debounced"
        assert self.fate(http, second)["fate"] == "rate_limited"

    def test_collected(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([Answer(200, "x")], batchEvents={"maxSize": 3, "timeout": "1h"})
        first, second = fn.trigger(), fn.trigger()
        assert self.fate(http, first)["position"] == 1
        held = self.fate(http, second)
        assert held["text"] == f"collected in a batch, 2 of 2 so far; it runs with 3, or at {held['due_at']}"
        third = fn.trigger()
        run = fn.ended(first)["run_id"]
        for event in (first, second, third):
            assert self.fate(http, event)["run_ids"] == [run]

    def test_rate_limited(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([Answer(200, "x")], rateLimit={"limit": 1, "period": "1h", "key": "event.data.u"})
        fn.run(u="ann")
        dropped = self.fate(http, fn.trigger(u="ann"))
        assert (dropped["fate"], dropped["value"]) == ("rate_limited", "ann")
        assert dropped["text"] == (
            "dropped by a rate limit with key ann: all places of its period were taken (limit 1);"
            f" the next that can start one is from {dropped['free_at']} on"
        )

    def test_idempotent(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([Answer(200, "x")], idempotency="event.data.u")
        ended = fn.run(u="ann")
        dropped = self.fate(http, fn.trigger(u="ann"))
        assert dropped["text"] == (
            "dropped by idempotency with key ann: an event of that key started a run in the 24 hours before;"
            f" the next that can start one is from {dropped['free_at']} on"
        )
        later = datetime.fromisoformat(dropped["free_at"]) - datetime.fromisoformat(ended["run_started_at"])
        assert abs(later.total_seconds() - 86_400) < 10

    def test_a_duplicate(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([Answer(200, "x")])
        event = {"name": f"bare/{fn.slug}", "id": f"same-{time.time_ns()}"}
        (first,) = server.send(event)
        run = fn.ended(first)["run_id"]
        (second,) = server.send(event)
        assert self.fate(http, second)["fate"] == "duplicate"
        assert self.fate(http, second)["run_ids"] == [run]

    @pytest.mark.parametrize(
        ("rule", "where"),
        [
            ({"debounce": {"period": "1h"}}, "held by a debounce"),
            ({"batchEvents": {"maxSize": 3, "timeout": "1h"}}, "collected in a batch"),
        ],
    )
    def test_a_duplicate_of_what_is_held_back(
        self, http: httpx.Client, server: Server, scripted: Make, rule: dict[str, Any], where: str
    ) -> None:
        fn = scripted([], **rule)
        event = {"name": f"bare/{fn.slug}", "id": f"same-{time.time_ns()}"}
        (first,), (second,) = server.send(event), server.send(event)
        assert self.fate(http, first)["fate"] in ("debounced", "collected")
        told = self.fate(http, second)
        assert (told["fate"], "run_ids" in told) == ("duplicate", False)
        assert (
            told["text"] == f"an event of the same id was taken before, and is {where}: this one is dropped"
        )

    def test_skipped(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([ops(op("Sleep", "nap", name="1h"))], singleton={"mode": "skip"})
        first = started(server, fn)
        event = fn.trigger()
        skipped = server.run_of(event, fn.slug)["run_id"]
        assert self.fate(http, event)["text"] == (
            f"run {skipped} was skipped: another run was under way in its place: {first}"
        )
        server.cancel(first)

    def test_what_is_not_known_is_said(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        name = f"late-{time.time_ns()}"
        (event,) = server.send({"name": name})
        answer = http.get(f"/v1/events/{event}/why").json()["data"]
        assert answer["functions"] == []
        assert answer["text"] == (
            "it meets no function that is served now, has started no run,"
            " and no run waited for it or was cancelled by it"
        )
        scripted([], triggers=[{"event": name}])
        fate = self.fate(http, event)
        assert fate["fate"] == "unknown"
        assert "nothing is remembered" in fate["text"]

    def test_errors(self, http: httpx.Client) -> None:
        answer = http.get("/v1/events/bad/why")
        assert (answer.status_code, answer.json()["error"]) == (400, "Invalid event ID: bad")
        answer = http.get(f"/v1/events/{GHOST}/why")
        assert (answer.status_code, answer.json()["error"]) == (404, "Event not found")

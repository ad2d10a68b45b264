"""Pausing functions, changing their limits and archiving apps over HTTP: what takes effect, what outlives a restart."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, function_config, op, ops, register
from tests.sdk.driver import Server, until

DONE = Answer(200, "done")
NAP = ops(op("Sleep", "nap", name="1h"))


def shown(fn: Scripted) -> dict[str, Any]:
    answer = fn.server.http.get(f"/v1/functions/{fn.slug}")
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def put(fn: Scripted, **overrides: Any) -> httpx.Response:
    return fn.server.http.put(f"/v1/functions/{fn.slug}/overrides", json=overrides)


def pause(fn: Scripted, **body: Any) -> dict[str, Any]:
    answer = fn.server.http.post(f"/v1/functions/{fn.slug}/pause", json=body)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def resume(fn: Scripted) -> dict[str, Any]:
    answer = fn.server.http.post(f"/v1/functions/{fn.slug}/resume")
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def status(fn: Scripted, event: str) -> str:
    return str(fn.server.run_of(event, fn.slug)["status"])


def quiet(fn: Scripted) -> int:
    """The calls so far, a while after which there have been no more."""
    before = len(fn.calls)
    time.sleep(0.4)
    assert len(fn.calls) == before
    return before


class Twice:
    """A server that is started twice over the same data; functions stay usable over it."""

    def __init__(self, folder: Path, bare: BareApp) -> None:
        self.folder, self.bare = folder, bare
        self.server = Server.start(folder)

    def make(self, script: Callable[[Call], Answer], **config: Any) -> Scripted:
        return Scripted.make(self.server, self.bare, script, **config)

    def again(self, fn: Scripted) -> Scripted:
        self.server.stop()
        self.server = Server.start(self.folder)
        return Scripted(self.server, self.bare, fn.slug)


@pytest.fixture
def twice(tmp_path: Path, bare: BareApp) -> Any:
    running = Twice(tmp_path, bare)
    yield running
    running.server.stop()


def sync(fn: Scripted, **config: Any) -> None:
    """Register the function again, in its own app."""
    url = f"{fn.app.origin}/{fn.slug}"
    register(fn.server, fn.app, fn.slug, [function_config(fn.app, fn.slug, url=url, **config)], url=url)


class TestPause:
    @pytest.mark.parametrize(
        "config", [{}, {"concurrency": [{"limit": 1}]}, {"throttle": {"limit": 9, "period": "1s"}}]
    )
    def test_hold_and_resume(self, scripted: Make, config: dict[str, Any]):
        fn = scripted(lambda _: DONE, **config)
        assert pause(fn)["paused"] == "hold"
        events = [fn.trigger(n=n) for n in range(3)]
        assert [status(fn, event) for event in events] == ["Scheduled"] * 3
        assert quiet(fn) == 0
        assert resume(fn)["paused"] is None
        assert {fn.ended(event)["status"] for event in events} == {"Completed"}
        if config:
            assert [call.body["event"]["data"]["n"] for call in fn.calls] == [0, 1, 2], "in their order"
        assert fn.run()["status"] == "Completed"

    def test_skip(self, scripted: Make):
        fn = scripted(lambda _: DONE)
        assert pause(fn, mode="skip")["paused"] == "skip"
        run = fn.run()
        assert run["status"] == "Skipped"
        history = fn.server.http.get(f"/v1/runs/{run['run_id']}/history").json()["data"]
        assert "FunctionPaused" in str(history)
        resume(fn)
        assert quiet(fn) == 0, "what was skipped stays so"
        assert fn.run()["status"] == "Completed"

    def test_runs_that_have_begun_go_on(self, scripted: Make):
        fn = scripted([ops(op("Sleep", "nap", name="1s")), DONE])
        event = fn.trigger()
        until("the sleep", lambda: fn.calls)
        pause(fn)
        assert fn.ended(event)["status"] == "Completed"

    @pytest.mark.parametrize("mode", ["hold", "skip"])
    def test_over_a_restart_and_a_sync(self, twice: Twice, mode: str):
        fn = twice.make(lambda _: DONE)
        pause(fn, mode=mode)
        before = fn.trigger()
        until("the run", lambda: status(fn, before))
        fn = twice.again(fn)
        assert shown(fn)["paused"] == mode
        sync(fn, retries=1)
        assert shown(fn)["paused"] == mode
        after = fn.trigger()
        expected = "Scheduled" if mode == "hold" else "Skipped"
        assert [status(fn, event) for event in (before, after)] == [expected] * 2
        assert quiet(fn) == 0
        resume(fn)
        if mode == "hold":
            assert {fn.ended(event)["status"] for event in (before, after)} == {"Completed"}
        assert fn.run()["status"] == "Completed"

    def test_schedule_goes_on_and_its_runs_are_held(self, scripted: Make, http: httpx.Client):
        fn = scripted(lambda _: DONE, triggers=[{"cron": "* * * * * *"}])
        until("a firing", lambda: fn.calls)
        pause(fn)
        time.sleep(0.3)
        before = len(fn.calls)
        time.sleep(2.2)
        assert len(fn.calls) == before
        resume(fn)
        until("those that were held", lambda: len(fn.calls) >= before + 2, timeout=0.5)
        http.delete(f"/v1/apps/{fn.slug}")

    def test_held_run_can_be_cancelled_and_runs_into_its_timeout(self, scripted: Make):
        fn = scripted(lambda _: DONE, timeouts={"start": "1s"})
        pause(fn)
        event, other = fn.trigger(), fn.trigger()
        fn.server.cancel(fn.server.run_of(event, fn.slug)["run_id"])
        assert [fn.ended(each)["status"] for each in (event, other)] == ["Cancelled"] * 2
        resume(fn)
        assert quiet(fn) == 0

    def test_from_hold_to_skip_keeps_what_is_held(self, scripted: Make):
        fn = scripted(lambda _: DONE)
        pause(fn)
        held = fn.trigger()
        assert status(fn, held) == "Scheduled"
        pause(fn, mode="skip")
        assert fn.run()["status"] == "Skipped"
        assert status(fn, held) == "Scheduled"
        resume(fn)
        assert fn.ended(held)["status"] == "Completed"

    def test_by_id(self, scripted: Make, http: httpx.Client):
        fn = scripted([])
        own_id = shown(fn)["internal_id"]
        assert http.post(f"/v1/functions/{own_id}/pause").json()["data"]["id"] == fn.slug
        assert shown(fn)["paused"] == "hold"
        resume(fn)

    @pytest.mark.parametrize(
        ("body", "text"),
        [(b'{"mode": "stop"}', "mode"), (b'{"skip": true}', "skip"), (b"{", "not JSON"), (b"[]", "wrong")],
    )
    def test_refusals(self, scripted: Make, http: httpx.Client, body: bytes, text: str):
        fn = scripted([])
        answer = http.post(f"/v1/functions/{fn.slug}/pause", content=body)
        assert (answer.status_code, text in answer.json()["error"]) == (400, True)
        assert shown(fn)["paused"] is None

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v1/functions/ghost"),
            ("POST", "/v1/functions/ghost/pause"),
            ("POST", "/v1/functions/ghost/resume"),
            ("PUT", "/v1/functions/ghost/overrides"),
            ("DELETE", "/v1/functions/ghost/overrides"),
            ("DELETE", "/v1/apps/ghost"),
        ],
    )
    def test_unknown(self, http: httpx.Client, method: str, path: str):
        answer = http.request(method, path)
        assert (answer.status_code, "ghost" in answer.json()["error"]) == (404, True)

    def test_list(self, scripted: Make, http: httpx.Client):
        fn = scripted([])
        pause(fn)
        listed = http.get("/v1/functions").json()["data"]
        assert [each["id"] for each in listed] == sorted(each["id"] for each in listed)
        assert {each["id"]: each["paused"] for each in listed}[fn.slug] == "hold"
        resume(fn)


class TestOverrides:
    def test_both_what_the_code_says_and_what_is_set(self, scripted: Make, http: httpx.Client):
        fn = scripted([], concurrency=[{"limit": 1}])
        assert shown(fn)["overrides"] is None
        data = put(fn, concurrency=3, throttle=None).json()["data"]
        assert data["overrides"] == {"concurrency": 3, "throttle": None}
        assert data["config"]["concurrency"] == [{"limit": 1}], "the code's stays to be seen"
        assert shown(fn) == data
        assert put(fn, retries=2).json()["data"]["overrides"] == {"retries": 2}, "PUT replaces what was set"
        assert http.delete(f"/v1/functions/{fn.slug}/overrides").json()["data"]["overrides"] is None
        put(fn, retries=2)
        assert put(fn).json()["data"]["overrides"] is None, "nothing is set by {}"

    def test_raised_limit_takes_effect_for_waiting_runs(self, scripted: Make):
        fn = scripted(lambda _: Answer(200, None, delay_s=0.8), concurrency=[{"limit": 1}])
        events = [fn.trigger() for _ in range(6)]
        until("the first call", lambda: fn.calls)
        time.sleep(0.15)
        assert len(fn.calls) == 1
        put(fn, concurrency=6)
        until("the others at once", lambda: len(fn.calls) == 6, timeout=0.5)
        for event in events:
            fn.ended(event)

    def test_lowered_limit_throws_nobody_out(self, scripted: Make):
        fn = scripted(lambda _: Answer(200, None, delay_s=0.4), concurrency=[{"limit": 4}])
        events = [fn.trigger() for _ in range(6)]
        until("four calls", lambda: len(fn.calls) == 4)
        put(fn, concurrency=1)
        assert {fn.ended(event)["status"] for event in events} == {"Completed"}
        starts = sorted(call.at for call in fn.calls)
        assert starts[5] - starts[4] >= 0.35, "one after the other"

    def test_limit_that_the_code_does_not_have(self, scripted: Make, http: httpx.Client):
        fn = scripted(lambda _: Answer(200, None, delay_s=0.3))
        put(fn, concurrency=1)
        events = [fn.trigger() for _ in range(3)]
        for event in events:
            fn.ended(event)
        starts = sorted(call.at for call in fn.calls)
        assert min(b - a for a, b in pairwise(starts)) >= 0.25
        http.delete(f"/v1/functions/{fn.slug}/overrides")
        events = [fn.trigger() for _ in range(3)]
        for event in events:
            fn.ended(event)
        starts = sorted(call.at for call in fn.calls[3:])
        assert starts[2] - starts[0] < 0.25

    def test_limit_that_is_taken_away_frees_waiting_runs(self, scripted: Make):
        fn = scripted(lambda _: Answer(200, None, delay_s=0.8), concurrency=[{"limit": 1}])
        events = [fn.trigger() for _ in range(4)]
        until("the first call", lambda: fn.calls)
        put(fn, concurrency=None)
        until("the others at once", lambda: len(fn.calls) == 4, timeout=0.5)
        for event in events:
            fn.ended(event)

    def test_limit_on_whole_runs(self, scripted: Make):
        fn = scripted(lambda call: DONE if call.steps else ops(op("Sleep", "nap", name="1s")))
        put(fn, concurrency={"fn": [{"limit": 1}]})
        events = [fn.trigger() for _ in range(2)]
        runs = [fn.ended(event) for event in events]
        assert [run["status"] for run in runs] == ["Completed"] * 2
        order = [call.ctx["run_id"] for call in fn.calls]
        assert order == [order[0]] * 2 + [order[2]] * 2, "the second begins when the first has ended"

    def test_retries(self, scripted: Make):
        fn = scripted(lambda _: Answer(500, {"name": "Error", "message": "no"}), retries=3)
        put(fn, retries=0)
        assert fn.run()["status"] == "Failed"
        assert len(fn.calls) == 1

    def test_over_a_sync_and_a_restart(self, twice: Twice):
        fn = twice.make(lambda _: DONE)
        put(fn, rateLimit={"limit": 1, "period": "1h"})
        fn.run()
        fn = twice.again(fn)
        assert shown(fn)["overrides"] == {"rateLimit": {"limit": 1, "period": "1h"}}
        sync(fn, retries=2)
        assert shown(fn)["overrides"] == {"rateLimit": {"limit": 1, "period": "1h"}}
        fn.trigger()
        assert quiet(fn) == 1, "the second of the hour is dropped"

    def test_code_that_no_longer_goes_together_with_it(self, scripted: Make):
        fn = scripted(lambda _: DONE)
        put(fn, debounce={"period": "1h"})
        sync(fn, batchEvents={"maxSize": 2, "timeout": "60s"})
        events = [fn.trigger(), fn.trigger()]
        assert fn.ended(events[0])["status"] == "Completed", "the code alone is in force: a batch of two"
        assert "runs as its code says" in fn.server.process.output.read_text()
        assert shown(fn)["overrides"] == {"debounce": {"period": "1h"}}, "and can be seen"

    @pytest.mark.parametrize(
        ("overrides", "texts"),
        [
            ({"concurency": 3}, ["concurency", "cannot be set"]),
            ({"triggers": []}, ["triggers", "belongs to the code"]),
            ({"id": "x"}, ["id", "belongs to the code"]),
            ({"concurrency": "many"}, ["concurrency"]),
            ({"throttle": {"limit": 1}}, ["throttle.period"]),
            ({"rateLimit": {"limit": 0, "period": "2d"}}, ["rateLimit.limit", "rateLimit.period"]),
            ({"priority": {"run": "event.data."}}, ["priority.run", "does not compile"]),
            ({"concurrency": [{"limit": 1, "key": "nope.x"}]}, ["concurrency", "key"]),
            ({"retries": "many"}, ["retries"]),
            (
                {"batchEvents": {"maxSize": 2, "timeout": "5s"}, "debounce": {"period": "5s"}},
                ["batchEvents", "debounce"],
            ),
        ],
    )
    def test_refused_by_name(self, scripted: Make, overrides: dict[str, Any], texts: list[str]):
        fn = scripted([])
        put(fn, retries=1)
        answer = put(fn, **overrides)
        assert answer.status_code == 400
        for text in texts:
            assert text in answer.json()["error"]
        assert shown(fn)["overrides"] == {"retries": 1}, "what was set stays"

    @pytest.mark.parametrize("body", [b"{", b"[]", b"7", b'{"retries": NaN}'])
    def test_broken_bodies(self, scripted: Make, http: httpx.Client, body: bytes):
        fn = scripted([])
        assert http.put(f"/v1/functions/{fn.slug}/overrides", content=body).status_code == 400
        assert shown(fn)["overrides"] is None


class TestArchiving:
    def test_runs_go_on_and_new_events_start_nothing(
        self, scripted: Make, server: Server, http: httpx.Client
    ):
        fn = scripted(lambda call: DONE if call.steps else ops(op("Sleep", "nap", name="1s")))
        future = int(time.time() * 1000) + 1500
        asleep = fn.trigger()
        (queued,) = server.send({"name": f"bare/{fn.slug}", "ts": future})
        runs = [server.run_of(event, fn.slug)["run_id"] for event in (asleep, queued)]
        until("the sleep", lambda: fn.calls)
        answer = http.delete(f"/v1/apps/{fn.slug}").json()["data"]
        assert (answer["name"], answer["archived"]) == (fn.slug, True)
        (late,) = server.send({"name": f"bare/{fn.slug}"})
        assert [server.ended(run)["status"] for run in runs] == ["Completed"] * 2, (
            "also one that had not begun"
        )
        assert server.runs(late) == []
        assert fn.slug not in server.functions()
        assert http.get(f"/v1/functions/{fn.slug}").status_code == 404
        assert http.delete(f"/v1/apps/{fn.slug}").status_code == 404, "it is archived already"

    def test_sync_brings_it_back_with_what_was_set(self, scripted: Make, http: httpx.Client):
        fn = scripted(lambda _: DONE)
        put(fn, retries=2)
        pause(fn)
        app_id = shown(fn)["app_id"]
        assert http.delete(f"/v1/apps/{app_id}").status_code == 200, "by its id"
        sync(fn)
        again = shown(fn)
        assert (again["paused"], again["overrides"]) == ("hold", {"retries": 2})
        event = fn.trigger()
        assert status(fn, event) == "Scheduled"
        resume(fn)
        assert fn.ended(event)["status"] == "Completed"

    def test_debounce_and_batch_that_wait(self, scripted: Make, http: httpx.Client):
        held = scripted(lambda _: DONE, debounce={"period": "1s"})
        batch = scripted(lambda _: DONE, batchEvents={"maxSize": 9, "timeout": "1s"})
        events = [held.trigger(), batch.trigger()]
        for fn in (held, batch):
            assert http.delete(f"/v1/apps/{fn.slug}").status_code == 200
        time.sleep(1.8)
        assert [held.server.runs(event) for event in events] == [[], []], "no run exists yet, and none starts"

    def test_schedule_stops(self, scripted: Make, http: httpx.Client):
        fn = scripted(lambda _: DONE, triggers=[{"cron": "* * * * * *"}])
        until("two firings", lambda: len(fn.calls) >= 2)
        assert http.delete(f"/v1/apps/{fn.slug}").status_code == 200
        time.sleep(0.3)
        calls = len(fn.calls)
        time.sleep(1.5)
        assert len(fn.calls) == calls
        sync(fn, triggers=[{"cron": "* * * * * *"}])
        until("a firing", lambda: len(fn.calls) > calls)
        http.delete(f"/v1/apps/{fn.slug}")

    def test_paused_and_archived(self, scripted: Make, http: httpx.Client):
        fn = scripted(lambda _: DONE)
        pause(fn)
        event = fn.trigger()
        assert status(fn, event) == "Scheduled"
        http.delete(f"/v1/apps/{fn.slug}")
        assert quiet(fn) == 0, "what is held stays so"
        sync(fn)
        resume(fn)
        assert fn.ended(event)["status"] == "Completed"

    def test_methods(self, http: httpx.Client):
        assert http.get("/v1/apps/ghost").status_code == 405
        assert http.delete("/v1/functions").status_code == 405


def test_keys_are_asked_for(tmp_path: Path):
    server = Server.start(tmp_path, "--signing-key", "signkey-test-" + "ab" * 16)
    try:
        for method, path in (
            ("GET", "/v1/functions"), ("POST", "/v1/functions/x/pause"), ("PUT", "/v1/functions/x/overrides"),
            ("DELETE", "/v1/apps/x"), ("POST", "/v1/cancellations"), ("GET", "/v1/replays"),
        ):  # fmt: skip
            assert server.http.request(method, path).status_code == 401, path
    finally:
        server.stop()


def test_pages_of_other_hosts_change_nothing(scripted: Make, http: httpx.Client):
    fn = scripted([])
    foreign = {"Origin": "http://evil.example"}
    assert http.post(f"/v1/functions/{fn.slug}/pause", headers=foreign).status_code == 403
    assert http.delete(f"/v1/apps/{fn.slug}", headers=foreign).status_code == 403
    assert shown(fn)["paused"] is None


def test_what_a_person_does_stands_in_the_log(scripted: Make) -> None:
    fn = scripted([DONE])
    fn.run()
    pause(fn, mode="skip")
    resume(fn)
    assert put(fn, concurrency=2).status_code == 200
    fn.server.http.delete(f"/v1/functions/{fn.slug}/overrides")
    job = {"function_id": fn.slug, "statuses": ["COMPLETED"]}
    replayed = fn.server.http.post("/v1/replays", json=job)
    assert replayed.status_code in (200, 201), replayed.text
    end = f"replay {replayed.json()['data']['id']} of {fn.slug} is done: 1 run again, 0 refused"
    log = until("the end of the job", lambda: text if end in (text := log_of(fn)) else "")
    for line in (
        f"function {fn.slug} is paused (skip)",
        f"function {fn.slug} is resumed",
        f'function {fn.slug}: limits are set by hand to {{"concurrency":2}}',
        f"function {fn.slug}: limits are those of its code again",
    ):
        assert log.count(line) == 1, line


def log_of(fn: Scripted) -> str:
    return fn.server.process.output.read_text(errors="replace")

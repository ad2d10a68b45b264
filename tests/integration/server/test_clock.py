"""Travel in time over HTTP, in a real process: what lies days ahead happens, and everything else goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sdk.bare_app import Answer, Scripted, op, ops, ran
from tests.sdk.driver import Server, until

DAY = 86_400_000
KEY = "signkey-test-" + "ab" * 32
Make = Callable[..., Scripted]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, which retries after an hour: its clock moves for all tests."""
    running = Server.start(tmp_path_factory.mktemp("clock"), "--retry-interval", "3600")
    yield running
    running.stop()


def clock(server: Server) -> dict[str, Any]:
    answer = server.http.get("/dev/clock")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def move(server: Server, **wanted: str) -> dict[str, Any]:
    answer = server.http.post("/dev/clock", json=wanted)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def waiting(made: Scripted, calls: int = 1, **data: Any) -> str:
    """A run that has made so many calls, and waits for a time."""
    run: str = made.server.run_of(made.trigger(**data), made.slug)["run_id"]
    until("the calls", lambda: len(made.calls) >= calls)
    until("a timer of it", lambda: (clock(made.server)["next"] or {}).get("run_id") == run)
    return run


def sleep(name: str = "nap", time: str = "30d") -> Answer:
    return ops(op("Sleep", name, name=time, displayName=name))


class TestMoving:
    def test_a_sleep_of_thirty_days(self, server: Server, scripted: Make) -> None:
        made = scripted([sleep(), Answer(200, "rested")])
        run = waiting(made)
        before = clock(server)
        assert before["next"]["kind"] == "sleep"
        moved = move(server, to="next")
        assert server.ended(run)["output"] == "rested"
        (happened,) = moved["happened"]
        assert happened == before["next"]
        assert (happened["function"], happened["run_id"], happened["step"]) == (made.slug, run, "nap")
        assert 29 * DAY < moved["moved_ms"] <= 30 * DAY
        assert moved["ahead_ms"] == before["ahead_ms"] + moved["moved_ms"]
        assert not moved["more_happened"]
        shown = server.run(run)
        assert shown["run_started_at"] < happened["due_at"] <= shown["ended_at"]

    def test_by_a_duration(self, server: Server, scripted: Make) -> None:
        made = scripted([sleep("a", "2d"), sleep("b", "2d"), Answer(200, 1)])
        run = waiting(made)
        moved = move(server, by="1d")
        assert (moved["moved_ms"], moved["happened"]) == (DAY, [])
        assert moved["next"]["step"] == "a"
        assert [timer["step"] for timer in move(server, by="1d")["happened"]] == ["a"]
        until("the second sleep", lambda: (clock(server)["next"] or {}).get("step") == "b")
        move(server, by="1d23h59m")
        assert server.run(run)["status"] == "Running"
        move(server, by="1m")
        assert server.ended(run)["status"] == "Completed"

    def test_a_retry(self, server: Server, scripted: Make) -> None:
        made = scripted([Answer(500, {"name": "E", "message": "no"}), Answer(200, 1)], retries=1)
        run = waiting(made)
        assert [timer["kind"] for timer in move(server, to="next")["happened"]] == ["retry"]
        assert server.ended(run)["status"] == "Completed"

    def test_a_debounce(self, server: Server, scripted: Make) -> None:
        made = scripted([Answer(200, 1)], debounce={"period": "7d"})
        made.trigger(n=1)
        event = made.trigger(n=2)
        until("the debounce", lambda: (clock(server)["next"] or {}).get("kind") == "debounce")
        moved = move(server, to="next")
        assert [(timer["kind"], timer["function"]) for timer in moved["happened"]] == [
            ("debounce", made.slug)
        ]
        assert server.ended(server.run_of(event, made.slug)["run_id"])["status"] == "Completed"
        assert [call.body["event"]["data"]["n"] for call in made.calls] == [2]

    def test_a_schedule_fires_once_however_often_it_was_missed(self, server: Server, scripted: Make) -> None:
        made = scripted(lambda _: Answer(200, 1), triggers=[{"cron": "0 * * * *"}])
        for count in (1, 2):
            assert "cron" in [timer["kind"] for timer in move(server, by="3d")["happened"]]
            until("the run", lambda count=count: len(made.calls) >= count)
            time.sleep(0.2)
            assert len(made.calls) == count
        moved = move(server, to="next")
        assert (moved["happened"][0]["kind"], moved["moved_ms"] <= 3_600_000) == ("cron", True)
        until("the third run", lambda: len(made.calls) == 3)
        server.http.request("DELETE", "/fn/remove", params={"url": f"{made.app.origin}/{made.slug}"})
        assert all(
            app["url"] != f"{made.app.origin}/{made.slug}" for app in server.http.get("/dev").json()["apps"]
        )

    def test_an_event_sent_after_it_starts_at_once_and_reaches_who_waits(
        self, server: Server, scripted: Make
    ) -> None:
        wait = op("WaitForEvent", "w", name="clock/answer", opts={"event": "clock/answer", "timeout": "90d"})
        made = scripted([ops(wait), Answer(200, 1)])
        run = waiting(made)
        move(server, by="30d")
        server.send({"name": "clock/answer", "ts": int(time.time() * 1000)})
        assert server.ended(run)["status"] == "Completed"
        quick = scripted([ops(ran("s")), Answer(200, 2)])
        began = server.http.get("/v1/events").json()["metadata"]["fetched_at"]
        after = server.ended(server.run_of(quick.trigger(), quick.slug)["run_id"])
        assert after["output"] == 2
        assert after["run_started_at"] >= began

    def test_events_keep_the_real_time(self, server: Server, scripted: Make) -> None:
        move(server, by="1d")
        made = scripted([Answer(200, 1)])
        event = made.trigger()
        shown = server.http.get(f"/v1/events/{event}").json()["data"]
        assert abs(shown["ts"] / 1000 - time.time()) < 60


class TestShown:
    def test_the_server_tells_of_its_clock(self, server: Server) -> None:
        move(server, by="90m")
        shown = server.http.get("/dev").json()["clock"]
        assert shown["ahead_ms"] == clock(server)["ahead_ms"] >= 5_400_000
        assert shown["ahead"] == clock(server)["ahead"]
        assert shown["now"] <= clock(server)["now"]

    def test_looking_moves_nothing(self, server: Server) -> None:
        assert clock(server)["ahead_ms"] == clock(server)["ahead_ms"]
        assert "moved_ms" not in clock(server)

    def test_a_restart_keeps_it_and_says_so(self, tmp_path: Path) -> None:
        first = Server.start(tmp_path)
        move(first, by="30d")
        log = first.process.output.read_text()
        assert "ahead" not in log
        assert "the clock was moved by 4w2d, to " in log
        first.stop()
        second = Server.start(tmp_path)
        try:
            assert clock(second)["ahead_ms"] == 30 * DAY
            until("a line of the log", lambda: "ready at" in second.process.output.read_text())
            printed = second.process.output.read_text()
            assert "the clock is 4w2d ahead" in printed
            assert "--data-dir" in printed
        finally:
            second.stop()


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({"by": "-1d"}, "by is negative"),
            ({"by": "11w 3"}, "by is wrong"),
            ({"by": ""}, "by is wrong"),
            ({"by": "521w7d"}, "10 years"),
            ({"by": 5}, "by"),
            ({"to": "tomorrow"}, "to"),
            ({"back": "1d"}, "back"),
            ({}, "either by"),
            ({"by": "1d", "to": "next"}, "either by"),
            ([], "body"),
        ],
    )
    def test_by_name(self, server: Server, body: object, named: str) -> None:
        before = clock(server)["ahead_ms"]
        answer = server.http.post("/dev/clock", json=body)
        assert answer.status_code == 400
        assert named in answer.json()["error"]
        assert clock(server)["ahead_ms"] == before

    def test_nothing_to_come(self, tmp_path: Path) -> None:
        empty = Server.start(tmp_path)
        try:
            answer = empty.http.post("/dev/clock", json={"to": "next"})
            assert (answer.status_code, answer.json()["code"]) == (409, "nothing_due")
            assert clock(empty)["next"] is None
        finally:
            empty.stop()

    @pytest.mark.parametrize("flag", ["--signing-key", "--event-key"])
    def test_with_keys(self, tmp_path: Path, flag: str) -> None:
        keyed = Server.start(tmp_path, flag, KEY)
        try:
            token = httpx.Headers({"Authorization": f"Bearer {KEY}"})
            answer = keyed.http.post("/dev/clock", json={"by": "1d"}, headers=token)
            assert (answer.status_code, answer.json()["code"]) == (403, "clock_fixed")
            assert keyed.http.get("/dev/clock", headers=token).json()["ahead_ms"] == 0
        finally:
            keyed.stop()

    def test_a_foreign_page(self, server: Server) -> None:
        answer = server.http.post("/dev/clock", json={"by": "1d"}, headers={"Origin": "https://evil.example"})
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")

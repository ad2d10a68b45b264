"""When the server can take nothing now, it says so and when to come back, and nothing that it took is lost."""

from __future__ import annotations

import http.client
import json
import sqlite3
import threading
from pathlib import Path

import httpx
import pytest

from tests.integration.server.conftest import start_with
from tests.sdk.bare_app import Answer, BareApp, Scripted
from tests.sdk.driver import Server, until


def test_full_inbox_refuses_events_and_management(tmp_path: Path) -> None:
    running = start_with(tmp_path, "import perdure.shard.inbox as inbox; inbox.MAX_COMMANDS = 0")
    try:
        answer = running.http.post("/e/key", json={"name": "busy/x"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        body = answer.json()
        assert (body["ids"], body["status"]) == ([], 503)
        assert body["error"]
        for method, path, sent in (
            ("POST", "/fn/register", {"appName": "a", "url": "http://localhost:1", "functions": []}),
            ("POST", "/v1/signals", {"signal": "a"}),
            ("DELETE", "/v1/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ", None),
        ):
            answer = running.http.request(method, path, json=sent)
            assert (answer.status_code, answer.json()["status"]) == (503, 503)
            assert answer.headers["retry-after"] == "1"
        stale = {"qi_id": "MDFIWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo6MQ==", "generation_id": 1, "steps": []}
        answer = running.http.post("/v1/checkpoint/01HZZZZZZZZZZZZZZZZZZZZZZZ/async", json=stale)
        assert answer.status_code in {400, 409}, "checkpoints have a lane of their own"
        assert running.http.get("/v1/events").status_code == 200, "and reading goes on"
    finally:
        running.stop()


def test_large_request_that_is_taken_in_part_names_what_was(tmp_path: Path) -> None:
    """The inbox is full after three parts of a hundred events."""
    patch = "import perdure.shard.inbox as inbox; inbox.MAX_COMMANDS = 3"
    running = start_with(tmp_path, patch)
    try:
        answer = running.http.post(
            "/e/key", json=[{"name": "busy/part", "data": {"n": n}} for n in range(1000)]
        )
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        ids = answer.json()["ids"]
        assert 0 < len(ids) < 1000
        assert len(ids) % 100 == 0
        stored: list[str] = []
        cursor: dict[str, str] = {}
        while page := running.http.get("/v1/events", params={"limit": 50, **cursor}).json()["data"]:
            stored += [event["internal_id"] for event in page]
            cursor = {"cursor": stored[-1]}
        assert sorted(stored) == sorted(ids), "exactly those that the answer names"
    finally:
        running.stop()


def test_too_many_large_uploads_at_once(tmp_path: Path) -> None:
    running = start_with(tmp_path, "import perdure.server.http as http; http.MAX_HELD_BYTES = 1_000_000")
    try:
        big = {"name": "busy/big", "data": {"x": "y" * 2_000_000}}
        answer = running.http.post("/e/key", json=big)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["ids"] == []
        answer = running.http.post("/v1/signals", json={"signal": "a", "data": "y" * 2_000_000})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        for _ in range(30):
            small = {"name": "busy/small", "data": {"x": "y" * 300_000}}
            assert running.http.post("/e/key", json=small).status_code == 200, "room is given back"
        assert "perdure_body_bytes_held 0" in running.http.get("/metrics").text
    finally:
        running.stop()


def test_slow_upload_is_given_up(tmp_path: Path) -> None:
    running = start_with(tmp_path, "import perdure.server.http as http; http.BODY_TIMEOUT_S = 0.5")
    try:
        host, port = running.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.putrequest("POST", "/e/key")
        connection.putheader("Content-Length", "500000")
        connection.endheaders(b'[{"name":"a"')
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        assert (answer.status, body["status"], body["ids"]) == (408, 408, [])
        assert "was not complete after" in body["error"]
    finally:
        running.stop()


@pytest.fixture
def busy(tmp_path: Path) -> Server:
    return Server.start(tmp_path)


def test_store_that_refuses(busy: Server, tmp_path: Path) -> None:
    """Another program holds the database: events are refused until it lets go; the one under way is not lost."""
    app = BareApp()
    lock = sqlite3.connect(tmp_path / "data" / "perdure.db", isolation_level=None, check_same_thread=False)
    answers: list[httpx.Response] = []
    try:
        fn = Scripted.make(busy, app, lambda call: Answer(200, "ran"))
        lock.execute("BEGIN IMMEDIATE")

        def send() -> None:
            body = {"name": f"bare/{fn.slug}"}
            answers.append(httpx.post(f"{busy.url}/e/test", json=body, timeout=60))

        first = threading.Thread(target=send)
        first.start()
        until("trouble", lambda: busy.http.get("/health").status_code == 503, 20)
        health = busy.http.get("/health")
        assert health.json()["status"] == 503
        assert "lock" in health.json()["message"].lower()
        answer = busy.http.post("/e/test", json={"name": "busy/x"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["ids"] == []
        assert "lock" in answer.json()["error"].lower()
        lock.execute("ROLLBACK")
        first.join(30)
        until("health", lambda: busy.http.get("/health").status_code == 200, 20)
        (taken,) = answers
        assert taken.status_code in {200, 503}
        if taken.status_code == 200:
            assert fn.ended(taken.json()["ids"][0])["output"] == "ran"
        assert fn.run()["output"] == "ran"
        assert busy.events("busy/x") == [], "what was refused was not stored"
    finally:
        lock.close()
        app.close()
        busy.stop()

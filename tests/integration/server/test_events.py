"""Event ingestion: which bodies are taken, which are refused and with which words, and what was stored."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer
from tests.sdk.driver import Server, until

NOT_EVENTS = "Request body must contain an event object or an array of event objects"
MIB = 1024 * 1024


def post(http: httpx.Client, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return http.post("/e/key", content=content, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_one_event(http: httpx.Client, server: Server) -> None:
    answer = post(
        http, {"name": "in/one", "data": {"a": 1}, "id": "mine-1", "v": "2", "ts": 1_700_000_000_000}
    )
    assert (answer.status_code, answer.json()["status"]) == (200, 200)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    (event_id,) = answer.json()["ids"]
    stored = http.get(f"/v1/events/{event_id}").json()["data"]
    assert stored["internal_id"] == event_id
    assert (stored["id"], stored["name"], stored["data"]) == ("mine-1", "in/one", {"a": 1})
    assert (stored["ts"], stored["v"]) == (1_700_000_000_000, "2")
    assert "user" not in stored


def test_several_events_in_their_order(http: httpx.Client) -> None:
    answer = post(http, [{"name": "in/many", "data": {"n": n}} for n in range(250)])
    ids = answer.json()["ids"]
    assert len(set(ids)) == 250
    assert ids == sorted(ids)
    for at in (0, 100, 249):
        assert http.get(f"/v1/events/{ids[at]}").json()["data"]["data"] == {"n": at}


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"{bad", 400, None),
        (b"x=1", 400, NOT_EVENTS),
        (b'"str"', 400, NOT_EVENTS),
        (b"123", 400, NOT_EVENTS),
        (b"null", 400, NOT_EVENTS),
        ({}, 400, "event name is empty"),
        ([{}], 400, "event name is empty"),
        ({"name": ""}, 400, "event name is empty"),
        ({"name": "inngest/x"}, 400, "event name is reserved for internal use: inngest/x"),
        ({"name": "INNGEST/x"}, 400, "event name is reserved for internal use: INNGEST/x"),
        ({"name": "a/b", "data": [1]}, 400, None),
        ({"name": "a/b", "data": "s"}, 400, None),
        ({"name": "a/b", "data": None}, 200, None),
        ({"name": "a/b"}, 200, None),
        ({"name": "a/b", "ts": 1}, 400, "timestamp is before Jan 1, 1980"),
        ({"name": "a/b", "ts": "2020"}, 400, None),
        ({"name": "a/b", "ts": 1.5}, 400, None),
        ({"name": "a/b", "ts": 0, "id": ""}, 200, None),
        ({"name": "a/b", "ts": 4_102_444_800_001}, 400, None),
        ({"name": "a/b", "id": 5}, 400, None),
        ({"name": 5}, 400, None),
        ({"name": "a/b", "user": []}, 400, None),
        ({"name": "a/b", "extra": {"is": "dropped"}}, 200, None),
        (b'{"name":"a/b"} {"name":"a/c"}', 400, None),
        (b'{"name":"a/b","data":{"x":"\xff"}}', 400, None),
        ({"name": "a/b", "meta": {"sessions": {str(n): "x" for n in range(6)}}}, 400, None),
    ],
)
def test_single_bodies(http: httpx.Client, body: Any, status: int, error: str | None) -> None:
    answer = post(http, body)
    shown = answer.json()
    assert (answer.status_code, shown["status"]) == (status, status)
    assert isinstance(shown["ids"], list)
    if status == 200:
        assert len(shown["ids"]) == 1
        assert "error" not in shown
    else:
        assert shown["ids"] == []
        assert shown["error"]
    if error is not None:
        assert shown["error"] == error


@pytest.mark.parametrize("body", [b"", b"[]", b" [ ] "])
def test_nothing_is_no_error(http: httpx.Client, body: bytes) -> None:
    answer = post(http, body)
    assert (answer.status_code, answer.json()) == (200, {"ids": [], "status": 200})


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]
)
def test_content_type_does_not_matter_to_json_and_saves_no_form(
    http: httpx.Client, content_type: str
) -> None:
    assert post(http, {"name": "in/typed"}, content_type=content_type).status_code == 200
    answer = post(http, b"name=in%2Fform&data=1", content_type=content_type)
    assert answer.status_code == 400
    assert answer.json()["ids"] == []
    assert answer.json()["error"].startswith(NOT_EVENTS)


def test_events_ahead_of_a_bad_one_are_kept(http: httpx.Client, server: Server) -> None:
    name = f"in/kept-{time.time_ns()}"
    answer = post(http, [{"name": name}, {"name": ""}, {"name": name}])
    assert answer.status_code == 400
    assert answer.json()["error"] == "event name is empty"
    (kept,) = answer.json()["ids"]
    assert [event["internal_id"] for event in server.events(name)] == [kept]
    answer = post(http, [{"name": name}, "", ""])
    assert (answer.status_code, len(answer.json()["ids"])) == (400, 1)


def test_five_thousand_events_and_one_more(http: httpx.Client) -> None:
    events = [{"name": "in/5000"}] * 5000
    answer = post(http, events)
    assert (answer.status_code, len(answer.json()["ids"])) == (200, 5000)
    answer = post(http, [*events, {"name": "in/5001"}])
    assert (answer.status_code, len(answer.json()["ids"])) == (400, 5000)
    assert answer.json()["error"] == "Cannot have more than 5000 events in a batch"


def test_largest_event(http: httpx.Client) -> None:
    def sized(size: int) -> bytes:
        frame = len(json.dumps({"name": "in/big", "data": {"x": ""}}))
        return json.dumps({"name": "in/big", "data": {"x": "y" * (size - frame)}}).encode()

    assert post(http, sized(3 * MIB)).status_code == 200
    answer = post(http, sized(3 * MIB + 1))
    assert answer.status_code == 400
    text = "Event is over the max size: Max 3145728 bytes / Size 3145729 bytes"
    assert answer.json()["error"] == text


def test_largest_body_keeps_what_lies_before_the_cut(http: httpx.Client) -> None:
    event = json.dumps({"name": "in/wide", "data": {"x": "y" * (2 * MIB)}})
    answer = post(http, f"[{','.join([event] * 9)}]".encode())
    assert answer.status_code == 413
    assert len(answer.json()["ids"]) == 7
    assert "16777216" in answer.json()["error"]


def test_own_ids_and_time_of_receipt(http: httpx.Client) -> None:
    """`received_at` is when the event came, whatever time a seed puts into its id."""
    seed = f"{1_500_000_000_000},{base64.b64encode(b'0123456789').decode()}"
    before = time.time()
    answer = post(http, [{"name": "in/seed"}, {"name": "in/seed"}], x_inngest_event_id_seed=seed)
    again = post(http, [{"name": "in/seed"}, {"name": "in/seed"}], x_inngest_event_id_seed=seed)
    assert answer.json()["ids"] == again.json()["ids"]
    stored = http.get(f"/v1/events/{answer.json()['ids'][0]}").json()["data"]
    received = time.mktime(time.strptime(stored["received_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    assert abs(received - before) < 5
    rows = http.get("/v1/events", params={"name": "in/seed"}).json()["data"]
    assert len(rows) == 4, "a repeated request is stored again"


@pytest.mark.parametrize(
    "seed",
    ["x", "123,abc", "abc,AAECAwQFBgcICQ==", "1,2,3", "1795515123170,AAEC", ",", "-1,AAECAwQFBgcICQ=="],
)
def test_broken_seeds_are_ignored(http: httpx.Client, seed: str) -> None:
    answer = post(http, {"name": "in/seedless"}, x_inngest_event_id_seed=seed)
    assert answer.status_code == 200


def test_server_fields_in_data_are_taken_out(http: httpx.Client) -> None:
    event_id = post(http, {"name": "in/own", "data": {"_inngest": {"fn_id": "x"}, "a": 1}}).json()["ids"][0]
    assert http.get(f"/v1/events/{event_id}").json()["data"]["data"] == {"a": 1}


def test_any_key_will_do_without_keys(http: httpx.Client) -> None:
    for key in ("NO_EVENT_KEY_SET", "%20", "a/b", "%F0%9F%8C%88"):
        assert http.post(f"/e/{key}", json={"name": "in/keys"}).status_code == 200
    answer = http.post("/e/", json={"name": "in/keys"})
    assert answer.status_code == 401
    assert answer.json() == {"status": 401, "message": "", "error": "Event key is required"}


class TestInvoke:
    def test_starts_a_run_of_one_function(self, http: httpx.Client, server: Server, scripted: Make) -> None:
        fn = scripted([Answer(200, "yes")])
        answer = http.post(f"/invoke/{fn.slug}", json={"data": {"n": 1}, "user": {"u": 2}})
        assert answer.status_code == 200
        assert answer.json()["status"] == 200
        assert fn.ended(answer.json()["id"])["output"] == "yes"
        event = fn.calls[0].body["event"]
        assert (event["data"]["n"], event["user"]) == (1, {"u": 2})
        assert server.events("inngest/function.invoked") == [], "the server's own events are not listed"

    def test_seed_counts_from_zero(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([Answer(200, None)])
        seed = f"1795515123170,{base64.b64encode(bytes(range(10))).decode()}"
        answer = http.post(f"/invoke/{fn.slug}", json={}, headers={"x-inngest-event-id-seed": seed})
        assert answer.json()["id"] == "01M86GN1F2000G40R40M30E209"

    def test_unknown_function(self, http: httpx.Client) -> None:
        answer = http.post("/invoke/no-such", json={"data": {}})
        assert answer.status_code == 404
        assert answer.json()["error"] == "could not find function with ID: no-such"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"null", b'{"data":7}', b'{"ts":"x"}'])
    def test_unreadable_bodies(self, http: httpx.Client, scripted: Make, body: bytes) -> None:
        fn = scripted([])
        answer = http.post(f"/invoke/{fn.slug}", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]

    def test_removed_function(self, http: httpx.Client, scripted: Make) -> None:
        fn = scripted([])
        assert http.delete("/fn/remove", params={"url": f"{fn.app.origin}/{fn.slug}"}).status_code == 200
        assert http.post(f"/invoke/{fn.slug}", json={}).status_code == 404


def test_a_client_that_goes_away_loses_only_its_own_event(http: httpx.Client, server: Server) -> None:
    for _ in range(20):
        with server_socket(server) as connection:
            connection.sendall(
                b'POST /e/key HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{"name":"in/gone"'
            )
    name = f"in/after-{time.time_ns()}"
    server.send({"name": name})
    assert until("the event", lambda: server.events(name))
    assert server.events("in/gone") == []


def server_socket(server: Server) -> Any:
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=5)

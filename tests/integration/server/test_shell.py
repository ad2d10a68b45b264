"""What every answer has in common: the server's kind, CORS, the error envelope, and what unknown paths get."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer
from tests.sdk.driver import Server

ROUTES = [
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("GET", "/dev"),
    ("POST", "/dev/traces"),
    ("GET", "/dev/clock"),
    ("POST", "/dev/clock"),
    ("POST", "/e/key"),
    ("POST", "/invoke/none"),
    ("POST", "/fn/register"),
    ("DELETE", "/fn/remove"),
    ("POST", "/fn/step-limit"),
    ("POST", "/fn/state-size-limit"),
    ("GET", "/test"),
    ("POST", "/test/reset"),
    ("POST", "/v0/telemetry"),
    ("GET", "/v0/runs/x/batch"),
    ("GET", "/v0/runs/x/actions"),
    ("DELETE", "/v0/runs/x"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/x"),
    ("GET", "/v1/events/x/runs"),
    ("GET", "/v1/runs/x"),
    ("DELETE", "/v1/runs/x"),
    ("GET", "/v1/runs/x/jobs"),
    ("GET", "/v1/runs/x/history"),
    ("POST", "/v1/runs/x/metadata"),
    ("POST", "/v1/signals"),
    ("GET", "/v1/apps/x/functions"),
    ("POST", "/v0/gql"),
    ("POST", "/v1/checkpoint/x/async"),
    ("POST", "/v1/checkpoints"),
    ("POST", "/v0/connect/start"),
    ("POST", "/v0/connect/flush"),
    ("GET", "/v0/connect/envs/x/conns"),
    ("GET", "/v0/connect/envs/x/groups/y"),
    ("GET", "/v1/workers"),
    ("POST", "/v1/http/runs/x/async"),
]
UNKNOWN = [
    "/v0", "/v0/nope", "/v1", "/v1/nope", "/v1/runs", "/v1/checkpoint/a/b/async", "/v1/checkpoint/x",
    "/v2/apps", "/v2/health", "/api/v2/health", "/nope", "/e", "/fn/nope", "/health/", "/dev/x",
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), [*ROUTES, *[("GET", path) for path in UNKNOWN]])
def test_every_answer_says_what_kind_of_server_this_is(http: httpx.Client, method: str, path: str) -> None:
    assert http.request(method, path).headers["x-inngest-server-kind"] == "dev"


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_lets_browsers_ask(http: httpx.Client, method: str, path: str) -> None:
    asked = {
        "Origin": "http://localhost:3000",
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "x-one, x-two",
    }
    answer = http.options(path, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-allow-headers"] == "x-one, x-two"
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["x-inngest-server-kind"] == "dev"


def test_answers_to_a_page_can_be_read_by_it(http: httpx.Client) -> None:
    answer = http.get("/v1/events", headers={"Origin": "https://example.com"})
    assert answer.headers["access-control-allow-origin"] == "https://example.com"
    assert answer.headers["access-control-expose-headers"] == "Link, Mcp-Session-Id"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in http.get("/v1/events").headers


@pytest.mark.parametrize("path", UNKNOWN)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_unknown_paths(http: httpx.Client, method: str, path: str) -> None:
    answer = http.request(method, path)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {
        "error": f"Nothing is served at {method} {path}.",
        "status": 404,
        "data": None,
    }


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_wrong_methods(http: httpx.Client, method: str, path: str) -> None:
    wrong = "PUT" if path != "/v1/runs/x" else "PATCH"
    answer = http.request(wrong, path)
    assert answer.status_code == 405
    assert answer.content == b"" or path == "/v0/gql", "GraphQL has an envelope of its own"
    assert method in answer.headers["allow"]


def test_wrong_methods_of_the_event_endpoint(http: httpx.Client) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD"):
        answer = http.request(method, "/e/key")
        assert (answer.status_code, answer.content) == (405, b"")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/events/bad", 400),
        ("GET", "/v1/events/01HZZZZZZZZZZZZZZZZZZZZZZZ", 404),
        ("GET", "/v1/events?received_after=bad", 400),
        ("GET", "/v1/events?limit=x", 400),
        ("GET", "/v1/runs/bad", 400),
        ("GET", "/v1/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ", 404),
        ("DELETE", "/v1/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ", 404),
        ("GET", "/v0/runs/bad/actions", 400),
        ("GET", "/v0/runs/01HZZZZZZZZZZZZZZZZZZZZZZZ/actions", 410),
        ("POST", "/v1/signals", 400),
        ("DELETE", "/fn/remove?url=http://none", 404),
        ("POST", "/invoke/none", 400),
        ("POST", "/fn/step-limit?functionId=none&limit=5", 404),
        ("POST", "/v1/checkpoint/bad/async", 400),
    ],
)
def test_errors_have_one_envelope(http: httpx.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert answer.status_code == status
    body = answer.json()
    assert body["status"] == status
    assert isinstance(body["error"], str)
    assert body["error"]
    assert "data" in body
    assert set(body) <= {"error", "status", "data", "code"}


def test_health(http: httpx.Client) -> None:
    answer = http.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": 200, "message": "OK"})
    assert answer.headers["content-type"] == "application/json"
    assert http.head("/health").status_code == 200


@pytest.mark.parametrize("path", ["/v0/telemetry", "/dev/traces"])
@pytest.mark.parametrize("body", [b"", b'{"eventName":"x"}', b"\x0a\x00\xff", b"x" * 300_000])
def test_telemetry_and_traces_are_taken_and_dropped(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body, headers={"content-type": "application/x-protobuf"})
    assert answer.status_code == 200
    assert http.get("/health").status_code == 200


def test_front_page_says_what_this_is(http: httpx.Client) -> None:
    assert "Perdure" in http.get("/").text


def metrics_of(http: httpx.Client) -> dict[str, float]:
    """All samples, after a check of the format."""
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: dict[str, float] = {}
    typed: set[str] = set()
    for line in answer.text.splitlines():
        if line.startswith("#"):
            assert re.fullmatch(r"# (HELP \w+ .+|TYPE \w+ (gauge|counter))", line)
            typed.add(line.split()[2])
            continue
        match = re.fullmatch(r'(\w+)((?:\{\w+="[^"]*"\})?) ([0-9.e+-]+)', line)
        assert match, line
        assert match[1] in typed, "described before its samples"
        samples[match[1] + match[2]] = float(match[3])
    return samples


def test_metrics_count_what_happens(server: Server, http: httpx.Client, scripted: Make) -> None:
    fn = scripted(lambda call: Answer(200, "done") if call.key == "good" else Answer(400, "no"))
    before = metrics_of(http)
    assert fn.run(key="good")["status"] == "Completed"
    assert fn.run(key="bad")["status"] == "Failed"
    after = metrics_of(http)
    ended = 'perdure_runs_ended_total{status="%s"}'
    assert after[ended % "completed"] - before[ended % "completed"] == 1
    assert after[ended % "failed"] - before[ended % "failed"] == 1
    assert after[ended % "cancelled"] == before[ended % "cancelled"]
    commits = 'perdure_commits_total{shard="0"}'
    assert after[commits] > before[commits]
    rows = 'perdure_rows_total{shard="0"}'
    assert after[rows] - before[rows] >= 10
    assert after["perdure_wal_bytes"] > 0
    assert after['perdure_commands_waiting{shard="0"}'] == 0
    assert after['perdure_calls_in_flight{shard="0"}'] == 0
    assert after["perdure_event_loop_lag_seconds"] <= after["perdure_event_loop_lag_seconds_max"]


def test_metrics_show_a_call_under_way(http: httpx.Client, scripted: Make) -> None:
    seen: list[float] = []

    def script(call: object) -> Answer:
        seen.append(metrics_of(http)['perdure_calls_in_flight{shard="0"}'])
        return Answer(200, None)

    scripted(script).run()
    assert seen == [1.0]


def test_stored_bytes_are_passed_on_as_they_came(server: Server, http: httpx.Client) -> None:
    """Numbers keep their digits: 2^60, 1.0 and 1e21 are not what a round trip through doubles makes of them."""
    body = (
        b'{"name":"shell/raw","data":{"big":1152921504606846976,"one":1.0,"far":1e21,"text":"\xe2\x80\xa8"}}'
    )
    event_id = http.post("/e/key", content=body).json()["ids"][0]
    text = http.get(f"/v1/events/{event_id}").content
    assert b'"data":{"big":1152921504606846976,"one":1.0,"far":1e21,"text":"\xe2\x80\xa8"}' in text
    assert json.loads(text)["data"]["name"] == "shell/raw"

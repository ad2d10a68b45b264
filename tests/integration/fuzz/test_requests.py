"""Every public endpoint, asked wrongly in every way: no 500, no hang, no lost server."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.fuzz.conftest import Watched, seconds, until_time_is_up
from tests.integration.fuzz.mutations import LEAVES, WEIRD_TEXT, bodies
from tests.integration.fuzz.raw_http import chunked, request
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, function_config, op, ops, ran
from tests.sdk.driver import until

GHOST = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
ROUND = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
)
EVENT = {"name": "fuzz/x", "data": {"a": 1, "b": [1.5, None, "x"]}, "id": "i", "ts": 1_700_000_000_000, "v": "1",
         "user": {"u": 1}, "meta": {"sessions": {"s": "1"}}}  # fmt: skip
FULL_CONFIG = {
    "triggers": [
        {"event": "fuzz/y", "expression": "event.data.a == 1"},
        {"cron": "0 0 1 1 *", "jitter": "30s"},
    ],
    "concurrency": [{"limit": 5, "key": "event.data.user", "scope": "fn"}],
    "rateLimit": {"limit": 10, "period": "1h", "key": "event.data.user"},
    "throttle": {"limit": 10, "period": "1m", "burst": 2},
    "priority": {"run": "event.data.vip ? 120 : 0"},
    "cancel": [{"event": "fuzz/c", "if": "event.data.id == async.data.id", "timeout": "1h"}],
    "timeouts": {"start": "10s", "finish": "1h"},
    "singleton": {"key": "event.data.user", "mode": "skip"},
    "retries": 3,
}


def registration(bare: BareApp) -> dict[str, Any]:
    """A good registration with most settings."""
    return {
        "url": f"{bare.origin}/fuzzed", "v": "0.1", "deployType": "ping", "sdk": "js:v4.24.0", "framework": "x",
        "appName": "fuzzed", "capabilities": {"trust_probe": "v1"}, "headers": {"env": "", "platform": ""},
        "functions": [function_config(bare, "fuzzed-f", url=f"{bare.origin}/fuzzed", **FULL_CONFIG)],
    }  # fmt: skip


STEPS = [{"op": "StepRun", "id": "a" * 40, "name": "a", "displayName": "a", "data": {"x": 1}, "opts": {},
          "userland": {"id": "a", "index": 0}, "timing": {"a": 1, "b": 2}}]  # fmt: skip
CHECKPOINT = {"run_id": GHOST, "fn_id": "x", "qi_id": "MDFIWg==", "request_id": "r", "generation_id": 1,
              "request_started_at": 1, "steps": STEPS, "ts": 1}  # fmt: skip
METADATA = {"target": {"run_id": GHOST, "step_id": "a", "step_index": 0, "step_attempt": -1},
            "metadata": [{"kind": "userland.x", "op": "merge", "values": {"a": {"b": 1.5}}}]}  # fmt: skip
QUERY = {"query": "query($r: String!) { run(runID: $r) { id status trace { name childrenSpans { name } } } }",
         "variables": {"r": GHOST}, "operationName": None}  # fmt: skip
SIGNAL = {"signal": "s", "data": {"a": 1}}
STEP_LOGS = [
    {
        "run_id": GHOST,
        "step": "s",
        "step_id": "a",
        "attempt": 0,
        "ts": 1,
        "level": "INFO",
        "message": "m",
        "fields": {},
    },
    {"run_id": GHOST, "step": "s", "step_id": "a", "attempt": 0, "ts": 1, "progress": 0.5, "message": "half"},
]
MANY = {"function_id": "nobody-f", "app_id": "nobody", "started_after": "2026-01-01T00:00:00Z", "name": "x",
        "started_before": "2026-01-01T01:00:00Z", "if": "event.data.a == 1", "dry_run": False}  # fmt: skip
LIMITS = {name: FULL_CONFIG[name] for name in ("concurrency", "throttle", "timeouts", "priority")}
TARGETS: list[tuple[str, str, Any]] = [
    ("POST", "/e/{text}", EVENT),
    ("POST", "/e/{text}", [EVENT, EVENT]),
    ("POST", "/invoke/{slug}", {"data": {"a": 1}, "user": {}, "ts": 1_700_000_000_000, "v": "1"}),
    ("POST", "/fn/register", "registration"),
    ("DELETE", "/fn/remove", None),
    ("POST", "/fn/step-limit", None),
    ("DELETE", "/fn/state-size-limit", None),
    ("GET", "/dev", None),
    ("POST", "/dev/traces", {}),
    ("GET", "/metrics", None),
    ("GET", "/health", None),
    ("POST", "/test/reset", None),
    ("POST", "/test/function/runs/cancel", None),
    ("GET", "/test/queue/function-queue-size", None),
    ("POST", "/v0/telemetry", {"eventName": "x"}),
    ("GET", "/v0/runs/{id}/batch", None),
    ("GET", "/v0/runs/{id}/actions", None),
    ("DELETE", "/v0/runs/{id}", None),
    ("GET", "/v1/events", None),
    ("GET", "/v1/events/{id}", None),
    ("GET", "/v1/events/{id}/runs", None),
    ("GET", "/v1/runs/{id}", None),
    ("DELETE", "/v1/runs/{id}", None),
    ("GET", "/v1/runs/{id}/jobs", None),
    ("GET", "/v1/runs/{id}/history", None),
    ("GET", "/v1/runs/{id}/logs", None),
    ("POST", "/v1/step-logs", STEP_LOGS),
    ("POST", "/v1/runs/{id}/metadata", METADATA),
    ("POST", "/v0/gql", QUERY),
    ("POST", "/v1/signals", SIGNAL),
    ("POST", "/v1/cancellations", MANY),
    ("DELETE", "/v1/cancellations/{id}", None),
    ("POST", "/v1/replays", {**MANY, "statuses": ["FAILED"]}),
    ("GET", "/v1/replays/{id}", None),
    ("GET", "/v1/functions/{text}", None),
    ("POST", "/v1/functions/{text}/pause", {"mode": "skip"}),
    ("PUT", "/v1/functions/fuzzed-f/overrides", LIMITS),
    ("DELETE", "/v1/functions/{text}/overrides", None),
    ("DELETE", "/v1/apps/{text}", None),
    ("POST", "/test/function/pause", None),
    ("GET", "/v1/apps/{text}/functions", None),
    ("POST", "/v1/checkpoint/{id}/async", CHECKPOINT),
    ("POST", "/v1/http/runs/{id}/async", CHECKPOINT),
    ("POST", "/v1/checkpoints", [CHECKPOINT, CHECKPOINT]),
    ("GET", "/{text}", None),
    ("POST", "/v1/{text}", SIGNAL),
]
QUERY_NAMES = (
    "limit", "cursor", "name", "received_after", "received_before", "after", "url", "functionId", "fnId",
    "runId", "deployId",
)  # fmt: skip
HEADERS = (
    "content-type", "x-inngest-event-id-seed", "x-inngest-expected-server-kind", "x-inngest-sdk", "authorization",
    "origin", "accept", "accept-encoding", "traceparent", "x-inngest-env", "expect", "range", "if-none-match",
    "access-control-request-headers", "x-forwarded-for", "cookie",
)  # fmt: skip
HEADER_VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40),
    st.sampled_from(
        [
            "application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "dev", "cloud",
            "1795515123170,AAECAwQFBgcICQ==", "99999999999999999,AAECAwQFBgcICQ==", "Bearer", "Bearer x", "null",
            "http://localhost:3000", "http://[", "gzip", "*/*", "bytes=0-1", "100-continue",
        ]
    ),
)  # fmt: skip


@dataclass
class Ask:
    """One request, as it goes on the wire."""

    head: bytes
    pieces: list[bytes]
    cut: bool


@st.composite
def asks(draw: st.DrawFn, bare: BareApp, ids: tuple[str, ...], slugs: tuple[str, ...]) -> Ask:
    """Any request to any endpoint."""
    method, path, valid = draw(st.sampled_from(TARGETS))
    if draw(st.integers(0, 9)) == 0:
        method = draw(
            st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY"])
        )
    text = draw(WEIRD_TEXT)
    filled = path.format(
        id=draw(st.one_of(st.sampled_from(ids), WEIRD_TEXT.map(_quoted))),
        slug=draw(st.one_of(st.sampled_from(slugs), WEIRD_TEXT.map(_quoted))),
        text=_quoted(text) or "x",
    )
    query = draw(
        st.dictionaries(
            st.one_of(st.sampled_from(QUERY_NAMES), WEIRD_TEXT),
            st.one_of(st.sampled_from((*ids, *slugs)), LEAVES.map(str)),
            max_size=3,
        )
    )
    if query:
        filled += "?" + draw(st.sampled_from([urlencode(_text(query)), _quoted("&".join(query))]))
    if valid == "registration":
        valid = registration(bare)
    body = draw(bodies(valid)) if valid is not None or draw(st.integers(0, 4)) == 0 else b""
    lines = [f"{method} {filled} HTTP/1.1", "Host: localhost"]
    for name, value in draw(st.dictionaries(st.sampled_from(HEADERS), HEADER_VALUES, max_size=3)).items():
        lines.append(f"{name}: {value}")
    return _framed(draw, lines, body)


def _framed(draw: st.DrawFn, lines: list[str], body: bytes) -> Ask:
    """Give the body a length or chunks, in some pieces; sometimes less of it than was announced."""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    cut = draw(st.integers(0, 19)) == 0
    if draw(st.booleans()):
        announced = len(body) + (draw(st.sampled_from([1, 1000, 10**9])) if cut else 0)
        lines.append(f"Content-Length: {announced}")
    else:
        lines.append("Transfer-Encoding: chunked")
        pieces = list(chunked(pieces))
        if cut:
            pieces.pop()
    return Ask("\r\n".join(lines).encode("latin-1"), pieces, cut)


def _quoted(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="/*'")


def _text(query: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (k.encode("utf-8", "surrogatepass"), v.encode("utf-8", "surrogatepass")) for k, v in query.items()
    ]


def check_answer(watched: Watched, ask: Ask) -> None:
    """Whatever was asked, the answer is one, and no 500."""
    answer = request(watched.server.url, ask.head, ask.pieces, then_close=ask.cut)
    if answer.status == 0:
        assert ask.cut, f"closed without a word: {ask.head!r}"
        return
    assert 200 <= answer.status < 500 or answer.status == 503, (ask, watched.log.read_text()[-4000:])
    if answer.status == 400 and answer.body == b"Invalid HTTP request received.":
        return
    assert answer.headers["x-inngest-server-kind"] == "dev"
    if answer.headers.get("content-type", "").startswith("application/json") and answer.body:
        shown = json.loads(answer.body)
        if answer.status >= 400 and "errors" not in shown:  # GraphQL has an envelope of its own
            assert shown["status"] == answer.status
            assert shown["error"]


def test_requests_of_every_kind(watched: Watched, bare: BareApp) -> None:
    server = watched.server
    fn = Scripted.make(server, bare, lambda call: Answer(200, None))
    bare.on("fuzzed-f", lambda call: Answer(200, None))
    sleeper = Scripted.make(server, bare, lambda call: ops(op("Sleep", "nap", name="1h")))
    ended, sleeping = fn.run()["run_id"], server.run_of(sleeper.trigger(), sleeper.slug)["run_id"]
    ids = (GHOST, ended, sleeping, server.send({"name": "fuzz/known"})[0])

    @ROUND
    @given(asks(bare, ids, (fn.slug, sleeper.slug, "fuzzed-f")))
    def one_round(ask: Ask) -> None:
        check_answer(watched, ask)

    until_time_is_up(one_round)
    watched.check()
    fresh = Scripted.make(server, bare, lambda call: Answer(200, "still working"))
    assert fresh.run()["output"] == "still working"


@pytest.mark.parametrize("name", ["event", "registration", "checkpoint", "signal"])
def test_bodies_of_one_endpoint(watched: Watched, bare: BareApp, name: str) -> None:
    """The four endpoints that take the most: more of their bodies, without other noise."""
    path, valid = {
        "event": ("/e/key", [EVENT, {"name": "fuzz/z"}]),
        "registration": ("/fn/register", registration(bare)),
        "checkpoint": (f"/v1/checkpoint/{GHOST}/async", CHECKPOINT),
        "signal": ("/v1/signals", SIGNAL),
    }[name]
    bare.on("fuzzed-f", lambda call: Answer(200, None))

    @ROUND
    @given(bodies(valid))
    def one_round(body: bytes) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}".encode()
        check_answer(watched, Ask(head, [body], False))

    until_time_is_up(one_round, seconds() / 6)
    watched.check()


def test_checkpoints_of_running_calls(watched: Watched, bare: BareApp) -> None:
    """Posted from inside real calls: whatever is saved, the run goes on to its end."""
    server = watched.server
    let_go = threading.Event()
    inside = threading.Event()

    def script(call: Call) -> Answer:
        if len(fn.calls) % 2:
            inside.set()
            let_go.wait(30)
            return ops(ran("last", 1))
        return Answer(200, sorted(call.steps))

    fn = Scripted.make(server, bare, script)

    def one_run() -> None:
        inside.clear()
        let_go.clear()
        event = fn.trigger()
        assert inside.wait(10)
        ctx = fn.calls[-1].ctx
        own = {name: ctx[name] for name in ("run_id", "fn_id", "qi_id", "request_id", "generation_id")}
        path = f"/v1/checkpoint/{ctx['run_id']}/async"

        @ROUND
        @given(bodies({**CHECKPOINT, **own}))
        def one_round(body: bytes) -> None:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}".encode()
            check_answer(watched, Ask(head, [body], False))

        try:
            one_round()
        finally:
            let_go.set()
        run = fn.ended(event)
        assert run["status"] == "Completed", run
        assert isinstance(run["output"], list)
        steps = server.http.get(f"/v1/runs/{run['run_id']}/history")
        assert steps.status_code == 200

    runs = until_time_is_up(one_run, seconds() / 3)
    assert runs
    until("no call is left over", lambda: 'calls_in_flight{shard="0"} 0' in server.http.get("/metrics").text)
    watched.check()

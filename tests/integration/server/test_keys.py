"""With keys: which routes need a bearer token, which tokens do, and which event keys."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import httpx
import pytest

from tests.integration.server.test_shell import ROUTES, UNKNOWN
from tests.sdk.driver import Server

HEX, SECOND_HEX = "ab12" * 16, "cd34" * 16
KEYS = (f"signkey-prod-{HEX}", SECOND_HEX)
EVENT_KEYS = ("event-one", "event-two", "event/three")
OPEN = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/metrics"),
    ("POST", "/dev/traces"),
    ("POST", "/invoke/none"),
    ("POST", "/v0/gql"),
}


def hashed(digits: str) -> str:
    return hashlib.sha256(bytes.fromhex(digits)).hexdigest()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keys given once each, and with commas."""
    flags = ["--signing-key", ",".join(KEYS)]
    for key in EVENT_KEYS:
        flags += ["--event-key", key]
    running = Server.start(tmp_path_factory.mktemp("keyed"), *flags, token=hashed(HEX))
    yield running
    running.stop()


@pytest.fixture
def anonymous(keyed: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=keyed.url) as client:
        yield client


CLOSED = [(method, path) for method, path in ROUTES if (method, path) not in OPEN and path != "/e/key"]


@pytest.mark.parametrize(
    ("method", "path"),
    [*CLOSED, *[("GET", path) for path in UNKNOWN], ("POST", "/v0/connect/start"), ("POST", "/v2/apps")],
)
def test_closed_routes(keyed: Server, anonymous: httpx.Client, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {hashed('00')}"}):
        answer = anonymous.request(method, path, headers=headers)
        assert (answer.status_code, answer.text) == (401, "Authentication failed")
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.headers["x-inngest-server-kind"] == "cloud"
    assert keyed.http.request(method, path).status_code != 401


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_open_routes(anonymous: httpx.Client, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer wrong"}):
        answer = anonymous.request(method, path, headers=headers)
        assert answer.status_code != 401
        assert answer.headers["x-inngest-server-kind"] == "cloud"


def test_preflight_needs_no_token(anonymous: httpx.Client) -> None:
    assert anonymous.options("/v1/events", headers={"Origin": "https://example.com"}).status_code == 200


@pytest.mark.parametrize("digits", [HEX, SECOND_HEX])
@pytest.mark.parametrize("prefix", ["", "signkey-prod-", "signkey-test-", "signkey-branch-"])
@pytest.mark.parametrize("hide", [hashed, lambda digits: digits], ids=["hashed", "plain"])
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "Bearer  "])
def test_accepted_tokens(
    anonymous: httpx.Client, digits: str, prefix: str, hide: object, scheme: str
) -> None:
    assert callable(hide)
    token = f"{scheme}{prefix}{hide(digits)}"
    assert anonymous.get("/v1/events", headers={"Authorization": token}).status_code == 200


@pytest.mark.parametrize(
    "token",
    [
        "", "Bearer", f"Basic {HEX}", HEX, f"Bearer {HEX[:-2]}", f"Bearer {HEX}00",
        f"Bearer {hashed(hashed(HEX))}", f"Bearer x-{HEX}", f"Bearer {HEX} {HEX}", "Bearer signkey-prod-",
        "Bearer event-one",
    ],
)  # fmt: skip
def test_refused_tokens(anonymous: httpx.Client, token: str) -> None:
    assert anonymous.get("/v1/events", headers={"Authorization": token}).status_code == 401


def test_token_that_is_no_text(anonymous: httpx.Client) -> None:
    answer = anonymous.get("/v1/events", headers={b"Authorization": b"Bearer \xff\xfe\x80"})
    assert answer.status_code == 401


@pytest.mark.parametrize("key", EVENT_KEYS)
def test_event_keys(anonymous: httpx.Client, key: str) -> None:
    answer = anonymous.post(f"/e/{key}", json={"name": "keys/ok"})
    assert (answer.status_code, len(answer.json()["ids"])) == (200, 1)


@pytest.mark.parametrize("key", ["wrong", "event-one2", "EVENT-ONE", HEX])
def test_unknown_event_keys(anonymous: httpx.Client, key: str) -> None:
    answer = anonymous.post(f"/e/{key}", json={"name": "keys/no"})
    assert answer.status_code == 401
    assert answer.json() == {"status": 401, "message": "", "error": "Event key not found"}
    big = anonymous.post(f"/e/{key}", content=b"[" + b" " * 5_000_000)
    assert big.status_code == 401


def test_a_token_does_not_replace_an_event_key(keyed: Server) -> None:
    assert keyed.http.post("/e/wrong", json={"name": "keys/no"}).status_code == 401


def test_registering(keyed: Server, anonymous: httpx.Client) -> None:
    body = {"appName": "keyed", "url": "http://localhost:1/api/inngest", "functions": []}
    kind = {"X-Inngest-Expected-Server-Kind": "cloud"}
    assert anonymous.post("/fn/register", json=body, headers=kind).status_code == 401
    assert keyed.http.post("/fn/register", json=body, headers=kind).json()["ok"] is True
    answer = keyed.http.post("/fn/register", json=body, headers={"X-Inngest-Expected-Server-Kind": "dev"})
    assert answer.json() == {"error": "Expected server kind cloud, got dev"}


def test_dev_info_says_that_there_are_keys(keyed: Server) -> None:
    body = keyed.http.get("/dev").json()
    assert body["authed"] is True
    assert not any(key in keyed.http.get("/dev").text for key in (HEX, SECOND_HEX, *EVENT_KEYS))


def test_event_keys_alone_leave_the_rest_open(tmp_path_factory: pytest.TempPathFactory) -> None:
    running = Server.start(tmp_path_factory.mktemp("events"), "--event-key", "only", event_key="only")
    try:
        assert running.http.get("/v1/events").status_code == 200
        assert running.http.get("/health").headers["x-inngest-server-kind"] == "cloud"
        assert len(running.send({"name": "keys/only"})) == 1
        assert running.http.post("/e/other", json={"name": "keys/no"}).status_code == 401
    finally:
        running.stop()

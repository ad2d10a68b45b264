"""A server with keys, and the SDKs in production mode: signed calls, bearer tokens, event keys, rotation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.sdk.conftest import Starter
from tests.sdk.driver import App, Server

KEY = "signkey-prod-" + "ab12" * 16
OLD_KEY = "signkey-prod-" + "cd34" * 16
WRONG_KEY = "signkey-prod-" + "9999" * 16
EVENT_KEY = "event-key-one"
SECOND_EVENT_KEY = "event-key-two"
KINDS = ("fastapi", "flask", "own", "own-flask", "js-plain", "js", "js3")


def hashed(key: str) -> str:
    """The bearer token of a signing key: its prefix, then sha-256 of the decoded hex."""
    prefix, _, digits = key.rpartition("-")
    return f"{prefix}-{hashlib.sha256(bytes.fromhex(digits)).hexdigest()}"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    flags = [
        "--signing-key",
        KEY,
        "--signing-key",
        OLD_KEY,
        "--event-key",
        EVENT_KEY,
        "--event-key",
        SECOND_EVENT_KEY,
    ]
    running = Server.start(tmp_path_factory.mktemp("keyed"), *flags, token=hashed(KEY), event_key=EVENT_KEY)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def production(keyed: Server, start_app: Starter) -> Callable[..., App]:
    """Gives an app in production mode with the given keys, one process for each set of keys."""
    started: dict[tuple[str, str], App] = {}

    def get(app_id: str, **env: str) -> App:
        env = {"INNGEST_SIGNING_KEY": KEY, "INNGEST_EVENT_KEY": EVENT_KEY, **env}
        key = (app_id, repr(sorted(env.items())))
        if key not in started:
            started[key] = start_app(app_id, on=keyed, env=env)
        return started[key]

    return get


def put(app: App) -> httpx.Response:
    return httpx.put(app.url, headers={"X-Inngest-Server-Kind": "cloud"}, timeout=20)


@pytest.fixture(
    params=[pytest.param(kind, marks=[pytest.mark.node] if "js" in kind else []) for kind in KINDS]
)
def signed(request: pytest.FixtureRequest, production: Callable[..., App]) -> App:
    """An app with the right keys, synced."""
    app = production(request.param)
    assert put(app).status_code == 200
    assert app.slug("no-steps") in app.server.functions()
    return app


def test_calls_are_signed_and_the_sdk_accepts_them(signed: App) -> None:
    run = signed.run("three-steps")
    assert (run.status, run.output) == ("Completed", [1, 2, 3])
    for call in run.log.calls:
        assert call["kind"] == "cloud"
        assert call["signature"].startswith("t=")
    if signed.checkpoints:
        assert {post["status"] for post in run.log.checkpoints()} == {200}


def test_signature_covers_numbers_and_characters_that_have_several_spellings(signed: App) -> None:
    value = [
        1.0,
        1e21,
        1.5e-7,
        0.1,
        -0.0,
        2**53 - 1,
        "\u2028",
        "\u00e9",
        "\U0001f600",
        "</script>",
        "\x07",
        {"b": 1, "a": 2},
    ]
    run = signed.run("through-a-step", value=value)
    assert (run.status, run.output) == ("Completed", {"value": value})


@pytest.mark.parametrize("app_id", ["fastapi", "flask"])
def test_signature_covers_integers_beyond_double_precision(
    production: Callable[..., App], app_id: str
) -> None:
    app = production(app_id)
    assert put(app).status_code == 200
    run = app.run("through-a-step", value=2**53 + 1)
    assert (run.status, run.output) == ("Completed", {"value": 2**53 + 1})


def test_events_sent_by_a_step_carry_the_event_key(signed: App) -> None:
    run = signed.run("send-event")
    assert run.status == "Completed"
    signed.saw(run.key, "both events received", lambda log: len(log.at("body")) == 2)


def test_large_state_is_fetched_with_the_bearer_token(signed: App) -> None:
    run = signed.run("large-state", patience=60)
    assert (run.status, len(run.output)) == ("Completed", 5)


def test_event_keys_are_checked(keyed: Server) -> None:
    event = {"name": "nobody/listens", "data": {}}
    for key in (EVENT_KEY, SECOND_EVENT_KEY):
        assert keyed.http.post(f"/e/{key}", json=event).status_code == 200
    refused = keyed.http.post("/e/wrong", json=event)
    assert refused.status_code == 401
    assert refused.json()["error"] == "Event key not found"
    assert refused.json()["status"] == 401


BARE = KEY.rpartition("-")[2]


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (hashed(KEY), 200), (hashed(OLD_KEY), 200), (hashed(KEY).rpartition("-")[2], 200), (KEY, 200), (BARE, 200),
        (hashed(WRONG_KEY), 401), (WRONG_KEY, 401), ("", 401), (None, 401),
    ],
    ids=["hash", "hash-of-second", "bare-hash", "key", "bare-key", "wrong-hash", "wrong-key", "empty", "none"],
)  # fmt: skip
def test_rest_checks_the_bearer_token(keyed: Server, token: str | None, status: int) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}".strip()}
    answer = httpx.get(f"{keyed.url}/v1/events", headers=headers)
    assert answer.status_code == status
    if status == 401:
        assert answer.text.strip() == "Authentication failed"


@pytest.mark.parametrize("path", ["/dev", "/v1/events", "/v0/runs/01M86GK8V62YF2MX9KZ505TM13/actions"])
def test_routes_of_sdks_need_the_token(keyed: Server, path: str) -> None:
    assert httpx.get(keyed.url + path).status_code == 401


def test_health_needs_no_token_and_names_the_kind(keyed: Server) -> None:
    answer = httpx.get(f"{keyed.url}/health")
    assert answer.status_code == 200
    assert answer.headers["x-inngest-server-kind"] == "cloud"


@pytest.mark.parametrize("app_id", ["fastapi", "own", pytest.param("js-plain", marks=pytest.mark.node)])
def test_app_with_a_wrong_signing_key_cannot_register_nor_be_called(
    production: Callable[..., App], keyed: Server, app_id: str
) -> None:
    right = production(app_id)
    assert put(right).status_code == 200
    wrong = production(app_id, INNGEST_SIGNING_KEY=WRONG_KEY)
    answer = put(wrong)
    assert answer.status_code != 200 or answer.json()["modified"] is False
    run = right.run("no-steps")
    assert run.status == "Completed", "the last good sync stands"
    body: dict[str, Any] = {"event": {}, "events": [], "steps": {}, "ctx": {}}
    unsigned = httpx.post(wrong.url, params={"fnId": wrong.slug("no-steps"), "stepId": "step"}, json=body)
    assert unsigned.status_code in {401, 500}


@pytest.mark.parametrize(
    "app_id", ["fastapi", "flask", "own", pytest.param("js-plain", marks=pytest.mark.node)]
)
def test_rotation_app_with_a_new_key_and_the_old_one_as_fallback(
    production: Callable[..., App], app_id: str
) -> None:
    """The server does not know the new key yet: its calls verify by the fallback, the SDK's requests repeat with it."""
    app = production(app_id, INNGEST_SIGNING_KEY=WRONG_KEY, INNGEST_SIGNING_KEY_FALLBACK=KEY)
    assert put(app).status_code == 200
    run = app.run("large-state", patience=60)
    assert (run.status, len(run.output)) == ("Completed", 5)


@pytest.mark.parametrize("app_id", ["fastapi", "own", pytest.param("js-plain", marks=pytest.mark.node)])
def test_rotation_server_accepts_requests_made_with_its_second_key(
    production: Callable[..., App], app_id: str
) -> None:
    app = production(app_id, INNGEST_SIGNING_KEY=OLD_KEY, INNGEST_SIGNING_KEY_FALLBACK=KEY)
    assert put(app).status_code == 200
    run = app.run("three-steps")
    assert (run.status, run.output) == ("Completed", [1, 2, 3])

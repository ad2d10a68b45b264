"""A web page in somebody's browser can reach this machine. It may read what CORS lets it, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.server.test_shell import ROUTES
from tests.sdk.driver import Server

CHANGING = [(method, path) for method, path in ROUTES if method != "GET" and path != "/e/key"]


def ask(server: Server, method: str, path: str, origin: str | None, host: str | None) -> httpx.Response:
    given = ((b"Origin", origin), (b"Host", host))
    headers = {name: value.encode("latin-1") for name, value in given if value is not None}
    return server.http.request(method, path, headers=headers)


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_no_route_that_changes_anything_is_left_out(server: Server, method: str, path: str) -> None:
    answer = ask(server, method, path, "https://evil.example", None)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert ask(server, method, path, "http://localhost:3000", None).status_code != 403
    assert ask(server, method, path, None, None).status_code != 403


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        (None, None, True),
        (None, "perdure.internal:8288", True),  # an app in another container, which sends no Origin
        ("http://localhost:3000", None, True),
        ("http://127.0.0.1:5173", None, True),
        ("http://[::1]:3000", "[::1]:8288", True),
        ("http://app.localhost:3000", "localhost", True),
        ("https://evil.example", None, False),
        ("null", None, False),
        ("", None, False),
        ("https://localhost.evil.example", None, False),
        ("http://evil.example:8288", "evil.example:8288", False),  # a name made to point here
        ("http://localhost:3000", "evil.example:8288", False),
        ("http://192.168.1.5:8288", "192.168.1.5:8288", True),  # our own page, by the machine's address
        ("http://192.168.1.6:8288", "192.168.1.5:8288", False),
        ("http://192.168.1.6:8288", None, False),
        ("http://[fe80::1]:8288", "[fe80::1]:8288", True),
        ("http://[", None, False),
        ("http://localhost:3000", "[", False),
        ("http://localhost:99999", None, True),
        ("\u00e9", None, False),
    ],
)
def test_origins_and_hosts(server: Server, origin: str | None, host: str | None, allowed: bool) -> None:
    answer = ask(server, "POST", "/v0/telemetry", None if origin is None else origin, host)
    assert answer.status_code == (200 if allowed else 403)


def test_reading_and_sending_events_stay_possible(server: Server) -> None:
    assert ask(server, "GET", "/v1/events", "https://evil.example", None).status_code == 200
    sent = server.http.post("/e/key", json={"name": "page/sent"}, headers={"Origin": "https://shop.example"})
    assert sent.status_code == 200


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that was told to listen under a name."""
    running = Server.start(tmp_path_factory.mktemp("named"), "--host", "localhost")
    yield running
    running.stop()


def test_name_that_the_server_listens_on(named: Server) -> None:
    assert ask(named, "POST", "/v0/telemetry", "http://localhost:8288", "localhost:8288").status_code == 200
    assert ask(named, "POST", "/v0/telemetry", "http://evil.example", "evil.example").status_code == 403

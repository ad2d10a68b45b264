"""Apps that nobody named: found on the usual ports and paths of this machine, also when they start later."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from perdure.server.syncing import PATHS, PORTS
from tests.integration.syncing.conftest import SyncingApp, apps_of, log_of, until_known
from tests.sdk.driver import Server, free_port, until

Start = Callable[..., Server]
AppAt = Callable[..., SyncingApp]


def usual_port(*but: int) -> int:
    """A free port of the usual ones."""
    port: int
    for port in reversed(PORTS):
        if port in but or port < 1024:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"none of the ports {PORTS} is free on this machine")


def known(server: Server, slug: str) -> bool:
    """Whether the server has this function; other apps of this machine may have been found as well."""
    return slug in server.functions()


def test_ports_and_paths_of_the_protocol() -> None:
    assert set(PORTS) == {
        80, 443, *range(3000, 3011), 4321, 5000, 5173, 8000, 8080, 8081, 8787, 8888, *range(8910, 8916),
    }  # fmt: skip
    assert PATHS == (
        "/api/inngest",
        "/x/inngest",
        "/.netlify/functions/inngest",
        "/.redwood/functions/inngest",
    )


@pytest.mark.parametrize("path", PATHS)
def test_app_on_a_usual_port(start_server: Start, app_at: AppAt, path: str) -> None:
    app = app_at("found", usual_port(), path)
    server = start_server("--no-poll", apps=[app])
    until("the app", lambda: known(server, "found-one"), 10)
    assert apps_of(server)[app.url]["name"] == "found"
    assert app.gets == list(PATHS[: PATHS.index(path) + 1]), "asked in their order, and no further"


def test_app_that_starts_later_beside_a_known_one(start_server: Start, app_at: AppAt) -> None:
    first = app_at("first", usual_port())
    server = start_server("--no-poll", apps=[first])
    until("the first app", lambda: known(server, "first-one"), 10)
    looked = len(first.gets)
    second = app_at("second", usual_port(first.port))
    second.server_url = server.url
    until("the second app", lambda: known(server, "second-one"), 20)
    assert len(first.gets) == looked, "a port with a known app is not looked at again"


def test_what_is_no_app_is_left_alone(start_server: Start, app_at: AppAt) -> None:
    other = app_at("other", usual_port())
    other.sdk = False
    server = start_server("--no-poll")
    until("a look", lambda: len(other.gets) >= len(PATHS), 10)
    time.sleep(0.5)
    assert other.puts == []
    assert other.url not in apps_of(server)


def test_app_of_another_server(start_server: Start, app_at: AppAt) -> None:
    """It answers that it has registered, and has, but not here."""
    app = app_at("strayed", usual_port())
    first, second = start_server("--no-discovery"), start_server("--no-poll")
    app.server_url = first.url
    until("some syncs", lambda: len(app.puts) >= 3, 20)
    until("the app at the first", lambda: known(first, "strayed-one"))
    assert not known(second, "strayed-one")
    log = log_of(second)
    assert f"{app.url} says that it has registered, but no registration came here" in log
    assert second.url.rpartition(":")[2] in log.partition("no registration came here")[2]
    assert log.count(f"found an app at {app.url}") == 1
    assert log.count("no registration came here") == 1
    assert f"{app.url} is synced" not in log
    app.server_url = second.url
    until("the app at the second", lambda: known(second, "strayed-one"), 20)
    until("the news", lambda: f"{app.url} is synced" in log_of(second))


def test_port_of_the_environment(start_server: Start, app_at: AppAt) -> None:
    app = app_at("env", free_port())
    server = start_server("--no-poll", env={"PORT": str(app.port)}, apps=[app])
    until("the app", lambda: known(server, "env-one"), 10)


def test_switched_off(start_server: Start, app_at: AppAt) -> None:
    app = app_at("unseen", usual_port())
    server = start_server("--no-discovery", apps=[app])
    time.sleep(2)
    assert (app.gets, app.puts) == ([], [])
    until_known(server)


def test_port_that_never_answers_does_not_stop_the_search(start_server: Start, app_at: AppAt) -> None:
    with socket.create_server(("127.0.0.1", usual_port())) as silent:
        app = app_at("beside", usual_port(silent.getsockname()[1]))
        server = start_server("--no-poll", apps=[app])
        until("the app", lambda: known(server, "beside-one"), 20)

"""Workers on the official SDKs that connect: they come late, are drained or killed, and outlive their server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.conftest import JS, Starter
from tests.sdk.driver import App, Server, until

OFFICIAL = [
    pytest.param(app_id, marks=[pytest.mark.node] if app_id in JS else [])
    for app_id in ("py-connect", "js-connect-plain", "js3-connect")
]
each = pytest.mark.parametrize("app_id", OFFICIAL)
LEASE_S = 5
"""A worker that is killed loses its calls so soon, and the gateway's grace later."""


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    running = Server.start(tmp_path, "--connect-lease", str(LEASE_S))
    yield running
    running.stop()


def workers(server: Server) -> list[dict[str, Any]]:
    return list(server.http.get("/v1/workers").json()["data"])


def connected(start_app: Starter, app_id: str, server: Server) -> App:
    """A worker that takes calls."""
    before = {worker["id"] for worker in workers(server)}
    app = start_app(app_id, on=server)
    until(
        f"{app_id} is ready",
        lambda: [w for w in workers(server) if w["id"] not in before and w["status"] == "READY"],
    )
    return app


def restarted(server: Server, folder: Path) -> None:
    """Kill the server, and start it again on the same port and data, with leases of the usual length.

    The SDKs extend them every 30 seconds.
    """
    server.process.kill()
    port = int(server.url.rsplit(":", 1)[1])
    server.process = Server.start(folder, port=port).process


@each
def test_a_run_waits_for_the_first_worker(app_id: str, start_app: Starter, own_server: Server) -> None:
    app = connected(start_app, app_id, own_server)
    assert app.process.terminate() == 0
    until("no worker is left", lambda: not workers(own_server))
    sent = app.trigger("no-steps")
    run = own_server.run_of(sent.event_id, app.slug("no-steps"))
    assert run["status"] == "Scheduled"
    app = connected(start_app, app_id, own_server)
    done = app.wait(sent, "no-steps")
    assert done.status == "Completed"
    assert [call["attempt"] for call in done.log.calls] == [0]


@each
def test_told_to_stop_it_ends_what_it_has_and_takes_nothing_new(
    app_id: str, start_app: Starter, own_server: Server
) -> None:
    first = connected(start_app, app_id, own_server)
    sent = first.trigger("slow-step", seconds=3)
    first.saw(sent.key, "the step", lambda log: "slow" in log.steps())
    first.process._child.terminate()
    until("it drains", lambda: [w["status"] for w in workers(own_server)] == ["DRAINING"])
    waiting = first.trigger("no-steps")
    run = own_server.run_of(waiting.event_id, first.slug("no-steps"))
    # The answer to the step comes from the worker that stops; what follows from it needs another one.
    assert first.process._child.wait(15) == 0
    assert own_server.run(run["run_id"])["status"] == "Scheduled"
    second = connected(start_app, app_id, own_server)
    done = second.wait(sent, "slow-step")
    assert (done.status, done.log.steps()) == ("Completed", ["never"])
    assert second.wait(waiting, "no-steps").status == "Completed"


@each
def test_killed_in_a_step_it_loses_nothing(app_id: str, start_app: Starter, own_server: Server) -> None:
    first = connected(start_app, app_id, own_server)
    sent = first.trigger("slow-retried", seconds=60)
    first.saw(sent.key, "the slow step", lambda log: "slow" in log.steps())
    first.process.kill()
    second = connected(start_app, app_id, own_server)
    done = second.wait(sent, "slow-retried", patience=45)
    assert (done.status, done.output) == ("Completed", "kept")
    assert done.log.steps() == ["slow"], "the step that had finished was not run again"
    assert done.log.attempts("slow") == [1]


@each
def test_it_outlives_its_server(app_id: str, start_app: Starter, own_server: Server, tmp_path: Path) -> None:
    app = connected(start_app, app_id, own_server)
    # Long enough for the worker to be back: version 3 for JavaScript loses an answer that it gives without a socket.
    sent = app.trigger("slow-step", seconds=10)
    app.saw(sent.key, "the step", lambda log: "slow" in log.steps())
    restarted(own_server, tmp_path)
    done = app.wait(sent, "slow-step", patience=60)
    assert done.status == "Completed"
    # The step that ran over the restart was not run again: its worker came back with the result.
    assert done.log.steps() == ["slow", "never"]
    assert app.run("three-steps").status == "Completed"

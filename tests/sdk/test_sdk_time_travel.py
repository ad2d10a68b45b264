"""Travel in time with the official SDKs: what an app waits for for days happens at once, once and again.

Python apps name the time at which a sleep is over, by their own clock; JavaScript apps name how long it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.sdk.conftest import Starter
from tests.sdk.driver import App, Server, until
from tests.sdk.test_sdk_keys import hashed

DAY_S = 86_400
MONTH_S = 30 * DAY_S
KEY = "signkey-prod-" + "ab12" * 16
KINDS = [
    "fastapi",
    "flask",
    pytest.param("js", marks=pytest.mark.node),
    pytest.param("js3", marks=pytest.mark.node),
]


@pytest.fixture(scope="module")
def travelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, since its clock moves for all apps."""
    running = Server.start(tmp_path_factory.mktemp("travelled"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def synced(travelled: Server, start_app: Starter) -> Callable[[str], App]:
    """Gives an app of that server, started if nobody asked before."""
    started: dict[str, App] = {}

    def get(app_id: str) -> App:
        if app_id not in started:
            started[app_id] = start_app(app_id, on=travelled)
            assert started[app_id].sync().status_code == 200
        return started[app_id]

    return get


@pytest.fixture(params=KINDS)
def travelling(request: pytest.FixtureRequest, synced: Callable[[str], App]) -> App:
    """An app of the server whose clock moves."""
    return synced(request.param)


def move(server: Server, **wanted: str) -> float:
    """Move the clock; by how many seconds."""
    answer = server.http.post("/dev/clock", json=wanted)
    assert answer.status_code == 200, answer.text
    return float(answer.json()["moved_ms"]) / 1000


def timer_of(server: Server, run_id: str, kind: str) -> None:
    """Wait until this is what happens next."""

    def look() -> bool:
        following = server.http.get("/dev/clock").json()["next"]
        return bool(following) and (following["run_id"], following["kind"]) == (run_id, kind)

    until(f"a {kind} of {run_id}", look)


def test_thirty_days_of_sleep_once_and_again(travelling: App) -> None:
    app = travelling
    for _ in range(2):
        sent = app.trigger("sleep", seconds=MONTH_S)
        run = app.server.run_of(sent.event_id, app.slug("sleep"))["run_id"]
        timer_of(app.server, run, "sleep")
        assert app.log(sent.key).steps() == ["before"]
        assert MONTH_S - 60 < move(app.server, to="next") <= MONTH_S
        ended = app.wait(sent, "sleep")
        assert (ended.status, ended.output) == ("Completed", "rested")
        assert ended.log.steps() == ["before", "after"]
        assert ended.log.at("after")[0] - ended.log.at("before")[0] < DAY_S


def test_a_wait_of_days_times_out(travelling: App) -> None:
    app = travelling
    sent = app.trigger("wait", timeout=7 * DAY_S)
    run = app.server.run_of(sent.event_id, app.slug("wait"))["run_id"]
    timer_of(app.server, run, "event timeout")
    assert 7 * DAY_S - 60 < move(app.server, by="7d") <= 7 * DAY_S
    ended = app.wait(sent, "wait")
    assert (ended.status, ended.output) == ("Completed", None)


@pytest.mark.parametrize("fn", ["retry-after", "retry-after-step"])
def test_a_time_to_try_again_is_read_by_the_clock_of_the_app(travelling: App, fn: str) -> None:
    app = travelling
    move(app.server, by="1d")
    ended = app.run(fn)
    assert (ended.status, ended.output) == ("Completed", 1)
    first, second = ended.log.at("body" if fn == "retry-after" else "later")
    assert second - first > 1.9


@pytest.mark.parametrize("app_id", KINDS)
def test_signatures_keep_the_time_of_the_world(
    app_id: str, tmp_path_factory: pytest.TempPathFactory, start_app: Starter
) -> None:
    """SDKs refuse a signature that is more than five minutes off. With keys the clock stays where it is."""
    folder = tmp_path_factory.mktemp("keyed")
    before = Server.start(folder)
    move(before, by="30d")
    before.stop()
    keyed = Server.start(folder, "--signing-key", KEY, token=hashed(KEY))
    try:
        app = start_app(app_id, on=keyed, env={"INNGEST_SIGNING_KEY": KEY, "INNGEST_EVENT_KEY": "any"})
        put = httpx.put(app.url, headers={"X-Inngest-Server-Kind": "cloud"}, timeout=20)
        assert put.status_code == 200, put.text
        ended = app.run("three-steps")
        assert (ended.status, ended.output) == ("Completed", [1, 2, 3])
        assert all(call["signature"].startswith("t=") for call in ended.log.calls)
        assert keyed.http.get("/dev/clock").json()["ahead_ms"] == MONTH_S * 1000
        assert keyed.http.post("/dev/clock", json={"by": "1d"}).status_code == 403
    finally:
        keyed.stop()

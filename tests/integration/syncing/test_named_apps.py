"""Apps named with -u: synced at once, tried until they answer, and synced again at each poll."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.syncing.conftest import SyncingApp, apps_of, error_of, log_of, until_known
from tests.sdk.driver import Server, free_port, until

Start = Callable[..., Server]
AppAt = Callable[..., SyncingApp]
QUIET = ("--no-discovery", "--no-poll")


def linked(app: SyncingApp, server: Server) -> SyncingApp:
    """The app knows where to register."""
    app.server_url = server.url
    return app


def test_put_as_the_protocol_has_it(start_server: Start, app_at: AppAt) -> None:
    app = app_at("named")
    start_server(*QUIET, "-u", f"http://127.0.0.1:{app.port}/api/inngest?fnId=x&token=t", apps=[app])
    put = until("a PUT", lambda: app.puts)[0]
    assert put["x-inngest-server-kind"] == "dev"
    assert put["content-type"] == "application/json"
    assert "x-inngest-signature" not in put
    assert "x-inngest-sync-kind" not in put
    assert json.loads(app.bodies[0]) == {"url": f"{app.url}?token=t"}


def test_named_app_that_starts_later(start_server: Start, app_at: AppAt) -> None:
    port = free_port()
    url = f"http://localhost:{port}/api/inngest"
    server = start_server(*QUIET, "-u", url)
    until("an error on the app", lambda: error_of(server, url))
    shown = apps_of(server)[url]
    assert (shown["name"], shown["functions"]) == ("", 0)
    assert f"{url} cannot be reached: " in shown["error"]
    assert shown["error"].endswith("Start the app, or correct its URL.")
    assert shown["error"] in log_of(server)
    app = app_at("late", port)
    linked(app, server)
    until_known(server, "late-one", timeout=6)
    assert [(one["name"], one["error"]) for one in apps_of(server).values()] == [("late", None)]
    count = len(app.puts)
    time.sleep(2.5)
    assert len(app.puts) == count, "without polls it is left alone then"
    assert log_of(server).count("cannot be reached") == 1, "said once, not at each try"


def test_several_named_apps_do_not_wait_for_each_other(start_server: Start, app_at: AppAt) -> None:
    hanging = app_at("hanging")
    gone = f"http://localhost:{free_port()}/api/inngest"
    fine = app_at("fine")
    flags = [part for url in (hanging.url, gone, fine.url) for part in ("-u", url)]
    slow = time.monotonic()
    hanging.register = lambda: time.sleep(4)  # type: ignore[method-assign, return-value, assignment]
    server = start_server(*QUIET, *flags, apps=[fine])
    until_known(server, "fine-one", timeout=3)
    assert time.monotonic() - slow < 6
    until("the missing one is shown", lambda: error_of(server, gone))


def test_app_with_another_name_for_itself(start_server: Start, app_at: AppAt) -> None:
    """It was named by one URL and registers with another: one app is shown, not two."""
    app = app_at("two-names")
    other = f"http://localhost:{app.port}/api/inngest?deployment=7"
    port = app.port
    app.close()
    server = start_server(*QUIET, "-u", f"http://localhost:{port}/api/inngest")
    until("an error", lambda: apps_of(server))
    again = app_at("two-names", port)
    again.url = other
    linked(again, server)
    until_known(server, "two-names-one")
    until("the other row goes", lambda: set(apps_of(server)) == {other})


def test_polls_take_in_what_has_changed(start_server: Start, app_at: AppAt) -> None:
    app = app_at("polled")
    server = start_server("--no-discovery", "--poll-interval", "1", "-u", app.url, apps=[app])
    until_known(server, "polled-one")
    app.functions = ["one", "two"]
    until_known(server, "polled-one", "polled-two", timeout=4)
    app.functions = ["two"]
    until_known(server, "polled-two", timeout=4)
    count, started = len(app.puts), time.monotonic()
    time.sleep(3)
    rate = (len(app.puts) - count) / (time.monotonic() - started)
    assert 0.5 < rate < 1.5


def test_without_polls_nothing_is_asked_again(start_server: Start, app_at: AppAt) -> None:
    app = app_at("left-alone")
    server = start_server(*QUIET, "--poll-interval", "1", "-u", app.url, apps=[app])
    until_known(server, "left-alone-one")
    time.sleep(2.5)
    assert len(app.puts) == 1
    app.functions = ["other"]
    assert app.register().status_code == 200
    until_known(server, "left-alone-other")


def test_app_that_goes_and_comes_back(start_server: Start, app_at: AppAt) -> None:
    app = app_at("away")
    server = start_server("--no-discovery", "--poll-interval", "1", "-u", app.url, apps=[app])
    until_known(server, "away-one")
    app.close()
    until("the error", lambda: error_of(server, app.url))
    assert "cannot be reached" in error_of(server, app.url)
    assert set(server.functions()) == {"away-one"}, "its functions stay"
    back = linked(app_at("away", app.port), server)
    until("no error", lambda: not error_of(server, app.url))
    assert set(server.functions()) == {"away-one"}
    assert back.puts


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "compare the signing keys"),
        (404, b"<html>", "check the path, which is usually /api/inngest"),
        (500, b'{"message":"boom"}', "look at the app's own log. It said: boom"),
        (400, b'{"code":"no_functions"}', "serves no functions"),
        (200, b"<html>welcome</html>", "no SDK did"),
    ],
)
def test_app_that_refuses_is_shown_with_what_to_do(
    start_server: Start, app_at: AppAt, status: int, body: bytes, words: str
) -> None:
    app = app_at("refusing")
    app.put_status, app.put_body, app.sdk = status, body, status != 200
    server = start_server(*QUIET, "--poll-interval", "1", "-u", app.url, apps=[app])
    until("the error", lambda: error_of(server, app.url))
    assert words in error_of(server, app.url)
    assert words in log_of(server)
    app.put_status, app.sdk = 0, True
    until_known(server, "refusing-one", timeout=6)
    assert error_of(server, app.url) == ""


class TestBadConfiguration:
    BROKEN: dict[str, Any] = {"timeouts": {"finish": "soon"}, "triggers": [{"cron": "61 * * * *"}]}  # noqa: RUF012

    def test_last_good_version_stays(self, start_server: Start, app_at: AppAt) -> None:
        app = app_at("bad")
        server = start_server("--no-discovery", "--poll-interval", "1", "-u", app.url, apps=[app])
        until_known(server, "bad-one")
        app.functions, app.extra = ["one", "two"], self.BROKEN
        until("the error", lambda: error_of(server, app.url))
        error = error_of(server, app.url)
        for word in ("soon", "61 * * * *", "bad-one", "bad-two"):
            assert word in error
        assert set(server.functions()) == {"bad-one"}
        assert server.functions()["bad-one"]["triggers"] == [{"event": "bad/one"}]
        time.sleep(1.5)
        assert error_of(server, app.url) == error, "the next poll does not make it less exact"
        app.extra = {}
        until_known(server, "bad-one", "bad-two")
        assert error_of(server, app.url) == ""

    def test_app_that_was_never_good(self, start_server: Start, app_at: AppAt) -> None:
        app = app_at("never")
        app.extra = self.BROKEN
        server = start_server(*QUIET, "--poll-interval", "1", "-u", app.url, apps=[app])
        until("the error", lambda: "soon" in error_of(server, app.url))
        assert apps_of(server)[app.url]["name"] == "never"
        app.extra = {}
        until_known(server, "never-one", timeout=6)


class TestInBand:
    KEY = "signkey-test-" + "ab12" * 16

    def start(self, start_server: Start, *urls: str) -> Server:
        flags = [part for url in urls for part in ("-u", url)]
        return start_server(
            "--no-discovery", "--poll-interval", "1", "--signing-key", self.KEY, *flags, token=self.KEY
        )

    def test_registers_in_its_answer(self, start_server: Start, app_at: AppAt) -> None:
        app = app_at("band")
        app.in_band = True
        server = self.start(start_server, app.url)
        until_known(server, "band-one")
        put = app.puts[0]
        assert (put["x-inngest-sync-kind"], put["x-inngest-server-kind"]) == ("in_band", "cloud")
        assert put["x-inngest-signature"].startswith("t=")
        shown = apps_of(server)[app.url]
        assert (shown["name"], shown["sdk"], shown["error"]) == ("band", "js:v4.24.0", None)
        app.functions = ["two"]
        until_known(server, "band-two", timeout=4)

    def test_all_mistakes_are_shown(self, start_server: Start, app_at: AppAt) -> None:
        app = app_at("band")
        app.in_band = True
        server = self.start(start_server, app.url)
        until_known(server, "band-one")
        app.extra = TestBadConfiguration.BROKEN
        until("the error", lambda: error_of(server, app.url))
        assert "soon" in error_of(server, app.url)
        assert "61 * * * *" in error_of(server, app.url)
        assert set(server.functions()) == {"band-one"}

    def test_an_answer_that_is_no_registration(self, start_server: Start, app_at: AppAt) -> None:
        app = app_at("band")
        app.in_band = True
        app.registration = lambda: {"functions": "none"}  # type: ignore[method-assign]
        server = self.start(start_server, app.url)
        until("the error", lambda: error_of(server, app.url))
        assert server.functions() == {}
        assert server.http.get("/health").status_code == 200

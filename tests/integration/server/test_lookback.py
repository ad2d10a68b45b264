"""Waits that look back: `--lookback` for all waits of a server, and `opts.lookback` for one."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.integration.server.conftest import Make
from tests.sdk.bare_app import Answer, BareApp, Call, Scripted, op, ops, sha1
from tests.sdk.driver import Server, until


def waiting(*waits: dict[str, Any], before_s: float = 0.4) -> Callable[[Call], Answer]:
    """Wait for the events one after the other, the first time after `before_s`; give back what came."""

    def script(call: Call) -> Answer:
        for n, opts in enumerate(waits):
            if sha1(f"wait-{n}") not in call.steps:
                delay = before_s if n == 0 else 0
                return ops(op("WaitForEvent", f"wait-{n}", opts={"timeout": "1s", **opts}), delay_s=delay)
        found = [call.steps[sha1(f"wait-{n}")] for n in range(len(waits))]
        return Answer(200, [each and each["data"] for each in found])

    return script


def missed(fn: Scripted, name: str, **data: Any) -> str:
    """Start a run, and send an event between its first call and its wait. The id of the run's event."""
    started = fn.trigger()
    until("the call", lambda: fn.calls)
    fn.server.send({"name": name, "data": data})
    return started


class TestOneWait:
    """The server looks back for nobody who does not ask."""

    def test_takes_an_event_from_before_it_began(self, scripted: Make) -> None:
        fn = scripted(waiting({"event": "late/answer", "lookback": "1m"}))
        run = fn.ended(missed(fn, "late/answer", n=1))
        assert (run["status"], run["output"]) == ("Completed", [{"n": 1}])

    def test_takes_nothing_without_it(self, scripted: Make) -> None:
        fn = scripted(waiting({"event": "late/plain"}))
        assert fn.ended(missed(fn, "late/plain", n=1))["output"] == [None]

    def test_keeps_to_the_condition(self, scripted: Make) -> None:
        fn = scripted(waiting({"event": "late/if", "lookback": "1m", "if": "async.data.n == 2"}))
        started = missed(fn, "late/if", n=1)
        fn.server.send({"name": "late/if", "data": {"n": 2}}, {"name": "late/if", "data": {"n": 3}})
        assert fn.ended(started)["output"] == [{"n": 2}]

    def test_does_not_look_further_back_than_it_says(self, scripted: Make) -> None:
        fn = scripted(waiting({"event": "late/old", "lookback": "1s"}, before_s=1.5))
        assert fn.ended(missed(fn, "late/old", n=1))["output"] == [None]

    def test_no_event_ends_two_waits_of_a_run(self, scripted: Make) -> None:
        wait = {"event": "late/twice", "lookback": "1m"}
        fn = scripted(waiting(wait, wait, wait))
        started = missed(fn, "late/twice", n=1)
        fn.server.send({"name": "late/twice", "data": {"n": 2}})
        assert fn.ended(started)["output"] == [{"n": 1}, {"n": 2}, None]

    def test_one_event_ends_the_waits_of_two_runs(self, scripted: Make) -> None:
        fns = [scripted(waiting({"event": "late/shared", "lookback": "1m"})) for _ in range(2)]
        started = [fn.trigger() for fn in fns]
        until("both calls", lambda: all(fn.calls for fn in fns))
        fns[0].server.send({"name": "late/shared", "data": {"n": 1}})
        assert [fn.ended(event)["output"] for fn, event in zip(fns, started, strict=True)] == [[{"n": 1}]] * 2

    def test_is_ended_by_a_later_event_as_ever(self, scripted: Make) -> None:
        fn = scripted(waiting({"event": "late/later", "lookback": "1m", "timeout": "10s"}, before_s=0))
        started = fn.trigger()
        run = fn.server.run_of(started, fn.slug)["run_id"]
        until("the wait", lambda: fn.server.http.get(f"/v1/runs/{run}/jobs").json()["data"])
        fn.server.send({"name": "late/later", "data": {"n": 1}})
        assert fn.ended(started)["output"] == [{"n": 1}]

    def test_the_runs_own_event_ends_none(self, scripted: Make) -> None:
        fn = scripted(lambda call: None)
        own = f"bare/{fn.slug}"
        fn.app.on(fn.slug, waiting({"event": own, "lookback": "1m"}))
        assert fn.run()["output"] == [None]

    @pytest.mark.parametrize("lookback", ["soon", "-5s"])
    def test_what_is_no_duration_fails_the_run_in_words(self, scripted: Make, lookback: Any) -> None:
        fn = scripted(waiting({"event": "late/bad", "lookback": lookback}, before_s=0))
        run = fn.run()
        assert run["status"] == "Failed"
        assert "lookback" in str(run["output"])

    def test_the_event_tells_what_it_has_ended(self, scripted: Make, http: httpx.Client) -> None:
        fn = scripted(waiting({"event": "late/effect", "lookback": "1m"}))
        started = fn.trigger()
        until("the call", lambda: fn.calls)
        (event,) = fn.server.send({"name": "late/effect", "data": {}})
        assert fn.ended(started)["status"] == "Completed"
        (database,) = fn.server.process.output.parent.glob("data/*.db")
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
            rows = db.execute("SELECT how FROM run_events WHERE event_id = ?", (event,)).fetchall()
        assert rows == [("wait",)]


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server all of whose waits look back."""
    server = Server.start(tmp_path_factory.mktemp("looking"), "--lookback", "60")
    yield server
    server.stop()


class TestAllWaits:
    def test_look_back_without_being_asked(self, looking: Server, bare: BareApp) -> None:
        fn = Scripted.make(looking, bare, waiting({"event": "all/answer"}))
        assert fn.ended(missed(fn, "all/answer", n=1))["output"] == [{"n": 1}]

    def test_but_not_one_that_says_no(self, looking: Server, bare: BareApp) -> None:
        fn = Scripted.make(looking, bare, waiting({"event": "all/no", "lookback": "0s"}))
        assert fn.ended(missed(fn, "all/no", n=1))["output"] == [None]

    def test_over_a_kill(self, bare: BareApp, tmp_path_factory: pytest.TempPathFactory) -> None:
        """The event, then the death of the server in the middle of the call that is answered with the wait."""
        folder = tmp_path_factory.mktemp("killed")
        server = Server.start(folder, "--lookback", "60")
        fn = Scripted.make(server, bare, waiting({"event": "all/killed"}))
        started = missed(fn, "all/killed", n=1)
        server.process.kill()
        time.sleep(0.5)
        server = Server.start(folder, "--lookback", "60")
        try:
            run = server.run_of(started, fn.slug)
            assert server.ended(run["run_id"])["output"] == [{"n": 1}]
        finally:
            server.stop()

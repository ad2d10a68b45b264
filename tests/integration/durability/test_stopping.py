"""SIGTERM and Ctrl-C in the middle of work, and a second server on the same data."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.durability import checks, jobs
from tests.integration.durability.journal import Journal
from tests.integration.durability.ledger import Ledger, at_rest
from tests.integration.durability.load import Load
from tests.integration.durability.processes import Site, get, post, site, until

pytestmark = pytest.mark.slow

RUNS = 300
WITHIN_S = 12.0
"""The server gives calls under way 10 s; closing takes a moment."""
SETTLE_S = 0.3
"""Calls that were committed before the signal have arrived at the app by then."""
S2, S3, S4 = (jobs.step_id(name) for name in ("s2", "s3", "s4"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, "bare") as started:
        yield started


def send_slow(running: Site, journal: Journal, takes_s: float, **more: Any) -> tuple[str, str]:
    """Start a run whose third step takes so long, and wait until that has begun; its job and the event's id."""
    event = {"name": f"{jobs.APP}/{jobs.SLOW}", "data": {"key": -2, "takes_s": takes_s, **more}}
    status, body, _ = post(f"{running.server.url}/e/test", event)
    assert status == 200

    def arrived() -> bool:
        journal.read()
        return any(len(line["memos"]) == 2 for line in journal.of("call"))

    until("the third step", arrived, 20, running.server.tail)
    return jobs.SLOW, body["ids"][0]


def finish(running: Site, journal: Journal, load: Load | None = None) -> Ledger:
    """Start the server again, and let it finish everything."""
    running.server.start()

    def over() -> bool:
        journal.read()
        return (load is None or load.all_accepted) and at_rest(running.database)

    until("the end of all runs", over, 40, running.server.tail)
    if load is not None:
        load.stop()
    running.server.send(signal.SIGTERM)
    assert running.server.wait(WITHIN_S) == 0
    journal.read()
    return Ledger.read(running.database)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_call_starts_after_the_signal(
    running: Site, number: signal.Signals, entropy: random.Random
) -> None:
    journal = Journal(running.journal_path)
    slow = send_slow(running, journal, takes_s=3)
    load = Load(running.server.url, journal, RUNS, RUNS // 2, entropy)
    load.start()
    until("some of the load", lambda: journal.count("ran") > RUNS, 20, running.server.tail)
    running.server.send(number)
    at = time.time()
    assert running.server.wait(WITHIN_S) == 0, running.server.tail()
    took = time.time() - at
    journal.read()
    assert [line for line in journal.of("call") if line["at"] > at + SETTLE_S] == []
    assert 0.5 < took < 6, "it waits for the slow call, and for nothing else"
    stopped = Ledger.read(running.database)
    (slow_run,) = [run["id"] for run in stopped.runs.values() if stopped.job(run) == jobs.SLOW]
    assert (slow_run, S2) in stopped.steps, "the slow call's answer was not taken"
    assert not at_rest(running.database), "nothing was left to do: the signal came too late to show anything"

    ledger = finish(running, journal, load)
    checks.demand(checks.nothing_recorded_changed(stopped, ledger))
    checks.demand(checks.all_is_well(ledger, journal, load.accepted | {slow}))
    checks.demand(checks.attempts_add_up(ledger, every_call_has_an_answer=True))
    assert all(status == 503 for status, _ in load.refused)


def test_events_are_refused_and_checkpoints_are_taken_while_it_stops(running: Site) -> None:
    journal = Journal(running.journal_path)
    slow = send_slow(running, journal, takes_s=4, checkpoint=True)
    running.server.send(signal.SIGTERM)
    time.sleep(SETTLE_S)
    status, body, headers = post(f"{running.server.url}/e/test", {"name": "other", "data": {}})
    assert (status, headers["retry-after"]) == (503, "1")
    assert "stopping" in body["error"]
    health, told, _ = get(f"{running.server.url}/health")
    assert (health, "stopping" in told["message"]) == (503, True)
    assert running.server.wait(WITHIN_S) == 0
    journal.read()
    assert [line["status"] for line in journal.of("posted")] == [200]
    stopped = Ledger.read(running.database)
    (run_id,) = stopped.runs
    assert {(run_id, S2), (run_id, S3)} <= set(stopped.steps)
    assert (run_id, S4) not in stopped.steps

    ledger = finish(running, journal)
    checks.demand(checks.nothing_recorded_changed(stopped, ledger))
    checks.demand(checks.all_is_well(ledger, journal, {slow}))


def test_a_call_that_does_not_end_in_time_is_made_again(running: Site) -> None:
    journal = Journal(running.journal_path)
    slow = send_slow(running, journal, takes_s=15)
    running.server.send(signal.SIGTERM)
    at = time.monotonic()
    assert running.server.wait(WITHIN_S) == 0
    assert time.monotonic() - at > 9
    ledger = finish(running, journal)
    checks.demand(checks.all_is_well(ledger, journal, {slow}))
    checks.demand(checks.attempts_add_up(ledger, every_call_has_an_answer=False))


def test_the_second_signal_ends_it_at_once(running: Site) -> None:
    journal = Journal(running.journal_path)
    slow = send_slow(running, journal, takes_s=8)
    running.server.send(signal.SIGINT)
    time.sleep(SETTLE_S)
    running.server.send(signal.SIGINT)
    at = time.monotonic()
    running.server.wait(WITHIN_S)
    assert time.monotonic() - at < 3, running.server.tail()
    assert "Traceback" not in running.server.tail()
    ledger = finish(running, journal)
    checks.demand(checks.all_is_well(ledger, journal, {slow}))


def test_a_second_server_on_the_same_data_is_refused(running: Site) -> None:
    command = [*running.server.command]
    command[command.index("--port") + 1] = "0"
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert f"process {running.server.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    assert get(f"{running.server.url}/health")[0] == 200

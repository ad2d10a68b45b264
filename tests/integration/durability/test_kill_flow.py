"""kill -9 during the work of each rule of flow control: what counts is right after the server has come back."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.request
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.durability import checks, rules, rules_fates
from tests.integration.durability.conftest import Size
from tests.integration.durability.journal import Journal
from tests.integration.durability.load import TRY_AGAIN_S, seed_header, send_events
from tests.integration.durability.processes import Site, get, site, until
from tests.integration.durability.rules_checks import Death, no_limit_is_exceeded
from tests.integration.durability.rules_ledger import RulesLedger
from tests.integration.durability.stream import Stream
from tests.integration.durability.sudden import die, left, stop

pytestmark = pytest.mark.slow

EVENTS_PER_RUN = 2
"""Many events start no run of their own, or one of a single call."""
BETWEEN_KILLS_S = (0.3, 2.7)
LONG_DOWN_S = (2.5, 3.5)
PER_KILL_S = 2.7
"""Events are sent for so long for each kill, so that all of them meet work."""
END_S = 40.0
QUEUE = 2_000
QUEUE_S = 60.0
AT_ONCE = 100


def wait_for_call(running: Site, journal: Journal) -> None:
    """Wait for the next call, so that a kill falls into the middle of something."""
    calls = journal.count("call")
    until("a call", lambda: journal.count("call") > calls, END_S, running.server.tail)


def limit_runs(running: Site) -> None:
    """Put the limit on runs in force, for which the SDK has no option."""
    for function in (rules.WHOLE, rules.MIXED):
        body = json.dumps({"concurrency": rules.CONFIGS[function]["concurrency"]}).encode()
        url = f"{running.server.url}/v1/functions/{rules.APP}-{function}/overrides"
        with urllib.request.urlopen(urllib.request.Request(url, body, method="PUT"), timeout=10) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("app", ["bare_rules", "sdk_rules"])
def test_rules_hold_over_kills(app: str, size: Size, entropy: random.Random, tmp_path: Path) -> None:
    with site(tmp_path, app) as running:
        if app == "sdk_rules":
            limit_runs(running)
        journal = Journal(running.journal_path)
        stream = Stream(running.server.url, entropy, EVENTS_PER_RUN * size.runs, size.kills * PER_KILL_S)
        stream.start()
        deaths: list[Death] = []
        # One of the times the server is gone for so long that several things are overdue when it comes back.
        long = entropy.randrange(size.kills)
        for number in range(size.kills):
            time.sleep(entropy.uniform(*BETWEEN_KILLS_S))
            wait_for_call(running, journal)
            time.sleep(entropy.random() * 0.05)
            down_s = entropy.uniform(*LONG_DOWN_S) if number == long else 0
            deaths += die(running, journal, tmp_path / "scratch", entropy, down_s)
        until("the last event", lambda: stream.over, size.kills * PER_KILL_S + END_S, running.server.tail)
        # Its schedule goes on for ever; what it starts from here on ends at once.
        for function in rules.TICKS:
            stream.operate(function, "pause", mode="skip")
        until("the end", lambda: RulesLedger.read(running.database).at_rest, END_S, lambda: left(running))
        seen = told_by_api(running, stream)
        stop(running)
        ledger = RulesLedger.read(running.database)
    journal.read()
    report(ledger, deaths, stream)
    checks.demand(rules_fates.every_rule_bit(journal, ledger, deaths))
    checks.demand(rules_fates.all_is_well(journal, ledger, deaths, stream.accepted, stream.pauses))
    assert seen == {
        n: sorted(run.id for run in ledger.runs.values() if n in run.events) for n in stream.accepted
    }
    assert sum(bool(death.cut) for death in deaths) >= size.kills // 2, "the kills met no calls"


def told_by_api(running: Site, stream: Stream) -> dict[int, list[str]]:
    """The ids of the runs of each event that was acknowledged, as the API has them."""
    found: dict[int, list[str]] = {}
    for n, internal_id in stream.accepted.items():
        status, body, _ = get(f"{running.server.url}/v1/events/{internal_id}/runs")
        assert status == 200
        found[n] = sorted(run["run_id"] for run in body["data"])
    return found


def report(ledger: RulesLedger, deaths: list[Death], stream: Stream) -> None:
    """Say what the kills met."""
    ends = Counter(f"{run.function} {run.status}" for run in ledger.runs.values())
    print(
        f"{len(stream.accepted)} events, {len(ledger.runs)} runs, calls cut off: {[len(d.cut) for d in deaths]}, "
        f"down for {[d.back_at - d.killed_at for d in deaths]} ms, refused: {Counter(stream.refused)}"
    )
    print(", ".join(f"{what}: {count}" for what, count in sorted(ends.items())))


@pytest.mark.parametrize(("function", "keys"), [(rules.LONG_QUEUE, 1), (rules.LONG_QUEUES, 1_400)])
def test_a_long_queue_is_worked_off_over_two_kills(
    function: str, keys: int, entropy: random.Random, tmp_path: Path
) -> None:
    """2,000 runs that wait behind a limit, in one line or in many."""
    with site(tmp_path, "bare_rules") as running:
        journal = Journal(running.journal_path)
        numbers = range(QUEUE)
        start = time.monotonic()
        send_all(running, function, keys, entropy)
        deaths: list[Death] = []
        for share in sorted(entropy.uniform(0.1, 0.8) for _ in range(2)):
            ended = partial(ends_reach, journal, int(QUEUE * share))
            until(f"{share:.0%} of the ends", ended, QUEUE_S, running.server.tail)
            deaths += die(running, journal, tmp_path / "scratch", entropy)

        def over() -> bool:
            return ends_reach(journal, QUEUE) and RulesLedger.read(running.database).at_rest

        until("the end of the queue", over, QUEUE_S, lambda: left(running))
        took = time.monotonic() - start
        stop(running)
        ledger = RulesLedger.read(running.database)
    journal.read()
    print(f"{QUEUE} runs in {took:.1f} s, calls cut off: {[len(d.cut) for d in deaths]}")
    checks.demand(no_limit_is_exceeded(journal, ledger, deaths))
    runs = ledger.of(function)
    assert sorted(run.events for run in runs) == [(n,) for n in numbers]
    assert {run.status for run in runs} == {"COMPLETED"}
    checks.demand(rules_fates.nothing_is_left(ledger))


def ends_reach(journal: Journal, count: int) -> bool:
    """Whether the code of so many runs has come to its end."""
    return journal.count("end") >= count


def send_all(running: Site, function: str, keys: int, entropy: random.Random) -> None:
    """Send the events of the long queue, of so many keys."""
    address = running.server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=15)
    for first, end in pairwise(range(0, QUEUE + 1, AT_ONCE)):
        events = [
            {"name": f"{rules.APP}/{function}", "data": {"n": n, "who": str(n % keys), "takes_s": 0.002}}
            for n in range(first, end)
        ]
        seed = seed_header(entropy)
        while send_events(connection, events, seed)[0] != 200:
            time.sleep(TRY_AGAIN_S)

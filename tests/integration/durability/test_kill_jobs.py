"""kill -9 while a bulk cancellation and a replay are under way: they go on where they were, and do nothing twice."""

from __future__ import annotations

import http.client
import random
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.durability import checks, rules, rules_fates
from tests.integration.durability.conftest import Size
from tests.integration.durability.journal import Journal
from tests.integration.durability.ledger import opened
from tests.integration.durability.load import seed_header, send_events
from tests.integration.durability.processes import Site, get, post, site, until
from tests.integration.durability.rules_ledger import RulesLedger
from tests.integration.durability.sudden import die, left, stop

pytestmark = pytest.mark.slow

SLUG = f"{rules.APP}-{rules.HELD}"
WITHIN_S = 40.0
RESUMED_S = 0.5
"""The server is killed within this time after the function was resumed, while the runs it held get in line."""
RUNS_OF_A_SIZE = 5
"""So many runs for each of KILL_RUNS: a job acts on many of them in a short time."""


def operate(running: Site, what: str) -> None:
    assert post(f"{running.server.url}/v1/functions/{SLUG}/{what}", {})[0] == 200


def send(running: Site, entropy: random.Random, count: int) -> None:
    """Send so many events for the paused function."""
    events = [{"name": f"{rules.APP}/{rules.HELD}", "data": {"n": n, "who": "a"}} for n in range(count)]
    with closing(http.client.HTTPConnection(running.server.url.removeprefix("http://"), timeout=15)) as to:
        for first in range(0, count, 100):
            assert send_events(to, events[first : first + 100], seed_header(entropy))[0] == 200


class Work:
    """A job that was started, through its kills."""

    def __init__(self, running: Site, journal: Journal, path: str, body: dict[str, Any]) -> None:
        self._running, self._journal, self._seen = running, journal, 0
        status, answer, _ = post(f"{running.server.url}/v1/{path}", {"function_id": SLUG, **body})
        assert status in (200, 201, 202), answer
        self._path = f"/v1/{path}/{answer['data']['id']}"

    def record(self) -> Any:
        """What the API says of it."""
        status, answer, _ = get(f"{self._running.server.url}{self._path}")
        assert status == 200, answer
        return answer["data"]

    def is_done(self) -> bool:
        """Whether it is over."""
        return bool(self.record()["state"] == "done")

    def through(self, kills: int, total: int, scratch: Path, entropy: random.Random) -> list[int]:
        """Kill the server so many times while the job is at work, and wait for its end. How far it was each time."""
        seen: list[int] = []
        for share in sorted(entropy.uniform(0, 0.8) for _ in range(kills)):
            until("progress", partial(self._has_seen, total * share), WITHIN_S, self._running.server.tail)
            seen.append(self._seen)
            die(self._running, self._journal, scratch, entropy)
        until("the end of the job", self.is_done, WITHIN_S, self._running.server.tail)
        assert any(0 < each < total for each in seen), f"the kills met {seen} of {total}"
        return seen

    def _has_seen(self, count: float) -> bool:
        self._seen = self.record()["seen"]
        return bool(self._seen >= count)


def test_jobs_go_on_over_kills(size: Size, entropy: random.Random, tmp_path: Path) -> None:
    total = RUNS_OF_A_SIZE * size.runs
    with site(tmp_path, "bare_rules") as running:
        journal = Journal(running.journal_path)
        operate(running, "pause")
        send(running, entropy, total)
        now = datetime.now(UTC).isoformat()
        cancels = Work(running, journal, "cancellations", {"started_before": now})
        met = cancels.through(size.kills, total, tmp_path / "scratch", entropy)
        assert (cancels.record()["seen"], cancels.record()["done"]) == (total, total)
        replays = Work(running, journal, "replays", {"statuses": ["CANCELLED"]})
        met += replays.through(size.kills, total, tmp_path / "scratch", entropy)
        assert (replays.record()["seen"], replays.record()["done"]) == (total, total)
        operate(running, "resume")
        time.sleep(entropy.random() * RESUMED_S)
        die(running, journal, tmp_path / "scratch", entropy)
        for function in rules.TICKS:
            assert (
                post(f"{running.server.url}/v1/functions/{rules.APP}-{function}/pause", {"mode": "skip"})[0]
                == 200
            )
        until("the end of the runs", partial(at_rest, running), WITHIN_S, lambda: left(running))
        stop(running)
        ledger = RulesLedger.read(running.database)
        originals = replayed(running.database)
    runs = ledger.of(rules.HELD)
    assert Counter(run.status for run in runs) == {"CANCELLED": total, "COMPLETED": total}
    by_status = {
        status: {run.id for run in runs if run.status == status} for status in ("CANCELLED", "COMPLETED")
    }
    assert set(originals) == by_status["COMPLETED"]
    assert Counter(originals.values()) == Counter(by_status["CANCELLED"]), "each was replayed once"
    checks.demand(rules_fates.nothing_is_left(ledger))
    print(f"{total} runs cancelled and replayed; kills after {met}")


def at_rest(running: Site) -> bool:
    return RulesLedger.read(running.database).at_rest


def replayed(database: Path) -> dict[str, str]:
    """The runs that a replay has started, and of which run."""
    with opened(database) as connection:
        query = "SELECT id, original_run_id FROM runs WHERE original_run_id IS NOT NULL"
        return dict(connection.execute(query).fetchall())

"""Schedules: each time fires at most once, and exactly once while nothing is in the way."""

from __future__ import annotations

import datetime
import itertools
import json
from typing import TYPE_CHECKING

from perdure.shard.changes import Changes
from perdure.shard.keys import CRON
from perdure.shard.rows import RunRow
from tests.sim.memory_store import Tables
from tests.sim.rules import ms, period_of

if TYPE_CHECKING:
    from tests.sim.checks import Checks
    from tests.sim.programs import Program

SCHEDULED = "inngest/scheduled.timer"
SLOW_MS = 60_000
"""So late a schedule may fire while nothing is wrong: commits and reads may take 15 s, several in a row."""


class Ticking:
    """Follows the firings. Every schedule of a history is of one function only."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.fired: dict[str, dict[int, int]] = {}
        """When (wall clock) each time of each schedule fired."""
        self._runs: set[tuple[str, str]] = set()
        self._gone: set[str] = set()

    def before(self, tables: Tables, changes: Changes) -> None:
        """A batch is about to be written: a schedule that is taken away, and comes again, begins anew."""
        for ref, row in changes.keys.items():
            before = tables.keys.get(ref)
            if ref.kind == CRON and row is None and before is not None:
                self._gone.add(json.loads(before.value)[0])

    def committed(self, tables: Tables, changes: Changes, created: list[RunRow]) -> None:
        """A batch has been written."""
        gone, self._gone = self._gone, set()
        for cron in gone:
            self.fired.pop(cron, None)
        for event in changes.events:
            if event.name != SCHEDULED:
                continue
            data = json.loads(event.body)["data"]
            time = datetime.datetime.fromisoformat(data["scheduledAt"].replace("Z", "+00:00"))
            scheduled = round(time.timestamp() * 1000)
            if data["cron"] in gone:
                continue
            times = self.fired.setdefault(data["cron"], {})
            if scheduled in times:
                self._checks.fail("schedule", f"{data['cron']} fires a second time for {scheduled}")
            if scheduled > event.ts + self._checks.commits.ahead[1]:
                self._checks.fail("schedule", f"{data['cron']} fires at {event.ts}, before {scheduled}")
            times[scheduled] = event.ts + self._checks.commits.ahead[1]
        for row in created:
            if row.cron is not None:
                if (row.cron, row.event_id) in self._runs:
                    self._checks.fail(
                        "schedule", f"{row.cron} starts a second run for {row.event_id}", row.id
                    )
                self._runs.add((row.cron, row.event_id))

    def complete(self, programs: list[Program], since: int, until: int) -> None:
        """Between two moments without faults every schedule has fired for each of its times, and in time."""
        for program in programs:
            for trigger in program.schedules:
                self._complete(trigger["cron"], ms(trigger.get("jitter", "0s")), since, until)

    def _complete(self, cron: str, jitter: int, since: int, until: int) -> None:
        period = period_of(cron)
        fired = self.fired.get(cron, {})
        times = sorted(time for time in fired if since < time < until)
        if not times and until - since > 2 * period + jitter + SLOW_MS:
            self._checks.fail("schedule", f"{cron} does not fire between {since} and {until}")
        for time, after in itertools.pairwise(times):
            # Of several that are late together the last stands for all.
            if after - time > max(period, SLOW_MS):
                self._checks.fail("schedule", f"{cron} fires for {time} and {after}, and for none in between")
        for time in times:
            if fired[time] - time > jitter + SLOW_MS:
                self._checks.fail("schedule", f"{cron} fires for {time} at {fired[time]}")

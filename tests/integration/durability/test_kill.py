"""kill -9 at random moments under load: what was acknowledged is finished, once, with the results first recorded."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.durability import checks, jobs
from tests.integration.durability.conftest import Size
from tests.integration.durability.journal import Journal
from tests.integration.durability.ledger import Ledger, at_rest
from tests.integration.durability.load import Load
from tests.integration.durability.processes import Site, site, until

pytestmark = pytest.mark.slow

WINDOW = 80
"""Events sent ahead of what has ended: work is always waiting, and events are still being sent at every kill."""
STALL_S = 20.0
KILLED_AT_START = 0.4
"""How often a server that was killed is killed another time while it starts and reads its state."""
START_S = 0.8
CALLS_PER_RUN = {"bare": 6, "sdk": 6, "own": 1}
"""What an event leads to at least; the own SDK posts its steps within one call."""


@dataclass
class Story:
    """Load on a site, and what has been seen of it."""

    site: Site
    journal: Journal
    load: Load

    def moments(self, entropy: random.Random, kills: int, calls_per_run: int = 6) -> list[int]:
        """How many calls the app will have got at each kill, spread at random over the whole load.

        `calls_per_run` is what an event leads to at least, if nothing is killed.
        """
        expected = self.load.total * calls_per_run
        return sorted(entropy.randrange(expected // 50, expected * 9 // 10) for _ in range(kills))

    def wait_for_moment(self, moment: int, entropy: random.Random) -> None:
        """Wait for so many calls, and then a little, so that a kill falls anywhere between two commits."""
        until(f"{moment} calls", lambda: self.journal.count("call") >= moment, STALL_S, self.site.server.tail)
        time.sleep(entropy.random() * 0.05)

    def wait_for_end(self) -> None:
        """Wait until everything was acknowledged and has ended; then stop the server in order."""
        self._progress(lambda: self.load.all_accepted and at_rest(self.site.database))
        self.load.stop()
        self.site.server.send(signal.SIGTERM)
        assert self.site.server.wait(12) == 0
        self.journal.read()

    def _progress(self, done: Callable[[], bool]) -> None:
        """Wait, for as long as the app is called at all."""
        last, seen = time.monotonic(), -1
        while not done():
            now = self.journal.count("call")
            if now != seen:
                last, seen = time.monotonic(), now
            assert time.monotonic() - last < STALL_S, f"nothing happens:\n{self.site.server.tail()}"
            time.sleep(0.1)


def begin(
    running: Site, size: Size, entropy: random.Random, job_of: Callable[[int], str] = jobs.job_of
) -> Story:
    """Start to send."""
    journal = Journal(running.journal_path)
    load = Load(running.server.url, journal, size.runs, WINDOW, entropy, job_of)
    load.start()
    return Story(running, journal, load)


@pytest.mark.parametrize("app", ["bare", "sdk", "own"])
def test_server_killed(app: str, size: Size, entropy: random.Random, tmp_path: Path) -> None:
    with site(tmp_path, app) as running:
        story = begin(running, size, entropy)
        found: list[Ledger] = []
        places: list[int] = []
        for moment in story.moments(entropy, size.kills, CALLS_PER_RUN[app]):
            story.wait_for_moment(moment, entropy)
            running.server.kill()
            found.append(Ledger.of_the_dead(running.database, tmp_path / "scratch"))
            story.journal.read()
            places.append(len(story.journal.lines))
            if entropy.random() < KILLED_AT_START:
                running.server.start(wait=False)
                time.sleep(entropy.random() * START_S)
                running.server.kill()
            running.server.start()
        story.wait_for_end()
        ledger = Ledger.read(running.database)
    for earlier, later in pairwise([*found, ledger]):
        checks.demand(checks.nothing_recorded_changed(earlier, later))
    for earlier, place in zip(found, places, strict=True):
        later_calls = [line for line in story.journal.lines[place:] if line["what"] == "call"]
        checks.demand(checks.calls_carry_what_was_recorded(earlier, later_calls))
    checks.demand(checks.all_is_well(ledger, story.journal, story.load.accepted))
    checks.demand(checks.attempts_add_up(ledger, every_call_has_an_answer=False))
    own_sdk_posted(app, story)
    report(story, found, ledger)


@pytest.mark.parametrize("app", ["bare", "sdk", "own"])
def test_app_killed(app: str, size: Size, entropy: random.Random, tmp_path: Path) -> None:
    with site(tmp_path, app) as running:
        story = begin(running, size, entropy)
        found: list[Ledger] = []
        for moment in story.moments(entropy, size.kills, CALLS_PER_RUN[app]):
            story.wait_for_moment(moment, entropy)
            running.app.kill()
            found.append(Ledger.read(running.database))
            running.app.start()
        story.wait_for_end()
        ledger = Ledger.read(running.database)
    for earlier, later in pairwise([*found, ledger]):
        checks.demand(checks.nothing_recorded_changed(earlier, later))
    checks.demand(
        checks.all_is_well(ledger, story.journal, story.load.accepted, fragile_handlers=app != "bare")
    )
    checks.demand(checks.attempts_add_up(ledger, every_call_has_an_answer=True))
    own_sdk_posted(app, story)
    report(story, found, ledger)


def test_server_killed_when_runs_have_ended(size: Size, entropy: random.Random, tmp_path: Path) -> None:
    """What follows from an end (a failure is handled, a caller goes on) is itself often cut off."""
    with site(tmp_path, "bare") as running:
        story = begin(running, size, entropy, jobs.short_job_of)
        found: list[Ledger] = []
        for moment in story.moments(entropy, size.kills, calls_per_run=3):
            story.wait_for_moment(moment, entropy)
            running.server.kill()
            found.append(Ledger.of_the_dead(running.database, tmp_path / "scratch"))
            running.server.start()
        story.wait_for_end()
        ledger = Ledger.read(running.database)
    for earlier, later in pairwise([*found, ledger]):
        checks.demand(checks.nothing_recorded_changed(earlier, later))
    checks.demand(checks.all_is_well(ledger, story.journal, story.load.accepted))
    report(story, found, ledger)
    print(f"ends that had not been acted on at the kills: {[each.leftovers['outbox'] for each in found]}")


def test_both_killed(size: Size, entropy: random.Random, tmp_path: Path) -> None:
    """As when the machine goes down; either comes back first."""
    with site(tmp_path, "bare") as running:
        story = begin(running, size, entropy)
        found: list[Ledger] = []
        for moment in story.moments(entropy, size.kills):
            story.wait_for_moment(moment, entropy)
            running.server.kill()
            running.app.kill()
            found.append(Ledger.of_the_dead(running.database, tmp_path / "scratch"))
            for victim in entropy.sample([running.server, running.app], 2):
                victim.start()
        story.wait_for_end()
        ledger = Ledger.read(running.database)
    for earlier, later in pairwise([*found, ledger]):
        checks.demand(checks.nothing_recorded_changed(earlier, later))
    checks.demand(checks.all_is_well(ledger, story.journal, story.load.accepted))
    checks.demand(checks.attempts_add_up(ledger, every_call_has_an_answer=False))
    report(story, found, ledger)


def own_sdk_posted(app: str, story: Story) -> None:
    """The own SDK went on only with what was saved, and posted checkpoints of several runs together."""
    if app == "own":
        checks.demand(checks.no_step_runs_behind_its_successor(story.journal))
        together = list(story.journal.of("together", lambda line: line["status"] == 200))
        print(f"checkpoints in {len(together)} requests: {sum(line['count'] for line in together)}")
        assert any(line["count"] > 1 for line in together)


def report(story: Story, found: list[Ledger], ledger: Ledger) -> None:
    """Say what the kills met, and fail if they met nothing: then the test has shown nothing."""
    under_way = [sum(run["status"] == "RUNNING" for run in each.runs.values()) for each in found]
    steps_run = {(line["run"], line["step"]) for line in story.journal.of("ran")}
    extra = story.journal.count("ran") - len(steps_run)
    print(
        f"{len(ledger.runs)} runs, {len(ledger.steps)} steps; runs under way at the kills: {under_way}; "
        f"steps whose code ran again since no result had been recorded: {extra}; "
        f"events sent again: {story.load.again}"
    )
    assert all(under_way)

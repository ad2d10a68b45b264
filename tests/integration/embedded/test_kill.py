"""kill -9 of an app with its engine inside: what was acknowledged ends, and what was saved is not run again."""

from __future__ import annotations

import random

import pytest

from tests.integration.durability.ledger import Ledger, copied
from tests.integration.embedded.apps.worker import STEPS
from tests.integration.embedded.conftest import Size
from tests.integration.embedded.workers import Crew

pytestmark = pytest.mark.slow

STEPS_A_RUN = STEPS + 2


def saved_steps(crew: Crew) -> set[tuple[str, str]]:
    """Run and name of the steps on disk right after a kill."""
    with copied(crew.database, crew.database.with_name("copy")) as copy:
        return {(run, row[0]) for (run, _), row in Ledger.read(copy).steps.items()}


def check(crew: Crew, keys: set[int]) -> None:
    """Each key had one run, which came to its end with the right output, and each of its steps ran."""
    ledger = Ledger.read(crew.database)
    assert len(ledger.runs) == len(keys)
    assert {run["status"] for run in ledger.runs.values()} == {"COMPLETED"}
    ran: dict[int, set[str]] = {}
    for line in crew.lines("ran"):
        ran.setdefault(line["key"], set()).add(line["step"])
    assert ran.keys() == keys
    assert {len(steps) for steps in ran.values()} == {STEPS_A_RUN}
    assert {line["key"] for line in crew.lines("end")} == keys


@pytest.mark.parametrize("flags", [(), ("--one-loop",)], ids=["own-thread", "one-loop"])
def test_a_killed_app_finishes_all_runs_and_repeats_no_saved_step(
    crew: Crew, size: Size, entropy: random.Random, flags: tuple[str, ...]
) -> None:
    total = size.runs * STEPS_A_RUN
    saved: set[tuple[str, str]] = set()
    before = 0
    for moment in sorted(entropy.randrange(total // 20, total * 3 // 4) for _ in range(size.kills)):
        pid = crew.start(0, size.runs, *flags)
        crew.wait_for_steps(max(moment, before + size.runs // 20))
        crew.kill(pid)
        assert not crew.steps_since(before) & saved
        saved, before = saved_steps(crew), len(crew.lines("ran"))
        assert saved, "something was saved, so that the test means something"
        assert crew.completed() < size.runs, "and it was killed in the middle of the work"
    crew.start(0, size.runs, *flags)
    crew.until("the end of all runs", lambda: crew.completed() >= size.runs)
    assert crew.stop() == [0]
    assert not crew.steps_since(before) & saved
    check(crew, set(range(size.runs)))


def test_another_worker_takes_over_from_a_killed_leader(
    crew: Crew, size: Size, entropy: random.Random
) -> None:
    """Four workers, each of which sends; whoever leads is killed in the middle of the work, and again."""
    share = size.runs // 4
    for number in range(4):
        crew.start(number * share, (number + 1) * share)
    for number in range(2):
        crew.wait_for_steps((number + 1) * share * STEPS_A_RUN + entropy.randrange(share))
        leader = crew.until("a leader", crew.leader)
        crew.kill(leader)
        saved, before = saved_steps(crew), len(crew.lines("ran"))
        assert crew.until("another leader", crew.leader) != leader
        crew.wait_for_steps(before + share // 2)
        assert not crew.steps_since(before) & saved
    alive = set(crew.children)
    crew.until(
        "all events of the workers that live",
        lambda: sum(line["pid"] in alive for line in crew.lines("sent")) >= len(alive) * share,
    )
    sent = {line["key"] for line in crew.lines("sent")}
    crew.until("the end of all runs", lambda: crew.completed() == crew.runs() >= len(sent))
    assert crew.stop() == [0, 0]
    done = {line["key"] for line in crew.lines("end")}
    assert sent <= done, "every acknowledged event had its run"
    check(crew, done)

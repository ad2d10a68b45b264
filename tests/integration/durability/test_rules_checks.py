"""The checks of rules themselves: each finds what it is for, and only that, in a few runs made up for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.durability import rules, rules_checks, rules_fates
from tests.integration.durability.journal import Journal
from tests.integration.durability.rules_checks import Death
from tests.integration.durability.rules_ledger import Event, RulesLedger, Run

T = 1_800_000_000_000


def a_run(name: str, function: str, at: int = 0, **more: Any) -> Run:
    given = {
        "status": "COMPLETED",
        "who": "a",
        "events": (1,),
        "started_at": T + at,
        "ended_at": T + at + 100,
    }
    return Run(**{"id": name, "function": function, "created_at": T + at, **given, **more})


def an_event(n: int, function: str, at: int = 0) -> Event:
    return Event(n, f"event-{n}", T + at, function, "a", n)


def a_ledger(runs: Iterable[Run] = (), events: Iterable[Event] = (), **leftovers: int) -> RulesLedger:
    return RulesLedger(
        {run.id: run for run in runs}, {event.n: event for event in events}, leftovers, frozenset()
    )


def a_journal(*lines: dict[str, Any]) -> Journal:
    return Journal(Path("nowhere"), list(lines))


def call(run: str, generation: int = 1, **more: Any) -> dict[str, Any]:
    return {"what": "call", "at": T / 1_000, "run": run, "job": f"{run}.1", "generation": generation,
            "who": "a", "events": [1], **more}  # fmt: skip


def left(run: str, generation: int = 1) -> dict[str, Any]:
    return {"what": "left", "at": T / 1_000, "job": f"{run}.1", "generation": generation}


KEYED = a_ledger([a_run("x", rules.KEYED), a_run("y", rules.KEYED)])
CUT = Death(1, T, T + 500, frozenset({("x.1", 1)}))


def test_limits_are_counted() -> None:
    in_turn = a_journal(call("x"), left("x"), call("y"), left("y"))
    assert not list(rules_checks.no_limit_is_exceeded(in_turn, KEYED, []))
    (found,) = rules_checks.no_limit_is_exceeded(a_journal(call("x"), call("y")), KEYED, [])
    assert "2 calls of keyed a, which has a limit of 1" in found


def test_calls_that_a_kill_has_cut_off_count_until_then() -> None:
    journal = a_journal(call("x"), call("y"))
    assert not list(rules_checks.no_limit_is_exceeded(journal, KEYED, [CUT]))
    late = a_journal(left("z"), call("x"), call("y"))
    assert not list(rules_checks.no_limit_is_exceeded(late, KEYED, [CUT])), "it was sent before the kill"
    both = a_journal(call("x"), call("x", 2), call("y"))
    (found,) = rules_checks.no_limit_is_exceeded(both, KEYED, [CUT])
    assert "2 calls" in found


def test_generations_are_looked_at() -> None:
    for deaths in ([], [CUT]):
        again = a_journal(call("x"), left("x"), call("x"))
        (found,) = rules_checks.no_limit_is_exceeded(again, KEYED, deaths)
        assert "came twice" in found
    back = a_journal(call("x", 2), left("x", 2), call("x"))
    (found,) = rules_checks.no_limit_is_exceeded(back, KEYED, [])
    assert "came after generation 2" in found


@pytest.mark.parametrize("function", [rules.SKIPS, rules.REPLACES])
def test_singletons_that_overlap_are_found(function: str) -> None:
    after = a_ledger([a_run("x", function), a_run("y", function, 100)])
    assert not list(rules_checks.runs_keep_their_places(a_journal(), after))
    over = a_ledger([a_run("x", function), a_run("y", function, 99)])
    (found,) = rules_checks.runs_keep_their_places(a_journal(), over)
    assert "2 runs live" in found


def test_runs_that_the_app_saw_overlap_are_found() -> None:
    runs = a_ledger([a_run("x", rules.SKIPS), a_run("y", rules.SKIPS, 100)])
    ends = {"what": "end", "run": "x", "at": T / 1_000}
    assert not list(rules_checks.runs_keep_their_places(a_journal(call("x"), ends, call("y")), runs))
    (found,) = rules_checks.runs_keep_their_places(a_journal(call("x"), call("y"), ends), runs)
    assert "2 runs live, and 1 may" in found


@pytest.mark.parametrize(("gap", "complaints"), [(250, 0), (249, 1)])
def test_starts_that_are_too_close_are_found(gap: int, complaints: int) -> None:
    found = a_ledger([a_run("x", rules.PACED), a_run("y", rules.PACED, gap)])
    assert len(list(rules_checks.starts_are_spaced(a_journal(), found))) == complaints


@pytest.mark.parametrize(
    ("times", "events", "complaint"),
    [
        ((0, 0, 0, 2_000), (0, 0, 0, 2_000), ""),
        ((0, 0, 0, 1_999), (0, 0, 0, 1_999), "4 runs of rated"),
        ((0, 0, 0), (0, 0, 0, 1_000), ""),
        ((0, 0), (0, 0, 500), "was dropped although there was a place"),
    ],
)
def test_rates_are_counted(times: tuple[int, ...], events: tuple[int, ...], complaint: str) -> None:
    runs = [a_run(f"r{n}", rules.RATED, at, events=(n,)) for n, at in enumerate(times)]
    ledger = a_ledger(runs, [an_event(n, rules.RATED, at) for n, at in enumerate(events)])
    found = list(rules_checks.rate_is_kept(ledger))
    assert len(found) == bool(complaint)
    assert complaint in "".join(found)


@pytest.mark.parametrize(
    ("seconds", "complaint"),
    [
        ((2, 3, 4, 8), ""),
        ((2, 3, 3, 4, 8), "2 runs for the schedule"),
        ((1, 3, 4, 8), "no run for the schedule"),
        ((3, 4, 8, 9), ""),
        ((3, 4, 9, 10), "nothing was made up for"),
        ((3, 4, 6, 8, 9), "when the server was down"),
    ],
)
def test_schedules_are_counted(seconds: tuple[int, ...], complaint: str) -> None:
    # The server was down from 4.2 s to 8.6 s.
    death = Death(0, T + 4_200, T + 8_600, frozenset())
    at = "2027-01-15T08:00:%02dZ"
    runs = [
        a_run(f"{function} {n}", function, s * 1_000, scheduled_at=at % s)
        for function in rules.TICKS
        for n, s in enumerate(seconds)
    ]
    found = list(rules_checks.schedule_is_kept(a_ledger(runs), [death]))
    assert len(found) == len(rules.TICKS) * bool(complaint), found
    assert complaint in "".join(found)


@pytest.mark.parametrize(
    ("batches", "complaint"),
    [
        (((1, 2, 3, 4), (5, 6)), ""),
        (((1, 2, 3, 4), (5,)), "do not hold each event once and in order: {6: 1}"),
        (((1, 2, 3, 4), (4, 5, 6)), "do not hold each event once and in order: {4: -1}"),
        (((1, 2, 4, 3), (5, 6)), "in order"),
        (((1, 2), (3, 4, 5, 6)), "ran 500 ms after it was opened"),
        (((1, 2, 3, 4, 5, 6),), "batch r0 of 6"),
    ],
)
def test_batches_are_counted(batches: tuple[tuple[int, ...], ...], complaint: str) -> None:
    events = [an_event(n, rules.BATCHED) for n in range(1, 7)]
    runs = [
        a_run(f"r{n}", rules.BATCHED, 500 if len(batch) == 2 and n == 0 else 1_500, events=batch)
        for n, batch in enumerate(batches)
    ]
    found = list(rules_fates.each_batched_event_is_in_one_batch(a_journal(), a_ledger(runs, events)))
    assert len(found) == bool(complaint), found
    assert complaint in "".join(found)


@pytest.mark.parametrize(
    ("ran", "complaint"),
    [
        ((2, 3), ""),
        ((1, 2, 3), "event 1 of a has 1 runs"),
        ((3,), "event 2 of a has 0 runs"),
        ((2,), "event 3 of a has 0 runs"),
        ((2, 3, 3), "event 3 of a has 2 runs"),
    ],
)
def test_flurries_are_counted(ran: tuple[int, ...], complaint: str) -> None:
    times = {1: 0, 2: 300, 3: 5_000}
    events = [an_event(n, rules.FLURRY, at) for n, at in times.items()]
    runs = [a_run(f"r{k}", rules.FLURRY, times[n] + 1_000, events=(n,)) for k, n in enumerate(ran)]
    found = list(rules_fates.each_flurry_ran_once(a_ledger(runs, events)))
    assert len(found) == bool(complaint), found
    assert complaint in "".join(found)


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (a_run("x", rules.START_BY, started_at=T + 900), ""),
        (a_run("x", rules.START_BY, started_at=T + 2_000), "was not cancelled"),
        (a_run("x", rules.START_BY, status="CANCELLED", started_at=None, ended_at=T + 1_010), ""),
        (
            a_run("x", rules.START_BY, status="CANCELLED", started_at=None, ended_at=T + 900),
            "was to be cancelled",
        ),
        (a_run("x", rules.FINISH_BY, status="CANCELLED", ended_at=T + 2_000), "was to be cancelled"),
        (a_run("x", rules.FINISH_BY, ended_at=T + 2_000), "was not cancelled"),
    ],
)
def test_timeouts_are_looked_at(run: Run, complaint: str) -> None:
    found = list(rules_fates.timeouts_are_kept(a_ledger([run]), []))
    assert len(found) == bool(complaint), found
    assert complaint in "".join(found)


def test_a_cancellation_may_be_late_by_the_time_the_server_was_down() -> None:
    run = a_run("x", rules.FINISH_BY, status="CANCELLED", ended_at=T + 2_000)
    down = Death(0, T + 900, T + 1_950, frozenset())
    assert not list(rules_fates.timeouts_are_kept(a_ledger([run]), [down]))


def test_other_fates_are_looked_at() -> None:
    lost = a_ledger([], [an_event(1, rules.LIMITED)])
    assert "has 0 runs" in "".join(rules_fates.each_event_has_its_run(lost, {1: "event-1"}))
    assert "acknowledged" in "".join(rules_fates.each_event_has_its_run(a_ledger(), {1: "event-1"}))
    twice = [a_run("x", rules.ONCE), a_run("y", rules.ONCE)]
    events = [an_event(1, rules.ONCE)]
    assert "are one to the rule" in "".join(rules_fates.each_event_has_its_run(a_ledger(twice, events), {}))
    odd = a_ledger([a_run("x", rules.CANCELLABLE)], [an_event(1, rules.CANCELLABLE)])
    assert "is COMPLETED" in "".join(rules_fates.each_event_has_its_run(odd, {}))
    held = a_ledger([a_run("x", rules.HELD, 50)])
    assert "began" in "".join(rules_fates.nothing_began_while_paused(held, [(T, T + 100)]))
    assert not list(rules_fates.nothing_began_while_paused(held, [(T + 60, T + 100)]))
    skipped = a_ledger([a_run("x", rules.SKIPS), a_run("y", rules.SKIPS, 200, status="SKIPPED", holder="x")])
    assert "was skipped" in "".join(rules_fates.skipped_for_one_that_lived(skipped))
    assert list(rules_fates.nothing_is_left(a_ledger(items=2))) == ["2 items are left"]

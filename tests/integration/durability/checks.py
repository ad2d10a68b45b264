"""What must be true of a database and a journal, however often something was killed. Each check gives complaints."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from tests.integration.durability import jobs
from tests.integration.durability.journal import Journal
from tests.integration.durability.ledger import FAILED, FINISHED, Ledger

ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"})
Complaints = Iterator[str]


def demand(complaints: Iterable[str]) -> None:
    """Fail with the first complaints, if there are any."""
    found = list(complaints)
    assert not found, f"{len(found)} complaints:\n" + "\n".join(found[:20])


def nothing_recorded_changed(earlier: Ledger, later: Ledger) -> Complaints:
    """Steps, history and events that were on disk stand as they were, and so do runs that had ended."""
    kinds: dict[str, tuple[Mapping[Any, Any], Mapping[Any, Any]]] = {
        "step": (earlier.steps, later.steps),
        "history entry": (earlier.history, later.history),
        "event": (earlier.events, later.events),
    }
    for kind, (before, after) in kinds.items():
        for key, row in before.items():
            if (now := after.get(key)) != row:
                yield f"{kind} {key} was {row}, now {now}"
    for run_id, run in earlier.runs.items():
        now_run = later.runs.get(run_id)
        if now_run is None or (run["status"] in ENDED and now_run != run):
            yield f"run {run_id} was {run}, now {now_run}"


def calls_carry_what_was_recorded(recorded: Ledger, calls: Iterable[Mapping[str, Any]]) -> Complaints:
    """Calls made after `recorded` was read hold every step result in it: so no such step can run again."""
    of_run: dict[str, dict[str, Any]] = defaultdict(dict)
    for (run_id, step_id), row in recorded.steps.items():
        of_run[run_id][step_id] = json.loads(row[-1])
    for call in calls:
        for step_id, memo in of_run.get(call["run"], {}).items():
            if (seen := call["memos"].get(step_id)) != memo:
                yield f"run {call['run']} step {step_id} is recorded as {memo}, and was called with {seen}"


def every_accepted_event_has_one_run(ledger: Ledger, accepted: Set[tuple[str, str]]) -> Complaints:
    """Each event that was acknowledged, however often it was sent, has one run of its job; nothing else ran."""
    started = Counter(
        (ledger.job(run), run["event_id"])
        for run in ledger.runs.values()
        if run["event_name"].startswith(f"{jobs.APP}/")
    )
    for which in accepted | set(started):
        if started[which] != (which in accepted):
            yield f"{which} has {started[which]} runs"


def failed_for_lack_of_retries(ledger: Ledger, run: Mapping[str, Any]) -> bool:
    """Whether it is a failure handler whose only attempt was cut off: the Python SDK gives them no retries."""
    return ledger.job(dict(run)) in jobs.HANDLERS.values() and run["status"] == "FAILED"


def every_run_ended_once(ledger: Ledger, *, fragile_handlers: bool) -> Complaints:
    """Each run has the end that its job has, once in its history and once as an event."""
    ends = Counter(run_id for (run_id, _), (kind, _) in ledger.history.items() if kind == "ended")
    finished = told_of(ledger, FINISHED)
    for run_id, run in ledger.runs.items():
        job = ledger.job(run)
        status = "FAILED" if job in jobs.HANDLERS else "COMPLETED"
        as_it_should = run["status"] == status or (
            fragile_handlers and failed_for_lack_of_retries(ledger, run)
        )
        if not as_it_should or run["ended_at"] is None:
            yield f"run {run_id} of {job} is {run['status']}, ended at {run['ended_at']}"
        if ends[run_id] != 1:
            yield f"run {run_id} of {job} has {ends[run_id]} ends in its history"
        # What the end of a run has started says nothing of its own end.
        if finished[run_id] != (job not in jobs.HANDLERS.values()):
            yield f"run {run_id} of {job} has {finished[run_id]} events {FINISHED}"
    if unknown := set(finished) - set(ledger.runs):
        yield f"events {FINISHED} of runs that do not exist: {unknown}"
    for table, count in ledger.leftovers.items():
        if count:
            yield f"{count} rows are left in {table}"


def told_of(ledger: Ledger, name: str) -> Counter[str]:
    """How many events of a name there are about each run."""
    return Counter(json.loads(body)["data"]["run_id"] for _, body in ledger.events_named(name))


def failures_are_handled_once(ledger: Ledger) -> Complaints:
    """Each run that failed has one event that says so, and that event one run of the handler."""
    failed = [run["id"] for run in ledger.runs.values() if ledger.job(run) in jobs.HANDLERS]
    if Counter(failed) != told_of(ledger, FAILED):
        yield f"failed: {sorted(failed)}, but events tell of {sorted(told_of(ledger, FAILED).elements())}"
    handlers = jobs.HANDLERS.values()
    handled = Counter(run["event_id"] for run in ledger.runs.values() if ledger.job(run) in handlers)
    told = Counter(internal_id for internal_id, _ in ledger.events_named(FAILED))
    if handled != told:
        yield f"events {FAILED} {told - handled} have no handler, handlers {handled - told} no event"


def parents_got_what_their_children_returned(ledger: Ledger) -> Complaints:
    """Each parent invoked one child, and its step holds what that one returned."""
    children: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in ledger.runs.values():
        if ledger.job(run) in jobs.CHILDREN.values():
            children[str(run["correlation"]).partition(".")[0]].append(run)
    for run in ledger.runs.values():
        if ledger.job(run) not in jobs.CHILDREN:
            continue
        own = children.pop(run["id"], [])
        if len(own) != 1:
            yield f"run {run['id']} has {len(own)} children"
            continue
        step = ledger.steps.get((run["id"], jobs.step_id("invoke")))
        got = json.loads(step[-1]).get("data") if step else None
        if got != json.loads(own[0]["output"]):
            yield f"run {run['id']} got {got}, its child {own[0]['id']} returned {own[0]['output']}"
    if children:
        yield f"children without a parent: {list(children)}"


def results_are_what_the_code_returned(ledger: Ledger, journal: Journal) -> Complaints:
    """Each run has all steps of its job. Their results were returned by the app, carried by all calls, and put out."""
    silent = {*jobs.HANDLERS, *jobs.HANDLERS.values()}
    returned: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line in journal.of("ran"):
        returned[(line["run"], line["step"])].add(line["token"])
    for run_id, run in ledger.runs.items():
        job = ledger.job(run)
        output = json.loads(run["output"] or b"null")
        for name in jobs.step_names(job):
            row = ledger.steps.get((run_id, jobs.step_id(name)))
            if row is None:
                if not failed_for_lack_of_retries(ledger, run):
                    yield f"run {run_id} of {job} has no step {name}"
                continue
            token = (json.loads(row[-1]) or {}).get("data")
            if name in jobs.THIRD.values():
                continue
            if token not in returned[(run_id, name)]:
                yield f"run {run_id} step {name} is {token}; its code returned {returned[(run_id, name)]}"
            if job not in silent and output.get(name) != token:
                yield f"run {run_id} put out {output} but step {name} is {token}"
    yield from calls_agree(ledger, journal)


def calls_agree(ledger: Ledger, journal: Journal) -> Complaints:
    """Every call carried the results that stand in the database in the end."""
    for call in journal.of("call"):
        for step_id, memo in call["memos"].items():
            row = ledger.steps.get((call["run"], step_id))
            if row is None or json.loads(row[-1]) != memo:
                yield f"run {call['run']} step {step_id} was {memo} in a call, and is {row} in the end"


def no_step_runs_behind_its_successor(journal: Journal) -> Complaints:
    """A step is on disk before the function goes on: once a later step has run, no earlier one runs again."""
    furthest: dict[str, int] = defaultdict(lambda: -1)
    for line in journal.of("ran"):
        place = int(line["step"][1:])
        if place < furthest[line["run"]]:
            yield f"run {line['run']}: step {line['step']} ran again after a later one had run"
        furthest[line["run"]] = max(place, furthest[line["run"]])


def attempts_add_up(ledger: Ledger, *, every_call_has_an_answer: bool) -> Complaints:
    """The attempt of each call is the number of failures of the same item before it.

    `every_call_has_an_answer`: the server was never killed, so it noted the end of every call that it made.
    """
    notes: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for (run_id, _), (kind, body) in sorted(ledger.history.items()):
        if kind == "call":
            note = json.loads(body)
            notes[(run_id, note["item"])].append(note)
    for which, calls in notes.items():
        failures = 0
        for number, call in enumerate(calls, 1):
            if call["attempt"] != failures:
                yield f"{which}: attempt {call['attempt']} after {failures} failures"
            if every_call_has_an_answer and call["generation"] != number:
                yield f"{which}: call {number} has generation {call['generation']}"
            failures += "error" in call and not call.get("end", False)
        generations = [call["generation"] for call in calls]
        if generations != sorted(set(generations)):
            yield f"{which}: generations {generations}"


def all_is_well(
    ledger: Ledger, journal: Journal, accepted: Set[tuple[str, str]], *, fragile_handlers: bool = False
) -> Complaints:
    """Everything that holds once all runs have ended. `accepted` are the jobs and ids of the acknowledged events.

    `fragile_handlers`: a failure handler may itself have failed, since the app was killed and gives it one attempt.
    """
    yield from every_accepted_event_has_one_run(ledger, accepted)
    yield from every_run_ended_once(ledger, fragile_handlers=fragile_handlers)
    yield from failures_are_handled_once(ledger)
    yield from parents_got_what_their_children_returned(ledger)
    yield from results_are_what_the_code_returned(ledger, journal)

"""The checks themselves: each finds what it is for. The rows of a clean end are tampered with, one thing at a time."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.durability import checks, jobs
from tests.integration.durability.journal import Journal
from tests.integration.durability.ledger import Ledger, at_rest
from tests.integration.durability.load import Load
from tests.integration.durability.processes import site, until

EVENTS = 20
"""Every kind of job."""


class Clean:
    """A database in which everything has ended as it should, its journal and the accepted events."""

    def __init__(self, database: Path, journal: Journal, accepted: set[tuple[str, str]]) -> None:
        self.database = database
        self.ledger = Ledger.read(database)
        self.journal = journal
        self.accepted = accepted

    def tampered(self, *statements: str) -> Ledger:
        """The ledger of the database after some statements, which leave no trace in it."""
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("BEGIN")
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement
            ledger = Ledger._read(connection)
            connection.rollback()
            return ledger


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Clean:
    with site(tmp_path_factory.mktemp("clean"), "bare") as running:
        journal = Journal(running.journal_path)
        load = Load(running.server.url, journal, EVENTS, EVENTS, random.Random(1))
        load.start()

        def over() -> bool:
            journal.read()
            return load.all_accepted and at_rest(running.database)

        until("the end of all runs", over, 30, running.server.tail)
        load.stop()
        running.server.kill()
    return Clean(running.database, journal, load.accepted)


def test_a_clean_end_has_no_complaints(clean: Clean) -> None:
    checks.demand(checks.all_is_well(clean.ledger, clean.journal, clean.accepted))
    checks.demand(checks.attempts_add_up(clean.ledger, every_call_has_an_answer=True))
    checks.demand(checks.nothing_recorded_changed(clean.ledger, clean.ledger))
    calls = list(clean.journal.of("call"))
    assert any(checks.calls_carry_what_was_recorded(clean.ledger, calls)), (
        "the first calls carried nothing yet"
    )


ONE = "(SELECT id FROM runs WHERE status = 'COMPLETED' AND event_name = 'kill/five' LIMIT 1)"
FAILED = "(SELECT id FROM runs WHERE event_name = 'kill/failing' LIMIT 1)"
CHILD = "(SELECT id FROM runs WHERE event_name = 'inngest/function.invoked' LIMIT 1)"
STEP = f"step_id = '{jobs.step_id('s1')}'"
COPIED = "SELECT shard, run_id, n + 1000, at, kind, body FROM history"
RUN_COLUMNS = (
    "function_id, status, event_id, event_ids, receipts, event_name, created_at, started_at, ended_at, version,"
    " parallel, correlation, original_run_id, output"
)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        pytest.param(f"DELETE FROM runs WHERE id = {ONE}", "has 0 runs", id="run-lost"),
        pytest.param(
            f"INSERT INTO runs (shard, id, {RUN_COLUMNS})"
            f" SELECT shard, 'twice', {RUN_COLUMNS} FROM runs WHERE id = {ONE}",
            "has 2 runs",
            id="run-twice",
        ),
        pytest.param(f"UPDATE runs SET status = 'RUNNING' WHERE id = {ONE}", "is RUNNING", id="run-stuck"),
        pytest.param(f"UPDATE runs SET status = 'FAILED' WHERE id = {ONE}", "is FAILED", id="run-failed"),
        pytest.param(
            f"INSERT INTO history {COPIED} WHERE kind = 'ended' AND run_id = {ONE}",
            "has 2 ends in its history",
            id="ended-twice",
        ),
        pytest.param(
            "INSERT INTO events SELECT shard, receipt + 1000, internal_id, name, id, ts, received_at, internal, body"
            f" FROM events WHERE name = 'inngest/function.finished' AND instr(body, {ONE}) > 0",
            "has 2 events inngest/function.finished",
            id="told-twice",
        ),
        pytest.param(
            f"DELETE FROM events WHERE name = 'inngest/function.finished' AND instr(body, {ONE}) > 0",
            "has 0 events inngest/function.finished",
            id="end-not-told",
        ),
        pytest.param(
            f"DELETE FROM events WHERE name = 'inngest/function.failed' AND instr(body, {FAILED}) > 0",
            "events tell of",
            id="failure-not-told",
        ),
        pytest.param(
            "DELETE FROM runs WHERE id = (SELECT id FROM runs WHERE event_name = 'inngest/function.failed' LIMIT 1)",
            "have no handler",
            id="failure-not-handled",
        ),
        pytest.param(f"DELETE FROM runs WHERE id = {CHILD}", "has 0 children", id="child-lost"),
        pytest.param(
            f"UPDATE runs SET output = '{{}}' WHERE id = {CHILD}", "its child", id="child-returned-something-else"
        ),
        pytest.param(
            f"DELETE FROM steps WHERE {STEP} AND run_id = {ONE}", "has no step s1", id="step-lost"
        ),
        pytest.param(
            f"UPDATE steps SET memo = '{{\"data\":\"other\"}}' WHERE {STEP} AND run_id = {ONE}",
            "its code returned",
            id="result-changed",
        ),
        pytest.param(
            "INSERT INTO outbox VALUES (0, 1, '')", "1 rows are left in outbox", id="event-not-matched"
        ),
    ],
)  # fmt: skip
def test_the_end_is_checked(clean: Clean, statement: str, complaint: str) -> None:
    found = list(checks.all_is_well(clean.tampered(statement), clean.journal, clean.accepted))
    assert any(complaint in each for each in found), found


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        pytest.param(f"UPDATE steps SET memo = 'null' WHERE {STEP} AND run_id = {ONE}", "step", id="step"),
        pytest.param(f"DELETE FROM steps WHERE {STEP} AND run_id = {ONE}", "step", id="step-gone"),
        pytest.param(f"DELETE FROM history WHERE n = 1 AND run_id = {ONE}", "history entry", id="history"),
        pytest.param("DELETE FROM events WHERE receipt = 1", "event", id="event"),
        pytest.param(f"UPDATE runs SET output = '1' WHERE id = {ONE}", "run", id="output"),
        pytest.param(f"UPDATE runs SET status = 'RUNNING' WHERE id = {ONE}", "run", id="reopened"),
    ],
)
def test_changes_of_what_was_recorded_are_found(clean: Clean, statement: str, complaint: str) -> None:
    found = list(checks.nothing_recorded_changed(clean.ledger, clean.tampered(statement)))
    assert any(each.startswith(complaint) for each in found), found


@pytest.mark.parametrize(
    ("attempt", "generation", "complaint"),
    [(1, 1, "attempt 1 after 0 failures"), (0, 2, "call 1 has generation 2")],
)
def test_wrong_attempts_are_found(clean: Clean, attempt: int, generation: int, complaint: str) -> None:
    change = (
        f"UPDATE history SET body = json_set(body, '$.attempt', {attempt}, '$.generation', {generation})"
        f" WHERE rowid = (SELECT min(rowid) FROM history WHERE kind = 'call' AND run_id = {ONE})"
    )
    found = list(checks.attempts_add_up(clean.tampered(change), every_call_has_an_answer=True))
    assert any(complaint in each for each in found), found


def test_a_result_that_a_call_did_not_carry_is_found(clean: Clean) -> None:
    calls = [dict(call) for call in clean.journal.of("call") if call["memos"]]
    last = max(calls, key=lambda call: len(call["memos"]))
    assert not list(checks.calls_carry_what_was_recorded(clean.ledger, [last]))
    some = next(iter(last["memos"]))
    without = {**last, "memos": {**last["memos"], some: None}}
    (complaint,) = checks.calls_carry_what_was_recorded(clean.ledger, [without])
    assert "was called with None" in complaint

"""The records, on SQLite and on PostgreSQL: the same tests, also with many writers at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from examples.opportunity_tracker.database import Database
from examples.opportunity_tracker.records import Records
from examples.opportunity_tracker.settings import Settings, SettingsError
from examples.opportunity_tracker.summary import CallSummary
from tests.example import postgres
from tests.example.conftest import SUMMARY, TRANSCRIPT, Gemini, Starter
from tests.sdk.driver import free_port, until

FOUND = CallSummary.model_validate(SUMMARY)


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    folder = postgres.programs()
    if folder is None:
        pytest.skip("there is no PostgreSQL on this machine (initdb): the example is tested on SQLite alone")
    with postgres.running(folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'folder' / 'tracker.db'}"
        return
    made: str = request.getfixturevalue("postgres_url")
    yield made
    database = Database(made)
    with database.writing() as session:
        session.execute(text("DROP TABLE calls, opportunities"))
    database.close()


@pytest.fixture
def records(url: str) -> Iterator[Records]:
    ticking = iter(range(1_000, 1_000_000))
    database = Database(url)
    yield Records(database, lambda: float(next(ticking)))
    database.close()


def added(records: Records, opportunity: str = "One", transcript: str = TRANSCRIPT) -> str:
    call_id = records.add_call(records.opportunity_named(opportunity), "A call", transcript)
    assert call_id is not None
    return call_id


def test_the_life_of_a_call(records: Records) -> None:
    call_id = added(records, transcript="Grüße 日本語 🎧")
    call = records.call(call_id)
    assert call is not None
    assert (call.status, call.tries, call.transcript) == ("pending", 1, "Grüße 日本語 🎧")
    assert call.opportunity.name == "One"
    records.sent(call_id, 1, "event-1")
    records.sent(call_id, 1, "event-2")
    records.start_parsing(call_id, 1, "run-1")
    records.save_results(call_id, 1, FOUND, "a model")
    records.update_history(call_id)
    call = records.call(call_id)
    assert call is not None
    assert (call.status, call.event_id, call.run_id, call.model) == (
        "completed",
        "event-1",
        "run-1",
        "a model",
    )
    assert call.summary == SUMMARY
    opportunity = records.opportunity(call.opportunity_id)
    assert opportunity is not None
    assert (opportunity.calls_parsed, opportunity.sentiment) == (1, "positive")
    assert opportunity.participants == ["Buyer", "Account executive"]
    assert [one.id for one in opportunity.calls] == [call_id]


def test_failing_and_asking_again(records: Records) -> None:
    call_id = added(records)
    assert records.ask_again(call_id) is None
    records.start_parsing(call_id, 1, "run-1")
    assert records.fail(call_id, 1, "why")
    assert records.ask_again(call_id) == 2
    assert not records.fail(call_id, 1, "late")
    call = records.call(call_id)
    assert call is not None
    assert (call.status, call.tries, call.error, call.run_id) == ("pending", 2, None, None)


def test_which_are_to_be_sent(records: Records) -> None:
    never, taken, begun = added(records), added(records), added(records)
    for call_id in (taken, begun):
        records.sent(call_id, 1, "event")
    records.start_parsing(begun, 1, "run")
    later = records.now() + 1
    assert [call.id for call in records.to_send(later, 0)] == [never]
    assert [call.id for call in records.to_send(0, later)] == [taken]
    assert [call.id for call in records.unfinished(later)] == [never, taken, begun]
    assert records.unfinished(0) == []


def test_what_is_not_there(records: Records) -> None:
    assert records.call("none") is None
    assert records.call("\0") is None
    assert records.opportunity(99) is None
    assert records.add_call(99, "a", "b") is None
    assert records.update_history("none") == 0
    assert records.ask_again("none") is None


def test_many_finish_at_once(url: str) -> None:
    """Each of twelve processes saves a result and works out the history: in the end it holds all of them."""
    databases = [Database(url) for _ in range(12)]
    first = Records(databases[0])
    calls = [added(first) for _ in databases]
    together = threading.Barrier(len(databases))

    def finish(database: Database, call_id: str) -> int:
        own = Records(database)
        together.wait(20)
        own.start_parsing(call_id, 1, "run")
        own.save_results(call_id, 1, FOUND, "a model")
        return own.update_history(call_id)

    with ThreadPoolExecutor(len(databases)) as pool:
        counts = list(pool.map(finish, databases, calls))
    assert max(counts) == len(databases)
    call = first.call(calls[0])
    assert call is not None
    opportunity = first.opportunity(call.opportunity_id)
    assert opportunity is not None
    assert opportunity.calls_parsed == len(databases)
    for database in databases:
        database.close()


def test_many_start_at_once(url: str) -> None:
    """Processes that start together make the tables once, and one opportunity of a name."""
    together = threading.Barrier(6)

    def begin(_: int) -> tuple[Database, int]:
        together.wait(20)
        database = Database(url)
        return database, Records(database).opportunity_named("The same")

    with ThreadPoolExecutor(6) as pool:
        begun = list(pool.map(begin, range(6)))
    assert len({opportunity_id for _, opportunity_id in begun}) == 1
    # The same with tables that are there: nothing holds them up until each has seen that there is none of the name.
    for number in range(5):
        with ThreadPoolExecutor(6) as pool:
            waiting = [pool.submit(Records(one).opportunity_named, f"{number}") for one, _ in begun]
            named = [each.result() for each in waiting]
        assert len(set(named)) == 1
    for database, _ in begun:
        database.close()


def test_a_job_through_it(url: str, start: Starter, fresh_gemini: Gemini) -> None:
    app = start(database_url=url)
    call_id = app.upload(opportunity="Through")
    app.settled(call_id, "completed")
    opportunity_id = app.call(call_id)["opportunity_id"]
    until("the history", lambda: app.history(opportunity_id)["calls_parsed"] == 1)
    assert "Deliveries are logged by hand." in app.http.get(f"/opportunities/{opportunity_id}").text
    app.stop()


@pytest.mark.parametrize(
    ("bad", "message"),
    [("nonsense", "is no URL"), ("mysql://host/x", "may be sqlite:// or postgresql://"), ("", "is no URL")],
)
def test_a_url_that_cannot_be_used(bad: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Database(bad)


def test_postgres_urls_of_older_style() -> None:
    for name in ("postgres", "postgresql"):
        with pytest.raises(OperationalError, match="refused"):
            Database(f"{name}://tracker@127.0.0.1:{free_port()}/x")


def test_the_default_is_a_file_of_its_own() -> None:
    assert Settings().database_url.startswith("sqlite:///.perdure/")

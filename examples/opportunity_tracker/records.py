"""What the app writes down, as verbs. Each write can be repeated without harm.

A step runs again when the app dies after its write and before its answer has arrived, and a job may go on although
somebody has asked for another try meanwhile. So each write of a job names its try and changes nothing for another.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Select, and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload

from examples.opportunity_tracker.database import Database
from examples.opportunity_tracker.summary import CallSummary
from examples.opportunity_tracker.tables import UNFINISHED, Call, Opportunity

T = TypeVar("T")

PAGE = 200
"""Rows that are read at once, at most."""


class Records:
    """Opportunities and their calls. `now` gives the time in Unix seconds."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self.database = database
        self.now = now

    # What people do

    def opportunity_named(self, name: str) -> int:
        """The id of the opportunity of that name, which is made if there is none."""
        chosen = select(Opportunity.id).where(Opportunity.name == name)
        try:
            with self.database.writing() as session:
                found = session.scalar(chosen)
                if found is None:
                    made = Opportunity(name=name, created_at=self.now())
                    session.add(made)
                    session.flush()
                    found = made.id
        except IntegrityError:
            # Somebody else has made it meanwhile.
            found = self._read(lambda session: session.scalars(chosen).one())
        return found

    def add_call(self, opportunity_id: int, title: str, transcript: str) -> str | None:
        """Store a call as `pending`; its id. None if there is no such opportunity."""
        now = self.now()
        with self.database.writing() as session:
            if session.get(Opportunity, opportunity_id) is None:
                return None
            call = Call(
                id=secrets.token_hex(6),
                opportunity_id=opportunity_id,
                title=title,
                transcript=transcript,
                created_at=now,
                changed_at=now,
            )
            session.add(call)
            session.flush()
            return call.id

    def ask_again(self, call_id: str) -> int | None:
        """Make a failed call `pending` again, in its next try; which one. None if it has not failed."""
        return self._next_try(call_id, ("failed",))

    def ask_anew(self, call_id: str) -> int | None:
        """The same for a call whose job is known to have ended without a result."""
        return self._next_try(call_id, UNFINISHED)

    def _next_try(self, call_id: str, statuses: Sequence[str]) -> int | None:
        with self.database.writing() as session:
            call = session.get(Call, call_id, with_for_update=True)
            if call is None or call.status not in statuses:
                return None
            call.status, call.changed_at, call.tries = "pending", self.now(), call.tries + 1
            call.sent_at = call.event_id = call.run_id = call.error = None
            return call.tries

    # What the sending of events writes

    def sent(self, call_id: str, try_number: int, event_id: str) -> None:
        """Note that the server has the event of this try. The first id stays: a repeated event starts no run."""
        self._update(call_id, try_number, sent_at=self.now(), event_id=func.coalesce(Call.event_id, event_id))

    # What the job writes

    def start_parsing(self, call_id: str, try_number: int, run_id: str) -> str:
        """The job has begun: `parsing`."""
        self._update(call_id, try_number, status="parsing", changed_at=self.now(), run_id=run_id, error=None)
        return "parsing"

    def save_results(self, call_id: str, try_number: int, summary: CallSummary, model: str) -> str:
        """Save what was found: `completed`."""
        self._update(
            call_id, try_number, status="completed", changed_at=self.now(), summary=summary.model_dump(), model=model,
            error=None,
        )  # fmt: skip
        return "completed"

    def fail(self, call_id: str, try_number: int, error: str) -> bool:
        """The job has given up. Whether that was news: a call that is completed stays so."""
        return self._update(
            call_id,
            try_number,
            only=(*UNFINISHED, "failed"),
            status="failed",
            changed_at=self.now(),
            error=error,
        )

    def update_history(self, call_id: str) -> int:
        """Work out the history of the call's opportunity from all its completed calls; how many there are.

        It is made anew each time, so that it is right however often and in which order this runs.
        """
        with self.database.writing() as session:
            owner = select(Call.opportunity_id).where(Call.id == call_id).scalar_subquery()
            # Two calls may be done at the same time: the second waits here, and then sees the first.
            chosen = select(Opportunity).where(Opportunity.id == owner).with_for_update()
            opportunity = session.scalar(chosen)
            if opportunity is None:
                return 0
            done = session.scalars(
                select(Call)
                .where(Call.opportunity_id == opportunity.id, Call.summary.is_not(None))
                .order_by(Call.created_at)
            ).all()
            _write_history(opportunity, done)
            return len(done)

    def _update(
        self, call_id: str, try_number: int, only: Sequence[str] | None = None, **columns: object
    ) -> bool:
        chosen = update(Call).where(Call.id == call_id, Call.tries == try_number)
        if only is not None:
            chosen = chosen.where(Call.status.in_(only))
        with self.database.writing() as session:
            done = session.execute(chosen.values(**columns).returning(Call.id)).first()
        return done is not None

    # What is asked

    def opportunities(self) -> Sequence[Opportunity]:
        """The newest ones, with their calls."""
        chosen = (
            select(Opportunity)
            .options(joinedload(Opportunity.calls))
            .order_by(Opportunity.id.desc())
            .limit(PAGE)
        )
        return self._read(lambda session: session.scalars(chosen).unique().all())

    def opportunity(self, opportunity_id: int) -> Opportunity | None:
        """One with its calls."""
        return self._read(
            lambda session: session.get(Opportunity, opportunity_id, options=[joinedload(Opportunity.calls)])
        )

    def call(self, call_id: str) -> Call | None:
        """One with its opportunity."""
        # Anything can stand in an address, also what PostgreSQL takes for no text.
        if not call_id.isalnum():
            return None
        return self._read(lambda session: session.get(Call, call_id, options=[joinedload(Call.opportunity)]))

    def to_send(self, not_taken_since: float, waiting_since: float) -> Sequence[Call]:
        """Calls in `pending` whose event is to be sent (again).

        Its event was not taken and the call is older than the first time, or it was last sent before the second and
        no job has begun: the server may not have known the job yet when it took the event.
        """
        never = and_(Call.sent_at.is_(None), Call.changed_at < not_taken_since)
        return self._calls(
            select(Call).where(Call.status == "pending", or_(never, Call.sent_at < waiting_since))
        )

    def unfinished(self, before: float) -> Sequence[Call]:
        """Calls in `pending` or `parsing` that have not changed since before that time."""
        return self._calls(select(Call).where(Call.status.in_(UNFINISHED), Call.changed_at < before))

    def _calls(self, chosen: Select[Call]) -> Sequence[Call]:
        return self._read(lambda session: session.scalars(chosen.order_by(Call.created_at).limit(PAGE)).all())

    def _read(self, ask: Callable[[Session], T]) -> T:
        with self.database.reading() as session:
            return ask(session)


def _write_history(opportunity: Opportunity, calls: Sequence[Call]) -> None:
    """Lists hold what any call brought up, the newest first; the rest is from the newest call that says it."""
    summaries = [CallSummary.model_validate(call.summary) for call in reversed(calls)]
    opportunity.calls_parsed = len(summaries)
    opportunity.last_call_at = calls[-1].created_at if calls else None
    opportunity.sentiment = next((one.sentiment for one in summaries), None)
    opportunity.budget = next((one.budget for one in summaries if one.budget), None)
    opportunity.timeline = next((one.timeline for one in summaries if one.timeline), None)
    opportunity.participants = _distinct(person.name for one in summaries for person in one.participants)
    opportunity.pain_points = _distinct(text for one in summaries for text in one.pain_points)
    opportunity.objections = _distinct(text for one in summaries for text in one.objections)
    # Those of older calls are done, or were agreed on again.
    opportunity.next_steps = next((one.next_steps for one in summaries if one.next_steps), list[str]())


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))

"""The app without its web side: what a person can do, put together from records, jobs and the sending of events."""

from __future__ import annotations

import datetime

from starlette.concurrency import run_in_threadpool

import perdure
from examples.opportunity_tracker.database import Database
from examples.opportunity_tracker.jobs import EmailWanted, make_jobs
from examples.opportunity_tracker.records import Records
from examples.opportunity_tracker.sending import CallSender
from examples.opportunity_tracker.settings import Settings


class Tracker:
    """What pages, the API and scripts work with."""

    def __init__(self, settings: Settings) -> None:
        """Open the database. Raises SettingsError, or SQLAlchemyError if there is none."""
        self.settings = settings
        self.records = Records(Database(settings.database_url))
        self.jobs: perdure.App = make_jobs(settings, self.records)
        self.sender = CallSender(self.jobs, self.records, settings)

    async def upload(self, opportunity_id: int, title: str | None, transcript: str) -> tuple[str, str | None]:
        """Store a call as `pending` and send its event: its id, and the event's, None if that is to be sent later.

        Raises LookupError if there is no such opportunity.
        """
        now = datetime.datetime.fromtimestamp(self.records.now(), datetime.UTC)
        called = title or f"Call of {now:%d %b %Y, %H:%M}"
        call_id = await run_in_threadpool(self.records.add_call, opportunity_id, called, transcript)
        if call_id is None:
            raise LookupError(f"There is no opportunity {opportunity_id}.")
        return call_id, await self.sender.send(call_id, 1)

    async def retry(self, call_id: str) -> bool:
        """Have a failed call parsed once more. False if it has not failed, or is not there."""
        try_number = await run_in_threadpool(self.records.ask_again, call_id)
        if try_number is None:
            return False
        await self.sender.send(call_id, try_number)
        return True

    async def email(self, to: str, subject: str, body: str) -> None:
        """Have an email sent. Raises SendError if the server does not take the event."""
        await self.jobs.send(EmailWanted(to=to, subject=subject, body=body))

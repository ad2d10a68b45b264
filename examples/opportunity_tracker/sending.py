"""Sending the event of a call, so that none waits for ever.

A call is stored first, then its event is sent. Between the two the app can be killed, and the server can be down. So
the event has an id made of the call and its try, by which the server starts one run however often it is sent, and
what may not have arrived is sent again.
"""

from __future__ import annotations

import asyncio
import logging
import time

import perdure
from examples.opportunity_tracker.jobs import TranscriptUploaded, transcript_uploaded
from examples.opportunity_tracker.records import Records
from examples.opportunity_tracker.settings import Settings

log = logging.getLogger("opportunity_tracker")


class CallSender:
    """Sends the events of calls."""

    def __init__(self, app: perdure.App, records: Records, settings: Settings) -> None:
        self._app = app
        self._records = records
        self._settings = settings

    async def send(self, call_id: str, try_number: int) -> str | None:
        """Send the event of a call's try; the server's id of it. None if the server did not take it in time."""
        event = transcript_uploaded(
            TranscriptUploaded(call_id=call_id, try_number=try_number), id=f"call-{call_id}-{try_number}"
        )
        try:
            (event_id,) = await asyncio.wait_for(self._app.send(event), self._settings.send_timeout)
        except (perdure.SendError, TimeoutError) as error:
            log.warning(
                "The event of call %s was not taken (%s). It is sent again every %g s.",
                call_id, str(error) or "no answer", self._settings.resend_every,
            )  # fmt: skip
            return None
        await asyncio.to_thread(self._records.sent, call_id, try_number, event_id)
        return event_id

    async def sweep(self) -> int:
        """Send again what has been waiting or in work for long; how many the server took.

        If the job runs, the server drops the event as one that it has: its id is the same.
        """
        before = self._records.now() - self._settings.stuck_after
        calls = await asyncio.to_thread(self._records.unfinished, before)
        for done, call in enumerate(calls):
            if await self.send(call.id, call.tries) is None:
                return done
        return len(calls)

    async def keep_sending(self) -> None:
        """Until cancelled, sweep, and send again what no server has taken, or no job has begun with.

        It sweeps more than once: a server that has started together with the app, without its data, takes the events of
        the first sweep before it knows the jobs.
        """
        sweep_at = time.monotonic()
        while True:
            try:
                if time.monotonic() >= sweep_at:
                    sweep_at += self._settings.stuck_after
                    await self.sweep()
                await self._send_again()
            except Exception:
                log.exception("Events could not be sent again; the next attempt is in a moment.")
            await asyncio.sleep(self._settings.resend_every)

    async def _send_again(self) -> None:
        now = self._records.now()
        since = (now - self._settings.resend_every, now - self._settings.stuck_after)
        for call in await asyncio.to_thread(self._records.to_send, *since):
            if await self.send(call.id, call.tries) is None:
                return

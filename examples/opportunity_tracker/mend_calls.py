"""Find calls that are stuck in `pending` or `parsing`, and re-drive or mark them.

    python -m examples.opportunity_tracker.mend_calls --dry-run    # only tell
    python -m examples.opportunity_tracker.mend_calls              # send stuck ones again
    python -m examples.opportunity_tracker.mend_calls --mark       # mark them as failed instead

An age does not tell a stuck call from one in work: a step may wait a long time for its next try. The server can, so it
is asked for the run of each call. It takes the settings of the app, and PERDURE_URL.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import httpx2
import pydantic
from sqlalchemy.exc import SQLAlchemyError

from examples.opportunity_tracker.settings import SettingsError, read_settings
from examples.opportunity_tracker.summary import CallSummary
from examples.opportunity_tracker.tables import Call
from examples.opportunity_tracker.tracker import Tracker

ENDED = frozenset(("Completed", "Failed", "Cancelled", "Skipped"))


class ServerError(Exception):
    """The server could not say which runs there are. The text says why."""


class Failure(pydantic.BaseModel):
    """What a run gives that has failed."""

    message: str = "the server gives no reason"


class Run(pydantic.BaseModel):
    """A run as the server shows it."""

    run_id: str
    status: str
    output: object = None

    def summary(self) -> CallSummary | None:
        """What the job found, if it has ended well."""
        try:
            return CallSummary.model_validate(self.output) if self.status == "Completed" else None
        except pydantic.ValidationError:
            return None

    def reason(self) -> str:
        """Why it has failed."""
        try:
            return Failure.model_validate(self.output).message
        except pydantic.ValidationError:
            return Failure().message


@dataclass(frozen=True)
class Finding:
    """What was found out about a call, and what was done (or would be, in a dry run)."""

    call_id: str
    status: str
    found: str
    action: str

    def __str__(self) -> str:
        return f"call {self.call_id} ({self.status}): {self.found}; {self.action}"


class Mender:
    """Looks at the calls of a tracker. `mark` marks instead of sending again, `dry` changes nothing."""

    def __init__(
        self, tracker: Tracker, http: httpx2.AsyncClient, mark: bool = False, dry: bool = False
    ) -> None:
        self._tracker = tracker
        self._records = tracker.records
        self._http = http
        self._mark = mark
        self._dry = dry

    async def mend(self, older_than: float) -> list[Finding]:
        """What was found of each call that has not changed for so many seconds. Raises ServerError."""
        calls = self._records.unfinished(self._records.now() - older_than)
        return [await self._mend(call) for call in calls]

    async def _mend(self, call: Call) -> Finding:
        runs = await self._runs(call)
        if live := [run for run in runs if run.status not in ENDED]:
            return self._finding(call, f"run {live[0].run_id} is {live[0].status.lower()}", "left alone")
        if not runs:
            return await self._redrive(call)
        run = runs[0]
        found = f"run {run.run_id} has ended as {run.status.lower()}"
        if (summary := run.summary()) is not None:
            if not self._dry:
                self._records.save_results(call.id, call.tries, summary, self._tracker.settings.gemini_model)
                self._records.update_history(call.id)
            return self._finding(call, found, "saved its result: completed")
        return self._fail(call, found, f"Its run was {run.status.lower()}: {run.reason()}")

    async def _redrive(self, call: Call) -> Finding:
        sent = call.sent_at is not None
        found = (
            "the server has its event and no run of it" if sent else "its event has not reached the server"
        )
        if self._mark:
            return self._fail(call, found, "No job was working on it any more. Retry parsing.")
        if self._dry:
            return self._finding(call, found, "would be sent again")
        # An event that was taken once starts nothing under the same id: the next try has another.
        try_number = self._records.ask_anew(call.id) if sent else call.tries
        taken = try_number is not None and await self._tracker.sender.send(call.id, try_number) is not None
        return self._finding(
            call, found, "sent again" if taken else "could not be sent; the app goes on trying"
        )

    def _fail(self, call: Call, found: str, error: str) -> Finding:
        if not self._dry:
            self._records.fail(call.id, call.tries, error)
        return self._finding(call, found, "marked as failed")

    def _finding(self, call: Call, found: str, action: str) -> Finding:
        return Finding(call.id, call.status, found, f"(dry run) {action}" if self._dry else action)

    async def _runs(self, call: Call) -> list[Run]:
        """The runs of a call's try, newest first: by its event, else by the run that its first step wrote down."""
        shown: list[object] = []
        if call.event_id is not None:
            shown = await self._get(f"/v1/events/{call.event_id}/runs") or []
        if not shown and call.run_id is not None:
            shown = [one] if (one := await self._get(f"/v1/runs/{call.run_id}")) else []
        runs = [Run.model_validate(one) for one in shown]
        return sorted(runs, key=lambda run: run.run_id, reverse=True)

    async def _get(self, path: str) -> Any:
        """The `data` of an answer of the server; None if there is no such thing. Raises ServerError."""
        settings = self._tracker.jobs.settings
        token = settings.bearers()[0]
        headers = {"authorization": f"Bearer {token}"} if token else {}
        try:
            answer = await self._http.get(settings.api_url + path, headers=headers)
        except httpx2.TransportError as error:
            raise ServerError(f"The server at {settings.api_url} cannot be reached ({error}).") from error
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise ServerError(
                f"The server answered {path} with HTTP {answer.status_code}: {answer.text[:200]}"
            )
        return answer.json()["data"]


async def mend(older_than: float, mark: bool, dry: bool) -> list[Finding]:
    """Mend with the settings of the environment. Raises ServerError, SettingsError or SQLAlchemyError."""
    tracker = Tracker(read_settings())
    async with httpx2.AsyncClient(timeout=20) as http:
        return await Mender(tracker, http, mark, dry).mend(older_than)


def main(arguments: list[str] | None = None) -> int:
    """Print what was found. 0 if every call was looked at, 1 if that was not possible."""
    parser = argparse.ArgumentParser(description="Find calls that are stuck, and re-drive or mark them.")
    parser.add_argument("--older-than", type=float, default=60, help="seconds without a change (60)")
    parser.add_argument(
        "--mark", action="store_true", help="mark stuck calls as failed; do not send them again"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    chosen = parser.parse_args(arguments)
    try:
        findings = asyncio.run(mend(chosen.older_than, chosen.mark, chosen.dry_run))
    except (ServerError, SettingsError, SQLAlchemyError) as error:
        print(f"{error} Nothing was changed after that.", file=sys.stderr)
        return 1
    print("\n".join(map(str, findings)) or "No call is waiting or in work for that long.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The background jobs: what is done for an uploaded transcript, and the sending of email.

Each step is tried until it has succeeded once, at most four times, and is never run again after that.
"""

from __future__ import annotations

from pydantic import BaseModel

import perdure
from examples.opportunity_tracker.gemini import ask_gemini
from examples.opportunity_tracker.mail import send_mail
from examples.opportunity_tracker.records import Records
from examples.opportunity_tracker.settings import Settings
from examples.opportunity_tracker.summary import CallSummary

APP = "opportunity-tracker"
PARSE_JOB = "Parse a call transcript"

# What it says is shown on the run, too.
log = perdure.logger("opportunity_tracker")


class TranscriptUploaded(BaseModel):
    """A transcript is to be parsed, for the `try_number`th time, from 1."""

    call_id: str
    try_number: int = 1


class EmailWanted(BaseModel):
    """An email to be sent."""

    to: str
    subject: str
    body: str


transcript_uploaded = perdure.event("call/transcript.uploaded", TranscriptUploaded)
email_wanted = perdure.event("email/send", EmailWanted)


def make_jobs(settings: Settings, records: Records) -> perdure.App:
    """The app of this name at Perdure's server, with its jobs, which write to these records."""
    app = perdure.App(APP)

    def ask(call_id: str) -> CallSummary:
        call = records.call(call_id)
        if call is None:
            raise perdure.NonRetriableError(
                f"There is no call {call_id} in {records.database.url.render_as_string()}: was it removed?"
            )
        log.info("Asking %s about %d words.", settings.gemini_model, len(call.transcript.split()))
        return ask_gemini(settings, call.transcript)

    def mark_failed(failure: perdure.FailureData) -> bool:
        asked = TranscriptUploaded.model_validate(failure.event["data"])
        return records.fail(asked.call_id, asked.try_number, str(failure.error.get("message")))

    async def on_failure(failure: perdure.FailureData, step: perdure.Step) -> None:
        await step.run("mark-failed", mark_failed, failure)

    @app.function(
        transcript_uploaded, id="parse-transcript", name=PARSE_JOB, retries=3, on_failure=on_failure
    )
    async def parse_transcript(event: TranscriptUploaded, step: perdure.Step) -> CallSummary:
        call_id, try_number = event.call_id, event.try_number
        await step.run("update-status-parsing", records.start_parsing, call_id, try_number, step.run_id)
        summary = await step.run("parse-transcript", ask, call_id)
        await step.run(
            "save-results", records.save_results, call_id, try_number, summary, settings.gemini_model
        )
        await step.run("update-opportunity-history", records.update_history, call_id)
        return summary

    @app.function(email_wanted, id="send-email", name="Send an email")
    async def send_email(event: EmailWanted, step: perdure.Step) -> str:
        return await step.run(
            "send-email", send_mail, settings.mail, event.to, event.subject, event.body, step.run_id
        )

    return app

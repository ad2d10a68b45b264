"""The background job: four steps. Each is tried until it has succeeded once, and never run again after that."""

from __future__ import annotations

import asyncio
import os

import inngest

from examples.call_transcripts.parsing import ParsedCall, parse_transcript
from examples.call_transcripts.records import CallRecords

APP_ID = "call-transcripts"
JOB_ID = "parse-call-transcript"
EVENT = "call/transcript.uploaded"
DEFAULT_SERVER = "http://127.0.0.1:8288"


def make_client() -> inngest.Inngest:
    """The official SDK's client, in its development mode, for the server that INNGEST_BASE_URL names."""
    server = os.environ.get("INNGEST_BASE_URL", DEFAULT_SERVER)
    return inngest.Inngest(
        app_id=APP_ID,
        is_production=False,
        api_base_url=server,
        event_api_base_url=server,
        request_timeout=5_000,
    )


def make_job(client: inngest.Inngest, records: CallRecords) -> inngest.Function[dict[str, str]]:
    """The function "parse a call transcript", writing to these records."""

    async def give_up(ctx: inngest.Context) -> None:
        failed = ctx.event.data
        original, error = failed.get("event"), failed.get("error")
        if isinstance(original, dict) and isinstance(data := original.get("data"), dict):
            message = error.get("message") if isinstance(error, dict) else error
            records.fail(str(data["call_id"]), str(message))

    @client.create_function(
        fn_id=JOB_ID,
        name="Parse a call transcript",
        trigger=inngest.TriggerEvent(event=EVENT),
        retries=3,
        on_failure=give_up,
    )
    async def parse_call(ctx: inngest.Context) -> dict[str, str]:
        call_id, opportunity = str(ctx.event.data["call_id"]), str(ctx.event.data["opportunity"])

        async def update_status_parsing() -> str:
            records.count_try(call_id, "update-status-parsing")
            records.parsing(call_id)
            return "parsing"

        async def parse() -> ParsedCall:
            return await parse_stored_call(records, call_id)

        async def save_parsed_results(parsed: ParsedCall) -> str:
            records.count_try(call_id, "save-parsed-results")
            records.complete(call_id, parsed)
            return "completed"

        async def update_opportunity_history(parsed: ParsedCall) -> str:
            records.count_try(call_id, "update-opportunity-history")
            summary = f"{parsed['words']} words, {len(parsed['next_steps'])} next steps"
            records.add_history(call_id, opportunity, summary)
            return summary

        await ctx.step.run("update-status-parsing", update_status_parsing)
        parsed = await ctx.step.run("parse-transcript", parse)
        await ctx.step.run("save-parsed-results", save_parsed_results, parsed)
        summary = await ctx.step.run("update-opportunity-history", update_opportunity_history, parsed)
        return {"call_id": call_id, "summary": summary}

    return parse_call


async def parse_stored_call(records: CallRecords, call_id: str) -> ParsedCall:
    """Parse the call's transcript, after the seconds and the failures that the call asks for."""
    tries = records.count_try(call_id, "parse-transcript")
    call = records.find(call_id)
    if call is None:
        raise inngest.NonRetriableError(
            f"there is no call {call_id} in {records.path}: was the file removed?"
        )
    await asyncio.sleep(call["takes_seconds"])
    if records.take_failure(call_id):
        raise RuntimeError(f"try {tries} of parse-transcript failed, as fail_first={call['fail_first']} asks")
    return parse_transcript(call["transcript"])

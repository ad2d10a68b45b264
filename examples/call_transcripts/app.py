"""The web side: `POST /calls` stores a call and answers at once; the job does the rest in the background.

    uvicorn examples.call_transcripts.app:app --port 8000

`make run` starts it together with the server. Settings, from the environment:

    INNGEST_BASE_URL  where the server is (http://127.0.0.1:8288)
    CALLS_DB          the file of this app's records (.perdure/example/calls.db)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import fastapi
import inngest
import inngest.fast_api
from pydantic import BaseModel, Field, StringConstraints

from examples.call_transcripts.job import EVENT, make_client, make_job
from examples.call_transcripts.records import CallRecords

DEFAULT_RECORDS = ".perdure/example/calls.db"
# A call whose event did not reach the server is sent again this often.
RESEND_SECONDS = 5.0
# The person who uploads a call is not kept waiting for a server that does not answer.
SEND_SECONDS = 2.0

log = logging.getLogger("uvicorn.error")


class NewCall(BaseModel):
    """The body of `POST /calls`. The last two fields are there to try out failures."""

    transcript: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1_000_000)]
    opportunity: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "demo"
    fail_first: int = Field(
        default=0, ge=0, le=100, description="let the parse step fail this many times first"
    )
    takes_seconds: float = Field(
        default=0, ge=0, le=600, description="let each try of the parse step take so long"
    )


def create_app() -> fastapi.FastAPI:
    """The app with its routes and its job. Opens the file of records."""
    records = CallRecords(Path(os.environ.get("CALLS_DB", DEFAULT_RECORDS)))
    client = make_client()

    async def send(call_id: str) -> str | None:
        """Send the call's event; its id at the server. None: not taken, to be sent again."""
        call = records.find(call_id)
        if call is None:
            return None
        event = inngest.Event(
            name=EVENT,
            # With an id of its own the event starts one run, however often it is sent.
            id=f"call-{call_id}",
            data={"call_id": call_id, "opportunity": call["opportunity"]},
        )
        try:
            ids = await asyncio.wait_for(client.send(event), SEND_SECONDS)
        except Exception as error:  # whatever kept it from being accepted, the answer is to send it again
            log.warning(
                "event of call %s not sent (%r); trying again every %g s", call_id, error, RESEND_SECONDS
            )
            return None
        records.sent(call_id, ids[0])
        return ids[0]

    async def resend() -> None:
        while True:
            for call_id in records.unsent(time.time() - RESEND_SECONDS):
                if await send(call_id) is None:
                    break
            await asyncio.sleep(RESEND_SECONDS)

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(resend())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    app = fastapi.FastAPI(title="Call transcripts", lifespan=lifespan)

    @app.post("/calls", status_code=202)
    async def upload(new: NewCall) -> dict[str, Any]:
        """Store a call and start its job."""
        call_id = uuid.uuid4().hex[:12]
        records.add(call_id, new.opportunity, new.transcript, new.fail_first, new.takes_seconds, time.time())
        event_id = await send(call_id)
        return {"id": call_id, "status": "pending", "watch": f"/calls/{call_id}", "event_id": event_id}

    @app.get("/calls/{call_id}")
    async def show(call_id: str) -> dict[str, Any]:
        """A call, its status, and its result when there is one."""
        call = records.find(call_id)
        if call is None:
            raise fastapi.HTTPException(404, f"There is no call {call_id}.")
        hidden = ("transcript", "created_at", "fail_first", "takes_seconds", "failures")
        return {key: value for key, value in call.items() if key not in hidden}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    inngest.fast_api.serve(app, client, [make_job(client, records)])
    return app


app = create_app()

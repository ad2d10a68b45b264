"""The old way, to compare: the work is done after the response, in the same process.

    uvicorn examples.opportunity_tracker.old_way:create_app --factory

Same database, same question to Gemini, same addresses for uploading and watching. But nobody except this process
knows that there is work: if it ends, the call stays `parsing` for ever, and a passing error fails it at once.
"""

from __future__ import annotations

from typing import Any

import fastapi

from examples.opportunity_tracker.api import call_json, opportunity_json
from examples.opportunity_tracker.database import Database
from examples.opportunity_tracker.gemini import ask_gemini
from examples.opportunity_tracker.records import Records
from examples.opportunity_tracker.settings import Settings, read_settings
from examples.opportunity_tracker.uploads import NewCall


def create_app(settings: Settings | None = None) -> fastapi.FastAPI:
    """The app without Perdure."""
    chosen = settings or read_settings()
    records = Records(Database(chosen.database_url))
    web = fastapi.FastAPI(title="Opportunity Tracker, the old way")

    def parse(call_id: str, transcript: str) -> None:
        records.start_parsing(call_id, 1, run_id="")
        try:
            summary = ask_gemini(chosen, transcript)
        except Exception as error:
            records.fail(call_id, 1, str(error))
            return
        records.save_results(call_id, 1, summary, chosen.gemini_model)
        records.update_history(call_id)

    @web.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "model": chosen.model}

    @web.post("/api/calls", status_code=202)
    def upload(new: NewCall, background: fastapi.BackgroundTasks) -> dict[str, Any]:
        """Store a call, and parse it once the answer is out."""
        opportunity_id = records.opportunity_named(new.opportunity)
        call_id = records.add_call(opportunity_id, new.title or "A call", new.transcript)
        assert call_id is not None
        background.add_task(parse, call_id, new.transcript)
        watch = f"/api/calls/{call_id}"
        return {"id": call_id, "status": "pending", "watch": watch, "page": watch}

    @web.get("/api/calls/{call_id}")
    def show(call_id: str) -> dict[str, Any]:
        """A call and its status."""
        call = records.call(call_id)
        if call is None:
            raise fastapi.HTTPException(404, f"There is no call {call_id}.")
        return call_json(call)

    @web.get("/api/opportunities/{opportunity_id}")
    def show_opportunity(opportunity_id: int) -> dict[str, Any]:
        """An opportunity with the history of its parsed calls."""
        found = records.opportunity(opportunity_id)
        if found is None:
            raise fastapi.HTTPException(404, f"There is no opportunity {opportunity_id}.")
        return opportunity_json(found)

    return web

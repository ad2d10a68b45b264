"""The app's JSON API, for scripts and other programs."""

from __future__ import annotations

from typing import Any

import fastapi
from starlette.concurrency import run_in_threadpool

from examples.opportunity_tracker.tables import Call, Opportunity
from examples.opportunity_tracker.tracker import Tracker
from examples.opportunity_tracker.uploads import LARGEST_BODY, NewCall, NewOpportunity


def api_routes(tracker: Tracker) -> fastapi.APIRouter:
    """The routes under `/api`, and `/health`."""
    router = fastapi.APIRouter(max_body_size=LARGEST_BODY)
    records = tracker.records

    @router.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok", "model": tracker.settings.model}

    @router.post("/api/opportunities", status_code=201)
    def add_opportunity(new: NewOpportunity) -> dict[str, Any]:
        """The opportunity of that name, made if there is none."""
        return {"id": records.opportunity_named(new.name), "name": new.name}

    @router.get("/api/opportunities/{opportunity_id}")
    def show_opportunity(opportunity_id: int) -> dict[str, Any]:
        """An opportunity with the history of its parsed calls."""
        found = records.opportunity(opportunity_id)
        if found is None:
            raise fastapi.HTTPException(404, f"There is no opportunity {opportunity_id}.")
        return opportunity_json(found)

    @router.post("/api/calls", status_code=202)
    async def upload(new: NewCall) -> dict[str, Any]:
        """Store a call and send its event. The job does the rest in the background."""
        opportunity_id = await run_in_threadpool(records.opportunity_named, new.opportunity)
        call_id, event_id = await tracker.upload(opportunity_id, new.title, new.transcript)
        return {
            "id": call_id,
            "status": "pending",
            "opportunity_id": opportunity_id,
            "event_id": event_id,
            "watch": f"/api/calls/{call_id}",
            "page": f"/calls/{call_id}",
        }

    @router.get("/api/calls/{call_id}")
    def show_call(call_id: str) -> dict[str, Any]:
        """A call, its status, and its summary when there is one."""
        return call_json(_found(records.call(call_id), call_id))

    @router.post("/api/calls/{call_id}/retry", status_code=202)
    async def retry(call_id: str) -> dict[str, Any]:
        """Parse a failed call once more. 409 if it has not failed."""
        if not await tracker.retry(call_id):
            call = _found(await run_in_threadpool(records.call, call_id), call_id)
            raise fastapi.HTTPException(
                409, f"Call {call_id} is {call.status}: only a failed one can be retried."
            )
        return call_json(_found(await run_in_threadpool(records.call, call_id), call_id))

    return router


def _found(call: Call | None, call_id: str) -> Call:
    if call is None:
        raise fastapi.HTTPException(404, f"There is no call {call_id}.")
    return call


def call_json(call: Call) -> dict[str, Any]:
    """A call as the API shows it. Times are Unix seconds."""
    names = (
        "id", "opportunity_id", "title", "status", "tries", "error", "summary", "model", "event_id", "run_id",
        "created_at", "changed_at",
    )  # fmt: skip
    return {name: getattr(call, name) for name in names}


def opportunity_json(opportunity: Opportunity) -> dict[str, Any]:
    """An opportunity as the API shows it."""
    names = (
        "id", "name", "created_at", "calls_parsed", "last_call_at", "sentiment", "budget", "timeline", "participants",
        "pain_points", "objections", "next_steps",
    )  # fmt: skip
    calls = [{"id": call.id, "title": call.title, "status": call.status} for call in opportunity.calls]
    return {**{name: getattr(opportunity, name) for name in names}, "calls": calls}

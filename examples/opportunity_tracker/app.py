"""The app: pages, an API, and the jobs, in one process.

    uvicorn examples.opportunity_tracker.app:create_app --factory

`make run` starts it together with the server. The settings are in settings.py.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import fastapi
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse
from starlette.staticfiles import StaticFiles

from examples.opportunity_tracker.api import api_routes
from examples.opportunity_tracker.pages import page_routes
from examples.opportunity_tracker.settings import Settings, read_settings
from examples.opportunity_tracker.tracker import Tracker

HERE = Path(__file__).parent
JOBS_PATH = "/api/inngest"
"""Where servers look for apps by themselves."""


def refuse(_: fastapi.Request, error: Exception) -> JSONResponse:
    """What is wrong with which field, as FastAPI says it, without the input: that may be long, or no text at all."""
    assert isinstance(error, RequestValidationError)
    shown = [{name: one[name] for name in ("type", "loc", "msg")} for one in error.errors()]
    return JSONResponse({"detail": shown}, 422)


def create_app(settings: Settings | None = None) -> fastapi.FastAPI:
    """The web app. Settings come from the environment unless they are given."""
    tracker = Tracker(settings or read_settings())

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncGenerator[None]:
        sending = asyncio.create_task(tracker.sender.keep_sending())
        yield
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        tracker.records.database.close()

    web = fastapi.FastAPI(title="Opportunity Tracker", lifespan=lifespan)
    web.state.tracker = tracker
    web.add_exception_handler(RequestValidationError, refuse)
    web.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    web.include_router(api_routes(tracker))
    web.include_router(page_routes(tracker))
    tracker.jobs.mount(web, JOBS_PATH)
    return web

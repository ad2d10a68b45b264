"""The pages. A part of a page that changes by itself is a template of its own, with a route that gives it alone."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import fastapi
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

import perdure
from examples.opportunity_tracker import outbox
from examples.opportunity_tracker.tables import Call, Opportunity
from examples.opportunity_tracker.tracker import Tracker
from examples.opportunity_tracker.uploads import LARGEST_BODY, FieldError, address_of, name_of, transcript_of

HERE = Path(__file__).parent
SAID = {
    "email": "The email is on its way.",
    "email-not-sent": "The email could not be handed to the server. Is it running? Please try again.",
    "no-retry": "This call has not failed, so there is nothing to retry.",
}
"""What a page says after what was done on it, by the word in its address."""


class Pages:
    """Makes pages of templates."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._templates = Jinja2Templates(directory=HERE / "templates")
        filters = self._templates.env.filters
        filters["moment"], filters["iso"] = moment, iso

    def show(
        self,
        request: fastapi.Request,
        template: str,
        status: int = 200,
        errors: FieldError | None = None,
        **names: Any,
    ) -> Response:
        """A page. `errors` is what was wrong with a form on it."""
        settings = self._tracker.settings
        context = {
            "model": settings.model,
            "model_name": settings.gemini_model,
            "key_missing": settings.gemini_api_key is None,
            "runs_url": f"{self._tracker.jobs.settings.api_url}/runs",
            "outbox": settings.mail.outbox is not None,
            "errors": {errors.field: str(errors)} if errors else {},
            "said": SAID.get(request.query_params.get("said", "")),
            **names,
        }
        return self._templates.TemplateResponse(request, template, context, status_code=status)

    def missing(self, request: fastapi.Request, what: str) -> Response:
        """The page of a thing that is not there."""
        return self.show(request, "missing.html", 404, what=what)


def moment(seconds: float) -> str:
    """A time for a person."""
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%-d %b %Y, %H:%M} UTC"


def iso(seconds: float) -> str:
    """A time for a program."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def to(path: str) -> Response:
    """Go on with another page after a form was sent."""
    return RedirectResponse(path, status_code=303)


async def form_of(request: fastapi.Request) -> FormData:
    """The fields of a form, as long as a transcript may be."""
    return await request.form(max_files=1, max_fields=20, max_part_size=LARGEST_BODY)


def text_in(form: FormData, name: str) -> str:
    """A text field of a form; empty if there is none."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def page_routes(tracker: Tracker) -> fastapi.APIRouter:
    """All pages."""
    router = fastapi.APIRouter(include_in_schema=False, max_body_size=LARGEST_BODY)
    pages = Pages(tracker)
    opportunity_routes(router, tracker, pages)
    call_routes(router, tracker, pages)

    @router.get("/outbox")
    def show_outbox(request: fastapi.Request) -> Response:
        folder = tracker.settings.mail.outbox
        if folder is None:
            return pages.missing(request, "an outbox: mail is sent by a real server")
        return pages.show(request, "outbox.html", mails=outbox.mails(folder))

    return router


def opportunity_routes(router: fastapi.APIRouter, tracker: Tracker, pages: Pages) -> None:
    """The list of opportunities, and one of them with its calls."""
    records = tracker.records

    def find(opportunity_id: int) -> Opportunity | None:
        return records.opportunity(opportunity_id)

    @router.get("/")
    def home(request: fastapi.Request) -> Response:
        return pages.show(request, "home.html", opportunities=records.opportunities())

    @router.get("/live")
    def home_live(request: fastapi.Request) -> Response:
        return pages.show(request, "_opportunities.html", opportunities=records.opportunities())

    @router.post("/opportunities")
    async def add(request: fastapi.Request) -> Response:
        typed = text_in(await form_of(request), "name")
        try:
            name = name_of("name", typed)
        except FieldError as error:
            found = await run_in_threadpool(records.opportunities)
            return pages.show(request, "home.html", 422, error, opportunities=found, typed=typed)
        return to(f"/opportunities/{await run_in_threadpool(records.opportunity_named, name)}")

    @router.get("/opportunities/{opportunity_id:int}")
    def show(request: fastapi.Request, opportunity_id: int) -> Response:
        found = find(opportunity_id)
        if found is None:
            return pages.missing(request, f"opportunity {opportunity_id}")
        return pages.show(request, "opportunity.html", opportunity=found)

    @router.get("/opportunities/{opportunity_id:int}/live")
    def live(request: fastapi.Request, opportunity_id: int) -> Response:
        found = find(opportunity_id)
        if found is None:
            return pages.missing(request, f"opportunity {opportunity_id}")
        return pages.show(request, "_opportunity.html", opportunity=found)

    @router.post("/opportunities/{opportunity_id:int}/calls")
    async def upload(request: fastapi.Request, opportunity_id: int) -> Response:
        found = await run_in_threadpool(find, opportunity_id)
        if found is None:
            return pages.missing(request, f"opportunity {opportunity_id}")
        form = await form_of(request)
        typed, title, file = text_in(form, "transcript"), text_in(form, "title"), form.get("file")
        chosen = file if isinstance(file, UploadFile) and file.filename else None
        try:
            called = (
                name_of("title", title)
                if title.strip()
                else chosen and name_of("title", chosen.filename or "")
            )
            transcript = await transcript_of(typed, chosen)
        except FieldError as error:
            return pages.show(
                request, "opportunity.html", 422, error, opportunity=found, typed=typed, typed_title=title
            )
        call_id, _ = await tracker.upload(opportunity_id, called or None, transcript)
        return to(f"/calls/{call_id}")


def call_routes(router: fastapi.APIRouter, tracker: Tracker, pages: Pages) -> None:
    """A call: its status as it changes, what was found, and what can be done with it."""
    records = tracker.records

    def page(request: fastapi.Request, template: str, call_id: str) -> Response:
        found = records.call(call_id)
        if found is None:
            return pages.missing(request, f"call {call_id}")
        return pages.show(request, template, call=found)

    @router.get("/calls/{call_id}")
    def show(request: fastapi.Request, call_id: str) -> Response:
        return page(request, "call.html", call_id)

    @router.get("/calls/{call_id}/live")
    def live(request: fastapi.Request, call_id: str) -> Response:
        return page(request, "_call.html", call_id)

    @router.post("/calls/{call_id}/retry")
    async def retry(call_id: str) -> Response:
        asked = await tracker.retry(call_id)
        return to(f"/calls/{call_id}" if asked else f"/calls/{call_id}?said=no-retry")

    @router.post("/calls/{call_id}/email")
    async def email(request: fastapi.Request, call_id: str) -> Response:
        call = await run_in_threadpool(records.call, call_id)
        if call is None or call.summary is None:
            raise HTTPException(404, f"Call {call_id} has no summary to send.")
        typed = text_in(await form_of(request), "to")
        try:
            address = address_of("to", typed)
        except FieldError as error:
            return pages.show(request, "call.html", 422, error, call=call, typed=typed)
        try:
            await tracker.email(address, f"{call.opportunity.name}: {call.title}", summary_text(call))
        except perdure.SendError:
            return to(f"/calls/{call_id}?said=email-not-sent")
        return to(f"/calls/{call_id}?said=email")


def summary_text(call: Call) -> str:
    """The summary of a call as the text of an email."""
    found = call.summary or {}
    people = ", ".join(person["name"] for person in found["participants"])
    lines = [call.title, "", f"Participants: {people}", f"Sentiment: {found['sentiment']}"]
    lines += [f"{name}: {found[name.lower()] or 'not mentioned'}" for name in ("Budget", "Timeline")]
    for title, name in (
        ("Pain points", "pain_points"),
        ("Objections", "objections"),
        ("Next steps", "next_steps"),
    ):
        lines += ["", f"{title}:", *(f"- {text}" for text in found[name] or ["none"])]
    return "\n".join(lines) + "\n"

"""The routes of the pages. Each address of a page gives the same document, which then shows what is asked for.

Addresses that programs use too (`/`, `/metrics`) give the page to whoever asks for HTML, as browsers do.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from perdure.server.pages.files import File, Pages

PAGES = ("/runs", "/functions", "/events", "/apps", "/schedules")
ASSETS = "/assets/"
ICON = "/favicon.svg"
_NOT_BUILT = (
    "The pages have not been built in this checkout. `make ui` builds them (it takes half a minute); the API is at "
    "/api/openapi.json, and `perdure --help` shows the commands for a terminal.\n"
)
_FOR_EVER = "public, max-age=31536000, immutable"


def is_page(path: str) -> bool:
    """Whether this is an address of a page or of a part of one. They hold no data, so anybody may read them."""
    if path == ICON or path.startswith(ASSETS):
        return True
    return any(path == page or path.startswith(f"{page}/") for page in PAGES)


def wants_page(request: Request) -> bool:
    """Whether a page is asked for where programs ask for something else."""
    return "text/html" in request.headers.get("accept", "")


class PageRoutes:
    """Answers with the pages."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[BaseRoute]:
        """The routes."""
        shown = [Route(path, self.show) for page in PAGES for path in (page, f"{page}/{{rest:path}}")]
        return [*shown, Route(f"{ASSETS}{{name:path}}", self.asset), Route(ICON, self.icon)]

    async def show(self, request: Request) -> Response:
        """The document of every page."""
        if not self._pages.built:
            return PlainTextResponse(_NOT_BUILT, 503)
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": self._pages.policy}
        return _answer(request, self._pages.index(request.scope.get("root_path", "")), headers)

    async def asset(self, request: Request) -> Response:
        """A part of the pages that never changes."""
        file = self._pages.file(f"assets/{request.path_params['name']}")
        if file is None:
            return PlainTextResponse("There is no such file; load the page again.\n", 404)
        return _answer(request, file, {"Cache-Control": _FOR_EVER})

    async def icon(self, request: Request) -> Response:
        """The icon."""
        file = self._pages.file(ICON.lstrip("/"))
        return (
            _answer(request, file, {"Cache-Control": "max-age=3600"}) if file else Response(status_code=404)
        )


def _answer(request: Request, file: File, headers: dict[str, str]) -> Response:
    body = file.body
    headers["Vary"] = "Accept-Encoding"
    headers["X-Content-Type-Options"] = "nosniff"
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        body = file.packed
        headers["Content-Encoding"] = "gzip"
    return Response(body, headers=headers, media_type=file.media_type)

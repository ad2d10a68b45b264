"""Serving as a plain WSGI application.

Async functions run on the portal's event loop; a sync function runs in the thread of its request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from perdure.sdk.app import App
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request, Response
from perdure.sdk.portal import portal

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class WsgiApp:
    """Answers every request that it gets."""

    def __init__(self, app: App, framework: str) -> None:
        self.endpoint = Endpoint(app, framework)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        response = self.handle(request_of(environ))
        headers = [*response.headers.items(), ("content-length", str(len(response.body)))]
        start_response(f"{response.status} {_phrase(response.status)}", headers)
        return [response.body]

    def handle(self, request: Request) -> Response:
        """Answer a request, and meanwhile lend this thread to the function."""
        return portal().serve(self.endpoint.handle(request))


def request_of(environ: Environ) -> Request:
    """The request in a WSGI environment."""
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    scheme = str(headers.get("x-forwarded-proto") or environ["wsgi.url_scheme"]).partition(",")[0].strip()
    host = headers.get("host") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
    path = quote((environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"))
    query = environ.get("QUERY_STRING", "")
    stream = environ["wsgi.input"]
    if environ.get("CONTENT_LENGTH"):
        body = stream.read(int(environ["CONTENT_LENGTH"]))
    else:
        body = stream.read() if environ.get("wsgi.input_terminated") else b""
    url = f"{scheme}://{host}{path}{'?' + query if query else ''}"
    return Request(environ["REQUEST_METHOD"], url, headers, body)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"

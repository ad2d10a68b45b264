"""Serving in Django: `path("api/inngest", perdure_view(app))` among the URL patterns.

Under WSGI sync functions use the request's thread, and so its database connections. Under ASGI take
`perdure_async_view`, since Django has only one thread there for all views that are sync.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.sdk.app import App
from perdure.sdk.endpoint import Endpoint
from perdure.sdk.exchange import Request, Response
from perdure.sdk.serve.wsgi import WsgiApp


def perdure_view(app: App) -> Callable[[Any], Any]:
    """A view that answers the server's requests; it needs no CSRF token."""
    from django.views.decorators.csrf import csrf_exempt

    served = WsgiApp(app, "django")

    def view(request: Any) -> Any:
        return _answer(served.handle(_request(request)))

    exempt: Callable[[Any], Any] = csrf_exempt(view)
    return exempt


def perdure_async_view(app: App) -> Callable[[Any], Any]:
    """The same for Django under ASGI."""
    from django.views.decorators.csrf import csrf_exempt

    endpoint = Endpoint(app, "django")

    async def view(request: Any) -> Any:
        return _answer(await endpoint.handle(_request(request)))

    exempt: Callable[[Any], Any] = csrf_exempt(view)
    return exempt


def _request(request: Any) -> Request:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.build_absolute_uri(), headers, request.body)


def _answer(response: Response) -> Any:
    from django.http import HttpResponse

    return HttpResponse(response.body, status=response.status, headers=response.headers)

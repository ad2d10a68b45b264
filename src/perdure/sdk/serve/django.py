"""Serving in Django: `path("api/inngest", perdure_view(app))` among the URL patterns.

The view is sync, which both of Django's servers run; sync functions use the request's thread, and so its
database connections.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perdure.sdk.app import App
from perdure.sdk.exchange import Request
from perdure.sdk.serve.wsgi import WsgiApp


def perdure_view(app: App) -> Callable[[Any], Any]:
    """A view that answers the server's requests; it needs no CSRF token."""
    from django.http import HttpResponse
    from django.views.decorators.csrf import csrf_exempt

    served = WsgiApp(app, "django")

    def view(request: Any) -> Any:
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = request.build_absolute_uri()
        response = served.handle(Request(request.method, url, headers, request.body))
        return HttpResponse(response.body, status=response.status, headers=response.headers)

    exempt: Callable[[Any], Any] = csrf_exempt(view)
    return exempt

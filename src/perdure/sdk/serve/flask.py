"""Serving under a path of a Flask app (or a blueprint)."""

from __future__ import annotations

from typing import Any

from perdure.sdk.app import App
from perdure.sdk.exchange import Request
from perdure.sdk.serve.wsgi import WsgiApp


def mount(app: App, web_app: Any, path: str) -> None:
    """Add one route."""
    import flask

    served = WsgiApp(app, "flask")

    def perdure() -> Any:
        request = flask.request
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = request.url if request.query_string else request.base_url
        response = served.handle(Request(request.method, url, headers, request.get_data()))
        return flask.Response(response.body, response.status, list(response.headers.items()))

    web_app.add_url_rule(path, f"perdure:{app.name}", perdure, methods=["GET", "POST", "PUT"])

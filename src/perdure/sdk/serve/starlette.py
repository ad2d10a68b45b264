"""Serving under a path of a Starlette or FastAPI app."""

from __future__ import annotations

from typing import Any

from perdure.sdk.app import App
from perdure.sdk.serve.asgi import AsgiApp


def mount(app: App, web_app: Any, path: str, *, streaming: bool = False) -> None:
    """Add one route, which takes all methods and stays out of the app's OpenAPI document."""
    from starlette.routing import Route

    framework = "fast_api" if type(web_app).__module__.startswith("fastapi") else "starlette"
    served = AsgiApp(app, framework, streaming=streaming)
    web_app.router.routes.append(Route(path, served, include_in_schema=False))

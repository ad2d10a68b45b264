"""Serving an app's functions in a web framework.

`asgi(app)` and `wsgi(app)` give plain applications to mount anywhere; `mount` knows the usual frameworks. The
other modules are for frameworks with ways of their own: `flask`, `django`, `litestar`, `aws_lambda`.
"""

from __future__ import annotations

from typing import Any

from perdure.sdk.app import App
from perdure.sdk.errors import UsageError


def mount(app: App, web_app: Any, path: str, streaming: bool) -> None:
    """Serve `app` under a path of a web app, whatever it is of. Raises UsageError if that is not known."""
    modules = {base.__module__.partition(".")[0] for base in type(web_app).__mro__}
    if modules & {"starlette", "fastapi"}:
        from perdure.sdk.serve.starlette import mount as mount_starlette

        mount_starlette(app, web_app, path, streaming=streaming)
    elif "flask" in modules:
        from perdure.sdk.serve.flask import mount as mount_flask

        mount_flask(app, web_app, path)
    else:
        kind = f"{type(web_app).__module__}.{type(web_app).__qualname__}"
        raise UsageError(
            f"app.mount knows FastAPI, Starlette and Flask, not {kind}. Mount perdure.sdk.serve.asgi(app) or wsgi(app) "
            "there; Django, Litestar and AWS Lambda have modules of their own beside them."
        )


def asgi(app: App, *, framework: str = "asgi", streaming: bool = False) -> Any:
    """An ASGI application that serves the functions at any path."""
    from perdure.sdk.serve.asgi import AsgiApp

    return AsgiApp(app, framework, streaming=streaming)


def wsgi(app: App, *, framework: str = "wsgi") -> Any:
    """A WSGI application that serves the functions at any path."""
    from perdure.sdk.serve.wsgi import WsgiApp

    return WsgiApp(app, framework)

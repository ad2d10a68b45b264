"""Serving in Litestar: `Litestar(route_handlers=[perdure_handler(app)])`."""

from __future__ import annotations

from typing import Any

from perdure.sdk.app import App
from perdure.sdk.serve.asgi import AsgiApp


def perdure_handler(app: App, path: str = "/api/inngest", *, streaming: bool = False) -> Any:
    """A route handler that answers the server's requests under a path."""
    from litestar.handlers import asgi

    served = AsgiApp(app, "litestar", streaming=streaming)

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await served(scope, receive, send)

    handler.__annotations__ = _annotations()
    return asgi(path, is_mount=False, copy_scope=True)(handler)


def _annotations() -> dict[str, Any]:
    """Litestar reads the types of a handler where the handler was written."""
    from litestar.types import Receive, Scope, Send

    return {"scope": Scope, "receive": Receive, "send": Send, "return": None}

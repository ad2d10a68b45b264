"""The engine inside an app's own process: `App.run_embedded`, and the in-process transport that tests use too."""

from __future__ import annotations

import sys
from typing import Any

from perdure.errors import ConfigError

if sys.platform == "win32":
    raise ConfigError(
        "run_embedded needs file locks and Unix sockets, which Windows does not have. Use WSL, or start a server "
        "(`perdure dev`) and set PERDURE_URL to its address."
    )

from perdure.embedded.embedding import Embedding, running_for
from perdure.embedded.engine import Options
from perdure.embedded.mounting import Guarded, forward
from perdure.embedded.transport import InProcessTransport, registration_of
from perdure.sdk.app import App
from perdure.sdk.embedded import Allow
from perdure.server.http import Receive, Scope, Send

__all__ = ["Embedding", "InProcessTransport", "Options", "dashboard", "embed", "registration_of"]


def embed(app: App, url: str | None, **options: Any) -> Embedding:
    """What `App.run_embedded` gives."""
    return Embedding(app, url, Options(**options))


def dashboard(app: App, allow: Allow | None) -> Guarded:
    """The ASGI application that `App.mount_dashboard` mounts. The engine may be started later."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        embedding = running_for(app)
        await (embedding.asgi if embedding is not None else _none)(scope, receive, send)

    return Guarded(answer, allow, f"The pages of {app.name}'s engine")


async def _none(scope: Scope, receive: Receive, send: Send) -> None:
    await forward(None, scope, receive, send)

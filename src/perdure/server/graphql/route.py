"""The route `/v0/gql`, which loads what answers it when it is first asked.

The library and the schema take 0.2 s and 16 MB, and most servers are never asked. Loading is done in a
thread, beside the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from perdure.server.context import Server
from perdure.server.http import Receive, Scope, Send

if TYPE_CHECKING:
    from perdure.server.graphql.endpoint import GraphqlEndpoint


class GraphqlRoute:
    """An ASGI application for one path."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loading: asyncio.Future[GraphqlEndpoint] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if self._loading is None:
            self._loading = asyncio.get_running_loop().run_in_executor(None, self._load)
        # A caller that goes away must not stop the loading for others.
        endpoint = await asyncio.shield(self._loading)
        await endpoint.answer(scope, receive, send)

    def _load(self) -> GraphqlEndpoint:
        from perdure.server.graphql.endpoint import GraphqlEndpoint

        return GraphqlEndpoint(self._server)

"""Calls go over HTTP, or to workers that have connected: the scheme of their URL says which."""

from __future__ import annotations

from collections.abc import Callable

from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.shard.ports import CallHandle, Transport


class BySchemeTransport:
    """Gives calls to `ws:` and `wss:` URLs to `workers`, all others to `http`."""

    def __init__(self, http: Transport, workers: Transport) -> None:
        self._http = http
        self._workers = workers

    def start(self, call: Call, done: Callable[[CallAnswer | CallFailure], None]) -> CallHandle:
        """Start a call; `done` is called exactly once, later, on the event loop."""
        chosen = self._workers if call.url.startswith(("ws:", "wss:")) else self._http
        return chosen.start(call, done)

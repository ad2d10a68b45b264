"""Requests to the server, with the app's key, repeated when that may help.

The bearer token is the hash of the newest signing key; on 401 and 403 the request is repeated with the
fallback key's, and the key that worked is used first from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from perdure.sdk.http import Answer, Origin
from perdure.sdk.settings import Settings

TRIES = 5
FIRST_PAUSE_S = 0.1
"""Pause after the first failed try, doubled each time, as in the official JavaScript SDK."""


class Requests(Protocol):
    """A way of making requests to a server: `http.Origin`, or what stands in for it."""

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make a request. Raises OSError, TimeoutError or ValueError if there is no proper answer."""


class NoEngine(ConnectionError):
    """The engine of the app's own process does not run; asking again at once does not help."""


class _NotStarted:
    """Stands in for the engine of the app's own process before it has been started."""

    async def request(self, *_: object, **_options: object) -> Answer:
        """Raises NoEngine."""
        raise NoEngine(
            "PERDURE_URL says that the engine runs in the app's own process, and it has not been started. "
            "`async with app.run_embedded(): ...` does that"
        )


class Api:
    """The server's API, as an app uses it."""

    def __init__(self, settings: Settings, headers: Mapping[str, str]) -> None:
        self._origin: Requests = Origin(settings.api_url)
        self._events: Requests = (
            self._origin if settings.event_url == settings.api_url else Origin(settings.event_url)
        )
        if settings.database is not None:
            self.through(_NotStarted())
        self._bearers = settings.bearers()
        self._first = 0
        self._headers = {"content-type": "application/json", **headers}
        if settings.env:
            self._headers["x-inngest-env"] = settings.env

    def through(self, requests: Requests) -> Callable[[], None]:
        """Make all requests another way from now on, as an app does that has its server in its own process.

        Calling what it gives back makes them as before.
        """
        before = self._origin, self._events
        self._origin = self._events = requests

        def undo() -> None:
            self._origin, self._events = before

        return undo

    async def call(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        tries: int = 1,
    ) -> Answer:
        """A request to the API; `tries` times while the server cannot be reached or answers 5xx or 429.

        Raises OSError, TimeoutError or ValueError if there is no answer in the end.
        """
        sent = {**self._headers, **(headers or {})}
        count = len(self._bearers)
        answer = Answer(401, {}, b"")
        for offset in range(count):
            place = (self._first + offset) % count
            bearer = self._bearers[place]
            if bearer is not None:
                sent["authorization"] = f"Bearer {bearer}"
            answer = await self._persist(self._origin, method, path, body, sent, tries)
            if answer.status not in {401, 403}:
                self._first = place
                break
        return answer

    async def send(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send events. Raises OSError, TimeoutError or ValueError if there is no answer in the end."""
        return await self._persist(self._events, "POST", path, body, {**self._headers, **headers}, TRIES)

    async def _persist(
        self, origin: Requests, method: str, path: str, body: bytes, headers: Mapping[str, str], tries: int
    ) -> Answer:
        pause = FIRST_PAUSE_S
        while True:
            tries -= 1
            try:
                answer = await origin.request(method, path, body, headers)
                if tries <= 0 or not (answer.status >= 500 or answer.status == 429):
                    return answer
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                if tries <= 0 or isinstance(error, NoEngine):
                    raise
            await asyncio.sleep(pause)
            pause *= 2

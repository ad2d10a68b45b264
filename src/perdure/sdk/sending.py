"""Sending events and signals.

Each request carries a seed, from which the server derives the ids of its events: so a request that is repeated
because its answer was lost starts nothing twice.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Sequence
from urllib.parse import quote

import msgspec

from perdure.sdk.api import TRIES, Api, NoEngine
from perdure.sdk.errors import SendError
from perdure.sdk.events import as_event, event_json
from perdure.sdk.middleware import Outbound
from perdure.sdk.settings import NO_EVENT_KEY, Settings

SEED_HEADER = "x-inngest-event-id-seed"


class _Sent(msgspec.Struct):
    ids: list[str] = []
    error: str | None = None


class _Woken(msgspec.Struct):
    data: _WokenRun | None = None


class _WokenRun(msgspec.Struct):
    run_id: str | None = None


_SENT: msgspec.json.Decoder[_Sent] = msgspec.json.Decoder(_Sent)
_WOKEN: msgspec.json.Decoder[_Woken] = msgspec.json.Decoder(_Woken)


class Sender:
    """Sends for one app. `now_ms` and `entropy` are the world's."""

    def __init__(
        self, settings: Settings, api: Api, now_ms: Callable[[], int], entropy: Callable[[int], bytes]
    ) -> None:
        self._url = settings.event_url
        self._path = f"/e/{quote(settings.event_key or NO_EVENT_KEY, safe='')}"
        self._has_key = settings.event_key is not None
        self._api = api
        self._now_ms = now_ms
        self._entropy = entropy
        self._outbound: Outbound | None = None

    def through(self, outbound: Outbound) -> Sender:
        """A sender whose events and signals pass through middleware."""
        other = copy.copy(self)
        other._outbound = outbound
        return other

    async def send(self, events: Sequence[object]) -> list[str]:
        """Send events in one request; their ids, in order. Raises SendError."""
        given = [as_event(one) for one in events]
        if self._outbound is not None and given:
            given = self._outbound.events(given)
        parts = [event_json(one) for one in given]
        if not parts:
            return []
        body = b"[" + b",".join(parts) + b"]"
        seed = f"{self._now_ms()},{base64.b64encode(self._entropy(10)).decode()}"
        try:
            answer = await self._api.send(self._path, body, {SEED_HEADER: seed})
        except NoEngine as error:
            raise SendError(f"{len(parts)} event(s) could not be sent: {error}.") from error
        except (OSError, TimeoutError, ValueError) as error:
            raise SendError(
                f"{len(parts)} event(s) could not be sent to {self._url}: {error or type(error).__name__}. Is the "
                "server running there? PERDURE_URL says where it is; in development `perdure dev` starts one."
            ) from error
        try:
            read = _SENT.decode(answer.body)
        except msgspec.DecodeError:
            read = _Sent(error=answer.body[:200].decode("utf-8", "replace"))
        if answer.status != 200 or read.error:
            raise SendError(self._refusal(answer.status, read.error or ""), answer.status, tuple(read.ids))
        return read.ids

    def _refusal(self, status: int, error: str) -> str:
        if status in {401, 403}:
            mend = "Compare" if self._has_key else "Set"
            return f"The server at {self._url} refused the event key: {error}. {mend} PERDURE_EVENT_KEY."
        return f"The server at {self._url} refused the events (HTTP {status}): {error}"

    async def signal(self, name: str, data: msgspec.Raw) -> str | None:
        """Wake the run that waits for a signal; its id, None if no run waits. Raises SendError."""
        if self._outbound is not None:
            data = msgspec.Raw(self._outbound.signal(name, bytes(data)))
        body = msgspec.json.encode({"signal": name, "data": data})
        try:
            answer = await self._api.call("POST", "/v1/signals", body, tries=TRIES)
        except (OSError, TimeoutError, ValueError) as error:
            raise SendError(f'The signal "{name}" could not be sent to the server: {error}') from error
        if answer.status == 404:
            return None
        if answer.status != 200:
            text = answer.body[:200].decode("utf-8", "replace")
            raise SendError(
                f'The server refused the signal "{name}" (HTTP {answer.status}): {text}', answer.status
            )
        woken = _WOKEN.decode(answer.body)
        return woken.data.run_id if woken.data is not None else None

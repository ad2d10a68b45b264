"""The server's API as apps under test reach it: what they would send over HTTP goes to the engine at hand.

Events are taken at once, from any thread and any event loop, without waiting for the engine: it may well be that the
engine cannot run before whoever sends has got an answer, as when a test drives a web app with a synchronous client.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.core.model import FromStep
from perdure.errors import RequestError
from perdure.protocol.events import EventReader, event_response
from perdure.sdk.http import Answer
from perdure.sdk.strands import CURRENT
from perdure.shard.calls import edited_input
from perdure.shard.commands import ReceiveEvents, SendSignal

if TYPE_CHECKING:
    from perdure.testing.engine import Engine


class _Event(msgspec.Struct):
    id: str = ""


class _Signal(msgspec.Struct):
    signal: str
    data: msgspec.Raw = msgspec.Raw(b"null")


class EngineApi:
    """A `sdk.api.Requests` that makes none."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def request(
        self, method: str, path: str, body: bytes = b"", _: Mapping[str, str] | None = None
    ) -> Answer:
        """Answer as the server would."""
        where = path.partition("?")[0].split("/")
        try:
            match [method, *where[1:]]:
                case ["POST", "e", _]:
                    return self._events(body)
                case ["POST", "v1", "signals"]:
                    return await self._signal(body)
                case ["GET", "v0", "runs", run_id, "batch"]:
                    return self._batch(run_id)
                case ["GET", "v0", "runs", run_id, "actions"]:
                    return self._actions(run_id)
        except RequestError as error:
            return _answer({"error": error.message, "status": error.status}, error.status)
        return _answer({"error": f"perdure.testing has no {method} {path}", "status": 404}, 404)

    def _events(self, body: bytes) -> Answer:
        engine = self._engine
        reader = EventReader(None, engine.clock.now(), engine.entropy, "application/json")
        reader.feed(body)
        reader.finish()
        ids = [event.internal_id for event in reader.events]
        if reader.events:
            call: Any = CURRENT.get()
            if call is not None:
                engine.sent.setdefault(call.job.run_id, []).extend(ids)
                event_id = msgspec.json.decode(call.job.event, type=_Event).id
                engine.note_sent(event_id, [event.id for event in reader.events], call.slug)
            engine.hand_over(ReceiveEvents(events=reader.events, received_at=engine.clock.now()))
        status, answer = event_response(ids, reader.error)
        return Answer(status, {}, answer)

    async def _signal(self, body: bytes) -> Answer:
        signal = msgspec.json.decode(body, type=_Signal)
        woken = await self._engine.ask(SendSignal(signal=signal.signal, data=bytes(signal.data)))
        if woken is None:
            return _answer({"error": "No signal found", "status": 404}, 404)
        return _answer({"data": {"run_id": woken}})

    def _batch(self, run_id: str) -> Answer:
        whole = self._engine.reads.whole(run_id)
        events = [] if whole is None else whole.events
        return Answer(200, {}, b"[" + b",".join(event.body for event in events) + b"]")

    def _actions(self, run_id: str) -> Answer:
        whole = self._engine.reads.whole(run_id)
        steps = self._engine.reads.steps(run_id)
        members = [msgspec.json.encode(step.id) + b":" + step.memo for step in steps]
        start = whole and whole.run.from_step and FromStep.decode(whole.run.from_step)
        if start and start.arguments is not None and all(step.id != start.id for step in steps):
            members.append(edited_input(start))
        return Answer(200, {}, b"{" + b",".join(members) + b"}")


def _answer(value: object, status: int = 200) -> Answer:
    return Answer(status, {}, msgspec.json.encode(value))

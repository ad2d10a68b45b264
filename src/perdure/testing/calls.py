"""How calls go in a test: to functions in this process, to stand-ins, and never to the world.

A `shard.ports.Transport`. It counts the calls of a moment, so that what runs in circles is seen.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from perdure.core.model import ItemKind
from perdure.core.requests import build_request
from perdure.embedded.transport import ORIGIN, InProcessTransport
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.sdk import codec, ops
from perdure.sdk.asks import Response
from perdure.sdk.exchange import REQUEST_VERSION, SDK
from perdure.sdk.standing_in import STAND_INS
from perdure.shard.ports import CallHandle
from perdure.testing.failures import Failure, UnexpectedRequest
from perdure.testing.mocks import FunctionMock, OutsideRequest, StepCall, StepMock

if TYPE_CHECKING:
    from perdure.testing.engine import Engine

Done = Callable[[CallAnswer | CallFailure], None]
HEADERS = {
    "x-inngest-sdk": SDK,
    "x-inngest-req-version": REQUEST_VERSION,
    "content-type": "application/json",
}
_OPS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_TEXT = msgspec.json.Decoder(str)
_TIMED = {
    "Sleep": "a sleep: move the clock on with `advance` instead",
    "WaitForEvent": "a wait for an event: send that event with `send`, or let the wait time out with `advance`",
    "WaitForSignal": "a wait for a signal: give it with `signal`, or let the wait time out with `advance`",
}


class _Given:
    """The handle of a call that is answered at once."""

    def cancel(self) -> None:
        """It is over already."""


class Calls:
    """Carries the calls of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.inside = InProcessTransport(Outside(engine), now_ns=engine.clock.now_ns, takes_logs=True)
        self.this_moment: Counter[str] = Counter()
        """Calls of functions, by slug, since the clock was last moved."""
        self.total = 0
        """Calls of functions since the start."""
        self.under_way: Counter[str] = Counter()
        """Calls that run now."""

    def start(self, call: Call, done: Done) -> CallHandle:
        """Start a call."""
        if not call.url.startswith(ORIGIN):
            return self.inside.start(call, done)
        slug = dict(parse_qsl(urlsplit(call.url).query)).get("fnId", "")
        self.this_moment[slug] += 1
        self.total += 1
        mock = self._engine.mocks.functions.get(slug)
        if mock is not None:
            asyncio.get_running_loop().call_soon(done, _mocked(mock, call))
            return _Given()
        self.under_way[slug] += 1
        token = STAND_INS.set(self._engine.mocks)
        try:
            return self.inside.start(call, partial(self._answered, slug, done))
        finally:
            STAND_INS.reset(token)

    def _answered(self, slug: str, done: Done, result: CallAnswer | CallFailure) -> None:
        self.under_way[slug] -= 1
        mocks = self._engine.mocks
        if isinstance(result, CallAnswer) and result.status == 206 and mocks.has_any(slug):
            try:
                result = self._with_stand_ins(slug, result)
            except Exception as error:
                self._engine.troubles.append(error)
        done(result)

    def _with_stand_ins(self, slug: str, answer: CallAnswer) -> CallAnswer:
        """The answer with the results of stand-ins in the place of invokes."""
        told = _OPS.decode(answer.body)
        for op in told:
            kind, step_id = _TEXT.decode(op["op"]), _TEXT.decode(op.get("displayName", b'""'))
            mock = self._engine.mocks.of(slug, step_id)
            if mock is None:
                continue
            if kind in _TIMED:
                raise Failure(f'"{step_id}" of {slug} cannot have a stand-in, since it is {_TIMED[kind]}.')
            if kind == "InvokeFunction":
                self._engine.mocks.reached[slug][step_id] = None
                _stand_in_for(op, mock)
        return msgspec.structs.replace(answer, body=msgspec.json.encode(told))


def _stand_in_for(op: dict[str, msgspec.Raw], mock: StepMock) -> None:
    """Make an invoke a step that has run."""
    given = msgspec.json.decode(op.pop("opts", b"{}"))
    data = given.get("payload", {}).get("data", {})
    try:
        value = mock.answer(StepCall((data,), {}, "", 0))
        op["data"] = msgspec.Raw(codec.encode(value, f'What the stand-in for "{mock.step_id}" returned'))
        op["op"] = msgspec.Raw(b'"StepRun"')
    except Exception as error:
        op["error"] = msgspec.Raw(ops.error_json(error))
        op["op"] = msgspec.Raw(b'"StepFailed"')


def _mocked(mock: FunctionMock, call: Call) -> CallAnswer:
    """The answer of a function that is not run."""
    event = msgspec.json.decode(call.body)["event"]
    data = {key: value for key, value in event.get("data", {}).items() if key != "_inngest"}
    try:
        return CallAnswer(200, HEADERS, mock.answer(data), call.url)
    except Exception as error:
        return CallAnswer(500, {**HEADERS, "x-inngest-no-retry": "true"}, ops.error_json(error), call.url)


class Outside:
    """Where requests would go that the server makes for a run. Only stand-ins answer."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._taken: set[tuple[str, int, int]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def start(self, call: Call, done: Done) -> CallHandle:
        """Answer a request."""
        loop = asyncio.get_running_loop()
        slug, step_id, run_id, attempt = self._whose(call)
        self._engine.mocks.reached[slug][step_id] = None
        mock = self._engine.mocks.of(slug, step_id)
        if mock is None:
            self._engine.troubles.append(
                UnexpectedRequest(
                    f'The step "{step_id}" of {slug} asks for {call.method} {call.url}, and a test makes no requests. '
                    f'Say what comes back: mock_step({slug!r}, "{step_id}", returns=...).'
                )
            )
            loop.call_soon(done, CallFailure("cancelled", "The test makes no requests."))
            return _Given()
        request = OutsideRequest(call.url, call.method, dict(call.headers), call.body)
        task = loop.create_task(_respond(mock, StepCall((request,), {}, run_id, attempt), call, done))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        return _Given()

    def _whose(self, call: Call) -> tuple[str, str, str, int]:
        """Function, step, run and attempt of a request: the one under way that is like it and not known yet."""
        state = self._engine.shard.state
        for run in state.memory.runs.values():
            for item in run.items.values():
                key = (run.id, item.n, item.generation)
                if item.kind is not ItemKind.REQUEST or not item.in_flight or key in self._taken:
                    continue
                if item.data is not None and build_request(item.data) == call:
                    self._taken.add(key)
                    return state.functions.by_id[run.function_id].slug, item.name, run.id, item.attempt
        return "", "", "", 0


async def _respond(mock: StepMock, asked: StepCall, call: Call, done: Done) -> None:
    try:
        value: Any = mock.answer(asked)
        if inspect.isawaitable(value):
            value = await value
        result = _response(value, call)
    except Exception as error:
        done(CallFailure("http_unreachable", f"{type(error).__name__}: {error}"))
        return
    done(result)


def _response(value: Any, call: Call) -> CallAnswer:
    if isinstance(value, Response):
        headers = {name.lower(): text for name, text in value.headers.items()}
        return CallAnswer(value.status_code, headers, value.body.encode(), value.url or call.url)
    body = codec.encode(value, "What the stand-in for a request returned")
    return CallAnswer(200, {"content-type": "application/json"}, body, call.url)

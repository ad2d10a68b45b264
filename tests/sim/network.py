"""How calls travel: the transport of one server, with everything that a network and a proxy do to a call.

The app's code does not notice what becomes of its answer, and a call goes on when the server that made it is gone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from perdure.protocol.calls import Call, CallAnswer, CallFailure

if TYPE_CHECKING:
    from tests.sim.server import Process
    from tests.sim.world import World

Done = Callable[[CallAnswer | CallFailure], None]
Key = tuple[str, int, int]
"""Run id, number of the item, generation."""

REFUSED = CallFailure("http_unreachable", "connection refused")
CUT = CallFailure("http_unreachable", "the connection was cut")
HTML = b"<html><body>Bad gateway</body></html>"


class Handle:
    """A call under way, which nobody gives up."""

    def cancel(self) -> None:
        """The shard never does it."""


class Network:
    """Implements `perdure.shard.ports.Transport` for one process of the server."""

    def __init__(self, world: World, process: Process, random: Random) -> None:
        self._world = world
        self._process = process
        self._random = random
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, call: Call, done: Done) -> Handle:
        """Send a call on its way."""
        world = self._world
        if self._process.dead:
            return Handle()
        assert isinstance(done, partial)
        key: Key = done.args
        world.disk.dies("release")
        world.checks.calls.leaving(world.disk.shard(0), self._process.number, key, call)
        task = asyncio.get_running_loop().create_task(self._carry(call, key, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Handle()

    async def _carry(self, call: Call, key: Key, done: Done) -> None:
        await asyncio.sleep(self._random.choice((0.0, 0.001, 0.01)))
        if call.url.startswith("http://app."):
            result = await self._to_app(call)
        else:
            result = await self._to_world(call)
        if self._process.dead:
            self._world.trace.note(f"net: the answer to {key[1]}/{key[2]} finds nobody", key[0])
            return
        self._world.trace.note(f"net: answer to {key[1]}/{key[2]}: {_short(result)}", key[0])
        self._world.checks.calls.answered(self._process.number, key, result)
        done(result)

    async def _to_app(self, call: Call) -> CallAnswer | CallFailure:
        app = self._world.app
        if app.down:
            return REFUSED
        fault = self._fault()
        if fault == "refused":
            return REFUSED
        if fault == "gateway":
            return CallAnswer(502, {"content-type": "text/html"}, HTML)
        if fault == "twice":
            self._world.spawn(_forgotten(app.handle(call)))
        if fault == "empty":
            app.empty_answers[_header(call, "X-Run-ID")] = self._random.choice((1, 2))
        generation = app.generation
        if fault == "early":
            going_on = self._world.spawn(_forgotten(app.handle(call)))
            await asyncio.wait((going_on,), timeout=self._random.choice((0.0, 0.003, 0.05, 0.5)))
            return (
                CUT if self._random.random() < 0.5 else CallAnswer(504, {"content-type": "text/html"}, HTML)
            )
        answer = await app.handle(call)
        if fault == "late":
            await asyncio.sleep(self._random.choice((30.0, 4_000.0, 9_000.0)))
        if fault == "lost" or app.generation != generation:
            return CUT
        if fault == "html":
            return CallAnswer(self._random.choice((200, 206, 500)), {"content-type": "text/html"}, HTML)
        if fault == "corrupt":
            return CallAnswer(206, answer.headers, answer.body[: len(answer.body) // 2] + b"\xff")
        return self._streamed(answer) if self._random.random() < 0.1 else answer

    def _streamed(self, answer: CallAnswer) -> CallAnswer:
        """The same answer in the wrapper of a framework that streams."""
        wrapped = {"status": answer.status, "headers": answer.headers, "body": answer.body.decode()}
        return CallAnswer(
            201, {"x-inngest-sdk": answer.headers["x-inngest-sdk"]}, json.dumps(wrapped).encode()
        )

    def _fault(self) -> str:
        if self._random.random() >= self._world.scenario.call_fails or self._world.calm:
            return ""
        return self._random.choice(
            ("refused", "gateway", "twice", "empty", "late", "lost", "early", "early", "html", "corrupt")
        )

    async def _to_world(self, call: Call) -> CallAnswer | CallFailure:
        await asyncio.sleep(self._random.choice((0.001, 0.2, 5.0)))
        if "bad." in call.url or ("flaky." in call.url and self._random.random() < 0.5):
            return CUT
        return CallAnswer(200, {"content-type": "text/plain"}, b"hello", call.url)


async def _forgotten(answer: Awaitable[CallAnswer]) -> None:
    """Whatever the app answers, nobody hears it."""
    await answer


def _header(call: Call, name: str) -> str:
    return next(value for key, value in call.headers if key == name)


def _short(result: CallAnswer | CallFailure) -> str:
    if isinstance(result, CallFailure):
        return f"none ({result.message})"
    return f"{result.status} {result.body[:160].decode('utf-8', 'replace')}"

"""Answers that the gateway has not confirmed: sent again over the next connection, or posted over HTTP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from perdure.protocol.connect.messages import MAX_FRAME_BYTES, Kind
from perdure.sdk.api import Api
from perdure.sdk.connect.connection import Connection
from perdure.sdk.connect.introducing import PROTOBUF

log = logging.getLogger("perdure")

FLUSH_PATH = "/v0/connect/flush"
CONFIRM_S = 5.0
"""How long the gateway may take to confirm an answer before it is posted (as in the official JavaScript SDK)."""
PAUSE_S = (1.0, 30.0)
"""The first and the longest pause between two tries to post an answer."""
MAX_BYTES = 256 * 1024 * 1024
"""What is kept of answers that cannot be delivered. Beyond it the oldest are given up; the server calls again."""
MAX_REPLY = MAX_FRAME_BYTES - 64 * 1024


class _Kept(msgspec.Struct, gc=False):
    payload: bytes
    post_at: float
    pause: float = PAUSE_S[0]
    posting: bool = False


class Replies:
    """The unconfirmed answers of a worker, by request id. `current` tells its connection."""

    def __init__(self, api: Api, current: Callable[[], Connection | None]) -> None:
        self._api = api
        self._current = current
        self._loop = asyncio.get_running_loop()
        self._kept: dict[str, _Kept] = {}
        self._size = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivered = asyncio.Event()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, request_id: str, payload: bytes) -> None:
        """Send an answer, an SDKResponse, and keep it until it is confirmed."""
        kept = _Kept(payload, self._loop.time() + CONFIRM_S)
        self._kept[request_id] = kept
        self._size += len(payload)
        while self._size > MAX_BYTES and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            log.error(
                "Answers of %d MiB could not be delivered. That of request %s is given up; the server will call again.",
                MAX_BYTES >> 20,
                oldest,
            )
            self.confirmed(oldest)
        self._send(request_id, kept)

    def confirmed(self, request_id: str) -> None:
        """An answer is on the server's disk, or not wanted any more."""
        kept = self._kept.pop(request_id, None)
        if kept is not None:
            self._size -= len(kept.payload)
            if not self._kept:
                self._delivered.set()

    def again(self, request_id: str) -> bool:
        """Send an answer once more, to a gateway that asks for what is done already; whether there is one."""
        kept = self._kept.get(request_id)
        if kept is None:
            return False
        self._send(request_id, kept)
        return True

    def resend(self) -> None:
        """Send all that is not confirmed over a new connection."""
        for request_id, kept in list(self._kept.items()):
            kept.post_at = self._loop.time() + CONFIRM_S
            self._send(request_id, kept)

    def look(self) -> None:
        """Post what is overdue."""
        now = self._loop.time()
        for request_id, kept in list(self._kept.items()):
            if kept.post_at <= now:
                self._begin_post(request_id, kept)

    async def settle(self) -> None:
        """Wait until all are confirmed."""
        while self._kept:
            self._delivered.clear()
            await self._delivered.wait()

    async def post_all(self) -> None:
        """Try once to post all that is left."""
        for request_id, kept in list(self._kept.items()):
            self._begin_post(request_id, kept)
        await self._gathered(self._tasks)

    def close(self) -> None:
        """Stop posting, and tell of what was not delivered."""
        for task in self._tasks:
            task.cancel()
        if self._kept:
            log.error(
                "%d answers could not be delivered before the worker stopped; the server will call again for them.",
                len(self._kept),
            )

    def _send(self, request_id: str, kept: _Kept) -> None:
        connection = self._current()
        if len(kept.payload) > MAX_REPLY:
            self._begin_post(request_id, kept)
        elif connection is not None:
            connection.send(Kind.WORKER_REPLY, kept.payload)

    def _begin_post(self, request_id: str, kept: _Kept) -> None:
        if kept.posting:
            return
        kept.posting = True
        task = self._loop.create_task(self._post(request_id, kept))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, request_id: str, kept: _Kept) -> None:
        try:
            answer = await self._api.call("POST", FLUSH_PATH, kept.payload, PROTOBUF)
        except (OSError, TimeoutError, ValueError, EOFError) as error:
            problem = str(error) or type(error).__name__
        else:
            if answer.status == 200:
                self.confirmed(request_id)
                return
            problem = f"HTTP {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}"
            if 400 <= answer.status < 500 and answer.status not in {401, 403, 408, 429}:
                log.error("The server does not take the answer of request %s (%s).", request_id, problem)
                self.confirmed(request_id)
                return
        finally:
            kept.posting = False
        log.warning("The answer of request %s could not be posted (%s); trying again.", request_id, problem)
        kept.post_at = self._loop.time() + kept.pause
        kept.pause = min(kept.pause * 2, PAUSE_S[1])

    @staticmethod
    async def _gathered(tasks: set[asyncio.Task[None]]) -> None:
        waiting: list[Awaitable[None]] = list(tasks)
        await asyncio.gather(*waiting, return_exceptions=True)

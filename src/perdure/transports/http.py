"""How a call reaches an app over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from perdure import __version__
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.transports.http_budget import MAX_READING_BYTES, ReadBudget
from perdure.transports.http_connect import describe_connect_error
from perdure.transports.http_connection import HttpConnection
from perdure.transports.http_pool import MAX_IDLE_S, HttpPool
from perdure.transports.http_request import REDIRECTS, Origin, follow, name_host, split_plain, write_head
from perdure.transports.tls import LibraryClient

MAX_REDIRECTS = 60
"""How many redirects a call follows (protocol, transport rules)."""

CONNECT_TIMEOUT_S = 10.0
"""How long opening one connection may take, names and TLS included, in seconds."""

USER_AGENT = f"Perdure/{__version__}"

Done = Callable[[CallAnswer | CallFailure], None]
"""What is told how a call ended."""


class HttpTransport:
    """Carries calls to apps over HTTP and HTTPS. Belongs to the event loop on which its first call starts.

    `tls_verify` False accepts any certificate. `max_reading_bytes` bounds the answers that are half read, over all
    calls. `max_idle` is how long an unused connection is kept, in seconds; `connect_timeout` how long one may take to
    open. `user_agent` is sent when a call does not bring its own.
    """

    def __init__(
        self,
        *,
        tls_verify: bool = True,
        max_reading_bytes: int = MAX_READING_BYTES,
        user_agent: str = USER_AGENT,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        max_idle: float = MAX_IDLE_S,
    ) -> None:
        self.budget = ReadBudget(max_reading_bytes)
        self.connect_timeout = connect_timeout
        self.user_agent = user_agent
        self.pool = HttpPool(self.budget, max_idle)
        self.library = LibraryClient(
            tls_verify=tls_verify,
            user_agent=user_agent,
            budget=self.budget,
            connect_timeout=connect_timeout,
            max_idle=max_idle,
        )
        self._calls: set[CallHandle] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, call: Call, done: Done) -> CallHandle:
        """Begin a call. Never blocks and never raises for what the network or the app does.

        `done` is called exactly once, on the event loop, after this has returned.
        """
        handle = CallHandle(self, call, done)
        self._calls.add(handle)
        if self._closed:
            handle.cancel()
        else:
            handle.begin()
        return handle

    async def request(self, call: Call) -> CallAnswer | CallFailure:
        """Make a call and wait for its end. Cancelling the caller cancels the call."""
        ended: asyncio.Future[CallAnswer | CallFailure] = asyncio.get_running_loop().create_future()

        def done(end: CallAnswer | CallFailure) -> None:
            if not ended.done():
                ended.set_result(end)

        handle = self.start(call, done)
        try:
            return await ended
        finally:
            handle.cancel()

    async def close(self) -> None:
        """Give up every open call (each is told `cancelled`) and close all connections. May be called again."""
        self._closed = True
        for handle in list(self._calls):
            handle.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        # One turn of the loop, in which the calls are told.
        await asyncio.sleep(0)
        await self.pool.close()
        await self.library.close()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the slow part of a call; only new connections and library calls have one."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget(self, handle: CallHandle) -> None:
        """A call has ended."""
        self._calls.discard(handle)


class CallHandle:
    """A call under way, over as many requests as redirects ask for."""

    __slots__ = ("_call", "_connection", "_done", "_hops", "_task", "_timer", "_transport", "_url")

    def __init__(self, transport: HttpTransport, call: Call, done: Done) -> None:
        self._transport = transport
        self._call = call
        self._done: Done | None = done
        self._url = call.url
        self._hops = 0
        self._timer: asyncio.TimerHandle | None = None
        self._connection: HttpConnection | None = None
        self._task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Give the call up. Its `done` is told `cancelled`, unless it has been told something already."""
        if self._done is not None:
            self._abandon(CallFailure("cancelled", f"The call to {self._who} was given up."))

    def begin(self) -> None:
        """Start the clock and send the first request."""
        self._timer = asyncio.get_running_loop().call_later(self._call.timeout, self._expire)
        self._go(self._call.url)

    # ------------------------------------------------------------------ one request

    def _go(self, url: str) -> None:
        self._url = url
        transport = self._transport
        plain = split_plain(url)
        origin = None if plain is None else transport.pool.origin(plain[0])
        if plain is None or origin is None:
            self._spawn(self._fetch(url))
            return
        try:
            head = write_head(self._call, plain[1], origin.host_line, transport.user_agent)
        except ValueError as error:
            self._abandon(CallFailure("http_unreachable", str(error)))
            return
        connection = transport.pool.take(origin)
        if connection is None:
            self._spawn(self._connect(origin, head))
        else:
            self._send(connection, head)

    def _send(self, connection: HttpConnection, head: bytes) -> None:
        call = self._call
        self._connection = connection
        connection.send(self, head, call.body, no_body=call.method == "HEAD", max_answer=call.max_answer)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._transport.spawn(work)
        self._task.add_done_callback(self._check)

    def _check(self, task: asyncio.Task[None]) -> None:
        """Whatever goes wrong in a task, nobody waits for ever."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._settle(CallFailure("http_unreachable", f"The call to {self._who} met a defect: {error!r}."))
            task.get_loop().call_exception_handler({"message": "A call met a defect", "exception": error})

    async def _connect(self, origin: Origin, head: bytes) -> None:
        limit = self._transport.connect_timeout
        try:
            async with asyncio.timeout(limit):
                connection = await self._transport.pool.connect(origin)
        except TimeoutError:
            self._settle(
                CallFailure("http_unreachable", f"No connection to {origin.who} within {limit:g} s.")
            )
        except (OSError, RuntimeError) as error:
            self._settle(CallFailure("http_unreachable", describe_connect_error(error, origin.who)))
        else:
            self._task = None
            if connection.usable():
                self._send(connection, head)
            else:
                connection.close()
                text = f"{origin.who} closed the connection before it was asked anything."
                self._settle(CallFailure("http_unreachable", text))

    async def _fetch(self, url: str) -> None:
        fetched = await self._transport.library.fetch(self._call, url)
        self._task = None
        if isinstance(fetched, CallFailure):
            self._settle(fetched)
        else:
            self.answered(*fetched)

    # ------------------------------------------------------------------ its end

    def answered(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """A whole answer came: the end, or a redirect."""
        self._connection = None
        location = headers.get("location") if status in REDIRECTS else None
        if not location:
            self._settle(CallAnswer(status, headers, body, self._url))
            return
        self._hops += 1
        if self._hops > MAX_REDIRECTS:
            text = (
                f"{self._who} redirected for the {self._hops}st time; {MAX_REDIRECTS} redirects are followed."
            )
            self._settle(CallFailure("too_many_redirects", text))
            return
        try:
            url = follow(self._call.url, self._url, location)
        except ValueError as error:
            self._settle(CallFailure("http_unreachable", str(error)))
            return
        self._go(url)

    def failed(self, failure: CallFailure) -> None:
        """No whole answer came."""
        self._connection = None
        self._settle(failure)

    def _expire(self) -> None:
        text = f"{self._who} gave no complete answer within {self._call.timeout:g} s."
        self._abandon(CallFailure("timeout", text))

    def _abandon(self, failure: CallFailure) -> None:
        """Stop whatever is under way; the failure is told in the loop's next turn, as this may run within `start`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        asyncio.get_running_loop().call_soon(self._settle, failure)

    def _settle(self, end: CallAnswer | CallFailure) -> None:
        done = self._done
        if done is None:
            return
        self._done = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._transport.forget(self)
        try:
            done(end)
        except Exception as error:
            loop = asyncio.get_running_loop()
            loop.call_exception_handler(
                {"message": "The end of a call could not be handled", "exception": error}
            )

    @property
    def _who(self) -> str:
        return name_host(self._url)

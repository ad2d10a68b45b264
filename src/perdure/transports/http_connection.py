"""One connection to an app over plain HTTP/1.1: a request goes out, the answer comes back.

Callback style, without a task for each call: this is the path of every step, and a task costs as much as all the rest.

* A connection is kept only if nothing went wrong, both sides want to keep it, the request had left completely and not
  a byte came after the answer. Bytes or an end that arrive while it is idle close it at once.
* A request is never repeated here. Once its bytes may have reached the app the app may have acted on them, and only
  the engine knows whether to try again.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Protocol, cast

from perdure.protocol.calls import CallFailure
from perdure.transports.http_answer import AnswerReader
from perdure.transports.http_budget import ReadBudget

_LARGE_BODY = 64 * 1024
_PEER_WATCH = select.POLLIN | getattr(select, "POLLRDHUP", 0) if hasattr(select, "poll") else 0


class Receiver(Protocol):
    """Who waits for an answer. Exactly one of the two is called, once, and not within `send`."""

    def answered(self, status: int, headers: dict[str, str], body: bytes) -> None:
        """The answer is whole."""

    def failed(self, failure: CallFailure) -> None:
        """No whole answer came."""


class Owner(Protocol):
    """Who keeps connections."""

    def opened(self, connection: HttpConnection) -> None:
        """It is connected."""

    def freed(self, connection: HttpConnection) -> None:
        """Its answer is whole and it may carry another request."""

    def dropped(self, connection: HttpConnection) -> None:
        """It is being closed and can carry nothing any more."""

    def lost(self, connection: HttpConnection) -> None:
        """Its socket is closed."""


class HttpConnection(asyncio.Protocol):
    """A connection that carries one request at a time.

    `idle`, `idle_since` and `idle_limit` (seconds of the loop's clock) are the owner's notes; `keep_alive` is the
    app's header of that name, `held` belongs to the budget.
    """

    __slots__ = (
        "_abandoned",
        "_answer",
        "_budget",
        "_owner",
        "_peer",
        "_receiver",
        "_transport",
        "held",
        "idle",
        "idle_limit",
        "idle_since",
        "keep_alive",
        "who",
    )

    def __init__(self, who: str, owner: Owner, budget: ReadBudget) -> None:
        self.who = who
        self.held = 0
        self.idle = False
        self.idle_since = self.idle_limit = 0.0
        self.keep_alive: str | None = None
        self._abandoned = False
        self._owner = owner
        self._budget = budget
        self._answer = AnswerReader(who)
        self._transport: asyncio.Transport | None = None
        self._peer: select.poll | None = None
        self._receiver: Receiver | None = None

    # ------------------------------------------------------------------ sending

    def send(self, receiver: Receiver, head: bytes, body: bytes, *, no_body: bool, max_answer: int) -> None:
        """Write one request; its answer goes to `receiver`. Only for a connection that is `usable`."""
        transport = self._transport
        assert transport is not None
        self._receiver = receiver
        self._answer.expect(no_body=no_body, max_answer=max_answer)
        if len(body) > _LARGE_BODY:
            transport.writelines((head, body))
        else:
            transport.write(head + body)

    def usable(self) -> bool:
        """Whether nothing speaks against sending now.

        Asks the kernel too: an app that restarts closes its idle connections, and the loop may not have heard of it.
        A request written then is lost, and nobody can tell whether the app saw it.
        """
        transport = self._transport
        if transport is None or self._receiver is not None or transport.is_closing():
            return False
        if self._peer is None:
            if not _PEER_WATCH:
                return True
            self._peer = select.poll()
            self._peer.register(self.get_socket().fileno(), _PEER_WATCH)
        return not self._peer.poll(0)

    def abandon(self) -> None:
        """Give up a connection that is being opened. uvloop closes such a one without a word to its protocol."""
        self._abandoned = True
        self.close()
        self._owner.lost(self)

    def get_socket(self) -> socket.socket:
        """The socket, for looking at it. Only while it is open."""
        assert self._transport is not None
        return cast(socket.socket, self._transport.get_extra_info("socket"))

    def close(self) -> None:
        """Drop the connection and whatever it was doing; a receiver is not told."""
        self._receiver = None
        self._budget.free(self)
        self._owner.dropped(self)
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------------ asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._abandoned:
            self._transport.abort()
        else:
            self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if self._receiver is None:
            self.close()
        elif answer.feed(data):
            self._finish()
        elif answer.size:
            self._budget.hold(self, answer.size)

    def eof_received(self) -> bool | None:
        if self._receiver is None:
            self.close()
        else:
            self._answer.end(orderly=True)
            self._finish()
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._receiver is not None:
            self._answer.end(orderly=False)
            self._finish()
        self.close()
        self._transport = None
        self._answer.forget()
        self._owner.lost(self)

    def pause(self) -> None:
        """Read no more for now (for the budget)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _finish(self) -> None:
        """Tell how the exchange ended, after letting go of the connection: the next call may want it at once."""
        receiver, answer = self._receiver, self._answer
        assert receiver is not None
        status, headers, body, fault = answer.status, answer.headers, answer.body, answer.fault
        if self.held:
            self._budget.free(self)
        if fault is None and not answer.last and self._all_sent():
            self._receiver = None
            self.keep_alive = None if headers is None else headers.get("keep-alive")
            self._owner.freed(self)
        else:
            self.close()
        if fault is not None:
            receiver.failed(fault)
        else:
            assert headers is not None
            assert body is not None
            receiver.answered(status, headers, body)

    def _all_sent(self) -> bool:
        return self._transport is not None and not self._transport.get_write_buffer_size()

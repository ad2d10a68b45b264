"""One connection to an app over plain HTTP/1.1: a request goes out, the answer is parsed as it comes.

Callback style, without a task for each call: this is the path of every step, and a task costs as much as all the rest.
Parsing is llhttp's, in its strict mode. What is decided here is when an answer may be believed and when a connection
may carry another request, because a mistake in either gives a caller the answer to somebody else's question:

* An answer counts when its framing says that it is whole: Content-Length reached, last chunk seen, or, for an answer
  without either, an orderly end of the stream. Anything else is `http_unreachable`.
* A connection is kept only if nothing went wrong, both sides want to keep it, the request had left completely and not
  a byte came after the answer. Bytes or an end that arrive while it is idle close it at once.
* A request is never repeated here. Once its bytes may have reached the app the app may have acted on them, and only
  the engine knows whether to try again.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any, Protocol, cast

import httptools

from perdure.protocol.calls import CallFailure
from perdure.transports.http_body import BodyReader
from perdure.transports.http_budget import ReadBudget

MAX_HEADER_BYTES = 64 * 1024
"""Most bytes of headers, trailers included, that an answer may have. Of what cannot be counted before it is whole (a
single header, a chunk extension) it is noticed one read later at most."""

_LARGE_BODY = 64 * 1024
_INFORMATIONAL_COST = 512
_TLS_ALERT = b"\x15\x03"
_MAX_KNOWN_NAMES = 1000
_header_names: dict[bytes, str] = {}
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
        "_answer_headers",
        "_body",
        "_budget",
        "_fault",
        "_header_bytes",
        "_headers",
        "_last",
        "_no_body",
        "_owner",
        "_parser",
        "_peer",
        "_receiver",
        "_status",
        "_transport",
        "_unparsed",
        "_until_end",
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
        self._transport: asyncio.Transport | None = None
        self._peer: select.poll | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._reset(False, 0)

    # ------------------------------------------------------------------ sending

    def send(self, receiver: Receiver, head: bytes, body: bytes, *, no_body: bool, max_answer: int) -> None:
        """Write one request; its answer goes to `receiver`. Only for a connection that is `usable`."""
        transport = self._transport
        assert transport is not None
        self._receiver = receiver
        self._reset(no_body, max_answer)
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

    def _reset(self, no_body: bool, max_answer: int) -> None:
        self._no_body = no_body
        self._body = BodyReader(self.who, max_answer)
        self._headers: dict[str, str] = {}
        self._answer_headers: dict[str, str] | None = None
        self._answer: bytes | None = None
        self._fault: CallFailure | None = None
        self._status = 0
        self._header_bytes = 0
        self._unparsed = 0
        self._until_end = False
        self._last = False

    # ------------------------------------------------------------------ asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._abandoned:
            self._transport.abort()
        else:
            self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            self.close()
            return
        self._unparsed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fault = self._unreachable("switched to another protocol instead of answering")
        except httptools.HttpParserError as error:
            self._last = True
            if self._answer is None:
                self._fault = self._fault or self._not_http(data, error)
        if self._header_bytes > MAX_HEADER_BYTES or (
            self._unparsed > MAX_HEADER_BYTES and self._answer is None
        ):
            what = f"sent more than {MAX_HEADER_BYTES} bytes of headers in its answer"
            self._fault = self._fault or self._unreachable(what)
        if self._fault is not None:
            self._fail(self._fault)
        elif self._answer is not None:
            self._finish()
        elif self._body.size:
            self._budget.hold(self, self._body.size)

    def eof_received(self) -> bool | None:
        if self._receiver is not None and self._until_end:
            self._last = True
            self._complete()
            if self._fault is None:
                self._finish()
                return None
        if self._receiver is not None:
            self._fail(self._fault or self._cut_short())
        else:
            self.close()
        return None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._receiver is not None:
            self._fail(self._cut_short())
        self.close()
        self._transport = self._parser = None
        self._owner.lost(self)

    def pause(self) -> None:
        """Read no more for now (for the budget)."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ------------------------------------------------------------------ the parser's callbacks

    def on_message_begin(self) -> None:
        if self._answer is not None:
            self._last = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        self._headers[_header_names.get(name) or _learn_name(name)] = text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._answer is not None:
            return
        self._unparsed = 0
        self._status = status
        headers = self._answer_headers = self._headers
        self._headers = {}
        if self._no_body or status in (204, 304):
            if self._no_body:
                # The parser does not know that a HEAD was sent and would wait for the body.
                self._last = True
                self._answer = b""
            return
        if headers:
            self._body.expect(headers)
            self._fault = self._body.fault
        coding = headers.get("transfer-encoding")
        if coding is None:
            self._until_end = "content-length" not in headers
        elif coding.strip().lower() != "chunked":
            self._fault = self._unreachable(f"answered with the transfer coding {coding[:40]!r}")

    def on_body(self, data: bytes) -> None:
        if self._answer is not None:
            return
        self._unparsed = 0
        self._body.add(data)
        if self._body.fault is not None:
            self._fault = self._body.fault

    def on_message_complete(self) -> None:
        if self._answer is not None:
            self._last = True
        elif self._answer_headers is None:
            self._headers = {}
            self._header_bytes += _INFORMATIONAL_COST
        else:
            # Asked here: the parser forgets the answer's framing right after this callback.
            self._last = not self._parser.should_keep_alive()
            self._complete()

    # ------------------------------------------------------------------ ends

    def _complete(self) -> None:
        self._answer = self._body.finish()
        self._fault = self._fault or self._body.fault

    def _finish(self) -> None:
        receiver, answer, headers, status = self._receiver, self._answer, self._answer_headers, self._status
        assert receiver is not None
        assert answer is not None
        assert headers is not None
        if self.held:
            self._budget.free(self)
        if not self._last and self._may_stay(headers):
            self._receiver = None
            self._owner.freed(self)
        else:
            self.close()
        receiver.answered(status, headers, answer)

    def _may_stay(self, headers: dict[str, str]) -> bool:
        transport = self._transport
        if transport is None or transport.get_write_buffer_size():
            return False
        self.keep_alive = headers.get("keep-alive")
        return True

    def _fail(self, failure: CallFailure) -> None:
        receiver = self._receiver
        self.close()
        if receiver is not None:
            receiver.failed(failure)

    def _unreachable(self, what: str) -> CallFailure:
        return CallFailure("http_unreachable", f"{self.who} {what}.")

    def _not_http(self, data: bytes, error: Exception) -> CallFailure:
        if self._answer_headers is not None:
            return self._unreachable(f"broke off its answer with something that is not HTTP ({error})")
        if data.startswith(_TLS_ALERT):
            return self._unreachable("speaks TLS: its address should begin with https://")
        return self._unreachable(f"answered with something that is not HTTP ({error})")

    def _cut_short(self) -> CallFailure:
        if self._answer_headers is None:
            return self._unreachable("closed the connection before it answered")
        return self._unreachable(
            f"closed the connection after {self._body.size} bytes of an unfinished answer"
        )


def _learn_name(name: bytes) -> str:
    lower = name.decode("latin-1").lower()
    if len(_header_names) < _MAX_KNOWN_NAMES:
        _header_names[name] = lower
    return lower

"""A WebSocket on a TCP connection: `websockets` knows the protocol, this brings it the bytes.

It is an asyncio protocol, so that a message costs one call and no task: made by the listener of the gateway's own
port, or put by uvicorn in the place of its HTTP protocol when a request on the main port asks for an upgrade.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from perdure.protocol.connect.messages import MAX_FRAME_BYTES, SUBPROTOCOL

PATH = "/v0/connect"
OPEN_S = 10.0
"""A peer has so long (seconds) to ask for a WebSocket."""
CLOSE_S = 5.0
"""A peer has so long (seconds) to answer a close; then the connection is cut."""
MAX_UNSENT = 64 * 1024 * 1024
"""A peer that lets more pile up (bytes) has stopped reading, and is cut off."""

log = logging.getLogger("perdure.connect")
_quiet = logging.getLogger("perdure.connect.socket")
_quiet.setLevel(logging.WARNING)


class Session(Protocol):
    """What is told of a socket."""

    def opened(self) -> None:
        """The WebSocket is open."""

    def received(self, data: bytes) -> None:
        """A whole message."""

    def writable(self, yes: bool) -> None:
        """The peer reads too slowly (False), or has caught up."""

    def lost(self, code: int | None, reason: str) -> None:
        """It is over: with the close code that came, or None if none did."""


class WorkerSocket(asyncio.Protocol):
    """One connection. `session` makes whoever is told of it."""

    def __init__(self, session: Callable[[WorkerSocket], Session]) -> None:
        self._ws = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MAX_FRAME_BYTES, logger=_quiet
        )
        self._transport: asyncio.Transport | None = None
        self._session = session(self)
        self._parts: list[bytes] = []
        self._open = False
        self._timer: asyncio.TimerHandle | None = None
        """Cuts the connection if it is not opened, or a close not answered, in time."""
        self._closing = False
        self.peer = ""
        """Address of the peer."""

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._cut_after(OPEN_S)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._ws.receive_data(data)
        self._handle()

    def eof_received(self) -> bool:
        """The peer sends no more."""
        self._ws.receive_eof()
        self._handle()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """The TCP connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport = None
        if self._open:
            self._open = False
            received = self._ws.close_rcvd
            if received is None:
                self._session.lost(None, "")
            else:
                self._session.lost(received.code, received.reason)

    def pause_writing(self) -> None:
        """Much waits to be sent."""
        self._session.writable(False)

    def resume_writing(self) -> None:
        """It has been sent."""
        self._session.writable(True)

    # What the session asks for

    @property
    def usable(self) -> bool:
        """Whether messages can be sent."""
        return self._ws.state is State.OPEN and self._transport is not None

    def send(self, messages: list[bytes]) -> None:
        """Send messages, each in a frame of its own, in one write."""
        if not self.usable:
            return
        for message in messages:
            self._ws.send_binary(message)
        self._flush()

    def close(self, code: int, reason: str) -> None:
        """Close in order; what was sent before still arrives."""
        if self.usable:
            self._ws.send_close(code, reason)
            self._flush()

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # Inside

    def _handle(self) -> None:
        for event in self._ws.events_received():
            if isinstance(event, Request):
                self._answer(event)
            elif isinstance(event, Frame):
                self._take(event)
        self._flush()

    def _answer(self, request: Request) -> None:
        if request.path.partition("?")[0].rstrip("/") != PATH:
            self._ws.send_response(self._ws.reject(404, f"Workers connect at {PATH}.\n"))
            return
        self._ws.send_response(self._ws.accept(request))
        if self._ws.state is State.OPEN:
            self._open = True
            if self._timer is not None:
                self._timer.cancel()
            self._session.opened()

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            return
        data = bytes(frame.data)
        if frame.fin and not self._parts:
            self._session.received(data)
            return
        self._parts.append(data)
        if frame.fin:
            whole, self._parts = b"".join(self._parts), []
            self._session.received(whole)

    def _cut_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _flush(self) -> None:
        transport = self._transport
        written = self._ws.data_to_send()
        if transport is None:
            return
        if written:
            end = written[-1] == b""
            transport.write(b"".join(written) if len(written) > 1 else written[0])
            if end:
                transport.close()
        if not self._closing and self._ws.close_expected():
            self._closing = True
            self._cut_after(CLOSE_S)
        elif transport.get_write_buffer_size() > MAX_UNSENT:
            log.warning(
                "a worker at %s has stopped reading and is cut off", self.peer or "an unknown address"
            )
            transport.abort()

"""One connection to a gateway: through the handshake, and until it is gone.

What is sent waits in an outbox until everything that is ready on the event loop has run, and while the socket
drains. A gateway that takes bundles then gets all of it in one frame, since a frame costs more than a message in
it. Finished steps are not even messages of their own: those of all calls go in one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial_socket
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from perdure.protocol import capabilities
from perdure.protocol.connect.messages import (
    SUBPROTOCOL,
    CheckpointEntry,
    ConnectMessage,
    Extensions,
    GatewayConnectionReadyData,
    Kind,
    StartResponse,
    SystemError,
    encode_checkpoints,
)
from perdure.protocol.connect.wire import WireError, decode, encode, join_delimited, split_delimited
from perdure.protocol.durations import parse_duration
from perdure.sdk.connect.setbacks import Setback, refused_worker
from perdure.sdk.exchange import SDK

log = logging.getLogger("perdure")

HANDSHAKE_S = 20.0
"""How long a gateway may take to greet, and to register the functions."""
HEARTBEAT_S = 10.0
LEASE_S = 5.0
"""Intervals of a gateway that names none, as in the official JavaScript SDK."""
MAX_UNANSWERED = 2
"""Heartbeats without an answer, after which the connection counts as lost (as in the official JavaScript SDK)."""
MAX_MESSAGE = 64 * 1024 * 1024
"""Longest frame that is read. A call carries up to 4 MiB of steps, and a bundle many calls."""
MAX_BUNDLE = 2 * 1024 * 1024
"""A frame is filled up to this size with messages; gateways take 8 MiB."""
CLOSE_S = 2.0


class Receiver(Protocol):
    """What is told of a connection."""

    def received(self, connection: Connection, kind: int, payload: bytes) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection:
    """A connection whose handshake is done. `agreed` are the extensions that both sides know."""

    def __init__(
        self,
        socket: ClientConnection,
        start: StartResponse,
        ready: GatewayConnectionReadyData,
        receiver: Receiver,
    ) -> None:
        self.id = start.connection_id
        self.group = start.gateway_group
        self.heartbeat_s = _seconds(ready.heartbeat_interval) or HEARTBEAT_S
        self.lease_s = _seconds(ready.extend_lease_interval) or LEASE_S
        self.status_s = _seconds(ready.status_interval)
        self.is_own = bool(ready.perdure)
        self.agreed = _extensions(ready.perdure)
        self.call_headers = _headers(self.agreed)
        """What a call over HTTP would say in its headers of what the server can do."""
        self.ending = asyncio.Event()
        """Set when the gateway is about to close the connection, or it is lost."""
        self.is_lost = False
        self._socket = socket
        self._receiver = receiver
        self._outbox: list[bytes] = []
        self._entries: list[CheckpointEntry] = []
        self._filled = asyncio.Event()
        self._unanswered = 0
        work = (self._read(), self._write(), self._beat())
        self._tasks = [asyncio.get_running_loop().create_task(one) for one in work]

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a message soon. It is gone without a word if the connection is lost before."""
        self._outbox.append(encode(ConnectMessage(kind, payload)))
        self._filled.set()

    def send_checkpoint(self, entry: CheckpointEntry) -> None:
        """Send finished steps soon, together with those of other calls."""
        self._entries.append(entry)
        self._filled.set()

    def heard_from(self) -> None:
        """A heartbeat was answered."""
        self._unanswered = 0

    async def close(self, reason: str = "") -> None:
        """Send what is in the outbox, and close."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._send_all()
                await self._socket.close(1000, reason)
        except (OSError, TimeoutError, WebSocketException):
            self._socket.transport.abort()
        for task in self._tasks:
            task.cancel()
        self._lose()

    async def _read(self) -> None:
        try:
            async for frame in self._socket:
                self._take(frame)
        except ConnectionClosed as closed:
            log.debug("The connection to the gateway was closed: %s", closed)
        finally:
            self._lose()

    def _take(self, frame: bytes | str) -> None:
        if isinstance(frame, str):
            log.warning("The gateway sent text, which Connect has none of; it is ignored.")
            return
        try:
            message = decode(frame, ConnectMessage)
            if message.kind != Kind.BUNDLE:
                self._receiver.received(self, message.kind, message.payload)
                return
            for part in split_delimited(message.payload):
                message = decode(part, ConnectMessage)
                self._receiver.received(self, message.kind, message.payload)
        except WireError as error:
            log.warning("A message of the gateway cannot be read and is ignored: %s", error)

    async def _write(self) -> None:
        try:
            while True:
                await self._filled.wait()
                await self._send_all()
        except (ConnectionClosed, OSError):
            self._lose()

    async def _send_all(self) -> None:
        while self._outbox or self._entries:
            self._filled.clear()
            for frame in self._frames():
                await self._socket.send(frame)

    def _frames(self) -> Iterator[bytes]:
        messages, self._outbox = self._outbox, []
        if self._entries:
            entries, self._entries = self._entries, []
            messages.append(encode(ConnectMessage(Kind.WORKER_CHECKPOINTS, encode_checkpoints(entries))))
        if not self.agreed.bundles:
            yield from messages
            return
        bundle: list[bytes] = []
        size = 0
        for message in messages:
            if bundle and size + len(message) > MAX_BUNDLE:
                yield _frame(bundle)
                bundle, size = [], 0
            bundle.append(message)
            size += len(message)
        if bundle:
            yield _frame(bundle)

    async def _beat(self) -> None:
        while self._unanswered < MAX_UNANSWERED:
            self.send(Kind.WORKER_HEARTBEAT)
            self._unanswered += 1
            await asyncio.sleep(self.heartbeat_s)
        log.warning(
            "The gateway has not answered %d heartbeats in %g s; the worker connects again.",
            MAX_UNANSWERED,
            MAX_UNANSWERED * self.heartbeat_s,
        )
        self._socket.transport.abort()
        self._lose()

    def _lose(self) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self.ending.set()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        self._receiver.lost(self)


async def open_connection(
    endpoint: str, start: StartResponse, hello: bytes, receiver: Receiver
) -> Connection:
    """Dial a gateway and introduce the worker: `hello` is what WORKER_CONNECT carries. Raises Setback."""
    try:
        socket = await dial_socket(
            endpoint,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            user_agent_header=SDK,
            proxy=None,
            open_timeout=HANDSHAKE_S,
            ping_interval=None,
            close_timeout=CLOSE_S,
            max_size=MAX_MESSAGE,
        )
    except (OSError, TimeoutError, WebSocketException) as error:
        raise Setback(
            f"The gateway {endpoint} cannot be reached ({error or type(error).__name__}). The server named this "
            "address; if it is another one from here, say so with app.connect(gateway_url=...).",
            group=start.gateway_group,
        ) from None
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            await _expect(socket, Kind.GATEWAY_HELLO)
            await socket.send(encode(ConnectMessage(Kind.WORKER_CONNECT, hello)))
            ready = decode(await _expect(socket, Kind.GATEWAY_CONNECTION_READY), GatewayConnectionReadyData)
    except _Failed as failed:
        socket.transport.abort()
        raise refused_worker(endpoint, failed.code, failed.message, start.gateway_group) from None
    except ConnectionClosed:
        reason = socket.close_reason or ""
        raise refused_worker(endpoint, reason, "", start.gateway_group) from None
    except (TimeoutError, WireError) as error:
        socket.transport.abort()
        text = str(error) or f"it did not finish the handshake within {HANDSHAKE_S:g} s"
        raise Setback(f"The gateway {endpoint} is no use: {text}.", group=start.gateway_group) from None
    except BaseException:
        socket.transport.abort()
        raise
    return Connection(socket, start, ready, receiver)


class _Failed(Exception):
    """The gateway could not register the functions."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code = code
        self.message = message


async def _expect(socket: ClientConnection, kind: Kind) -> bytes:
    while True:
        frame = await socket.recv()
        if isinstance(frame, str):
            raise WireError("it sent text")
        message = decode(frame, ConnectMessage)
        if message.kind == kind:
            return message.payload
        if message.kind == Kind.SYNC_FAILED:
            error = decode(message.payload, SystemError)
            raise _Failed(error.code, error.message)
        log.debug("The gateway sent message %d before %s", message.kind, kind.name)


def _frame(messages: list[bytes]) -> bytes:
    if len(messages) == 1:
        return messages[0]
    return encode(ConnectMessage(Kind.BUNDLE, join_delimited(messages)))


def _seconds(text: str) -> float:
    """A gateway's duration; 0 if it names none."""
    try:
        return parse_duration(text) / 1000 if text else 0.0
    except ValueError:
        log.warning("The gateway named an interval that is none: %r", text)
        return 0.0


def _headers(agreed: Extensions) -> dict[str, str]:
    words = ((agreed.checkpoints, capabilities.CHECKPOINTS), (agreed.logs, capabilities.LOGS))
    return {capabilities.HEADER.lower(): ", ".join(word for known, word in words if known)}


def _extensions(offered: bytes) -> Extensions:
    try:
        return msgspec.json.decode(offered, type=Extensions) if offered else Extensions()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Extensions()

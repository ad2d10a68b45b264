"""What happens on one socket: a worker introduces itself, is let in, and then says what its messages say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from perdure.errors import PerdureError, RequestError
from perdure.protocol.connect.messages import (
    ConnectMessage,
    Extensions,
    GatewayConnectionReadyData,
    Kind,
    SDKResponse,
    SystemError,
    WorkerReplyAckData,
    WorkerRequestAckData,
    WorkerRequestExtendLeaseData,
    agreed,
    decode_checkpoints,
)
from perdure.protocol.connect.wire import WireError, decode, encode, split_delimited
from perdure.transports.connect.connection import Description, Status, WorkerConnection
from perdure.transports.connect.handshake import (
    CLOSING,
    GOING_AWAY,
    HELLO_TIMEOUT,
    INTERNAL,
    INTERNAL_ERROR,
    INVALID_FUNCTIONS,
    INVALID_MESSAGE,
    INVALID_PAYLOAD,
    POLICY,
    Refusal,
    read_introduction,
)
from perdure.transports.connect.socket import WorkerSocket

if TYPE_CHECKING:
    from perdure.transports.connect.gateway import Gateway

log = logging.getLogger("perdure.connect")

HEARTBEATS_MISSED = "CONSECUTIVE_HEARTBEATS_MISSED"
MAX_EARLY = 100
"""So many messages are kept that come before the worker has been let in."""


class WorkerSession:
    """One socket of a worker, from its opening to its end."""

    def __init__(self, gateway: Gateway, socket: WorkerSocket) -> None:
        self._gateway = gateway
        self._socket = socket
        self._connection: WorkerConnection | None = None
        self._admission: asyncio.Task[None] | None = None
        self._early: list[ConnectMessage] = []
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0

    # What the socket tells

    def opened(self) -> None:
        """Greet, and wait for the worker to introduce itself."""
        self._gateway.sessions.add(self)
        self._say(Kind.GATEWAY_HELLO)
        if self._gateway.closing:
            self._socket.close(GOING_AWAY, CLOSING)
            return
        self._after(self._gateway.settings.hello, self._too_late)

    def received(self, data: bytes) -> None:
        """A frame came."""
        self._heard = asyncio.get_running_loop().time()
        try:
            message = decode(data, ConnectMessage)
            if message.kind == Kind.BUNDLE and self._connection is not None:
                for part in split_delimited(message.payload):
                    self._take(decode(part, ConnectMessage))
            else:
                self._take(message)
        except WireError as error:
            if self._connection is None:
                self._refuse(Refusal(POLICY, INVALID_PAYLOAD, str(error)))
            else:
                log.warning(
                    "a message of worker %s is left out: %s", self._connection.said.instance_id, error
                )

    def writable(self, yes: bool) -> None:
        """The worker reads too slowly to get more calls, or has caught up."""
        if self._connection is not None:
            self._connection.writable = yes
            self._gateway.changed()

    def lost(self, code: int | None, reason: str) -> None:
        """The socket is gone."""
        self._gateway.sessions.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._admission is not None:
            self._admission.cancel()
        if self._connection is not None:
            self._gateway.lost(self._connection, code, reason)

    # What the gateway asks for

    def announce_closing(self) -> None:
        """Tell the worker to connect anew, as this gateway will be gone soon."""
        if self._connection is not None:
            self._connection.status = Status.DISCONNECTING
            self._gateway.changed()
            self._connection.send(Kind.GATEWAY_CLOSING)
            self._connection.flush()

    def close(self, code: int, reason: str) -> None:
        """Close the socket in order."""
        self._socket.close(code, reason)

    def abort(self) -> None:
        """Cut the socket off."""
        self._socket.abort()

    # Letting in

    def _say(self, kind: Kind, payload: bytes = b"") -> None:
        self._socket.send([encode(ConnectMessage(kind, payload))])

    def _after(self, ms: int, what: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ms / 1000, what)

    def _too_late(self) -> None:
        if self._admission is None:
            self._refuse(Refusal(POLICY, HELLO_TIMEOUT, "it did not introduce itself in time"))

    def _refuse(self, refusal: Refusal, extensions: Extensions | None = None) -> None:
        """Close; a worker on Perdure's own SDK is told more. Others show its author only the reason of the close."""
        log.warning(
            "a worker at %s is not let in: %s (%s)", self._socket.peer, refusal.message, refusal.reason
        )
        if extensions is not None and extensions != Extensions():
            self._say(Kind.SYNC_FAILED, encode(SystemError(refusal.reason, None, refusal.message)))
        self._socket.close(refusal.code, refusal.reason)

    def _take(self, message: ConnectMessage) -> None:
        if self._connection is not None:
            self._handle(self._connection, message)
        elif self._admission is not None:
            if len(self._early) < MAX_EARLY:
                self._early.append(message)
        elif message.kind != Kind.WORKER_CONNECT:
            text = f"its first message was of kind {message.kind}, not {Kind.WORKER_CONNECT:d}"
            self._refuse(Refusal(POLICY, INVALID_MESSAGE, text))
        else:
            self._admission = asyncio.get_running_loop().create_task(self._admit(message.payload))

    async def _admit(self, payload: bytes) -> None:
        gateway = self._gateway
        extensions = None
        try:
            said = read_introduction(payload, gateway.is_token, gateway.settings.max_apps)
            extensions = said.extensions
            await self._sync(said)
        except Refusal as refusal:
            self._refuse(refusal, extensions)
        except PerdureError as error:
            self._refuse(Refusal(INTERNAL, INTERNAL_ERROR, str(error)), extensions)
        except Exception:
            log.exception("a worker could not be let in")
            self._refuse(Refusal(INTERNAL, INTERNAL_ERROR, "the server failed; its log says why"), extensions)
        else:
            if self._socket.usable:
                self._enter(said)

    async def _sync(self, said: Description) -> None:
        for group in said.groups.values():
            try:
                await self._gateway.register(said, group)
            except WireError as error:
                raise Refusal(POLICY, INVALID_FUNCTIONS, f"app {group.app}: {error}") from None
            except RequestError as error:
                if error.status >= 500:
                    raise
                raise Refusal(POLICY, INVALID_FUNCTIONS, f"app {group.app}: {error.message}") from None

    def _enter(self, said: Description) -> None:
        gateway, settings = self._gateway, self._gateway.settings
        extensions = agreed(said.extensions, gateway.extensions)
        connection = WorkerConnection(said, self._socket, extensions, gateway.now())
        own = said.extensions != Extensions()
        ready = GatewayConnectionReadyData(
            heartbeat_interval=f"{settings.heartbeat // 1000}s",
            extend_lease_interval=f"{(settings.own_extend if own else settings.extend) // 1000}s",
            status_interval="0s",
            perdure=msgspec.json.encode(extensions) if own else b"",
        )
        self._say(Kind.GATEWAY_CONNECTION_READY, encode(ready))
        self._connection = connection
        gateway.entered(connection)
        self._after(settings.heartbeat, self._listen)
        early, self._early = self._early, []
        for message in early:
            self._take(message)

    def _listen(self) -> None:
        """Drop a worker that has been silent for too long."""
        settings = self._gateway.settings
        silent = (asyncio.get_running_loop().time() - self._heard) * 1000
        if silent < settings.heartbeat * settings.missed_heartbeats:
            self._after(settings.heartbeat, self._listen)
            return
        assert self._connection is not None
        log.warning(
            "worker %s has been silent for %.0f s and is dropped",
            self._connection.said.instance_id,
            silent / 1000,
        )
        self._socket.close(POLICY, HEARTBEATS_MISSED)
        self._gateway.lost(self._connection, None, HEARTBEATS_MISSED)

    # Messages

    def _handle(self, connection: WorkerConnection, message: ConnectMessage) -> None:
        gateway, payload = self._gateway, message.payload
        match message.kind:
            case Kind.WORKER_REPLY:
                response = decode(payload, SDKResponse)
                gateway.reply(response, lambda: _acknowledge(connection, response.request_id))
            case Kind.WORKER_REQUEST_ACK:
                gateway.acknowledged(connection, decode(payload, WorkerRequestAckData).request_id)
            case Kind.WORKER_CHECKPOINTS if connection.extensions.checkpoints:
                gateway.checkpoints(decode_checkpoints(payload), connection.checked)
            case Kind.WORKER_REQUEST_EXTEND_LEASE:
                gateway.extend(connection, decode(payload, WorkerRequestExtendLeaseData))
            case Kind.WORKER_HEARTBEAT:
                connection.heard_at = gateway.now()
                connection.send(Kind.GATEWAY_HEARTBEAT)
            case Kind.WORKER_READY:
                connection.status = Status.READY
                gateway.changed()
            case Kind.WORKER_PAUSE:
                connection.status = Status.DRAINING
                gateway.changed()
            case Kind.WORKER_LOGS if connection.extensions.logs:
                gateway.logs(payload)
            case Kind.WORKER_STATUS:
                pass
            case _:
                log.debug("worker %s sent a message of kind %d", connection.said.instance_id, message.kind)


def _acknowledge(connection: WorkerConnection, request_id: str) -> None:
    connection.send(Kind.WORKER_REPLY_ACK, encode(WorkerReplyAckData(request_id)))

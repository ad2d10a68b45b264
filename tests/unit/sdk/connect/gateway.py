"""A gateway that does what a test tells it, on real sockets of the loopback address.

It greets, registers and says ready by itself; calls, confirmations and everything else are the test's to send.
What came is kept, and waited for with `Line.next`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

import perdure
from perdure.protocol.capabilities import CHECKPOINTS_PATH
from perdure.protocol.connect.messages import (
    SUBPROTOCOL,
    CheckpointAck,
    CheckpointEntry,
    ConnectMessage,
    Extensions,
    GatewayConnectionReadyData,
    GatewayExecutorRequestData,
    Kind,
    SDKResponse,
    StartRequest,
    StartResponse,
    SystemError,
    WorkerConnectRequestData,
    WorkerReplyAckData,
    WorkerRequestExtendLeaseAckData,
    WorkerRequestExtendLeaseData,
    decode_checkpoints,
    encode_checkpoint_acks,
)
from perdure.protocol.connect.wire import Message, decode, encode, join_delimited, split_delimited
from tests.unit.sdk.calls import body_of

PATIENCE_S = 5.0
OWN = Extensions(checkpoints=1, bundles=1, logs=1)
M = TypeVar("M", bound=Message)


class Line:
    """One connection, as the gateway has it, after the handshake."""

    def __init__(self, socket: ServerConnection, hello: WorkerConnectRequestData) -> None:
        self.socket = socket
        self.hello = hello
        self.frames = 0
        self.answer_heartbeats = True
        self.kinds: list[int] = []
        self._kept: deque[tuple[int, bytes]] = deque()
        self._arrived = asyncio.Condition()

    async def read(self) -> None:
        """Take in what comes, until the connection is gone."""
        with suppress(ConnectionClosed):
            async for frame in self.socket:
                assert isinstance(frame, bytes)
                self.frames += 1
                message = decode(frame, ConnectMessage)
                bundled = message.kind == Kind.BUNDLE
                for part in split_delimited(message.payload) if bundled else [frame]:
                    await self._keep(decode(part, ConnectMessage))

    async def _keep(self, message: ConnectMessage) -> None:
        self.kinds.append(message.kind)
        if message.kind == Kind.WORKER_HEARTBEAT and self.answer_heartbeats:
            await self.send(Kind.GATEWAY_HEARTBEAT)
        async with self._arrived:
            self._kept.append((message.kind, message.payload))
            self._arrived.notify_all()

    async def next(self, kind: Kind, form: type[M] = Message) -> M:  # type: ignore[assignment]
        """The next message of a kind that has not been asked for yet, read as `form`."""
        return decode(await self.next_bytes(kind), form)

    async def next_bytes(self, kind: Kind) -> bytes:
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            while True:
                for found in self._kept:
                    if found[0] == kind:
                        self._kept.remove(found)
                        return found[1]
                await self._arrived.wait()

    async def next_of_any(self) -> tuple[int, bytes]:
        """The next message of whatever kind. Raises TimeoutError when none comes for long."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            while not self._kept:
                await self._arrived.wait()
            return self._kept.popleft()

    def waiting(self, kind: Kind) -> int:
        """How many messages of a kind have come that nobody has asked for."""
        return sum(one == kind for one, _ in self._kept)

    async def send(self, kind: Kind, message: Message | bytes = b"") -> None:
        payload = message if isinstance(message, bytes) else encode(message)
        await self.socket.send(encode(ConnectMessage(kind, payload)))

    async def send_together(self, *messages: tuple[Kind, Message]) -> None:
        """Send several in one frame."""
        parts = [encode(ConnectMessage(kind, encode(message))) for kind, message in messages]
        await self.socket.send(encode(ConnectMessage(Kind.BUNDLE, join_delimited(parts))))

    async def call(self, fn: str, request_id: str = "req-1", **options: Any) -> GatewayExecutorRequestData:
        request = request_of(fn, request_id, **options)
        await self.send(Kind.GATEWAY_EXECUTOR_REQUEST, request)
        return request

    async def reply(self, *, confirm: bool = True) -> SDKResponse:
        """The next answer, confirmed unless the test says otherwise."""
        answer = await self.next(Kind.WORKER_REPLY, SDKResponse)
        if confirm:
            await self.send(Kind.WORKER_REPLY_ACK, WorkerReplyAckData(answer.request_id))
        return answer

    async def checkpoints(self, status: int | None = 200) -> list[CheckpointEntry]:
        """The next finished steps, answered with a status."""
        entries = decode_checkpoints(await self.next_bytes(Kind.WORKER_CHECKPOINTS))
        if status is not None:
            acks = [CheckpointAck(entry.seq, status, "as told") for entry in entries]
            await self.send(Kind.GATEWAY_CHECKPOINTS_ACK, encode_checkpoint_acks(acks))
        return entries

    async def lease(self, new_lease_id: str | None) -> WorkerRequestExtendLeaseData:
        """The next wish to extend a lease, answered."""
        wish = await self.next(Kind.WORKER_REQUEST_EXTEND_LEASE, WorkerRequestExtendLeaseData)
        ack = WorkerRequestExtendLeaseAckData(wish.request_id, new_lease_id=new_lease_id)
        await self.send(Kind.WORKER_REQUEST_EXTEND_LEASE_ACK, ack)
        return wish


def request_of(
    fn: str, request_id: str = "req-1", *, target: str | None = "step", app: str = "unit", **body: Any
) -> GatewayExecutorRequestData:
    """A call, as a gateway makes it; see `body_of` for what is in it."""
    ids = {"fn_id": "FN", "qi_id": "QI", "request_id": request_id, "generation_id": 3}
    return GatewayExecutorRequestData(
        request_id=request_id,
        account_id="account",
        env_id="env",
        app_id="app-id",
        app_name=app,
        function_id="FN",
        function_slug=f"{app}-{fn}",
        step_id=target,
        request_payload=body_of(**{**ids, **body}),
        system_trace_ctx=b'{"traceparent":"00-1"}',
        user_trace_ctx=b"{}",
        run_id="01RUN",
        lease_id="lease-1",
    )


class Gateway:
    """The server's two doors: HTTP for the start, for flushes and for steps; a WebSocket for the rest."""

    def __init__(self, *, own: Extensions | None = None, heartbeat: str = "10s", lease: str = "30s") -> None:
        self.ready = GatewayConnectionReadyData(
            heartbeat, lease, "0s", b"" if own is None else msgspec.json.encode(own)
        )
        self.lines: list[Line] = []
        self.starts: list[StartRequest] = []
        self.start_headers: list[dict[str, str]] = []
        self.start_answers: deque[tuple[int, bytes]] = deque()
        """What to answer to the next starts, instead of a gateway."""
        self.flushed: list[SDKResponse] = []
        self.flush_answers: deque[int] = deque()
        self.posted: list[tuple[str, Any]] = []
        self.sync_failed: SystemError | None = None
        self.close_with: tuple[int, str] | None = None
        self.refuse_sockets = False
        self._arrived = asyncio.Condition()
        self._taken = 0
        self._http: asyncio.Server | None = None
        self._ws: Any = None

    async def __aenter__(self) -> Gateway:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self, port: int = 0) -> None:
        self._http = await asyncio.start_server(self._serve_http, "127.0.0.1", port)
        self._ws = await serve(
            self._serve_socket, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None,
            max_size=None, close_timeout=1, process_request=self._open_socket,
        )  # fmt: skip

    async def close(self) -> None:
        """Be gone, as if killed."""
        assert self._http is not None
        self._http.close()
        for line in self.lines:
            line.socket.transport.abort()
        self._ws.close()
        await self._ws.wait_closed()

    @property
    def port(self) -> int:
        assert self._http is not None
        port: int = self._http.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"ws://127.0.0.1:{next(iter(self._ws.sockets)).getsockname()[1]}/v0/connect"

    async def line(self) -> Line:
        """The next connection."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            while len(self.lines) <= self._taken:
                await self._arrived.wait()
            self._taken += 1
            return self.lines[self._taken - 1]

    async def until(self, look: Callable[[], Any]) -> Any:
        """Wait until the gateway has seen something."""
        async with asyncio.timeout(PATIENCE_S):
            while not (seen := look()):
                await asyncio.sleep(0.005)
            return seen

    def _open_socket(self, socket: ServerConnection, _request: Request) -> Response | None:
        return socket.respond(503, "no room") if self.refuse_sockets else None

    async def _serve_socket(self, socket: ServerConnection) -> None:
        await socket.send(encode(ConnectMessage(Kind.GATEWAY_HELLO)))
        try:
            frame = await socket.recv()
        except ConnectionClosed:
            return
        assert isinstance(frame, bytes)
        message = decode(frame, ConnectMessage)
        assert message.kind == Kind.WORKER_CONNECT
        if self.sync_failed is not None:
            await socket.send(encode(ConnectMessage(Kind.SYNC_FAILED, encode(self.sync_failed))))
        if self.close_with is not None:
            await socket.close(*self.close_with)
            return
        line = Line(socket, decode(message.payload, WorkerConnectRequestData))
        await line.send(Kind.GATEWAY_CONNECTION_READY, self.ready)
        async with self._arrived:
            self.lines.append(line)
            self._arrived.notify_all()
        await line.read()

    async def _serve_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head[:-4].split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                status, answer = self._answer(first.split()[1], headers, body)
                writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n" % (status, len(answer)) + answer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()

    def _answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        if path == "/v0/connect/start":
            self.starts.append(decode(body, StartRequest))
            self.start_headers.append(headers)
            if self.start_answers:
                return self.start_answers.popleft()
            number = len(self.starts)
            return 200, encode(StartResponse(f"CONN{number}", self.endpoint, "gw-1", "session", "sync"))
        if path == "/v0/connect/flush":
            status = self.flush_answers.popleft() if self.flush_answers else 200
            if status == 200:
                self.flushed.append(decode(body, SDKResponse))
            return status, b""
        self.posted.append((path, json.loads(body)))
        if path == CHECKPOINTS_PATH:
            return 200, json.dumps([{"status": 200}] * len(json.loads(body))).encode()
        return 200, b"{}"


def make_app(gateway: Gateway, **options: Any) -> perdure.App:
    return perdure.App("unit", url=gateway.url, **options)

"""A worker without an SDK: it says on the socket what a test wants it to say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from perdure.protocol.connect.messages import (
    SUBPROTOCOL,
    AppConfiguration,
    AuthData,
    ConnectMessage,
    GatewayConnectionReadyData,
    GatewayExecutorRequestData,
    Kind,
    ResponseStatus,
    SDKResponse,
    StartRequest,
    StartResponse,
    SystemAttributes,
    WorkerConnectRequestData,
    WorkerRequestAckData,
    WorkerRequestExtendLeaseAckData,
    WorkerRequestExtendLeaseData,
)
from perdure.protocol.connect.wire import Message, decode, encode, split_delimited
from tests.sdk.driver import Server

PATIENCE_S = 15.0


def function(app: str, name: str, **fields: Any) -> dict[str, Any]:
    """A function's configuration as the JavaScript SDK sends it, on the event `<app>/<name>`."""
    return {
        "id": f"{app}-{name}",
        "name": name,
        "triggers": [{"event": f"{app}/{name}"}],
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {"type": "ws", "url": f"wss://connect?fnId={app}-{name}&stepId=step"},
            }
        },
        **fields,
    }


def app(name: str, *functions: str, version: str | None = None, **fields: Any) -> AppConfiguration:
    """An app with functions of these names, `run` if none is named. `fields` go into each configuration."""
    configs = [function(name, each, **fields) for each in functions or ("run",)]
    return AppConfiguration(name, version, json.dumps(configs).encode())


async def start(server: Server, **headers: str) -> StartResponse:
    """Ask for a connection."""
    async with httpx.AsyncClient(base_url=server.url, headers={**server.http.headers, **headers}) as http:
        answer = await http.post("/v0/connect/start", content=encode(StartRequest()))
    assert answer.status_code == 200, answer.text
    return decode(answer.content, StartResponse)


async def flush(server: Server, response: SDKResponse) -> httpx.Response:
    """Leave an answer over HTTP."""
    async with httpx.AsyncClient(base_url=server.url, headers=server.http.headers) as http:
        return await http.post("/v0/connect/flush", content=encode(response))


class BareWorker:
    """A worker on a socket that is open."""

    def __init__(self, started: StartResponse, socket: ClientConnection) -> None:
        self.started = started
        self.socket = socket
        self.bundles = 0
        """How many frames came with several messages in them."""
        self._seen: list[ConnectMessage] = []

    @classmethod
    async def dial(cls, server: Server, endpoint: str | None = None) -> BareWorker:
        """Open a socket, and wait for the greeting."""
        started = await start(server)
        socket = await connect(
            endpoint or started.gateway_endpoint, subprotocols=[SUBPROTOCOL], max_size=64 * 1024 * 1024
        )
        worker = cls(started, socket)
        await worker.get(Kind.GATEWAY_HELLO)
        return worker

    @classmethod
    async def ready(cls, server: Server, *apps: AppConfiguration, **fields: Any) -> BareWorker:
        """Open a socket, and be let in; `fields` go into the introduction."""
        worker = await cls.dial(server)
        await worker.introduce(*apps, **fields)
        await worker.get(Kind.GATEWAY_CONNECTION_READY)
        return worker

    def introduction(self, *apps: AppConfiguration, **fields: Any) -> WorkerConnectRequestData:
        """What `introduce` says."""
        said = {
            "connection_id": self.started.connection_id,
            "instance_id": "bare",
            "auth_data": AuthData(self.started.session_token, self.started.sync_token),
            "capabilities": b"{}",
            "apps": list(apps),
            "framework": "connect",
            "sdk_version": "v1.2.3",
            "sdk_language": "bare",
            "system_attributes": SystemAttributes(4, 1 << 33, "linux"),
        }
        return WorkerConnectRequestData(**{**said, **fields})

    async def introduce(self, *apps: AppConfiguration, **fields: Any) -> None:
        await self.say(Kind.WORKER_CONNECT, self.introduction(*apps, **fields))

    async def say(self, kind: int, payload: Message | bytes = b"") -> None:
        """Send a message."""
        data = payload if isinstance(payload, bytes) else encode(payload)
        await self.socket.send(encode(ConnectMessage(kind, data)))

    async def get(self, kind: int, timeout: float = PATIENCE_S) -> bytes:
        """The payload of the next message of a kind. Others are kept for later."""

        def of_kind(message: ConnectMessage) -> bool:
            return message.kind == kind

        return (await self.find(of_kind, timeout)).payload

    async def find(
        self, wanted: Callable[[ConnectMessage], bool], timeout: float = PATIENCE_S
    ) -> ConnectMessage:
        async with asyncio.timeout(timeout):
            while True:
                for message in self._seen:
                    if wanted(message):
                        self._seen.remove(message)
                        return message
                self._keep(decode(bytes(await self.socket.recv()), ConnectMessage))

    def _keep(self, message: ConnectMessage) -> None:
        if message.kind == Kind.BUNDLE:
            self.bundles += 1
            self._seen += [decode(part, ConnectMessage) for part in split_delimited(message.payload)]
        else:
            self._seen.append(message)

    async def quiet(self, kind: int, seconds: float) -> None:
        """No message of a kind may come for so long."""
        try:
            payload = await self.get(kind, seconds)
        except TimeoutError:
            return
        raise AssertionError(f"a message of kind {kind} came: {payload[:200]!r}")

    async def closed(self, timeout: float = PATIENCE_S) -> tuple[int, str]:
        """Code and reason with which the server closes."""
        async with asyncio.timeout(timeout):
            with suppress(ConnectionClosed):
                async for frame in self.socket:
                    self._keep(decode(bytes(frame), ConnectMessage))
            await self.socket.wait_closed()
        code = self.socket.close_code
        assert code not in (None, 1006), "cut off without a close"
        return code or 0, self.socket.close_reason or ""

    def cut(self) -> None:
        """End the connection as a process does that is killed."""
        self.socket.transport.abort()

    async def close(self) -> None:
        await self.socket.close(1000, "WORKER_SHUTDOWN")

    # Calls

    async def call(self, timeout: float = PATIENCE_S) -> GatewayExecutorRequestData:
        """The next call, acknowledged."""
        request = decode(await self.get(Kind.GATEWAY_EXECUTOR_REQUEST, timeout), GatewayExecutorRequestData)
        await self.say(Kind.WORKER_REQUEST_ACK, acknowledgement(request))
        return request

    async def answer(
        self,
        request: GatewayExecutorRequestData,
        value: Any,
        status: int = ResponseStatus.DONE,
        **fields: Any,
    ) -> None:
        """Answer a call, and wait until that has been stored."""
        await self.say(Kind.WORKER_REPLY, reply(request, value, status, **fields))
        await self.get(Kind.WORKER_REPLY_ACK)

    async def extend(self, request: GatewayExecutorRequestData) -> str | None:
        """Extend the lease of a call; the new one, None if it is refused."""
        asked = acknowledgement(request)
        fields = {name: getattr(asked, name) for name in asked.__struct_fields__}
        await self.say(
            Kind.WORKER_REQUEST_EXTEND_LEASE,
            WorkerRequestExtendLeaseData(**fields, lease_id=request.lease_id),
        )
        payload = await self.get(Kind.WORKER_REQUEST_EXTEND_LEASE_ACK)
        lease = decode(payload, WorkerRequestExtendLeaseAckData).new_lease_id
        request.lease_id = lease or request.lease_id
        return lease


def acknowledgement(request: GatewayExecutorRequestData) -> WorkerRequestAckData:
    return WorkerRequestAckData(
        request.request_id,
        request.account_id,
        request.env_id,
        request.app_id,
        request.function_slug,
        request.step_id,
        request.system_trace_ctx,
        request.user_trace_ctx,
        request.run_id,
    )


def reply(
    request: GatewayExecutorRequestData, value: Any, status: int = ResponseStatus.DONE, **fields: Any
) -> SDKResponse:
    return SDKResponse(
        request.request_id,
        request.account_id,
        request.env_id,
        request.app_id,
        status,
        json.dumps(value).encode(),
        sdk_version="bare:v1.2.3",
        request_version=2,
        system_trace_ctx=request.system_trace_ctx,
        user_trace_ctx=request.user_trace_ctx,
        **fields,
    )


def ready_data(payload: bytes) -> GatewayConnectionReadyData:
    return decode(payload, GatewayConnectionReadyData)

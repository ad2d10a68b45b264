"""The HTTP side of Connect: where workers ask for a connection, and leave answers that nobody has acknowledged.

    POST /v0/connect/start   the gateway's address, and a token for it
    POST /v0/connect/flush   an answer
    GET  /v0/connect/envs/{env}/conns, /groups/{hash}   who is connected, as SDKs ask for it
    GET  /v1/workers         the same for people

The gateway itself is a transport; what this module needs of it is the port `ConnectGateway`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from perdure.errors import RequestError, ShardClosed
from perdure.protocol.connect.messages import (
    CheckpointAck,
    CheckpointEntry,
    FlushResponse,
    SDKResponse,
    StartRequest,
    StartResponse,
)
from perdure.protocol.connect.wire import Message, WireError, decode, encode
from perdure.protocol.durations import format_time
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID, app_uuid, new_ulid
from perdure.protocol.registration import RegistrationError
from perdure.server.checkpoints import Posted, command_of
from perdure.server.context import Server
from perdure.server.http import read_body
from perdure.server.json import JsonResponse
from perdure.server.registering import take_in
from perdure.shard.commands import CallWanted
from perdure.shard.rows import CONNECT
from perdure.shard.workers import STATUSES, WorkerApp, WorkerRecord

log = logging.getLogger("perdure.connect")

MAX_START_BYTES = 64 * 1024
MAX_FLUSH_BYTES = 16 * 1024 * 1024
GATEWAY_GROUP = "gw-dev"
FLUSH_S = 10.0
"""An answer that is not on disk after so long (seconds) is to be flushed again."""
PROTOBUF = "application/octet-stream"


class ConnectGateway(Protocol):
    """What the HTTP side needs of the gateway."""

    closing: bool

    def new_token(self) -> str:
        """A session token for a worker that is about to connect."""

    def reply(self, response: SDKResponse, told: Callable[[], None]) -> None:
        """An answer came. `told` is called when it is on disk, or at once if it is of no use any more."""

    def records(self) -> list[WorkerRecord]:
        """The workers that are connected."""


class Connecting:
    """The routes of Connect over a gateway, and what the gateway asks of the server."""

    def __init__(self, server: Server, gateway: ConnectGateway) -> None:
        self.ports: tuple[int, int | None] | None = None
        """The server's port, and the one on which the gateway listens for itself, if it does.

        None where there is no listener of the server's own: who passes requests on to it passes no WebSockets.
        """
        self._server = server
        self._gateway = gateway
        self._tasks: set[asyncio.Task[None]] = set()
        self._registered: dict[str, str] = {}
        """Groups of workers whose registration has been taken in, and the app of each."""

    def routes(self) -> list[Route]:
        """The routes of this module."""
        return [
            Route("/v0/connect/start", self._start, methods=["POST"]),
            Route("/v0/connect/flush", self._flush, methods=["POST"]),
            Route("/v0/connect/envs/{env}/conns", self._connections),
            Route("/v0/connect/envs/{env}/groups/{hash}", self._group),
            Route("/v1/workers", self._workers),
        ]

    # What workers ask over HTTP

    async def _start(self, request: Request) -> Response:
        await self._read(request, StartRequest, MAX_START_BYTES)
        server, ports = self._server, self.ports
        if ports is None:
            raise RequestError(404, "This server is part of an app's process: workers cannot connect to it.")
        if self._gateway.closing or not server.shard.accepting:
            raise RequestError(
                503, f"Try again in a moment: {server.shard.trouble or 'the server is stopping'}"
            )
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        answer = StartResponse(
            connection_id=new_ulid(server.clock.now(), server.entropy(10)),
            gateway_endpoint=gateway_endpoint(request, *ports),
            gateway_group=GATEWAY_GROUP,
            session_token=self._gateway.new_token(),
            sync_token=bearer.strip() if scheme.lower() == "bearer" else "",
        )
        return Response(encode(answer), media_type=PROTOBUF)

    async def _flush(self, request: Request) -> Response:
        response = await self._read(request, SDKResponse, MAX_FLUSH_BYTES)
        assert isinstance(response, SDKResponse)
        if not response.request_id:
            raise RequestError(400, "request_id is empty")
        try:
            msgspec.json.decode(response.system_trace_ctx)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise RequestError(400, "system_trace_ctx is not JSON") from None
        if not self._server.shard.available:
            raise RequestError(503, f"Flush it again in a moment: {self._server.shard.trouble}")
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gateway.reply(response, lambda: _settle(stored))
        try:
            await asyncio.wait_for(asyncio.shield(stored), FLUSH_S)
        except TimeoutError:
            raise RequestError(503, "The answer could not be stored yet; flush it again") from None
        return Response(encode(FlushResponse(response.request_id)), media_type=PROTOBUF)

    async def _read(self, request: Request, kind: type[Message], limit: int) -> Message:
        body = await read_body(request.receive, limit, self._server.intake)
        try:
            return decode(body, kind)
        except WireError as error:
            raise RequestError(400, f"Invalid request: {error}") from None

    # Who is connected

    async def _connections(self, request: Request) -> Response:
        app_id = request.query_params.get("app_id", "")
        records = self._gateway.records()
        found = [r for r in records if not app_id or any(app_uuid(app.name) == app_id for app in r.apps)]
        return JsonResponse({"data": [_metadata(record) for record in found]})

    async def _group(self, request: Request) -> Response:
        wanted = request.path_params["hash"]
        members = [(r, app) for r in self._gateway.records() for app in r.apps if app.group == wanted]
        if not members:
            raise RequestError(404, f"No worker of group {wanted[:80]} is connected")
        record, app = members[0]
        group = {
            "acct_id": ACCOUNT_ID,
            "env_id": ENVIRONMENT_ID,
            "app_id": app_uuid(app.name),
            "app_name": app.name,
            "app_version": app.version or None,
            "sdk_lang": record.sdk_language,
            "sdk_version": record.sdk_version,
            "sdk_platform": record.platform,
            "fns": list(app.functions),
            "hash": wanted,
            "synced": True,
            "conns": [record.id for record, _ in members],
        }
        return JsonResponse({"data": {name: value for name, value in group.items() if value is not None}})

    async def _workers(self, _: Request) -> Response:
        return JsonResponse({"data": [shown(record) for record in self._gateway.records()]})

    # What the gateway asks

    async def register(self, body: bytes, group: str) -> None:
        """Take in the registration of a group of workers, unless it has been, and is in force.

        So a worker of an older version that comes back does not undo what a newer one has registered.
        """
        known = self._registered.get(group)
        if known is not None:
            app = self._server.shard.state.apps.get(known)
            if app is not None and app.archived_at is None and app.method == CONNECT:
                return
        self._server.registrations += 1
        try:
            registered = await take_in(self._server, body)
        except RegistrationError as error:
            raise RequestError(error.status, error.reason) from None
        self._registered[group] = registered.app_id

    def wanted(self, run_id: str, n: int, generation: int) -> asyncio.Future[bool]:
        """Whether a call is wanted still. Fails if nobody can say now."""
        try:
            return self._server.shard.submit(CallWanted(run=run_id, n=n, generation=generation))  # type: ignore[return-value]
        except ShardClosed as error:
            nobody: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            nobody.set_exception(error)
            return nobody

    def checkpoints(self, entries: list[CheckpointEntry], told: Callable[[CheckpointAck], None]) -> None:
        """Have finished steps of running calls recorded; all are given to the shard at once."""
        for entry in entries:
            posted = Posted(entry.run_id, entry.qi_id, entry.generation, msgspec.Raw(entry.steps))
            try:
                stored = self._server.submit(command_of(posted, entry.took))
            except RequestError as refusal:
                told(_ack(entry.seq, refusal))
            else:
                stored.add_done_callback(partial(_checked, entry.seq, told))

    def logs(self, body: bytes) -> None:
        """Take in log lines of steps; nobody is told what came of them."""
        task = asyncio.get_running_loop().create_task(self._take_logs(body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_logs(self, body: bytes) -> None:
        try:
            await self._server.take_logs(body)
        except RequestError as error:
            log.debug("log lines of a worker are left out: %s", error.message)


def _settle(stored: asyncio.Future[None]) -> None:
    if not stored.done():
        stored.set_result(None)


def _checked(seq: int, told: Callable[[CheckpointAck], None], stored: asyncio.Future[object]) -> None:
    if stored.cancelled():
        told(CheckpointAck(seq, 503, "Try again in a moment"))
        return
    error = stored.exception()
    if error is not None and not isinstance(error, RequestError):
        log.error("a checkpoint could not be recorded", exc_info=error)
        error = RequestError(500, "The server failed to record this; its log says why.")
    told(CheckpointAck(seq, 200) if error is None else _ack(seq, error))


def _ack(seq: int, refusal: RequestError) -> CheckpointAck:
    return CheckpointAck(seq, refusal.status, refusal.message)


def gateway_endpoint(request: Request, port: int, own_port: int | None) -> str:
    """Where the worker is to connect, by the name by which it reached this server.

    Who called the server's port itself gets the gateway's own port. Behind a proxy, or a port that has been mapped,
    only what was called is sure to be reached: there the main port serves the gateway too.
    """
    host = request.headers.get("host", "localhost")
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    secure = forwarded == "https" or request.url.scheme == "https"
    name, colon, called = host.rpartition(":")
    if own_port is not None and not forwarded and colon and called == str(port):
        return f"ws://{name}:{own_port}/v0/connect"
    return f"{'wss' if secure else 'ws'}://{host}/v0/connect"


def _metadata(record: WorkerRecord) -> dict[str, object]:
    groups = {app_uuid(app.name): app.group for app in record.apps}
    return {
        "id": record.id,
        "gateway_id": record.gateway,
        "instance_id": record.instance_id,
        "all_worker_groups": groups,
        "synced_worker_groups": groups,
        "status": record.status,
        "last_heartbeat_at": format_time(record.heard_at),
        "sdk_language": record.sdk_language,
        "sdk_version": record.sdk_version,
        "attributes": {"cpu_cores": record.cpu_cores, "mem_bytes": record.mem_bytes, "os": record.os},
    }


def shown(record: WorkerRecord) -> dict[str, object]:
    """A worker as `GET /v1/workers` tells of it."""
    return {
        "id": record.id,
        "instance_id": record.instance_id,
        "address": record.address,
        "status": STATUSES[record.status],
        "apps": [_shown_app(app) for app in record.apps],
        "sdk_language": record.sdk_language,
        "sdk_version": record.sdk_version,
        "platform": record.platform,
        "framework": record.framework,
        "capacity": record.capacity or None,
        "in_use": record.in_use,
        "connected_at": format_time(record.connected_at),
        "last_heartbeat_at": format_time(record.heard_at),
        "cpu_cores": record.cpu_cores,
        "mem_bytes": record.mem_bytes,
        "os": record.os,
    }


def _shown_app(app: WorkerApp) -> dict[str, object]:
    return {"name": app.name, "version": app.version, "group": app.group, "functions": list(app.functions)}

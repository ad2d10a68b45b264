"""The calls that a worker has taken: each is confirmed, run, kept by its lease, and answered.

A gateway has no message that cancels a call. It says so when the worker next extends the lease: an answer
without a new lease means that the call is not the worker's any more, since its run was cancelled or another
worker has it. An async function then gets `asyncio.CancelledError` where it stands. A sync one goes on in its
thread to its next step: Python cannot interrupt a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from perdure.protocol.connect.messages import (
    GatewayExecutorRequestData,
    Kind,
    ResponseStatus,
    SDKResponse,
    WorkerRequestAckData,
    WorkerRequestExtendLeaseData,
    WorkerStatusData,
)
from perdure.protocol.connect.wire import encode
from perdure.sdk import calling, world
from perdure.sdk.app import App
from perdure.sdk.call import Call
from perdure.sdk.checkpointing import Carrier
from perdure.sdk.connect.connection import Connection
from perdure.sdk.connect.replies import Replies
from perdure.sdk.errors import UsageError
from perdure.sdk.exchange import REQUEST_VERSION, SDK
from perdure.sdk.job import read_job
from perdure.sdk.reply import Reply, of_failure

log = logging.getLogger("perdure")

_VERSION = int(REQUEST_VERSION)
_STATUS = {200: ResponseStatus.DONE, 206: ResponseStatus.NOT_COMPLETED}


class Taken(msgspec.Struct, gc=False):
    """A call that the worker has taken. `call` is there once its code runs."""

    request: GatewayExecutorRequestData
    app: App
    headers: dict[str, str]
    call: Call | None = None
    task: asyncio.Task[None] | None = None
    dropped: bool = False


class Calls:
    """The calls under way in a worker, by request id."""

    def __init__(self, apps: Sequence[App], carrier: Carrier, replies: Replies) -> None:
        self._apps = {app.name: app for app in apps}
        self._carrier = carrier
        self._replies = replies
        self._loop = asyncio.get_running_loop()
        self._taken: dict[str, Taken] = {}
        self._strangers: set[str] = set()
        self._idle = asyncio.Event()
        self.draining = False

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, request: GatewayExecutorRequestData, connection: Connection) -> None:
        """Take a call: confirm it, then run it. It is left to others while the worker drains, or if it is not ours."""
        app = self._apps.get(request.app_name)
        if app is None:
            self._tell_stranger(request)
            return
        known = self._taken.get(request.request_id)
        if known is not None:
            known.request.lease_id = request.lease_id
            self._confirm(request, connection)
        elif self._replies.again(request.request_id):
            self._confirm(request, connection)
        elif not self.draining:
            self._confirm(request, connection)
            taken = self._taken[request.request_id] = Taken(request, app, connection.call_headers)
            taken.task = self._loop.create_task(self._run(taken))

    def extended(self, request_id: str, lease_id: str | None) -> None:
        """The gateway has extended a lease, or says that the call is the worker's no more."""
        taken = self._taken.get(request_id)
        if taken is None:
            return
        if lease_id:
            taken.request.lease_id = lease_id
        else:
            log.info(
                "Run %s of %s was cancelled, or another worker has it; the call stops.",
                taken.request.run_id,
                taken.request.function_slug,
            )
            self._drop(taken)

    def extend(self, connection: Connection) -> None:
        """Ask for more time for all calls."""
        for taken in self._taken.values():
            request = taken.request
            if not request.lease_id:
                continue
            data = WorkerRequestExtendLeaseData(
                request.request_id, request.account_id, request.env_id, request.app_id, request.function_slug,
                request.step_id, request.system_trace_ctx, request.user_trace_ctx, request.run_id, request.lease_id,
            )  # fmt: skip
            connection.send(Kind.WORKER_REQUEST_EXTEND_LEASE, encode(data))

    def tell_status(self, connection: Connection) -> None:
        """Say what is under way."""
        connection.send(Kind.WORKER_STATUS, encode(WorkerStatusData(list(self._taken), self.draining)))

    def drain(self) -> None:
        """Take no calls any more, and end those under way with their next step, which another worker then takes up."""
        self.draining = True
        for taken in self._taken.values():
            if taken.call is not None:
                taken.call.hurry()

    async def settle(self) -> None:
        """Wait until none is under way."""
        while self._taken:
            self._idle.clear()
            await self._idle.wait()

    def give_up(self) -> None:
        """Stop what is under way, in such a way that another worker goes on at once, where that can be said."""
        for taken in list(self._taken.values()):
            if taken.call is None or not taken.call.give_way():
                self._drop(taken)

    def _drop(self, taken: Taken) -> None:
        taken.dropped = True
        if taken.call is not None:
            taken.call.abandon()
        elif taken.task is not None:
            taken.task.cancel()

    async def _run(self, taken: Taken) -> None:
        request = taken.request
        try:
            reply = await self._reply(taken)
        finally:
            self._taken.pop(request.request_id, None)
            if not self._taken:
                self._idle.set()
        if not taken.dropped:
            self._replies.add(request.request_id, encode(_response(request, reply)))

    async def _reply(self, taken: Taken) -> Reply:
        request = taken.request
        try:
            function = taken.app.functions.get(request.function_slug)
            if function is None:
                raise UsageError(calling.unknown_function(taken.app, request.function_slug))

            def begun(call: Call) -> None:
                taken.call = call
                if self.draining:
                    call.hurry()

            job = read_job(request.request_payload, request.step_id or "", taken.headers)
            problem = await calling.fetch_state(taken.app, job) if job.from_api else None
            if problem is not None:
                return problem
            return await calling.run_job(taken.app, function, job, self._carrier, world.now_ns, begun)
        except UsageError as error:
            log.error("A call of %s cannot be answered: %s", request.function_slug, error)
            return of_failure(error, world.now_ms())
        except Exception as error:
            log.exception("A call of %s could not be answered", request.function_slug)
            return of_failure(error, world.now_ms())

    def _confirm(self, request: GatewayExecutorRequestData, connection: Connection) -> None:
        data = WorkerRequestAckData(
            request.request_id, request.account_id, request.env_id, request.app_id, request.function_slug,
            request.step_id, request.system_trace_ctx, request.user_trace_ctx, request.run_id,
        )  # fmt: skip
        connection.send(Kind.WORKER_REQUEST_ACK, encode(data))

    def _tell_stranger(self, request: GatewayExecutorRequestData) -> None:
        if request.app_name in self._strangers:
            return
        self._strangers.add(request.app_name)
        log.warning(
            "The gateway sent a call for the app %r, which this worker does not serve (it serves %s); it is left "
            "to others.",
            request.app_name,
            ", ".join(self._apps),
        )


def _response(request: GatewayExecutorRequestData, reply: Reply) -> SDKResponse:
    return SDKResponse(
        request.request_id, request.account_id, request.env_id, request.app_id,
        _STATUS.get(reply.status, ResponseStatus.ERROR), reply.body, bool(reply.no_retry), reply.retry_after, SDK,
        _VERSION, request.system_trace_ctx, request.user_trace_ctx, request.run_id,
    )  # fmt: skip

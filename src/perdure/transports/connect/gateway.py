"""The gateway: calls go to workers, their answers come back, and nothing is lost when either side goes away.

Promises to the worker: an answer is acknowledged when what follows from it is on disk, and an answer that comes twice,
or through another socket, or over HTTP, is taken once and acknowledged each time. Promises to the shard: each call that
is given here ends exactly once. It ends when

- a worker answers, whichever connection that comes through;
- no worker has taken it (`UNDELIVERED`): the shard makes it again when there is one, and no attempt is used up;
- its lease runs out: the worker did not extend it any more (`connect_worker_stopped_responding`, a failed attempt);
- the shard says, asked when the lease is to be extended, that the call is not wanted any more.

A socket that is lost takes nothing with it: what its worker had acknowledged stays open until the lease runs out, as
the worker works on and comes back. What it had not is taken to another worker at once. Workers on Perdure's own SDK are
back within seconds, so of those that are not the calls are given up sooner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perdure.protocol.calls import MAX_ANSWER_BYTES, STOPPED_RESPONDING, Call, CallAnswer, CallFailure
from perdure.protocol.connect.messages import (
    CheckpointAck,
    CheckpointEntry,
    Extensions,
    Kind,
    SDKResponse,
    WorkerRequestExtendLeaseAckData,
    WorkerRequestExtendLeaseData,
)
from perdure.protocol.connect.registration import registration_body
from perdure.protocol.connect.tokens import check_token, make_token
from perdure.protocol.connect.wire import encode
from perdure.protocol.ids import new_ulid
from perdure.shard.ports import Clock, Entropy, ResumedCall
from perdure.shard.workers import WorkerRecord
from perdure.transports.connect.connection import Description, Group, WorkerConnection
from perdure.transports.connect.handshake import CLOSING, GOING_AWAY
from perdure.transports.connect.requests import CallTarget, Deadlines, Done, Request
from perdure.transports.connect.settings import GatewaySettings
from perdure.transports.connect.targets import executor_request, read_answer, read_target
from perdure.transports.connect.workers import Workers

if TYPE_CHECKING:
    from perdure.transports.connect.session import WorkerSession
    from perdure.transports.connect.socket import WorkerSocket

log = logging.getLogger("perdure.connect")

OWN_SDK = "perdure-"
"""So begins the name of an SDK of Perdure's own, whose workers take their leases along when they connect again."""


@dataclass(slots=True)
class Doors:
    """What the gateway asks of the server behind it.

    `register` takes in a registration (its body) of a group of workers (its hash); it raises `RequestError`. `wanted`
    says whether a call (run, n, generation) is wanted still. `checkpoints` has finished steps recorded, and tells of
    each entry what came of it. `logs` takes in log lines, None if nobody does.
    """

    register: Callable[[bytes, str], Awaitable[None]]
    wanted: Callable[[str, int, int], asyncio.Future[bool]]
    checkpoints: Callable[[list[CheckpointEntry], Callable[[CheckpointAck], None]], None]
    logs: Callable[[bytes], None] | None = None


class Gateway:
    """Implements `Transport` for calls to workers, and `Workers`, of `shard.ports`.

    `secret` signs session tokens. `doors` is set once the server behind it is there.
    """

    def __init__(self, settings: GatewaySettings, clock: Clock, entropy: Entropy, secret: bytes) -> None:
        self.id = new_ulid(clock.now(), entropy(10))
        self.settings = settings
        self.workers = Workers()
        self.sessions: set[WorkerSession] = set()
        self.closing = False
        self.doors: Doors | None = None
        self.open: dict[str, Request] = {}
        """Calls that are at workers, or were when their socket was lost, by the id of their request."""
        self._clock = clock
        self._entropy = entropy
        self._secret = secret
        self._ending: dict[str, list[Callable[[], None]]] = {}
        """Whom to tell when an answer is on disk, by the id of its request."""
        self._leases: Deadlines[Request] = Deadlines(settings.lease + settings.grace)
        self._orphans: Deadlines[Request] = Deadlines(settings.comeback)
        self._unacknowledged: Deadlines[Request] = Deadlines(settings.acknowledge)
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: Callable[[], None] = lambda: None

    # The shard's side

    def start(self, call: Call, done: Done) -> GatewayCall:
        """Give a call to a worker. If none takes it, it ends as undelivered."""
        request = Request(read_target(call), call, done)
        self.open[request.target.request_id] = request
        self._deliver(request)
        return GatewayCall(self, request)

    def free(self, app: str, slug: str) -> int | None:
        """How many more calls of a function the workers take that are ready now; None if there is no worker."""
        return self.workers.free(app, slug)

    def pace(self, app: str) -> tuple[int, int]:
        """How many calls of an app may have just begun, and how many may be under way."""
        return self.workers.pace(app)

    def resume(self, call: ResumedCall, done: Done) -> None:
        """Wait for the answer to a call that an earlier process has made, as long as a lease is good.

        It may never have reached its worker. Those that come back with their leases at once are waited for less long.
        """
        request = Request(CallTarget(*call[:6]), None, done)
        self.open[call.request_id] = request
        if call.sdk.startswith(OWN_SDK):
            self._orphans.put(call.request_id, request, self._ms())
        self._leases.put(call.request_id, request, self._ms())
        self._arm()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever there may be more room than before."""
        self._watcher = changed

    # The sockets' side

    def make_socket(self) -> WorkerSocket:
        """What serves one TCP connection on which a worker asks for a WebSocket. The first one loads the library."""
        from perdure.transports.connect.session import WorkerSession
        from perdure.transports.connect.socket import WorkerSocket

        return WorkerSocket(lambda socket: WorkerSession(self, socket))

    @property
    def extensions(self) -> Extensions:
        """Those of Perdure's additions that this gateway takes."""
        return Extensions(1, 1, 1 if self.doors is not None and self.doors.logs is not None else 0)

    def now(self) -> int:
        """Ms since the epoch."""
        return self._clock.now()

    def is_token(self, token: str) -> bool:
        """Whether a session token is one that was given out for this gateway, and is good still."""
        return check_token(token, self._secret, self._clock.now() // 1000)

    async def register(self, said: Description, group: Group) -> None:
        """Have an app of a worker registered. Raises `WireError` or `RequestError` if it cannot be."""
        assert self.doors is not None
        body = registration_body(
            group.app,
            group.version,
            group.functions,
            sdk=said.sdk,
            framework=said.framework,
            platform=said.platform,
            key=group.hash,
        )
        await self.doors.register(body, group.hash)

    def records(self) -> list[WorkerRecord]:
        """The workers that are connected, in the order in which they came."""
        return [connection.record(self.id) for connection in self.workers]

    def new_token(self) -> str:
        """A session token for a worker that is about to connect."""
        return make_token(self._secret, self._clock.now() // 1000)

    def entered(self, connection: WorkerConnection) -> None:
        """A worker has been let in. An older connection of the same id makes way for it."""
        older = self.workers.by_id.get(connection.id)
        if older is not None:
            self.lost(older, None, "replaced")
        self.workers.add(connection)
        said = connection.said
        apps = ", ".join(sorted(said.groups))
        log.info("worker %s is connected: %s (%s)", said.instance_id, apps, said.sdk)
        self.changed()

    def lost(self, connection: WorkerConnection, code: int | None, reason: str) -> None:
        """The socket of a worker is gone. What it had acknowledged stays open, the rest goes to others."""
        if self.workers.by_id.get(connection.id) is not connection:
            return
        self.workers.remove(connection)
        requests, connection.requests = connection.requests, set()
        kept = sum(request.acknowledged for request in requests)
        log.info(
            "worker %s is gone (%s)%s",
            connection.said.instance_id,
            reason or code or "no close",
            f"; {kept} calls stay open until it comes back or their leases run out" if kept else "",
        )
        for request in requests:
            request.connection = None
            if not request.acknowledged:
                request.passed.add(connection.id)
                self._deliver(request)
            elif connection.said.extensions != Extensions():
                self._orphans.put(request.target.request_id, request, self._ms())
        self._arm()

    def changed(self) -> None:
        """A worker takes calls now, or does no more."""
        self.workers.changed()
        self._watcher()

    def checkpoints(self, entries: list[CheckpointEntry], told: Callable[[CheckpointAck], None]) -> None:
        """Have finished steps recorded."""
        assert self.doors is not None
        self.doors.checkpoints(entries, told)

    def logs(self, payload: bytes) -> None:
        """Take in log lines of steps."""
        if self.doors is not None and self.doors.logs is not None:
            self.doors.logs(payload)

    # Calls

    def acknowledged(self, connection: WorkerConnection, request_id: str) -> None:
        """A worker has the call."""
        request = self.open.get(request_id)
        if request is not None and request.connection is connection:
            request.acknowledged = True
            self._unacknowledged.drop(request_id)

    def reply(self, response: SDKResponse, told: Callable[[], None]) -> None:
        """An answer came. `told` is called when it is on disk, or at once if it is of no use any more."""
        request_id = response.request_id
        waiting = self._ending.get(request_id)
        if waiting is not None:
            waiting.append(told)
            return
        request = self.open.get(request_id)
        if request is None:
            told()
            return
        limit = MAX_ANSWER_BYTES if request.call is None else request.call.max_answer
        result = read_answer(response, limit, lambda: self._stored(request_id))
        self._ending[request_id] = [told]
        self._end(request, result)
        if isinstance(result, CallFailure):
            self._stored(request_id)

    def _stored(self, request_id: str) -> None:
        for told in self._ending.pop(request_id, ()):
            told()

    def extend(self, connection: WorkerConnection, asked: WorkerRequestExtendLeaseData) -> None:
        """A worker wants to keep a call. It may, if the lease is its own and the shard wants the call still."""
        request = self.open.get(asked.request_id)
        if request is None or not request.holds(asked.lease_id) or self.doors is None:
            _answer_lease(connection, asked, None)
            return
        target = request.target
        wanted = self.doors.wanted(target.run_id, target.n, target.generation)
        wanted.add_done_callback(lambda answer: self._extend(connection, asked, request, answer))

    def _extend(
        self,
        connection: WorkerConnection,
        asked: WorkerRequestExtendLeaseData,
        request: Request,
        answer: asyncio.Future[bool],
    ) -> None:
        if self.open.get(asked.request_id) is not request:
            _answer_lease(connection, asked, None)
            return
        # If nobody could say, the worker keeps it: the next time will tell.
        if answer.exception() is None and not answer.result():
            _answer_lease(connection, asked, None)
            self._end(request, CallFailure("cancelled", "The run does not want this call any more."))
            return
        if request.connection is not connection and connection.socket.usable:
            self._move(request, connection)
        request.acknowledged = True
        self._unacknowledged.drop(asked.request_id)
        _answer_lease(connection, asked, self._lease(request))

    def drop(self, request: Request, failure: CallFailure) -> None:
        """Give a call up."""
        if self.open.get(request.target.request_id) is request:
            self._end(request, failure)

    def _deliver(self, request: Request) -> None:
        """Give a call to a worker that has not had it yet."""
        target, call = request.target, request.call
        assert call is not None
        connection = self.workers.choose(target.app, target.slug, request.passed)
        if connection is None:
            asyncio.get_running_loop().call_soon(self.drop, request, self._undelivered(target))
            return
        self._move(request, connection)
        request.lease = ""  # that of another worker is of no use any more
        lease = self._lease(request)
        connection.send(Kind.GATEWAY_EXECUTOR_REQUEST, encode(executor_request(call, target, lease)))
        self._unacknowledged.put(target.request_id, request, self._ms())
        self._arm()

    def _undelivered(self, target: CallTarget) -> CallFailure:
        if self.workers.free(target.app, target.slug) is None:
            text = f"No worker of app {target.app} is connected that takes calls of {target.slug}."
            return CallFailure("connect_no_healthy_connection", text)
        return CallFailure(
            "connect_all_workers_at_capacity", f"All workers of app {target.app} are at capacity."
        )

    def _move(self, request: Request, connection: WorkerConnection) -> None:
        if request.connection is not None:
            request.connection.requests.discard(request)
        request.connection = connection
        connection.requests.add(request)

    def _lease(self, request: Request) -> str:
        """A new lease for a call. Its id tells when it runs out."""
        request.previous = request.lease
        request.lease = new_ulid(self._clock.now() + self.settings.lease, self._entropy(10))
        self._leases.put(request.target.request_id, request, self._ms())
        self._orphans.drop(request.target.request_id)
        return request.lease

    def _end(self, request: Request, result: CallAnswer | CallFailure) -> None:
        request_id = request.target.request_id
        del self.open[request_id]
        self._leases.drop(request_id)
        self._orphans.drop(request_id)
        self._unacknowledged.drop(request_id)
        if request.connection is not None:
            request.connection.requests.discard(request)
        request.done(result)

    # Time

    def _ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def _arm(self) -> None:
        """Look again when the next lease or acknowledgement is due."""
        times = [waiting.next_time() for waiting in (self._leases, self._orphans, self._unacknowledged)]
        due = min((time for time in times if time is not None), default=None)
        if due is None:
            return
        if self._timer is not None:
            if self._timer.when() * 1000 <= due + 1:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due / 1000 + 0.001, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._ms()
        for request in self._unacknowledged.take_due(now):
            self._pass_on(request)
        for request in self._leases.take_due(now):
            self._give_up(request, self.settings.lease + self.settings.grace)
        for request in self._orphans.take_due(now):
            self._give_up(request, self.settings.comeback)
        self._arm()

    def _give_up(self, request: Request, silent: int) -> None:
        text = (
            f"The worker that had this call of {request.target.slug} has not been heard of for "
            f"{silent // 1000} s."
        )
        self.drop(request, CallFailure(STOPPED_RESPONDING, text))

    def _pass_on(self, request: Request) -> None:
        """A worker has not acknowledged a call: somebody else gets it."""
        connection = request.connection
        if connection is not None:
            name = connection.said.instance_id
            log.warning("worker %s has not acknowledged a call of %s", name, request.target.slug)
            request.passed.add(connection.id)
            connection.requests.discard(request)
            request.connection = None
        self._deliver(request)

    # The end

    async def close(self) -> None:
        """Tell workers to go elsewhere, and close their sockets when they have, or have had the time to."""
        self.closing = True
        for session in list(self.sessions):
            session.announce_closing()
        await self._gone(self.settings.closing)
        for session in list(self.sessions):
            session.close(GOING_AWAY, CLOSING)
        await self._gone(self.settings.closing)
        for session in list(self.sessions):
            session.abort()
        if self._timer is not None:
            self._timer.cancel()

    async def _gone(self, ms: int) -> None:
        """Wait until all sockets are gone, but not longer than this."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ms / 1000
        while self.sessions and loop.time() < end:
            await asyncio.sleep(0.01)


class GatewayCall:
    """A call at a worker."""

    __slots__ = ("_gateway", "_request")

    def __init__(self, gateway: Gateway, request: Request) -> None:
        self._gateway = gateway
        self._request = request

    def cancel(self) -> None:
        """Give it up. Its worker learns of it when it wants to extend the lease."""
        failure = CallFailure("cancelled", "The call was given up.")
        asyncio.get_running_loop().call_soon(self._gateway.drop, self._request, failure)


def _answer_lease(
    connection: WorkerConnection, asked: WorkerRequestExtendLeaseData, lease: str | None
) -> None:
    answer = WorkerRequestExtendLeaseAckData(
        asked.request_id, asked.account_id, asked.env_id, asked.app_id, asked.function_slug, lease
    )
    connection.send(Kind.WORKER_REQUEST_EXTEND_LEASE_ACK, encode(answer))

"""A worker: it keeps a connection to the server, runs the calls that come over it, and drains when it is stopped.

    ask        POST /v0/connect/start says which gateway to dial
    connect    greet, tell of the apps and their functions, say that calls may come
    work       calls come (`calls`), finished steps go (`carrying`), answers go until they are confirmed (`replies`)
    lose       the connection is gone: connect again, with pauses that grow; calls under way go on meanwhile
    move       the gateway is about to close: connect to another one first, then leave this one
    drain      no new calls; those under way end with their next step; then close

The first connection may be refused for a reason that trying again cannot mend, such as a wrong key: then `run`
raises ConnectError. Whatever else happens, and everything after the first connection, is tried again for ever.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import msgspec

from perdure.protocol.connect.messages import (
    GatewayExecutorRequestData,
    Kind,
    WorkerReplyAckData,
    WorkerRequestExtendLeaseAckData,
    decode_checkpoint_acks,
)
from perdure.protocol.connect.wire import decode
from perdure.sdk import world
from perdure.sdk.app import App
from perdure.sdk.connect.calls import Calls
from perdure.sdk.connect.carrying import ConnectCarrier
from perdure.sdk.connect.connection import Connection, open_connection
from perdure.sdk.connect.introducing import ask_for_gateway, check_endpoint, introduction
from perdure.sdk.connect.replies import Replies
from perdure.sdk.connect.setbacks import Setback
from perdure.sdk.connect.signals import stopping_on
from perdure.sdk.errors import ConnectError, UsageError

log = logging.getLogger("perdure")

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
STABLE_S = 5.0
"""A connection that ends sooner is no reason to hurry to the next one."""
OWN_LEASE_S = 2.0
"""How often leases are extended with a gateway of Perdure's, which tells of cancelled runs in this way."""
LOOK_S = 1.0
"""How often the worker looks for what is overdue."""
RETIRE_S = 5.0
"""How long an old connection stays open beside its successor, for what is on its way."""
LAST_POST_S = 5.0


class Options(msgspec.Struct, frozen=True):
    """How a worker works; `App.connect` says what each means."""

    max_concurrency: int | None = None
    instance_id: str | None = None
    gateway_url: str | Callable[[str], str] | None = None
    shutdown_signals: Sequence[signal.Signals] | None = None
    drain_s: float = 25.0


class Worker:
    """Serves apps over Connect. The apps have one server and one environment."""

    def __init__(self, apps: Sequence[App], options: Options) -> None:
        check_apps(apps)
        self._apps = apps
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._started_ms = world.now_ms()
        self._api = apps[0].api
        self._current: Connection | None = None
        self._open: set[Connection] = set()
        self._was_connected = False
        self._stopping = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._replies = Replies(self._api, self._connection)
        self._carrier = ConnectCarrier(self._connection, apps[0].carrier)
        self._calls = Calls(apps, self._carrier, self._replies)

    async def run(self) -> None:
        """Work until a signal comes or the task is cancelled, then drain. Raises ConnectError if it cannot begin."""
        for app in self._apps:
            if app.step_logs is not None:
                app.step_logs.send = self._send_logs
        work = [self._spawn(self._keep_connected()), self._spawn(self._look_after())]
        cancelled = False
        try:
            with stopping_on(self._options.shutdown_signals, self.stop):
                try:
                    await self._until_stopped(work)
                except asyncio.CancelledError:
                    cancelled = True
                self._work = asyncio.current_task()
                await self._drain()
        finally:
            await self._close()
        if cancelled:
            raise asyncio.CancelledError

    def stop(self) -> None:
        """Begin to drain; asked a second time, stop at once."""
        if not self._stopping.is_set():
            log.info("The worker stops: it finishes what runs, and takes no new calls.")
            self._stopping.set()
        elif self._work is not None:
            self._work.cancel()

    # What connections tell.

    def received(self, connection: Connection, kind: int, payload: bytes) -> None:
        """A message of the gateway."""
        if kind == Kind.GATEWAY_EXECUTOR_REQUEST:
            self._calls.take(decode(payload, GatewayExecutorRequestData), connection)
        elif kind == Kind.WORKER_REPLY_ACK:
            self._replies.confirmed(decode(payload, WorkerReplyAckData).request_id)
        elif kind == Kind.GATEWAY_CHECKPOINTS_ACK:
            self._carrier.answered(decode_checkpoint_acks(payload))
        elif kind == Kind.WORKER_REQUEST_EXTEND_LEASE_ACK:
            ack = decode(payload, WorkerRequestExtendLeaseAckData)
            self._calls.extended(ack.request_id, ack.new_lease_id)
        elif kind == Kind.GATEWAY_HEARTBEAT:
            connection.heard_from()
        elif kind == Kind.GATEWAY_CLOSING:
            connection.ending.set()
        else:
            log.debug("The gateway sent message %d, which is not known; it is ignored.", kind)

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection is self._current:
            self._current = None
            if not self._stopping.is_set():
                log.warning("The connection to the gateway is gone; the worker connects again.")
        self._carrier.lost(connection)

    def _connection(self) -> Connection | None:
        return self._current

    def _send_logs(self, body: bytes) -> bool:
        """Send log lines of steps over the connection; false if they have to go another way."""
        connection = self._current
        if connection is None or not connection.agreed.logs:
            return False
        connection.send(Kind.WORKER_LOGS, body)
        return True

    # Keeping connected.

    async def _keep_connected(self) -> None:
        pause = FIRST_PAUSE_S
        failed_group = ""
        while True:
            try:
                connection = await self._connect([failed_group] if failed_group else [])
            except Setback as setback:
                if setback.final and not self._was_connected:
                    raise ConnectError(str(setback)) from None
                # One that was left out and found no other is not left out again: it may be the only one.
                failed_group = "" if failed_group else setback.group
                log.warning("%s The worker tries again in %.1f s.", setback, pause)
                await asyncio.sleep(_jittered(pause))
                pause = min(pause * 2, LONGEST_PAUSE_S)
                continue
            begun = self._loop.time()
            await connection.ending.wait()
            failed_group = connection.group if not connection.is_lost else ""
            if self._loop.time() - begun > STABLE_S:
                pause = FIRST_PAUSE_S
                if not connection.is_lost:
                    continue
            await asyncio.sleep(_jittered(pause))
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _connect(self, exclude: Sequence[str]) -> Connection:
        start = await ask_for_gateway(self._apps[0], exclude)
        options = self._options
        rewrite = options.gateway_url
        named = start.gateway_endpoint
        endpoint = check_endpoint(rewrite(named) if callable(rewrite) else rewrite or named)
        hello = introduction(
            self._apps, start, options.instance_id or socket.gethostname(), options.max_concurrency, self._started_ms
        )  # fmt: skip
        connection = await open_connection(endpoint, start, hello, self)
        self._adopt(connection)
        log.info(
            "Connected to the gateway %s: %s.",
            endpoint,
            ", ".join(f"{app.name} ({len(app.functions)} functions)" for app in self._apps),
        )
        return connection

    def _adopt(self, connection: Connection) -> None:
        """Work over a new connection from now on. The old one, if there is one, is left."""
        old, self._current = self._current, connection
        self._was_connected = True
        self._open.add(connection)
        connection.send(Kind.WORKER_PAUSE if self._stopping.is_set() else Kind.WORKER_READY)
        self._replies.resend()
        self._calls.extend(connection)
        if old is not None:
            self._spawn(self._retire(old))

    async def _retire(self, connection: Connection) -> None:
        await asyncio.sleep(RETIRE_S)
        await connection.close()

    # Looking after what is under way.

    async def _look_after(self) -> None:
        lease_at = status_at = self._loop.time()
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._loop.time()
            self._carrier.look()
            self._replies.look()
            connection = self._current
            if connection is None:
                continue
            lease_s = min(connection.lease_s, OWN_LEASE_S) if connection.is_own else connection.lease_s
            if now - lease_at >= lease_s - LOOK_S / 2:
                lease_at = now
                self._calls.extend(connection)
            if connection.status_s and now - status_at >= connection.status_s - LOOK_S / 2:
                status_at = now
                self._calls.tell_status(connection)

    # The end.

    async def _until_stopped(self, work: list[asyncio.Task[None]]) -> None:
        """Until a signal comes. Raises what has ended the work before."""
        stopping = self._spawn(self._wait_for_stop())
        await asyncio.wait({*work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            if task.done():
                await task

    async def _wait_for_stop(self) -> None:
        await self._stopping.wait()

    async def _drain(self) -> None:
        self._stopping.set()
        self._calls.drain()
        if self._current is not None:
            self._current.send(Kind.WORKER_PAUSE)
        try:
            async with asyncio.timeout(self._options.drain_s):
                await self._calls.settle()
                if self._current is not None:
                    await self._replies.settle()
        except TimeoutError:
            if len(self._calls):
                log.warning(
                    "%d calls did not end within %g s and are stopped; the server will call again for them.",
                    len(self._calls),
                    self._options.drain_s,
                )

    async def _close(self) -> None:
        self._calls.give_up()
        try:
            async with asyncio.timeout(LAST_POST_S):
                await self._calls.settle()
                await self._replies.post_all()
        except (TimeoutError, asyncio.CancelledError):
            pass
        self._replies.close()
        for app in self._apps:
            if app.step_logs is not None:
                app.step_logs.send = None
        for task in self._tasks:
            task.cancel()
        for connection in list(self._open):
            await connection.close("WORKER_SHUTDOWN")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def check_apps(apps: Sequence[App]) -> None:
    """Raises UsageError if apps cannot share a connection."""
    first = apps[0].settings
    names = [app.name for app in apps]
    if len(set(names)) < len(names):
        raise UsageError(f"Two of the apps to connect have one name: {', '.join(names)}.")
    for app in apps[1:]:
        theirs = app.settings
        if (theirs.api_url, theirs.env, theirs.signing_keys) != (
            first.api_url,
            first.env,
            first.signing_keys,
        ):
            raise UsageError(
                f"The apps {apps[0].name} and {app.name} have different servers, environments or signing keys, so "
                "they cannot share a connection. Connect each by itself."
            )


def _jittered(pause: float) -> float:
    """A pause of at most that length, so that workers do not all come back at once."""
    return pause * (0.5 + world.entropy(1)[0] / 512)

"""The gateway on virtual time, with sockets that are lists: silence, leases, and who gets a call."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.errors import RequestError
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.connect.messages import (
    AppConfiguration,
    AuthData,
    CheckpointAck,
    ConnectMessage,
    GatewayConnectionReadyData,
    GatewayExecutorRequestData,
    Kind,
    SDKResponse,
    WorkerConnectRequestData,
    WorkerRequestAckData,
    WorkerRequestExtendLeaseAckData,
    WorkerRequestExtendLeaseData,
)
from perdure.protocol.connect.tokens import LIFETIME_S, check_token, make_token
from perdure.protocol.connect.wire import decode, encode, join_delimited, split_delimited
from perdure.protocol.ids import new_ulid, ulid_time_ms
from perdure.shard.ports import ResumedCall
from perdure.transports.connect.connection import MAX_BUNDLE, bundle
from perdure.transports.connect.gateway import Doors, Gateway
from perdure.transports.connect.requests import Deadlines
from perdure.transports.connect.session import WorkerSession
from perdure.transports.connect.settings import GatewaySettings
from tests.sim.virtual_time import START_MS, SimClock, VirtualLoop
from tests.unit.shard.shards import virtually

RUN = "01KB0000000000000000000000"


class FakeSocket:
    """Keeps what is sent, and with which code it was closed."""

    peer = "10.0.0.1"

    def __init__(self) -> None:
        self.sent: list[ConnectMessage] = []
        self.closed: tuple[int, str] | None = None
        self.usable = True

    def send(self, messages: list[bytes]) -> None:
        for message in messages:
            one = decode(message, ConnectMessage)
            parts = split_delimited(one.payload) if one.kind == Kind.BUNDLE else [message]
            self.sent += [decode(part, ConnectMessage) for part in parts]

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)
            self.usable = False

    def abort(self) -> None:
        self.usable = False


class World:
    """A gateway and its workers; the shard behind it is what the test says."""

    def __init__(self, **settings: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = SimClock(loop)
        self.gateway = Gateway(GatewaySettings(**settings), self.clock, random.Random(3).randbytes, b"secret")
        self.registered: list[dict[str, Any]] = []
        self.refuse: Exception | None = None
        self.wanted: bool | Exception = True
        self.changes = 0
        self.ends: list[CallAnswer | CallFailure] = []
        self.gateway.doors = Doors(self._register, self._wanted, lambda *_: None)
        self.gateway.watch(self._changed)
        self._calls = 0

    async def _register(self, body: bytes, _: str) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.registered.append(json.loads(body))

    def _wanted(self, *_: object) -> asyncio.Future[bool]:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if isinstance(self.wanted, Exception):
            found.set_exception(self.wanted)
        else:
            found.set_result(self.wanted)
        return found

    def _changed(self) -> None:
        self.changes += 1

    def session(self) -> tuple[WorkerSession, FakeSocket]:
        """A socket that has just been opened."""
        socket = FakeSocket()
        session = WorkerSession(self.gateway, socket)  # type: ignore[arg-type]
        session.opened()
        return session, socket

    async def worker(self, **fields: Any) -> Worker:
        """A worker that has been let in."""
        worker = Worker(self, *self.session())
        worker.introduce(**fields)
        await settle()
        return worker

    def call(self, slug: str = "app-run") -> Any:
        """Give a call to the gateway; its end comes into `ends`."""
        self._calls += 1
        headers = (
            ("X-Run-ID", RUN),
            ("x-request-id", new_ulid(START_MS + self._calls, bytes(10))),
            ("x-inngest-generation-id", "1"),
            ("x-inngest-job-id", f"{RUN}.{self._calls}"),
            ("traceparent", "00-aa-bb-01"),
        )
        url = f"ws://connect?app_name=app&fnId={slug}&stepId=step"
        return self.gateway.start(Call(url, b'{"ctx":{}}', headers), self.ends.append)


class Worker:
    """The other side of a session."""

    def __init__(self, world: World, session: WorkerSession, socket: FakeSocket) -> None:
        self.world = world
        self.session = session
        self.socket = socket
        self.lease = ""

    def introduce(self, **fields: Any) -> None:
        gateway = self.world.gateway
        functions = json.dumps([{"id": "app-run", "steps": {"step": {"id": "step"}}}]).encode()
        said = {
            "connection_id": new_ulid(START_MS, random.randbytes(10)),
            "instance_id": "worker",
            "auth_data": AuthData(gateway.new_token()),
            "apps": [AppConfiguration("app", None, functions)],
            "sdk_language": "bare",
            "sdk_version": "v1",
        }
        self.say(Kind.WORKER_CONNECT, WorkerConnectRequestData(**{**said, **fields}))

    def say(self, kind: int, payload: Any = None) -> None:
        data = b"" if payload is None else encode(payload)
        self.session.received(encode(ConnectMessage(kind, data)))

    def got(self, kind: int) -> list[bytes]:
        return [message.payload for message in self.socket.sent if message.kind == kind]

    def requests(self) -> list[GatewayExecutorRequestData]:
        return [
            decode(payload, GatewayExecutorRequestData) for payload in self.got(Kind.GATEWAY_EXECUTOR_REQUEST)
        ]

    def acknowledge(self, request: GatewayExecutorRequestData) -> None:
        self.say(Kind.WORKER_REQUEST_ACK, WorkerRequestAckData(request.request_id))

    def reply(self, request: GatewayExecutorRequestData, body: bytes = b"1", **fields: Any) -> None:
        self.say(Kind.WORKER_REPLY, SDKResponse(request.request_id, status=1, body=body, **fields))

    async def extend(self, request: GatewayExecutorRequestData, lease: str | None = None) -> str | None:
        lease = lease or self.lease or request.lease_id
        asked = WorkerRequestExtendLeaseData(request_id=request.request_id, lease_id=lease)
        self.say(Kind.WORKER_REQUEST_EXTEND_LEASE, asked)
        await settle()
        told = decode(
            self.got(Kind.WORKER_REQUEST_EXTEND_LEASE_ACK)[-1], WorkerRequestExtendLeaseAckData
        ).new_lease_id
        self.lease = told or self.lease
        return told

    def lose(self) -> None:
        self.socket.usable = False
        self.session.lost(None, "")


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class TestSilence:
    @virtually
    async def test_a_worker_that_says_nothing_is_dropped_after_five_heartbeats(self) -> None:
        world = World()
        worker = await world.worker()
        await asyncio.sleep(49)
        assert worker.socket.closed is None
        assert world.gateway.free("app", "app-run")
        await asyncio.sleep(12)
        assert worker.socket.closed == (1008, "CONSECUTIVE_HEARTBEATS_MISSED")
        assert world.gateway.free("app", "app-run") is None
        assert world.gateway.records() == []

    @virtually
    async def test_heartbeats_keep_it_and_are_answered(self) -> None:
        world = World()
        worker = await world.worker()
        for _ in range(30):
            await asyncio.sleep(10)
            worker.say(Kind.WORKER_HEARTBEAT)
        await settle()
        assert worker.socket.closed is None
        assert len(worker.got(Kind.GATEWAY_HEARTBEAT)) == 30
        assert world.gateway.records()[0].heard_at == START_MS + 300_000

    @virtually
    async def test_one_that_does_not_introduce_itself(self) -> None:
        world = World()
        _, socket = world.session()
        await asyncio.sleep(4.9)
        assert socket.closed is None
        await asyncio.sleep(0.2)
        assert socket.closed == (1008, "connect_worker_hello_timeout")


class TestLettingIn:
    @virtually
    async def test_what_is_registered(self) -> None:
        world = World()
        await world.worker(platform="render", framework="connect")
        [body] = world.registered
        assert body["url"] == "ws://connect?app_name=app"
        assert (body["deployType"], body["v"], body["sdk"], body["platform"]) == (
            "connect",
            "1",
            "bare:v1",
            "render",
        )
        runtime = body["functions"][0]["steps"]["step"]["runtime"]
        assert runtime == {"type": "ws", "url": "ws://connect?app_name=app"}
        assert body["idempotencyKey"]

    @pytest.mark.parametrize(
        ("error", "closed"),
        [
            (RequestError(400, "no good"), (1008, "connect_invalid_function_config")),
            (RequestError(503, "later"), (1011, "connect_internal_error")),
            (ZeroDivisionError(), (1011, "connect_internal_error")),
        ],
    )
    def test_what_the_registration_says(self, error: Exception, closed: tuple[int, str]) -> None:
        @virtually
        async def refused() -> None:
            world = World()
            world.refuse = error
            worker = await world.worker()
            assert worker.socket.closed == closed
            assert world.gateway.records() == []

        refused()

    @virtually
    async def test_messages_that_come_before_it_is_let_in_are_kept(self) -> None:
        world = World()
        worker = Worker(world, *world.session())
        worker.introduce(worker_manual_readiness_ack=True)
        worker.say(Kind.WORKER_READY)
        await settle()
        assert world.gateway.free("app", "app-run")

    @virtually
    async def test_a_socket_that_is_lost_meanwhile_leaves_nothing(self) -> None:
        world = World()
        worker = Worker(world, *world.session())
        worker.introduce()
        worker.lose()
        await settle()
        assert world.gateway.records() == []
        assert not world.gateway.sessions

    @virtually
    async def test_a_connection_of_the_same_id_takes_the_place_of_the_older(self) -> None:
        world = World()
        same = new_ulid(START_MS, bytes(10))
        old = await world.worker(connection_id=same)
        world.call()
        await settle()
        [request] = old.requests()
        old.acknowledge(request)
        new = await world.worker(connection_id=same)
        old.lose()
        assert len(world.gateway.records()) == 1
        new.reply(request)
        assert isinstance(world.ends[0], CallAnswer)

    def test_tokens(self) -> None:
        token = make_token(b"secret", 1_000)
        assert check_token(token, b"secret", 1_000 + LIFETIME_S - 1)
        assert not check_token(token, b"secret", 1_000 + LIFETIME_S)
        assert not check_token(token, b"other", 1_000)
        for broken in ("", "a", "a.b.c", token[:-1], token + "x", "ä.b.c", token.replace(".", "", 1)):
            assert not check_token(broken, b"secret", 1_000)


class TestAcknowledging:
    @virtually
    async def test_unacknowledged_it_goes_to_another_and_at_last_back(self) -> None:
        world = World()
        first = await world.worker()
        world.call()
        await settle()
        second = await world.worker()
        await asyncio.sleep(9)
        assert not second.requests()
        await asyncio.sleep(2)
        assert len(second.requests()) == 1
        assert second.requests()[0].request_id == first.requests()[0].request_id
        await asyncio.sleep(11)
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "connect_all_workers_at_capacity"

    @virtually
    async def test_nobody_left(self) -> None:
        world = World()
        worker = await world.worker()
        world.call()
        await settle()
        worker.lose()
        await settle()
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "connect_no_healthy_connection"
        assert not world.gateway.open

    @virtually
    async def test_no_worker_at_all(self) -> None:
        world = World()
        world.call()
        assert world.ends == []  # not before the call has been given
        await settle()
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "connect_no_healthy_connection"


class TestLeases:
    @virtually
    async def test_a_lease_is_good_for_two_minutes_and_its_id_says_so(self) -> None:
        world = World()
        worker = await world.worker()
        world.call()
        await settle()
        [request] = worker.requests()
        worker.acknowledge(request)
        assert ulid_time_ms(request.lease_id) == START_MS + 120_000
        for _ in range(12):
            await asyncio.sleep(10)
            worker.say(Kind.WORKER_HEARTBEAT)
        await asyncio.sleep(4)
        assert not world.ends
        await asyncio.sleep(2)
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "connect_worker_stopped_responding"
        assert "125 s" in end.message
        assert await worker.extend(request) is None

    @virtually
    async def test_extended_again_and_again(self) -> None:
        world = World()
        worker = await world.worker()
        world.call()
        await settle()
        [request] = worker.requests()
        worker.acknowledge(request)
        for _ in range(100):
            await asyncio.sleep(30)
            lease = await worker.extend(request)
            assert lease is not None
            assert ulid_time_ms(lease) == world.clock.now() + 120_000
        worker.reply(request, b'"after 50 minutes"')
        [end] = world.ends
        assert isinstance(end, CallAnswer)
        assert end.body == b'"after 50 minutes"'
        assert not world.gateway.open

    @virtually
    async def test_the_socket_is_lost_and_the_lease_goes_on(self) -> None:
        world = World()
        worker = await world.worker(max_worker_concurrency=1)
        world.call()
        await settle()
        [request] = worker.requests()
        worker.acknowledge(request)
        worker.lose()
        await asyncio.sleep(60)
        back = await world.worker(max_worker_concurrency=1)
        assert world.gateway.free("app", "app-run") == 1
        assert await back.extend(request)
        assert world.gateway.free("app", "app-run") == 0
        await asyncio.sleep(40)
        back.reply(request)
        assert isinstance(world.ends[0], CallAnswer)
        assert world.gateway.free("app", "app-run") == 1

    @virtually
    async def test_a_worker_on_the_own_sdk_must_be_back_soon(self) -> None:
        world = World()
        own = {"capabilities": b'{"perdure":{"checkpoints":1}}'}
        worker = await world.worker(**own)
        world.call()
        await settle()
        [request] = worker.requests()
        worker.acknowledge(request)
        worker.lose()
        await asyncio.sleep(19)
        back = await world.worker(**own)
        assert await back.extend(request)
        await asyncio.sleep(30)
        assert not world.ends
        back.lose()
        await asyncio.sleep(19)
        assert not world.ends
        await asyncio.sleep(2)
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "connect_worker_stopped_responding"

    @virtually
    async def test_a_call_that_is_not_wanted_any_more(self) -> None:
        world = World()
        worker = await world.worker(max_worker_concurrency=1)
        world.call()
        await settle()
        [request] = worker.requests()
        worker.acknowledge(request)
        world.wanted = False
        assert await worker.extend(request) is None
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "cancelled"
        assert world.gateway.free("app", "app-run") == 1

    @virtually
    async def test_if_nobody_can_say_whether_it_is_wanted_the_worker_keeps_it(self) -> None:
        world = World()
        worker = await world.worker()
        world.call()
        await settle()
        world.wanted = RuntimeError("the shard is reading its state")
        assert await worker.extend(worker.requests()[0])
        assert not world.ends

    @virtually
    async def test_a_call_of_an_earlier_process(self) -> None:
        world = World()
        resumed = ResumedCall(new_ulid(START_MS, bytes(10)), "app", "app-run", RUN, 4, 1, "js:v4")
        world.gateway.resume(resumed, world.ends.append)
        await asyncio.sleep(60)
        worker = await world.worker()
        request = GatewayExecutorRequestData(request_id=resumed.request_id)
        assert await worker.extend(request, "any lease")
        assert await worker.extend(request, "any lease") is None
        worker.reply(request)
        assert isinstance(world.ends[0], CallAnswer)

    @virtually
    async def test_a_call_of_an_earlier_process_whose_worker_does_not_come(self) -> None:
        world = World()
        resumed = ResumedCall(new_ulid(START_MS, bytes(10)), "app", "app-run", RUN, 4, 1, "js:v4")
        world.gateway.resume(resumed, world.ends.append)
        await asyncio.sleep(124)
        assert not world.ends
        await asyncio.sleep(2)
        assert isinstance(world.ends[0], CallFailure)

    @virtually
    async def test_a_call_of_an_earlier_process_at_a_worker_on_the_own_sdk(self) -> None:
        world = World()
        ids = [new_ulid(START_MS + n, bytes(10)) for n in range(2)]
        for n, each in enumerate(ids):
            resumed = ResumedCall(each, "app", "app-run", RUN, n, 1, "perdure-py:v0.1.0")
            world.gateway.resume(resumed, world.ends.append)
        worker = await world.worker(capabilities=b'{"perdure":{"checkpoints":1}}')
        assert await worker.extend(GatewayExecutorRequestData(request_id=ids[0]), "its lease")
        await asyncio.sleep(21)
        assert len(world.ends) == 1
        assert list(world.gateway.open) == [ids[0]]

    @virtually
    async def test_a_call_that_is_given_up(self) -> None:
        world = World()
        worker = await world.worker()
        handle = world.call()
        await settle()
        handle.cancel()
        assert not world.ends
        await settle()
        handle.cancel()
        await settle()
        [end] = world.ends
        assert isinstance(end, CallFailure)
        assert end.code == "cancelled"
        assert await worker.extend(worker.requests()[0]) is None


class TestAnswers:
    @virtually
    async def test_it_is_acknowledged_when_it_is_on_disk_and_so_are_those_that_come_again(self) -> None:
        world = World()
        worker = await world.worker()
        world.call()
        await settle()
        [request] = worker.requests()
        worker.reply(request)
        worker.reply(request)
        await settle()
        assert not worker.got(Kind.WORKER_REPLY_ACK)
        [end] = world.ends
        assert isinstance(end, CallAnswer)
        assert end.on_stored is not None
        end.on_stored()
        await settle()
        assert len(worker.got(Kind.WORKER_REPLY_ACK)) == 2
        worker.reply(request)
        await settle()
        assert len(worker.got(Kind.WORKER_REPLY_ACK)) == 3
        assert len(world.ends) == 1

    @pytest.mark.parametrize(
        ("fields", "status", "headers"),
        [
            ({"status": 1}, 200, {}),
            ({"status": 0}, 206, {}),
            ({"status": 2}, 500, {}),
            ({"status": 9}, 500, {}),
            ({"status": 2, "no_retry": True}, 500, {"x-inngest-no-retry": "true"}),
            ({"status": 1, "no_retry": True}, 500, {"x-inngest-no-retry": "true"}),
            ({"status": 0, "no_retry": True}, 206, {"x-inngest-no-retry": "true"}),
            ({"status": 2, "retry_after": "30"}, 500, {"retry-after": "30"}),
            ({"status": 1, "request_version": 2}, 200, {"x-inngest-req-version": "2"}),
        ],
    )
    def test_what_it_would_have_been_over_http(
        self, fields: dict[str, Any], status: int, headers: dict[str, str]
    ) -> None:
        from perdure.transports.connect.targets import read_answer

        response = SDKResponse("r", body=b"[]", sdk_version="py:v1", **fields)
        answer = read_answer(response, 100, lambda: None)
        assert isinstance(answer, CallAnswer)
        assert (answer.status, answer.headers) == (status, {"x-inngest-sdk": "py:v1", **headers})
        too_large = read_answer(SDKResponse("r", body=bytes(101)), 100, lambda: None)
        assert isinstance(too_large, CallFailure)
        assert too_large.code == "output_too_large"


class TestRouting:
    @virtually
    async def test_fewest_first_within_their_capacity(self) -> None:
        world = World()
        small = await world.worker(max_worker_concurrency=1)
        large = await world.worker(max_worker_concurrency=10)
        for _ in range(6):
            world.call()
        await settle()
        assert (len(small.requests()), len(large.requests())) == (1, 5)
        assert world.gateway.free("app", "app-run") == 5

    @virtually
    async def test_how_many_calls_may_begin_at_once(self) -> None:
        world = World()
        assert world.gateway.pace("app") == (24, 1_000)
        first = await world.worker(max_worker_concurrency=100)
        assert world.gateway.pace("app") == (100, 1_000)
        second = await world.worker()
        assert world.gateway.pace("app") == (124, 2_000)
        first.say(Kind.WORKER_PAUSE)
        assert world.gateway.pace("app") == (24, 1_000)
        first.say(Kind.WORKER_READY)
        second.lose()
        assert world.gateway.pace("app") == (100, 1_000)
        assert world.gateway.pace("other") == (24, 1_000)

    @virtually
    async def test_no_limit(self) -> None:
        world = World()
        await world.worker(max_worker_concurrency=0)
        assert (world.gateway.free("app", "app-run") or 0) > 1_000_000
        assert world.gateway.free("app", "app-other") is None
        assert world.gateway.free("other", "app-run") is None

    @virtually
    async def test_one_that_reads_too_slowly_gets_nothing_until_it_has_caught_up(self) -> None:
        world = World()
        worker = await world.worker()
        worker.session.writable(False)
        assert world.gateway.free("app", "app-run") is None
        before = world.changes
        worker.session.writable(True)
        assert world.changes > before
        assert world.gateway.free("app", "app-run")


class TestClosing:
    @virtually
    async def test_workers_are_told_then_closed_then_cut(self) -> None:
        world = World()
        worker = await world.worker()
        closing = asyncio.create_task(world.gateway.close())
        await settle()
        assert worker.got(Kind.GATEWAY_CLOSING)
        assert world.gateway.free("app", "app-run") is None
        assert worker.socket.closed is None
        await asyncio.sleep(2.1)
        assert worker.socket.closed == (1001, "connect_gateway_closing")
        _, late = world.session()
        assert late.closed == (1001, "connect_gateway_closing")
        await closing

    @virtually
    async def test_it_does_not_wait_for_nobody(self) -> None:
        world = World()
        worker = await world.worker()
        closing = asyncio.create_task(world.gateway.close())
        await settle()
        before = world.clock.now()
        worker.lose()
        await closing
        assert world.clock.now() - before < 50


class TestParts:
    @pytest.mark.parametrize(
        ("lease", "extend", "own", "acknowledge"),
        [(120_000, 30, 2, 10), (600_000, 30, 2, 10), (20_000, 5, 2, 10), (5_000, 1, 1, 5), (1_000, 1, 1, 1)],
    )
    def test_shorter_leases_are_extended_more_often(
        self, lease: int, extend: int, own: int, acknowledge: int
    ) -> None:
        found = GatewaySettings.of_lease(lease)
        assert (found.extend, found.own_extend) == (extend * 1000, own * 1000)
        assert (found.lease, found.acknowledge) == (lease, acknowledge * 1000)

    @pytest.mark.parametrize(
        ("capabilities", "interval"), [(b"{}", "30s"), (b'{"perdure":{"bundles":1}}', "2s")]
    )
    def test_intervals_as_sdks_read_them(self, capabilities: bytes, interval: str) -> None:
        @virtually
        async def ready() -> None:
            worker = await World().worker(capabilities=capabilities)
            [payload] = worker.got(Kind.GATEWAY_CONNECTION_READY)
            told = decode(payload, GatewayConnectionReadyData)
            assert (told.heartbeat_interval, told.extend_lease_interval) == ("10s", interval)

        ready()

    def test_deadlines_run_out_in_the_order_in_which_they_were_put(self) -> None:
        due: Deadlines[str] = Deadlines(100)
        for at, key in enumerate("abc"):
            due.put(key, key.upper(), at)
        due.put("a", "again", 50)
        due.drop("b")
        due.drop("unknown")
        assert due.next_time() == 102
        assert due.take_due(101) == []
        assert due.take_due(150) == ["C", "again"]
        assert (due.next_time(), len(due)) == (None, 0)

    def test_bundles_stay_small(self) -> None:
        small, large = b"x" * 10, b"y" * MAX_BUNDLE
        assert bundle([small]) == [small]
        frames = bundle([small, small, large, small])
        assert frames[1] == large
        first = decode(frames[0], ConnectMessage)
        assert first.kind == Kind.BUNDLE
        assert split_delimited(first.payload) == [small, small]
        assert frames[2] == small

    @virtually
    async def test_what_came_of_checkpoints_is_told_together(self) -> None:
        world = World()
        asked: list[Callable[[CheckpointAck], None]] = []
        world.gateway.doors = Doors(world._register, world._wanted, lambda _, told: asked.append(told))
        worker = await world.worker(capabilities=b'{"perdure":{"checkpoints":1}}')
        worker.session.received(encode(ConnectMessage(Kind.WORKER_CHECKPOINTS, b"\x90")))
        for seq in range(3):
            asked[0](CheckpointAck(seq, 200))
        await settle()
        assert len(worker.got(Kind.GATEWAY_CHECKPOINTS_ACK)) == 1


KINDS = st.sampled_from([*Kind, 16, 99, 4711])
PAYLOADS = st.binary(max_size=60) | st.builds(
    lambda request: encode(WorkerRequestExtendLeaseData(request_id=request, lease_id="x")),
    st.text(max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(
    messages=st.lists(st.tuples(KINDS, PAYLOADS), max_size=8),
    capable=st.booleans(),
    raw=st.binary(max_size=20),
)
def test_nothing_that_a_worker_says_breaks_the_gateway(
    messages: list[tuple[int, bytes]], capable: bool, raw: bytes
) -> None:
    @virtually
    async def say() -> None:
        world = World()
        stranger, socket = world.session()
        for kind, payload in messages:
            stranger.received(encode(ConnectMessage(kind, payload)))
        await settle()
        assert socket.closed is None or socket.closed[0] == 1008
        capabilities = b'{"perdure":{"checkpoints":1,"bundles":1,"logs":1}}' if capable else b"{}"
        worker = await world.worker(capabilities=capabilities)
        world.call()
        await settle()
        worker.session.received(raw)
        for kind, payload in messages:
            worker.session.received(encode(ConnectMessage(kind, payload)))
        bundled = join_delimited([encode(ConnectMessage(kind, payload)) for kind, payload in messages])
        worker.session.received(encode(ConnectMessage(Kind.BUNDLE, bundled)))
        await settle()
        [request] = worker.requests()
        worker.reply(request)
        assert len(world.ends) == 1
        assert not world.gateway.open

    say()

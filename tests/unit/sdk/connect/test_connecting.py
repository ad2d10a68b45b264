"""How a worker gets its connection: asking for a gateway, greeting, and what can go wrong there."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

import perdure
from perdure.errors import ConfigError
from perdure.protocol.connect.messages import GatewayExecutorRequestData, Kind, SystemError
from perdure.protocol.connect.wire import encode
from perdure.protocol.signing import hash_signing_key
from perdure.sdk.connect import worker
from tests.unit.sdk.connect.conftest import Start
from tests.unit.sdk.connect.gateway import OWN, Gateway, make_app


async def test_the_worker_introduces_itself_with_its_functions(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway, version="v7", env="branch")

        @app.function("unit/go", retries=2)
        async def go(step: perdure.Step) -> None: ...

        start(app, instance_id="pod-1", max_concurrency=12)
        line = await gateway.line()
        await line.next(Kind.WORKER_READY)
        hello = line.hello
        assert (hello.connection_id, hello.instance_id, hello.max_worker_concurrency) == (
            "CONN1",
            "pod-1",
            12,
        )
        assert hello.auth_data is not None
        assert (hello.auth_data.session_token, hello.auth_data.sync_token) == ("session", "sync")
        assert (hello.environment, hello.framework, hello.sdk_language) == ("branch", "connect", "perdure-py")
        assert hello.sdk_version == f"v{perdure.__version__}"
        assert hello.worker_manual_readiness_ack
        assert hello.started_at is not None
        assert hello.started_at.seconds > 1_700_000_000
        assert hello.system_attributes is not None
        assert hello.system_attributes.cpu_cores > 0
        (told,) = hello.apps
        assert (told.app_name, told.app_version) == ("unit", "v7")
        (function,) = json.loads(told.functions)
        assert function["id"] == "unit-go"
        assert function["triggers"] == [{"event": "unit/go"}]
        assert function["steps"]["step"]["runtime"] == {
            "type": "ws",
            "url": "wss://connect?fnId=unit-go&stepId=step",
        }
        assert json.loads(hello.capabilities)["perdure"] == {"checkpoints": 1, "bundles": 1, "logs": 1}
        assert gateway.start_headers[0]["x-inngest-env"] == "branch"
        assert gateway.start_headers[0]["content-type"] == "application/protobuf"
        assert "authorization" not in gateway.start_headers[0]


async def test_apps_of_one_server_share_a_connection(start: Start) -> None:
    async with Gateway() as gateway:
        app, other = make_app(gateway), perdure.App("other", url=gateway.url)

        @other.function(id="fn")
        async def fn(step: perdure.Step) -> str:
            return "of the other"

        start(app, other)
        line = await gateway.line()
        assert [one.app_name for one in line.hello.apps] == ["unit", "other"]
        await line.call("fn", app="other")
        assert (await line.reply()).body == b'"of the other"'


async def test_apps_that_cannot_share_a_connection_are_told_apart() -> None:
    app = perdure.App("one", url="http://a.invalid")
    with pytest.raises(perdure.UsageError, match="different servers"):
        await app.connect(perdure.App("two", url="http://b.invalid"))
    with pytest.raises(perdure.UsageError, match="one name"):
        await app.connect(perdure.App("one", url="http://a.invalid"))


async def test_a_server_that_is_down_is_asked_again_with_a_message_that_teaches(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "perdure")
    gateway = Gateway()
    await gateway.open()
    port = gateway.port
    app = make_app(gateway)
    await gateway.close()
    task = start(app)
    await gateway.until(lambda: len(caplog.records) >= 2)
    text = caplog.records[0].getMessage()
    for part in ("cannot be reached", "perdure dev", "PERDURE_URL", "tries again in"):
        assert part in text
    await gateway.open(port)
    line = await gateway.line()
    await line.next(Kind.WORKER_READY)
    assert not task.done()
    await gateway.close()


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "Set PERDURE_SIGNING_KEY"), (403, "signing key"), (404, "has no Connect gateway")],
)
async def test_what_trying_again_cannot_mend_ends_the_start(status: int, says: str, start: Start) -> None:
    async with Gateway() as gateway:
        gateway.start_answers.append((status, b"no"))
        with pytest.raises(perdure.ConnectError, match=says):
            await start(make_app(gateway))
        assert len(gateway.starts) == 1


async def test_the_fallback_key_is_tried_too(start: Start) -> None:
    keys = ["signkey-test-" + "ab" * 16, "signkey-test-" + "cd" * 16]
    async with Gateway() as gateway:
        gateway.start_answers.append((401, b"no"))
        start(make_app(gateway, signing_key=keys[0], signing_key_fallback=keys[1]))
        await gateway.line()
        sent = [headers["authorization"] for headers in gateway.start_headers]
        assert sent == [f"bearer {hash_signing_key(key)}".lower() for key in keys]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server_is_asked_again(status: int, start: Start) -> None:
    async with Gateway() as gateway:
        gateway.start_answers.extend([(status, b"later")] * 3)
        start(make_app(gateway))
        await gateway.line()
        assert len(gateway.starts) == 4


async def test_a_gateway_that_cannot_be_dialled_is_left_out_of_the_next_question(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with Gateway() as gateway:
        gateway.refuse_sockets = True
        start(make_app(gateway))
        await gateway.until(lambda: len(gateway.starts) >= 3)
        gateway.refuse_sockets = False
        await gateway.line()
        asked = [one.exclude_gateways for one in gateway.starts]
        assert asked[:3] == [[], ["gw-1"], []], (
            "the second time it may be the only one, so it is not left out for ever"
        )
        assert "gateway_url" in caplog.text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            SystemError("connect_invalid_function_config", message="unit-go has no trigger"),
            "unit-go has no trigger",
        ),
        ((1008, "connect_authentication_failed"), "Compare PERDURE_SIGNING_KEY"),
        ((1008, "connect_too_many_apps_per_connection"), "too_many_apps"),
    ],
)
async def test_a_gateway_that_does_not_take_the_worker_ends_the_start(
    given: object, says: str, start: Start
) -> None:
    async with Gateway() as gateway:
        if isinstance(given, SystemError):
            gateway.sync_failed = given
        else:
            gateway.close_with = given  # type: ignore[assignment]
        with pytest.raises(perdure.ConnectError, match=says):
            await start(make_app(gateway))


async def test_a_gateway_in_trouble_is_tried_again(start: Start) -> None:
    async with Gateway() as gateway:
        gateway.close_with = (1011, "connect_internal_error")
        start(make_app(gateway))
        await gateway.until(lambda: len(gateway.starts) >= 2)
        gateway.close_with = None
        await gateway.line()


async def test_what_would_end_a_start_does_not_end_a_worker_that_was_connected(start: Start) -> None:
    async with Gateway() as gateway:
        task = start(make_app(gateway))
        line = await gateway.line()
        gateway.start_answers.extend([(401, b"keys are being changed")] * 2)
        line.socket.transport.abort()
        again = await gateway.line()
        await again.next(Kind.WORKER_READY)
        assert not task.done()


async def test_the_gateways_address_can_be_rewritten(start: Start) -> None:
    async with Gateway() as gateway:
        endpoint = gateway.endpoint
        named: list[str] = []

        def rewrite(url: str) -> str:
            named.append(url)
            return url.replace("127.0.0.1", "localhost")

        start(make_app(gateway), gateway_url=rewrite)
        line = await gateway.line()
        assert named == [endpoint]
        assert line.socket.request is not None
        assert line.socket.request.headers["host"].startswith("localhost:")


async def test_the_environment_may_name_the_gateway(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Gateway() as gateway:
        monkeypatch.setenv("INNGEST_CONNECT_GATEWAY_URL", gateway.endpoint.replace("127.0.0.1", "localhost"))
        start(make_app(gateway))
        line = await gateway.line()
        assert line.socket.request is not None
        assert line.socket.request.headers["host"].startswith("localhost:")


async def test_an_address_that_cannot_be_one_is_refused(start: Start) -> None:
    async with Gateway() as gateway:
        with pytest.raises(perdure.ConnectError, match="ws://host"):
            await start(make_app(gateway), gateway_url="http://somewhere")


async def test_the_environment_limits_the_calls_at_once(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INNGEST_CONNECT_MAX_WORKER_CONCURRENCY", "7")
    async with Gateway() as gateway:
        start(make_app(gateway))
        assert (await gateway.line()).hello.max_worker_concurrency == 7
    monkeypatch.setenv("PERDURE_CONNECT_MAX_WORKER_CONCURRENCY", "many")
    with pytest.raises(ConfigError, match="number of calls"):
        perdure.App("unit")


async def test_heartbeats_go_on_and_two_without_an_answer_are_a_lost_connection(start: Start) -> None:
    async with Gateway(heartbeat="30ms") as gateway:
        start(make_app(gateway))
        line = await gateway.line()
        for _ in range(4):
            await line.next(Kind.WORKER_HEARTBEAT)
        assert len(gateway.lines) == 1
        line.answer_heartbeats = False
        again = await gateway.line()
        await again.next(Kind.WORKER_READY)
        await line.socket.wait_closed()


async def test_a_closing_gateway_is_left_for_another_before_it_is_gone(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway, checkpoint=None)
        goes_on = asyncio.Event()

        @app.function(id="slow")
        async def slow(step: perdure.Step) -> str:
            await goes_on.wait()
            return "done"

        start(app)
        old = await gateway.line()
        await old.call("slow")
        await old.next(Kind.WORKER_REQUEST_ACK)
        await old.send(Kind.GATEWAY_CLOSING)
        new = await gateway.line()
        assert gateway.starts[1].exclude_gateways == ["gw-1"]
        assert old.socket.close_code is None, "the old one is there until the new one is"
        await new.next(Kind.WORKER_READY)
        goes_on.set()
        assert (await new.reply()).body == b'"done"'
        await old.socket.wait_closed()
        assert old.socket.close_code == 1000


async def test_frames_that_cannot_be_read_are_ignored(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> int:
            return 1

        start(app)
        line = await gateway.line()
        await line.socket.send("text")
        await line.socket.send(b"\xff\xff\xff")
        await line.send(Kind.BUNDLE, b"\x7f")
        await line.send(Kind.GATEWAY_EXECUTOR_REQUEST, b"\x0a\x7f")
        await line.send(99)  # type: ignore[arg-type]
        await line.send(
            Kind.GATEWAY_EXECUTOR_REQUEST, encode(GatewayExecutorRequestData(app_name="stranger"))
        )
        await line.call("fn")
        assert (await line.reply()).body == b"1"
        assert caplog.text.count("cannot be read") == 3
        assert "stranger" in caplog.text
        assert line.kinds.count(Kind.WORKER_REQUEST_ACK) == 1, "what is not ours is not confirmed"


async def test_a_gateway_that_lets_nobody_stay_is_not_asked_in_a_hurry(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LONGEST_PAUSE_S", 1.0)
    async with Gateway() as gateway:
        start(make_app(gateway))
        for _ in range(4):
            line = await gateway.line()
            await line.send(Kind.GATEWAY_CLOSING)
        begun = asyncio.get_running_loop().time()
        await gateway.line()
        assert asyncio.get_running_loop().time() - begun > 0.07, "the pause has grown"


async def test_options_that_cannot_be_are_refused() -> None:
    app = perdure.App("unit", url="http://server.invalid")
    with pytest.raises(perdure.UsageError, match="max_concurrency=0"):
        await app.connect(max_concurrency=0)
    with pytest.raises(perdure.UsageError, match="drain_timeout"):
        await app.connect(drain_timeout="soon")
    with pytest.raises(perdure.UsageError, match="blocks the event loop"):
        app.connect_sync()

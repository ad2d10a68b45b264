"""How a worker stops: it takes nothing new, ends what runs at a step, delivers its answers, and leaves."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal

import pytest

import perdure
from perdure.protocol.connect.messages import Kind, WorkerReplyAckData
from perdure.protocol.ids import hash_step_id
from perdure.sdk.connect.signals import stopping_on
from tests.unit.sdk.connect.conftest import Start
from tests.unit.sdk.connect.gateway import OWN, Gateway, make_app


async def test_a_stopped_worker_pauses_finishes_its_step_answers_and_leaves(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)
        goes_on = asyncio.Event()
        ran: list[str] = []

        async def first() -> int:
            await goes_on.wait()
            ran.append("first")
            return 1

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await step.run("first", first)
            await step.run("second", lambda: ran.append("second"))

        task = start(app, drain_timeout=5)
        line = await gateway.line()
        await line.call("fn")
        await line.next(Kind.WORKER_REQUEST_ACK)
        task.cancel()
        await line.next(Kind.WORKER_PAUSE)
        await line.call("fn", "r2")
        await line.lease("lease-2")
        await line.lease("lease-3")
        assert not task.done(), "leases and heartbeats go on while it drains"
        goes_on.set()
        await line.checkpoints()
        reply = await line.reply()
        assert [op["op"] for op in json.loads(reply.body)] == ["DiscoveryRequest"], (
            "another worker takes it up"
        )
        with pytest.raises(asyncio.CancelledError):
            await task
        await line.socket.wait_closed()
        assert (line.socket.close_code, line.socket.close_reason) == (1000, "WORKER_SHUTDOWN")
        assert ran == ["first"]
        assert line.kinds.count(Kind.WORKER_REQUEST_ACK) == 1, "no call is taken while it drains"


async def test_what_does_not_end_in_time_is_stopped_and_left_to_others(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)
        seen: list[str] = []

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            try:
                await asyncio.sleep(30)
            finally:
                seen.append("cleaned up")

        task = start(app, drain_timeout=0.1)
        line = await gateway.line()
        await line.call("fn")
        await line.next(Kind.WORKER_REQUEST_ACK)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cleaned up"]
        assert "1 calls did not end within 0.1 s" in caplog.text
        assert [json.loads(one.body) for one in gateway.flushed] == [
            [{"op": "DiscoveryRequest", "id": hash_step_id("discover")}]
        ], "another worker goes on at once"


async def test_a_step_that_was_asked_for_is_given_up_without_an_answer(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await asyncio.gather(step.run("a", asyncio.sleep, 30), step.run("b", asyncio.sleep, 30))

        task = start(app, drain_timeout=0.1)
        line = await gateway.line()
        await line.call("fn", target=hash_step_id("a"))
        await line.next(Kind.WORKER_REQUEST_ACK)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gateway.flushed == []
        assert Kind.WORKER_REPLY not in line.kinds


async def test_an_answer_that_is_not_confirmed_is_posted_before_the_worker_is_gone(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> str:
            return "x"

        task = start(app, drain_timeout=0.05)
        line = await gateway.line()
        await line.call("fn")
        await line.reply(confirm=False)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [one.request_id for one in gateway.flushed] == ["req-1"]


async def test_a_draining_worker_that_connects_again_asks_for_nothing_new(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)
        goes_on = asyncio.Event()

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> str:
            await goes_on.wait()
            return "late"

        task = start(app, drain_timeout=5)
        line = await gateway.line()
        await line.call("fn")
        await line.next(Kind.WORKER_REQUEST_ACK)
        task.cancel()
        await line.next(Kind.WORKER_PAUSE)
        line.socket.transport.abort()
        again = await gateway.line()
        await again.next(Kind.WORKER_PAUSE)
        goes_on.set()
        assert (await again.reply()).body == b'"late"'
        assert Kind.WORKER_READY not in again.kinds
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_second_stop_does_not_wait(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await asyncio.sleep(30)

        task = start(app, drain_timeout=60)
        line = await gateway.line()
        await line.call("fn")
        await line.next(Kind.WORKER_REQUEST_ACK)
        task.cancel()
        await line.next(Kind.WORKER_PAUSE)
        task.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_worker(number: signal.Signals, start: Start) -> None:
    async with Gateway() as gateway:
        before = signal.getsignal(number)
        task = start(make_app(gateway), shutdown_signals=[number])
        line = await gateway.line()
        await line.next(Kind.WORKER_READY)
        os.kill(os.getpid(), number)
        await line.next(Kind.WORKER_PAUSE)
        async with asyncio.timeout(5):
            await task
        assert signal.getsignal(number) is before, "the signal is given back"


async def test_a_signal_that_comes_while_the_server_is_down_ends_the_worker(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)
    task = start(app, shutdown_signals=[signal.SIGTERM])
    await asyncio.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(5):
        await task


async def test_signals_of_the_program_itself_are_left_to_it() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("program"))
    try:
        with stopping_on(None, functools.partial(heard.append, "worker")):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
        with stopping_on([signal.SIGTERM], functools.partial(heard.append, "worker")):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["program", "worker", "program"]


async def test_a_worker_that_is_done_leaves_nothing_behind(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> int:
            return await step.run("a", lambda: 1)

        before = len(asyncio.all_tasks())
        task = start(app)
        line = await gateway.line()
        await line.call("fn")
        await line.checkpoints()
        await line.reply()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await line.send(
            Kind.WORKER_REPLY_ACK, WorkerReplyAckData("x")
        ) if line.socket.close_code is None else None
        await gateway.until(
            lambda: len(asyncio.all_tasks()) <= before + 1
        )  # the gateway's own reader of HTTP

"""Calls over a connection: confirmed, run, answered once; leases; finished steps; what becomes of lost connections."""

from __future__ import annotations

import asyncio
import json
import logging
import threading

import pytest

import perdure
from perdure.protocol.connect.messages import Kind, ResponseStatus, WorkerReplyAckData, WorkerRequestAckData
from perdure.protocol.ids import hash_step_id as h
from perdure.sdk.exchange import SDK
from tests.unit.sdk.connect.conftest import Start
from tests.unit.sdk.connect.gateway import OWN, Gateway, make_app, request_of


async def test_a_call_is_confirmed_before_its_code_runs_and_answered(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)
        goes_on = asyncio.Event()

        @app.function(id="fn")
        async def fn(event: dict[str, object], step: perdure.Step) -> object:
            await goes_on.wait()
            return event["n"]

        start(app)
        line = await gateway.line()
        request = await line.call("fn", event={"data": {"n": 7}})
        ack = await line.next(Kind.WORKER_REQUEST_ACK, WorkerRequestAckData)
        for name in WorkerRequestAckData.__struct_fields__:
            assert getattr(ack, name) == getattr(request, name), name
        assert Kind.WORKER_REPLY not in line.kinds
        goes_on.set()
        reply = await line.reply()
        assert (reply.status, reply.body) == (ResponseStatus.DONE, b"7")
        assert (reply.request_id, reply.run_id, reply.account_id) == ("req-1", "01RUN", "account")
        assert (reply.env_id, reply.app_id) == ("env", "app-id")
        assert (reply.sdk_version, reply.request_version) == (SDK, 2)
        assert (reply.system_trace_ctx, reply.user_trace_ctx) == (b'{"traceparent":"00-1"}', b"{}")
        assert (reply.no_retry, reply.retry_after) == (False, None)


async def test_steps_errors_and_their_wishes_have_their_status(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway, checkpoint=None)

        @app.function(id="steps")
        async def steps(step: perdure.Step) -> object:
            return await step.run("a", lambda: 1)

        @app.function(id="final")
        async def final(step: perdure.Step) -> None:
            raise perdure.NonRetriableError("never again")

        @app.function(id="later")
        async def later(step: perdure.Step) -> None:
            raise perdure.RetryAfterError("not now", 60)

        start(app)
        line = await gateway.line()
        await line.call("steps", "r1")
        told = await line.reply()
        assert told.status == ResponseStatus.NOT_COMPLETED
        assert [(op["op"], op["data"]) for op in json.loads(told.body)] == [("StepRun", 1)]
        await line.call("steps", "r2", target=None, steps={h("a"): {"data": 5}})
        told = await line.reply()
        assert (told.status, told.body) == (ResponseStatus.DONE, b"5")
        await line.call("final", "r3")
        told = await line.reply()
        assert (told.status, told.no_retry) == (ResponseStatus.ERROR, True)
        await line.call("later", "r4")
        told = await line.reply()
        assert (told.status, told.no_retry) == (ResponseStatus.ERROR, False)
        assert (told.retry_after or "").endswith("Z")
        await line.call("gone", "r5")
        told = await line.reply()
        assert told.status == ResponseStatus.ERROR
        assert (
            "has no function 'unit-gone'; it has: unit-final, unit-later, unit-steps"
            in json.loads(told.body)["message"]
        )


async def test_sync_functions_run_in_threads(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway, checkpoint=None)
        threads: list[threading.Thread] = []

        @app.function(id="plain")
        def plain(step: perdure.SyncStep) -> str:
            threads.append(threading.current_thread())
            return "plain"

        start(app)
        line = await gateway.line()
        await line.call("plain")
        assert (await line.reply()).body == b'"plain"'
        assert threads[0] is not threading.main_thread()


async def test_a_call_that_comes_twice_is_run_once(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)
        goes_on = asyncio.Event()
        runs: list[int] = []

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            runs.append(1)
            await goes_on.wait()

        start(app)
        line = await gateway.line()
        await line.call("fn")
        await line.call("fn")
        for _ in range(2):
            await line.next(Kind.WORKER_REQUEST_ACK)
        goes_on.set()
        await line.reply(confirm=False)
        await line.call("fn")
        await line.next(Kind.WORKER_REQUEST_ACK)
        await line.reply()
        assert runs == [1], "the second time it was running, the third time answered and not confirmed"


async def test_an_answer_that_is_not_confirmed_is_posted(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> str:
            return "x"

        gateway.flush_answers.extend([503, 401])
        start(app)
        line = await gateway.line()
        await line.call("fn", "r1")
        await line.reply()
        await line.call("fn", "r2")
        await line.reply(confirm=False)
        await gateway.until(lambda: gateway.flushed)
        assert [(one.request_id, one.body) for one in gateway.flushed] == [("r2", b'"x"')]
        await asyncio.sleep(0.4)
        assert len(gateway.flushed) == 1, "once it is taken it is not posted again"


async def test_an_answer_that_the_server_will_not_have_is_given_up(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> str:
            return "x"

        gateway.flush_answers.append(400)
        start(app)
        line = await gateway.line()
        await line.call("fn", "r1")
        await line.reply(confirm=False)
        await gateway.until(lambda: "does not take the answer of request r1 (HTTP 400" in caplog.text)
        await asyncio.sleep(0.4)
        assert gateway.flushed == []


async def test_an_answer_too_large_for_a_frame_is_posted(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> str:
            return "x" * 9_000_000

        start(app)
        line = await gateway.line()
        await line.call("fn")
        await gateway.until(lambda: gateway.flushed)
        assert len(gateway.flushed[0].body) == 9_000_002
        assert Kind.WORKER_REPLY not in line.kinds
        assert line.socket.close_code is None


async def test_calls_outlive_a_lost_connection_and_are_answered_over_the_next(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)
        goes_on = asyncio.Event()

        @app.function(id="slow")
        async def slow(step: perdure.Step) -> str:
            await goes_on.wait()
            return "slow"

        @app.function(id="fast")
        async def fast(step: perdure.Step) -> str:
            return "fast"

        start(app)
        line = await gateway.line()
        await line.call("slow", "r1")
        await line.call("fast", "r2")
        await line.reply(confirm=False)
        line.socket.transport.abort()
        again = await gateway.line()
        assert (await again.reply()).request_id == "r2", "what was not confirmed is sent again"
        assert (await again.lease("lease-2")).request_id == "r1", (
            "the lease is taken to the new connection at once"
        )
        goes_on.set()
        assert (await again.reply()).request_id == "r1"
        assert gateway.flushed == []


async def test_leases_are_extended_with_the_newest_id(start: Start) -> None:
    async with Gateway(lease="50ms") as gateway:
        app = make_app(gateway)
        goes_on = asyncio.Event()

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await goes_on.wait()

        start(app)
        line = await gateway.line()
        await line.call("fn")
        seen = [(await line.lease(f"lease-{number}")).lease_id for number in (2, 3, 4)]
        assert seen == ["lease-1", "lease-2", "lease-3"]
        goes_on.set()
        await line.reply()
        before = line.kinds.count(Kind.WORKER_REQUEST_EXTEND_LEASE)
        await asyncio.sleep(0.2)
        assert line.kinds.count(Kind.WORKER_REQUEST_EXTEND_LEASE) == before, "an answered call needs no lease"


@pytest.mark.parametrize("own", [None, OWN])
async def test_only_gateways_of_our_own_are_asked_often(own: object, start: Start) -> None:
    async with Gateway(own=own, lease="30s") as gateway:  # type: ignore[arg-type]
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await asyncio.sleep(0.3)

        start(app)
        line = await gateway.line()
        await line.call("fn")
        await line.reply()
        assert (Kind.WORKER_REQUEST_EXTEND_LEASE in line.kinds) is (own is not None)


async def test_a_lost_lease_cancels_what_runs_and_nothing_is_answered(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)
        seen: list[str] = []

        async def work(name: str) -> None:
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                seen.append(f"{name} cancelled")
                raise
            finally:
                seen.append(f"{name} cleaned up")

        @app.function(id="in-step")
        async def in_step(step: perdure.Step) -> None:
            await step.run("work", work, "step")

        @app.function(id="beside")
        async def beside(step: perdure.Step) -> None:
            tasks = [asyncio.create_task(work(name)) for name in "ab"]
            await asyncio.wait(tasks)

        start(app)
        line = await gateway.line()
        await line.call("in-step", "r1")
        await line.lease(None)
        await gateway.until(lambda: len(seen) == 2)
        assert seen == ["step cancelled", "step cleaned up"]
        await line.call("beside", "r2")
        await line.lease(None)
        await gateway.until(lambda: len(seen) == 6)
        await line.next(Kind.WORKER_HEARTBEAT)
        assert Kind.WORKER_REPLY not in line.kinds
        assert gateway.flushed == []


async def test_a_sync_step_is_not_interrupted_but_the_next_one_is_not_begun(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)
        began, goes_on, ended = threading.Event(), threading.Event(), threading.Event()
        seen: list[str] = []

        def first() -> None:
            began.set()
            goes_on.wait(10)
            seen.append("first")

        @app.function(id="plain")
        def plain(step: perdure.SyncStep) -> None:
            try:
                step.run("first", first)
                step.run("second", lambda: seen.append("second"))
            finally:
                ended.set()

        start(app)
        line = await gateway.line()
        await line.call("plain")
        await line.lease(None)
        await asyncio.to_thread(began.wait, 5)
        goes_on.set()
        assert await asyncio.to_thread(ended.wait, 5)
        assert seen == ["first"]
        assert Kind.WORKER_REPLY not in line.kinds


async def test_finished_steps_go_over_a_connection_that_takes_them(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)

        @app.function(id="two")
        async def two(step: perdure.Step) -> object:
            a = await step.run("a", lambda: 1)
            return await step.run("b", lambda: a + 1)

        start(app)
        line = await gateway.line()
        await line.call("two")
        (entry,) = await line.checkpoints()
        assert (entry.run_id, entry.fn_id, entry.qi_id) == ("01RUN", "FN", "QI")
        assert (entry.request_id, entry.generation) == ("req-1", 3)
        assert [(op["op"], op["data"]) for op in json.loads(entry.steps)] == [("StepRun", 1)]
        assert Kind.WORKER_REPLY not in line.kinds, "the function waits until its step is saved"
        await line.checkpoints()
        assert (await line.reply()).body == b"2"
        assert gateway.posted == []


async def test_steps_of_many_calls_share_a_frame(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)

        @app.function(id="one")
        async def one(step: perdure.Step) -> object:
            async def body() -> int:
                return 1

            return await step.run("a", body)

        start(app)
        line = await gateway.line()
        await line.next(Kind.WORKER_HEARTBEAT)
        before = line.frames
        requests = [request_of("one", f"r{number}", run_id=f"RUN{number}") for number in range(20)]
        await line.send_together(*((Kind.GATEWAY_EXECUTOR_REQUEST, one) for one in requests))
        assert len(await line.checkpoints()) == 20
        for _ in range(20):
            await line.reply()
        assert line.frames - before <= 4, "confirmations, steps and answers: a frame each, or less"


async def test_a_stale_step_stops_the_call_and_cancels_its_siblings(start: Start) -> None:
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)
        seen: list[str] = []

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            try:
                await step.run("a", lambda: 1)
                seen.append("went on")
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        start(app)
        line = await gateway.line()
        await line.call("fn")
        await line.checkpoints(409)
        reply = await line.reply()
        assert (reply.status, reply.body) == (ResponseStatus.NOT_COMPLETED, b"[]")
        assert seen == ["cancelled"]


@pytest.mark.parametrize("trouble", [503, "lost", "silent"])
async def test_steps_that_get_no_answer_are_posted_over_http(
    trouble: object, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perdure.sdk.connect import carrying

    monkeypatch.setattr(carrying, "PATIENCE_S", 0.1)
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> object:
            return await step.run("a", lambda: 1)

        start(app)
        line = await gateway.line()
        await line.call("fn")
        await line.checkpoints(trouble if isinstance(trouble, int) else None)
        if trouble == "lost":
            line.socket.transport.abort()
            line = await gateway.line()
        assert (await line.reply()).body == b"1"
        assert len(gateway.posted) == 1


async def test_a_gateway_without_extensions_gets_plain_frames_and_steps_by_http(start: Start) -> None:
    async with Gateway() as gateway:
        app = make_app(gateway)

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> object:
            return await step.run("a", lambda: 1)

        start(app)
        line = await gateway.line()
        await line.call("fn")
        assert (await line.reply()).body == b"1"
        assert [path for path, _ in gateway.posted] == ["/v1/checkpoint/01RUN/async"]
        assert not {kind for kind in line.kinds if kind >= 100}
        assert line.frames == len(line.kinds)


async def test_status_is_told_if_the_gateway_asks_for_it(start: Start) -> None:
    from perdure.protocol.connect.messages import WorkerStatusData

    async with Gateway() as gateway:
        gateway.ready.status_interval = "50ms"
        app = make_app(gateway)
        goes_on = asyncio.Event()

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await goes_on.wait()

        start(app)
        line = await gateway.line()
        await line.call("fn")
        await line.next(Kind.WORKER_REQUEST_ACK)
        line.waiting(Kind.WORKER_STATUS)
        await line.next(Kind.WORKER_STATUS, WorkerStatusData)
        status = await line.next(Kind.WORKER_STATUS, WorkerStatusData)
        assert (status.in_flight_request_ids, status.shutdown_requested) == (["req-1"], False)
        goes_on.set()
        await line.send(Kind.WORKER_REPLY_ACK, WorkerReplyAckData("req-1"))


@pytest.mark.parametrize("own", [None, OWN])
async def test_log_lines_go_over_a_connection_that_takes_them(own: object, start: Start) -> None:
    async with Gateway(own=own) as gateway:  # type: ignore[arg-type]
        app = make_app(gateway)
        log = logging.getLogger("unit.steps")

        async def work() -> None:
            log.warning("it works")

        @app.function(id="fn")
        async def fn(step: perdure.Step) -> None:
            await step.run("a", work)

        start(app)
        line = await gateway.line()
        await line.call("fn")
        if own is not None:
            await line.checkpoints()
            (told,) = json.loads(await line.next_bytes(Kind.WORKER_LOGS))
            assert (told["run_id"], told["step_id"], told["message"]) == ("01RUN", "a", "it works")
        await line.reply()
        assert [path for path, _ in gateway.posted] == ([] if own else ["/v1/checkpoint/01RUN/async"])

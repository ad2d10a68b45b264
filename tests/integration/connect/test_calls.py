"""What a worker is called with, what its answers do, and where a call goes when nobody takes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from perdure.protocol.connect.messages import (
    GatewayExecutorRequestData,
    Kind,
    ResponseStatus,
    SDKResponse,
    WorkerReplyAckData,
)
from perdure.protocol.connect.wire import decode
from perdure.protocol.ids import ACCOUNT_ID, ENVIRONMENT_ID, app_uuid, function_uuid, hash_step_id, is_ulid
from tests.integration.connect.bare_worker import BareWorker, acknowledgement, app, flush, reply
from tests.sdk.driver import Server, until

Send = Callable[..., str]


async def run_of(server: Server, event_id: str, slug: str) -> dict[str, Any]:
    return await asyncio.to_thread(server.run_of, event_id, slug)


async def ended(server: Server, run_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(server.ended, run_id)


def why(server: Server, run_id: str) -> str:
    answer = server.http.get(f"/v1/runs/{run_id}/why")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["text"])


async def waits(server: Server, run_id: str, text: str) -> None:
    """Until the server says of the run that it waits for this."""
    await asyncio.to_thread(until, text, lambda: text in why(server, run_id))


class TestOneCall:
    async def test_what_it_holds(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name))
        event_id = send(n=1)
        request = await worker.call()
        body = json.loads(request.request_payload)
        ctx = body["ctx"]
        assert is_ulid(request.request_id)
        assert (request.account_id, request.env_id) == (ACCOUNT_ID, ENVIRONMENT_ID)
        assert (request.app_name, request.function_slug) == (name, f"{name}-run")
        assert (request.app_id, request.function_id) == (app_uuid(name), function_uuid(name, f"{name}-run"))
        assert request.step_id == "step"
        assert is_ulid(request.lease_id)
        assert json.loads(request.system_trace_ctx)["traceparent"].startswith("00-")
        assert json.loads(request.user_trace_ctx)["traceparent"].startswith("00-")
        assert body["event"]["data"] == {"n": 1}
        assert (ctx["request_id"], ctx["run_id"], ctx["job_id"]) == (
            request.request_id,
            request.run_id,
            request.job_id,
        )
        assert ctx["generation_id"] == 1
        await worker.answer(request, {"it": "worked"})
        run = await run_of(server, event_id, f"{name}-run")
        assert run["run_id"] == request.run_id
        run = await ended(server, request.run_id)
        assert (run["status"], run["output"]) == ("Completed", {"it": "worked"})
        await worker.close()

    async def test_steps_lead_to_further_calls(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        op = {"id": hash_step_id("a"), "op": "StepPlanned", "displayName": "a", "opts": {}}
        await worker.answer(request, [op], ResponseStatus.NOT_COMPLETED)
        targeted = await worker.call()
        assert targeted.step_id == hash_step_id("a")
        op = {"id": hash_step_id("a"), "op": "StepRun", "displayName": "a", "data": 5}
        await worker.answer(targeted, [op], ResponseStatus.NOT_COMPLETED)
        last = await worker.call()
        assert json.loads(last.request_payload)["steps"] == {hash_step_id("a"): {"data": 5}}
        await worker.answer(last, "done")
        assert (await ended(server, request.run_id))["output"] == "done"
        await worker.close()

    async def test_an_error_is_tried_again_unless_it_says_not_to(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        first = await worker.call()
        error = {"name": "Error", "message": "no luck", "stack": "at"}
        await worker.answer(first, error, ResponseStatus.ERROR)
        second = await worker.call()
        assert json.loads(second.request_payload)["ctx"]["attempt"] == 1
        assert second.request_id != first.request_id
        await worker.answer(second, error, ResponseStatus.ERROR, no_retry=True)
        run = await ended(server, first.run_id)
        assert run["status"] == "Failed"
        assert run["output"]["message"] == "no luck"
        await worker.close()

    async def test_done_without_retry_is_an_error_as_the_javascript_sdk_means_it(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        await worker.answer(request, {"name": "Error", "message": "final"}, no_retry=True)
        run = await ended(server, request.run_id)
        assert (run["status"], run["output"]["message"]) == ("Failed", "final")
        await worker.close()

    async def test_it_may_say_when_to_try_again(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        begun = asyncio.get_running_loop().time()
        await worker.answer(request, {"message": "later"}, ResponseStatus.ERROR, retry_after="3")
        again = await worker.call()
        assert asyncio.get_running_loop().time() - begun > 1.9
        await worker.answer(again, None)
        await worker.close()


class TestAnswers:
    async def test_an_answer_that_comes_twice_is_acknowledged_twice(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        await worker.answer(request, 1)
        await worker.answer(request, 2)
        assert (await ended(server, request.run_id))["output"] == 1
        answer = await flush(server, reply(request, 3))
        assert decode(answer.content, WorkerReplyAckData).request_id == request.request_id
        assert (await ended(server, request.run_id))["output"] == 1
        await worker.close()

    async def test_an_answer_to_nothing_is_acknowledged(self, server: Server, name: str) -> None:
        worker = await BareWorker.ready(server, app(name))
        await worker.answer(GatewayExecutorRequestData(request_id="unknown"), 1)
        await worker.close()

    async def test_an_answer_may_be_flushed(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        await worker.close()
        answer = await flush(server, reply(request, "flushed"))
        assert answer.status_code == 200
        assert (await ended(server, request.run_id))["output"] == "flushed"

    async def test_a_flush_that_cannot_be_read(self, server: Server) -> None:
        fine = SDKResponse(request_id="x", system_trace_ctx=b"{}")
        assert (await flush(server, fine)).status_code == 200
        assert (await flush(server, SDKResponse(request_id="x", system_trace_ctx=b"{"))).status_code == 400
        assert (await flush(server, SDKResponse(request_id="x"))).status_code == 400
        assert (await flush(server, SDKResponse(system_trace_ctx=b"{}"))).status_code == 400
        assert server.http.post("/v0/connect/flush", content=b"\x0a\xff").status_code == 400

    async def test_an_answer_may_come_through_another_connection(
        self, server: Server, name: str, send: Send
    ) -> None:
        first = await BareWorker.ready(server, app(name))
        send()
        request = await first.call()
        second = await BareWorker.ready(server, app(name))
        await second.answer(request, "moved")
        assert (await ended(server, request.run_id))["output"] == "moved"
        await first.close()
        await second.close()


class TestNoWorker:
    async def test_a_run_waits_for_a_worker_without_an_attempt(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name))
        await worker.close()
        event_id = send()
        run = await run_of(server, event_id, f"{name}-run")
        await waits(server, run["run_id"], f"no worker of app {name} is connected")
        assert server.run(run["run_id"])["status"] == "Scheduled"
        worker = await BareWorker.ready(server, app(name))
        request = await worker.call(timeout=2)
        ctx = json.loads(request.request_payload)["ctx"]
        assert (ctx["attempt"], ctx["generation_id"]) == (0, 1)
        await worker.answer(request, None)
        await worker.close()

    async def test_a_worker_that_has_not_said_that_it_is_ready_gets_nothing(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name), worker_manual_readiness_ack=True)
        run = await run_of(server, send(), f"{name}-run")
        await waits(server, run["run_id"], "no worker")
        await worker.say(Kind.WORKER_READY)
        await worker.answer(await worker.call(timeout=2), None)
        await worker.close()

    async def test_a_worker_that_pauses_gets_nothing_new_and_ends_what_it_has(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        await worker.say(Kind.WORKER_PAUSE)
        await worker.say(Kind.WORKER_HEARTBEAT)
        await worker.get(Kind.GATEWAY_HEARTBEAT)
        later = await run_of(server, send(), f"{name}-run")
        await waits(server, later["run_id"], "no worker")
        assert await worker.extend(request)
        await worker.answer(request, "in order")
        assert (await ended(server, request.run_id))["output"] == "in order"
        await worker.close()
        other = await BareWorker.ready(server, app(name))
        taken = await other.call(timeout=2)
        assert taken.run_id == later["run_id"]
        await other.answer(taken, None)
        await other.close()

    async def test_a_function_that_only_some_workers_have_waits_for_one_of_those(
        self, server: Server, name: str, send: Send
    ) -> None:
        one = await BareWorker.ready(server, app(name, "one", version="1"))
        both = await BareWorker.ready(server, app(name, "one", "two", version="2"))
        await both.close()
        run = await run_of(server, send("two"), f"{name}-two")
        await waits(server, run["run_id"], "no worker")
        send("one")
        await one.answer(await one.call(timeout=2), None)
        await one.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.2)
        both = await BareWorker.ready(server, app(name, "one", "two", version="2"))
        taken = await both.call(timeout=2)
        assert taken.run_id == run["run_id"]
        await both.answer(taken, None)
        await one.close()
        await both.close()


class TestCapacity:
    async def test_no_more_calls_than_a_worker_takes(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name), max_worker_concurrency=1)
        events = [send(n=n) for n in range(3)]
        request = await worker.call()
        last = await run_of(server, events[2], f"{name}-run")
        await waits(server, last["run_id"], f"all workers of app {name} are at capacity")
        await worker.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.2)
        for _ in events:
            assert json.loads(request.request_payload)["ctx"]["attempt"] == 0
            await worker.say(Kind.WORKER_REPLY, reply(request, None))
            if request.run_id != last["run_id"]:
                request = await worker.call(timeout=2)
        assert (await ended(server, last["run_id"]))["status"] == "Completed"
        await worker.close()

    async def test_a_second_worker_makes_room_at_once(self, server: Server, name: str, send: Send) -> None:
        first = await BareWorker.ready(server, app(name), max_worker_concurrency=1)
        send()
        send()
        one = await first.call()
        second = await BareWorker.ready(server, app(name), max_worker_concurrency=1)
        other = await second.call(timeout=2)
        await first.answer(one, None)
        await second.answer(other, None)
        await first.close()
        await second.close()

    async def test_the_worker_with_the_fewest_calls_gets_the_next(
        self, server: Server, name: str, send: Send
    ) -> None:
        workers = [await BareWorker.ready(server, app(name)) for _ in range(3)]
        for _ in range(6):
            send()
        # Each gets two: none has three, and one that had, would leave another with one.
        calls = [[await worker.call(), await worker.call()] for worker in workers]
        for worker, pair in zip(workers, calls, strict=True):
            for request in pair:
                await worker.answer(request, None)
            await worker.close()


class TestAcknowledgement:
    async def test_what_a_lost_worker_had_not_acknowledged_goes_to_another_at_once(
        self, server: Server, name: str, send: Send
    ) -> None:
        first = await BareWorker.ready(server, app(name))
        send()
        request = decode(await first.get(Kind.GATEWAY_EXECUTOR_REQUEST), GatewayExecutorRequestData)
        second = await BareWorker.ready(server, app(name))
        first.cut()
        again = await second.call(timeout=2)
        assert again.request_id == request.request_id
        assert again.lease_id != request.lease_id
        await second.answer(again, None)
        assert (await ended(server, request.run_id))["status"] == "Completed"
        await second.close()

    async def test_with_no_other_worker_it_waits_for_one_and_is_no_attempt(
        self, server: Server, name: str, send: Send
    ) -> None:
        first = await BareWorker.ready(server, app(name))
        send()
        request = decode(await first.get(Kind.GATEWAY_EXECUTOR_REQUEST), GatewayExecutorRequestData)
        first.cut()
        await waits(server, request.run_id, "no worker")
        second = await BareWorker.ready(server, app(name))
        again = await second.call(timeout=2)
        ctx = json.loads(again.request_payload)["ctx"]
        assert (ctx["attempt"], ctx["generation_id"]) == (0, 2)
        await second.answer(again, None)
        await second.close()

    @pytest.mark.parametrize("late", [False, True])
    async def test_a_worker_that_does_not_acknowledge_is_passed_over(
        self, server: Server, name: str, send: Send, late: bool
    ) -> None:
        silent = await BareWorker.ready(server, app(name))
        send()
        request = decode(await silent.get(Kind.GATEWAY_EXECUTOR_REQUEST), GatewayExecutorRequestData)
        other = await BareWorker.ready(server, app(name))
        again = await other.call()
        assert again.request_id == request.request_id
        if late:  # it had it after all, and is the first to answer
            await silent.say(Kind.WORKER_REQUEST_ACK, acknowledgement(request))
            await silent.answer(request, "late")
            await other.answer(again, "too late")
            assert (await ended(server, request.run_id))["output"] == "late"
        else:
            assert await silent.extend(request) is None
            await other.answer(again, "other")
            assert (await ended(server, request.run_id))["output"] == "other"
        await silent.close()
        await other.close()

"""A call that is at a worker: how long it stays there, and what becomes of it when the worker or the run ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from perdure.protocol.connect.messages import Kind, ResponseStatus
from perdure.protocol.ids import ulid_time_ms
from tests.integration.connect.bare_worker import BareWorker, app, flush, reply
from tests.integration.connect.conftest import LEASE_S
from tests.sdk.driver import Server

Send = Callable[..., str]
GRACE_S = 5


async def ended(server: Server, run_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(server.ended, run_id)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_worker_that_falls_silent_loses_the_call_and_an_attempt(
    server: Server, name: str, send: Send
) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    begun = now()
    request = await worker.call()
    again = await worker.call()
    assert LEASE_S + GRACE_S < now() - begun < LEASE_S + GRACE_S + 5
    assert again.run_id == request.run_id
    assert json.loads(again.request_payload)["ctx"]["attempt"] == 1
    assert await worker.extend(request) is None
    await worker.answer(request, "too late")
    trace = server.http.get(f"/v1/runs/{request.run_id}/why").json()["data"]
    assert trace["status"] == "RUNNING"
    await worker.answer(again, "second")
    assert (await ended(server, request.run_id))["output"] == "second"
    await worker.close()


async def test_no_attempt_left(server: Server, name: str, send: Send) -> None:
    worker = await BareWorker.ready(server, app(name, retries={"attempts": 0}))
    send()
    request = await worker.call()
    run = await ended(server, request.run_id)
    assert run["status"] == "Failed"
    assert "connect_worker_stopped_responding" in json.dumps(run["output"])
    await worker.close()


async def test_a_worker_that_extends_its_lease_keeps_the_call(server: Server, name: str, send: Send) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    request = await worker.call()
    begun = now()
    first = request.lease_id
    while now() - begun < LEASE_S + GRACE_S + 2:
        lease = await worker.extend(request)
        assert lease is not None
        assert ulid_time_ms(lease) > ulid_time_ms(first)
        await asyncio.sleep(0.5)
    await worker.answer(request, "long work")
    assert (await ended(server, request.run_id))["output"] == "long work"
    await worker.close()


async def test_only_the_lease_itself_is_extended_or_the_one_before(
    server: Server, name: str, send: Send
) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    request = await worker.call()
    leases = [request.lease_id]
    for _ in range(2):
        leases.append(await worker.extend(request) or "")
    request.lease_id = leases[1]  # the answer with the newest got lost on the way
    assert await worker.extend(request)
    request.lease_id = leases[0]
    assert await worker.extend(request) is None
    await worker.answer(request, None)
    await worker.close()


async def test_the_run_is_cancelled(server: Server, name: str, send: Send) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    request = await worker.call()
    assert await worker.extend(request)
    assert await asyncio.to_thread(server.cancel, request.run_id) == 200
    assert await worker.extend(request) is None
    await worker.answer(request, "of no use any more")
    assert server.run(request.run_id)["status"] == "Cancelled"
    await worker.close()


async def test_a_socket_that_is_cut_takes_no_call_with_it(server: Server, name: str, send: Send) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    request = await worker.call()
    worker.cut()
    back = await BareWorker.ready(server, app(name))
    await back.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.5)
    assert await back.extend(request)
    # The lease has moved with the worker: that this socket is lost too does no harm either.
    back.cut()
    third = await BareWorker.ready(server, app(name))
    await third.answer(request, "here again")
    run = await ended(server, request.run_id)
    assert run["output"] == "here again"
    await third.close()


async def test_a_worker_that_dies_in_the_middle_loses_nothing(server: Server, name: str, send: Send) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    first = await worker.call()
    op = {"id": "a" * 40, "op": "StepRun", "displayName": "a", "data": "kept"}
    await worker.answer(first, [op], ResponseStatus.NOT_COMPLETED)
    await worker.call()
    worker.cut()
    other = await BareWorker.ready(server, app(name))
    again = await other.call()
    assert json.loads(again.request_payload)["steps"] == {"a" * 40: {"data": "kept"}}
    await other.answer(again, "finished by another")
    assert (await ended(server, first.run_id))["output"] == "finished by another"
    await other.close()


async def test_a_worker_of_the_own_sdk_that_is_not_soon_back_loses_its_calls(
    server: Server, name: str, send: Send
) -> None:
    own = {"capabilities": b'{"perdure":{"checkpoints":1}}'}
    worker = await BareWorker.ready(server, app(name), **own)
    send()
    first = await worker.call()
    worker.cut()
    begun = now()
    back = await BareWorker.ready(server, app(name), **own)
    assert await back.extend(first), "it was back in time"
    await back.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, LEASE_S - 0.2)
    assert await back.extend(first)
    back.cut()
    other = await BareWorker.ready(server, app(name), **own)
    again = await other.call()
    assert now() - begun < 2 * LEASE_S + GRACE_S, "it did not wait for the end of the lease"
    assert again.run_id == first.run_id
    await other.answer(again, "by another")
    assert (await ended(server, first.run_id))["output"] == "by another"
    await other.close()


async def test_capacity_counts_leases_and_is_free_again_when_they_are_refused(
    server: Server, name: str, send: Send
) -> None:
    worker = await BareWorker.ready(server, app(name), max_worker_concurrency=1)
    send()
    request = await worker.call()
    send()
    await worker.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.2)
    await asyncio.to_thread(server.cancel, request.run_id)
    await worker.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.2)
    assert await worker.extend(request) is None
    other = await worker.call(timeout=2)
    await worker.answer(other, None)
    await worker.close()


async def test_a_flush_after_the_lease_ran_out_changes_nothing(server: Server, name: str, send: Send) -> None:
    worker = await BareWorker.ready(server, app(name))
    send()
    request = await worker.call()
    again = await worker.call()
    assert (await flush(server, reply(request, "old"))).status_code == 200
    await worker.answer(again, "new")
    assert (await ended(server, request.run_id))["output"] == "new"
    await worker.close()

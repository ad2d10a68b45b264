"""The server goes away, in order or not, while workers are at work."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from perdure.protocol.connect.messages import Kind
from tests.integration.connect.bare_worker import BareWorker, app, flush, reply
from tests.integration.connect.conftest import LEASE_S
from tests.sdk.driver import PERDURE, Process, Server, free_port


class Restartable:
    """A server on one port and one folder, started as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._starts = 0
        self.server: Server

    def start(self, lease: int = LEASE_S) -> Server:
        self._starts += 1
        command = [
            str(PERDURE), "dev", "--port", str(self._port), "--data-dir", str(self._folder / "data"),
            "--no-discovery", "--no-poll", "--retry-interval", "1", "--connect-lease", str(lease),
        ]  # fmt: skip
        output = self._folder / f"server{self._starts}.log"
        process = Process(command, f"http://127.0.0.1:{self._port}", output)
        process.wait_ready("/health")
        self.server = Server(process)
        return self.server

    def end(self, how: signal.Signals) -> None:
        self.server.http.close()
        self.server.process._child.send_signal(how)
        self.server.process._child.wait(30)


@pytest.fixture
async def restartable(tmp_path: Path) -> AsyncIterator[Restartable]:
    made = Restartable(tmp_path)
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.end, signal.SIGTERM)


def send(server: Server, name: str) -> str:
    return server.send({"name": f"{name}/run", "data": {}})[0]


async def ended(server: Server, run_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(server.ended, run_id)


async def killed_and_back(restartable: Restartable, lease: int = LEASE_S) -> Server:
    await asyncio.to_thread(restartable.end, signal.SIGKILL)
    return await asyncio.to_thread(restartable.start, lease)


async def test_killed_in_the_middle_the_worker_comes_back_and_answers(
    restartable: Restartable, name: str
) -> None:
    worker = await BareWorker.ready(restartable.server, app(name))
    send(restartable.server, name)
    request = await worker.call()
    server = await killed_and_back(restartable)
    back = await BareWorker.ready(server, app(name))
    # It is not made again, and its old lease is good, though only the process before knew it.
    await back.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.5)
    assert await back.extend(request)
    await back.answer(request, "over the restart")
    run = await ended(server, request.run_id)
    assert (run["status"], run["output"]) == ("Completed", "over the restart")
    await back.close()


async def test_killed_before_the_answer_was_acknowledged_the_worker_flushes(
    restartable: Restartable, name: str
) -> None:
    worker = await BareWorker.ready(restartable.server, app(name))
    send(restartable.server, name)
    request = await worker.call()
    server = await killed_and_back(restartable)
    assert (await flush(server, reply(request, "flushed"))).status_code == 200
    run = await ended(server, request.run_id)
    assert (run["status"], run["output"]) == ("Completed", "flushed")
    assert (await flush(server, reply(request, "again"))).status_code == 200


async def test_killed_and_the_worker_does_not_come_back(restartable: Restartable, name: str) -> None:
    worker = await BareWorker.ready(restartable.server, app(name))
    send(restartable.server, name)
    request = await worker.call()
    server = await killed_and_back(restartable)
    other = await BareWorker.ready(server, app(name))
    again = await other.call()
    assert again.run_id == request.run_id
    assert json.loads(again.request_payload)["ctx"]["attempt"] == 1
    await other.answer(again, "by another")
    assert (await ended(server, request.run_id))["output"] == "by another"
    await other.close()


async def test_an_answer_that_was_acknowledged_is_on_disk(restartable: Restartable, name: str) -> None:
    worker = await BareWorker.ready(restartable.server, app(name))
    for n in range(10):
        send(restartable.server, name)
        request = await worker.call()
        await worker.answer(request, n)
    server = await killed_and_back(restartable)
    assert (await ended(server, request.run_id))["output"] == 9


async def test_what_waited_for_a_worker_waits_for_one_after_a_restart(
    restartable: Restartable, name: str
) -> None:
    worker = await BareWorker.ready(restartable.server, app(name))
    await worker.close()
    event_id = send(restartable.server, name)
    run = await asyncio.to_thread(restartable.server.run_of, event_id, f"{name}-run")
    server = await killed_and_back(restartable)
    assert server.run(run["run_id"])["status"] == "Scheduled"
    worker = await BareWorker.ready(server, app(name))
    request = await worker.call(timeout=3)
    assert request.run_id == run["run_id"]
    await worker.answer(request, None)
    await worker.close()


async def test_places_of_limits_are_held_by_calls_at_workers_over_a_restart(
    restartable: Restartable, name: str
) -> None:
    limited = app(name, concurrency=[{"limit": 1}])
    worker = await BareWorker.ready(restartable.server, limited)
    send(restartable.server, name)
    send(restartable.server, name)
    request = await worker.call()
    server = await killed_and_back(restartable, lease=60)
    back = await BareWorker.ready(server, limited)
    await back.quiet(Kind.GATEWAY_EXECUTOR_REQUEST, 0.5)
    await back.answer(request, None)
    second = await back.call(timeout=3)
    assert second.run_id != request.run_id
    await back.answer(second, None)
    await back.close()


@pytest.mark.parametrize("main_port", [False, True])
async def test_stopped_in_order_workers_are_told_and_closed(
    restartable: Restartable, name: str, main_port: bool
) -> None:
    endpoint = restartable.server.url.replace("http", "ws") + "/v0/connect" if main_port else None
    worker = await BareWorker.dial(restartable.server, endpoint)
    await worker.introduce(app(name))
    await worker.get(Kind.GATEWAY_CONNECTION_READY)
    begun = asyncio.get_running_loop().time()
    stopping = asyncio.create_task(asyncio.to_thread(restartable.end, signal.SIGTERM))
    await worker.get(Kind.GATEWAY_CLOSING)
    assert await worker.closed() == (1001, "connect_gateway_closing")
    await stopping
    assert asyncio.get_running_loop().time() - begun < 8
    log = restartable.server.process.tail()
    assert "stopped" in log
    assert "Traceback" not in log
    await asyncio.to_thread(restartable.start)


async def test_stopped_in_order_a_call_may_end_first(restartable: Restartable, name: str) -> None:
    worker = await BareWorker.ready(restartable.server, app(name))
    send(restartable.server, name)
    request = await worker.call()
    stopping = asyncio.create_task(asyncio.to_thread(restartable.end, signal.SIGTERM))
    await worker.quiet(Kind.GATEWAY_CLOSING, 0.5)
    await worker.answer(request, "in time")
    await worker.get(Kind.GATEWAY_CLOSING)
    await stopping
    server = await asyncio.to_thread(restartable.start)
    assert (await ended(server, request.run_id))["output"] == "in time"

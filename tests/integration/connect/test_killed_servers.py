"""A server that is killed again and again while a worker has hundreds of runs: all finish, each step recorded once."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from perdure.protocol.connect.messages import (
    GatewayExecutorRequestData,
    Kind,
    ResponseStatus,
    SDKResponse,
    WorkerReplyAckData,
    WorkerRequestExtendLeaseData,
)
from perdure.protocol.connect.wire import decode
from perdure.protocol.ids import hash_step_id
from tests.integration.connect.bare_worker import BareWorker, acknowledgement, app, reply
from tests.integration.connect.test_restarts import Restartable, killed_and_back, restartable
from tests.sdk.driver import until

__all__ = ["restartable"]

RUNS = 300
STEPS = 3
KILLS = 3


class SteadyWorker:
    """Works on whatever becomes of the server: keeps what it has, and says again what was not acknowledged."""

    def __init__(self, restarts: Restartable, name: str) -> None:
        self._restarts = restarts
        self._name = name
        self._at_work: dict[str, GatewayExecutorRequestData] = {}
        self._unconfirmed: dict[str, SDKResponse] = {}
        self._worker: BareWorker | None = None
        self.bodies: dict[tuple[str, str], int] = {}
        """How often the code of each step of each run has run."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Until it is cancelled."""
        while True:
            with suppress(
                OSError, ConnectionClosed, InvalidHandshake, TimeoutError, AssertionError, httpx.HTTPError
            ):
                await self._connected(await BareWorker.ready(self._restarts.server, app(self._name)))
            self._worker = None
            await asyncio.sleep(0.1)

    async def _connected(self, worker: BareWorker) -> None:
        self._worker = worker
        for request in self._at_work.values():
            asked = acknowledgement(request)
            fields = {name: getattr(asked, name) for name in asked.__struct_fields__}
            extend = WorkerRequestExtendLeaseData(**fields, lease_id=request.lease_id)
            await worker.say(Kind.WORKER_REQUEST_EXTEND_LEASE, extend)
        for response in list(self._unconfirmed.values()):
            await worker.say(Kind.WORKER_REPLY, response)
        async with asyncio.timeout(60):
            while True:
                message = await worker.find(lambda _: True, 60)
                if message.kind == Kind.GATEWAY_EXECUTOR_REQUEST:
                    request = decode(message.payload, GatewayExecutorRequestData)
                    self._at_work[request.request_id] = request
                    await worker.say(Kind.WORKER_REQUEST_ACK, acknowledgement(request))
                    task = asyncio.get_running_loop().create_task(self._run(request))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                elif message.kind == Kind.WORKER_REPLY_ACK:
                    self._unconfirmed.pop(decode(message.payload, WorkerReplyAckData).request_id, None)

    async def _run(self, request: GatewayExecutorRequestData) -> None:
        """One step a call, as the official SDKs work without checkpoints."""
        known = json.loads(request.request_payload)["steps"]
        await asyncio.sleep(0.02)
        left = [n for n in range(STEPS) if hash_step_id(f"s{n}") not in known]
        if left:
            step = f"s{left[0]}"
            self.bodies[request.run_id, step] = self.bodies.get((request.run_id, step), 0) + 1
            op: Any = [{"id": hash_step_id(step), "op": "StepRun", "displayName": step, "data": left[0]}]
            response = reply(request, op, ResponseStatus.NOT_COMPLETED)
        else:
            response = reply(request, sum(one["data"] for one in known.values()))
        del self._at_work[request.request_id]
        self._unconfirmed[request.request_id] = response
        if self._worker is not None:
            with suppress(OSError, ConnectionClosed):
                await self._worker.say(Kind.WORKER_REPLY, response)


async def test_all_finish(restartable: Restartable, name: str) -> None:
    worker = SteadyWorker(restartable, name)
    working = asyncio.create_task(worker.work())
    await asyncio.to_thread(until, "the functions", lambda: f"{name}-run" in restartable.server.functions())
    events: list[str] = []
    for _ in range(KILLS):
        sent = [{"name": f"{name}/run", "data": {}} for _ in range(RUNS // KILLS)]
        events += await asyncio.to_thread(restartable.server.send, *sent)
        await asyncio.sleep(0.4)
        await killed_and_back(restartable)

    def look() -> bool:
        found = [restartable.server.runs(event) for event in events]
        return all(runs and runs[0]["status"] in ("Completed", "Failed") for runs in found)

    await asyncio.to_thread(until, "the end of all runs", look, 90)
    runs = [run for event in events for run in restartable.server.runs(event)]
    assert len(runs) == RUNS
    assert {(run["status"], run["output"]) for run in runs} == {("Completed", sum(range(STEPS)))}
    again = sum(count - 1 for count in worker.bodies.values())
    assert len(worker.bodies) == RUNS * STEPS
    assert again < RUNS, "most steps ran once, in spite of the kills"
    working.cancel()

"""What Perdure adds for its own SDK: finished steps of many runs in one message, bundles of messages, log lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from perdure.protocol.connect.messages import (
    CheckpointAck,
    CheckpointEntry,
    ConnectMessage,
    GatewayExecutorRequestData,
    Kind,
    decode_checkpoint_acks,
    encode_checkpoints,
)
from perdure.protocol.connect.wire import decode, encode, join_delimited
from tests.integration.connect.bare_worker import BareWorker, acknowledgement, app, reply
from tests.sdk.driver import Server, until

Send = Callable[..., str]
ALL = b'{"perdure":{"checkpoints":1,"bundles":1,"logs":1}}'


def entry(
    seq: int, request: GatewayExecutorRequestData, *steps: dict[str, Any], **fields: Any
) -> CheckpointEntry:
    ctx = json.loads(request.request_payload)["ctx"]
    known = {
        "run_id": ctx["run_id"],
        "fn_id": ctx["fn_id"],
        "qi_id": ctx["qi_id"],
        "request_id": ctx["request_id"],
        "generation": ctx["generation_id"],
        "steps": json.dumps(list(steps)).encode(),
    }
    return CheckpointEntry(seq, **{**known, **fields})


def step(letter: str, data: Any) -> dict[str, Any]:
    return {"id": letter * 40, "op": "StepRun", "displayName": letter, "data": data}


async def acks(worker: BareWorker, *seqs: int) -> dict[int, CheckpointAck]:
    """What came of entries, once all have been told of."""
    found: dict[int, CheckpointAck] = {}
    while not found.keys() >= set(seqs):
        payload = await worker.get(Kind.GATEWAY_CHECKPOINTS_ACK)
        found |= {ack.seq: ack for ack in decode_checkpoint_acks(payload)}
    return found


async def ended(server: Server, run_id: str) -> dict[str, Any]:
    return await asyncio.to_thread(server.ended, run_id)


class TestCheckpoints:
    async def test_steps_of_many_runs_in_one_message(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name), capabilities=ALL)
        for _ in range(3):
            send()
        requests = [await worker.call() for _ in range(3)]
        entries = [entry(n, request, step("a", n)) for n, request in enumerate(requests)]
        await worker.say(Kind.WORKER_CHECKPOINTS, encode_checkpoints(entries))
        found = await acks(worker, 0, 1, 2)
        assert [found[n].status for n in range(3)] == [200, 200, 200]
        for request in requests:
            await worker.answer(request, {"message": "again"}, 2)
        for _ in requests:
            again = await worker.call()
            [n] = [n for n, request in enumerate(requests) if request.run_id == again.run_id]
            assert json.loads(again.request_payload)["steps"] == {"a" * 40: {"data": n}}
            await worker.answer(again, None)
        await worker.close()

    async def test_what_is_wrong_with_one_is_no_matter_to_the_others(
        self, server: Server, name: str, send: Send
    ) -> None:
        worker = await BareWorker.ready(server, app(name), capabilities=ALL)
        send()
        request = await worker.call()
        entries = [
            entry(1, request, step("a", 1)),
            entry(2, request, step("b", 1), generation=7),
            entry(3, request, steps=b"no json"),
            entry(4, request, step("b", 1), run_id="no run"),
            entry(5, request, {"id": "c" * 40, "op": "Sleep", "name": "1s"}),
        ]
        await worker.say(Kind.WORKER_CHECKPOINTS, encode_checkpoints(entries))
        found = await acks(worker, 1, 2, 3, 4, 5)
        assert {seq: ack.status for seq, ack in found.items()} == {1: 200, 2: 409, 3: 400, 4: 400, 5: 400}
        assert "generation 7" in found[2].message
        await asyncio.to_thread(server.cancel, request.run_id)
        await worker.say(Kind.WORKER_CHECKPOINTS, encode_checkpoints([entry(6, request, step("d", 1))]))
        assert (await acks(worker, 6))[6].status == 409
        await worker.close()

    async def test_who_has_not_agreed_is_not_heard(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name))
        send()
        request = await worker.call()
        await worker.say(Kind.WORKER_CHECKPOINTS, encode_checkpoints([entry(1, request, step("a", 1))]))
        await worker.quiet(Kind.GATEWAY_CHECKPOINTS_ACK, 0.3)
        await worker.answer(request, None)
        await worker.close()

    async def test_what_cannot_be_read_is_left_out(self, server: Server, name: str) -> None:
        worker = await BareWorker.ready(server, app(name), capabilities=ALL)
        await worker.say(Kind.WORKER_CHECKPOINTS, b"\xc1")
        await worker.say(Kind.WORKER_REPLY, b"\x0a\xff")
        await worker.say(Kind.BUNDLE, b"\xff")
        await worker.say(4711)
        await worker.say(Kind.WORKER_HEARTBEAT)
        await worker.get(Kind.GATEWAY_HEARTBEAT)
        await worker.close()


class TestBundles:
    async def test_both_ways(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name), capabilities=ALL)
        events = [{"name": f"{name}/run", "data": {"n": n}} for n in range(20)]
        server.send(*events)
        requests = [
            decode(await worker.get(Kind.GATEWAY_EXECUTOR_REQUEST), GatewayExecutorRequestData)
            for _ in range(10)
        ]
        said = []
        for request in requests:
            said.append(ConnectMessage(Kind.WORKER_REQUEST_ACK, encode(acknowledgement(request))))
            said.append(ConnectMessage(Kind.WORKER_REPLY, encode(reply(request, "bundled"))))
        await worker.say(Kind.BUNDLE, join_delimited([encode(message) for message in said]))
        for _ in requests:
            await worker.get(Kind.WORKER_REPLY_ACK)
        for request in requests:
            assert (await ended(server, request.run_id))["output"] == "bundled"
        for _ in range(10):
            await worker.answer(await worker.call(), None)
        assert worker.bundles > 0
        await worker.close()

    async def test_nobody_else_gets_one(self, server: Server, name: str) -> None:
        worker = await BareWorker.ready(server, app(name))
        server.send(*[{"name": f"{name}/run", "data": {"n": n}} for n in range(20)])
        for _ in range(20):
            await worker.answer(await worker.call(), None)
        assert worker.bundles == 0
        await worker.close()


class TestLogs:
    async def test_lines_of_a_step_reach_the_run(self, server: Server, name: str, send: Send) -> None:
        worker = await BareWorker.ready(server, app(name), capabilities=ALL)
        send()
        request = await worker.call()
        line = {
            "run_id": request.run_id,
            "step": "",
            "ts": 1,
            "level": "INFO",
            "logger": "x",
            "message": "hello",
        }
        await worker.say(Kind.WORKER_LOGS, json.dumps([line]).encode())

        def look() -> bool:
            shown = server.http.get(f"/v1/runs/{request.run_id}/logs").json()["data"]
            return [one["message"] for one in shown["lines"]] == ["hello"]

        await asyncio.to_thread(until, "the line", look)
        await worker.say(Kind.WORKER_LOGS, b"no json")
        await worker.answer(request, None)
        await worker.close()

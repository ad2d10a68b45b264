"""A gateway that cuts lines, forgets confirmations and moves about at random: each call is run once and answered."""

from __future__ import annotations

import asyncio
import random

import pytest
from websockets.exceptions import ConnectionClosed

import perdure
from perdure.protocol.connect.messages import (
    CheckpointAck,
    Kind,
    SDKResponse,
    WorkerReplyAckData,
    WorkerRequestAckData,
    WorkerRequestExtendLeaseAckData,
    WorkerRequestExtendLeaseData,
    decode_checkpoints,
    encode_checkpoint_acks,
)
from perdure.protocol.connect.wire import decode
from perdure.sdk.connect import carrying
from tests.unit.sdk.connect.conftest import Start
from tests.unit.sdk.connect.gateway import OWN, Gateway, Line, make_app

CALLS = 60
REMEMBERED_S = 0.1
"""An answer that is not confirmed is posted later than this, and forgotten then."""


class Faulty:
    """Has all calls made, over whichever line there is, and does its part badly."""

    def __init__(self, gateway: Gateway, rng: random.Random) -> None:
        self.gateway = gateway
        self.rng = rng
        self.waiting = [f"r{number}" for number in range(CALLS)]
        self.given: set[str] = set()
        """Confirmed by the worker, and not answered."""
        self.answers: dict[str, list[bytes]] = {}
        self.unconfirmed: dict[str, float] = {}
        self.faults = 0

    def answered(self) -> set[str]:
        flushed = {one.request_id: one.body for one in self.gateway.flushed}
        return set(self.answers) | set(flushed)

    def unlucky(self, chance: float) -> bool:
        if self.rng.random() < chance and self.faults < 40:
            self.faults += 1
            return True
        return False

    async def serve(self) -> None:
        while len(self.answered()) < CALLS:
            line = await self.gateway.line()
            work = [asyncio.create_task(self._give(line)), asyncio.create_task(self._take(line))]
            await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def _give(self, line: Line) -> None:
        given: set[str] = set()
        while True:
            todo = [
                one
                for one in self.waiting
                if one not in self.given and one not in self.answered() and one not in given
            ]
            for request_id in todo[:5]:
                given.add(request_id)
                await self._call(line, request_id)
            if self.unlucky(0.2) and (twice := self.may_come_twice()):
                await self._call(line, self.rng.choice(twice))
            await asyncio.sleep(0.005)
            if self.unlucky(0.03):
                await line.send(Kind.GATEWAY_CLOSING)
                return
            if self.unlucky(0.05):
                line.socket.transport.abort()
                return

    async def _call(self, line: Line, request_id: str) -> None:
        await line.call("two", request_id, run_id=f"RUN-{request_id}", event={"data": {"id": request_id}})

    def may_come_twice(self) -> list[str]:
        """Calls that the worker cannot have forgotten: under way, or answered just now and not confirmed."""
        now = asyncio.get_running_loop().time()
        under_way = self.given - self.answered()
        return sorted(under_way) + [one for one, at in self.unconfirmed.items() if now - at < REMEMBERED_S]

    async def _take(self, line: Line) -> None:
        while True:
            kind, payload = await line.next_of_any()
            if kind == Kind.WORKER_REQUEST_ACK:
                self.given.add(decode(payload, WorkerRequestAckData).request_id)
            elif kind == Kind.WORKER_REPLY:
                reply = decode(payload, SDKResponse)
                self.answers.setdefault(reply.request_id, []).append(reply.body)
                if self.unlucky(0.1):
                    self.unconfirmed.setdefault(reply.request_id, asyncio.get_running_loop().time())
                else:
                    self.unconfirmed.pop(reply.request_id, None)
                    await line.send(Kind.WORKER_REPLY_ACK, WorkerReplyAckData(reply.request_id))
            elif kind == Kind.WORKER_CHECKPOINTS:
                acks = [
                    CheckpointAck(entry.seq, 503 if self.unlucky(0.05) else 200)
                    for entry in decode_checkpoints(payload)
                    if not self.unlucky(0.05)
                ]
                await line.send(Kind.GATEWAY_CHECKPOINTS_ACK, encode_checkpoint_acks(acks))
            elif kind == Kind.WORKER_REQUEST_EXTEND_LEASE:
                wish = decode(payload, WorkerRequestExtendLeaseData)
                ack = WorkerRequestExtendLeaseAckData(wish.request_id, new_lease_id=f"{wish.lease_id}+")
                await line.send(Kind.WORKER_REQUEST_EXTEND_LEASE_ACK, ack)


@pytest.mark.parametrize("seed", range(6))
async def test_each_call_is_run_once_and_answered(
    seed: int, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrying, "PATIENCE_S", 0.1)
    runs: dict[str, int] = {}
    async with Gateway(own=OWN) as gateway:
        app = make_app(gateway)

        @app.function(id="two")
        async def two(event: dict[str, str], step: perdure.Step) -> str:
            runs[event["id"]] = runs.get(event["id"], 0) + 1
            first = await step.run("a", lambda: "a")
            await asyncio.sleep(0.002)
            return event["id"] + first + await step.run("b", lambda: "b")

        task = start(app)
        faulty = Faulty(gateway, random.Random(seed))
        async with asyncio.timeout(30):
            try:
                await faulty.serve()
            except ConnectionClosed:
                await faulty.serve()
        assert faulty.faults > 5, "there was something to survive"
        right = {f"r{number}": f'"r{number}ab"'.encode() for number in range(CALLS)}
        for one in gateway.flushed:
            faulty.answers.setdefault(one.request_id, []).append(one.body)
        assert {name: set(bodies) for name, bodies in faulty.answers.items()} == {
            name: {body} for name, body in right.items()
        }
        assert runs == dict.fromkeys(right, 1)
        assert not task.done()

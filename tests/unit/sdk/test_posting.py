"""Checkpoints over HTTP: one by itself while there is one, those of many runs in one request when they meet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from perdure.sdk import posting
from perdure.sdk.api import TRIES, Api
from perdure.sdk.checkpointing import SAVED, STALE, Fate, Receipt
from perdure.sdk.http import Answer
from perdure.sdk.job import Job
from perdure.sdk.posting import HttpCarrier
from perdure.sdk.settings import read_settings

MANY = "/v1/checkpoints"
OK = Answer(200, {}, b"")
Reply = Callable[[str, Any], Answer | Exception]


class Wire(Api):
    """What would go to the server. Requests are held until `let_go`."""

    def __init__(self, reply: Reply = lambda path, body: OK) -> None:
        super().__init__(read_settings(url="http://server.invalid", dev=True), {})
        self.sent: list[tuple[str, Any]] = []
        self.held = asyncio.Event()
        self._reply = reply

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Any = None, tries: int = 1
    ) -> Answer:
        assert (method, tries) == ("POST", TRIES)
        told = json.loads(body)
        self.sent.append((path, told))
        await self.held.wait()
        answer = self._reply(path, told)
        if isinstance(answer, Exception):
            raise answer
        if path == MANY and answer is OK:
            return fates(*[200] * len(told))
        return answer

    def groups(self) -> list[str | list[str]]:
        """The runs of each request, alone or together."""
        return [
            [one["run_id"] for one in body] if path == MANY else body["run_id"] for path, body in self.sent
        ]


def fates(*statuses: int) -> Answer:
    told = [{"status": status} | ({} if status == 200 else {"error": f"why {status}"}) for status in statuses]
    return Answer(200, {}, json.dumps(told).encode())


def job(run_id: str, takes_many: bool = True) -> Job:
    return Job(run_id, None, b"{}", [], {}, 0, 4, False, False, "F", f"Q-{run_id}", "R", 3, takes_many)


async def carry(wire: Wire, runs: str, size: int = 0, **options: Any) -> list[Receipt | BaseException]:
    """Carry one checkpoint of each run at once, and let all requests go when everything stands still."""
    carrier = HttpCarrier(wire, lambda: 1_700_000_000_000)
    steps = json.dumps([{"op": "StepRun", "data": "x" * size}]).encode()
    works = [asyncio.ensure_future(carrier.carry(job(run, **options), steps)) for run in runs]
    for _ in range(5):
        await asyncio.sleep(0)
    wire.held.set()
    return await asyncio.gather(*works, return_exceptions=True)


async def test_the_first_goes_alone_and_the_others_together() -> None:
    wire = Wire()
    assert await carry(wire, "abcdef") == [SAVED] * 6
    assert wire.groups() == ["a", ["b", "c", "d", "e", "f"]]
    assert wire.sent[0][1] == {
        "run_id": "a", "fn_id": "F", "qi_id": "Q-a", "request_id": "R", "generation_id": 3,
        "request_started_at": 1_700_000_000_000, "steps": [{"op": "StepRun", "data": ""}], "ts": 1_700_000_000_000,
    }  # fmt: skip
    assert set(wire.sent[1][1][0]) == set(wire.sent[0][1])


async def test_one_after_the_other_goes_alone() -> None:
    wire = Wire()
    wire.held.set()
    carrier = HttpCarrier(wire, lambda: 1)
    for run in "aaab":
        assert await carrier.carry(job(run), b"[]") == SAVED
    assert wire.groups() == ["a", "a", "a", "b"]


async def test_a_server_that_does_not_say_so_is_never_sent_several() -> None:
    wire = Wire()
    assert await carry(wire, "abcdef", takes_many=False) == [SAVED] * 6
    assert wire.groups() == list("abcdef")


async def test_each_hears_its_own_fate() -> None:
    wire = Wire(lambda path, body: fates(200, 409, 413, 200) if path == MANY else OK)
    told = await carry(wire, "abcde")
    assert told[:3] == [SAVED, SAVED, STALE]
    assert told[4] == SAVED
    refused = told[3]
    assert isinstance(refused, Receipt)
    assert (refused.fate, refused.message) == (Fate.REFUSED, "HTTP 413: why 413")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_be_taken_later_is_posted_by_itself(status: int) -> None:
    wire = Wire(lambda path, body: fates(200, status) if path == MANY else OK)
    assert await carry(wire, "abc") == [SAVED] * 3
    assert wire.groups() == ["a", ["b", "c"], "c"]


@pytest.mark.parametrize(
    "answer", [Answer(404, {}, b"not here"), Answer(413, {}, b""), fates(200)], ids=["404", "413", "too few"]
)
async def test_a_request_that_is_refused_as_a_whole_falls_apart(answer: Answer) -> None:
    wire = Wire(lambda path, body: answer if path == MANY else OK)
    assert await carry(wire, "abc") == [SAVED] * 3
    assert wire.groups()[:2] == ["a", ["b", "c"]]
    alone = [group for group in wire.groups()[2:] if isinstance(group, str)]
    assert sorted(alone) == (["c"] if answer.status == 200 else ["b", "c"])


@pytest.mark.parametrize("problem", [ConnectionRefusedError("no"), Answer(200, {}, b"<html>")], ids=repr)
async def test_all_hear_that_the_server_cannot_be_reached(problem: Answer | Exception) -> None:
    wire = Wire(lambda path, body: problem if path == MANY else OK)
    told = await carry(wire, "abcd")
    assert told[0] == SAVED
    assert all(isinstance(one, OSError | ValueError) for one in told[1:])


async def test_a_failed_request_does_not_close_its_lane() -> None:
    problems = [ConnectionResetError("gone")] * 2
    wire = Wire(lambda path, body: problems.pop() if problems else OK)
    told = await carry(wire, "abcd")
    assert all(isinstance(one, OSError) for one in told), told
    carrier = HttpCarrier(wire, lambda: 1)
    assert await carrier.carry(job("e"), b"[]") == SAVED


async def test_large_checkpoints_go_by_themselves_and_many_in_several_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(posting, "LARGE", 5_000)
    wire = Wire()
    assert await carry(wire, "abcd", size=6_000) == [SAVED] * 4
    assert wire.groups() == list("abcd")
    monkeypatch.setattr(posting, "MOST_POSTS", 3)
    wire = Wire()
    assert await carry(wire, "abcdefghij") == [SAVED] * 10
    assert wire.groups() == ["a", ["b", "c", "d"], ["e", "f", "g"], ["h", "i", "j"]]
    monkeypatch.setattr(posting, "MOST_BYTES", 2_000)
    wire = Wire()
    assert await carry(wire, "abcdefg", size=1_500) == [SAVED] * 7
    assert wire.groups() == ["a", ["b", "c"], ["d", "e"], ["f", "g"]]


async def test_a_call_that_was_given_up_is_not_posted() -> None:
    wire = Wire()
    carrier = HttpCarrier(wire, lambda: 1)
    works = {run: asyncio.ensure_future(carrier.carry(job(run), b"[]")) for run in "abcde"}
    await asyncio.sleep(0)
    works["a"].cancel()
    works["d"].cancel()
    wire.held.set()
    told = await asyncio.gather(*works.values(), return_exceptions=True)
    assert [isinstance(one, asyncio.CancelledError) for one in told] == [True, False, False, True, False]
    assert wire.groups() == ["a", ["b", "c", "e"]]


async def test_a_request_that_takes_long_is_not_waited_for() -> None:
    wire = Wire()
    carrier = HttpCarrier(wire, lambda: 1)
    works = [asyncio.ensure_future(carrier.carry(job(run), b"[]")) for run in "abc"]
    async with asyncio.timeout(5):
        while len(wire.sent) < 2:
            await asyncio.sleep(0.005)
        late = asyncio.ensure_future(carrier.carry(job("d"), b"[]"))
        while len(wire.sent) < 3:
            await asyncio.sleep(0.005)
    assert wire.groups() == ["a", ["b", "c"], ["d"]]
    wire.held.set()
    assert await asyncio.gather(*works, late) == [SAVED] * 4
    assert await carrier.carry(job("e"), b"[]") == SAVED
    assert wire.groups()[-1] == "e"


def test_event_loops_do_not_wait_for_each_other() -> None:
    groups = []
    carrier: list[HttpCarrier] = []

    async def one_loop() -> None:
        wire = Wire()
        wire.held.set()
        carrier.append(carrier[0] if carrier else HttpCarrier(wire, lambda: 1))
        works = [carrier[0].carry(job(run), b"[]") for run in "abc"]
        assert await asyncio.wait_for(asyncio.gather(*works), 5) == [SAVED] * 3
        groups.append(len(wire.sent))

    asyncio.run(one_loop())
    asyncio.run(one_loop())
    assert groups[0] >= 2

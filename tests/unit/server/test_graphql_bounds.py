"""The bounds of one request, on a real database and without a server around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from perdure.core.history import CallNote, EndedNote, OpNote, encode
from perdure.errors import RequestError
from perdure.protocol.ids import new_ulid
from perdure.server.graphql import endpoint as endpoints
from perdure.server.graphql import session as sessions
from perdure.server.graphql.endpoint import GraphqlEndpoint
from perdure.shard.rows import HistoryRow, StepRow
from perdure.stores.sqlite import SqliteReader, SqliteStore
from tests.contract.rows import changes, commit, event, run

T0 = 1_795_515_000_000
RUN = new_ulid(T0, bytes(10))
TRACE = (
    "query($r:String!){run(runID:$r){status trace(preview:true){childrenSpans{name status stepID duration}}}}"
)


class Bench:
    """An endpoint over a database, asked in process."""

    def __init__(self, store: SqliteStore, reader: SqliteReader) -> None:
        self.store = store
        state = SimpleNamespace(apps={}, function_rows={}, functions=SimpleNamespace(by_id={}))
        self.server: Any = SimpleNamespace(
            shard=SimpleNamespace(state=state, now=lambda: T0),
            clock=SimpleNamespace(now=lambda: T0),
            reader=reader,
            intake=None,
            sync=None,
            workers=list,
        )
        self.endpoint = GraphqlEndpoint(self.server)

    async def put(self, *rows: Any) -> None:
        await commit(self.store, await self.store.claim(0), changes(*rows))

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"method": "POST", "headers": [(b"content-type", b"application/json")]}
        await self.endpoint.answer(scope, receive, send)
        assert sent[0]["status"] == 200, sent
        return dict(json.loads(sent[1]["body"]))


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    store, reader = SqliteStore.open(tmp_path / "perdure.db"), SqliteReader.open(tmp_path / "perdure.db")
    yield Bench(store, reader)
    await reader.close()
    await store.close()


def long_run(steps: int, *, ended: bool = True) -> list[Any]:
    """A run with so many steps, one call for each."""
    rows: list[Any] = [event(1), run(RUN, (1,), status="COMPLETED" if ended else "RUNNING",
                                     created_at=T0, started_at=T0, ended_at=T0 + steps if ended else None)]  # fmt: skip
    for n in range(1, steps + 1):
        step = f"{n:040x}"
        note = CallNote(n, 0, 1, T0 + n, T0 + n, status=206, ops=[OpNote("StepRun", step, f"step {n}")])
        rows.append(HistoryRow(RUN, n, T0 + n, "call", encode(note)))
        rows.append(StepRow(RUN, step, n, f"step {n}", "StepRun", T0 + n, b'{"data":1}'))
    if ended:
        last = CallNote(steps + 1, 0, 1, T0, T0, status=200, end=True)
        rows.append(HistoryRow(RUN, steps + 1, T0 + steps, "call", encode(last)))
        rows.append(HistoryRow(RUN, steps + 2, T0 + steps, "ended", encode(EndedNote("COMPLETED"))))
    return rows


async def test_ten_thousand_steps_are_shown(bench: Bench):
    await bench.put(*long_run(10_000))
    answer = await bench.ask(TRACE, r=RUN)
    assert answer.keys() == {"data"}
    spans = answer["data"]["run"]["trace"]["childrenSpans"]
    assert len(spans) == 10_002
    assert [span["name"] for span in spans[:2]] == ["step 1", "step 2"]


async def test_longer_histories_are_cut_and_the_answer_says_so(bench: Bench):
    await bench.put(*long_run(12_050, ended=False))
    answer = await bench.ask(TRACE, r=RUN)
    assert len(answer["data"]["run"]["trace"]["childrenSpans"]) == 12_000
    assert answer["extensions"]["notices"] == [
        "trace: only the first 12000 entries of the run's history are shown"
    ]


async def test_a_large_trace_does_not_hold_up_the_event_loop(bench: Bench):
    await bench.put(*long_run(10_000))
    laps = 0
    asking = asyncio.create_task(bench.ask(TRACE, r=RUN))
    while not asking.done():
        await asyncio.sleep(0.001)
        laps += 1
    assert (await asking)["data"]["run"]["status"] == "COMPLETED"
    assert laps > 10, "a busy machine gives some twenty laps, a loop that is held up two"


async def test_reads_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "MAX_READS", 4)
    await bench.put(*(event(n) for n in range(1, 9)))
    query = '{eventsV2(first:8,filter:{from:"1970-01-01T00:00:00Z"}){edges{node{id runs{id}}}}}'
    answer = await bench.ask(query)
    assert answer["errors"][0]["message"] == "The answer needs more than 4 reads. Ask for less at once."
    assert (await bench.ask(query.replace("8", "3")))["data"]["eventsV2"]["edges"][2]["node"]["runs"] == []


async def test_fields_are_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "MAX_FIELDS", 2_000)
    await bench.put(*long_run(1_000))
    answer = await bench.ask(TRACE, r=RUN)
    assert "more than 2000 fields" in answer["errors"][0]["message"]


async def test_time_is_counted(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "MAX_SECONDS", 0.0)
    await bench.put(*long_run(1_000))
    answer = await bench.ask(TRACE, r=RUN)
    assert "took more than 0 s" in answer["errors"][0]["message"]


async def test_a_store_that_does_not_answer_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "READ_SECONDS", 0.05)

    async def never(run_id: str) -> None:
        await asyncio.sleep(60)

    bench.server.reader = SimpleNamespace(run=never)
    answer = await bench.ask("query($r:String!){run(runID:$r){id}}", r=RUN)
    assert "No answer within 0.05 s" in answer["errors"][0]["message"]
    assert answer["data"] == {"run": None}


async def test_a_bug_is_logged_and_not_shown(bench: Bench, caplog: pytest.LogCaptureFixture):
    async def broken(run_id: str) -> None:
        raise ZeroDivisionError("secret")

    bench.server.reader = SimpleNamespace(run=broken)
    answer = await bench.ask("query($r:String!){run(runID:$r){id}}", r=RUN)
    assert answer["errors"][0]["message"] == "The server failed to answer this; its log says why."
    assert "secret" not in json.dumps(answer)
    assert "secret" in caplog.text


async def test_too_many_at_once_are_told_to_come_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(endpoints, "MAX_WAITING", 2)
    gate = asyncio.Event()

    async def slow(run_id: str) -> None:
        await gate.wait()

    bench.server.reader = SimpleNamespace(run=slow)
    query = "query($r:String!){run(runID:$r){id}}"
    waiting = [asyncio.create_task(bench.ask(query, r=RUN)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(RequestError) as refused:
        await bench.ask(query, r=RUN)
    assert refused.value.status == 503
    gate.set()
    assert [answer["data"] for answer in await asyncio.gather(*waiting)] == [{"run": None}] * 2

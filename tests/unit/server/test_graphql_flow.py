"""What GraphQL shows of batches, schedules, skipped and cancelled runs, and of what a person set for a function."""

from __future__ import annotations

import json
from typing import Any

import pytest

from perdure.core.history import EndedNote, QueuedNote, encode
from perdure.core.settings import Settings
from perdure.protocol.function_rules import load_function
from perdure.protocol.ids import new_ulid
from perdure.shard.registered import make_function
from perdure.shard.rows import FunctionRow, HistoryRow, RunEventRow
from tests.contract.rows import event, function, run
from tests.unit.server.test_graphql_bounds import RUN, T0, Bench, bench

__all__ = ["bench"]

HOLDER = new_ulid(T0 - 5_000, bytes(10))
BATCH = new_ulid(T0 - 2_000, bytes(10))
OPENED = "2026-11-24T10:09:58.000Z"


def ended(status: str, reason: str, holder: str = "") -> list[HistoryRow]:
    queued = HistoryRow(RUN, 1, T0, "queued", encode(QueuedNote("01E", "shop/paid")))
    return [queued, HistoryRow(RUN, 2, T0 + 9, "ended", encode(EndedNote(status, reason, holder)))]


async def ask(bench: Bench, query: str, **variables: Any) -> dict[str, Any]:
    answer = await bench.ask(query, **variables)
    assert "errors" not in answer, answer
    return dict(answer["data"])


class TestBatches:
    QUERY = (
        "query($r:String!){run(runID:$r){isBatch batchID batchCreatedAt triggerIDs}"
        " runTrigger(runID:$r){isBatch batchID IDs}}"
    )

    @pytest.mark.parametrize("receipts", [(1, 2, 3), (1,)], ids=["of three", "of one event"])
    async def test_have_an_id_and_its_time(self, bench: Bench, receipts: tuple[int, ...]):
        await bench.put(*map(event, receipts), run(RUN, receipts, batch_id=BATCH))
        ids = [event(n).internal_id for n in receipts]
        found = await ask(bench, self.QUERY, r=RUN)
        assert found["runTrigger"] == {"isBatch": True, "batchID": BATCH, "IDs": ids}
        assert found["run"].pop("batchCreatedAt") == OPENED
        assert found["run"] == {"isBatch": True, "batchID": BATCH, "triggerIDs": ids}

    async def test_a_run_of_one_event_alone_is_none(self, bench: Bench):
        await bench.put(event(1), run(RUN, (1,)))
        found = await ask(bench, self.QUERY, r=RUN)
        assert (found["run"]["isBatch"], found["run"]["batchID"], found["run"]["batchCreatedAt"]) == (
            False,
            None,
            None,
        )
        assert (found["runTrigger"]["isBatch"], found["runTrigger"]["batchID"]) == (False, None)

    async def test_are_found_by_each_of_their_events(self, bench: Bench):
        further = [RunEventRow(event(n).internal_id, RUN) for n in (2, 3)]
        await bench.put(*map(event, (1, 2, 3)), run(RUN, (1, 2, 3), batch_id=BATCH), *further)
        query = "{stream(query:{limit:9}){inBatch runs{id batchID batchCreatedAt}}}"
        shown = {
            "inBatch": True,
            "runs": [{"id": RUN, "batchID": BATCH, "batchCreatedAt": OPENED}],
        }
        assert (await ask(bench, query))["stream"] == [shown] * 3
        for n in (1, 2, 3):
            found = await ask(bench, "query($e:ULID!){eventV2(id:$e){runs{id}}}", e=event(n).internal_id)
            assert found == {"eventV2": {"runs": [{"id": RUN}]}}


class TestSchedules:
    async def test_are_told_with_their_runs(self, bench: Bench):
        tick = event(1, name="inngest/scheduled.timer", internal=1, body=b'{"data":{"cron":"0 * * * *"}}')
        await bench.put(tick, run(RUN, (1,), event_name=tick.name, cron="0 * * * *"))
        query = (
            "query($r:String!,$i:ID!){run(runID:$r){cronSchedule} runTrigger(runID:$r){cron}"
            " functionRun(query:{functionRunId:$i}){cron}}"
        )
        assert await ask(bench, query, r=RUN, i=RUN) == {
            "run": {"cronSchedule": "0 * * * *"},
            "runTrigger": {"cron": "0 * * * *"},
            "functionRun": {"cron": "0 * * * *"},
        }


class TestReasons:
    async def test_of_a_skipped_run(self, bench: Bench):
        row = run(RUN, (1,), status="SKIPPED", started_at=T0, ended_at=T0)
        await bench.put(event(1), row, *ended("SKIPPED", "Singleton", HOLDER))
        query = (
            "query($r:String!){run(runID:$r){status reason output"
            " trace(preview:true){name status skipReason skipExistingRunID childrenSpans{name}}}}"
        )
        assert (await ask(bench, query, r=RUN))["run"] == {
            "status": "SKIPPED",
            "reason": "Singleton",
            "output": None,
            "trace": {
                "name": "executor.run",
                "status": "SKIPPED",
                "skipReason": "Singleton",
                "skipExistingRunID": HOLDER,
                "childrenSpans": [],
            },
        }
        history = await ask(
            bench, "query($r:ID!){functionRun(query:{functionRunId:$r}){history{type reason}}}", r=RUN
        )
        assert history["functionRun"]["history"] == [
            {"type": "FunctionScheduled", "reason": None},
            {"type": "FunctionSkipped", "reason": "Singleton"},
        ]

    async def test_of_a_cancelled_run(self, bench: Bench):
        reason = "It did not begin within its time."
        await bench.put(
            event(1), run(RUN, (1,), status="CANCELLED", ended_at=T0), *ended("CANCELLED", reason)
        )
        found = await ask(bench, "query($r:String!){run(runID:$r){status reason}}", r=RUN)
        assert found == {"run": {"status": "CANCELLED", "reason": reason}}
        history = await ask(
            bench, "query($r:ID!){functionRun(query:{functionRunId:$r}){history{type reason}}}", r=RUN
        )
        assert history["functionRun"]["history"][1] == {"type": "FunctionCancelled", "reason": reason}

    async def test_none_while_a_run_goes_on(self, bench: Bench):
        await bench.put(event(1), run(RUN, (1,)))
        assert await ask(bench, "query($r:String!){run(runID:$r){reason}}", r=RUN) == {
            "run": {"reason": None}
        }

    async def test_skipped_runs_are_listed_with_their_event(self, bench: Bench):
        await bench.put(event(1), run(RUN, (1,), status="SKIPPED", started_at=T0, ended_at=T0))
        found = await ask(
            bench, "query($e:ID!){event(query:{eventId:$e}){totalRuns}}", e=event(1).internal_id
        )
        assert found == {"event": {"totalRuns": 1}}


CONFIG = json.dumps(
    {
        "id": "shop-pay",
        "name": "Pay",
        "triggers": [{"event": "shop/paid"}],
        "concurrency": 5,
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {"type": "http", "url": "http://localhost:3000/api?fnId=shop-pay&stepId=step"},
            }
        },
    }
).encode()


class TestFunctions:
    QUERY = (
        '{functionBySlug(query:{functionSlug:"shop-pay"}){paused overrides concurrency config'
        " configuration{concurrency{limit{value}} throttle{limit}}}}"
    )

    def put(self, bench: Bench, row: FunctionRow) -> None:
        state = bench.server.shard.state
        state.function_rows[row.id] = row
        state.functions.by_id[row.id] = make_function(row, load_function(row.config), Settings())

    async def test_show_what_a_person_set_beside_what_the_code_says(self, bench: Bench):
        overrides = b'{"concurrency":2,"throttle":{"limit":7,"period":"1m"}}'
        self.put(bench, function(config=CONFIG, paused="hold", overrides=overrides))
        found = (await ask(bench, self.QUERY))["functionBySlug"]
        assert (found["paused"], found["overrides"]) == ("hold", overrides.decode())
        assert json.loads(found["config"])["concurrency"] == 5
        assert "throttle" not in json.loads(found["config"])
        assert found["configuration"] == {
            "concurrency": [{"limit": {"value": 2}}],
            "throttle": {"limit": 7},
        }

    async def test_are_as_their_code_says_if_nobody_set_anything(self, bench: Bench):
        self.put(bench, function(config=CONFIG))
        found = (await ask(bench, self.QUERY))["functionBySlug"]
        assert (found["paused"], found["overrides"], found["concurrency"]) == (None, None, 5)
        assert found["configuration"] == {"concurrency": [{"limit": {"value": 5}}], "throttle": None}

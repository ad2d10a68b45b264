"""Storing what steps tell: once, whatever becomes of a commit, and until the very end."""

from __future__ import annotations

import asyncio

import pytest

from perdure.errors import StoreUnavailable
from perdure.shard.changes import Changes
from perdure.shard.rows import StepLogRow, StepReportRow
from perdure.shard.step_logs import AddStepLogs
from tests.unit.shard.shards import World, an_event, config, virtually


def told(run_id: str, *numbers: int) -> AddStepLogs:
    lines = [StepLogRow(run_id, n, "s", 0, 5, "INFO", "shop", f"line {n}", None) for n in numbers]
    report = StepReportRow(run_id, "s", "charge", 0, 0.5, "half", 5, len(lines), 99, 0)
    return AddStepLogs(lines=lines, reports=[report])


async def world() -> World:
    w = await World().start(config("f", "go"))
    await w.send(an_event("go"))
    await w.settle()
    return w


class Failing:
    """Refuses, or seems to refuse, the first commit that holds log lines."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, _: int, changes: Changes) -> None:
        if changes.step_logs and not self.times:
            self.times += 1
            raise StoreUnavailable("the disk is full")


@pytest.mark.parametrize("landed", [False, True])
def test_over_a_commit_that_fails(landed: bool) -> None:
    @virtually
    async def test() -> None:
        w = await world()
        (call,) = w.network.open
        failing = Failing()
        if landed:
            w.store.after_commit = failing
        else:
            w.store.before_commit = failing
        assert await w.submit(told(call.run_id, 1, 2)) is None
        assert failing.times == 1
        assert [row.message for row in w.tables.step_logs.values()] == ["line 1", "line 2"]
        assert w.tables.step_reports[call.run_id, "s"].progress == 0.5
        call.returns("end")
        await w.settle()
        assert w.run(call.run_id).status == "COMPLETED"

    test()


@virtually
async def test_they_are_taken_while_the_shard_is_stopping_and_change_no_run() -> None:
    w = await world()
    (call,) = w.network.open
    before = w.run(call.run_id)
    stopping = asyncio.get_running_loop().create_task(w.shard.stop(5.0))
    await asyncio.sleep(0.1)
    assert not w.shard.accepting
    await w.submit(told(call.run_id, 1))
    assert w.run(call.run_id) == before
    assert len(w.tables.step_logs) == 1
    call.returns("end")
    await stopping

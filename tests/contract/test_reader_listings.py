"""Listings of runs, counts, and a run with all that belongs to it."""

from __future__ import annotations

import asyncio
import random

import pytest

from perdure.protocol.ids import new_ulid
from perdure.reading.port import ListedRun, RunFilter, RunPlace, StepHead, WaitRecord
from perdure.shard.rows import ItemRow, RunRow
from tests.contract.rows import changes, event, history, item, run, step, wait
from tests.contract.test_reader import Pair, pair

__all__ = ["pair"]

T0 = 1_795_515_000_000
FUNCTIONS = ("f-00", "f-01", "f-02")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "SKIPPED")


def some_runs(count: int, seed: int = 1) -> list[RunRow]:
    """Runs of every status, created 10 ms apart, that end in another order."""
    dice = random.Random(seed)
    rows = []
    for n in range(count):
        created = T0 + 10 * n
        status = dice.choice(("QUEUED", "RUNNING", *ENDED, "COMPLETED", "COMPLETED"))
        started = None if status in ("QUEUED", "SKIPPED") else created + dice.randrange(40)
        ended = created + 50 + dice.randrange(1000) if status in ENDED else None
        rows.append(
            run(
                new_ulid(created, dice.randbytes(10)),
                (1,),
                function_id=dice.choice(FUNCTIONS),
                status=status,
                created_at=created,
                started_at=started,
                ended_at=ended,
                output=b'{"n":%d}' % n if ended else None,
            )
        )
    return rows


def items_of(rows: list[RunRow]) -> list[ItemRow]:
    """What live runs have left to happen: one or two things each."""
    live = [row for row in rows if row.ended_at is None]
    return [item(row.id, n) for at, row in enumerate(live) for n in range(1, 2 + at % 2)]


def expected(rows: list[RunRow], wanted: RunFilter) -> list[str]:
    """What the listing must hold, by a plain look at all rows."""

    def at(row: RunRow) -> int | None:
        return {"created_at": row.created_at, "started_at": row.started_at, "ended_at": row.ended_at}[
            wanted.field
        ]

    kept = [
        (at(row), row.id)
        for row in rows
        if (at(row) is not None and wanted.since <= (at(row) or 0) < wanted.until)
        and (not wanted.statuses or row.status in wanted.statuses)
        and (not wanted.function_ids or row.function_id in wanted.function_ids)
    ]
    return [id for _, id in sorted(kept, reverse=not wanted.ascending)]


FILTERS = {
    "all": RunFilter(),
    "completed": RunFilter(statuses=("COMPLETED",)),
    "failed": RunFilter(statuses=("FAILED",)),
    "ended badly, of two functions": RunFilter(statuses=("FAILED", "CANCELLED"), function_ids=FUNCTIONS[:2]),
    "live": RunFilter(statuses=("QUEUED", "RUNNING")),
    "running, of one function": RunFilter(statuses=("RUNNING",), function_ids=FUNCTIONS[:1]),
    "live or failed": RunFilter(statuses=("RUNNING", "FAILED")),
    "of one function": RunFilter(function_ids=FUNCTIONS[:1]),
    "of two functions, within a time": RunFilter(function_ids=FUNCTIONS[1:], since=T0 + 100, until=T0 + 700),
    "of many functions": RunFilter(function_ids=(*FUNCTIONS, *(f"x-{n:02}" for n in range(40)))),
    "within a time": RunFilter(since=T0 + 110, until=T0 + 310),
    "by start": RunFilter(field="started_at"),
    "by start, running": RunFilter(field="started_at", statuses=("RUNNING",)),
    "by end": RunFilter(field="ended_at"),
    "by end, within a time": RunFilter(field="ended_at", since=T0 + 300, until=T0 + 900),
    "by end, of one function": RunFilter(
        field="ended_at", function_ids=FUNCTIONS[2:], statuses=("COMPLETED",)
    ),
}


@pytest.mark.parametrize("ascending", [False, True], ids=["newest first", "oldest first"])
@pytest.mark.parametrize("wanted", FILTERS.values(), ids=FILTERS)
async def test_runs_are_listed_page_by_page(pair: Pair, wanted: RunFilter, ascending: bool):
    rows = some_runs(80)
    for shard, share in ((0, rows[::2]), (5, rows[1::2])):
        await pair.commit(changes(event(1), *share, *items_of(share)), shard)
    wanted = RunFilter(
        field=wanted.field,
        since=wanted.since,
        until=wanted.until,
        statuses=wanted.statuses,
        function_ids=wanted.function_ids,
        ascending=ascending,
    )
    found: list[ListedRun] = []
    after: RunPlace | None = None
    while True:
        page = await pair.reader.list_runs(wanted, after=after, limit=7)
        found += page
        if len(page) < 7:
            break
        after = wanted.place(page[-1].run)
    want = expected(rows, wanted)
    assert want
    assert [listed.run.id for listed in found] == want
    assert await pair.reader.count_runs(wanted) == len(want)
    assert await pair.reader.count_runs(wanted, most=2) == min(2, len(want))


async def test_runs_are_listed_with_their_payloads_only_when_asked(pair: Pair):
    rows = [run("01A", (3,), status="COMPLETED", ended_at=5, output=b"1"), run("01B", (2, 3))]
    await pair.commit(changes(event(2, body=b'"two"'), event(3, body=b'"three"'), *rows))
    full = await pair.reader.list_runs(RunFilter(), payloads=True)
    assert [(r.run.id, r.run.output, r.event) for r in full] == [
        ("01B", None, b'"two"'),
        ("01A", b"1", b'"three"'),
    ]
    assert full[1].run == await pair.reader.run("01A")
    light = await pair.reader.list_runs(RunFilter())
    assert [(r.run.id, r.run.output, r.event) for r in light] == [("01B", None, None), ("01A", None, None)]


async def test_a_listing_of_nothing(pair: Pair):
    assert await pair.reader.list_runs(RunFilter(statuses=("FAILED",))) == []
    assert await pair.reader.list_runs(RunFilter(statuses=("RUNNING",))) == []
    assert await pair.reader.count_runs(RunFilter()) == 0


async def test_events_are_counted_and_the_servers_own_listed_when_asked(pair: Pair):
    own = [event(n, name="inngest/function.finished", internal=1) for n in (4, 5)]
    await pair.commit(changes(event(1), event(2, name="other"), event(3, received_at=50), *own))
    ask, count = pair.reader.list_events, pair.reader.count_events
    assert [e.receipt for e in await ask(internal=True)] == [5, 4, 3, 2, 1]
    finished = "inngest/function.finished"
    assert [e.receipt for e in await ask(internal=True, name=finished, before=own[1].internal_id)] == [4]
    assert await count() == 3
    assert await count(internal=True) == 5
    assert await count(name="shop/paid") == 2
    assert await count(name="shop/paid", received_after=50) == 1
    assert await count(internal=True, name="inngest/function.finished") == 2
    assert await count(internal=True, most=4) == 4


class TestWholeRun:
    async def test_is_all_that_belongs_to_a_run(self, pair: Pair):
        parts = [
            step("r-1", "z", 1, b'{"error":{"message":"no"}}'),
            step("r-1", "a", 0, b'{"data":{"error":1}}'),
            item("r-1", 7, in_flight=1),
            wait("r-1", 7),
            item("r-1", 8, kind="deadline", part="t", data=b"finish"),
            wait("r-1", 9, kind="cancel", until=77),
        ]
        notes = [history("r-1", n, body=b'{"n":%d}' % n) for n in (1, 2, 3)]
        row = run("r-1", (2, 1), status="RUNNING", started_at=9)
        await pair.commit(
            changes(event(1), event(2), row, *parts, *notes, item("r-2"), step("r-2"), history("r-2", 1))
        )
        whole = await pair.reader.whole_run("r-1")
        assert whole is not None
        assert whole.run == await pair.reader.run("r-1")
        assert whole.events == await pair.reader.events_of_run("r-1")
        assert whole.steps == [
            StepHead("a", 0, "load the user", "StepRun", 1003, False),
            StepHead("z", 1, "load the user", "StepRun", 1003, True),
        ]
        assert whole.items == await pair.reader.items_of_run("r-1")
        assert [found.kind for found in whole.items] == ["discovery", "deadline"]
        assert whole.waits == [
            WaitRecord("r-1", 7, "event", "shop/shipped", "data.id", '"7"', None, 3),
            WaitRecord("r-1", 9, "cancel", "shop/shipped", "data.id", '"7"', None, 3, 77),
        ]
        assert whole.history == await pair.reader.history_of_run("r-1")
        assert not whole.more

    async def test_says_when_there_is_more_history(self, pair: Pair):
        await pair.commit(changes(run("r-1"), *[history("r-1", n) for n in (1, 2, 3)]))
        cut = await pair.reader.whole_run("r-1", entries=2)
        assert cut is not None
        assert ([entry.n for entry in cut.history], cut.more) == ([1, 2], True)
        whole = await pair.reader.whole_run("r-1", entries=3)
        assert whole is not None
        assert not whole.more

    async def test_of_an_unknown_run_is_none(self, pair: Pair):
        assert await pair.reader.whole_run("r-1") is None

    async def test_is_of_one_commit(self, pair: Pair):
        """Status, steps and history change together, so no answer may mix two commits."""
        await pair.commit(changes(run("r-1", started_at=0)))
        writing = True

        async def write() -> None:
            nonlocal writing
            for n in range(1, 400):
                row = run("r-1", started_at=n)
                await pair.commit(changes(row, step("r-1", f"s-{n}", n), history("r-1", n)))
                await asyncio.sleep(0)
            writing = False

        task = asyncio.create_task(write())
        seen = set()
        while writing:
            whole = await pair.reader.whole_run("r-1")
            assert whole is not None
            assert whole.run.started_at == len(whole.steps) == len(whole.history)
            seen.add(whole.run.started_at)
        await task
        assert len(seen) > 3


async def test_one_step(pair: Pair):
    await pair.commit(changes(run("r-1"), step("r-1", "a"), step("r-1", "b", 1, b"null")))
    found = await pair.reader.step_of_run("r-1", "b")
    assert found is not None
    assert found.memo == b"null"
    assert await pair.reader.step_of_run("r-1", "c") is None


async def test_metadata_is_measured(pair: Pair):
    notes = [
        history("r-1", 1, "metadata", b"12345"),
        history("r-1", 2),
        history("r-1", 3, "metadata", b"123"),
    ]
    await pair.commit(changes(run("r-1"), *notes, history("r-2", 1, "metadata", b"1")))
    assert await pair.reader.metadata_size("r-1") == 8
    assert await pair.reader.metadata_size("r-9") == 0

"""What pages and APIs get to read of what a store has committed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
import pytest_asyncio

from perdure.errors import StoreUnavailable
from perdure.protocol.ids import new_ulid
from perdure.reading.port import (
    EventEffect,
    EventRecord,
    ItemRecord,
    Reader,
    RunFilter,
    RunRecord,
    StepLine,
    StepRecord,
    StepReport,
)
from perdure.reading.rollups import Rollup, RollupReader, encode
from perdure.shard.changes import Changes
from perdure.shard.ports import Store
from perdure.shard.rows import RollupRow, RunEventRow
from perdure.stores.sqlite import SqliteReader, SqliteStore
from tests.contract.rows import app, changes, commit, event, function, history, item, line, report, run, step


class PageReader(Reader, RollupReader, Protocol):
    """All that pages read."""


class Pair(NamedTuple):
    """A store and a reader of the same data."""

    store: Store
    reader: PageReader
    epochs: dict[int, int]

    async def commit(self, batch: Changes, shard: int = 0) -> None:
        if shard not in self.epochs:
            self.epochs[shard] = await self.store.claim(shard)
        await commit(self.store, self.epochs[shard], batch, shard)


def sqlite(folder: Path) -> tuple[Store, PageReader]:
    return SqliteStore.open(folder / "perdure.db"), SqliteReader.open(folder / "perdure.db")


FACTORIES = {maker.__name__: maker for maker in (sqlite,)}


@pytest_asyncio.fixture(params=FACTORIES)
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    store, reader = FACTORIES[request.param](tmp_path)
    yield Pair(store, reader, {})
    await reader.close()
    await store.close()


class TestEvents:
    async def test_are_listed_newest_first_without_the_servers_own(self, pair: Pair):
        rows = [event(n) for n in (1, 2, 3)]
        own = event(4, name="inngest/function.finished", internal=1)
        await pair.commit(changes(rows[1], rows[2], rows[0], own))
        assert [found.receipt for found in await pair.reader.list_events()] == [3, 2, 1]
        assert await pair.reader.list_events(name="inngest/function.finished") == []

    async def test_by_name(self, pair: Pair):
        await pair.commit(changes(*[event(n, name="a/b" if n % 3 else "c/d") for n in range(1, 10)]))
        assert [found.receipt for found in await pair.reader.list_events(name="c/d")] == [9, 6, 3]
        assert [found.receipt for found in await pair.reader.list_events(name="a/b", limit=2)] == [8, 7]
        assert await pair.reader.list_events(name="a") == []

    @pytest.mark.parametrize("name", [None, "shop/paid"])
    async def test_page_by_page(self, pair: Pair, name: str | None):
        await pair.commit(changes(*[event(n) for n in range(1, 24)]))
        read: list[EventRecord] = []
        before = None
        for _ in range(5):
            page = await pair.reader.list_events(name=name, before=before, limit=5)
            read.extend(page)
            before = page[-1].internal_id
        assert [found.receipt for found in read] == list(range(23, 0, -1))

    @pytest.mark.parametrize("name", [None, "shop/paid"])
    async def test_by_time_of_receipt(self, pair: Pair, name: str | None):
        await pair.commit(changes(*[event(n, received_at=100 * n) for n in range(1, 9)]))
        ask = pair.reader.list_events
        assert [e.receipt for e in await ask(name=name, received_after=600)] == [8, 7]
        assert [e.receipt for e in await ask(name=name, received_before=300)] == [2, 1]
        assert [e.receipt for e in await ask(name=name, received_after=300, received_before=600)] == [5, 4]

    async def test_duplicates_are_listed_each(self, pair: Pair):
        same = event(1).internal_id
        await pair.commit(changes(event(1), event(2, internal_id=same, body=b'{"again":1}')))
        assert [found.receipt for found in await pair.reader.list_events()] == [2, 1]
        found = await pair.reader.event(same)
        assert found is not None
        assert found.receipt == 1

    async def test_one_with_all_its_fields(self, pair: Pair):
        row = event(1, id="mine", internal=1, body=b"{}")
        await pair.commit(changes(row))
        assert await pair.reader.event(row.internal_id) == EventRecord(
            1, row.internal_id, "shop/paid", "mine", 1000, 1001, True, b"{}"
        )
        assert await pair.reader.event("01EX") is None


class TestRuns:
    async def test_of_an_event(self, pair: Pair):
        rows = [run(f"r-{n}", (1,)) for n in (3, 1, 2)]
        await pair.commit(changes(event(1), event(2), *rows, run("r-4", (2,))))
        of = event(1).internal_id
        assert [found.id for found in await pair.reader.runs_of_event(of)] == ["r-1", "r-2", "r-3"]
        assert [found.id for found in await pair.reader.runs_of_event(of, limit=2)] == ["r-1", "r-2"]
        assert [found.id for found in await pair.reader.runs_of_event(of, after="r-2")] == ["r-3"]
        assert await pair.reader.runs_of_event("01EX") == []

    async def test_one_with_all_its_fields(self, pair: Pair):
        row = run(
            "r-1", (1, 2), status="FAILED", started_at=3, ended_at=4, correlation="r-0.h", output=b"null"
        )
        batch = new_ulid(1_795_515_123_456, bytes(10))
        await pair.commit(
            changes(row._replace(original_run_id="r-9", batch_id=batch, cron="0 * * * *", flow=b"x"))
        )
        ids = (event(1).internal_id, event(2).internal_id)
        found = await pair.reader.run("r-1")
        assert found == RunRecord(
            "r-1",
            "f-1",
            "FAILED",
            ids[0],
            ids,
            "shop/paid",
            1002,
            3,
            4,
            "r-0.h",
            "r-9",
            b"null",
            batch,
            "0 * * * *",
        )
        assert found.batched_at == 1_795_515_123_456
        assert await pair.reader.run("r-2") is None

    async def test_of_each_event_of_a_batch(self, pair: Pair):
        ids = [event(n).internal_id for n in (1, 2, 3)]
        batches = [run("r-2", (1, 2, 3), batch_id="01B"), run("r-5", (3, 1), batch_id="01C")]
        further = [RunEventRow(id, "r-2") for id in ids[1:]] + [RunEventRow(ids[0], "r-5")]
        await pair.commit(changes(*batches, *further, run("r-1", (2,)), run("r-6", (2,), status="SKIPPED")))
        found = [[one.id for one in await pair.reader.runs_of_event(id)] for id in ids]
        assert found == [["r-2", "r-5"], ["r-1", "r-2", "r-6"], ["r-2", "r-5"]]
        (first, second) = await pair.reader.runs_of_event(ids[1], limit=2)
        assert (first.id, second.id, second.event_ids) == ("r-1", "r-2", tuple(ids))
        (last,) = await pair.reader.runs_of_event(ids[1], after="r-2", limit=2)
        assert (last.id, last.status) == ("r-6", "SKIPPED")

    async def test_of_an_event_that_came_twice_in_a_batch_are_listed_once(self, pair: Pair):
        same = event(1).internal_id
        await pair.commit(changes(run("r-1", (1, 1)), RunEventRow(same, "r-1")))
        assert [found.id for found in await pair.reader.runs_of_event(same)] == ["r-1"]

    async def test_of_an_event_in_other_shards(self, pair: Pair):
        id = event(7).internal_id
        await pair.commit(changes(run("r-2", (1, 7)), RunEventRow(id, "r-2")), 0)
        await pair.commit(changes(run("r-1", (2, 7)), RunEventRow(id, "r-1"), RunEventRow(id, "r-9")), 5)
        assert [found.id for found in await pair.reader.runs_of_event(id)] == ["r-1", "r-2"]

    async def test_what_an_event_did_to_others(self, pair: Pair):
        id = event(1).internal_id
        rows = [
            RunEventRow(id, "r-3", "wait"),
            RunEventRow(id, "r-2", "wait"),
            RunEventRow(id, "r-3", "cancel"),
            RunEventRow(id, "r-4"),
        ]
        ended = run("r-3", (9,), status="CANCELLED")
        await pair.commit(changes(run("r-2", (9,)), ended, run("r-4", (9, 1)), *rows))
        await pair.commit(changes(rows[0], RunEventRow(event(2).internal_id, "r-2", "wait")))
        cancelled = EventEffect("cancel", "r-3", "f-1", "CANCELLED")
        waits = [EventEffect("wait", "r-2", "f-1", "QUEUED"), EventEffect("wait", "r-3", "f-1", "CANCELLED")]
        assert await pair.reader.effects_of_event(id) == [cancelled, *waits]
        assert await pair.reader.effects_of_event(id, limit=2) == [cancelled, waits[0]]
        assert await pair.reader.effects_of_event("01EX") == []
        assert [found.id for found in await pair.reader.runs_of_event(id)] == ["r-4"]

    async def test_what_an_event_did_in_other_shards(self, pair: Pair):
        id = event(7).internal_id
        await pair.commit(changes(run("r-2", (1,)), RunEventRow(id, "r-2", "cancel")), 0)
        await pair.commit(changes(run("r-1", (1,)), RunEventRow(id, "r-1", "wait")), 5)
        found = await pair.reader.effects_of_event(id)
        assert [(effect.how, effect.run_id) for effect in found] == [("cancel", "r-2"), ("wait", "r-1")]

    async def test_their_parts(self, pair: Pair):
        parts = [
            step("r-1", "z", 0, b"1"),
            step("r-1", "a", 1, b"2"),
            item("r-1", 7),
            item("r-1", 5, in_flight=1),
        ]
        notes = [history("r-1", n) for n in (1, 2, 3, 4)]
        await pair.commit(changes(event(1), event(2), run("r-1", (2, 1)), *parts, *notes, item("r-2", 1)))
        assert [found.receipt for found in await pair.reader.events_of_run("r-1")] == [2, 1]
        assert await pair.reader.steps_of_run("r-1") == [
            StepRecord("r-1", "z", 0, "load the user", "StepRun", 1003, b"1"),
            StepRecord("r-1", "a", 1, "load the user", "StepRun", 1003, b"2"),
        ]
        assert await pair.reader.items_of_run("r-1") == [
            ItemRecord("r-1", 5, "f-1", "discovery", "step", "first", 1000, 1000, 0, 0, True),
            ItemRecord("r-1", 7, "f-1", "discovery", "step", "first", 1000, 1000, 0, 0, False),
        ]
        assert [found.n for found in await pair.reader.history_of_run("r-1")] == [1, 2, 3, 4]
        assert [found.n for found in await pair.reader.history_of_run("r-1", after=1, limit=2)] == [2, 3]
        for empty in (pair.reader.events_of_run, pair.reader.steps_of_run, pair.reader.history_of_run):
            assert await empty("r-9") == []

    async def test_that_have_something_left_to_happen(self, pair: Pair):
        parts = [item("r-2", 1), item("r-2", 2, in_flight=1), item("r-4", 1)]
        await pair.commit(changes(*[run(f"r-{n}") for n in (1, 2, 4)], *parts), 0)
        await pair.commit(changes(run("r-3"), item("r-3", 1)), 5)
        assert await pair.reader.live_runs() == ["r-2", "r-3", "r-4"]
        assert await pair.reader.live_runs(limit=2) == ["r-2", "r-3"]
        assert await pair.reader.live_runs(after="r-2", limit=2) == ["r-3", "r-4"]
        assert await pair.reader.live_runs(after="r-4") == []

    async def test_timers_of_rules_are_no_runs(self, pair: Pair):
        timers = [f"~debounce~f-1~{key}" for key in ("", "a", "~", "\x7f")] + ["~cron~f-1~0 * * * *"]
        rows = [item(timer, part="t", kind="rule") for timer in timers]
        await pair.commit(changes(run("01A"), item("01A"), *rows))
        assert await pair.reader.live_runs() == ["01A"]
        assert await pair.reader.live_runs(after="01A") == []
        live = RunFilter(statuses=("QUEUED", "RUNNING"))
        assert [found.run.id for found in await pair.reader.list_runs(live)] == ["01A"]
        assert await pair.reader.count_runs(live) == 1

    async def test_of_every_shard(self, pair: Pair):
        await pair.commit(changes(event(1), run("r-1", (1,)), item("r-1"), app("a-1")), 0)
        await pair.commit(changes(event(1, internal_id="01F"), run("r-2", (1,)), step("r-2"), app("a-2")), 5)
        assert [(await pair.reader.run(id)) is not None for id in ("r-1", "r-2")] == [True, True]
        assert [found.internal_id for found in await pair.reader.events_of_run("r-2")] == ["01F"]
        assert len(await pair.reader.steps_of_run("r-2")) == 1
        assert [found.id for found in await pair.reader.apps()] == ["a-1", "a-2"]
        assert [found.internal_id for found in await pair.reader.list_events()] == [
            "01F",
            event(1).internal_id,
        ]


class TestApps:
    async def test_with_their_functions(self, pair: Pair):
        rows = [function("f-2", app_id="a-2"), function("f-1"), function("f-3", archived_at=8)]
        await pair.commit(changes(app("a-2", error="refused"), app("a-1"), *rows))
        assert [(found.id, found.error) for found in await pair.reader.apps()] == [
            ("a-1", ""),
            ("a-2", "refused"),
        ]
        assert [found.id for found in await pair.reader.functions()] == ["f-1", "f-2", "f-3"]
        assert [found.id for found in await pair.reader.functions("a-1")] == ["f-1", "f-3"]
        (found,) = await pair.reader.functions("a-2")
        assert (found.config, found.paused, found.overrides) == (b'{"id":"shop-pay"}', "", None)

    async def test_what_a_person_set_stands_beside_what_the_code_says(self, pair: Pair):
        await pair.commit(changes(function(paused="skip", overrides=b'{"throttle":null}')))
        (found,) = await pair.reader.functions()
        assert (found.paused, found.overrides) == ("skip", b'{"throttle":null}')
        assert found.config == b'{"id":"shop-pay"}'


class TestReading:
    async def test_sees_what_was_committed(self, pair: Pair):
        for n in range(1, 40):
            await pair.commit(changes(event(n), run("r-1", (1,), status=f"S{n}")))
            found = await pair.reader.run("r-1")
            assert found is not None
            assert found.status == f"S{n}"

    async def test_a_closed_reader_says_so(self, pair: Pair):
        await pair.reader.close()
        await pair.reader.close()
        with pytest.raises(StoreUnavailable):
            await pair.reader.apps()


class TestStepLogs:
    async def test_lines_come_in_order_by_pages_and_by_step(self, pair: Pair):
        lines = [line("r-1", n, step_id="s" if n % 2 else "") for n in (3, 1, 2, 4)]
        await pair.commit(changes(run("r-1"), *lines, line("r-2", 1)))
        found = await pair.reader.lines_of_run("r-1")
        assert [one.n for one in found] == [1, 2, 3, 4]
        assert found[0] == StepLine("r-1", 1, "s", 0, 1005, "INFO", "shop", "line 1", b'{"a":1}')
        page = await pair.reader.lines_of_run("r-1", after=1, limit=2)
        assert [one.n for one in page] == [2, 3]
        assert [one.n for one in await pair.reader.lines_of_run("r-1", step_id="s")] == [1, 3]
        assert [one.n for one in await pair.reader.lines_of_run("r-1", step_id="")] == [2, 4]
        assert [one.n for one in await pair.reader.lines_of_run("r-1", step_id="s", after=1)] == [3]
        assert await pair.reader.lines_of_run("r-3") == []

    async def test_a_line_is_written_once(self, pair: Pair):
        await pair.commit(changes(line("r-1", 1)))
        await pair.commit(changes(line("r-1", 1, message="another"), line("r-1", 2)))
        assert [one.message for one in await pair.reader.lines_of_run("r-1")] == ["line 1", "line 2"]

    async def test_a_report_is_the_last_one(self, pair: Pair):
        await pair.commit(
            changes(run("r-1", status="RUNNING"), run("r-2"), report("r-1"), report("r-1", "t"))
        )
        await pair.commit(changes(report("r-1", progress=None, message="", lines=3)))
        found = await pair.reader.step_reports(["r-1", "r-2", "r-3"])
        assert found.keys() == {"r-1", "r-2"}
        assert (found["r-1"].status, found["r-2"].status, found["r-2"].steps) == ("RUNNING", "QUEUED", {})
        assert found["r-1"].steps == {
            "s": StepReport("r-1", "s", "load", 0, None, "", 1006, 3, 80, 1),
            "t": StepReport("r-1", "t", "load", 0, 0.5, "half", 1006, 2, 80, 1),
        }

    async def test_they_are_there_after_a_restart_and_large_ones_too(self, tmp_path: Path):
        text = "é" * 10_000
        store = SqliteStore.open(tmp_path / "perdure.db")
        epoch = await store.claim(0)
        await commit(
            store, epoch, changes(run("r-1"), *[line("r-1", n, message=text) for n in range(1, 501)])
        )
        await store.close()
        store, reader = sqlite(tmp_path)
        found = await reader.lines_of_run("r-1")
        assert (len(found), found[-1].message) == (500, text)
        await reader.close()
        await store.close()


class TestRollups:
    async def test_of_a_time_and_of_functions(self, pair: Pair) -> None:
        batch = Changes(1)
        for at, slug in ((60_000, "f"), (120_000, "f"), (120_000, "g"), (180_000, "f")):
            batch.rollups[60_000, at, slug] = RollupRow(60_000, at, slug, encode(Rollup(queued=at)))
        batch.rollups[0, 0, ""] = RollupRow(0, 0, "", b"190000")
        await pair.commit(batch)
        found = await pair.reader.rollups(60_000, 120_000, 180_000)
        assert [(one.at, one.function_id, one.rollup.queued) for one in found] == [
            (120_000, "f", 120_000),
            (120_000, "g", 120_000),
        ]
        assert [one.function_id for one in await pair.reader.rollups(60_000, 0, 10**9, ["g"])] == ["g"]
        assert await pair.reader.rollups(900_000, 0, 10**9) == []
        assert await pair.reader.newest_rollup() == 190_000

    async def test_a_later_one_takes_the_place_of_the_older(self, pair: Pair) -> None:
        for count in (1, 2):
            batch = Changes(count)
            batch.rollups[60_000, 0, "f"] = RollupRow(60_000, 0, "f", encode(Rollup(queued=count)))
            await pair.commit(batch)
        (record,) = await pair.reader.rollups(60_000, 0, 1)
        assert record.rollup.queued == 2
        assert await pair.reader.newest_rollup() == 0

"""What a batch writes: the last state of each row, once."""

from __future__ import annotations

import msgspec

from perdure.core.model import Item, ItemKind, Run, RunStatus, Wait, WaitKind
from perdure.shard.batch import Batch, run_row
from perdure.shard.changes import Changes
from perdure.shard.commands import CancelRun
from perdure.shard.memory import run_from_rows
from perdure.shard.rows import StoredRun, WaitRow

NOW = 1_700_000_000_000


def a_run() -> Run:
    run = Run("r", "f", RunStatus.QUEUED, [3], ["e"], [b"{}"], "x", NOW)
    run.items = {1: Item(1, ItemKind.DISCOVERY, "", "", NOW, NOW, data=b"0")}
    return run


def test_rows_are_as_of_the_seal() -> None:
    run, batch = a_run(), Batch(4)
    batch.touch_run(run)
    batch.put_item(run, run.items[1])
    run.status = RunStatus.RUNNING
    run.items[1].attempt = 2
    changes = batch.seal()
    assert changes.number == 4
    assert changes.runs["r"].status == "RUNNING"
    row = changes.items["r", 1]
    assert row is not None
    assert (row.attempt, row.function_id, row.kind) == (2, "f", "discovery")


def test_every_change_marks_the_run_as_changed_by_this_batch() -> None:
    wait = Wait(1, WaitKind.EVENT, "x", "", "", None, 0)
    for number, change in enumerate(
        (
            lambda b, r: b.touch_run(r),
            lambda b, r: b.put_item(r, r.items[1]),
            lambda b, r: b.drop_item(r, 1),
            lambda b, r: b.put_wait(r, wait),
            lambda b, r: b.drop_wait(r, 1),
        ),
        start=7,
    ):
        run = a_run()
        change(Batch(number), run)
        assert run.commit == number


def test_the_last_word_on_an_item_counts() -> None:
    run = a_run()
    batch = Batch(1)
    batch.put_item(run, run.items[1])
    batch.drop_item(run, 1)
    assert batch.seal().items == {("r", 1): None}
    batch = Batch(2)
    batch.drop_item(run, 1)
    batch.put_item(run, run.items[1])
    assert batch.seal().items["r", 1] is not None


def test_the_last_word_on_a_wait_counts() -> None:
    run, batch = a_run(), Batch(1)
    batch.put_wait(run, Wait(1, WaitKind.SIGNAL, "x", "p", "v", "true", 9))
    assert batch.changes.waits["r", 1] == WaitRow("r", 1, "signal", "x", "p", "v", "true", 9)
    batch.drop_wait(run, 1)
    assert batch.seal().waits == {("r", 1): None}


def test_when_it_is_empty() -> None:
    batch = Batch(1)
    assert batch.empty()
    assert not batch.writes()
    batch.commands.append(CancelRun())
    assert not batch.empty()
    assert not batch.writes()
    for touch in (
        lambda b: b.touch_run(a_run()),
        lambda b: b.put_item(a_run(), a_run().items[1]),
        lambda b: b.drop_item(a_run(), 1),
        lambda b: b.changes.outbox.update({1: None}),
    ):
        batch = Batch(1)
        touch(batch)
        assert batch.writes()
        assert not batch.empty()
    batch = Batch(1)
    batch.effects.append(lambda: None)
    assert not batch.empty()
    assert not batch.writes()


def test_every_table_counts() -> None:
    changes = Changes(1)
    assert changes.size() == 0
    for name in Changes.__slots__:
        if name != "number":
            table = getattr(changes, name)
            before = changes.size()
            table.update({"k": None}) if isinstance(table, dict) else table.append(None)
            assert changes.size() == before + 1, name


def test_a_row_and_back() -> None:
    run = a_run()
    run.items = {}
    run.started_at, run.version, run.parallel, run.correlation = NOW + 1, 2, True, "p.s"
    run.output, run.ended_at, run.status, run.original_run_id = b"1", NOW + 2, RunStatus.COMPLETED, "o"
    again = run_from_rows(StoredRun(run_row(run), run.events, [], [], [], 0))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(run)

"""What every store must do, whatever it stores in."""

from __future__ import annotations

import asyncio
import random

import pytest

from perdure.errors import EpochLost, StoreError, StoreUnavailable
from perdure.shard.changes import Changes
from perdure.shard.ports import Store
from perdure.shard.rows import ItemRef, OutboxRow, QuarantineRow, Recovered, WaitLookup, WaitRef
from tests.contract.conftest import OpenStore
from tests.contract.rows import (
    FUNCTION,
    app,
    changes,
    commit,
    event,
    function,
    history,
    item,
    key,
    ref,
    run,
    step,
    wait,
)

START = ItemRef(-(2**62), "", 0)


class TestEpoch:
    async def test_rises_with_each_claim(self, store: Store):
        assert [await store.claim(0), await store.claim(0), await store.claim(0)] == [1, 2, 3]

    async def test_is_kept_for_each_shard(self, store: Store):
        await store.claim(0)
        assert await store.claim(7) == 1

    async def test_survives_a_restart(self, open_store: OpenStore):
        store = open_store()
        await store.claim(0)
        await store.close()
        store = open_store()
        assert await store.claim(0) == 2
        await store.close()

    async def test_an_old_owner_writes_nothing(self, store: Store):
        old = await store.claim(0)
        new = await store.claim(0)
        with pytest.raises(EpochLost):
            await commit(store, old, changes(event(1), run("r-1", (1,))))
        assert await store.load_runs(0, ["r-1"]) == {}
        assert await store.load_events(0, [1]) == {}
        await commit(store, new, changes(event(1), run("r-1", (1,))))
        assert list(await store.load_runs(0, ["r-1"])) == ["r-1"]

    async def test_a_large_batch_of_an_old_owner_writes_nothing(self, store: Store):
        old = await store.claim(0)
        await store.claim(0)
        with pytest.raises(EpochLost):
            await commit(store, old, changes(*[run(f"r-{n}") for n in range(500)]))
        assert await store.load_runs(0, [f"r-{n}" for n in range(500)]) == {}

    async def test_without_a_claim_nobody_writes(self, store: Store):
        with pytest.raises(EpochLost):
            await commit(store, 1, changes(run("r-1")))


class TestCommit:
    async def test_an_empty_batch_is_fine(self, store: Store):
        await commit(store, await store.claim(0), Changes(1))

    async def test_can_be_read_as_soon_as_it_is_done(self, store: Store):
        epoch = await store.claim(0)
        for n in range(1, 30):
            rows = [row for k in range(n) for row in (run(f"r-{n}-{k}"), item(f"r-{n}-{k}"))]
            await commit(store, epoch, changes(*rows))
            assert len(await store.load_runs(0, [f"r-{n}-{k}" for k in range(n)])) == n

    async def test_the_last_state_of_a_row_is_kept(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(run("r-1"), item("r-1", due=10)))
        ended = run("r-1", status="COMPLETED", started_at=4, ended_at=5, version=2, parallel=1, output=b"1")
        await commit(store, epoch, changes(ended, item("r-1", due=20, in_flight=1, generation=1, data=b"{}")))
        stored = (await store.load_runs(0, ["r-1"]))["r-1"]
        assert stored.run == ended
        assert stored.items == [item("r-1", due=20, in_flight=1, generation=1, data=b"{}")]

    async def test_rows_go(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(run("r-1"), item("r-1", 1), item("r-1", 2), wait("r-1", 2)))
        gone = {"items": [("r-1", 1), ("r-1", 2), ("r-9", 9)], "waits": [("r-1", 2)]}
        await commit(store, epoch, changes(item("r-1", 3), **gone))
        stored = (await store.load_runs(0, ["r-1"]))["r-1"]
        assert (stored.items, stored.waits) == ([item("r-1", 3)], [])

    async def test_apps_and_outbox_rows_go(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(app("a-1"), app("a-2"), OutboxRow(1, ""), OutboxRow(2, "")))
        await commit(store, epoch, changes(OutboxRow(2, "r-5"), apps=["a-1"], outbox=[1]))
        recovered = await store.recover(0, [])
        assert (recovered.apps, recovered.outbox) == ([app("a-2")], [OutboxRow(2, "r-5")])

    async def test_a_step_is_written_once(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(run("r-1"), step("r-1", "s", 0, b"first")))
        await commit(store, epoch, changes(step("r-1", "s", 1, b"second"), step("r-1", "t", 2, b"other")))
        await commit(store, epoch, changes(step("r-1", "u", 3, b"one"), step("r-1", "u", 4, b"two")))
        steps = (await store.load_runs(0, ["r-1"]))["r-1"].steps
        assert [(step.step_id, step.position, step.memo) for step in steps] == [
            ("s", 0, b"first"),
            ("t", 2, b"other"),
            ("u", 3, b"one"),
        ]

    @pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 200, 1000])
    async def test_batches_of_every_size(self, store: Store, count: int):
        epoch = await store.claim(0)
        ids = [f"r-{n:04}" for n in range(count)]
        await commit(
            store,
            epoch,
            changes(
                *[
                    row
                    for n, id in enumerate(ids)
                    for row in (event(n + 1), run(id, (n + 1,)), item(id), wait(id))
                ],
                *[row for id in ids for row in (step(id), history(id, 2), key(id, 10))],
            ),
        )
        stored = await store.load_runs(0, ids)
        assert sorted(stored) == ids
        for n, id in enumerate(ids):
            assert stored[id].run == run(id, (n + 1,))
            assert (stored[id].items, stored[id].waits) == ([item(id)], [wait(id)])
            assert (stored[id].steps, stored[id].last_n) == ([step(id)], 2)
        assert len(await store.find_keys(0, [ref(id) for id in ids], 9)) == count
        gone = [(id, 1) for id in ids]
        await commit(store, epoch, changes(items=gone, waits=gone, keys=[ref(id) for id in ids]))
        assert await store.find_keys(0, [ref(id) for id in ids], 9) == {}
        assert not any(entry.items or entry.waits for entry in (await store.load_runs(0, ids)).values())

    async def test_what_is_refused_leaves_nothing(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(event(1), history("r-1", 1)))
        for refused in (event(1, name="other"), history("r-1", 1, "other")):
            with pytest.raises(StoreError):
                await commit(store, epoch, changes(event(2), run("r-2"), step("r-2"), item("r-2"), refused))
        assert await store.load_runs(0, ["r-2"]) == {}
        assert await store.load_events(0, [1, 2]) == {1: event(1)}
        await commit(store, epoch, changes(event(2), run("r-2")))

    async def test_bytes_and_text_come_back_as_they_were(self, store: Store):
        epoch = await store.claim(0)
        blob = bytes(range(256)) * 4096
        text = "naïve \U0001f600 'quoted\" \x01 ; --"
        rows = (event(1, name=text, body=blob), run("r-1", (1,), output=blob), step("r-1", text, 0, blob))
        await commit(store, epoch, changes(*rows, item("r-1", name=text, data=b"")))
        stored = (await store.load_runs(0, ["r-1"]))["r-1"]
        assert (stored.events, stored.run.output, stored.steps[0].memo) == ([blob], blob, blob)
        assert (stored.steps[0].step_id, stored.items[0].name, stored.items[0].data) == (text, text, b"")
        assert (await store.load_events(0, [1]))[1].name == text

    async def test_large_numbers(self, store: Store):
        epoch = await store.claim(0)
        far = 2**62
        await commit(store, epoch, changes(event(far, ts=-5), run("r-1", (far,)), item("r-1", due=far)))
        stored = (await store.load_runs(0, ["r-1"]))["r-1"]
        assert (stored.items[0].due, len(stored.events)) == (far, 1)
        assert (await store.recover(0, [])).next_receipt == far + 1

    async def test_quarantine_is_taken(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(QuarantineRow("q-1", 5, None, "Answer(...)", "Traceback")))

    async def test_shards_do_not_see_each_other(self, store: Store):
        epochs = [await store.claim(shard) for shard in (0, 1)]
        for shard in (0, 1):
            batch = changes(
                event(1), run("r-1", (1,), status=f"S{shard}"), item("r-1", due=5 + shard), wait("r-1")
            )
            await commit(store, epochs[shard], batch, shard)
        for shard in (0, 1):
            assert (await store.load_runs(shard, ["r-1"]))["r-1"].run.status == f"S{shard}"
            assert await store.load_queue(shard, FUNCTION, "c", START, 9) == [ItemRef(5 + shard, "r-1", 1)]
            assert await store.find_waits(shard, [WaitLookup("shop/shipped", "data.id", '"7"')], 9) == [
                WaitRef(0, "r-1", 1)
            ]


class TestRecover:
    async def test_an_empty_store(self, store: Store):
        assert await store.recover(0, []) == Recovered(1, [], [], [], [], [], [])

    async def test_all_that_a_shard_needs(self, open_store: OpenStore):
        store = open_store()
        epoch = await store.claim(0)
        batch = changes(
            *[
                app("a-1"),
                app("a-2", archived_at=9),
                function("f-1"),
                function("f-2", app_id="a-2", archived_at=9),
            ],
            *[event(41), event(17), OutboxRow(17, "r-3"), OutboxRow(41, "")],
            *[run("r-1"), item("r-1", 1, in_flight=1), item("r-1", 2, in_flight=1), item("r-1", 3)],
            *[run("r-2"), item("r-2", 1), run("r-3"), item("r-3", 1, in_flight=1)],
            *[wait("r-1", 3), wait("r-2", 1), wait("r-2", 2, path="", value="")],
        )
        await commit(store, epoch, batch)
        await store.close()
        store = open_store()
        recovered = await store.recover(0, [])
        await store.close()
        assert recovered.next_receipt == 42
        assert recovered.apps == [app("a-1"), app("a-2", archived_at=9)]
        assert recovered.functions == [function("f-1"), function("f-2", app_id="a-2", archived_at=9)]
        assert sorted(recovered.in_flight) == ["r-1", "r-3"]
        assert sorted(recovered.wait_counts) == [("shop/shipped", "", 1), ("shop/shipped", "data.id", 2)]
        assert recovered.outbox == [OutboxRow(17, "r-3"), OutboxRow(41, "")]

    async def test_what_a_person_set_for_a_function(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(function(paused="hold", overrides=b'{"priority":null}')))
        (kept,) = (await store.recover(0, [])).functions
        assert (kept.paused, kept.overrides) == ("hold", b'{"priority":null}')
        await commit(store, epoch, changes(function()))
        assert (await store.recover(0, [])).functions == [function()]


class TestLoadRuns:
    async def test_unknown_runs_are_left_out(self, store: Store):
        await commit(store, await store.claim(0), changes(run("r-1")))
        assert list(await store.load_runs(0, ["r-0", "r-1", "r-2"])) == ["r-1"]
        assert await store.load_runs(0, []) == {}

    async def test_parts_come_in_their_order(self, store: Store):
        epoch = await store.claim(0)
        events = [event(n, body=b"%d" % n) for n in (1, 2, 3)]
        rows = [step("r-1", "z", 0), step("r-1", "a", 2), step("r-1", "m", 1), item("r-1", 9), item("r-1", 4)]
        await commit(
            store, epoch, changes(*events, run("r-1", (3, 1, 2)), *rows, wait("r-1", 9), wait("r-1", 4))
        )
        stored = (await store.load_runs(0, ["r-1"]))["r-1"]
        assert stored.events == [b"3", b"1", b"2"]
        assert [step.step_id for step in stored.steps] == ["z", "m", "a"]
        assert [item.n for item in stored.items] == [4, 9]
        assert [wait.n for wait in stored.waits] == [4, 9]

    async def test_runs_of_one_event_share_it(self, store: Store):
        await commit(store, await store.claim(0), changes(event(1), run("r-1", (1,)), run("r-2", (1, 1))))
        stored = await store.load_runs(0, ["r-1", "r-2"])
        assert [len(stored[id].events) for id in ("r-1", "r-2")] == [1, 2]

    async def test_the_last_number_is_that_of_items_and_history(self, store: Store):
        epoch = await store.claim(0)
        rows = [item("r-1", 5), history("r-1", 3), history("r-2", 8), item("r-2", 2), item("r-3", 4)]
        await commit(store, epoch, changes(*[run(f"r-{n}") for n in (1, 2, 3, 4)], *rows))
        stored = await store.load_runs(0, [f"r-{n}" for n in (1, 2, 3, 4)])
        assert [stored[f"r-{n}"].last_n for n in (1, 2, 3, 4)] == [5, 8, 4, 0]

    async def test_a_run_is_read_of_one_moment_while_it_is_written(self, store: Store):
        epoch = await store.claim(0)
        ids = [f"r-{k}" for k in range(200)]
        for n in range(1, 61):
            rows = [row for id in ids for row in (run(id, status=f"S{n}"), item(id, n))]
            done = store.commit(0, epoch, changes(*rows, items=[(id, n - 1) for id in ids]))
            while done is not None and not done.done():
                for stored in (await store.load_runs(0, ids[:8])).values():
                    assert [f"S{item.n}" for item in stored.items] == [stored.run.status]
                await asyncio.sleep(0)
        final = await store.load_runs(0, ids)
        assert all([f"S{item.n}" for item in entry.items] == ["S60"] for entry in final.values())


class TestLife:
    async def test_all_is_there_after_a_restart(self, open_store: OpenStore):
        store = open_store()
        epoch = await store.claim(0)
        await commit(store, epoch, changes(event(1), run("r-1", (1,)), step("r-1"), item("r-1")))
        before = await store.load_runs(0, ["r-1"])
        await store.close()
        store = open_store()
        assert await store.load_runs(0, ["r-1"]) == before
        await store.close()

    async def test_a_closed_store_says_so(self, open_store: OpenStore):
        store = open_store()
        epoch = await store.claim(0)
        await store.close()
        await store.close()
        for attempt in (
            lambda: commit(store, epoch, changes(run("r-1"))),
            lambda: store.load_runs(0, ["r-1"]),
            lambda: store.recover(0, []),
            lambda: store.claim(0),
        ):
            with pytest.raises(StoreUnavailable):
                await attempt()

    async def test_closing_finishes_what_is_being_written(self, open_store: OpenStore):
        store = open_store()
        epoch = await store.claim(0)
        done = store.commit(0, epoch, changes(*[run(f"r-{n}") for n in range(2000)]))
        await store.close()
        assert done is None or done.done()
        store = open_store()
        assert len(await store.load_runs(0, [f"r-{n}" for n in range(2000)])) == 2000
        await store.close()

    async def test_random_batches_leave_what_a_dictionary_would(self, open_store: OpenStore):
        dice = random.Random(11)
        items: dict[tuple[str, int], int] = {}
        for _ in range(3):
            store = open_store()
            epoch = await store.claim(0)
            for _ in range(40):
                batch = Changes(1)
                for _ in range(dice.choice((1, 3, 40, 150))):
                    key = (f"r-{dice.randrange(30)}", dice.randrange(8))
                    if dice.random() < 0.4:
                        batch.items[key] = None
                        items.pop(key, None)
                    else:
                        due = dice.randrange(1000)
                        batch.items[key] = item(*key, due=due)
                        items[key] = due
                await commit(store, epoch, batch)
            expected = sorted(ItemRef(due, *key) for key, due in items.items())
            assert await store.load_queue(0, FUNCTION, "c", START, 1000) == expected
            await store.close()

"""What every store must find, each by its key or its place: queues, waits, keys and events."""

from __future__ import annotations

import random

from perdure.shard.ports import Store
from perdure.shard.rows import ItemRef, RunEventRow, WaitLookup, WaitRef
from tests.contract.rows import FUNCTION, changes, commit, event, item, key, ref, run, wait

START = ItemRef(-(2**62), "", 0)


class TestQueue:
    async def fill(self, store: Store) -> list[ItemRef]:
        epoch = await store.claim(0)
        refs = [
            ItemRef(rank, f"r-{k}", n)
            for rank in (-20, 10, 30)
            for k in (1, 2)
            for n in (rank + 100, rank + 101)
        ]
        shuffled = random.Random(3).sample(refs, len(refs))
        rows = [item(ref.run_id, ref.n, due=50 - ref.rank, rank=ref.rank) for ref in shuffled]
        others = [
            item("r-1", 1, rank=10, in_flight=1),
            item("r-1", 2, rank=10, function_id="f-2"),
            item("r-1", 3, rank=10, part="c2"),
            item("r-1", 4, rank=10, part=""),
        ]
        await commit(store, epoch, changes(*rows, *others))
        return refs

    async def test_is_read_in_pages(self, store: Store):
        refs = await self.fill(store)
        read: list[ItemRef] = []
        for _ in range(len(refs)):
            page = await store.load_queue(0, FUNCTION, "c", read[-1] if read else START, 5)
            assert len(page) <= 5
            read.extend(page)
        assert read == refs == sorted(refs)

    async def test_each_part_has_its_own(self, store: Store):
        await self.fill(store)
        assert await store.load_queue(0, FUNCTION, "c2", START, 9) == [ItemRef(10, "r-1", 3)]
        assert await store.load_queue(0, FUNCTION, "", START, 9) == [ItemRef(10, "r-1", 4)]
        assert await store.load_queue(0, FUNCTION, "d", START, 9) == []
        assert await store.load_queue(0, "f-2", "c", START, 9) == [ItemRef(10, "r-1", 2)]

    async def test_items_leave_it_in_flight_and_come_back(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(item("r-1", 1, due=10)))
        await commit(store, epoch, changes(item("r-1", 1, due=10, in_flight=1)))
        assert await store.load_queue(0, FUNCTION, "c", START, 5) == []
        assert await store.load_parts(0, FUNCTION, "", 5) == []
        await commit(store, epoch, changes(item("r-1", 1, due=50, attempt=1)))
        assert await store.load_queue(0, FUNCTION, "c", START, 5) == [ItemRef(50, "r-1", 1)]

    async def test_items_go_from_part_to_part(self, store: Store):
        epoch = await store.claim(0)
        for part, rank in (("t", 10), ("line-1", -(2**40)), ("h", 3)):
            await commit(store, epoch, changes(item("r-1", 1, part=part, rank=rank)))
            assert await store.load_parts(0, FUNCTION, "", 5) == [part]
            assert await store.load_queue(0, FUNCTION, part, START, 5) == [ItemRef(rank, "r-1", 1)]
        await commit(store, epoch, changes(items=[("r-1", 1)]))
        assert await store.load_parts(0, FUNCTION, "", 5) == []


class TestParts:
    async def test_are_each_listed_once_however_much_they_hold(self, store: Store):
        epoch = await store.claim(0)
        rows = [item("r-1", n, part="line-b", rank=n) for n in range(1000)]
        names = ("c", "line-a", "line-c", "t", "ä")
        rows += [item("r-2", n, part=part) for n, part in enumerate(names)]
        rows += [item("r-3", n, part=f"busy-{n}", in_flight=1) for n in range(9)]
        rows += [item("r-4", n, part=f"else-{n}", function_id="f-2") for n in range(3)]
        await commit(store, epoch, changes(*rows))
        every = ["c", "line-a", "line-b", "line-c", "t", "ä"]
        assert await store.load_parts(0, FUNCTION, "", 100) == every
        assert await store.load_parts(0, "f-2", "", 100) == ["else-0", "else-1", "else-2"]
        assert await store.load_parts(0, "f-3", "", 100) == []
        assert await store.load_parts(1, FUNCTION, "", 100) == []

    async def test_are_read_in_pages(self, store: Store):
        names = [f"line-{n:03}" for n in range(50)]
        rows = [item("r-1", n, part=part) for n, part in enumerate(random.Random(7).sample(names, 50))]
        await commit(store, await store.claim(0), changes(*rows))
        read: list[str] = []
        for _ in range(9):
            page = await store.load_parts(0, FUNCTION, read[-1] if read else "", 7)
            assert len(page) <= 7
            read += page
        assert read == names


class TestWaits:
    async def test_are_found_by_equality(self, store: Store):
        rows = [
            *[
                wait("r-1", 1),
                wait("r-2", 1, value='"8"'),
                wait("r-3", 1, path="data.x"),
                wait("r-4", 1, event="e"),
            ],
            *[wait("r-5", 1, path="", value=""), wait("r-1", 3)],
        ]
        await commit(store, await store.claim(0), changes(*rows))
        lookups = [
            WaitLookup("shop/shipped", "data.id", '"7"'),
            WaitLookup("shop/shipped", "data.id", '"9"'),
            WaitLookup("shop/shipped", "", ""),
            WaitLookup("shop/shipped", "data.id", '"8"'),
        ]
        assert await store.find_waits(0, lookups, 10) == [
            WaitRef(0, "r-1", 1),
            WaitRef(0, "r-1", 3),
            WaitRef(2, "r-5", 1),
            WaitRef(3, "r-2", 1),
        ]
        assert await store.find_waits(0, [], 10) == []

    async def test_are_read_in_pages(self, store: Store):
        keys = [(f"r-{k:03}", n) for k in range(40) for n in (2, 11)]
        rows = random.Random(5).sample(keys, len(keys))
        await commit(store, await store.claim(0), changes(*[wait(run_id, n) for run_id, n in rows]))
        found: list[tuple[str, int]] = []
        lookup = WaitLookup("shop/shipped", "data.id", '"7"')
        for _ in range(len(keys)):
            page = await store.find_waits(0, [lookup], 7)
            assert len(page) <= 7
            found.extend((ref.run_id, ref.n) for ref in page)
            lookup = lookup._replace(after=found[-1])
        assert found == keys

    async def test_a_consumed_wait_is_not_found(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(wait("r-1", 1), wait("r-2", 1)))
        await commit(store, epoch, changes(waits=[("r-1", 1)]))
        found = await store.find_waits(0, [WaitLookup("shop/shipped", "data.id", '"7"')], 10)
        assert found == [WaitRef(0, "r-2", 1)]


class TestKeys:
    async def test_expire(self, store: Store):
        await commit(store, await store.claim(0), changes(key("k", 100, b"r-1")))
        asked = [ref("k"), ref("l"), ref("k", owner="f-2"), ref("k", kind="rate")]
        assert await store.find_keys(0, asked, 99) == {ref("k"): b"r-1"}
        assert await store.find_keys(0, asked, 100) == {}
        assert await store.find_keys(0, [], 99) == {}

    async def test_without_an_end_stay_until_they_are_removed(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(key("k", kind="singleton"), key("l", kind="singleton")))
        asked = [ref("k", "singleton"), ref("l", "singleton")]
        assert await store.find_keys(0, asked, 2**62) == dict.fromkeys(asked, b"r-1")
        await commit(store, epoch, changes(keys=[asked[0], ref("never there")]))
        assert await store.find_keys(0, asked, 2**62) == {asked[1]: b"r-1"}

    async def test_differ_by_kind_owner_and_key(self, store: Store):
        kinds, owners, names = ("rate", "throttle"), ("", "f-1", "f-2"), ("", "a", "b", "a\x00b", "ä")
        rows = [
            key(name, 0, f"{kind}/{owner}/{name}".encode(), kind=kind, owner=owner)
            for kind in kinds
            for owner in owners
            for name in names
        ]
        await commit(store, await store.claim(0), changes(*rows))
        assert await store.find_keys(0, [row.ref for row in rows], 5) == {row.ref: row.value for row in rows}

    async def test_are_written_over(self, store: Store):
        epoch = await store.claim(0)
        await commit(store, epoch, changes(key("k", 100, b"r-1")))
        await commit(store, epoch, changes(key("k", 300, b"\x00\xff")))
        assert await store.find_keys(0, [ref("k")], 200) == {ref("k"): b"\x00\xff"}
        await commit(store, epoch, changes(key("k", 0, b"")))
        assert await store.find_keys(0, [ref("k")], 400) == {ref("k"): b""}

    async def test_asked_for_twice_are_found_once(self, store: Store):
        await commit(store, await store.claim(0), changes(key("k")))
        assert await store.find_keys(0, [ref("k")] * 100, 5) == {ref("k"): b"r-1"}

    async def test_are_recovered_by_kind(self, store: Store):
        epoch = await store.claim(0)
        rows = [key("a", kind="cron"), key("b", 9, b"\x01", kind="cron", owner=""), key("a", kind="place")]
        others = [key("a"), key("b", kind="cro"), key("c", kind="cron2")]
        await commit(store, epoch, changes(*rows, *others))
        found = (await store.recover(0, ["cron", "place", "none"])).keys
        assert sorted(found) == sorted(rows)
        assert (await store.recover(0, [])).keys == []

    async def test_of_another_shard_are_not_seen(self, store: Store):
        for shard in (0, 1):
            batch = changes(key("k", 0, b"%d" % shard), key(f"only-{shard}"))
            await commit(store, await store.claim(shard), batch, shard)
        for shard in (0, 1):
            found = await store.find_keys(shard, [ref("k"), ref("only-0"), ref("only-1")], 5)
            assert found == {ref("k"): b"%d" % shard, ref(f"only-{shard}"): b"r-1"}
            kept = (await store.recover(shard, ["taken"])).keys
            assert sorted(row.key for row in kept) == ["k", f"only-{shard}"]

    async def test_the_living_are_kept_however_many_others_expire(self, store: Store):
        epoch = await store.claim(0)
        living = [row for n in range(50) for row in (key(f"live-{n}", 10_000), key(f"ever-{n}", 0))]
        await commit(store, epoch, changes(*living))
        for now in range(0, 2000, 100):
            await store.find_keys(0, [ref("none")], now)
            await commit(store, epoch, changes(*[key(f"short-{now}-{n}", now + 50) for n in range(70)]))
        assert len(await store.find_keys(0, [row.ref for row in living], 2000)) == 100


class TestEventsOfBatches:
    async def test_are_taken_again_and_again(self, store: Store):
        epoch = await store.claim(0)
        rows = [RunEventRow(event(n).internal_id, "r-1") for n in (2, 3)]
        await commit(store, epoch, changes(run("r-1", (1, 2, 3)), *rows))
        await commit(store, epoch, changes(rows[0], RunEventRow(rows[0].event_id, "r-2")))
        assert (await store.load_runs(0, ["r-1"]))["r-1"].run == run("r-1", (1, 2, 3))


class TestEvents:
    async def test_are_found_by_receipt(self, store: Store):
        rows = [event(1), event(2, internal_id=event(1).internal_id), event(3, internal=1)]
        await commit(store, await store.claim(0), changes(*rows))
        assert await store.load_events(0, [1, 2, 3, 4]) == {1: rows[0], 2: rows[1], 3: rows[2]}
        assert await store.load_events(0, []) == {}

    async def test_recent_ones_are_the_newest_of_a_name_in_order_of_receipt(self, store: Store):
        ids = [f"01E{n:023d}" for n in (40, 10, 30, 20)]
        rows = [event(n, internal_id=id, received_at=100 * n) for n, id in enumerate(ids, 1)]
        others = [event(9, name="shop/sent", received_at=900), event(8, internal=1, received_at=800)]
        await commit(store, await store.claim(0), changes(*rows, *others))
        assert await store.recent_events(0, "shop/paid", 0, 10) == rows
        assert await store.recent_events(0, "shop/paid", 200, 10) == rows[1:]
        assert await store.recent_events(0, "shop/paid", 201, 10) == rows[2:]
        assert await store.recent_events(0, "shop/paid", 0, 2) == [rows[0], rows[2]]
        assert await store.recent_events(0, "shop/paid", 401, 10) == []
        assert await store.recent_events(0, "shop", 0, 10) == []

    async def test_recent_ones_of_another_shard_are_not_seen(self, store: Store):
        for shard in (0, 1):
            batch = changes(*[event(n, internal_id=f"01E{shard}{n}") for n in (1, 2)])
            await commit(store, await store.claim(shard), batch, shard)
        for shard in (0, 1):
            found = await store.recent_events(shard, "shop/paid", 0, 10)
            assert [row.internal_id for row in found] == [f"01E{shard}1", f"01E{shard}2"]

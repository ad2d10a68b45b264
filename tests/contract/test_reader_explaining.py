"""What a reader tells of why something waits: places, newest entries, what rules remember."""

from __future__ import annotations

from perdure.reading.port import HistoryRecord
from perdure.shard.changes import Changes
from perdure.shard.rows import KeyRef, KeyRow
from tests.contract.rows import FUNCTION, changes, event, history, item
from tests.contract.test_reader import Pair, pair

__all__ = ["pair"]


class TestPlaces:
    async def test_those_before_it_in_its_queue_and_not_under_way(self, pair: Pair):
        waiting = [item(f"r-{n}", 2, part="line:a", rank=100 + n // 2) for n in range(6)]
        other = item("r-8", 2, part="line:b", rank=1)
        away = item("r-9", 2, part="line:a", rank=1, in_flight=1)
        await pair.commit(changes(*waiting, other, away))
        for place, row in enumerate(waiting):
            assert await pair.reader.calls_ahead(FUNCTION, "line:a", row.rank, row.run_id, row.n) == place
        assert await pair.reader.calls_ahead(FUNCTION, "line:a", 200, "", 0, most=3) == 3
        assert await pair.reader.calls_ahead("f-2", "line:a", 200, "", 0) == 0


class TestHistory:
    async def test_of_one_kind_newest_first(self, pair: Pair):
        rows = [history("r-1", n, kind="call" if n % 2 else "resumed") for n in range(1, 8)]
        await pair.commit(changes(*rows, history("r-2", 9)))
        found = await pair.reader.newest_history("r-1", "call", limit=3)
        assert [entry.n for entry in found] == [7, 5, 3]
        assert found[0] == HistoryRecord("r-1", 7, 1004, "call", b'{"attempt":0}')
        assert await pair.reader.newest_history("r-1", "ended") == []


class TestOwnEvents:
    async def test_of_a_name_after_a_receipt(self, pair: Pair):
        rows = [event(n, name="inngest/a" if n % 2 else "inngest/b", internal=1) for n in range(1, 9)]
        await pair.commit(changes(*rows))
        found = await pair.reader.own_events_since("inngest/a", 3)
        assert [each.receipt for each in found] == [7, 5]
        assert [each.receipt for each in await pair.reader.own_events_since("inngest/a", 0, limit=1)] == [7]


class TestRemembered:
    async def test_what_has_not_expired(self, pair: Pair):
        batch = Changes(1)
        rows = [KeyRow("rate", "f-1", "a", b"[1]", 0), KeyRow("rate", "f-1", "b", b"[2]", 50)]
        batch.keys = {row.ref: row for row in rows}
        await pair.commit(batch)
        keys = [KeyRef("rate", "f-1", key) for key in ("a", "b", "c")]
        assert await pair.reader.remembered(keys, 49) == {keys[0]: b"[1]", keys[1]: b"[2]"}
        assert await pair.reader.remembered(keys, 50) == {keys[0]: b"[1]"}
        assert await pair.reader.remembered([], 0) == {}

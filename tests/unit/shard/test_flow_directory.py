"""More lines than are listed in memory: the others are in the store only, and come round."""

from __future__ import annotations

from collections import Counter

import pytest

from perdure.shard import directory, flow_loads, lines
from tests.unit.shard.shards import World, an_event, config, virtually


class TestDirectory:
    """More lines than are listed: the others are in the store only, and come round."""

    @virtually
    async def test_every_key_has_its_turn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "MAX_LINES", 20)
        monkeypatch.setattr(directory, "PAGE", 5)
        monkeypatch.setattr(lines, "PAGE", 5)
        monkeypatch.setattr(flow_loads, "PAGE", 5)
        w = await World().start(config("f", "go", concurrency=[{"limit": 1, "key": "event.data.u"}]))
        await w.send(*[an_event("go", {"u": n % 60}) for n in range(180)])
        await w.settle()
        served: Counter[int] = Counter()
        for restart in range(300):
            if restart == 20:
                w.network.calls.clear()
                await w.restart()
            await w.sleep(0.3)
            assert w.shard.state.lines.directory.listed <= 20
            for call in w.network.open:
                served[call.body["event"]["data"]["u"]] += 1
                call.returns()
            if sum(run.status == "COMPLETED" for run in w.tables.runs.values()) == 180:
                break
        assert sum(run.status == "COMPLETED" for run in w.tables.runs.values()) == 180
        await w.sleep(3)
        assert not w.shard.state.lines.directory.beyond

    @virtually
    async def test_those_that_wait_for_long_step_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(directory, "MAX_LINES", 10)
        monkeypatch.setattr(directory, "PAGE", 5)
        monkeypatch.setattr(lines, "PAGE", 5)
        monkeypatch.setattr(flow_loads, "PAGE", 5)
        rules = {"throttle": {"limit": 1, "period": "1h", "key": "event.data.u"}}
        w = await World().start(config("f", "go", **rules))
        await w.send(*[an_event("go", {"u": n % 10}) for n in range(20)])
        await w.settle()
        first = len(w.network.calls)
        await w.send(*[an_event("go", {"u": f"new {n}"}) for n in range(20)])
        await w.sleep(30)
        assert (first, len(w.network.calls)) == (10, 30)

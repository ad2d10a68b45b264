"""Invocations of functions that have rules: whatever becomes of them, the step that made one gets its answer."""

from __future__ import annotations

from typing import Any

from perdure.core.flow.admission import Pause
from perdure.shard.commands import CancelRun, PauseFunction
from tests.unit.shard.flows import F, check_rest, drain, hold_reads, statuses
from tests.unit.shard.shards import World, an_event, config, invoke, virtually


class TestInvoke:
    """Whatever becomes of an invocation, the step that made it gets its answer."""

    async def parents(self, count: int = 1, **rules: Any) -> World:
        w = await World().start(config("f", "go", **rules), config("parent", "start"))
        for n in range(count):
            await w.send(an_event("start", {"n": n}))
        await w.settle()
        for call in w.network.open:
            call.ops(invoke("i", "f"))
        await w.settle()
        return w

    def of(self, w: World, name: str) -> list[Any]:
        return [call for call in w.network.open if call.body["event"]["name"] == name]

    @virtually
    async def test_limited(self) -> None:
        w = await self.parents(3, concurrency=1)
        for _ in range(3):
            (call,) = self.of(w, "inngest/function.invoked")
            call.returns({"ok": True})
            await w.settle()
        assert [c.body["steps"]["i"]["data"] for c in self.of(w, "start")] == [{"ok": True}] * 3
        await drain(w)
        check_rest(w)

    @virtually
    async def test_rate_limited(self) -> None:
        w = await self.parents(2, rateLimit={"limit": 1, "period": "1h"})
        (refused,) = self.of(w, "start")
        assert "rate limited" in refused.body["steps"]["i"]["error"]["message"]

    @virtually
    async def test_rate_limited_after_a_crash_right_behind_the_commit(self) -> None:
        w = await World().start(
            config("f", "go", rateLimit={"limit": 1, "period": "1h"}), config("parent", "start")
        )
        await w.send(an_event("go"), an_event("start"))
        await w.settle()
        hold_reads(w)
        next(call for call in w.network.open if call.body["event"]["name"] == "start").ops(invoke("i", "f"))
        await w.settle()
        assert w.tables.outbox
        w.store.load_gate = None
        await w.restart()
        await w.settle()
        parent = next(c for c in self.of(w, "start") if c.body["steps"])
        assert "rate limited" in parent.body["steps"]["i"]["error"]["message"]
        assert not w.tables.outbox

    @virtually
    async def test_debounced(self) -> None:
        w = await self.parents(1, debounce={"period": "5s"})
        assert not w.network.open
        await w.restart()
        await w.sleep(6)
        (call,) = self.of(w, "inngest/function.invoked")
        call.returns(7)
        await w.settle()
        (parent,) = self.of(w, "start")
        assert parent.body["steps"]["i"]["data"] == 7

    @virtually
    async def test_batched(self) -> None:
        """Of all that are in the batch, each."""
        w = await self.parents(2, batchEvents={"maxSize": 2, "timeout": "5s"})
        (call,) = self.of(w, "inngest/function.invoked")
        call.returns(7)
        await w.settle()
        assert [c.body["steps"]["i"]["data"] for c in self.of(w, "start")] == [7, 7]

    @virtually
    async def test_skipped(self) -> None:
        w = await self.parents(2, singleton={"mode": "skip"})
        (refused,) = self.of(w, "start")
        assert "skipped" in refused.body["steps"]["i"]["error"]["message"]

    @virtually
    async def test_skipped_behind_a_debounce_after_a_restart(self) -> None:
        """Its parent is not in memory any more when it turns out that there will be no run."""
        w = await World().start(
            config("f", "go", debounce={"period": "5s"}, singleton={"mode": "skip"}),
            config("parent", "start"),
        )
        await w.send(an_event("go"))
        await w.sleep(6)
        await w.send(an_event("start"))
        await w.settle()
        self.of(w, "start")[0].ops(invoke("i", "f"))
        await w.settle()
        await w.restart()
        await w.sleep(6)
        (refused,) = self.of(w, "start")
        assert "skipped" in refused.body["steps"]["i"]["error"]["message"]

    @virtually
    async def test_of_a_paused_function(self) -> None:
        w = await World().start(config("f", "go"), config("parent", "start"))
        await w.submit(PauseFunction(slug=F, pause=Pause.SKIP))
        await w.send(an_event("start"))
        (await w.call()).ops(invoke("i", "f"))
        parent = await w.call()
        assert "skipped" in parent.body["steps"]["i"]["error"]["message"]

    @virtually
    async def test_replaced_by_a_newer_event(self) -> None:
        """No run is for the first invocation: its step is told so at once."""
        w = await World().start(config("f", "go", debounce={"period": "5s"}), config("parent", "start"))
        await w.send(an_event("start"), an_event("start"))
        await w.settle()
        for call in w.network.open:
            call.ops(invoke("i", "f", timeout="20s"))
        await w.settle()
        (told,) = self.of(w, "start")
        assert "debounced" in told.body["steps"]["i"]["error"]["message"]
        told.returns()
        await w.sleep(6)
        (call,) = self.of(w, "inngest/function.invoked")
        call.returns(7)
        await w.settle()
        (answered,) = self.of(w, "start")
        assert answered.body["steps"]["i"] == {"data": 7}

    @virtually
    async def test_of_a_function_that_is_archived_while_it_is_debounced(self) -> None:
        w = await self.parents(1, debounce={"period": "5s"})
        await w.register(config("parent", "start"))
        await w.sleep(6)
        (parent,) = self.of(w, "start")
        assert "error" in parent.body["steps"]["i"]

    @virtually
    async def test_by_a_parent_that_is_gone(self) -> None:
        w = await self.parents(1, concurrency=1)
        parent = next(run.id for run in w.tables.runs.values() if run.event_name == "start")
        await w.submit(CancelRun(run=parent))
        await drain(w)
        assert statuses(w) == {"CANCELLED": 1, "COMPLETED": 1}
        check_rest(w)

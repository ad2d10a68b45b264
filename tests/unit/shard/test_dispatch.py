"""From due items to calls: in time, in turn, and no more at once than the app can take."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.core import pacing
from perdure.core.model import Part
from perdure.protocol.calls import CallAnswer, CallFailure
from perdure.protocol.ops import Op
from perdure.shard import dispatch, holdings
from perdure.shard import memory as memory_module
from perdure.shard.commands import CancelRun, Checkpoint
from perdure.shard.rows import ItemRef
from tests.unit.shard.shards import World, an_event, config, planned, sleep, step, virtually

HELLO = config("hello", "test/hello")
OTHER = config("other", "test/other")


def gateway(id: str, **opts: Any) -> dict[str, Any]:
    return {"op": "Gateway", "id": id, "displayName": id, "opts": {"url": "http://world.test/x", **opts}}


@virtually
async def test_a_call_leaves_in_the_batch_of_its_event() -> None:
    world = await World().start(HELLO)
    before = world.shard.counts.commits
    await world.send(an_event("test/hello"))
    await world.settle()
    assert len(world.network.calls) == 1
    assert world.shard.counts.commits == before + 1
    (item,) = world.items(world.run().id)
    assert (item.in_flight, item.generation, world.run().status) == (1, 1, "RUNNING")


@virtually
async def test_an_event_of_the_future_starts_its_run_then() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello", at=world.clock.now() + 60_000))
    await world.sleep(59)
    assert not world.network.calls
    assert world.run().status == "QUEUED"
    await world.sleep(1.1)
    assert len(world.network.calls) == 1


@virtually
async def test_sleeps_end_in_order_and_in_time() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello", {"n": n}) for n in range(3)))
    await world.settle()
    for call in world.network.open:
        call.ops(sleep("nap", f"{3 - call.body['event']['data']['n']}s"))
    woken = []
    for _ in range(3):
        await world.sleep(0.9)
        assert not world.network.open
        await world.sleep(0.1)
        call = await world.call()
        woken.append(call.body["event"]["data"]["n"])
        call.returns()
    assert woken == [2, 1, 0]


@virtually
async def test_a_retry_comes_after_its_delay_with_a_higher_generation_and_attempt() -> None:
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"))
    (await world.call()).throws()
    await world.sleep(0.9)
    assert not world.network.open
    await world.sleep(0.2)
    call = await world.call()
    assert (call.body["ctx"]["attempt"], call.headers["x-inngest-generation-id"]) == (1, "2")
    call.throws(**{"retry-after": "10"})
    await world.sleep(8)
    assert not world.network.open
    await world.sleep(3)
    (await world.call()).throws()
    await world.settle()
    assert world.run().status == "FAILED"


@virtually
async def test_young_calls_are_few_and_old_ones_make_room() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(60)))
    await world.settle()
    assert len(world.network.open) == pacing.YOUNG_CALLS
    world.network.open[0].returns()
    await world.settle()
    assert len(world.network.open) == pacing.YOUNG_CALLS
    await world.sleep(pacing.YOUNG_MS / 1000)
    assert len(world.network.open) == 2 * pacing.YOUNG_CALLS
    await world.sleep(1)
    assert len(world.network.open) == 59


@virtually
async def test_calls_that_post_their_steps_make_room_for_more() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(60)))
    await world.settle()
    for open_call in list(world.network.open)[:8]:
        ctx = open_call.body["ctx"]
        step = Op("StepRun", "a", data=b"1")
        n = int(ctx["job_id"].rpartition(".")[2])
        await world.submit(Checkpoint(run=ctx["run_id"], n=n, generation=1, ops=[step]))
    await world.settle()
    assert len(world.network.open) == pacing.YOUNG_CALLS + 6
    gate = world.shard.state.gate(function_app(world))
    while world.network.open:
        world.network.open[0].returns()
        await world.settle()
    assert len(gate.in_flight) == world.shard.calls_in_flight == 0


@virtually
async def test_functions_of_an_app_take_turns() -> None:
    world = await World().start(HELLO, OTHER)
    await world.send(*(an_event("test/hello") for _ in range(200)))
    await world.settle()
    await world.send(an_event("test/other"))
    await world.settle()
    started = []
    for _ in range(30):
        world.network.open[0].returns()
        await world.settle()
        started.append(world.network.calls[-1].body["event"]["name"])
        if started[-1] == "test/other":
            break
    assert len(started) <= 3


@virtually
async def test_no_place_is_lost() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(60)))
    await world.settle()
    gate = world.shard.state.gate(function_app(world))
    assert len(gate.in_flight) == pacing.YOUNG_CALLS
    while world.network.open:
        world.network.open[0].returns()
        await world.settle()
    assert len(world.network.calls) == 60
    assert len(gate.in_flight) == world.shard.calls_in_flight == 0


def function_app(world: World) -> str:
    function = world.shard.state.functions.find("app-hello")
    assert function is not None
    return function.app_id


@virtually
async def test_a_cancelled_run_gives_its_place_back_when_its_call_ends() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(pacing.YOUNG_CALLS + 1)))
    await world.settle()
    first = world.network.open[0]
    await world.submit(CancelRun(run=first.run_id))
    await world.settle()
    assert len(world.network.calls) == pacing.YOUNG_CALLS
    first.returns()
    await world.settle()
    assert len(world.network.calls) == pacing.YOUNG_CALLS + 1


@virtually
async def test_one_function_takes_half_of_an_app_while_another_waits() -> None:
    """Long calls of one function must not keep the others from their turn."""
    world = await World().start(HELLO, OTHER)
    gate = world.shard.state.gate(function_app(world))
    gate.hard_limit, gate.young_calls = 4, 4
    await world.send(*(an_event("test/hello") for _ in range(10)))
    await world.settle()
    assert len(world.network.open) == 4
    await world.send(*(an_event("test/other") for _ in range(10)))
    await world.settle()
    for _ in range(2):
        world.network.open[0].returns()
        await world.settle()
    names = sorted(call.body["event"]["name"] for call in world.network.open)
    assert names == ["test/hello", "test/hello", "test/other", "test/other"]
    while any(call.body["event"]["name"] == "test/other" for call in world.network.open):
        next(c for c in world.network.open if c.body["event"]["name"] == "test/other").returns()
        await world.settle()
    assert [call.body["event"]["name"] for call in world.network.open] == ["test/hello"] * 4


@virtually
async def test_a_reference_from_a_stale_window_is_only_a_hint() -> None:
    """The store showed an item that has moved, is in flight, or is gone by now."""
    world = await World().start(HELLO)
    await world.send(an_event("test/hello"), an_event("test/hello"))
    await world.settle()
    asleep, busy = world.network.open
    asleep.ops(sleep("nap", "1h"))
    await world.settle()
    state = world.shard.state
    queue = state.queue(next(iter(state.functions.by_id)), Part.CALLS)
    for run_id in (asleep.run_id, busy.run_id):
        for n in state.memory.runs[run_id].items:
            queue.push(ItemRef(state.now, run_id, n), 1)
        queue.push(ItemRef(state.now, run_id, 99), 1)
    for item in state.memory.runs[busy.run_id].items.values():
        queue.push(ItemRef(item.due, busy.run_id, item.n), 1)
    queue.push(ItemRef(state.now, "01GONE", 1), 1)
    state.queues.look(queue, state.now)
    await world.send(an_event("test/nothing"))
    await world.sleep(2)
    assert world.steps(asleep.run_id) == {}
    assert len(world.network.calls) == 2
    assert not world.tables.quarantine


@virtually
async def test_a_shard_that_stops_does_not_run_in_circles_over_calls_that_wait() -> None:
    world = await World().start(HELLO)
    await world.send(*(an_event("test/hello") for _ in range(60)))
    await world.settle()
    await world.shard.stop(3)
    assert len(world.network.calls) == pacing.YOUNG_CALLS


class TestRequests:
    @virtually
    async def test_many_slow_ones_do_not_hold_up_the_calls_of_their_function(self) -> None:
        world = await World().start(HELLO)
        places = holdings.REQUEST_PLACES
        await world.send(*(an_event("test/hello") for _ in range(places + 20)))
        for _ in range(2 * places):
            waiting = [call for call in world.network.open if call.call.url.startswith("http://app")]
            if not waiting:
                break
            waiting[0].ops(gateway("f"))
            await world.settle()
        requests = [call for call in world.network.open if call.call.url.startswith("http://world")]
        assert len(requests) == places
        await world.send(an_event("test/hello", {"n": 1}))
        call = next(call for call in world.network.open if call.call.url.startswith("http://app"))
        assert call.body["event"]["data"] == {"n": 1}
        for sent in requests:
            sent.end(CallAnswer(200, {}, b""))
        await world.settle(100)
        requests = [call for call in world.network.calls if call.call.url.startswith("http://world")]
        assert len(requests) == places + 20

    @virtually
    async def test_the_server_makes_them_and_records_what_comes(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        (await world.call()).ops(gateway("f", method="GET", headers={"X-A": "1"}))
        request = await world.call()
        assert (request.call.url, request.call.method) == ("http://world.test/x", "GET")
        request.end(CallAnswer(404, {"content-type": "text/plain"}, b"gone", "http://world.test/y"))
        call = await world.call()
        assert call.body["steps"] == {
            "f": {
                "data": {
                    "url": "http://world.test/y",
                    "status_code": 404,
                    "headers": {"Content-Type": "text/plain"},
                    "body": "gone",
                }
            }
        }

    @virtually
    async def test_they_are_tried_again_and_then_the_step_fails(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        (await world.call()).ops(gateway("f"))
        for _ in range(3):
            (await world.call()).end(CallFailure("http_unreachable", "refused"))
            await world.sleep(1.1)
        call = await world.call()
        assert call.body["steps"]["f"]["error"]["name"] == "GatewayError"
        assert call.body["ctx"]["attempt"] == 0

    @virtually
    async def test_options_that_make_no_request_fail_the_step_at_once(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        model = {"op": "AIGateway", "id": "m", "displayName": "m", "opts": {"url": "ftp://x"}}
        (await world.call()).ops(gateway("f", url="nonsense"), model)
        call = await world.call()
        errors = {name: memo["error"]["name"] for name, memo in call.body["steps"].items()}
        assert errors == {"f": "GatewayError", "m": "AIGatewayError"}
        (run_id,) = world.tables.runs
        assert {step.step_id: step.op for step in world.tables.steps[run_id].values()} == {
            "f": "Gateway",
            "m": "AIGateway",
        }

    @virtually
    async def test_they_take_no_place_of_the_app(self) -> None:
        world = await World().start(HELLO)
        await world.send(*(an_event("test/hello") for _ in range(pacing.YOUNG_CALLS)))
        await world.settle()
        for call in world.network.open:
            call.ops(gateway("f"))
        await world.settle()
        await world.send(an_event("test/hello"))
        await world.settle()
        assert world.network.calls[-1].body["event"]["name"] == "test/hello"

    @virtually
    async def test_a_secret_is_gone_when_the_step_has_ended(self) -> None:
        world = await World().start(HELLO)
        await world.send(an_event("test/hello"))
        options = {"url": "http://world.test/", "auth_key": "sk-secret", "body": {}}
        (await world.call()).ops({"op": "AIGateway", "id": "m", "displayName": "m", "opts": options})
        request = await world.call()
        assert ("authorization", "Bearer sk-secret") in request.call.headers
        assert "sk-secret" in repr(world.tables)
        request.end(CallAnswer(200, {}, b"{}"))
        await world.settle()
        assert "sk-secret" not in repr(world.tables)


class TestRunsThatAreNotInMemory:
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory_module, "MAX_RESIDENT_RUNS", 2)
        monkeypatch.setattr(dispatch, "MAX_LOADING", 4)

    def test_they_are_read_when_they_are_due(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.small(monkeypatch)

        @virtually
        async def test() -> None:
            world = await World().start(HELLO)
            await world.send(*(an_event("test/hello", {"n": n}) for n in range(20)))
            await world.settle()
            for call in world.network.open:
                call.ops(step("a", call.body["event"]["data"]["n"]), sleep("nap", "10s"))
            await world.settle(100)
            await world.send(an_event("test/nothing"))
            assert len(world.shard.state.memory.runs) <= 3
            await world.sleep(10)
            await world.settle(400)
            calls = world.network.open
            assert sorted(call.body["event"]["data"]["n"] for call in calls) == list(range(20))
            for call in calls:
                n = call.body["event"]["data"]["n"]
                assert call.body["steps"] == {"a": {"data": n}, "nap": None}

        test()

    def test_results_that_were_dropped_are_read_again_for_a_call(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory_module, "MAX_MEMO_BYTES", 100)

        @virtually
        async def test() -> None:
            world = await World().start(HELLO)
            await world.send(an_event("test/hello"))
            (await world.call()).ops(step("a", "x" * 200), planned("p"), planned("q"))
            await world.settle()
            await world.send(an_event("test/nothing"))
            p, q = world.network.open
            (run,) = world.shard.state.memory.runs.values()
            assert not run.memos_resident
            p.ops(step("p", 1))
            q.ops(step("q", 2))
            call = await world.call()
            assert call.body["steps"] == {"a": {"data": "x" * 200}, "p": {"data": 1}, "q": {"data": 2}}

        test()

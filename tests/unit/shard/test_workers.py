"""Apps whose workers connect to the server: calls wait for one, and are at one while the server is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from perdure.core.settings import Settings
from perdure.protocol.calls import CallAnswer, CallFailure
from perdure.protocol.ids import is_ulid
from perdure.protocol.registration import read_registration
from perdure.shard.calls import request_id
from perdure.shard.commands import CallWanted, CancelRun, ExplainRun, RegisterApp
from perdure.shard.loop import Shard
from perdure.shard.ports import ResumedCall
from perdure.shard.rows import CONNECT
from tests.unit.shard.shards import SDK, World, an_event, config, step, virtually

HELLO = config("hello", "test/hello")
NO_WORKER = CallFailure("connect_no_healthy_connection", "none")


class FakeWorkers:
    """What a gateway says of its workers: how many calls they take, None if there are none."""

    def __init__(self) -> None:
        self.room: int | None = None
        self.at_once = 24
        self.resumed: dict[str, tuple[ResumedCall, Callable[[CallAnswer | CallFailure], None]]] = {}
        self._changed: Callable[[], None] = lambda: None

    def free(self, app: str, slug: str) -> int | None:
        assert (app, slug) in {("app", "app-hello"), ("app", "app-other")}
        return self.room

    def pace(self, app: str) -> tuple[int, int]:
        return self.at_once, 1_000

    def resume(self, call: ResumedCall, done: Callable[[CallAnswer | CallFailure], None]) -> None:
        self.resumed[call.request_id] = (call, done)

    def watch(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def has_room(self, room: int | None) -> None:
        """A worker comes, or takes more."""
        self.room = room
        self._changed()


class WorkerWorld(World):
    """A shard whose app is called through workers."""

    def __init__(self, **options: Any) -> None:
        self.workers = FakeWorkers()
        super().__init__(**options)

    def new_shard(self) -> Shard:
        self.workers.resumed.clear()
        return Shard(self.store, self.network, self.clock, self.entropy, self.settings, workers=self.workers)

    async def register(self, *functions: dict[str, Any], app: str = "app") -> None:
        payload = {
            "url": f"ws://connect?app_name={app}",
            "deployType": "connect",
            "appName": app,
            "sdk": "js:v4.0.0",
            "v": "1",
            "functions": list(functions),
        }
        read = read_registration(
            json.dumps(payload).encode(), check_expression=lambda _: None, check_cron=lambda _: None
        )
        await self.submit(RegisterApp(registration=read, method=CONNECT))

    async def why(self, run_id: str) -> str:
        return str((await self.submit(ExplainRun(run=run_id))).text)

    async def wanted(self, run_id: str, n: int, generation: int) -> bool:
        return bool(await self.submit(CallWanted(run=run_id, n=n, generation=generation)))


def item_of(call_headers: dict[str, str]) -> tuple[str, int, int]:
    run_id, _, n = call_headers["x-inngest-job-id"].rpartition(".")
    return run_id, int(n), int(call_headers["x-inngest-generation-id"])


@virtually
async def test_a_run_waits_for_a_worker_and_begins_when_one_comes() -> None:
    world = await WorkerWorld().start(HELLO)
    await world.send(an_event("test/hello"))
    await world.sleep(3600)
    assert not world.network.calls
    assert (world.run().status, world.run().started_at) == ("QUEUED", None)
    assert "no worker of app app is connected" in await world.why(world.run().id)
    before = world.clock.now()
    world.workers.has_room(5)
    call = await world.call()
    assert world.clock.now() == before
    assert (call.body["ctx"]["attempt"], call.headers["x-inngest-generation-id"]) == (0, "1")


@virtually
async def test_no_more_calls_are_decided_at_once_than_workers_take() -> None:
    world = await WorkerWorld().start(HELLO)
    await world.send(*[an_event("test/hello") for _ in range(5)])
    await world.settle()
    world.workers.has_room(2)
    await world.settle()
    assert len(world.network.open) == 2
    world.workers.room = 0
    await world.settle()
    waiting = [run for run in world.tables.runs.values() if run.status == "QUEUED"]
    assert "all workers of app app are at capacity (2 calls under way)" in await world.why(waiting[0].id)
    world.workers.room = 1
    world.network.open[0].returns(1)
    await world.settle()
    assert len(world.network.calls) == 3


@virtually
async def test_workers_say_how_many_calls_may_begin_at_once() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.at_once = 60
    world.workers.has_room(1_000)
    await world.send(*[an_event("test/hello") for _ in range(100)])
    await world.settle()
    assert len(world.network.open) == 60
    # Over HTTP again, the app is paced as others are.
    for call in world.network.open:
        call.returns()
    await World.register(world, HELLO)
    await world.sleep(1)
    for _ in range(10):
        for call in world.network.open:
            call.returns()
        await world.settle()
    await world.send(*[an_event("test/hello") for _ in range(100)])
    await world.settle()
    assert len(world.network.open) == 24


@virtually
async def test_a_call_that_reached_nobody_is_no_attempt_and_waits_for_a_worker() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.has_room(1)
    await world.send(an_event("test/hello"))
    first = await world.call()
    world.workers.room = None
    first.end(NO_WORKER)
    await world.sleep(60)
    assert not world.network.open
    world.workers.has_room(1)
    again = await world.call()
    assert (again.body["ctx"]["attempt"], again.headers["x-inngest-generation-id"]) == (0, "2")
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    again.returns("done")
    await world.settle()
    assert world.run().status == "COMPLETED"


@virtually
async def test_other_apps_do_not_wait_for_workers() -> None:
    world = await WorkerWorld().start(HELLO)
    await World.register(world, config("plain", "test/plain"), app="http")
    await world.send(an_event("test/hello"), an_event("test/plain"))
    call = await world.call()
    assert "/api?fnId=app-plain" in call.call.url


@virtually
async def test_after_a_restart_a_call_at_a_worker_is_waited_for() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.has_room(5)
    await world.send(an_event("test/hello"))
    call = await world.call()
    await world.restart()
    await world.settle()
    assert len(world.network.calls) == 1
    [(resumed, done)] = world.workers.resumed.values()
    run_id, n, generation = item_of(call.headers)
    request = call.headers["x-request-id"]
    assert resumed == ResumedCall(request, "app", "app-hello", run_id, n, generation, "js:v4.0.0")
    assert world.shard.calls_in_flight == 1
    assert "a call to app app" in await world.why(run_id)
    done(CallAnswer(200, {**SDK}, b'"over the restart"'))
    await world.settle()
    assert (world.run().status, world.run().output) == ("COMPLETED", b'"over the restart"')
    assert world.shard.calls_in_flight == 0


@virtually
async def test_after_a_restart_a_lease_that_runs_out_is_a_failed_attempt() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.has_room(5)
    await world.send(an_event("test/hello"))
    await world.call()
    await world.restart()
    [(_, done)] = world.workers.resumed.values()
    world.network.calls[0].answered = True
    done(CallFailure("connect_worker_stopped_responding", "gone"))
    await world.sleep(2)
    again = await world.call()
    assert again.body["ctx"]["attempt"] == 1


@virtually
async def test_too_many_restarts_in_the_middle_of_a_call_count_as_an_attempt() -> None:
    world = await WorkerWorld(settings=Settings(default_retries=1, poison_recoveries=3)).start(HELLO)
    world.workers.has_room(5)
    await world.send(an_event("test/hello"))
    await world.call()
    for _ in range(2):
        await world.restart()
        await world.settle()
        assert len(world.workers.resumed) == 1
        assert len(world.network.calls) == 1
    assert "2 restarts of the server in the middle of it" in await world.why(world.run().id)
    world.network.calls[0].answered = True
    await world.restart()
    again = await world.call()
    assert not world.workers.resumed
    assert (again.body["ctx"]["attempt"], again.headers["x-inngest-generation-id"]) == (1, "2")


@virtually
async def test_places_of_limits_are_held_over_a_restart_by_calls_at_workers() -> None:
    world = await WorkerWorld().start(config("hello", "test/hello", concurrency=[{"limit": 1}]))
    world.workers.has_room(5)
    await world.send(an_event("test/hello"), an_event("test/hello"))
    await world.call()
    world.network.calls[0].answered = True
    await world.restart()
    await world.settle()
    assert not world.network.open
    [(_, done)] = world.workers.resumed.values()
    done(CallAnswer(200, {**SDK}, b"1"))
    await world.settle()
    assert len(world.network.open) == 1


@virtually
async def test_a_reload_neither_forgets_a_call_at_a_worker_nor_resumes_it_twice() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.has_room(5)
    await world.send(an_event("test/hello"))
    call = await world.call()
    world.shard._fault = RuntimeError("read it all again")
    world.shard._awake()
    await world.sleep(1)
    assert not world.workers.resumed
    call.returns("kept")
    await world.settle()
    assert world.run().output == b'"kept"'


@virtually
async def test_whether_a_call_is_wanted() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.has_room(5)
    await world.send(an_event("test/hello"))
    run_id, n, generation = item_of((await world.call()).headers)
    assert await world.wanted(run_id, n, generation)
    assert not await world.wanted(run_id, n, generation + 1)
    assert not await world.wanted(run_id, n + 1, generation)
    assert not await world.wanted("unknown", n, generation)
    await world.submit(CancelRun(run=run_id))
    assert not await world.wanted(run_id, n, generation)


@virtually
async def test_who_brought_an_answer_is_told_when_it_is_on_disk() -> None:
    world = await WorkerWorld().start(HELLO)
    world.workers.has_room(5)
    await world.send(an_event("test/hello"))
    call = await world.call()
    told: list[dict[str, Any]] = []
    run_id = call.run_id

    def stored() -> None:
        told.append(world.steps(run_id))

    body = json.dumps([step("a", 1)]).encode()
    call.end(CallAnswer(206, {**SDK}, body, on_stored=stored))
    assert told == []
    await world.settle()
    assert told == [{"a": {"data": 1}}]
    # Also of an answer that comes to nothing, as it is too late.
    await world.submit(CancelRun(run=run_id))
    world.network.open[0].end(CallAnswer(200, {**SDK}, b"1", on_stored=stored))
    await world.settle()
    assert len(told) == 2


def test_the_id_of_a_request_can_be_made_again() -> None:
    run_id = "01KXXXXXXXXXXXXXXXXXXXXXXX"
    ids = {request_id(run_id, n, generation) for n in range(20) for generation in range(1, 20)}
    assert len(ids) == 20 * 19
    assert all(is_ulid(each) and each.startswith(run_id[:9]) for each in ids)
    assert request_id(run_id, 3, 1) == request_id(run_id, 3, 1)

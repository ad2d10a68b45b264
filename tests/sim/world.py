"""One history: a server, a disk, a network, an app and its clients, and everything that goes wrong with them.

For a while things happen and faults are let loose. Then the faults stop, and time goes on until nothing is left to
do; by then everything that was accepted must have come to its end.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any

from perdure.errors import RequestError
from perdure.protocol.ops import read_ops
from perdure.shard.calls import read_queue_item_id
from perdure.shard.commands import Checkpoint
from tests.sim import final
from tests.sim.app import App
from tests.sim.chaos import Chaos
from tests.sim.checks import Checks, Failure
from tests.sim.clients import Clients
from tests.sim.decisions import mistakes
from tests.sim.disk import Crashed, Disk
from tests.sim.operators import Operators
from tests.sim.programs import Author
from tests.sim.scenario import Scenario, applied
from tests.sim.server import ConnectionLost, Refused, Server
from tests.sim.trace import Trace
from tests.sim.virtual_time import SimClock, StoodStill, VirtualLoop, run_virtually

CALM_HOURS = 200
"""After the faults, everything ends within so many hours of virtual time, also runs that go one after the other."""

CALM_SCHEDULES_S = 900
"""So long schedules go on after the faults; then their functions are taken away, or there would be no end."""
SETTLED_S = 120
"""So long after the faults everything is as it should be, or late firings have come."""


@dataclass(frozen=True)
class Outcome:
    """What came of a history."""

    scenario: Scenario
    failure: Failure | None
    trace: Trace
    runs: int
    batches: int
    calls: int
    lives: int


class World:
    """Everything in a history, by name."""

    def __init__(self, scenario: Scenario, loop: VirtualLoop) -> None:
        self.scenario = scenario
        self.clock = SimClock(loop)
        self.trace = Trace(loop.time)
        author = Author(Random(f"programs {scenario.seed}"), "app")
        write = author.ruled_programs if scenario.ruled else author.programs
        self.programs = write(scenario.functions)
        self.checks = Checks(self.trace, self.programs, scenario.settings)
        self.checks.calls.hard_limit = scenario.limits.hard_limit
        self.checks.calls.requests = scenario.limits.requests
        self.checks.commits.flow.troubled = bool(scenario.faults)
        self.checks.commits.flow.reads_ms = int(
            2_000 * max(scenario.read_delays_s) + 2_000 * max(scenario.commit_delays_s)
        )
        passing = self.checks.commits.flow.passing
        passing.swift = not any(scenario.read_delays_s)
        if scenario.limits.lines > scenario.crowd:
            passing.fair = next((p.id for p in self.programs if p.slug == "app-crowd"), "")
        self.calm = False
        self.disk = Disk(scenario, Random(f"disk {scenario.seed}"), self.checks, self.trace)
        self.app = App("app", self.programs, self.clock, self.trace)
        self.app.post = self._post
        self.app.fetch_steps = self._steps_of
        self.checks.commits.oracle.executions = self.app.executions
        self.checks.commits.oracle.raising = scenario.decision_raises > 0
        self.server = Server(self)
        self.clients = Clients(self)
        self.operators = Operators(self)
        self.chaos = Chaos(self)
        self.app.send_event = self.clients.send_from_app
        self.disk.crash = self.server.crash
        self._entropy = Random(f"entropy {scenario.seed}")
        self._tasks: set[asyncio.Task[Any]] = set()
        self._over = loop.create_future()
        self.checks.on_failure = self._stop
        self.checks.now = self.now

    def now(self) -> int:
        """The time (ms) by which the server goes."""
        return self.clock.now() + self.checks.commits.ahead[1]

    def entropy(self, count: int) -> bytes:
        """Random bytes for the server."""
        return self._entropy.randbytes(count)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Something that goes on by itself."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)
        return task

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Crashed) and not self._over.done():
            self._over.set_exception(error)

    def _stop(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def _steps_of(self, run: str) -> dict[str, object]:
        steps = sorted(self.disk.shard(0).steps.get(run, {}).values(), key=lambda step: step.position)
        return {step.step_id: json.loads(step.memo) for step in steps}

    async def _post(self, run: str, queue_item: str, generation: int, ops: list[dict[str, object]]) -> int:
        """A checkpoint of the app reaches the server."""
        item = read_queue_item_id(queue_item)
        assert item is not None
        command = Checkpoint(
            run=run, n=item[1], generation=generation, ops=read_ops(json.dumps(ops).encode())
        )
        try:
            await self.server.submit(command)
        except (Refused, ConnectionLost):
            return 0
        except RequestError as error:
            self.trace.note(f"app: a checkpoint of {item[1]}/{generation} is refused: {error.message}", run)
            return error.status
        return 0 if self.chaos.loses_answer() else 200

    async def history(self) -> None:
        """From the first start of the server to the end of everything."""
        story = self.spawn(self._story())
        await asyncio.wait((story, self._over), return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            self._over.result()
        else:
            story.result()

    async def _story(self) -> None:
        await self.server.start()
        await self.clients.register()
        work = [self.spawn(self.clients.work()), self.spawn(self.chaos.rage())]
        await asyncio.sleep(self.scenario.minutes * 60)
        await self.chaos.calm_down()
        for task in work:
            await task
        if self.scenario.ruled:
            await self.clients.resume_all()
            await self._let_schedules_fire()
        await self._until_quiet()
        if self.scenario.decision_raises and self.disk.shard(0).outbox:
            # Matching that was put aside after a mistake goes on with the next start.
            self.server.crash()
            await self._until_quiet()
        for _ in range(2):
            # Runs leave memory with a commit, if no read is under way then.
            await asyncio.sleep(20)
            await self.clients.send([{"name": "nothing/listens", "data": {}}])
        await asyncio.sleep(20)
        final.check(self)

    async def _let_schedules_fire(self) -> None:
        """Let schedules go on without faults for a while, and look whether they keep their times."""
        await asyncio.sleep(SETTLED_S)
        since = self.now()
        await asyncio.sleep(CALM_SCHEDULES_S)
        until = self.now()
        flow = self.checks.commits.flow
        if not flow.jumped_at:
            flow.ticking.complete(self.programs, since, until - SETTLED_S * 1_000)
        await self.clients.stop_schedules()

    async def _until_quiet(self) -> None:
        for _ in range(CALM_HOURS * 60):
            if self._quiet():
                return
            await asyncio.sleep(60)

    def _quiet(self) -> bool:
        tables = self.disk.shard(0)
        return not (
            tables.items
            or tables.outbox
            or self.checks.calls.live
            or self.clients.busy
            or self.server.process is None
        )


def simulate(scenario: Scenario) -> Outcome:
    """Let a history happen."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)
    world: World | None = None

    def raging() -> bool:
        return world is not None and not world.calm

    with applied(scenario.limits), mistakes(scenario.seed, scenario.decision_raises, raging):

        async def main() -> None:
            nonlocal world
            world = World(scenario, loop)
            await world.history()

        try:
            run_virtually(main(), loop)
        except StoodStill as error:
            assert world is not None
            world.checks.fail("progress", str(error))
        assert world is not None
    tables = world.disk.shard(0)
    return Outcome(
        scenario,
        world.checks.failure,
        world.trace,
        len(tables.runs),
        world.checks.commits.number,
        len(world.checks.calls.left),
        world.server.lives,
    )

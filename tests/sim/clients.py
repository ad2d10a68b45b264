"""Who uses the server: senders of events, people who cancel runs, apps that register anew."""

from __future__ import annotations

import asyncio
import json
from random import Random
from typing import TYPE_CHECKING

from perdure.core.cron import check_cron
from perdure.core.expressions import compile_expression
from perdure.core.flow.admission import Pause
from perdure.errors import RequestError
from perdure.protocol.events import EventReader, internal_event
from perdure.protocol.ids import Seed, new_ulid
from perdure.protocol.lifecycle import INVOKED, Invocation, invoked_event_data
from perdure.protocol.registration import Registration, read_registration
from perdure.shard.commands import (
    CancelRun,
    Command,
    OverrideConfig,
    PauseFunction,
    ReceiveEvents,
    RegisterApp,
    SendSignal,
)
from tests.sim.commits import ENDED
from tests.sim.programs import CROWD, SIGNALS, STARTING, WAITED, Program
from tests.sim.rules import overrides_for, varied
from tests.sim.server import ConnectionLost, Refused

if TYPE_CHECKING:
    from tests.sim.world import World

TRIES = 8
PATIENCE = 5_000
"""Tries to register, half a second apart: longer than any fault."""
CALM_TRIES = 200


class Clients:
    """Everybody outside; `busy` counts who still wants something."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"clients {world.scenario.seed}")
        self.busy = 0
        self.given_up = 0

    # Events

    async def work(self) -> None:
        """Send events, signals and cancellations, spread over the time that is not calm."""
        scenario, random = self._world.scenario, self._random
        span = scenario.minutes * 60
        moments = [random.uniform(0, span) for _ in range(scenario.events * 2)]
        burst = random.uniform(0, span)
        moments += [burst + random.choice((0.0, 0.0, 0.001, 0.01)) for _ in range(scenario.events // 2)]
        at = 0.0
        if scenario.crowd:
            self._go(self._gather_crowd() if not scenario.ruled else self._crowd_out())
        for moment in sorted(moments):
            await asyncio.sleep(moment - at)
            at = moment
            self._one()

    def _one(self) -> None:
        """Somebody wants something."""
        random = self._random
        kind = random.random()
        if random.random() < 0.12:
            self._go(self._world.operators.act())
        elif self._world.scenario.ruled and random.random() < 0.5:
            self._go(self._manage() if random.random() < 0.15 else self.send(self._events(STARTING)))
        elif kind < 0.4:
            self._go(self.send(self._events(STARTING)))
        elif kind < 0.7:
            self._go(self.send(self._events(WAITED)))
        elif kind < 0.75:
            events, seed = self._events(STARTING), self._seed()
            self._go(self.send(events, seed))
            self._go(self.send(events, seed))
        elif kind < 0.8:
            self._go(self._invoke())
        elif kind < 0.9:
            self._go(self._signal())
        else:
            self._go(self._cancel())

    async def _gather_crowd(self) -> None:
        """Many runs wait for one event; then it comes."""
        crowd = self._world.scenario.crowd
        size = min(max(crowd // 4, 1), 100)
        for _ in range(crowd // size):
            await self.send([{"name": CROWD, "data": {"k": "crowd"}} for _ in range(size)])
        await asyncio.sleep(20)
        await self.send([{"name": WAITED[0], "data": {"k": "crowd", "n": 5}}])

    async def _crowd_out(self) -> None:
        """One key has many runs that wait for their turn; then another comes with a few."""
        for count, key in ((self._world.scenario.crowd, "big"), (3, "small"), (5, "big")):
            await self.send([{"name": CROWD, "data": {"k": key}} for _ in range(count)])

    def _go(self, work: object) -> None:
        async def counted() -> None:
            self.busy += 1
            try:
                await work  # type: ignore[misc]
            finally:
                self.busy -= 1

        self._world.spawn(counted())

    def _events(self, names: tuple[str, ...]) -> list[dict[str, object]]:
        random = self._random
        events = []
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            event: dict[str, object] = {"name": random.choice(names), "data": {}}
            event["data"] = {"k": random.choice((1, 2, "1", "x")), "n": random.randint(0, 8)}
            if random.random() < 0.3:
                event["id"] = f"id-{random.randint(0, 3)}"
            if random.random() < (0.3 if self._world.scenario.ruled else 0.1):
                event["ts"] = self._world.clock.now() + random.choice((-60_000, 2_000, 200_000))
            events.append(event)
        return events

    def _seed(self) -> Seed:
        skew = self._random.choice((0, 0, -600_000, 600_000))
        return Seed(self._world.clock.now() + skew, self._random.randbytes(10))

    async def send(self, events: list[dict[str, object]], seed: Seed | None = None) -> None:
        """Send events as an SDK does: the same request again, with the same seed, until it is answered."""
        world = self._world
        seed = seed or self._seed()
        body = json.dumps(events).encode()
        for attempt in range(CALM_TRIES):
            reader = EventReader(seed, world.clock.now(), world.entropy, "application/json")
            reader.feed(body)
            reader.finish()
            assert reader.error is None
            for event in reader.events:
                world.checks.commits.submitted.setdefault(event.internal_id, world.checks.commits.number)
            try:
                await world.server.submit(ReceiveEvents(events=reader.events, received_at=world.clock.now()))
                if not world.chaos.loses_answer():
                    return
                world.trace.note("client: an acknowledgement is lost")
            except (Refused, ConnectionLost, RequestError) as error:
                world.trace.note(f"client: events are not taken: {error!r}")
            if attempt >= TRIES and not world.calm:
                self.given_up += 1
                return
            await asyncio.sleep(0.1 * 2 ** min(attempt, 6))

    async def send_from_app(self, event: dict[str, object], name: str) -> None:
        """The code of a step sends an event; a second run of that code sends another."""
        self._world.trace.note(f"app: sends {event['name']} ({name})")
        await self.send([event])

    # Management

    async def _signal(self) -> None:
        data = json.dumps({"at": self._random.randint(0, 99)}).encode()
        await self._once(SendSignal(signal=self._random.choice(SIGNALS), data=data))

    async def _cancel(self) -> None:
        runs = [row.id for row in self._world.disk.shard(0).runs.values() if row.status not in ENDED]
        if runs:
            run = self._random.choice(runs)
            self._world.trace.note("client: cancels", run)
            self._world.checks.commits.oracle.cancelled.add(run)
            await self._once(CancelRun(run=run))

    async def _invoke(self) -> None:
        """Start one function directly."""
        world = self._world
        program = self._random.choice(world.programs)
        internal_id = new_ulid(world.clock.now(), self._random.randbytes(10))
        data = invoked_event_data(b'{"k":2,"n":2}', Invocation(fn_id=program.slug))
        event = internal_event(INVOKED, data, internal_id, internal_id, world.clock.now())
        command = ReceiveEvents(
            events=[event], received_at=world.clock.now(), internal=True, target=program.id
        )
        await self._once(command)

    async def _manage(self) -> None:
        """A person pauses or resumes a function, or sets other limits for it."""
        random = self._random
        program = random.choice(self._world.programs)
        if random.random() < 0.5:
            await self._once(
                OverrideConfig(slug=program.slug, overrides=overrides_for(program.rules, random))
            )
            return
        await self._once(PauseFunction(slug=program.slug, pause=random.choice((Pause.HOLD, Pause.SKIP))))
        await asyncio.sleep(random.choice((1, 30)))
        await self._once(PauseFunction(slug=program.slug, pause=Pause.NO))

    async def resume_all(self) -> None:
        """No function is paused any more."""
        for program in self._world.programs:
            await self._surely(PauseFunction(slug=program.slug, pause=Pause.NO))

    async def _once(self, command: Command) -> None:
        try:
            await self._world.server.submit(command)
        except (Refused, ConnectionLost, RequestError) as error:
            self._world.trace.note(f"client: {type(command).__name__} failed: {error!r}")

    # Registration

    async def register(self, without: frozenset[str] = frozenset(), other_limits: bool = False) -> None:
        """Register the apps, without some functions, until they are taken."""
        for app in dict.fromkeys(program.app for program in self._world.programs):
            await self._surely(RegisterApp(registration=self._registration(app, without, other_limits)))

    async def _surely(self, command: Command) -> None:
        for _ in range(PATIENCE):
            try:
                await self._world.server.submit(command)
                return
            except (Refused, ConnectionLost, RequestError) as error:
                self._world.trace.note(f"client: {type(command).__name__} failed: {error!r}")
                await asyncio.sleep(0.5)
        self._world.checks.fail("progress", f"the server takes no {type(command).__name__} any more")

    async def resync(self) -> None:
        """The app is deployed anew, and some functions are gone for a while."""
        gone = frozenset(p.slug for p in self._world.programs if self._random.random() < 0.3)
        self._world.trace.note(f"client: registers without {sorted(gone)}")
        await self.register(gone, other_limits=self._random.random() < 0.5)

    async def restore(self) -> None:
        """All functions are there again."""
        await self.register()

    async def stop_schedules(self) -> None:
        """The apps are deployed without the functions that start by the clock."""
        gone = frozenset(p.slug for p in self._world.programs if p.schedules)
        if gone:
            await self.register(gone)

    def _registration(self, app: str, without: frozenset[str], other_limits: bool) -> Registration:
        random = self._random if other_limits else None
        served = [p for p in self._world.programs if p.app == app]
        functions = [_config(p, random) for p in served if p.slug not in without]
        body = {
            "appName": app,
            "url": _url(app),
            "sdk": "js:v4.24.0",
            "functions": functions,
        }
        return read_registration(
            json.dumps(body).encode(),
            check_expression=lambda text: void(compile_expression(text)),
            check_cron=check_cron,
        )


def void(_: object) -> None:
    """Nothing."""


def _url(app: str) -> str:
    return f"http://app.{app}.sim/api/inngest"


def _config(program: Program, random: Random | None) -> dict[str, object]:
    runtime = {"type": "http", "url": f"{_url(program.app)}?fnId={program.slug}&stepId=step"}
    triggers: list[dict[str, object]] = [
        {"event": event, **({"expression": condition} if condition else {})}
        for event, condition in program.triggers
    ]
    step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": program.retries}}
    config: dict[str, object] = {"id": program.slug, "name": program.slug, "steps": {"step": step}}
    rules = program.rules if random is None else varied(program.rules, random)
    return config | {"triggers": [*triggers, *program.schedules]} | rules

"""The functions of the simulated apps: small trees of steps, drawn at random.

A program is a list of nodes, which are done one after the other. What a step does when its code runs is written in
the node, and depends on nothing but the attempt; so both the simulated SDK and the oracle can read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from perdure.protocol.ids import function_uuid, hash_step_id
from tests.sim.rules import Fields, draw_rules, draw_schedule

FINISHED = "inngest/function.finished"
WAITED = ("w/red", "w/blue")
"""Events that waits are for. Nothing starts at them, so they can be sent in numbers."""
STARTING = ("go/one", "go/two", "go/three")
"""Events that start functions."""
SIGNALS = ("bell", "horn")
CROWD = "go/crowd"
"""Starts a function that does nothing but wait."""


@dataclass(frozen=True)
class Step:
    """`step.run`. The code throws in its first `fails` attempts, then returns.

    `throws` says how: `step` (the SDK answers 206 with a StepError) or `function` (500, as when a Python step
    raises). `final` errors ask for no retry. The code may send an event.
    """

    id: str
    fails: int = 0
    throws: str = "step"
    final: bool = False
    retry_after: int | None = None
    sends: str = ""
    work_ms: int = 5
    caught: bool = True
    """Whether the function goes on when the step has failed for good."""


@dataclass(frozen=True)
class Sleep:
    id: str
    ms: int
    absolute: bool = False


@dataclass(frozen=True)
class Wait:
    """`step.waitForEvent`; `condition` is one of `CONDITIONS`. It takes events that came up to `lookback_ms` before."""

    id: str
    event: str
    timeout_ms: int
    condition: str = ""
    lookback_ms: int = 0


@dataclass(frozen=True)
class Invoke:
    id: str
    function: str
    timeout_ms: int | None = None
    caught: bool = True


@dataclass(frozen=True)
class Signal:
    id: str
    signal: str
    timeout_ms: int
    replace: bool = True
    absolute: bool = False


@dataclass(frozen=True)
class Fetch:
    id: str
    host: str
    caught: bool = True


@dataclass(frozen=True)
class Parallel:
    branches: tuple[tuple[Node, ...], ...]
    race: bool = False


@dataclass(frozen=True)
class Flaky:
    """The function itself throws here while the attempt is below `until`."""

    until: int
    final: bool = False


Triggers = tuple[tuple[str, str | None], ...]
Node = Step | Sleep | Wait | Invoke | Signal | Fetch | Parallel | Flaky
Awaited = Step | Sleep | Wait | Invoke | Signal | Fetch

CONDITIONS: dict[str, Callable[[dict[str, Any], dict[str, Any]], bool]] = {
    "": lambda event, other: True,
    "async.data.k == event.data.k": lambda event, other: _k(other) is not None and _k(other) == _k(event),
    "event.data.k == async.data.k && async.data.n > 3": lambda event, other: (
        _k(other) is not None and _k(other) == _k(event) and (other["data"].get("n") or 0) > 3
    ),
    "async.data.function_id == 'app-callee-0'": lambda event, other: (
        other["data"].get("function_id") == "app-callee-0"
    ),
    "async.data.n >= event.data.n": lambda event, other: (
        "n" in other["data"] and ("n" not in event["data"] or other["data"]["n"] >= event["data"]["n"])
    ),
}
"""Conditions of waits, and what they mean for a trigger event and another one."""


def _k(event: dict[str, Any]) -> object:
    return event["data"].get("k")


def hashed(node: Awaited) -> str:
    """The node's id on the wire."""
    return hash_step_id(node.id)


@dataclass(frozen=True)
class Program:
    """A function of an app."""

    slug: str
    triggers: Triggers
    retries: int
    nodes: tuple[Node, ...]
    checkpoints: bool = False
    """Whether its SDK posts steps during the call."""
    version: int = 2
    """Request version of its SDK."""
    steps: dict[str, Awaited] = field(default_factory=dict, compare=False)
    rules: Fields = field(default_factory=dict, compare=False)
    """Rules of flow control and cancellations, as the app registers them."""
    schedules: tuple[Fields, ...] = ()

    @property
    def attempts(self) -> int:
        return self.retries + 1

    @property
    def app(self) -> str:
        """The app that serves it."""
        return app_of(self.slug)

    @property
    def id(self) -> str:
        """The id that the server gives it."""
        return function_uuid(self.app, self.slug)


def app_of(slug: str) -> str:
    """The app of a function."""
    return slug.partition("-")[0]


def awaited(nodes: Sequence[Node]) -> Iterator[Awaited]:
    """All steps of a program, of branches too."""
    for node in nodes:
        if isinstance(node, Parallel):
            for branch in node.branches:
                yield from awaited(branch)
        elif not isinstance(node, Flaky):
            yield node


class Author:
    """Writes programs. `depth` of invocation keeps functions from calling one another in circles."""

    def __init__(self, random: Random, app: str) -> None:
        self._random = random
        self._app = app
        self._steps = 0
        self._signals = True

    def programs(self, count: int) -> list[Program]:
        """So many functions that start by events, callees for them, and handlers of ends."""
        random = self._random
        callees = [self._program(f"callee-{n}", (), ()) for n in range(2)]
        slugs = tuple(program.slug for program in callees)
        mains = []
        for n in range(count):
            triggers: list[tuple[str, str | None]] = [(random.choice(STARTING), None)]
            if random.random() < 0.3:
                triggers.append((random.choice(STARTING), "event.data.n > 4"))
            if triggers[0] == triggers[-1]:
                triggers = triggers[:1]
            mains.append(self._program(f"main-{n}", tuple(dict.fromkeys(triggers)), slugs))
        watched = random.choice(mains).slug
        failed = f"event.data.function_id == '{watched}'"
        handlers = [self._small("on-failure", (("inngest/function.failed", failed),))]
        if random.random() < 0.5:
            handlers.append(self._small("on-finish", (("inngest/function.finished", None),)))
        crowd = (Wait(self._id(), WAITED[0], 1_800_000, "async.data.k == event.data.k"), self._step())
        handlers.append(self._made("crowd", ((CROWD, None),), crowd, retries=3, checkpoints=False, version=2))
        return callees + mains + handlers

    def ruled_programs(self, count: int) -> list[Program]:
        """Functions with rules, of two apps; some start by the clock, and steps invoke two of them."""
        random = self._random
        callees = [
            replace(self._program(f"callee-{n}", (), ()), rules=draw_rules(random, called=True))
            for n in range(2)
        ]
        slugs = tuple(program.slug for program in callees)
        mains = [self._ruled(n, slugs) for n in range(count + 1)]
        failed = f"event.data.function_id == '{mains[0].slug}'"
        handlers = [self._small("on-failure", (("inngest/function.failed", failed),))]
        crowd = (Step(self._id(), work_ms=random.choice((5, 400))),)
        made = self._made("crowd", ((CROWD, None),), crowd, retries=3, checkpoints=False, version=2)
        most = random.choice((1, 2))
        rules: Fields = {"concurrency": [{"limit": most}, {"limit": most, "key": "event.data.k"}]}
        handlers.append(replace(made, rules=rules))
        return callees + mains + handlers

    def _ruled(self, n: int, callees: tuple[str, ...]) -> Program:
        random = self._random
        scheduled = random.random() < 0.25
        triggers: Triggers = ((random.choice(STARTING), None),)
        program = self._program(
            f"main-{n}", triggers, callees, most=3, app=random.choice((self._app, "other"))
        )
        rules = draw_rules(random)
        if not scheduled:
            return replace(program, rules=rules)
        kept = {name: rule for name, rule in rules.items() if name in ("concurrency", "throttle", "timeouts")}
        if random.random() < 0.3:
            kept["singleton"] = {"mode": random.choice(("skip", "cancel"))}
        return replace(
            program, rules=kept, schedules=(draw_schedule(random, n),), retries=min(program.retries, 1)
        )

    def _program(
        self, name: str, triggers: Triggers, callees: tuple[str, ...], most: int = 5, app: str = ""
    ) -> Program:
        random = self._random
        self._signals = not name.startswith("callee")
        nodes = tuple(self._node(callees, deep=False) for _ in range(random.randint(0, most)))
        if random.random() < 0.2:
            # One event after the other: none of them may be taken twice.
            event, condition = random.choice(WAITED), random.choice(("", "async.data.n >= event.data.n"))
            nodes += tuple(
                Wait(self._id(), event, timeout, condition, 3_600_000) for timeout in (300_000, 20_000)
            )
        if random.random() < 0.15:
            nodes += (Flaky(random.choice((1, 99)), final=random.random() < 0.3),)
        return self._made(
            name,
            triggers,
            nodes,
            retries=random.choice((0, 1, 2, 3, 3)),
            checkpoints=random.random() < 0.3,
            version=random.choice((2, 2, 2, 1)),
            app=app,
        )

    def _small(self, name: str, triggers: Triggers) -> Program:
        return self._made(name, triggers, (self._step(),), retries=5, checkpoints=False, version=2)

    def _made(
        self, name: str, triggers: Triggers, nodes: tuple[Node, ...], app: str = "", **rest: object
    ) -> Program:
        program = Program(f"{app or self._app}-{name}", triggers, nodes=nodes, **rest)  # type: ignore[arg-type]
        program.steps.update({hashed(node): node for node in awaited(nodes)})
        return program

    def _id(self) -> str:
        self._steps += 1
        return f"s{self._steps}"

    def _node(self, callees: tuple[str, ...], deep: bool) -> Node:
        random = self._random
        kind = random.random()
        if kind < 0.40:
            return self._step()
        if kind < 0.52:
            return Sleep(
                self._id(), random.choice((1_000, 20_000, 300_000, 3_600_000)), random.random() < 0.3
            )
        if kind < 0.55:
            return Wait(
                self._id(),
                FINISHED,
                random.choice((30_000, 1_800_000)),
                "async.data.function_id == 'app-callee-0'",
            )
        if kind < 0.66:
            return Wait(
                self._id(),
                random.choice(WAITED),
                random.choice((5_000, 120_000, 1_800_000)),
                random.choice(tuple(CONDITIONS)),
                random.choice((0, 600_000, 3_600_000)),
            )
        if kind < 0.74 and callees:
            return Invoke(
                self._id(),
                random.choice((*callees, *callees, f"{self._app}-missing")),
                random.choice((None, 30_000, 900_000)),
                random.random() < 0.7,
            )
        if kind < 0.80 and self._signals:
            return Signal(
                self._id(),
                random.choice(SIGNALS),
                random.choice((10_000, 600_000)),
                random.random() < 0.8,
                random.random() < 0.3,
            )
        if kind < 0.86:
            return Fetch(self._id(), random.choice(("good", "bad", "flaky")), random.random() < 0.8)
        if deep:
            return self._step()
        branches = tuple(
            tuple(self._node(callees, deep=True) for _ in range(random.choice((1, 1, 2))))
            for _ in range(random.randint(2, 4))
        )
        return Parallel(branches, random.random() < 0.4)

    def _step(self) -> Step:
        random = self._random
        fails = random.choice((0, 0, 0, 0, 1, 2, 99))
        return Step(
            self._id(),
            fails,
            random.choice(("step", "step", "function")),
            fails == 99 and random.random() < 0.5,
            random.choice((None, None, 7)) if fails else None,
            random.choice(("", "", "", *WAITED)),
            random.choice((1, 5, 40, 400)),
            random.random() < 0.7,
        )

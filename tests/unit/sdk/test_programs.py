"""Random programs of steps, in sequence and side by side, played to their end in random orders.

Whatever the order in which a server gets things done, each step runs once, and the result is that of the program
without a server.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perdure
from perdure.sdk.http import Answer
from tests.unit.sdk.calls import call, h, make_app

Program = tuple[str, Any]
"""("run", name), ("sleep", name), ("seq", programs) or one that is side by side: ("gather" or "group", programs)."""


def programs() -> st.SearchStrategy[Program]:
    leaf = st.sampled_from(["run", "run", "run", "sleep"]).map(lambda kind: (kind, None))

    def inner(of: st.SearchStrategy[Program]) -> st.SearchStrategy[Program]:
        return st.tuples(st.sampled_from(["seq", "gather", "group"]), st.lists(of, min_size=1, max_size=3))

    return st.recursive(leaf, inner, max_leaves=8).map(lambda program: named(program, []))


def named(program: Program, used: list[str]) -> Program:
    kind, parts = program
    if kind in {"run", "sleep"}:
        used.append(f"s{len(used)}")
        return kind, used[-1]
    return kind, [named(part, used) for part in parts]


def expected(program: Program) -> Any:
    kind, parts = program
    if kind == "run":
        return parts
    return None if kind == "sleep" else [expected(part) for part in parts]


def names_of(program: Program, wanted: str) -> list[str]:
    kind, parts = program
    if kind in {"run", "sleep"}:
        return [parts] if kind == wanted else []
    return [name for part in parts for name in names_of(part, wanted)]


@dataclass
class Server:
    """The little of a server that a run needs; `choose` picks what happens next."""

    app: perdure.App
    choose: random.Random
    steps: dict[str, Any] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    sleeping: dict[str, bool] = field(default_factory=dict)
    group: set[str] = field(default_factory=set)
    discovery: bool = True
    calls: int = 0

    async def play(self, fn: str, checkpoints: bool) -> Any:
        while True:
            assert self.calls < 300, "it does not end"
            todo = [*self.planned, *self.sleeping, *(["step"] if self.discovery else [])]
            assert todo, "the run is stuck"
            what = self.choose.choice(todo)
            if what in self.sleeping:
                self.done(what, None, self.sleeping.pop(what))
                continue
            if what == "step":
                self.discovery = False
            else:
                self.planned.remove(what)
            place = {"fn_id": "F", "qi_id": "Q"} if checkpoints else {}
            self.calls += 1
            told = await call(
                self.app, fn, None, dict(self.steps), target=what, plan_only=bool(self.group), **place
            )
            if told.status == 200:
                return told.body
            assert told.status == 206, told.body
            for op in told.body:
                if op["op"] == "RunComplete":
                    return op["data"]
            self.take(told.body)

    def take(self, ops: list[dict[str, Any]]) -> None:
        told = [op for op in ops if op["op"] != "DiscoveryRequest"]
        asked = len(told) < len(ops)
        known = {*self.steps, *self.planned, *self.sleeping}
        pending = [op for op in told if op["op"] != "StepRun" and op["id"] not in known]
        if len(told) > 1:
            self.group |= {op["id"] for op in pending}
        for op in pending:
            if op["op"] == "StepPlanned":
                self.planned.append(op["id"])
            else:
                self.sleeping[op["id"]] = op["opts"].get("parallelMode") == "race"
        for op in told:
            if op["op"] == "StepRun":
                self.done(op["id"], {"data": op["data"]}, asked)
        self.discovery |= asked

    def done(self, step: str, memo: Any, asked: bool) -> None:
        self.steps[step] = memo
        self.group.discard(step)
        if asked or not self.group:
            self.discovery = True


def app_of(program: Program, runs: Counter[str], batch: int) -> tuple[perdure.App, list[Server]]:
    app = make_app(checkpoint=perdure.Checkpoint(steps=batch))
    servers: list[Server] = []

    async def post(method: str, path: str, body: bytes = b"", *_: Any, **__: Any) -> Answer:
        for op in json.loads(body)["steps"]:
            servers[-1].steps[op["id"]] = {"data": op["data"]}
        return Answer(200, {}, b"")

    app.api.call = post  # type: ignore[method-assign]

    def work(name: str) -> str:
        runs[name] += 1
        return name

    async def later(name: str) -> str:
        await asyncio.sleep(0)
        return work(name)

    async def execute(step: perdure.Step, part: Program) -> Any:
        kind, inner = part
        if kind == "run":
            return await step.run(inner, later, inner)
        if kind == "sleep":
            return await step.sleep(inner, 60)
        if kind == "seq":
            return [await execute(step, one) for one in inner]
        if kind == "gather":
            return await asyncio.gather(*(execute(step, one) for one in inner))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(execute(step, one)) for one in inner]
        return [task.result() for task in tasks]

    def execute_sync(step: perdure.SyncStep, part: Program) -> Any:
        kind, inner = part
        if kind == "run":
            return step.run(inner, work, inner)
        if kind == "sleep":
            return step.sleep(inner, 60)
        if kind == "seq":
            return [execute_sync(step, one) for one in inner]
        return step.parallel(*(lambda one=one: execute_sync(step, one) for one in inner))

    @app.function("unit/go", id="async")
    async def function(step: perdure.Step) -> Any:
        return await execute(step, program)

    @app.function("unit/go", id="sync")
    def function_sync(step: perdure.SyncStep) -> Any:
        return execute_sync(step, program)

    return app, servers


@pytest.mark.parametrize("fn", ["async", "sync"])
@settings(max_examples=60, deadline=None)
@given(
    program=programs(), seed=st.integers(0, 2**32), checkpoints=st.booleans(), batch=st.sampled_from([1, 3])
)
def test_each_step_runs_once_and_the_result_is_right(
    fn: str, program: Program, seed: int, checkpoints: bool, batch: int
) -> None:
    runs: Counter[str] = Counter()
    app, servers = app_of(program, runs, batch)
    server = Server(app, random.Random(seed))
    servers.append(server)
    assert asyncio.run(server.play(fn, checkpoints)) == expected(program)
    assert runs == Counter(names_of(program, "run"))
    assert {h(name) for name in names_of(program, "sleep")} <= set(server.steps)

"""A shard on virtual time, over a store in dictionaries and a network that is a list of calls."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from perdure.core.functions import Function
from perdure.core.settings import Settings
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.events import IncomingEvent
from perdure.protocol.function_rules import load_function
from perdure.protocol.ids import function_uuid, new_ulid
from perdure.protocol.registration import read_registration
from perdure.shard.commands import Command, ReceiveEvents, RegisterApp
from perdure.shard.loop import Shard
from perdure.shard.rows import FunctionRow, ItemRow, RunRow
from perdure.shard.state import State
from tests.sim.memory_store import MemoryStore, Tables
from tests.sim.virtual_time import START_MS, SimClock, VirtualLoop, run_virtually

APP = "app"
SETTINGS = Settings(retry_interval_ms=1_000, default_retries=2)


def virtually(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on virtual time: seconds pass as soon as nobody has anything to do."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        run_virtually(test(*args, **kwargs), VirtualLoop())

    return run


def config(name: str, *triggers: dict[str, Any] | str, **more: Any) -> dict[str, Any]:
    """A function as an app registers it."""
    return {
        "id": f"{APP}-{name}",
        "name": name,
        "triggers": [{"event": trigger} if isinstance(trigger, str) else trigger for trigger in triggers],
        "steps": {
            "step": {
                "id": "step",
                "name": "step",
                "runtime": {"type": "http", "url": f"http://app.test/api?fnId={APP}-{name}&stepId=step"},
            }
        },
        **more,
    }


def a_function(name: str, *triggers: dict[str, Any] | str, **more: Any) -> Function:
    """A function, ready to be matched."""
    slug = f"{APP}-{name}"
    read = load_function(json.dumps(config(name, *triggers, **more)).encode())
    return Function(function_uuid(APP, slug), APP, read, SETTINGS)


def a_state(*functions: Function, seed: int = 1, settings: Settings = SETTINGS) -> State:
    """A shard's memory with functions and nothing else; their queues are empty in the store."""
    state = State(random.Random(seed).randbytes, settings)
    state.now = START_MS
    state.functions.put_all(list(functions))
    for function in functions:
        state.function_rows[function.id] = FunctionRow(
            function.id, APP, function.slug, function.name, function.config.raw, START_MS, None
        )
        state.put_functions([function])
    return state


def an_event(
    name: str, data: Any = None, id: str = "", at: int = START_MS, ulid_at: int | None = None
) -> IncomingEvent:
    """An event; `ulid_at` is the clock by which its ULID was made."""
    _numbers[0] += 1
    internal_id = new_ulid(at if ulid_at is None else ulid_at, _numbers[0].to_bytes(10, "big"))
    event_id = id or internal_id
    body = {"data": data or {}, "id": event_id, "name": name, "ts": at, "user": {}}
    return IncomingEvent(internal_id, name, event_id, bool(id), at, msgspec.json.encode(body))


_numbers = [0]


class Network:
    """Every call that has left, in order; tests answer them."""

    def __init__(self) -> None:
        self.calls: list[SentCall] = []
        self.refuse: Exception | None = None

    def start(self, call: Call, done: Callable[[CallAnswer | CallFailure], None]) -> SentCall:
        """A call leaves."""
        if self.refuse is not None:
            raise self.refuse
        sent = SentCall(call, done)
        self.calls.append(sent)
        return sent

    @property
    def open(self) -> list[SentCall]:
        """Calls that have not been answered."""
        return [call for call in self.calls if not call.answered]


class SentCall:
    """One call."""

    def __init__(self, call: Call, done: Callable[[CallAnswer | CallFailure], None]) -> None:
        self.call = call
        self._done = done
        self.answered = False
        self.headers = {name.lower(): value for name, value in call.headers}

    @property
    def body(self) -> dict[str, Any]:
        """What the app is told."""
        value: dict[str, Any] = json.loads(self.call.body)
        return value

    @property
    def run_id(self) -> str:
        """The run that it is for."""
        return self.headers["x-run-id"]

    def cancel(self) -> None:
        """Nobody gives calls up here."""

    def end(self, result: CallAnswer | CallFailure) -> None:
        """The call ends."""
        self.answered = True
        self._done(result)

    def ops(self, *ops: dict[str, Any]) -> None:
        """The function is not done."""
        self.end(CallAnswer(206, {**SDK}, json.dumps(ops).encode()))

    def returns(self, output: Any = None) -> None:
        """The function returns."""
        self.end(CallAnswer(200, {**SDK}, json.dumps(output).encode()))

    def throws(self, **headers: str) -> None:
        """The function throws."""
        self.end(CallAnswer(500, {**SDK, **headers}, b'{"name":"Boom","message":"no"}'))

    def breaks(self) -> None:
        """No answer comes."""
        self.end(CallFailure("http_unreachable", "refused"))


SDK = {"x-inngest-sdk": "test:v1", "x-inngest-req-version": "2"}


class World:
    """A shard, its store, its network and its clock."""

    def __init__(self, store: MemoryStore | None = None, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = SimClock(loop)
        self.store = store or MemoryStore()
        self.network = Network()
        self.settings = options.pop("settings", SETTINGS)
        self.entropy = random.Random(7).randbytes
        self.shard = self.new_shard()

    def new_shard(self) -> Shard:
        """Another server on the same store and network."""
        return Shard(self.store, self.network, self.clock, self.entropy, self.settings)

    @property
    def tables(self) -> Tables:
        """What is on disk."""
        return self.store.shard(0)

    async def start(self, *functions: dict[str, Any]) -> World:
        """Start the shard and register an app with these functions."""
        await self.shard.start()
        if functions:
            await self.register(*functions)
        return self

    async def restart(self) -> None:
        """Kill the server and start another."""
        if self.shard._task is not None:
            self.shard._task.cancel()
            await asyncio.gather(self.shard._task, return_exceptions=True)
            await self.shard._loads.close()
        self.shard = self.new_shard()
        await self.shard.start()

    async def register(self, *functions: dict[str, Any], app: str = APP) -> None:
        """Sync an app."""
        payload = {
            "url": f"http://{app}.test/api",
            "deployType": "ping",
            "appName": app,
            "sdk": "js:v4.0.0",
            "v": "0.1",
            "framework": "test",
            "functions": list(functions),
        }
        read = read_registration(
            json.dumps(payload).encode(), check_expression=lambda _: None, check_cron=lambda _: None
        )
        await self.submit(RegisterApp(registration=read))

    async def submit(self, command: Command) -> Any:
        """Give the shard a command and wait for its answer."""
        return await self.shard.submit(command)

    async def send(self, *events: IncomingEvent, target: str | None = None) -> None:
        """Send events and wait until they are on disk."""
        await self.submit(ReceiveEvents(events=list(events), received_at=self.clock.now(), target=target))

    async def settle(self, turns: int = 40) -> None:
        """Let everything happen that needs no time."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)
        await self.settle()

    async def call(self) -> SentCall:
        """The one call that waits for an answer."""
        await self.settle()
        (call,) = self.network.open
        return call

    def run(self, run_id: str | None = None) -> RunRow:
        """A run on disk, the only one if none is named."""
        if run_id is not None:
            return self.tables.runs[run_id]
        (row,) = self.tables.runs.values()
        return row

    def items(self, run_id: str) -> list[ItemRow]:
        """What is still to happen to a run, on disk."""
        return list(self.tables.items.get(run_id, {}).values())

    def steps(self, run_id: str) -> dict[str, Any]:
        """A run's steps on disk."""
        return {step.step_id: json.loads(step.memo) for step in self.tables.steps.get(run_id, {}).values()}

    def events(self, name: str) -> list[dict[str, Any]]:
        """The stored events of a name."""
        return [json.loads(row.body) for row in self.tables.events.values() if row.name == name]


def step(id: str, data: Any = None) -> dict[str, Any]:
    """A step that has run."""
    return {"op": "StepRun", "id": id, "displayName": id, "data": data}


def planned(id: str, **opts: Any) -> dict[str, Any]:
    """A step that is still to run."""
    return {"op": "StepPlanned", "id": id, "displayName": id, "opts": opts}


def sleep(id: str, time: str) -> dict[str, Any]:
    """A sleep."""
    return {"op": "Sleep", "id": id, "displayName": id, "name": time}


def wait(id: str, event: str, timeout: str = "1h", **opts: Any) -> dict[str, Any]:
    """A wait for an event."""
    return {
        "op": "WaitForEvent",
        "id": id,
        "displayName": id,
        "name": event,
        "opts": {"timeout": timeout, **opts},
    }


def signal(id: str, name: str, **opts: Any) -> dict[str, Any]:
    """A wait for a signal."""
    return {
        "op": "WaitForSignal",
        "id": id,
        "displayName": id,
        "opts": {"signal": name, "timeout": "1h", **opts},
    }


def invoke(id: str, function: str, **opts: Any) -> dict[str, Any]:
    """A call of another function."""
    return {
        "op": "InvokeFunction",
        "id": id,
        "displayName": id,
        "opts": {"function_id": f"{APP}-{function}", "payload": {"data": {}}, **opts},
    }

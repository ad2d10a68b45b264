"""What the tests of flow control share: worlds with one limited function, and what must hold of places at all times."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from perdure.core.flow.admission import RunFlow
from perdure.core.model import CALLING
from perdure.shard.calls import job_id
from tests.unit.shard.shards import APP, SentCall, World, an_event, config

F = f"{APP}-f"


async def world(**rules: Any) -> World:
    """A world whose one function is started by `go`, and has these rules."""
    return await World().start(config("f", "go", **rules))


def statuses(w: World) -> Counter[str]:
    """How many runs there are on disk in each status."""
    return Counter(run.status for run in w.tables.runs.values())


def data_of(call: SentCall) -> dict[str, Any]:
    """The data of the event that a call is for."""
    data: dict[str, Any] = call.body["event"]["data"]
    return data


async def finish_all(w: World) -> int:
    """Answer every open call; how many there were."""
    calls = w.network.open
    for call in calls:
        call.returns()
    await w.settle()
    return len(calls)


async def drain(w: World, rounds: int = 10_000) -> list[SentCall]:
    """Answer calls until there are none; all that were answered, in order."""
    found: list[SentCall] = []
    for round in range(rounds):
        await w.sleep(0.0005)
        calls = w.network.open
        if not calls:
            return found
        if round % 25 == 0:
            check_places(w)
        for call in calls:
            call.returns()
        found += calls
    raise AssertionError("calls without end")


def check_places(w: World) -> None:
    """The counters hold the calls under way and the runs that have begun, and nothing else.

    To be asked when nothing is being read or committed.
    """
    tables, expected = w.tables, dict[str, set[str]]()
    for run in tables.runs.values():
        flow = RunFlow.decode(run.flow) if run.flow is not None else None
        if flow is None:
            continue
        if run.status == "RUNNING" and flow.runs:
            expected[run.id] = {need.counter for need in flow.runs}
        for item in tables.items.get(run.id, {}).values():
            if item.in_flight and item.kind in CALLING and flow.steps:
                expected[job_id(run.id, item.n)] = {need.counter for need in flow.steps}
    counters = w.shard.state.lines.turns.room.counters
    assert {holder: set(held) for holder, held in counters._held.items()} == expected
    places = {holder for held in counters._holders.values() for holder in held}
    assert places == set(expected)


def check_rest(w: World) -> None:
    """When all runs have ended, nothing is left of them but what remembers their events."""
    assert not w.network.open
    check_places(w)
    assert set(statuses(w)) <= {"COMPLETED", "FAILED", "CANCELLED", "SKIPPED"}
    assert not w.tables.items, "an item of nobody"
    assert not w.tables.waits
    assert not w.tables.outbox
    assert not w.tables.quarantine
    assert not {key.kind for key in w.tables.keys} - {"taken", "rate", "throttle", "cron"}
    turns = w.shard.state.lines.turns
    assert len(turns) == 0, "counters for which nobody waits"
    lines = [key for key in w.shard.state.queues.all if key[1].startswith("wait:")]
    assert not lines, "lines in which nobody stands"


def reasons(w: World) -> list[str]:
    """Why runs have ended, as their histories say."""
    found = []
    for entries in w.tables.history.values():
        found += [
            json.loads(entry.body).get("reason", "") for entry in entries.values() if entry.kind == "ended"
        ]
    return found


def generations(w: World, generation: int = 1) -> list[SentCall]:
    """The calls that were made for the first time (or for the `generation`th)."""
    return [call for call in w.network.calls if call.headers["x-inngest-generation-id"] == str(generation)]


def hold_reads(w: World, wanted: str = "find_keys") -> list[asyncio.Event]:
    """Let reads of the store end only when the test says so."""
    gates: list[asyncio.Event] = []

    async def hold(name: str) -> None:
        if name == wanted:
            gates.append(asyncio.Event())
            await gates[-1].wait()

    w.store.load_gate = hold
    return gates


GROUP = 50


async def send_many(w: World, count: int, data: Callable[[int], Any] = lambda n: {"n": n}) -> None:
    """Send events in requests of `GROUP`, one in a millisecond."""
    for at in range(0, count, GROUP):
        await w.send(*[an_event("go", data(n), at=w.clock.now()) for n in range(at, min(at + GROUP, count))])
        await asyncio.sleep(0.001)


def in_order(numbers: list[int], slack: int = 2 * GROUP + 20) -> bool:
    """Whether runs were served as they came; those of one millisecond may come in any order."""
    return all(abs(n - place) <= slack for place, n in enumerate(numbers))

"""What must hold when everything is over: nothing is lost, nothing is left, and memory is as small as promised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.commits import ENDED

if TYPE_CHECKING:
    from tests.sim.world import World


def check(world: World) -> None:
    """Look at the store, and into the memory of the server that runs."""
    _everything_ended(world)
    _everything_accepted(world)
    if world.checks.failure is None:
        _memory(world)


def _everything_ended(world: World) -> None:
    tables, fail = world.disk.shard(0), world.checks.fail
    for row in tables.runs.values():
        if row.status not in ENDED:
            items = list(tables.items.get(row.id, {}).values())
            fail("progress", f"the run has not ended: {items}", row.id)
    if tables.items or tables.waits or tables.outbox:
        fail("progress", f"left over: items {tables.items}, waits {tables.waits}, outbox {tables.outbox}")
    kept = ("taken", "rate", "throttle", "job", "clock")
    rows = [row for ref, row in tables.keys.items() if ref.kind not in kept]
    if rows:
        fail("progress", f"still remembered: {rows}")
    process = world.server.process
    if process is None or process.dead or not process.shard.available:
        fail("progress", "the server does not run any more")
    elif process.waiting:
        fail("answers", f"never answered: {next(iter(process.waiting.values()))!r}")
    if tables.quarantine and not world.scenario.decision_raises:
        aside = next(iter(tables.quarantine.values()))
        fail("quarantine", f"{aside.command}\n{aside.traceback}", aside.run_id or "")


def _everything_accepted(world: World) -> None:
    stored = {event.internal_id for event in world.disk.shard(0).events.values()}
    lost = world.checks.answers.acknowledged - stored
    if lost:
        world.checks.fail("events", f"acknowledged and not stored: {sorted(lost)}")


def _memory(world: World) -> None:
    process, fail, limits = world.server.process, world.checks.fail, world.scenario.limits
    assert process is not None
    shard = process.shard
    state = shard.state
    if len(state.memory.runs) > limits.resident_runs:
        fail("bounds", f"{len(state.memory.runs)} runs are in memory, {limits.resident_runs} are allowed")
    if state.memory.wait_counts:
        fail("bounds", f"waits are counted and there are none: {state.memory.wait_counts}")
    for gate in (*state.gates.values(), state.request_gate):
        if gate.in_flight or gate._young or gate._posting or gate._by_function:
            fail("gates", f"places are taken and no call is under way: {gate.in_flight} {gate._by_function}")
    if shard._dispatcher.live:
        fail("gates", f"calls are believed to be under way: {shard._dispatcher.live}")
    if state.memory._pinned or state.memory._reads:
        fail("bounds", f"runs are pinned {state.memory._pinned}, reads open {state.memory._reads}")

"""The hooks by which a simulation makes the world fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from perdure.errors import EpochLost, StoreUnavailable
from perdure.shard.changes import Changes
from tests.contract.rows import changes, commit, run
from tests.sim.memory_store import MemoryStore


def refuse(shard: int, batch: Changes) -> None:
    raise StoreUnavailable("the disk is full")


async def test_a_fault_before_the_commit_writes_nothing() -> None:
    store = MemoryStore(before_commit=refuse)
    epoch = await store.claim(0)
    with pytest.raises(StoreUnavailable):
        store.commit(0, epoch, changes(run("r-1")))
    assert await store.load_runs(0, ["r-1"]) == {}


async def test_a_fault_after_the_commit_hides_that_it_was_written() -> None:
    store = MemoryStore(after_commit=refuse)
    epoch = await store.claim(0)
    with pytest.raises(StoreUnavailable):
        store.commit(0, epoch, changes(run("r-1")))
    assert list(await store.load_runs(0, ["r-1"])) == ["r-1"]


async def test_the_scheduler_decides_when_a_commit_is_done() -> None:
    waiting: list[Callable[[], None]] = []
    store = MemoryStore(scheduler=waiting.append)
    epoch = await store.claim(0)
    done = store.commit(0, epoch, changes(run("r-1")))
    assert done is not None
    await asyncio.sleep(0)
    assert not done.done()
    assert await store.load_runs(0, ["r-1"]) == {}
    waiting.pop()()
    await done
    assert list(await store.load_runs(0, ["r-1"])) == ["r-1"]


async def test_a_commit_that_waits_can_lose_its_epoch() -> None:
    waiting: list[Callable[[], None]] = []
    store = MemoryStore(scheduler=waiting.append)
    done = store.commit(0, await store.claim(0), changes(run("r-1")))
    await store.claim(0)
    waiting.pop()()
    assert done is not None
    with pytest.raises(EpochLost):
        await done


async def test_a_slow_load_gives_back_what_was_there_when_it_began() -> None:
    gate = asyncio.Event()

    async def wait_at_gate(name: str) -> None:
        await gate.wait()

    store = MemoryStore(load_gate=wait_at_gate)
    epoch = await store.claim(0)
    load = asyncio.ensure_future(store.load_runs(0, ["r-1"]))
    await asyncio.sleep(0)
    await commit(store, epoch, changes(run("r-1")))
    gate.set()
    assert await load == {}
    assert list(await store.load_runs(0, ["r-1"])) == ["r-1"]


async def test_loads_can_fail() -> None:
    def fail(name: str) -> None:
        if name == "recover":
            raise StoreUnavailable("the disk refused")

    store = MemoryStore(load_fault=fail)
    assert await store.load_events(0, [1]) == {}
    with pytest.raises(StoreUnavailable):
        await store.recover(0, ())

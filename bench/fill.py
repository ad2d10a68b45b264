"""Fill a database with sleeping and queued runs, by the engine itself.

The real shard writes through the real store, event by event, as it would behind the server; only the apps are
played, by a transport inside this process. One puts every run to sleep in its first call. The other takes as many
calls as it is given and answers none, so that its other runs stay in the queue. Through real apps the same would take
an hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from perdure.core.settings import Settings
from perdure.errors import ShardClosed
from perdure.protocol.calls import Call, CallAnswer, CallFailure
from perdure.protocol.events import EventReader
from perdure.protocol.registration import read_registration
from perdure.shard.commands import ReceiveEvents, RegisterApp
from perdure.shard.loop import Shard
from perdure.stores.sqlite.store import SqliteStore

SLEEPER, BACKLOG = "scale-sleeper", "scale-backlog"
"""Apps, and the slugs of their functions."""

EVENTS_A_COMMAND = 500
NEAREST_S, FARTHEST_S = 86_400, 60 * 86_400
"""Sleeps end evenly between a day and two months from now: none during the measurement."""

HEADERS = {"x-inngest-sdk": "bare:v0.0.1", "x-inngest-req-version": "2", "content-type": "application/json"}
NAP = hashlib.sha1(b"nap", usedforsecurity=False).hexdigest()


class _Handle:
    def cancel(self) -> None:
        """Nothing is under way that could be given up."""


class PlayedApps:
    """Transport: puts runs of the sleeper to sleep, and leaves calls of the backlog open."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.asleep = 0

    def start(self, call: Call, done: Callable[[CallAnswer | CallFailure], None]) -> _Handle:
        """Answer on the next turn of the loop, or never."""
        if SLEEPER in call.url:
            asyncio.get_running_loop().call_soon(done, CallAnswer(206, HEADERS, self._sleep(), call.url))
            self.asleep += 1
        return _Handle()

    def _sleep(self) -> bytes:
        until = time.gmtime(time.time() + self._rng.uniform(NEAREST_S, FARTHEST_S))
        name = time.strftime("%Y-%m-%dT%H:%M:%SZ", until)
        return msgspec.json.encode(
            [{"op": "Sleep", "id": NAP, "name": name, "displayName": "nap", "opts": {}, "data": None}]
        )


class WallClock:
    """The real time."""

    def now(self) -> int:
        """ms since the epoch."""
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def registration(slug: str, app_url: str, **rules: Any) -> bytes:
    """What an app with one function, and these `rules` of it, registers.

    Each needs a URL of its own: of two with the same the newer stays.
    """
    runtime = {"type": "http", "url": f"{app_url}/{slug}?fnId={slug}&stepId=step"}
    step = {"id": "step", "name": "step", "runtime": runtime, "retries": {"attempts": 3}}
    function = {"id": slug, "name": slug, "triggers": [{"event": slug}], "steps": {"step": step}, **rules}
    return msgspec.json.encode(
        {
            "url": f"{app_url}/{slug}",
            "v": "0.1",
            "deployType": "ping",
            "sdk": "bare:v0.0.1",
            "framework": "none",
            "appName": slug,
            "functions": [function],
        }
    )


async def fill(database: Path, app_url: str, sleeping: int, queued: int) -> None:
    """Bring the database to so many sleeping and queued runs (besides the few that the silent app holds)."""
    rng = random.Random(1)
    clock, apps = WallClock(), PlayedApps(rng)
    store = SqliteStore.open(database)
    shard = Shard(store, apps, clock, rng.randbytes, Settings())
    try:
        await shard.start()
        for slug in (SLEEPER, BACKLOG):
            await _register(shard, slug, app_url)
        begun = time.monotonic()
        for slug, count in ((SLEEPER, sleeping), (BACKLOG, queued)):
            await send_events(shard, slug, count, rng, begun=begun)
        while apps.asleep < sleeping:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
    finally:
        await shard.stop(grace_s=0)
        await store.close()


async def _register(shard: Shard, slug: str, app_url: str) -> None:
    read = read_registration(
        registration(slug, app_url), check_expression=lambda _: None, check_cron=lambda _: None
    )
    await shard.submit(RegisterApp(registration=read))


async def send_events(
    shard: Shard, name: str, count: int, rng: random.Random, *, keys: int = 500, begun: float | None = None
) -> None:
    """Send so many events of a name, with one of so many keys; says how far it is if it knows when it began."""
    clock = WallClock()
    sent = 0
    under_way: set[asyncio.Future[object]] = set()
    while sent < count:
        size = min(EVENTS_A_COMMAND, count - sent)
        reader = EventReader(None, clock.now(), rng.randbytes, "application/json")
        events = [
            {"name": name, "data": {"i": sent + i, "key": f"c-{(sent + i) % keys}"}} for i in range(size)
        ]
        reader.feed(msgspec.json.encode(events))
        reader.finish()
        command = ReceiveEvents(events=reader.events, received_at=clock.now())
        while True:
            try:
                under_way.add(shard.submit(command))
                break
            except ShardClosed:
                await asyncio.sleep(0.01)
        sent += size
        if len(under_way) >= 4:
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for future in done:
                future.result()
        if begun is not None and sent % 50_000 == 0:
            print(f"{name}: {sent:,} events, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    await asyncio.gather(*under_way)

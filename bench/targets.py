"""Where a run can be asked for: a server of the protocol, or the app itself without any server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Protocol

import orjson

from bench.connection import Answer, Pool

CONNECTIONS = 32
"""Connections over which the driver asks for many runs at once."""

CALLS_IN_FLIGHT = 32
"""Calls that the direct driver keeps under way in one app."""

APP_PATH = "/api/inngest"


class Target(Protocol):
    """Something that runs the workloads' functions."""

    async def start(self, function: str, index: int) -> None:
        """Ask for one run; done when it has been accepted (or, without a server, when it has ended)."""

    async def start_many(self, function: str, indexes: Iterable[int]) -> None:
        """Ask for many runs, each by a request of its own, as fast as they are taken."""


async def each(work: Any, indexes: Iterable[int], places: int) -> None:
    """`work(index)` for all indexes, `places` at a time."""
    remaining = iter(indexes)

    async def worker() -> None:
        for index in remaining:
            await work(index)

    async with asyncio.TaskGroup() as group:
        for _ in range(places):
            group.create_task(worker())


class ServerTarget:
    """A server of the protocol; runs are asked for by sending events."""

    def __init__(self, url: str, event_key: str = "bench") -> None:
        self.url = url
        self._path = f"/e/{event_key}"
        self._pool = Pool(url, CONNECTIONS)
        self.last_event_id = ""

    async def sync(self, app_url: str) -> None:
        """Have the app register itself with the server."""
        async with Pool(app_url, 1) as app:
            answer = await app.request("PUT", APP_PATH)
        if answer.status != 200:
            raise RuntimeError(f"the app could not register: {answer.status} {answer.body.decode()}")
        await self._pool.warm()

    async def connected(self, slug: str, patience: float = 30.0) -> None:
        """Wait until a worker has told the server of a function."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            answer = await self._pool.get("/dev")
            if any(function["slug"] == slug for function in json.loads(answer.body)["functions"]):
                break
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"no worker has come within {patience:g} s")
            await asyncio.sleep(0.05)
        await self._pool.warm()

    async def start(self, function: str, index: int) -> None:
        """Send one event."""
        body = b'{"name":"bench/%s","data":{"i":%d}}' % (function.encode(), index)
        answer = await self._pool.post(self._path, body)
        if answer.status != 200:
            raise RuntimeError(f"the server refused an event: {answer.status} {answer.body.decode()}")
        self.last_event_id = json.loads(answer.body)["ids"][0]

    async def start_many(self, function: str, indexes: Iterable[int]) -> None:
        """Send the events one a request."""
        await each(lambda index: self.start(function, index), indexes, CONNECTIONS)

    async def run_status(self, event_id: str, patience: float = 5.0) -> str:
        """Status of the run that an event started, once it has ended; empty if the server cannot tell."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        status = ""
        while loop.time() < deadline:
            answer = await self._pool.get(f"/v1/events/{event_id}/runs")
            try:
                runs = json.loads(answer.body)["data"]
            except (ValueError, KeyError, TypeError):
                return ""
            status = runs[0]["status"] if runs else ""
            if status not in {"", "Running", "Scheduled"}:
                return str(status)
            await asyncio.sleep(0.1)
        return status

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()


class DirectTarget:
    """No server: the driver makes the calls of each run itself and keeps the steps in memory.

    What it reaches is what the app's process can do, so a server is measured as a share of it.
    """

    def __init__(self, app_url: str) -> None:
        self._pool = Pool(app_url, CALLS_IN_FLIGHT)

    async def warm(self) -> None:
        """Open the connections."""
        await self._pool.warm()

    async def start(self, function: str, index: int) -> None:
        """Make one run from its first call to its end."""
        event = {"name": f"bench/{function}", "data": {"i": index}, "id": f"e{index}", "ts": 1, "user": {}}
        memos: dict[str, Any] = {}
        while True:
            answer = await self._call(function, "step", event, memos, index)
            if answer.status == 200:
                return
            operations = orjson.loads(answer.body)
            planned = [op["id"] for op in operations if op["op"] == "StepPlanned"]
            if planned:
                calls = (self._call(function, step, event, {}, index, parallel=True) for step in planned)
                operations = [orjson.loads(done.body)[0] for done in await asyncio.gather(*calls)]
            for op in operations:
                memos[op["id"]] = {"data": op["data"]}

    async def _call(
        self,
        function: str,
        step: str,
        event: dict[str, Any],
        memos: dict[str, Any],
        index: int,
        parallel: bool = False,
    ) -> Answer:
        context = {
            "attempt": 0,
            "disable_immediate_execution": parallel,
            "env": "",
            "max_attempts": 4,
            "run_id": f"run-{index}",
            "stack": {"current": len(memos), "stack": list(memos)},
            "step_id": "step",
            "use_api": False,
        }
        body = {
            "ctx": context,
            "event": event,
            "events": [event],
            "steps": memos,
            "use_api": False,
            "version": 2 if memos else -1,
        }
        path = f"{APP_PATH}?fnId=bench-{function}&stepId={step}"
        answer = await self._pool.post(path, orjson.dumps(body), "X-Inngest-Server-Kind: dev\r\n")
        if answer.status not in (200, 206):
            raise RuntimeError(f"the app failed a call: {answer.status} {answer.body.decode()}")
        return answer

    async def start_many(self, function: str, indexes: Iterable[int]) -> None:
        """Make many runs at once."""
        await each(lambda index: self.start(function, index), indexes, CALLS_IN_FLIGHT)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

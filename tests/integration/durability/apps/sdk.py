"""The jobs on the official Python SDK: FastAPI, async functions, one uvicorn process.

Run as `python -m tests.integration.durability.apps.sdk PORT SERVER_URL JOURNAL`.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import sys
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import fastapi
import inngest
import inngest.fast_api
import orjson
import uvicorn

from tests.integration.durability import jobs
from tests.integration.durability.journal import Writer

STEP_MAX_S = 0.004

Messages = Callable[[], Awaitable[MutableMapping[str, Any]]]
Sends = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Jobs:
    """The functions, and what their steps write down."""

    def __init__(self, client: inngest.Inngest, journal: Writer) -> None:
        self._client = client
        self._journal = journal

    async def _step(self, run: str, name: str) -> str:
        token = uuid.uuid4().hex
        await asyncio.sleep(random.uniform(0, STEP_MAX_S))
        self._journal.ran(run, name, token)
        return token

    async def _failing_step(self, ctx: inngest.Context, name: str) -> str:
        if ctx.attempt == 0:
            raise RuntimeError("first try")
        return await self._step(ctx.run_id, name)

    async def _third(self, ctx: inngest.Context, name: str, child: inngest.Function[Any]) -> Any:
        if name == "invoke":
            return await ctx.step.invoke(
                name, function=child, data={"parent": ctx.event.data["key"]}, timeout=600_000
            )
        if name == "wait":
            match = f"async.data.key == {ctx.event.data['key']}"
            found = await ctx.step.wait_for_event(
                name, event=jobs.GO, if_exp=match, timeout=datetime.timedelta(minutes=10)
            )
            return found.data if found else None
        return await ctx.step.sleep(name, datetime.timedelta(milliseconds=jobs.SLEEP_MS))

    async def _all_steps(self, ctx: inngest.Context, job: str, child: inngest.Function[Any] | None) -> Any:
        results: dict[str, Any] = {}
        for name in jobs.step_names(job):
            if child is not None and name in jobs.THIRD.values():
                results[name] = await self._third(ctx, name, child)
            elif job == jobs.FLAKY and name == "s1":
                results[name] = await ctx.step.run(name, self._failing_step, ctx, name)
            else:
                results[name] = await ctx.step.run(name, self._step, ctx.run_id, name)
        key = ctx.event.data.get("key", -1)
        self._journal.ended(ctx.run_id, key if isinstance(key, int) else -1)
        if job == jobs.FAILING:
            raise inngest.NonRetriableError("on purpose")
        return results

    def functions(self) -> list[inngest.Function[Any]]:
        """All functions of the app."""

        async def handler(ctx: inngest.Context) -> None:
            await self._all_steps(ctx, jobs.HANDLERS[jobs.FAILING], None)

        def make(job: str, child: inngest.Function[Any] | None) -> inngest.Function[Any]:
            @self._client.create_function(
                fn_id=job,
                trigger=inngest.TriggerEvent(event=f"{jobs.APP}/{job}"),
                retries=jobs.RETRIES,
                on_failure=handler if job == jobs.FAILING else None,
            )
            async def run(ctx: inngest.Context) -> Any:
                return await self._all_steps(ctx, job, child)

            return run

        child = make(jobs.CHILD, None)
        names = (jobs.FIVE, jobs.FLAKY, jobs.FAILING, jobs.PARENT, jobs.WAITER, jobs.SLEEPER)
        return [child, *(make(name, child) for name in names)]


def noting(app: Any, journal: Writer) -> Any:
    """The ASGI app, with each call of the server written down before it is handled."""

    async def wrapped(scope: MutableMapping[str, Any], receive: Messages, send: Sends) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        asked = parse_qs(scope["query_string"].decode())
        journal.call(orjson.loads(body), asked["stepId"][0])
        replayed = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> MutableMapping[str, Any]:
            return next(replayed, None) or await receive()

        await app(scope, again, send)

    return wrapped


def main(port: int, server_url: str, journal: Path) -> None:
    """Serve until killed."""
    writer = Writer(journal)
    client = inngest.Inngest(
        app_id=jobs.APP, is_production=False, api_base_url=server_url, event_api_base_url=server_url
    )
    app = fastapi.FastAPI()
    inngest.fast_api.serve(app, client, Jobs(client, writer).functions())
    uvicorn.run(
        noting(app, writer), host="127.0.0.1", port=port, loop="uvloop", log_level="warning", access_log=False
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

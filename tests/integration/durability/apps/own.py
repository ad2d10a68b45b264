"""The jobs on Perdure's own SDK: a plain ASGI app, async functions that post each finished step, one uvicorn process.

Run as `python -m tests.integration.durability.apps.own PORT SERVER_URL JOURNAL`.
"""

from __future__ import annotations

import asyncio
import random
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

import perdure
from perdure.protocol.capabilities import CHECKPOINTS_PATH
from perdure.sdk.serve import asgi
from tests.integration.durability import jobs
from tests.integration.durability.apps.sdk import STEP_MAX_S, noting
from tests.integration.durability.journal import Writer


class Jobs:
    """The functions, and what their steps write down."""

    def __init__(self, app: perdure.App, journal: Writer) -> None:
        self._app = app
        self._journal = journal
        self._child = self._make(jobs.CHILD)
        for name in (jobs.FIVE, jobs.FLAKY, jobs.FAILING, jobs.PARENT, jobs.WAITER, jobs.SLEEPER):
            self._make(name)

    def _make(self, job: str) -> Any:
        async def handler(failure: perdure.FailureData, step: perdure.Step) -> None:
            await self._all_steps(step, -1, jobs.HANDLERS[jobs.FAILING])

        async def run(event: dict[str, Any], step: perdure.Step) -> Any:
            return await self._all_steps(step, event.get("key", -1), job)

        own = handler if job == jobs.FAILING else None
        declare = self._app.function(f"{jobs.APP}/{job}", id=job, retries=jobs.RETRIES, on_failure=own)
        return declare(run)

    async def _step(self, run: str, name: str) -> str:
        token = uuid.uuid4().hex
        await asyncio.sleep(random.uniform(0, STEP_MAX_S))
        self._journal.ran(run, name, token)
        return token

    async def _failing_step(self, attempt: int, run: str, name: str) -> str:
        if attempt == 0:
            raise RuntimeError("first try")
        return await self._step(run, name)

    async def _third(self, step: perdure.Step, name: str, key: int) -> Any:
        if name == "invoke":
            return await step.invoke(name, self._child, {"parent": key}, timeout=600)
        if name == "wait":
            found = await step.wait_for_event(name, jobs.GO, when=f"async.data.key == {key}", timeout=600)
            return found.data if found else None
        return await step.sleep(name, jobs.SLEEP_MS / 1000)

    async def _all_steps(self, step: perdure.Step, key: int, job: str) -> Any:
        results: dict[str, Any] = {}
        for name in jobs.step_names(job):
            if name in jobs.THIRD.values():
                results[name] = await self._third(step, name, key)
            elif job == jobs.FLAKY and name == "s1":
                results[name] = await step.run(name, self._failing_step, step.attempt, step.run_id, name)
            else:
                results[name] = await step.run(name, self._step, step.run_id, name)
        self._journal.ended(step.run_id, key)
        if job == jobs.FAILING:
            raise perdure.NonRetriableError("on purpose")
        return results


def watch(app: perdure.App, journal: Writer) -> None:
    """Write down how many checkpoints each request with several of them carries."""
    call = app.api.call

    async def watched(method: str, path: str, body: bytes = b"", *more: Any, **options: Any) -> Any:
        answer = await call(method, path, body, *more, **options)
        if path == CHECKPOINTS_PATH:
            journal.posted_together(len(msgspec.json.decode(body)), answer.status)
        return answer

    app.api.call = watched  # type: ignore[method-assign]


def main(port: int, server_url: str, journal: Path) -> None:
    """Serve until killed."""
    writer = Writer(journal)
    app = perdure.App(jobs.APP, url=server_url, dev=True)
    Jobs(app, writer)
    watch(app, writer)
    uvicorn.run(
        noting(asgi(app), writer),
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

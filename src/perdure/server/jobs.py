"""Drives the jobs of the shard: reads their runs, page by page, and gives each page to it.

A page is read beside the writer, and acted upon in one decision between others. Jobs that a restart has cut off go on
at the start, from the cursor that their last commit left.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import cast

from perdure.errors import RequestError, StoreUnavailable
from perdure.reading.port import RunFilter, RunPlace
from perdure.server.context import Server
from perdure.shard.commands import StepJob
from perdure.shard.job import Job, JobState

log = logging.getLogger("perdure.server")

PAGE = 50
"""Runs that one decision acts on: it takes some milliseconds."""
AGAIN_S = 1.0
"""How long it waits when the store or the shard takes nothing now."""


class JobDriver:
    """Goes on with every job that is not over. `look` after one has begun; `close` at the end."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def look(self) -> None:
        """Begin, or go on with, the jobs that nobody drives yet."""
        for job in list(self._server.shard.state.jobs.values()):
            if job.state is JobState.RUNNING and job.id not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._drive(job))
                self._tasks[job.id] = task
                task.add_done_callback(partial(self._forget, job.id))

    def _forget(self, job_id: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(job_id, None)

    async def close(self) -> None:
        """Leave the jobs where they are."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drive(self, job: Job) -> None:
        current: Job | None = job
        while current is not None and current.state is JobState.RUNNING:
            try:
                current = await self._step(current)
            except (RequestError, StoreUnavailable) as error:
                log.info("job %s waits: %s", job.id, error)
                await asyncio.sleep(AGAIN_S)
                current = self._server.shard.state.jobs.get(job.id)
            except Exception:
                log.exception("job %s has failed; it goes on at the next start", job.id)
                return

    async def _step(self, job: Job) -> Job | None:
        wanted = RunFilter(
            since=job.since,
            until=job.until,
            statuses=job.statuses,
            function_ids=(job.function_id,),
            ascending=True,
        )
        after = None if job.cursor is None else RunPlace(*job.cursor)
        page = await self._server.reader.list_runs(wanted, after=after, limit=PAGE)
        cursor = None
        if page:
            place = wanted.place(page[-1].run)
            cursor = (place.at, place.id)
        step = StepJob(
            job_id=job.id,
            before=job.cursor,
            cursor=cursor,
            run_ids=[listed.run.id for listed in page],
            last=len(page) < PAGE,
        )
        return cast("Job | None", await self._server.submit(step))

"""Drives the jobs of the shard: reads their runs, page by page, and gives each page to it.

A page is read beside the writer, and acted upon in one decision between others. Jobs that a restart has cut off go on
at the start, from the cursor that their last commit left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import NamedTuple, cast

from perdure.errors import RequestError, StoreUnavailable
from perdure.reading.port import MAX_COUNT, Reader, RunFilter, RunPlace
from perdure.server.context import Server
from perdure.shard.commands import StepJob, StopJob
from perdure.shard.job import Job, JobKind, JobState
from perdure.shard.jobs import meets

log = logging.getLogger("perdure.server")

PAGE = 50
"""Runs that one decision acts on: it takes some milliseconds."""
COUNTED_AT_ONCE = 100
"""Runs whose events are read together to count those that meet a condition."""
AGAIN_S = 1.0
"""How long it waits when the store or the shard takes nothing now."""


class Count(NamedTuple):
    """How many runs a job would act on. It is not `whole` if there are more."""

    matching: int
    whole: bool


def runs_of(job: Job) -> RunFilter:
    """The listing that a job goes through."""
    return RunFilter(
        since=job.since,
        until=job.until,
        statuses=job.statuses,
        function_ids=(job.function_id,),
        ascending=True,
    )


async def count_runs(reader: Reader, job: Job, now: int) -> Count:
    """Count the runs that a job would act on; goes through `MAX_COUNT` runs at most."""
    wanted = runs_of(job)
    if job.condition is None:
        found = await reader.count_runs(wanted, most=MAX_COUNT)
        return Count(found, found < MAX_COUNT)
    matching = seen = 0
    after: RunPlace | None = None
    while seen < MAX_COUNT:
        page = await reader.list_runs(wanted, after=after, limit=COUNTED_AT_ONCE, payloads=True)
        matching += sum(meets(job, listed.event, now) for listed in page if listed.event is not None)
        seen += len(page)
        if len(page) < COUNTED_AT_ONCE:
            return Count(matching, True)
        after = wanted.place(page[-1].run)
    return Count(matching, False)


def _passes(error: RequestError | StoreUnavailable) -> bool:
    """Whether what failed may do later."""
    return isinstance(error, StoreUnavailable) or error.status == 503


def _tell_end(job: Job) -> None:
    what, done = ("bulk cancellation", "cancelled") if job.kind is JobKind.CANCEL else ("replay", "run again")
    log.info(
        "%s %s of %s is %s: %d %s, %d refused",
        what,
        job.id,
        job.slug,
        job.state.value,
        job.done,
        done,
        job.refused,
    )


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
                if not _passes(error):
                    await self._give_up(job, error)
                    return
                log.info("job %s waits: %s", job.id, error)
                await asyncio.sleep(AGAIN_S)
                current = self._server.shard.state.jobs.get(job.id)
            except Exception as error:
                await self._give_up(job, error)
                return
        if current is not None:
            _tell_end(current)

    async def _give_up(self, job: Job, error: Exception) -> None:
        """Stop a job that cannot go on. If not even that can be done, it goes on at the next start."""
        log.error("job %s is stopped where it is", job.id, exc_info=error)
        reason = "The server could not go on with it; its log says why."
        with contextlib.suppress(RequestError):
            await self._server.submit(StopJob(job_id=job.id, reason=reason))

    async def _step(self, job: Job) -> Job | None:
        wanted = runs_of(job)
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

"""Jobs over many runs: replays and bulk cancellations, with their progress."""

from __future__ import annotations

from typing import Literal, cast

import msgspec

from perdure.core.model import RunStatus
from perdure.errors import RequestError
from perdure.server.api.endpoint import Asked, Endpoint, Nothing
from perdure.server.bulk import LIVE, check_condition, new_job, start_job
from perdure.server.context import Server
from perdure.server.jobs import count_runs
from perdure.server.operating import served_function
from perdure.shard.commands import StopJob
from perdure.shard.job import Job, JobKind

Kind = Literal["cancel", "replay"]
Ended = Literal["COMPLETED", "FAILED", "CANCELLED", "SKIPPED"]
SHOWN = 100


class JobBody(msgspec.Struct, frozen=True, kw_only=True):
    """What to do with which runs of a function (its slug): those that were queued from `since` on and before `until`
    (ms; all until now if nothing is said).

    A replay takes runs that ended with one of `statuses`, failed ones if none is named; a cancellation those that have
    not ended. `condition` is CEL over the first event of a run.
    """

    kind: Kind
    function: str
    since: int = 0
    until: int | None = None
    statuses: tuple[Ended, ...] = ()
    condition: str = ""


class JobShown(msgspec.Struct, frozen=True, kw_only=True):
    """A job and its progress: of `seen` runs so far `done` were acted on and `refused` could not be; `reason` is the
    last one why."""

    id: str
    kind: Kind
    function: str
    since: int
    until: int
    statuses: tuple[str, ...]
    condition: str | None
    state: Literal["running", "done", "stopped"]
    created_at: int
    ended_at: int | None
    seen: int
    done: int
    refused: int
    reason: str | None


class JobsQuery(msgspec.Struct, frozen=True):
    """Of which function (its slug); of all if none is named."""

    function: str = ""


class Jobs(msgspec.Struct, frozen=True):
    """Jobs, newest first."""

    jobs: list[JobShown]


class JobCount(msgspec.Struct, frozen=True):
    """How many runs a job would act on; more than that if it is not `whole`."""

    matching: int
    whole: bool


def _shown(job: Job) -> JobShown:
    return JobShown(
        id=job.id,
        kind=job.kind.value,
        function=job.slug,
        since=job.since,
        until=job.until,
        statuses=job.statuses,
        condition=job.condition,
        state=job.state.value,
        created_at=job.created_at,
        ended_at=job.ended_at,
        seen=job.seen,
        done=job.done,
        refused=job.refused,
        reason=job.reason or None,
    )


def _job(server: Server, body: JobBody) -> Job:
    """The job that is asked for. Raises `RequestError`."""
    function = served_function(server, body.function)
    kind = JobKind(body.kind)
    now = server.shard.now()
    # A cancellation takes what is queued in this very millisecond; what a replay starts is no part of it.
    newest = now + 1 if kind is JobKind.CANCEL else now
    until = newest if body.until is None else min(body.until, newest)
    if until <= body.since:
        raise RequestError(400, "since must be before until, and in the past")
    if kind is JobKind.CANCEL and body.statuses:
        raise RequestError(400, "statuses are for replays: what is cancelled has not ended")
    if body.condition:
        check_condition(body.condition)
    statuses = LIVE if kind is JobKind.CANCEL else body.statuses or (RunStatus.FAILED,)
    row = server.shard.state.function_rows[function.id]
    return new_job(server, kind, row, (body.since, until), statuses, body.condition or None)


async def list_jobs(server: Server, asked: Asked[JobsQuery, Nothing]) -> Jobs:
    """Replays and bulk cancellations, newest first."""
    slug = asked.query.function
    jobs = [job for job in server.shard.state.jobs.values() if slug in ("", job.slug)]
    return Jobs([_shown(job) for job in sorted(jobs, key=lambda job: job.id, reverse=True)[:SHOWN]])


async def begin_job(server: Server, asked: Asked[Nothing, JobBody]) -> JobShown:
    """Start a replay or a bulk cancellation."""
    return _shown(await start_job(server, _job(server, asked.body)))


async def count_job(server: Server, asked: Asked[Nothing, JobBody]) -> JobCount:
    """How many runs a replay or a bulk cancellation would act on, without doing it."""
    return JobCount(*await count_runs(server.reader, _job(server, asked.body), server.shard.now()))


async def stop_job(server: Server, asked: Asked[Nothing, Nothing]) -> JobShown:
    """Stop a job where it is; what it has done stays."""
    job_id = asked.path["job_id"]
    if job_id not in server.shard.state.jobs:
        raise RequestError(
            404, f"there is no job {job_id[:60]}; jobs are forgotten some time after their end"
        )
    return _shown(cast("Job", await server.submit(StopJob(job_id=job_id))))


ENDPOINTS = [
    Endpoint("GET", "/api/jobs", list_jobs, Jobs, query=JobsQuery),
    Endpoint("POST", "/api/jobs", begin_job, JobShown, body=JobBody),
    Endpoint("POST", "/api/jobs/count", count_job, JobCount, body=JobBody),
    Endpoint("DELETE", "/api/jobs/{job_id}", stop_job, JobShown),
]

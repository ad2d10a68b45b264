"""Jobs over many runs: bulk cancellation, and replay.

A job names a function, a span of time and a condition. Whoever drives it reads the runs, a page at a time and in the
order of their ids, and gives each page to the shard, which acts on it and moves the job's cursor in the same commit.
So a job goes on after a restart where it was, does nothing twice, and never holds up other work for long. The runs
that a replay itself creates are later than the job, and no part of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from perdure.core.expressions import compile_expression
from perdure.core.flow.admission import Keys
from perdure.core.functions import Function
from perdure.core.model import Run, RunStatus
from perdure.core.planning import plan_cancel
from perdure.errors import ExpressionError
from perdure.shard.job import Job, JobKind, JobState
from perdure.shard.keys import JOB
from perdure.shard.rerunning import start_rerun
from perdure.shard.rows import KeyRef, KeyRow
from perdure.shard.state import ApplyFault, State

log = logging.getLogger("perdure.shard")

KEEP_MS = 30 * 24 * 60 * 60 * 1_000
"""How long the record of a job that has ended is kept."""


class Page(NamedTuple):
    """Runs of a job that follow one another. `cursor` is the place of the last; `last` says that no more come."""

    run_ids: list[str]
    cursor: tuple[int, str] | None
    last: bool


def put_job(state: State, job: Job) -> Job:
    """Keep a job as it is now. A new one has those forgotten that have ended long ago."""
    if job.id not in state.jobs:
        old = [known.id for known in state.jobs.values() if _expires(known) and _expires(known) <= state.now]
        for job_id in old:
            del state.jobs[job_id]
    state.jobs[job.id] = job
    state.put_key(KeyRef(JOB, "", job.id), msgspec.json.encode(job), _expires(job))
    return job


def _expires(job: Job) -> int:
    """When (ms) its record is forgotten; 0 if it is not."""
    return 0 if job.ended_at is None else job.ended_at + KEEP_MS


def restore_job(state: State, row: KeyRow) -> None:
    """Put back a job that was stored, unless it has ended long ago."""
    if not row.expires_at or row.expires_at > state.now:
        state.jobs[row.key] = msgspec.json.decode(row.value, type=Job)


def end_job(state: State, job: Job, reason: str = "") -> Job:
    """End a job where it is; what it has done stays done."""
    if job.state is not JobState.RUNNING:
        return job
    stopped = msgspec.structs.replace(
        job, state=JobState.STOPPED, reason=reason or job.reason, ended_at=state.now
    )
    return put_job(state, stopped)


def go_on(state: State, job: Job, page: Page, keys: Mapping[str, Keys], found: Mapping[KeyRef, bytes]) -> Job:
    """Act on a page of runs, which are in memory, and move the cursor.

    A run that goes wrong is counted as refused: the others of the page are acted upon, and only once.
    """
    done = refused = 0
    reason = job.reason
    for run_id in page.run_ids:
        run = state.memory.get(run_id)
        if run is None or not run.events or not meets(job, run.events[0], state.now):
            continue
        try:
            problem = _cancel(state, run) if job.kind is JobKind.CANCEL else _replay(state, run, keys, found)
        except ApplyFault:
            raise
        except Exception:
            log.exception("job %s could not act on run %s", job.id, run_id)
            problem = f"The server could not act on run {run_id}; its log says why."
        if problem is None:
            done += 1
        elif problem:
            refused += 1
            reason = problem
    job = msgspec.structs.replace(
        job,
        cursor=page.cursor or job.cursor,
        seen=job.seen + len(page.run_ids),
        done=job.done + done,
        refused=job.refused + refused,
        reason=reason,
        state=JobState.DONE if page.last else job.state,
        ended_at=state.now if page.last else None,
    )
    return put_job(state, job)


def meets(job: Job, body: bytes, now: int) -> bool:
    """Whether a run whose first event is `body` meets the job's condition. One that cannot be computed is not met."""
    if job.condition is None:
        return True
    try:
        event = msgspec.json.decode(body)
        return compile_expression(job.condition).is_true({"event": event}, now)
    except ExpressionError:
        return False


def _cancel(state: State, run: Run) -> str | None:
    """Cancel a run, unless it has ended. None if that was done."""
    if run.status.ended:
        return ""
    state.apply(plan_cancel(run, state.now, "A bulk cancellation has cancelled it."))
    return None


def _replay(state: State, run: Run, keys: Mapping[str, Keys], found: Mapping[KeyRef, bytes]) -> str | None:
    """Run a run again. None if that was done, else why not."""
    function: Function | None = state.functions.by_id.get(run.function_id)
    if function is None or function.archived:
        return "The function is not served any more."
    if not run.status.ended:
        return ""
    new = start_rerun(state, function, run, keys.get(run.id), found)
    if new.status is RunStatus.SKIPPED:
        return "Skipped: the function is paused, or another run holds its singleton."
    return None

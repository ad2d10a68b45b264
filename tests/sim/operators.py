"""People who run things again, replay or cancel many runs at once, and what must hold of that."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import msgspec

from perdure.core.model import FromStep
from perdure.errors import RequestError
from perdure.protocol.ids import app_uuid, new_ulid
from perdure.shard.changes import Changes
from perdure.shard.commands import MoveClock, Rerun, StartJob, StepJob
from perdure.shard.job import Job, JobKind, JobState
from perdure.shard.keys import JOB
from perdure.shard.rows import RunRow
from tests.sim.memory_store import Tables
from tests.sim.programs import Program, Step, hashed
from tests.sim.server import ConnectionLost, Refused

if TYPE_CHECKING:
    from tests.sim.checks import Checks
    from tests.sim.world import World

LIVE = ("QUEUED", "RUNNING")
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
MOST_REPLAYED = 12
"""A replay of more runs than this would make a history too long."""


class Operators:
    """Everybody who works on runs that are there already."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"operators {world.scenario.seed}")

    async def act(self) -> None:
        """Run one run again, or begin a job over many."""
        kind = self._random.random()
        if kind < 0.6:
            await self._rerun()
        else:
            await self._begin(JobKind.CANCEL if kind < 0.8 else JobKind.REPLAY)

    async def travel(self) -> None:
        """Move the clock on, to what comes next or by a while."""
        to_next = self._random.random() < 0.5
        by_ms = 0 if to_next else self._random.choice((1, 1_000, 60_000, 3_600_000, 86_400_000))
        self._world.trace.note(f"operator: moves the clock by {by_ms or 'what is to come'}")
        self._world.checks.commits.again.moves.append(by_ms)
        try:
            await self._world.server.submit(MoveClock(by_ms=by_ms, to_next=to_next))
        except (Refused, ConnectionLost, RequestError) as error:
            self._world.trace.note(f"operator: {error!r}")

    async def _rerun(self) -> None:
        random, tables = self._random, self._world.disk.shard(0)
        runs = [row for row in tables.runs.values() if row.status != "SKIPPED"]
        if not runs:
            return
        row = random.choice(runs)
        program = next(p for p in self._world.programs if p.id == row.function_id)
        start = self._start(program) if random.random() < 0.6 else None
        said = "the start" if start is None else f"{start.name} with {start.arguments!r}"
        self._world.trace.note(f"operator: runs it again, from {said}", row.id)
        self._world.checks.commits.again.asked[row.id] += 1
        try:
            await self._world.server.submit(Rerun(run=row.id, from_step=start))
        except (Refused, ConnectionLost, RequestError) as error:
            self._world.trace.note(f"operator: {error!r}", row.id)

    def _start(self, program: Program) -> FromStep | None:
        nodes = list(program.steps.values())
        if not nodes:
            return None
        node = self._random.choice(nodes)
        if isinstance(node, Step) and self._random.random() < 0.5:
            return FromStep(hashed(node), node.id, msgspec.Raw(b"[%d]" % self._random.randint(0, 9)))
        return FromStep(hashed(node), node.id)

    # Jobs, as `perdure.server.jobs` drives them

    async def _begin(self, kind: JobKind) -> None:
        world, random = self._world, self._random
        tables, now = world.disk.shard(0), world.now()
        program = random.choice(world.programs)
        statuses = LIVE if kind is JobKind.CANCEL else ENDED
        job = Job(
            id=new_ulid(now, random.randbytes(10)),
            kind=kind,
            function_id=program.id,
            slug=program.slug,
            app_id=app_uuid(program.app),
            since=0 if random.random() < 0.7 else now - 60_000,
            until=now,
            statuses=statuses,
            created_at=now,
            condition=random.choice((None, None, "event.data.n > 3")),
        )
        if kind is JobKind.REPLAY and len(_runs_of(tables, job)) > MOST_REPLAYED:
            return
        world.checks.commits.again.jobs[job.id] = job
        world.trace.note(f"operator: begins job {job}")
        try:
            await world.server.submit(StartJob(job=job))
        except (Refused, ConnectionLost, RequestError) as error:
            world.trace.note(f"operator: job {job.id}: {error!r}")
        await self._drive(job.id)

    async def _drive(self, job_id: str) -> None:
        """Give the job its pages until it is over; it goes on at the next server, if that one dies."""
        world = self._world
        while True:
            row = world.disk.shard(0).keys.get((JOB, "", job_id))  # type: ignore[call-overload]
            if row is None and not world.calm and self._random.random() < 0.5:
                return  # the beginning was lost, and nobody asks again
            if row is None:
                return
            job = msgspec.json.decode(row.value, type=Job)
            if job.state is not JobState.RUNNING:
                return
            size = self._random.choice((1, 2, 5))
            page = _runs_of(world.disk.shard(0), job)[:size]
            await asyncio.sleep(self._random.choice((0.0, 0.001, 1.0)))
            step = StepJob(
                job_id=job.id,
                before=job.cursor,
                cursor=(page[-1].created_at, page[-1].id) if page else None,
                run_ids=[run.id for run in page],
                last=len(page) < size,
            )
            try:
                await world.server.submit(step)
            except (Refused, ConnectionLost, RequestError) as error:
                world.trace.note(f"operator: job {job.id}: {error!r}")
                await asyncio.sleep(1)


def _runs_of(tables: Tables, job: Job) -> list[RunRow]:
    """The runs that a job has still to look at, in their order."""
    found = [
        row
        for row in tables.runs.values()
        if row.function_id == job.function_id
        and row.status in job.statuses
        and job.since <= row.created_at < job.until
        and (job.cursor is None or (row.created_at, row.id) > tuple(job.cursor))
    ]
    return sorted(found, key=lambda row: (row.created_at, row.id))


class Again:
    """What was asked for, and what must come of it: a run is run again as often as somebody wished, with its events."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        self.asked: Counter[str] = Counter()
        """How often somebody asked for another run of a run."""
        self.jobs: dict[str, Job] = {}
        self.moves: list[int] = []
        """By how much (ms) somebody moved the clock; 0 for to what comes next."""
        self._over: set[str] = set()
        self._made: Counter[str] = Counter()

    def committed(self, tables: Tables, changes: Changes, created: list[RunRow]) -> None:
        """A batch has been written; it has `created` these runs."""
        for row in created:
            if row.original_run_id is not None:
                self._check(tables, row, row.original_run_id)
        for ref, key in changes.keys.items():
            if ref.kind == JOB and key is not None:
                self._check_job(tables, msgspec.json.decode(key.value, type=Job))

    def _check(self, tables: Tables, row: RunRow, original: str) -> None:
        self._made[original] += 1
        most = self.asked[original] + sum(self._replays(tables, job, original) for job in self.jobs.values())
        if self._made[original] > most:
            self._checks.fail(
                "again", f"{original} is run again {self._made[original]} times, not {most}", row.id
            )
        if json.loads(row.receipts) != json.loads(tables.runs[original].receipts):
            self._checks.fail("again", "it has other events than the run that it repeats", row.id)

    def _replays(self, tables: Tables, job: Job, run_id: str) -> bool:
        row = tables.runs[run_id]
        return (
            job.kind is JobKind.REPLAY and row.function_id == job.function_id and row.created_at < job.until
        )

    def cancels(self, row: RunRow) -> bool:
        """Whether a job may have cancelled a run."""
        return any(
            job.kind is JobKind.CANCEL and job.function_id == row.function_id for job in self.jobs.values()
        )

    def travelled(self, before: int, after: int) -> None:
        """The clock has been moved, so far (ms) ahead of the world's: somebody wanted it, and it happens once.

        A batch may hold several moves.
        """
        by_ms = after - before
        known = [wish for wish in self.moves if wish]
        for count in range(1, len(known) + 1):
            for wishes in itertools.combinations(known, count):
                if sum(wishes) == by_ms:
                    for wish in wishes:
                        self.moves.remove(wish)
                    return
        if by_ms < 0 or 0 not in self.moves:
            self._checks.fail("travel", f"the clock is moved by {by_ms} ms, and nobody wished it")
        else:
            self.moves.remove(0)

    def _check_job(self, tables: Tables, job: Job) -> None:
        """When a bulk cancellation is done, none of its runs is live."""
        if job.state is not JobState.DONE or job.id in self._over:
            return
        self._over.add(job.id)
        if job.kind is not JobKind.CANCEL or self._checks.commits.flow.jumped_at:
            return
        for row in _runs_of(tables, msgspec.structs.replace(job, cursor=None)):
            body = json.loads(tables.events[json.loads(row.receipts)[0]].body)
            if job.condition is None or (body["data"].get("n") or 0) > 3:
                self._checks.fail("again", f"job {job.id} is done, and the run is live", row.id)

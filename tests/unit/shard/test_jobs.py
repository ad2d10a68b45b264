"""Jobs over many runs, page by page: nothing twice, whatever becomes of a commit or of one of the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from perdure.core.flow.admission import Pause
from perdure.errors import StoreUnavailable
from perdure.shard import jobs
from perdure.shard.commands import PauseFunction, RemoveApp, StartJob, StepJob, StopJob
from perdure.shard.job import Job, JobKind, JobState
from perdure.shard.state import ApplyFault
from tests.unit.shard.shards import World, an_event, config, sleep, virtually

LIVE = ("QUEUED", "RUNNING")


async def world(count: int, end: Callable[[Any], None] | None = None, **rules: Any) -> World:
    """A function `f`, and so many runs of it, whose first calls were answered with `end`."""
    w = await World().start(config("f", "go", **rules))
    await w.send(*[an_event("go", {"n": n}) for n in range(count)])
    await w.settle()
    while end is not None and w.network.open:
        for call in w.network.open:
            end(call)
        await w.settle()
    return w


def asleep(call: Any) -> None:
    call.ops(sleep("nap", "1h"))


def completed(call: Any) -> None:
    call.returns()


async def start(w: World, kind: JobKind, statuses: tuple[str, ...], condition: str | None = None) -> Job:
    (function,) = w.shard.state.functions.by_id.values()
    job = Job(
        id="01JOB",
        kind=kind,
        function_id=function.id,
        slug=function.slug,
        app_id=function.app_id,
        since=0,
        until=w.clock.now() + 1,
        statuses=statuses,
        created_at=w.clock.now(),
        condition=condition,
    )
    started: Job = await w.submit(StartJob(job=job))
    return started


def runs(w: World) -> list[str]:
    return sorted(w.tables.runs)


def a_step(job: Job, run_ids: list[str], last: bool = False) -> StepJob:
    cursor = (0, run_ids[-1]) if run_ids else None
    return StepJob(job_id=job.id, before=job.cursor, cursor=cursor, run_ids=run_ids, last=last)


def statuses(w: World) -> Counter[str]:
    return Counter(run.status for run in w.tables.runs.values())


def reruns(w: World) -> Counter[str | None]:
    return Counter(run.original_run_id for run in w.tables.runs.values() if run.original_run_id)


def failing(times: int) -> Callable[..., None]:
    left = [times]

    def fail(*_: object) -> None:
        if left[0]:
            left[0] -= 1
            raise StoreUnavailable("no")

    return fail


class TestPages:
    @virtually
    async def test_cursor_and_counts_move_with_each(self) -> None:
        w = await world(5, asleep)
        job = await start(w, JobKind.CANCEL, LIVE, "event.data.n != 1")
        first, second = runs(w)[:3], runs(w)[3:]
        job = await w.submit(a_step(job, first))
        assert (job.cursor, job.seen, job.done, job.state) == ((0, first[-1]), 3, 2, JobState.RUNNING)
        assert statuses(w) == {"CANCELLED": 2, "RUNNING": 3}
        job = await w.submit(a_step(job, second, last=True))
        assert (job.seen, job.done, job.state, job.ended_at) == (5, 4, JobState.DONE, w.clock.now())
        assert statuses(w) == {"CANCELLED": 4, "RUNNING": 1}

    @virtually
    async def test_one_that_was_taken_already_does_nothing(self) -> None:
        w = await world(2, completed)
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        page = runs(w)
        after = await w.submit(a_step(job, page))
        again = await w.submit(a_step(job, page))
        assert again == after
        assert set(reruns(w).values()) == {1}

    @pytest.mark.parametrize("landed", [False, True])
    def test_over_a_commit_that_fails(self, landed: bool) -> None:
        @virtually
        async def test() -> None:
            w = await world(3, completed)
            job = await start(w, JobKind.REPLAY, ("COMPLETED",))
            page = runs(w)
            if landed:
                w.store.after_commit = failing(1)
            else:
                w.store.before_commit = failing(1)
            job = await w.submit(a_step(job, page, last=True))
            assert (job.seen, job.done, job.state) == (3, 3, JobState.DONE)
            assert reruns(w) == dict.fromkeys(page, 1)

        test()

    @virtually
    async def test_goes_on_after_a_restart_where_it_was(self) -> None:
        w = await world(4, completed)
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        page = runs(w)
        await w.submit(a_step(job, page[:2]))
        await w.restart()
        job = w.shard.state.jobs[job.id]
        assert (job.cursor, job.seen, job.done) == ((0, page[1]), 2, 2)
        job = await w.submit(a_step(job, page[2:], last=True))
        assert job.done == 4
        assert reruns(w) == dict.fromkeys(page, 1)

    @virtually
    async def test_stopped_it_takes_no_more(self) -> None:
        w = await world(2, asleep)
        job = await start(w, JobKind.CANCEL, LIVE)
        stopped = await w.submit(StopJob(job_id=job.id))
        assert (stopped.state, stopped.ended_at, stopped.reason) == (JobState.STOPPED, w.clock.now(), "")
        assert await w.submit(a_step(job, runs(w))) == stopped
        assert statuses(w) == {"RUNNING": 2}
        assert await w.submit(StopJob(job_id=job.id, reason="too late")) == stopped
        assert await w.submit(StopJob(job_id="unknown")) is None

    @virtually
    async def test_why_it_could_not_go_on(self) -> None:
        w = await world(0)
        job = await start(w, JobKind.CANCEL, LIVE)
        stopped = await w.submit(StopJob(job_id=job.id, reason="broken"))
        assert (stopped.state, stopped.reason) == (JobState.STOPPED, "broken")


class TestRuns:
    @virtually
    async def test_that_have_changed_since_the_page_was_read(self) -> None:
        w = await world(2, asleep)
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        job = await w.submit(a_step(job, [*runs(w), "01GONE"], last=True))
        assert (job.seen, job.done, job.refused) == (3, 0, 0), "one that lives is not replayed"
        w = await world(2, completed)
        job = await start(w, JobKind.CANCEL, LIVE)
        job = await w.submit(a_step(job, runs(w), last=True))
        assert (job.seen, job.done, job.refused) == (2, 0, 0), "one that has ended is not cancelled"

    @virtually
    async def test_that_leave_memory_in_between(self) -> None:
        w = await world(30, completed)
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        page = runs(w)
        await w.restart()
        assert not w.shard.state.memory.runs
        job = await w.submit(a_step(w.shard.state.jobs[job.id], page, last=True))
        assert job.done == 30
        assert reruns(w) == dict.fromkeys(page, 1)

    def test_one_that_goes_wrong_is_refused_and_the_others_go_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @virtually
        async def test() -> None:
            w = await world(3, completed)
            job = await start(w, JobKind.REPLAY, ("COMPLETED",))
            page, rerun = runs(w), jobs.start_rerun

            def fail(state: Any, function: Any, run: Any, *more: Any) -> Any:
                if run.id == page[1]:
                    raise ValueError("a body that is no event")
                return rerun(state, function, run, *more)

            monkeypatch.setattr(jobs, "start_rerun", fail)
            job = await w.submit(a_step(job, page, last=True))
            assert (job.done, job.refused, page[1] in job.reason) == (2, 1, True)
            assert reruns(w) == {page[0]: 1, page[2]: 1}
            assert not w.tables.quarantine

        test()

    def test_one_that_breaks_the_memory_is_decided_again_from_the_store(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @virtually
        async def test() -> None:
            w = await world(3, asleep)
            job = await start(w, JobKind.CANCEL, LIVE)
            page, cancel, faults = runs(w), jobs.plan_cancel, [1]

            def fail(run: Any, *more: Any) -> Any:
                if run.id == page[1] and faults[0]:
                    faults[0] -= 1
                    raise ApplyFault("half-way")
                return cancel(run, *more)

            monkeypatch.setattr(jobs, "plan_cancel", fail)
            with pytest.raises(Exception, match="quarantine"):
                await w.submit(a_step(job, page))
            assert statuses(w) == {"RUNNING": 3}, "nothing of the page has happened"
            job = await w.submit(a_step(w.shard.state.jobs[job.id], page, last=True))
            assert job.done == 3

        test()

    @pytest.mark.parametrize(
        "condition", ["event.data.missing.x == 1", "event.data.n / 0 == 1", "event.data.n < 'x'"]
    )
    def test_condition_that_cannot_be_computed_is_not_met(self, condition: str) -> None:
        @virtually
        async def test() -> None:
            w = await world(2, asleep)
            job = await start(w, JobKind.CANCEL, LIVE, condition)
            job = await w.submit(a_step(job, runs(w), last=True))
            assert (job.seen, job.done, job.refused) == (2, 0, 0)

        test()

    @virtually
    async def test_of_a_function_that_is_archived_meanwhile(self) -> None:
        w = await world(2, completed)
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        await w.submit(RemoveApp(app_id=job.app_id))
        job = await w.submit(a_step(job, runs(w), last=True))
        assert (job.done, job.refused, job.reason) == (0, 2, "The function is not served any more.")

    @virtually
    async def test_of_a_singleton_within_one_page(self) -> None:
        w = await world(1, completed, singleton={"mode": "skip", "key": "event.data.n"})
        await w.send(an_event("go", {"n": 0}), an_event("go", {"n": 1}))
        for call in w.network.open:
            call.returns()
        await w.settle()
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        job = await w.submit(a_step(job, runs(w), last=True))
        assert (job.done, job.refused) == (2, 1), "one for each key"
        assert statuses(w)["SKIPPED"] == 1

    @virtually
    async def test_of_a_singleton_that_cancels_within_one_page(self) -> None:
        w = await World().start(config("f", "go", singleton={"mode": "cancel"}))
        for _ in range(3):
            await w.send(an_event("go"))
            (await w.call()).returns()
            await w.settle()
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        job = await w.submit(a_step(job, runs(w), last=True))
        assert job.done == 3
        await w.settle()
        found = statuses(w)
        assert (found["COMPLETED"], found["CANCELLED"]) == (3, 2), "the last one is left"

    @virtually
    async def test_of_a_paused_function_are_held(self) -> None:
        w = await world(2, completed)
        job = await start(w, JobKind.REPLAY, ("COMPLETED",))
        await w.submit(PauseFunction(slug=job.slug, pause=Pause.HOLD))
        job = await w.submit(a_step(job, runs(w), last=True))
        await w.settle()
        assert (job.done, len(w.network.open)) == (2, 0)
        await w.submit(PauseFunction(slug=job.slug, pause=Pause.NO))
        await w.settle()
        assert len(w.network.open) == 2


class TestRecords:
    def test_are_forgotten_long_after_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @virtually
        async def test() -> None:
            monkeypatch.setattr(jobs, "KEEP_MS", 60_000)
            w = await world(0)
            job = await start(w, JobKind.CANCEL, LIVE)
            await w.submit(StopJob(job_id=job.id))
            await w.sleep(50)
            await w.restart()
            assert w.shard.state.jobs[job.id].state is JobState.STOPPED
            await w.sleep(20)
            await w.restart()
            assert job.id not in w.shard.state.jobs

        test()

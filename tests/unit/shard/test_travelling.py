"""Travel in time in the shard: what the clock brings about, what it leaves alone, and what a restart keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.errors import RequestError
from perdure.protocol.ids import ulid_time_ms
from perdure.shard.commands import CancelRun, MoveClock, Rerun
from perdure.shard.keys import CLOCK
from perdure.shard.travel import Timer, Travel
from perdure.shard.travelling import MAX_AHEAD_MS
from tests.sim.virtual_time import START_MS
from tests.unit.shard.shards import World, an_event, config, invoke, sleep, virtually, wait

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000


async def world(**rules: Any) -> World:
    return await World().start(config("f", "go", **rules))


async def move(w: World, by: int = 0, *, to_next: bool = False) -> Travel:
    """Move the clock, and let happen what follows at once."""
    travel = await w.submit(MoveClock(by_ms=by, to_next=to_next))
    assert isinstance(travel, Travel)
    await w.settle()
    return travel


async def sleeping(w: World, time: str = "30d") -> str:
    """A run that sleeps."""
    await w.send(an_event("go"))
    call = await w.call()
    call.ops(sleep("s", time))
    await w.settle()
    return call.run_id


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()


def kinds(timers: list[Timer]) -> list[str]:
    return [timer.kind for timer in timers]


class TestMoving:
    @virtually
    async def test_a_sleep_of_thirty_days_is_over_at_once(self) -> None:
        w = await world()
        run = await sleeping(w)
        travel = await move(w, to_next=True)
        assert travel.ahead == travel.now - travel.before == 30 * DAY
        assert [(timer.kind, timer.run_id, timer.name) for timer in travel.passed] == [("sleep", run, "s")]
        (await w.call()).returns()
        await w.settle()
        assert w.run(run).status == "COMPLETED"
        assert w.clock.now() < START_MS + SECOND

    @virtually
    async def test_by_a_duration_only_what_is_due_by_then_happens(self) -> None:
        w = await world()
        await sleeping(w, "1h")
        await sleeping(w, "3h")
        travel = await move(w, 2 * HOUR)
        assert (kinds(travel.passed), travel.more) == (["sleep"], False)
        assert travel.next is not None
        assert travel.next.due == START_MS + 3 * HOUR
        assert len(w.network.open) == 1

    @virtually
    async def test_what_is_due_at_one_time_happens_together(self) -> None:
        w = await world()
        for _ in range(3):
            await sleeping(w, "1d")
        await move(w, to_next=True)
        assert len(w.network.open) == 3

    @virtually
    async def test_looking_moves_and_stores_nothing(self) -> None:
        w = await world()
        await sleeping(w, "1h")
        travel = await move(w)
        assert (travel.ahead, travel.now, travel.passed) == (0, travel.before, [])
        assert travel.next is not None
        assert travel.next.kind == "sleep"
        assert not [ref for ref in w.tables.keys if ref.kind == CLOCK]

    @virtually
    async def test_time_goes_on_from_there(self) -> None:
        w = await world()
        await sleeping(w, "1h")
        await move(w, HOUR - 10 * SECOND)
        assert not w.network.open
        await w.sleep(11)
        assert len(w.network.open) == 1

    @virtually
    async def test_records_of_runs_go_by_the_clock(self) -> None:
        w = await world()
        run = await sleeping(w)
        await move(w, to_next=True)
        (await w.call()).returns()
        await w.settle()
        assert w.run(run).created_at < START_MS + SECOND
        assert (w.run(run).ended_at or 0) >= START_MS + 30 * DAY
        times = [row.at for row in w.tables.history[run].values()]
        assert times == sorted(times)
        assert times[-1] >= START_MS + 30 * DAY

    @virtually
    async def test_what_is_settled_otherwise_is_not_next(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(wait("w", "answer", "1h"))
        await w.settle()
        await w.send(an_event("answer"))
        (await w.call()).ops(sleep("s", "2h"))
        await w.settle()
        travel = await move(w, to_next=True)
        assert kinds(travel.passed) == ["sleep"]
        assert travel.ahead > HOUR

    @virtually
    async def test_runs_that_are_not_in_memory_are_seen(self) -> None:
        w = await world()
        run = await sleeping(w)
        await w.restart()
        await w.settle()
        assert run not in w.shard.state.memory.runs
        travel = await move(w, to_next=True)
        assert [(timer.kind, timer.run_id, timer.name) for timer in travel.passed] == [("sleep", run, "s")]
        assert len(w.network.open) == 1

    @virtually
    async def test_more_than_can_be_named_are_told_of(self) -> None:
        w = await world()
        await w.send(*[an_event("go") for _ in range(120)])
        while w.network.open or not w.network.calls:
            await w.settle()
            for call in w.network.open:
                call.ops(sleep("s", "1h"))
            await w.settle()
        travel = await move(w, 2 * HOUR)
        assert (len(travel.passed), travel.more) == (100, True)
        assert len({call.run_id for call in w.network.calls}) == 120


class TestRules:
    @virtually
    async def test_a_retry(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).throws()
        await w.settle()
        travel = await move(w, to_next=True)
        assert kinds(travel.passed) == ["retry"]
        assert (await w.call()).body["ctx"]["attempt"] == 1

    @virtually
    async def test_a_wait_times_out(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(wait("w", "answer", "7d"))
        await w.settle()
        travel = await move(w, to_next=True)
        assert kinds(travel.passed) == ["event timeout"]
        assert (await w.call()).body["steps"] == {"w": None}

    @virtually
    async def test_a_debounce_and_a_batch(self) -> None:
        for rules, kind in (
            ({"debounce": {"period": "1d"}}, "debounce"),
            ({"batchEvents": {"maxSize": 10, "timeout": "50s"}}, "batch"),
        ):
            w = await world(**rules)
            await w.send(an_event("go"))
            await w.settle()
            assert not w.network.calls
            travel = await move(w, to_next=True)
            assert kinds(travel.passed) == [kind]
            await w.call()

    @virtually
    async def test_a_throttle_opens(self) -> None:
        w = await world(throttle={"limit": 1, "period": "1h"})
        await w.send(an_event("go"), an_event("go"), an_event("go"))
        await w.settle()
        assert len(w.network.calls) == 1
        for count in (2, 3):
            travel = await move(w, to_next=True)
            assert kinds(travel.passed) == ["throttle"]
            assert len(w.network.calls) == count

    @virtually
    async def test_a_rate_limit_lets_through_again(self) -> None:
        w = await world(rateLimit={"limit": 1, "period": "1h"})
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        assert len(w.network.calls) == 1
        await move(w, HOUR)
        await w.send(an_event("go"))
        await w.settle()
        assert len(w.network.calls) == 2

    @virtually
    async def test_an_id_that_was_taken_is_free_again(self) -> None:
        w = await world()
        for by, runs in ((0, 1), (0, 1), (DAY, 2)):
            await move(w, by)
            await w.send(an_event("go", id="one"))
            assert len(w.tables.runs) == runs

    @virtually
    async def test_a_run_is_cancelled_that_has_not_ended_in_time(self) -> None:
        w = await world(timeouts={"finish": "2h"})
        run = await sleeping(w, "30d")
        travel = await move(w, to_next=True)
        assert kinds(travel.passed) == ["finish timeout"]
        assert w.run(run).status == "CANCELLED"

    @virtually
    async def test_a_schedule_that_missed_many_times_fires_once(self) -> None:
        w = await World().start(config("f", {"cron": "0 * * * *"}))
        await move(w, 7 * DAY)
        assert len(w.tables.runs) == 1
        travel = await move(w, to_next=True)
        assert kinds(travel.passed) == ["cron"]
        assert travel.now - travel.before <= HOUR
        assert len(w.tables.runs) == 2

    @virtually
    async def test_an_event_that_was_put_off(self) -> None:
        w = await world()
        await w.send(an_event("go", at=START_MS + DAY))
        await w.settle()
        travel = await move(w, to_next=True)
        assert kinds(travel.passed) == ["start"]
        await w.call()


class TestWhatStaysWithTheWorld:
    @virtually
    async def test_events_and_their_ids(self) -> None:
        w = await world()
        await move(w, 30 * DAY)
        await w.send(an_event("go", at=w.clock.now()))
        call = await w.call()
        call.returns()
        await w.settle()
        near = pytest.approx(START_MS, abs=10 * SECOND)
        assert [ulid_time_ms(row.internal_id) for row in w.tables.events.values()] == [near] * 2
        assert ulid_time_ms(call.run_id) == w.run().created_at
        assert [row.received_at for row in w.tables.events.values()] == [near] * 2
        (finished,) = w.events("inngest/function.finished")
        assert finished["ts"] == near
        assert w.run().created_at == pytest.approx(START_MS + 30 * DAY, abs=10 * SECOND)

    @virtually
    async def test_an_event_sent_after_it_starts_at_once_and_is_matched(self) -> None:
        w = await world()
        await w.send(an_event("go"))
        (await w.call()).ops(wait("w", "answer", "60d"))
        await w.settle()
        await move(w, 30 * DAY)
        await w.send(an_event("answer", at=w.clock.now()))
        await w.call()
        await w.send(an_event("go", at=w.clock.now()))
        await w.settle()
        assert len(w.network.open) == 2

    @virtually
    async def test_a_time_that_an_app_names_is_read_by_its_own_clock(self) -> None:
        w = await world()
        run = await sleeping(w, iso(START_MS + 30 * DAY))
        await move(w, to_next=True)
        (await w.call()).ops(sleep("again", iso(w.clock.now() + 3 * DAY)))
        await w.settle()
        assert not w.network.open
        travel = await move(w, to_next=True)
        assert travel.now - travel.before == pytest.approx(3 * DAY, abs=SECOND)
        (await w.call()).ops(wait("w", "never", iso(w.clock.now() + HOUR)))
        await w.settle()
        assert not w.network.open
        travel = await move(w, to_next=True)
        assert travel.now - travel.before == pytest.approx(HOUR, abs=SECOND)
        assert (await w.call()).run_id == run

    @virtually
    async def test_so_is_the_time_at_which_to_try_again(self) -> None:
        w = await world()
        await move(w, DAY)
        await w.send(an_event("go"))
        (await w.call()).throws(**{"retry-after": iso(w.clock.now() + HOUR)})
        await w.settle()
        travel = await move(w, to_next=True)
        assert travel.now - travel.before == pytest.approx(HOUR, abs=2 * SECOND)

    @virtually
    async def test_and_the_time_to_which_an_event_is_put_off(self) -> None:
        w = await world()
        await move(w, DAY)
        await w.send(an_event("go", at=w.clock.now() + HOUR))
        await w.settle()
        assert not w.network.calls
        travel = await move(w, to_next=True)
        assert travel.now - travel.before == pytest.approx(HOUR, abs=SECOND)
        (await w.call()).returns()
        await w.settle()
        again = await w.submit(Rerun(run=w.run().id))
        assert (await w.call()).run_id == again

    @virtually
    async def test_an_invoked_function_starts_at_once(self) -> None:
        w = await World().start(config("f", "go"), config("g", "other"))
        await move(w, DAY)
        await w.send(an_event("go"))
        (await w.call()).ops(invoke("i", "g"))
        (await w.call()).returns(1)
        await w.settle()
        assert (await w.call()).body["event"]["name"] == "go"


class TestRefusals:
    @virtually
    async def test_backwards_and_too_far(self) -> None:
        w = await world()
        for by, named in ((-1, "by is negative"), (MAX_AHEAD_MS + 1, "10 years")):
            with pytest.raises(RequestError, match=named):
                await move(w, by)
        await move(w, MAX_AHEAD_MS - DAY)
        with pytest.raises(RequestError, match="ahead already"):
            await move(w, 2 * DAY)
        assert (await move(w)).ahead == MAX_AHEAD_MS - DAY

    @virtually
    async def test_to_the_next_of_nothing(self) -> None:
        w = await world()
        run = await sleeping(w)
        await w.submit(CancelRun(run=run))
        with pytest.raises(RequestError, match="Nothing is to come"):
            await move(w, to_next=True)


class TestRestarts:
    @virtually
    async def test_the_clock_stays_ahead(self) -> None:
        w = await world()
        await sleeping(w, "40d")
        await move(w, 30 * DAY)
        await w.restart()
        travel = await move(w)
        assert travel.ahead == 30 * DAY
        assert travel.now == w.clock.now() + 30 * DAY == w.shard.now()
        travel = await move(w, 10 * DAY)
        assert travel.ahead == 40 * DAY
        assert len(w.network.open) == 1

    @virtually
    async def test_a_call_that_was_cut_off_is_made_again_by_the_clock(self) -> None:
        w = await world()
        await move(w, 30 * DAY)
        await w.send(an_event("go"))
        call = await w.call()
        await w.restart()
        await w.settle()
        (item,) = w.items(call.run_id)
        assert item.due == pytest.approx(START_MS + 30 * DAY, abs=10 * SECOND)

    @virtually
    async def test_a_move_whose_commit_landed_although_it_failed_is_not_made_twice(self) -> None:
        w = await world()
        command = MoveClock(by_ms=DAY)
        await w.submit(command)
        command.again()
        again = await w.submit(command)
        assert isinstance(again, Travel)
        assert again.ahead == DAY
        assert (await move(w, DAY)).ahead == 2 * DAY

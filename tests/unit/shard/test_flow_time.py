"""What happens at a time, or until one: schedules, timeouts, cancellation by events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from perdure.core.flow.admission import Pause
from perdure.errors import StoreUnavailable
from perdure.shard.commands import PauseFunction, RemoveApp
from tests.sim.virtual_time import START_MS
from tests.unit.shard.flows import F, check_places, check_rest, data_of, drain, finish_all, statuses, world
from tests.unit.shard.shards import World, an_event, config, sleep, step, virtually


def scheduled(w: World) -> list[str]:
    """The times for which schedules have fired, in order."""
    return [event["data"]["scheduledAt"] for event in w.events("inngest/scheduled.timer")]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


async def clocked(text: str, *functions: dict[str, Any]) -> World:
    """A world whose clock shows `text` (UTC) when it starts."""
    w = World()
    w.clock.offset = at(text) - START_MS
    return await w.start(*functions)


async def down(w: World, seconds: float) -> None:
    """The server is not there for a while."""
    assert w.shard._task is not None
    w.shard._task.cancel()
    await asyncio.gather(w.shard._task, return_exceptions=True)
    await w.shard._loads.close()
    await asyncio.sleep(seconds)
    w.shard = w.new_shard()
    await w.shard.start()
    await w.settle()


class TestCron:
    @virtually
    async def test_times_that_were_missed_are_made_up_for_once(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "0 * * * *"}))
        await down(w, 5 * 3_600)
        assert scheduled(w) == ["2026-03-02T15:00:00Z"]
        await w.sleep(3_600)
        assert scheduled(w) == ["2026-03-02T15:00:00Z", "2026-03-02T16:00:00Z"]
        await drain(w)
        check_places(w)
        assert len(w.tables.items) == 1, "only its timer is left"

    @virtually
    async def test_what_is_older_than_a_day_is_let_go(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "0 11 2 3 *"}))
        await down(w, 3 * 86_400)
        await w.sleep(5)
        assert not scheduled(w)
        assert len(w.shard.state.schedules.all) == 1

    @pytest.mark.parametrize("landed", [False, True])
    def test_killed_in_the_moment_of_firing(self, landed: bool) -> None:
        @virtually
        async def test() -> None:
            w = await clocked("2026-03-02T10:00:59", config("f", {"cron": "* * * * *"}))

            def die(shard: int, changes: Any) -> None:
                raise StoreUnavailable("gone")

            if landed:
                w.store.after_commit = die
            else:
                w.store.before_commit = die
            await w.sleep(1.05)
            w.store.before_commit = w.store.after_commit = None
            await w.restart()
            await w.sleep(10)
            assert scheduled(w) == ["2026-03-02T10:01:00Z"]
            assert len(w.tables.runs) == 1

        test()

    @virtually
    async def test_a_schedule_that_changes(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}))
        await w.sleep(60)
        await w.register(config("f", {"cron": "*/5 * * * *"}))
        await w.sleep(600)
        assert [text[11:16] for text in scheduled(w)] == ["10:01", "10:05", "10:10"]

    @virtually
    async def test_a_sync_that_changes_nothing_moves_nothing(self) -> None:
        w = await clocked("2026-03-02T10:00:00", config("f", {"cron": "*/2 * * * *"}))
        for n in range(6):
            await w.sleep(30)
            await w.register(config("f", {"cron": "*/2 * * * *"}, "unused" + str(n)))
        await w.sleep(15)
        assert [text[11:16] for text in scheduled(w)] == ["10:02"]
        assert len([key for key in w.tables.keys if key.kind == "cron"]) == 1

    @virtually
    async def test_a_schedule_that_is_removed_and_comes_back(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}))
        await w.register(config("f", "go"))
        await w.restart()
        await w.sleep(300)
        assert not scheduled(w)
        assert not w.tables.items
        await w.register(config("f", {"cron": "* * * * *"}))
        await w.sleep(60)
        assert [text[11:16] for text in scheduled(w)] == ["10:06"], "what was not scheduled was not missed"

    @virtually
    async def test_an_archived_function_does_not_fire(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}))
        (app,) = w.shard.state.apps
        await w.submit(RemoveApp(app_id=app))
        await w.restart()
        await w.sleep(300)
        assert not scheduled(w)
        assert not w.tables.items

    @virtually
    async def test_jitter_delays_and_does_not_drift(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *", "jitter": "30s"}))
        for _ in range(40):
            await w.sleep(30)
            await finish_all(w)
        data = [event["data"] for event in w.events("inngest/scheduled.timer")]
        assert [d["scheduledAt"][14:16] for d in data] == [f"{n:02}" for n in range(1, len(data) + 1)]
        assert len(data) >= 19
        delays = [at(d["fireAt"].rstrip("Z")) - at(d["scheduledAt"].rstrip("Z")) for d in data]
        assert all(0 <= delay <= 30_050 for delay in delays)
        assert len(set(delays)) > 5

    @virtually
    async def test_jitter_over_a_restart(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *", "jitter": "50s"}))
        for _ in range(60):
            await w.sleep(10)
            await w.restart()
            await finish_all(w)
        texts = [text[14:16] for text in scheduled(w)]
        assert texts == [f"{n:02}" for n in range(1, len(texts) + 1)]
        assert len(texts) >= 9

    @pytest.mark.parametrize("seconds", [0, 1, 10, 30, 60, 99])
    def test_one_that_is_just_due_stands_for_those_that_were_missed(self, seconds: int) -> None:
        """Also while its own jitter is not over: two runs in one moment are of no use to anybody."""

        @virtually
        async def test() -> None:
            w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "*/5 * * * *", "jitter": "100s"}))
            await down(w, 20 * 60 - 30 + seconds)
            assert [text[11:16] for text in scheduled(w)] == ["10:20"]
            await w.sleep(280 - seconds)
            assert [text[11:16] for text in scheduled(w)] == ["10:20"]
            await w.sleep(125)
            assert [text[11:16] for text in scheduled(w)] == ["10:20", "10:25"]

        test()

    @virtually
    async def test_several_schedules_and_an_event(self) -> None:
        w = await clocked(
            "2026-03-02T10:00:30", config("f", {"cron": "*/2 * * * *"}, {"cron": "*/3 * * * *"}, "go")
        )
        await w.send(an_event("go", at=w.clock.now()))
        await w.sleep(360)
        seen = sorted(
            (event["data"]["cron"], event["data"]["scheduledAt"][14:16])
            for event in w.events("inngest/scheduled.timer")
        )
        assert seen == [
            ("*/2 * * * *", "02"),
            ("*/2 * * * *", "04"),
            ("*/2 * * * *", "06"),
            ("*/3 * * * *", "03"),
            ("*/3 * * * *", "06"),
        ]
        assert len(w.tables.runs) == 6

    @virtually
    async def test_the_hour_that_is_not_there(self) -> None:
        w = await clocked("2026-03-29T00:50:00", config("f", {"cron": "TZ=Europe/Paris 30 2 * * *"}))
        await w.sleep(3_600)
        assert scheduled(w) == ["2026-03-29T01:00:00Z"], "once, at the end of the gap"
        await down(w, 86_400)
        assert scheduled(w)[1:] == ["2026-03-30T00:30:00Z"]

    @virtually
    async def test_the_hour_that_comes_twice(self) -> None:
        w = await clocked(
            "2026-10-24T23:50:00",
            config("f", {"cron": "TZ=Europe/Paris 30 2 * * *"}),
            config("g", {"cron": "TZ=Europe/Paris */30 * * * *"}),
        )
        await w.sleep(3 * 3_600)
        by_cron: dict[str, list[str]] = {}
        for event in w.events("inngest/scheduled.timer"):
            by_cron.setdefault(event["data"]["cron"], []).append(event["data"]["scheduledAt"][11:16])
        assert by_cron == {
            "TZ=Europe/Paris 30 2 * * *": ["00:30"],
            "TZ=Europe/Paris */30 * * * *": ["00:00", "00:30", "01:00", "01:30", "02:00", "02:30"],
        }

    @virtually
    async def test_with_concurrency(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}, concurrency=1))
        await w.sleep(150)
        assert statuses(w) == {"RUNNING": 1, "QUEUED": 2}
        check_places(w)
        await w.restart()
        await w.settle()
        assert len({call.run_id for call in w.network.open}) == 1
        w.network.calls[:] = w.network.calls[-1:]
        assert len(await drain(w)) >= 3

    @pytest.mark.parametrize("pause", [Pause.HOLD, Pause.SKIP])
    def test_a_paused_function(self, pause: Pause) -> None:
        @virtually
        async def test() -> None:
            w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}))
            await w.submit(PauseFunction(slug=F, pause=pause))
            await w.sleep(65)
            assert not w.network.calls
            assert statuses(w) == {"QUEUED" if pause is Pause.HOLD else "SKIPPED": 1}
            await w.submit(PauseFunction(slug=F, pause=Pause.NO))
            await w.sleep(1)
            assert len(await drain(w)) == (1 if pause is Pause.HOLD else 0)

        test()

    @virtually
    async def test_a_singleton_that_is_still_busy_skips(self) -> None:
        w = await clocked(
            "2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}, singleton={"mode": "skip"})
        )
        await w.sleep(125)
        assert statuses(w) == {"RUNNING": 1, "SKIPPED": 1}

    @virtually
    async def test_its_clock_is_set_back_and_forth(self) -> None:
        w = await clocked("2026-03-02T10:00:30", config("f", {"cron": "* * * * *"}))
        await w.sleep(60)
        w.clock.offset -= 3_600_000
        await w.sleep(120)
        w.clock.offset += 3_600_000
        await w.sleep(60)
        times = scheduled(w)
        assert len(times) == len(set(times)), "no time fires twice"
        assert times[-1] > "2026-03-02T10:03"


class TestTimeouts:
    @virtually
    async def test_start_at_the_millisecond(self) -> None:
        w = await world(concurrency=1, timeouts={"start": "2s"})
        await w.send(an_event("go"), an_event("go"))
        await w.sleep(1.999)
        assert statuses(w) == {"RUNNING": 1, "QUEUED": 1}
        await w.sleep(0.002)
        assert statuses(w) == {"RUNNING": 1, "CANCELLED": 1}
        (ended,) = [run.ended_at for run in w.tables.runs.values() if run.status == "CANCELLED"]
        assert ended == START_MS + 2_000
        await drain(w)
        check_rest(w)

    @virtually
    async def test_start_of_a_run_that_has_room_in_that_very_moment(self) -> None:
        w = await world(concurrency=1, timeouts={"start": "2s"})
        await w.send(an_event("go"), an_event("go"))
        call = await w.call()
        asyncio.get_running_loop().call_at(2.0, call.returns)
        await w.sleep(2.5)
        assert len(w.tables.runs) == 2
        check_places(w)
        await drain(w)
        assert sum(statuses(w).values()) == 2
        check_rest(w)

    @virtually
    async def test_start_counts_from_when_the_run_is_due(self) -> None:
        w = await world(timeouts={"start": "2s"}, concurrency=1)
        await w.send(an_event("go", at=START_MS + 10_000))
        await w.sleep(9)
        assert statuses(w) == {"QUEUED": 1}
        await w.sleep(1.1)
        await drain(w)
        check_rest(w)

    @virtually
    async def test_start_with_a_throttle(self) -> None:
        """Of ten runs seven are late (protocol, timeouts)."""
        w = await world(throttle={"limit": 1, "period": "2s"}, timeouts={"start": "5s"})
        await w.send(*[an_event("go") for _ in range(10)])
        await w.sleep(6)
        assert statuses(w) == {"RUNNING": 3, "CANCELLED": 7}
        await drain(w)
        check_rest(w)

    @virtually
    async def test_start_while_the_server_is_down(self) -> None:
        w = await world(concurrency=1, timeouts={"start": "2s"})
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        await down(w, 10)
        assert statuses(w) == {"RUNNING": 1, "CANCELLED": 1}
        check_places(w)

    @virtually
    async def test_start_of_a_held_run(self) -> None:
        w = await world(timeouts={"start": "2s"})
        await w.submit(PauseFunction(slug=F, pause=Pause.HOLD))
        await w.send(an_event("go"))
        await w.sleep(3)
        assert statuses(w) == {"CANCELLED": 1}
        await w.submit(PauseFunction(slug=F, pause=Pause.NO))
        await w.settle()
        assert not w.network.calls
        check_rest(w)

    @virtually
    async def test_finish_counts_from_the_first_request(self) -> None:
        w = await world(concurrency=1, timeouts={"finish": "3s"})
        await w.send(an_event("go"), an_event("go"))
        await w.sleep(2)
        (await w.call()).returns()
        (await w.call()).ops(sleep("s", "1h"))
        await w.sleep(2.9)
        assert statuses(w) == {"COMPLETED": 1, "RUNNING": 1}
        await w.sleep(0.11)
        assert statuses(w) == {"COMPLETED": 1, "CANCELLED": 1}
        check_rest(w)

    @virtually
    async def test_finish_over_a_restart_and_between_steps(self) -> None:
        w = await world(concurrency={"fn": [{"limit": 1}]}, timeouts={"finish": "10s"})
        await w.send(an_event("go"), an_event("go"))
        await w.settle()
        for n in range(3):
            call = w.network.open[-1]
            call.ops(step(f"s{n}", n))
            await w.sleep(2)
        await w.restart()
        await w.sleep(3.9)
        assert statuses(w)["CANCELLED"] == 0
        await w.sleep(0.2)
        assert statuses(w) == {"CANCELLED": 1, "RUNNING": 1}
        check_places(w)

    @virtually
    async def test_an_answer_that_came_before_the_deadline_counts(self) -> None:
        w = await world(timeouts={"finish": "3s"})
        await w.send(an_event("go"))
        await w.sleep(2.999)
        (await w.call()).returns()
        await w.sleep(1)
        assert statuses(w) == {"COMPLETED": 1}
        check_rest(w)


class TestCancelOn:
    @virtually
    async def test_up_to_its_end_at_the_millisecond(self) -> None:
        w = await world(cancel=[{"event": "stop", "timeout": "5s"}])
        await w.send(an_event("go"))
        await w.sleep(5)
        await w.send(an_event("stop"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1}

    @virtually
    async def test_a_moment_after_its_end(self) -> None:
        w = await world(cancel=[{"event": "stop", "timeout": "5s"}])
        await w.send(an_event("go"))
        await w.sleep(5.002)
        await w.send(an_event("stop"))
        await w.settle()
        assert statuses(w) == {"RUNNING": 1}

    @virtually
    async def test_until_a_time(self) -> None:
        until = datetime.fromtimestamp((START_MS + 5_000) / 1_000, UTC).isoformat()
        w = await world(cancel=[{"event": "stop", "timeout": until}])
        await w.send(an_event("go", {"n": 1}))
        await w.sleep(4)
        await w.send(an_event("stop"))
        await w.sleep(2)
        await w.send(an_event("go", {"n": 2}))
        await w.send(an_event("stop"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1, "RUNNING": 1}

    @pytest.mark.parametrize("minutes", [-10, 10])
    def test_by_receipt_whatever_the_ids_say(self, minutes: int) -> None:
        """Ids come from clocks of clients that may be ten minutes off."""

        @virtually
        async def test() -> None:
            w = await world(cancel=[{"event": "stop"}])
            off = START_MS + minutes * 60_000
            await w.send(an_event("stop", ulid_at=START_MS - minutes * 60_000))
            await w.send(an_event("go", ulid_at=off))
            await w.settle()
            assert statuses(w) == {"RUNNING": 1}, "it came before the run"
            await w.restart()
            await w.send(an_event("stop", ulid_at=START_MS - minutes * 60_000))
            await w.settle()
            assert statuses(w) == {"CANCELLED": 1}

        test()

    @virtually
    async def test_several_of_which_one_matches(self) -> None:
        w = await world(
            cancel=[
                {"event": "stop", "if": "async.data.u == event.data.u"},
                {"event": "stop", "if": "async.data.all == true"},
                {"event": "halt"},
            ]
        )
        await w.send(*[an_event("go", {"u": n}) for n in range(4)])
        await w.settle()
        await w.restart()
        await w.send(an_event("stop", {"u": 1}))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1, "RUNNING": 3}
        await w.send(an_event("stop", {"u": 9}))
        await w.send(an_event("stop", {"all": True}), an_event("halt"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 4}
        assert len(w.events("inngest/function.cancelled")) == 4
        check_rest_of_cancelled(w)

    @virtually
    async def test_in_line_while_its_place_is_taken(self) -> None:
        w = await world(concurrency=1, cancel=[{"event": "stop", "if": "event.data.u == async.data.u"}])
        await w.send(*[an_event("go", {"u": n}) for n in range(3)])
        await w.settle()
        await w.send(an_event("stop", {"u": 1}))
        await w.settle()
        check_places(w)
        left = await drain(w)
        assert len(left) == 2
        assert {data_of(call)["u"] for call in left} == {0, 2}

    @virtually
    async def test_a_function_that_is_started_by_the_event_that_cancels_it(self) -> None:
        """Each run is cancelled by the next event, none by its own."""
        w = await World().start(config("f", "go", cancel=[{"event": "go"}]))
        await w.send(an_event("go"), an_event("go"), an_event("go"))
        await w.settle()
        await w.send(an_event("go"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 3, "RUNNING": 1}

    @virtually
    async def test_of_a_debounced_run_only_what_comes_after_it_fired(self) -> None:
        w = await world(debounce={"period": "5s"}, cancel=[{"event": "stop"}])
        await w.send(an_event("go"))
        await w.send(an_event("stop"))
        await w.sleep(6)
        assert statuses(w) == {"RUNNING": 1}
        await w.send(an_event("stop"))
        await w.settle()
        assert statuses(w) == {"CANCELLED": 1}

    @virtually
    async def test_of_many_runs(self) -> None:
        w = await World().start(config("f", "go", cancel=[{"event": "stop"}], concurrency=5))
        for _ in range(3):
            await w.send(*[an_event("go", {"n": n}) for n in range(400)])
        await w.settle()
        await w.restart()
        await w.send(an_event("stop"))
        await w.sleep(5)
        assert statuses(w) == {"CANCELLED": 1_200}
        check_rest_of_cancelled(w)


def check_rest_of_cancelled(w: World) -> None:
    """Calls of cancelled runs may still be under way in their apps; nothing else is left."""
    check_places(w)
    for call in w.network.open:
        call.returns()
    assert not w.tables.items
    assert not w.tables.waits

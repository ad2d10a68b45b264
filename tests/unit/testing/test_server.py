"""The test server, used as in async tests."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

import perdure
from perdure.testing import Failure, NotSettled, Server, UnknownStep
from tests.unit.testing import shop
from tests.unit.testing.shop import Order, Paid, Receipt

MONDAY = datetime(2030, 1, 7, tzinfo=UTC)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    shop.mails.clear()
    async with Server(shop.app, now=MONDAY, schedules=False) as running:
        yield running


class TestTime:
    async def test_a_month_passes_at_once(self, server: Server) -> None:
        run = await server.start(shop.fulfil, Order(7))
        assert run.status == "running"
        (wait,) = run.waits
        assert (wait.kind, wait.step, wait.until) == ("sleep", "cool-off", MONDAY + timedelta(days=30))
        await server.advance("29d23h59m59s")
        assert (run.status, shop.mails) == ("running", [])
        await server.advance(1)
        assert run.output == Receipt("r-7", Decimal("9.90")), "of the type that the function returns"
        assert shop.mails == [("ann@example.com", "r-7")]
        assert server.now == MONDAY + timedelta(days=30)

    async def test_all_that_is_due_happens_in_order_at_its_own_time(self, server: Server) -> None:
        first = await server.start(shop.fulfil, Order(1))
        await server.advance("1d")
        second = await server.start(shop.fulfil, Order(2))
        await server.advance(timedelta(days=60))
        ended = [run.step("mail").ended_at for run in (first, second)]
        assert ended == [MONDAY + timedelta(days=30), MONDAY + timedelta(days=31)]
        assert [text for _, text in shop.mails] == ["r-1", "r-2"]

    async def test_a_schedule(self) -> None:
        async with Server(shop.app, now=MONDAY) as server:
            await server.advance("7d")
            started = [run.step("count").ended_at for run in server.runs(shop.every_morning)]
        assert started == [MONDAY + timedelta(days=day, hours=9) for day in range(5)]

    async def test_a_schedule_fires_by_hand(self, server: Server) -> None:
        run = await server.start(shop.every_morning)
        assert run.output == 3
        await server.advance("7d")
        assert server.runs(shop.every_morning) == [run], "schedules=False"

    async def test_to_a_moment(self, server: Server) -> None:
        await server.advance_to("2030-02-01T00:00:00Z")
        assert server.now == datetime(2030, 2, 1, tzinfo=UTC)
        with pytest.raises(perdure.UsageError, match=r"it is 2030-02-01 00:00:00 already"):
            await server.advance_to(MONDAY)
        with pytest.raises(perdure.UsageError, match=r"is not a duration"):
            await server.advance("soon")

    async def test_the_same_history_each_time(self) -> None:
        async def history() -> tuple[str, str]:
            async with Server(shop.app, now=MONDAY) as server:
                server.fail_step(shop.fulfil, "mail", times=2)
                run = await server.start(shop.fulfil, Order(1))
                await server.finish(run)
                return run.id, run.timeline()

        assert await history() == await history()


class TestWaits:
    async def test_an_event(self, server: Server) -> None:
        run = await server.start(shop.await_payment, Order(7))
        wait = run.assert_waits_for("shop/order.paid")
        assert (wait.kind, wait.step) == ("event", "payment")
        assert wait.expression is not None
        assert "data.id" in wait.expression
        await server.send(shop.paid(Paid(8)))
        assert run.status == "running", "another order's payment"
        await server.send(shop.paid(Paid(7)))
        assert run.output == "paid 7"
        assert run.step("payment").output["data"] == {"id": 7}

    async def test_a_timeout(self, server: Server) -> None:
        run = await server.start(shop.await_payment, Order(7))
        await server.advance("7d")
        assert (run.output, run.step("payment").timed_out) == ("expired", True)

    async def test_a_cancelling_event(self, server: Server) -> None:
        run = await server.start(shop.await_payment, Order(7))
        await server.send(shop.refunded(Paid(7)))
        assert run.status == "cancelled"
        with pytest.raises(Failure, match=r"should have completed") as raised:
            run.assert_completed()
        assert "⊘ shop-await-payment cancelled" in str(raised.value)

    async def test_a_signal(self, server: Server) -> None:
        (run,) = await server.send(perdure.Event("shop/order.fulfilled", {"id": 5}))
        with pytest.raises(Failure, match=r'No run waits for the signal "survey-6". Did you mean "survey-5"'):
            await server.signal("survey-6")
        assert await server.signal("survey-5", "good") == run
        assert run.output == "good"

    async def test_cancelling_and_running_again(self, server: Server) -> None:
        run = await server.start(shop.fulfil, Order(1))
        await server.cancel(run)
        assert run.status == "cancelled"
        again = await server.rerun(run, from_step="cool-off")
        assert again.step("charge").output == run.step("charge").output
        assert (again.step("charge").attempts, len(run.step("charge").attempts)) == ([], 1), "it is copied"
        assert (await server.finish(again)).output.number == "r-1"


class TestLooking:
    async def test_steps(self, server: Server) -> None:
        run = await server.finish(await server.start(shop.fulfil, Order(1)))
        run.assert_steps("charge", "cool-off", "mail", "tell")
        assert [(step.id, step.kind, step.status) for step in run.steps] == [
            ("charge", "run", "completed"),
            ("cool-off", "sleep", "completed"),
            ("mail", "run", "completed"),
            ("tell", "run", "completed"),
        ]
        assert run.step("charge").output == {"number": "r-1", "total": "9.90"}
        assert [len(step.attempts) for step in run.steps] == [1, 0, 1, 1], "a sleep is not tried"
        with pytest.raises(UnknownStep, match=r'has no step "chrage". Did you mean "charge"'):
            run.step("chrage")
        with pytest.raises(Failure, match=r"should have finished the steps"):
            run.assert_steps("charge")

    async def test_what_a_run_sends_and_starts(self, server: Server) -> None:
        run = await server.finish(await server.start(shop.fulfil, Order(4)))
        (event,) = run.sent
        assert (event.name, event.data) == ("shop/order.fulfilled", {"id": 4})
        assert server.events("shop/order.fulfilled") == [event]
        (begun,) = server.runs(shop.survey)
        assert begun.events == [event]
        assert [event.name for event in server.events()] == ["shop/order.created", "shop/order.fulfilled"]

    async def test_one_id_used_again(self, server: Server) -> None:
        run = await server.start(shop.loop, {"times": 3})
        assert [run.step("again", index).output for index in range(3)] == [0, 1, 2]
        with pytest.raises(UnknownStep, match=r'no step "again" number 3. It has the uses \[0, 1, 2\] of it'):
            run.step("again", 3)

    async def test_runs_of_a_function(self, server: Server) -> None:
        started = await server.send(Order(1))
        assert [run.function for run in started] == ["shop-fulfil", "shop-await-payment"], (
            "as they are written"
        )
        assert server.runs() == started == [*server.runs("fulfil"), *server.runs("await-payment")]
        assert server.runs(status="completed") == []
        assert server.run(started[0].id) == started[0]
        with pytest.raises(UnknownStep, match=r'no function "fulfill". Did you mean "shop-fulfil"'):
            server.runs("fulfill")

    async def test_a_failed_run(self, server: Server) -> None:
        run = await server.start(shop.fail, {"what": "luck"})
        assert (run.status, [wait.kind for wait in run.waits]) == ("running", ["retry"])
        await server.finish(run)
        error = run.assert_failed(ValueError, match=r"no l.ck")
        assert (error.name, error.message) == ("ValueError", "no luck")
        assert error.stack is not None
        assert "in fail" in error.stack
        for wrong in ({"error": KeyError}, {"match": "money"}):
            with pytest.raises(Failure, match=r"ValueError: no luck"):
                run.assert_failed(**wrong)
        with pytest.raises(Failure, match=r"has no output, since it has not completed"):
            _ = run.output

    async def test_sync_functions(self, server: Server) -> None:
        run = await server.start(shop.plain, {"n": 5})
        assert run.status == "running"
        await server.advance(60)
        assert run.output == [5, 1, 2]


class TestWhatTeaches:
    async def test_an_event_of_no_use(self, server: Server) -> None:
        with pytest.raises(Failure) as raised:
            await server.send(perdure.Event("shop/order.create", {}))
        assert 'Did you mean "shop/order.created"' in str(raised.value)

    async def test_data_that_are_no_events(self, server: Server) -> None:
        with pytest.raises(perdure.UsageError, match=r"cannot be sent"):
            await server.send(3)
        with pytest.raises(perdure.SendError, match=r"refused the events"):
            await server.send(perdure.Event("shop/ping", [1]))

    async def test_a_circle(self, server: Server) -> None:
        with pytest.raises(NotSettled, match=r"shop-ping runs in circles .*shop-ping 100 times"):
            await server.send(perdure.Event("shop/ping", {}))

    async def test_too_many_steps(self, server: Server) -> None:
        run = await server.start(shop.loop, {"times": 100_000})
        assert run.status == "failed"
        assert "1000" in str(run.error) or "1,000" in str(run.error)

    async def test_a_step_that_waits_for_real_time(self) -> None:
        async with Server(shop.app, patience=0.2) as server:
            with pytest.raises(NotSettled) as raised:
                await server.send(perdure.Event("shop/hang", {}))
            assert re.search(r"this still runs: shop-hang, at .*shop.py:\d+, in hang\.", str(raised.value))
        async with Server(shop.app, patience=0.2) as server:
            with pytest.raises(NotSettled, match=r"shop-hang-sync, at .*shop.py:\d+, in hang_sync"):
                await server.send(perdure.Event("shop/hang.sync", {}))

    async def test_code_that_blocks_the_loop(self) -> None:
        app = perdure.App("blocks")

        async def busy() -> None:
            time.sleep(0.9)

        @app.function("blocks/go")
        async def go(data: dict[str, object], step: perdure.Step) -> None:
            await step.run("busy", busy)

        async with Server(app, patience=0.3) as server:
            with pytest.raises(
                NotSettled, match=r"blocked the event loop for .*: blocks-go, .*:\d+, in busy\."
            ):
                await server.start(go, {})

    async def test_a_function_that_is_none_of_the_apps(self, server: Server) -> None:
        other = perdure.App("other")

        @other.function("x")
        async def theirs(data: dict[str, object], step: perdure.Step) -> None: ...

        with pytest.raises(
            UnknownStep, match=r"other-theirs belongs to an app that this test server does not run"
        ):
            await server.start(theirs, {})

    async def test_a_function_that_is_declared_late(self) -> None:
        app = perdure.App("late")
        async with Server(app) as server:
            assert server.runs() == []

            @app.function("late/go")
            async def go(data: dict[str, object], step: perdure.Step) -> str:
                return await step.run("only", lambda: "done")

            assert (await server.start(go, {})).output == "done"

    async def test_one_app_in_two_servers(self, server: Server) -> None:
        with pytest.raises(perdure.UsageError, match=r"shop is in another test server already"):
            async with Server(shop.app):
                raise AssertionError("never")

    async def test_the_app_is_as_before_afterwards(self) -> None:
        before = (shop.app.api._origin, shop.app.api._events)
        async with Server(shop.app):
            assert shop.app.api._origin is not before[0]
        assert (shop.app.api._origin, shop.app.api._events) == before

    async def test_another_event_loop(self, server: Server) -> None:
        with pytest.raises(perdure.UsageError, match=r"started on another event loop"):
            await asyncio.to_thread(lambda: asyncio.run(server.settle()))

    def test_no_apps(self) -> None:
        with pytest.raises(perdure.UsageError, match=r"needs the apps to run"):
            Server()
        with pytest.raises(perdure.UsageError, match=r"has no time zone"):
            Server(shop.app, now=datetime(2030, 1, 1))

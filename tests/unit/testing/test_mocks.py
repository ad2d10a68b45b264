"""What stands in for the world: for steps, requests, invoked functions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest

import perdure
from perdure.testing import Failure, OutsideRequest, Server, SyncServer, UnexpectedRequest, UnknownStep
from tests.unit.testing import shop
from tests.unit.testing.shop import Order, Receipt


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    shop.mails.clear()
    async with Server(shop.app, now="2030-01-07T00:00:00Z", schedules=False) as running:
        yield running


class TestSteps:
    async def test_a_result(self, server: Server) -> None:
        mock = server.mock_step(shop.fulfil, "charge", returns=Receipt("mocked", Decimal("1")))
        run = await server.finish(await server.start(shop.fulfil, Order(7)))
        assert run.output == Receipt("mocked", Decimal("1")), "of the step's own type"
        (asked,) = mock.calls
        assert (asked.args, asked.kwargs, asked.run_id, asked.attempt) == ((7,), {}, run.id, 0)
        assert (mock.called, shop.mails) == (True, [("ann@example.com", "mocked")])

    async def test_an_error(self, server: Server) -> None:
        server.mock_step("fulfil", "charge", raises=perdure.NonRetriableError("declined"))
        run = await server.start(shop.fulfil, Order(7))
        run.assert_failed(perdure.NonRetriableError, match=r"declined")
        assert run.step("charge").status == "failed"
        assert str(run.step("charge").error) == "NonRetriableError: declined"

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_a_function_of_the_arguments(self, server: Server, is_async: bool) -> None:
        async def later(order_id: int) -> Receipt:
            return Receipt(f"x-{order_id}", Decimal(order_id))

        def at_once(order_id: int) -> Receipt:
            return Receipt(f"x-{order_id}", Decimal(order_id))

        server.mock_step("shop-fulfil", "charge", side_effect=later if is_async else at_once)
        run = await server.start(shop.fulfil, Order(7))
        assert run.step("charge").output == {"number": "x-7", "total": "7"}

    async def test_failing_twice(self, server: Server) -> None:
        mock = server.fail_step(shop.fulfil, "charge", times=2, error=ConnectionError("no line"))
        run = await server.start(shop.fulfil, Order(7))
        (wait,) = run.waits
        assert (wait.kind, wait.step) == ("retry", "charge")
        assert str(run.step("charge").error) == "ConnectionError: no line"
        await server.advance(wait.until - server.now)
        await server.advance(timedelta(hours=1))
        charge = run.step("charge")
        assert [(one.number, one.status, one.error and one.error.name) for one in charge.attempts] == [
            (0, "failed", "ConnectionError"),
            (1, "failed", "ConnectionError"),
            (2, "completed", None),
        ]
        assert charge.output == {"number": "r-7", "total": "9.90"}
        assert [asked.attempt for asked in mock.calls] == [0, 1]
        assert "attempt 2 at +" in run.timeline()

    async def test_the_newest_comes_first_and_is_spent(self, server: Server) -> None:
        server.mock_step(shop.fulfil, "charge", returns=Receipt("always", Decimal(1)))
        once = server.mock_step(shop.fulfil, "charge", returns=Receipt("once", Decimal(1)), times=1)
        numbers = [
            (await server.start(shop.fulfil, Order(n))).step("charge").output["number"] for n in range(2)
        ]
        assert (numbers, len(once.calls)) == (["once", "always"], 1)

    async def test_a_result_of_another_type(self, server: Server) -> None:
        server.mock_step(shop.fulfil, "charge", returns={"nummer": 1})
        run = await server.start(shop.fulfil, Order(7))
        await server.finish(run)
        run.assert_failed(match=r"is no Receipt")

    def test_in_sync_functions(self) -> None:
        with SyncServer(shop.app) as server:
            mock = server.mock_step(shop.plain, "first", side_effect=lambda: 40)
            server.mock_step(shop.plain, "left", returns=50)
            server.fail_step(shop.plain, "right")
            run = server.finish(server.start(shop.plain, {"n": 1}))
            assert (run.output, len(mock.calls)) == ([40, 50, 2], 1)

    async def test_too_much_is_given(self, server: Server) -> None:
        with pytest.raises(ValueError, match=r"one of returns, raises and side_effect"):
            server.mock_step(shop.fulfil, "charge", returns=1, raises=KeyError)


class TestInvoked:
    async def test_a_function_of_the_app_and_one_of_another(self, server: Server) -> None:
        euro = server.mock_function(shop.rates, returns=1.1)
        total = server.mock_function("billing-sum", side_effect=lambda data: sum(data["of"]))
        run = await server.start(shop.report, {})
        assert run.output == [1.1, 3]
        assert (euro.calls, total.calls) == ([{"currency": "EUR"}], [{"of": [1, 2]}])
        assert [child.function for child in run.children] == ["shop-rates", "billing-sum"]
        assert run.step("rates").kind == "invoke"

    async def test_one_that_fails(self, server: Server) -> None:
        server.mock_function(shop.rates, raises=ValueError("closed"))
        server.mock_function("billing-sum", returns=0)
        run = await server.start(shop.report, {})
        run.assert_failed(match=r"closed")

    async def test_the_step_that_invokes(self, server: Server) -> None:
        rates = server.mock_step(shop.report, "rates", returns=2.5)
        server.mock_step(shop.report, "sum", side_effect=lambda data: len(data["of"]))
        run = await server.start(shop.report, {})
        assert (run.output, run.children) == ([2.5, 2], [])
        assert rates.calls[0].args == ({"currency": "EUR"},)

    async def test_the_step_that_invokes_fails(self, server: Server) -> None:
        server.mock_step(shop.report, "rates", raises=ValueError("closed"))
        server.mock_step(shop.report, "sum", returns=1)
        run = await server.start(shop.report, {})
        run.assert_failed(match=r"closed")

    async def test_before_the_server_has_begun(self) -> None:
        server = Server(shop.app)
        server.mock_function("billing-sum", returns=4)
        server.mock_step(shop.report, "rates", returns=1)
        async with server:
            assert (await server.start(shop.report, {})).output == [1, 4]


class TestRequests:
    async def test_fetch(self, server: Server) -> None:
        def answer(request: OutsideRequest) -> perdure.Response:
            assert (request.url, request.method) == ("https://rates.example.com/v1", "GET")
            assert request.headers["authorization"] == "k"
            return perdure.Response(request.url, 200, {"X-Kept": "yes"}, '{"EUR": 1.08}')

        mock = server.mock_step(shop.rates, "get-rates", side_effect=answer)
        run = await server.start(shop.rates, {"currency": "EUR"})
        assert run.output == 1.08
        step = run.step("get-rates")
        assert (step.kind, step.output["headers"]) == ("fetch", {"X-Kept": "yes"})
        assert mock.calls[0].run_id == run.id

    async def test_plain_json_will_do(self, server: Server) -> None:
        server.mock_step(shop.rates, "get-rates", returns={"EUR": 2.0})
        assert (await server.start(shop.rates, {"currency": "EUR"})).output == 2.0
        ask = server.mock_step(shop.summarise, "ask", returns={"text": "short"})
        run = await server.start(shop.summarise, {"text": "long"})
        assert (run.output, run.step("ask").kind) == ("short", "ai.infer")
        assert ask.calls[0].args[0].json() == {"q": "long"}

    async def test_a_network_that_fails_twice(self, server: Server) -> None:
        server.mock_step(shop.rates, "get-rates", returns={"EUR": 2.0})
        server.fail_step(shop.rates, "get-rates", times=2)
        run = await server.start(shop.rates, {"currency": "EUR"})
        assert run.status == "running"
        assert (await server.finish(run)).output == 2.0
        assert len(run.step("get-rates").attempts) == 3

    async def test_no_request_leaves(self, server: Server) -> None:
        with pytest.raises(UnexpectedRequest) as raised:
            await server.start(shop.rates, {"currency": "EUR"})
        assert str(raised.value) == (
            'The step "get-rates" of shop-rates asks for GET https://rates.example.com/v1, and a test makes no '
            "requests. Say what comes back: mock_step('shop-rates', \"get-rates\", returns=...)."
        )


class TestWhatTeaches:
    async def test_a_misspelt_id(self, server: Server) -> None:
        with pytest.raises(UnknownStep) as raised:
            server.mock_step(shop.fulfil, "chrage", returns=1)
        assert str(raised.value) == 'shop-fulfil has no step "chrage" in its code. Did you mean "charge"?'

    async def test_a_misspelt_id_that_only_a_run_shows(self) -> None:
        app = perdure.App("made")

        async def helper(step: perdure.Step) -> None:
            for part in ("left", "right"):
                await step.run(f"clean-{part}", lambda: None)

        @app.function("go")
        async def clean(data: dict[str, object], step: perdure.Step) -> None:
            await helper(step)

        server = Server(app)
        await server.__aenter__()
        server.mock_step(clean, "clean-rigth", returns=1)
        await server.start(clean, {})
        with pytest.raises(UnknownStep, match=r'came to a step "clean-rigth". Did you mean "clean-right"'):
            await server.__aexit__(None, None, None)

    async def test_an_id_that_is_made_at_run_time(self) -> None:
        app = perdure.App("made")

        @app.function("go")
        async def clean(data: dict[str, object], step: perdure.Step) -> list[int]:
            return [await step.run(f"clean-{part}", lambda: 0) for part in ("left", "right")]

        async with Server(app) as server:
            server.mock_step(clean, "clean-right", returns=1)
            assert (await server.start(clean, {})).output == [0, 1]

    async def test_the_first_error_is_not_hidden(self) -> None:
        app = perdure.App("made")
        ids = ["clean-left"]

        @app.function("go")
        async def clean(data: dict[str, object], step: perdure.Step) -> None:
            await step.run(ids[0], lambda: None)

        async def fails() -> None:
            async with Server(app) as server:
                server.mock_step(clean, "clean-lfet", returns=1)
                await server.start(clean, {})
                raise KeyError

        with pytest.raises(KeyError):
            await fails()

    async def test_a_misspelt_function(self, server: Server) -> None:
        with pytest.raises(UnknownStep, match=r'no function "fulfll"'):
            server.mock_step("fulfll", "charge", returns=1)

    async def test_waits_have_no_stand_ins(self, server: Server) -> None:
        server.mock_step(shop.await_payment, "payment", returns=None)
        with pytest.raises(Failure, match=r"it is a wait for an event: send that event"):
            await server.start(shop.await_payment, Order(1))

"""The test server in plain tests, and beside web apps that send."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import perdure
from perdure.testing import Server, SyncServer
from tests.unit.testing import shop
from tests.unit.testing.shop import Order, Paid

web = FastAPI()


@web.post("/orders/{order_id}")
async def create(order_id: int) -> list[str]:
    return await shop.app.send(Order(order_id))


@pytest.fixture
def server() -> Iterator[SyncServer]:
    shop.mails.clear()
    with SyncServer(shop.app, now="2030-01-07T00:00:00Z", schedules=False) as running:
        yield running


def test_a_plain_test(server: SyncServer) -> None:
    run = server.start(shop.fulfil, Order(7))
    server.advance("30d")
    assert run.output.number == "r-7"
    other = server.start(shop.await_payment, Order(1))
    assert [one.function for one in server.send(Order(2))] == ["shop-fulfil", "shop-await-payment"]
    server.send(shop.paid(Paid(1)))
    assert other.output == "paid 1"
    server.cancel(server.runs(status="running")[0])
    assert server.rerun(other).status == "running"


def test_moments_and_signals(server: SyncServer) -> None:
    (run,) = server.send(perdure.Event("shop/order.fulfilled", {"id": 5}))
    server.advance_to("2030-01-08T00:00:00Z")
    assert server.signal("survey-5", 3) == run
    assert run.output == "3"


def test_functions_run_in_the_thread_of_the_test(server: SyncServer) -> None:
    threads: list[threading.Thread] = []

    async def note(order_id: int) -> shop.Receipt:
        threads.append(threading.current_thread())
        return await shop.charge(order_id)

    server.mock_step(shop.fulfil, "charge", side_effect=note)
    server.start(shop.fulfil, Order(1))
    assert threads == [threading.current_thread()]


def test_a_web_app_that_sends(server: SyncServer) -> None:
    """Its client waits for the answer before the engine can run again."""
    with TestClient(web) as client:
        (event_id,) = client.post("/orders/3").json()
    assert server.runs() == [], "nothing happens between two actions"
    server.settle()
    assert {run.events[0].id for run in server.runs()} == {event_id}
    shop.app.send_sync(Order(4))
    server.settle()
    assert len(server.runs(shop.fulfil)) == 2


async def test_a_web_app_in_an_async_test() -> None:
    async with Server(shop.app) as server:
        with TestClient(web) as client:
            await asyncio.to_thread(client.post, "/orders/3")
        await server.settle()
        assert len(server.runs(shop.fulfil)) == 1


async def test_under_a_loop_that_runs() -> None:
    """A plain fixture may be used by an async test."""
    with SyncServer(shop.app, schedules=False) as server:
        run = server.start(shop.fulfil, Order(1))
        server.advance("30d")
        assert run.status == "completed"
        with pytest.raises(perdure.UsageError):
            server.advance("soon")


def test_where_the_clocks_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As libraries do that freeze the time of a test."""
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    monkeypatch.setattr(time, "time_ns", lambda: 1_893_456_000_000_000_000)
    with SyncServer(shop.app, schedules=False) as server:
        assert server.now.isoformat() == "2030-01-01T00:00:00+00:00"
        server.mock_step(shop.plain, "first", side_effect=lambda: time.sleep(0.05))
        run = server.finish(server.start(shop.plain, {"n": 1}))
        assert run.output == [None, 1, 2]


def test_outside_of_its_block() -> None:
    server = SyncServer(shop.app)
    assert server.runs() == []
    with pytest.raises(RuntimeError, match="in its `with` block"):
        server.settle()

"""An app with one function of each kind, as users write them."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime
from decimal import Decimal
from typing import Any

import perdure

app = perdure.App("shop")


@dataclasses.dataclass
class Order:
    id: int
    email: str = "ann@example.com"


@dataclasses.dataclass
class Receipt:
    number: str
    total: Decimal


@dataclasses.dataclass
class Paid:
    id: int


ordered = perdure.event("shop/order.created", Order)
paid = perdure.event("shop/order.paid", Paid)
refunded = perdure.event("shop/order.refunded", Paid)

mails: list[tuple[str, str]] = []
"""What was sent, by the tests' own process."""


async def charge(order_id: int) -> Receipt:
    return Receipt(f"r-{order_id}", Decimal("9.90"))


def send_mail(to: str, text: str) -> None:
    mails.append((to, text))


@app.function(ordered)
async def fulfil(order: Order, step: perdure.Step) -> Receipt:
    receipt = await step.run("charge", charge, order.id)
    await step.sleep("cool-off", "30d")
    await step.run("mail", send_mail, order.email, receipt.number)
    await step.send_event("tell", perdure.Event("shop/order.fulfilled", {"id": order.id}))
    return receipt


@app.function(ordered, id="await-payment", cancel_on=perdure.Cancel(refunded, match="data.id"))
async def await_payment(order: Order, step: perdure.Step) -> str:
    found = await step.wait_for_event("payment", paid, timeout="7d", match="data.id")
    return "expired" if found is None else f"paid {found.data.id}"


@app.function("shop/order.fulfilled", retries=0)
async def survey(data: dict[str, Any], step: perdure.Step) -> str | None:
    answer = await step.wait_for_signal("answer", f"survey-{data['id']}", timeout="10d")
    return None if answer is None else str(answer.data)


@app.function(perdure.cron("0 9 * * 1-5"))
async def every_morning(step: perdure.Step) -> int:
    return await step.run("count", lambda: 3)


@app.function()
async def rates(data: dict[str, Any], step: perdure.Step) -> float:
    response = await step.fetch("get-rates", "https://rates.example.com/v1", headers={"authorization": "k"})
    response_json: dict[str, float] = response.json()
    return response_json[str(data["currency"])]


@app.function()
async def summarise(data: dict[str, Any], step: perdure.Step) -> str:
    answer = await step.ai.infer(
        "ask", url="https://models.example.com", body={"q": data["text"]}, auth_key="secret"
    )
    return str(answer["text"])


@app.function("shop/report.wanted")
async def report(data: dict[str, Any], step: perdure.Step) -> list[Any]:
    euro, text = await asyncio.gather(
        step.invoke("rates", rates, {"currency": "EUR"}), step.invoke("sum", "billing-sum", {"of": [1, 2]})
    )
    return [euro, text]


@app.function("shop/plain.wanted")
def plain(data: dict[str, Any], step: perdure.SyncStep) -> list[Any]:
    first = step.run("first", lambda: data["n"])
    step.sleep("nap", 60)
    both = step.parallel(lambda: step.run("left", lambda: 1), lambda: step.run("right", lambda: 2))
    return [first, *both]


@app.function("shop/loop.wanted")
async def loop(data: dict[str, Any], step: perdure.Step) -> list[int]:
    found = []
    for number in range(int(data["times"])):
        found.append(await step.run("again", lambda: number))  # noqa: B023
    return found


@app.function("shop/ping")
async def ping(data: dict[str, Any], step: perdure.Step) -> None:
    await step.send_event("pong", perdure.Event("shop/ping", {}))


@app.function("shop/hang")
async def hang(data: dict[str, Any], step: perdure.Step) -> None:
    await step.run("stuck", asyncio.sleep, 3600)


@app.function("shop/hang.sync")
def hang_sync(data: dict[str, Any], step: perdure.SyncStep) -> datetime:
    import time

    step.run("stuck", time.sleep, 2)
    raise AssertionError("never")


@app.function("shop/fail", retries=2)
async def fail(data: dict[str, Any], step: perdure.Step) -> None:
    raise ValueError(f"no {data['what']}")

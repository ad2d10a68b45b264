"""The app that the pages are looked at with: a small shop whose functions succeed, fail, retry, wait, log and invoke.

Run as `uvicorn tests.browser.dashboard.shop:web`; PERDURE_URL names its server.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI

import perdure

Data = dict[str, Any]

SHOP = perdure.App("shop")
log = perdure.logger(__name__)
_declined: set[int] = set()


async def charge(order: int, flaky: bool) -> Data:
    """Take the money. A flaky card is declined once."""
    if flaky and order not in _declined:
        _declined.add(order)
        raise RuntimeError(f"the card of order {order} was declined")
    return {"amount": order * 10, "currency": "EUR"}


async def work(seconds: float) -> Data:
    """Something that takes so long."""
    await asyncio.sleep(seconds)
    return {"took": seconds}


@SHOP.function("order/placed", name="Fulfil an order", retries=3)
async def fulfil(event: Data, step: perdure.Step) -> Data:
    """Steps one after the other and side by side; on demand a wait."""
    paid = await step.run("charge-card", charge, event["order"], event.get("flaky", False))
    stock, label = await asyncio.gather(
        step.run("reserve-stock", work, event.get("seconds", 0.05)), step.run("print-label", work, 0.1)
    )
    if event.get("pickup"):
        await step.wait_for_event("wait-for-pickup", "order/picked-up", timeout="1h", match="data.order")
    return {"order": event["order"], "paid": paid, "stock": stock, "label": label}


def deliver(to: str) -> None:
    """The mail server does not know the address."""
    try:
        raise ConnectionError(f"no route to {to}")
    except ConnectionError as error:
        raise ValueError("550 mailbox unavailable: the address does not exist") from error


@SHOP.function("mail/send", name="Send a mail", retries=0)
async def mail(event: Data, step: perdure.Step) -> None:
    """Always fails, with a cause."""
    await step.run("render", lambda: "<p>Hello</p>")
    await step.run("deliver", deliver, event["to"])


@SHOP.function(name="Count words")
async def count(event: Data, step: perdure.Step) -> int:
    """Invoked only."""
    return await step.run("count", lambda: len(str(event.get("text", "")).split()))


@SHOP.function("doc/uploaded", name="Index a document")
async def index(event: Data, step: perdure.Step) -> Data:
    """Invokes another function, logs, and says how far it is."""
    words = await step.invoke("count-words", count, {"text": event.get("text", "")})

    async def read_pages() -> str:
        for page in range(1, 4):
            log.info("page %d of 3", page)
            step.progress(page / 3, f"page {page}")
        log.warning("two pages were empty")
        return "ok"

    await step.run("read-pages", read_pages)
    return {"words": words}


@SHOP.function(perdure.cron("30 3 * * *"), name="Nightly report", concurrency=perdure.Concurrency(limit=1))
async def report(step: perdure.Step) -> int:
    """By a schedule."""
    return await step.run("count-orders", lambda: 42)


@SHOP.function("load/tick", name="Tick")
async def tick(event: Data, step: perdure.Step) -> None:
    """As little as a run can be."""


web = FastAPI()
SHOP.mount(web)

"""Uses that must not pass `mypy --strict`: each line that is marked has to give an error of that kind."""

from __future__ import annotations

from dataclasses import dataclass

import perdure
from perdure.middleware import Middleware

app = perdure.App("wrong")


@dataclass
class Order:
    id: int


@dataclass
class Other:
    text: str


order = perdure.event("shop/order", Order)


def charge(amount: int) -> str:
    return str(amount)


async def ship(order_id: int, *, fast: bool) -> None: ...


@app.function(order)
async def good(event: Order, step: perdure.Step) -> str:
    await step.run("charge", charge, "ten")  # expect: arg-type, call-overload
    await step.run("ship", ship, 1)  # expect: call-arg, arg-type, call-overload
    await step.run("ship", ship, 1, slow=True)  # expect: call-arg, arg-type, call-overload
    number: int = await step.run("charge", charge, 1)  # expect: assignment, arg-type, call-overload
    await step.invoke("good", good, Other("x"))  # expect: arg-type, call-overload, misc
    await step.sleep("nap")  # expect: call-arg
    await step.wait_for_event("w", order)  # expect: call-overload
    got = await step.wait_for_event("w", order, timeout="1h")
    print(got.data)  # expect: union-attr
    result: int = await step.invoke("good", good, Order(1))  # expect: assignment, arg-type
    return charge(number + result)


@app.function(order)  # expect: call-overload, arg-type
async def wrong_event(event: Other, step: perdure.Step) -> None: ...


@app.function(order)  # expect: call-overload, arg-type
async def no_such_argument(event: Order, step: perdure.Step, more: int) -> None: ...


@app.function(order, batch=perdure.Batch(size=2, timeout="1s"))  # expect: call-overload, arg-type
async def not_a_list(event: Order, step: perdure.Step) -> None: ...


small = perdure.Batch(size=2, timeout=1)


@app.function(order, batch=small, debounce=perdure.Debounce(period=1))  # expect: call-overload
async def batch_and_debounce(event: list[Order], step: perdure.Step) -> None: ...


@app.function(order, retry=3)  # expect: call-overload
async def misspelt(event: Order, step: perdure.Step) -> None: ...


async def not_for_failures(event: Order, step: perdure.Step) -> None: ...


@app.function(order, on_failure=not_for_failures)  # expect: call-overload, arg-type
async def fails(event: Order, step: perdure.Step) -> None: ...


@app.function("shop/order", id="by-name")  # expect: arg-type, call-overload
async def by_name(event: Order, step: perdure.Step) -> None: ...


order(Other("x"))  # expect: arg-type
perdure.Singleton(mode="queue")  # expect: arg-type
perdure.Concurrency(5)  # expect: call-arg, misc


class Odd(Middleware):
    def transform_output(self, value: str) -> str:  # expect: override
        return value


perdure.App("odd", middleware=["encryption"])  # expect: list-item

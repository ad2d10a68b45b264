"""The scenarios as async functions of Perdure's own SDK; `own_sync.py` has them as plain functions."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import own_telling
from call_log import CallLog
from own_types import SAMPLE, Parcel, model_of, same

import perdure

Handler = Callable[[dict[str, Any], perdure.Step], Awaitable[Any]]
MIB = 1024 * 1024


class Scenarios:
    """Makes the functions of one app. Each is triggered by the event `<app>/<function>` unless it says otherwise."""

    def __init__(self, app: perdure.App, log: CallLog) -> None:
        self.app = app
        self.log = log
        self._simple()
        self._failing()
        self._waiting()
        self._calling()
        self._parallel()
        self._triggers()
        self._typed()
        own_telling.define_async(app, log)

    def define(
        self,
        fn_id: str,
        handler: Handler,
        *,
        retries: int | None = 0,
        on_failure: Handler | None = None,
        triggers: list[perdure.EventType[dict[str, Any]]] | None = None,
        checkpoint: perdure.Checkpoint | None = None,
    ) -> perdure.Function[dict[str, Any], Any]:
        """Declare a function. `triggers` default to the event named after it."""
        on = triggers or [perdure.event(f"{self.app.name}/{fn_id}")]
        made = self.app.function(on, id=fn_id, retries=retries, on_failure=on_failure, checkpoint=checkpoint)
        return made(handler)

    async def step(self, step: perdure.Step, name: str, work: Callable[[], Any]) -> Any:
        """A `step.run` that notes each time its body runs."""

        async def body() -> Any:
            self.log.note(step, name, "")
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return await step.run(name, body)

    def _simple(self) -> None:
        async def no_steps(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "no-steps")
            return {"hello": event["key"]}

        async def returns(event: dict[str, Any], step: perdure.Step) -> Any:
            return event.get("value")

        async def through_a_step(event: dict[str, Any], step: perdure.Step) -> Any:
            value = await self.step(step, "echo", lambda: event["value"])
            again = await self.step(step, "again", lambda: value)
            return {"value": again}

        async def three_steps(event: dict[str, Any], step: perdure.Step) -> Any:
            a = await self.step(step, "a", lambda: 1)
            b = await self.step(step, "b", lambda: a + 1)
            c = await self.step(step, "c", lambda: b + 1)
            return [a, b, c]

        async def step_with_input(event: dict[str, Any], step: perdure.Step) -> Any:
            async def double(number: int) -> int:
                self.log.note(step, "two", "", given=number)
                return number * 2

            one = await self.step(step, "one", lambda: 1)
            two = await step.run("two", double, 10)
            three = await self.step(step, "three", lambda: [one, two])
            return await self.step(step, "four", lambda: [*three, "end"])

        async def loop(event: dict[str, Any], step: perdure.Step) -> Any:
            return [await self.step(step, "again", partial(int, i * 10)) for i in range(3)]

        async def large_state(event: dict[str, Any], step: perdure.Step) -> Any:
            sizes = []
            for number in range(5):
                text = await self.step(step, f"big-{number}", partial(str.__mul__, str(number), MIB))
                sizes.append([len(text), text[0]])
            return sizes

        async def four_steps(event: dict[str, Any], step: perdure.Step) -> Any:
            for name in "abcd":
                await self.step(step, name, partial(asyncio.sleep, float(event.get(name, 0)), name))
            return "four"

        self.define("no-steps", no_steps)
        self.define("returns", returns)
        self.define("through-a-step", through_a_step)
        self.define("three-steps", three_steps)
        self.define("step-with-input", step_with_input)
        self.define("loop", loop)
        self.define("large-state", large_state)
        self.define("four-steps", four_steps, retries=10)
        self.define("buffered", four_steps, checkpoint=perdure.Checkpoint(steps=3))
        self.define("max-runtime", four_steps, checkpoint=perdure.Checkpoint(max_runtime=1))

    def _failing(self) -> None:
        def boom(text: str) -> Any:
            raise ValueError(text)

        async def flaky(event: dict[str, Any], step: perdure.Step) -> Any:
            attempt = step.attempt
            first = await self.step(
                step, "flaky", lambda: boom(f"boom {attempt}") if attempt < 2 else f"ok@{attempt}"
            )
            return [first, await self.step(step, "after", lambda: f"after@{step.attempt}")]

        async def caught(event: dict[str, Any], step: perdure.Step) -> Any:
            try:
                await self.step(step, "broken", lambda: boom("always"))
            except perdure.StepError as err:
                caught_error = [err.name, err.message, err.stack is not None]
                return await self.step(step, "compensate", lambda: caught_error)
            return "not reached"

        async def uncaught(event: dict[str, Any], step: perdure.Step) -> Any:
            await self.step(step, "broken", lambda: boom("always"))

        async def function_error(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "function-error")
            raise ValueError("the function fails")

        async def on_failure(event: perdure.FailureData, step: perdure.Step) -> Any:
            seen = {"name": step.event.name, "data": step.event.data}
            self.log.note(step, "failure", "function-error", event=seen)
            return await self.step(step, "clean-up", lambda: "cleaned")

        async def non_retriable(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "non-retriable")
            raise perdure.NonRetriableError("give up")

        async def non_retriable_step(event: dict[str, Any], step: perdure.Step) -> Any:
            def give_up() -> Any:
                raise perdure.NonRetriableError("give up here")

            await self.step(step, "broken", give_up)

        async def retry_after(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "retry-after")
            if step.attempt == 0:
                raise perdure.RetryAfterError("later", datetime.timedelta(seconds=2))
            return step.attempt

        async def retry_after_step(event: dict[str, Any], step: perdure.Step) -> Any:
            attempt = step.attempt

            def later() -> Any:
                if attempt == 0:
                    raise perdure.RetryAfterError("later", datetime.timedelta(seconds=2))
                return attempt

            return await self.step(step, "later", later)

        self.define("flaky", flaky, retries=3)
        self.define("caught", caught, retries=1)
        self.define("uncaught", uncaught, retries=1)
        self.define("function-error", function_error, retries=1, on_failure=on_failure)
        self.define("default-retries", function_error, retries=None)
        self.define("non-retriable", non_retriable, retries=3)
        self.define("non-retriable-step", non_retriable_step, retries=3)
        self.define("retry-after", retry_after, retries=2)
        self.define("retry-after-step", retry_after_step, retries=2)

    def _waiting(self) -> None:
        answer = perdure.event(f"{self.app.name}/answer")

        async def sleep(event: dict[str, Any], step: perdure.Step) -> Any:
            await self.step(step, "before", lambda: 1)
            await step.sleep("nap", float(event.get("seconds", 1)))
            await self.step(step, "after", lambda: 2)
            return "rested"

        async def sleep_until(event: dict[str, Any], step: perdure.Step) -> Any:
            until = datetime.datetime.fromtimestamp(float(event["until"]), datetime.UTC)
            await step.sleep_until("until", until)
            await self.step(step, "after", lambda: 2)
            return "rested"

        async def wait(event: dict[str, Any], step: perdure.Step) -> Any:
            seconds = int(event.get("timeout", 20))
            found = await step.wait_for_event("answer", answer, match="data.key", timeout=seconds)
            if found is None:
                return None
            return {"name": found.name, "id": found.id, "data": found.data, "ts": found.ts}

        async def wait_later(event: dict[str, Any], step: perdure.Step) -> Any:
            await self.step(step, "slow", partial(asyncio.sleep, 0.5))
            found = await step.wait_for_event("answer", answer, match="data.key", timeout=1)
            return None if found is None else found.data

        async def looking_back(event: dict[str, Any], step: perdure.Step) -> Any:
            await self.step(step, "slow", partial(asyncio.sleep, 0.6))
            found = await step.wait_for_event("answer", answer, match="data.key", timeout=5, lookback="1m")
            return None if found is None else found.data

        async def slow_step(event: dict[str, Any], step: perdure.Step) -> Any:
            await self.step(step, "slow", partial(asyncio.sleep, float(event.get("seconds", 1))))
            await self.step(step, "never", lambda: 1)

        async def stoppable(event: dict[str, Any], step: perdure.Step) -> Any:
            async def work() -> None:
                self.log.note(step, "work", "stoppable")
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.log.note(step, "cancelled", "stoppable")
                    raise

            await step.run("work", work)

        async def wait_for_signal(event: dict[str, Any], step: perdure.Step) -> Any:
            found = await step.wait_for_signal("signal", event["key"], timeout=10)
            return None if found is None else [found.signal, found.data]

        async def send_signal(event: dict[str, Any], step: perdure.Step) -> Any:
            return await step.send_signal("wake", event["signal"], {"n": 7})

        self.define("sleep", sleep)
        self.define("sleep-until", sleep_until)
        self.define("wait", wait)
        self.define("wait-later", wait_later)
        self.define("looking-back", looking_back)
        self.define("slow-step", slow_step)
        self.define("stoppable", stoppable)
        self.define("wait-for-signal", wait_for_signal)
        self.define("send-signal", send_signal)

    def _calling(self) -> None:
        received_event = perdure.event(f"{self.app.name}/received")

        async def callee(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "callee", event_name=step.event.name)
            return {"doubled": event["n"] * 2}

        async def failing_callee(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "failing-callee")
            raise ValueError("callee fails")

        async def slow_callee(event: dict[str, Any], step: perdure.Step) -> Any:
            await step.sleep("long", 6)

        doubled = self.define("callee", callee)
        self.define("failing-callee", failing_callee)
        slow = self.define("slow-callee", slow_callee)

        async def invoke(event: dict[str, Any], step: perdure.Step) -> Any:
            return [await step.invoke("call", doubled, {"key": event["key"], "n": 21}), "end"]

        async def invoke_by_id(event: dict[str, Any], step: perdure.Step) -> Any:
            """Calls any function of any app; a failure is caught and returned."""
            slug = f"{event['app']}-{event['function']}"
            try:
                return await step.invoke("call", slug, {"key": event["key"], "n": 4})
            except perdure.StepError as err:
                return {"name": err.name, "message": err.message}

        async def invoke_timeout(event: dict[str, Any], step: perdure.Step) -> Any:
            try:
                await step.invoke("call", slow, {"key": event["key"]}, timeout=1)
            except perdure.InvokeTimeoutError as err:
                return {"name": err.name, "message": err.message}
            return "not reached"

        async def send_event(event: dict[str, Any], step: perdure.Step) -> Any:
            return await step.send_event(
                "send", [received_event({"key": event["key"], "n": n}) for n in (1, 2)]
            )

        async def received(event: dict[str, Any], step: perdure.Step) -> Any:
            self.log.note(step, "body", "received", n=event["n"], id=step.event.id)

        async def infer(event: dict[str, Any], step: perdure.Step) -> Any:
            body = {"model": "small", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.1}
            try:
                return await step.ai.infer(
                    "model", url=f"{event['url']}/chat/completions", body=body, auth_key="sk-test"
                )
            except perdure.StepError as err:
                return {"name": err.name, "message": err.message}

        async def fetch(event: dict[str, Any], step: perdure.Step) -> Any:
            got = await step.fetch("get", event["url"])
            return [got.status_code, got.body]

        self.define("invoke", invoke)
        self.define("invoke-by-id", invoke_by_id)
        self.define("invoke-timeout", invoke_timeout)
        self.define("send-event", send_event)
        self.define("received", received)
        self.define("infer", infer, retries=1)
        self.define("fetch", fetch)

    def _parallel(self) -> None:
        answer = perdure.event(f"{self.app.name}/answer")

        async def nap(seconds: float, result: object) -> object:
            await asyncio.sleep(seconds)
            return result

        async def parallel(event: dict[str, Any], step: perdure.Step) -> Any:
            got = await asyncio.gather(
                self.step(step, "p1", lambda: nap(0.05, 1)),
                self.step(step, "p2", lambda: nap(0.15, 2)),
                self.step(step, "p3", lambda: nap(0.25, 3)),
            )
            return list(got)

        async def ordering(event: dict[str, Any], step: perdure.Step) -> Any:
            async def fast() -> None:
                await self.step(step, "a1", lambda: 1)
                await self.step(step, "a2", lambda: 1)

            async def slow() -> None:
                await self.step(step, "b1", lambda: nap(0.6, 1))
                await self.step(step, "b2", lambda: nap(0.6, 1))

            async with asyncio.TaskGroup() as group:
                group.create_task(fast())
                group.create_task(slow())
            self.log.note(step, "end", "ordering")

        async def parallel_mixed(event: dict[str, Any], step: perdure.Step) -> Any:
            got = await asyncio.gather(
                self.step(step, "run", lambda: "ran"),
                step.sleep("nap", 1),
                step.wait_for_event("answer", answer, match="data.key", timeout=20),
            )
            await self.step(step, "last", lambda: "last")
            return [got[0], got[1], None if got[2] is None else got[2].data["n"]]

        async def parallel_failing(event: dict[str, Any], step: perdure.Step) -> Any:
            def boom() -> Any:
                raise ValueError("branch")

            await asyncio.gather(
                self.step(step, "f1", boom), self.step(step, "f2", boom), self.step(step, "f3", boom)
            )

        async def first_wins(event: dict[str, Any], step: perdure.Step) -> Any:
            tasks = [
                asyncio.create_task(self.step(step, "fast", lambda: nap(0.05, "fast"))),
                asyncio.create_task(self.step(step, "slow", lambda: nap(1.5, "slow"))),
            ]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()

        async def timeout(event: dict[str, Any], step: perdure.Step) -> Any:
            try:
                async with asyncio.timeout(0.2):
                    return await self.step(step, "slow", lambda: nap(5, "slow"))
            except TimeoutError:
                return await self.step(step, "instead", lambda: "too slow")

        async def failing_sibling(event: dict[str, Any], step: perdure.Step) -> Any:
            def boom() -> Any:
                raise ValueError("sibling")

            caught = ""
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.step(step, "breaks", boom))
                    group.create_task(self.step(step, "long", lambda: nap(0.5, 1)))
            except* perdure.StepError as errors:
                caught = errors.exceptions[0].name  # type: ignore[union-attr]
            return [caught, await self.step(step, "rescue", lambda: "rescued")]

        async def on_failure(event: perdure.FailureData, step: perdure.Step) -> Any:
            self.log.note(step, "failure", "parallel-failing")

        self.define("parallel", parallel)
        self.define("ordering-race", ordering)
        self.define("parallel-mixed", parallel_mixed)
        self.define("parallel-failing", parallel_failing, on_failure=on_failure)
        self.define("first-wins", first_wins)
        self.define("timeout", timeout, retries=1)
        self.define("failing-sibling", failing_sibling)

    def _triggers(self) -> None:
        app = self.app.name

        def noting(fn: str) -> Handler:
            async def handler(event: dict[str, Any], step: perdure.Step) -> Any:
                self.log.note(step, "body", fn, event={"name": step.event.name, "data": event})

            return handler

        def on(*events: str, expression: str | None = None) -> list[Any]:
            types = [perdure.event(event) for event in events]
            return [one if expression is None else one.when(expression) for one in types]

        ended = (
            f"event.data.function_id == '{app}-no-steps' || event.data.function_id == '{app}-function-error'"
        )
        self.define("wildcard", noting("wildcard"), triggers=on(f"{app}/wild/*"))
        self.define("wildcard-dot", noting("wildcard-dot"), triggers=on(f"{app}/user.*"))
        self.define(
            "expression",
            noting("expression"),
            triggers=on(f"{app}/priced", expression="event.data.total > 10"),
        )
        self.define("two-triggers", noting("two-triggers"), triggers=on(f"{app}/two/x", f"{app}/two/*"))
        self.define(
            "on-finished", noting("on-finished"), triggers=on("inngest/function.finished", expression=ended)
        )
        self.define(
            "on-failed", noting("on-failed"), triggers=on("inngest/function.failed", expression=ended)
        )

    def _typed(self) -> None:
        """Values of many types go through a step, an invoke and back."""
        parcels = perdure.event(f"{self.app.name}/parcel", Parcel)

        @self.app.function(parcels, id="typed-callee", retries=0)
        async def weigh(event: Parcel, step: perdure.Step) -> Parcel:
            assert event == SAMPLE, event
            return await step.run("same", same, event)

        @self.app.function(perdure.event(f"{self.app.name}/typed"), id="typed", retries=0)
        async def typed(event: dict[str, Any], step: perdure.Step) -> dict[str, bool]:
            once = await step.run("same", same, SAMPLE)
            model = await step.run("model", model_of, once)
            back = await step.invoke("call", weigh, once)
            return {"same": once == back == SAMPLE and model == [model_of(SAMPLE)[0]]}

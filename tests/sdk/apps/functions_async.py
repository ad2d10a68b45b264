"""The scenarios as async functions of the official Python SDK; `functions_sync.py` has them as plain functions."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import inngest
from call_log import CallLog
from inngest.experimental import ai

Handler = Callable[[inngest.Context], Awaitable[Any]]
MIB = 1024 * 1024


def given(ctx: inngest.Context) -> dict[str, Any]:
    """The data of the run's event."""
    return dict(ctx.event.data)


class Scenarios:
    """Makes the functions of one app. Each is triggered by the event `<app>/<function>` unless it says otherwise."""

    def __init__(self, client: inngest.Inngest, log: CallLog) -> None:
        self.client = client
        self.log = log
        self.functions: list[inngest.Function[Any]] = []
        self._simple()
        self._failing()
        self._waiting()
        self._calling()
        self._parallel()
        self._triggers()

    def define(
        self,
        fn_id: str,
        handler: Handler,
        *,
        retries: int | None = 0,
        on_failure: Handler | None = None,
        triggers: list[inngest.TriggerEvent] | None = None,
    ) -> inngest.Function[Any]:
        """Create and keep a function. `triggers` default to the event named after it."""
        own = [inngest.TriggerEvent(event=f"{self.client.app_id}/{fn_id}")]
        make = self.client.create_function(
            fn_id=fn_id,
            retries=retries,
            on_failure=on_failure,
            trigger=[*(triggers or own)],
        )
        function = make(handler)
        self.functions.append(function)
        return function

    async def step(self, ctx: inngest.Context, name: str, work: Callable[[], Any]) -> Any:
        """A `step.run` that notes each time its body runs."""

        async def body() -> Any:
            self.log.note(ctx, name, "")
            result = work()
            return await result if asyncio.iscoroutine(result) else result

        return await ctx.step.run(name, body)

    def _simple(self) -> None:
        async def no_steps(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "no-steps")
            return {"hello": given(ctx)["key"]}

        async def returns(ctx: inngest.Context) -> Any:
            return given(ctx).get("value")

        async def through_a_step(ctx: inngest.Context) -> Any:
            value = await self.step(ctx, "echo", lambda: given(ctx)["value"])
            again = await self.step(ctx, "again", lambda: value)
            return {"value": again}

        async def three_steps(ctx: inngest.Context) -> Any:
            a = await self.step(ctx, "a", lambda: 1)
            b = await self.step(ctx, "b", lambda: a + 1)
            c = await self.step(ctx, "c", lambda: b + 1)
            return [a, b, c]

        async def step_with_input(ctx: inngest.Context) -> Any:
            async def double(number: int) -> int:
                self.log.note(ctx, "two", "", given=number)
                return number * 2

            one = await self.step(ctx, "one", lambda: 1)
            two = await ctx.step.run("two", double, 10)
            three = await self.step(ctx, "three", lambda: [one, two])
            return await self.step(ctx, "four", lambda: [*three, "end"])

        async def loop(ctx: inngest.Context) -> Any:
            return [await self.step(ctx, "again", partial(int, i * 10)) for i in range(3)]

        async def large_state(ctx: inngest.Context) -> Any:
            sizes = []
            for number in range(5):
                text = await self.step(ctx, f"big-{number}", partial(str.__mul__, str(number), MIB))
                sizes.append([len(text), text[0]])
            return sizes

        self.define("no-steps", no_steps)
        self.define("returns", returns)
        self.define("through-a-step", through_a_step)
        self.define("three-steps", three_steps)
        self.define("step-with-input", step_with_input)
        self.define("loop", loop)
        self.define("large-state", large_state)

    def _failing(self) -> None:
        def boom(text: str) -> Any:
            raise ValueError(text)

        async def flaky(ctx: inngest.Context) -> Any:
            first = await self.step(
                ctx, "flaky", lambda: boom(f"boom {ctx.attempt}") if ctx.attempt < 2 else f"ok@{ctx.attempt}"
            )
            return [first, await self.step(ctx, "after", lambda: f"after@{ctx.attempt}")]

        async def caught(ctx: inngest.Context) -> Any:
            try:
                await self.step(ctx, "broken", lambda: boom("always"))
            except inngest.StepError as err:
                caught_error = [err.name, err.message, err.stack is not None]
                return await self.step(ctx, "compensate", lambda: caught_error)
            return "not reached"

        async def uncaught(ctx: inngest.Context) -> Any:
            await self.step(ctx, "broken", lambda: boom("always"))

        async def function_error(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "function-error")
            raise ValueError("the function fails")

        async def on_failure(ctx: inngest.Context) -> Any:
            self.log.note(
                ctx, "failure", "function-error", event={"name": ctx.event.name, "data": given(ctx)}
            )
            return await self.step(ctx, "clean-up", lambda: "cleaned")

        async def non_retriable(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "non-retriable")
            raise inngest.NonRetriableError("give up")

        async def non_retriable_step(ctx: inngest.Context) -> Any:
            def give_up() -> Any:
                raise inngest.NonRetriableError("give up here")

            await self.step(ctx, "broken", give_up)

        async def retry_after(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "retry-after")
            if ctx.attempt == 0:
                raise inngest.RetryAfterError("later", datetime.timedelta(seconds=2))
            return ctx.attempt

        async def retry_after_step(ctx: inngest.Context) -> Any:
            def later() -> Any:
                if ctx.attempt == 0:
                    raise inngest.RetryAfterError("later", datetime.timedelta(seconds=2))
                return ctx.attempt

            return await self.step(ctx, "later", later)

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
        app = self.client.app_id

        async def sleep(ctx: inngest.Context) -> Any:
            await self.step(ctx, "before", lambda: 1)
            await ctx.step.sleep("nap", datetime.timedelta(seconds=float(given(ctx).get("seconds", 1))))
            await self.step(ctx, "after", lambda: 2)
            return "rested"

        async def sleep_until(ctx: inngest.Context) -> Any:
            until = datetime.datetime.fromtimestamp(float(given(ctx)["until"]), datetime.UTC)
            await ctx.step.sleep_until("until", until)
            await self.step(ctx, "after", lambda: 2)
            return "rested"

        async def wait(ctx: inngest.Context) -> Any:
            event = await ctx.step.wait_for_event(
                "answer",
                event=f"{app}/answer",
                if_exp="event.data.key == async.data.key",
                timeout=datetime.timedelta(seconds=int(given(ctx).get("timeout", 20))),
            )
            return (
                None
                if event is None
                else {"name": event.name, "id": event.id, "data": event.data, "ts": event.ts}
            )

        async def wait_later(ctx: inngest.Context) -> Any:
            await self.step(ctx, "slow", lambda: asyncio.sleep(0.5))
            event = await ctx.step.wait_for_event(
                "answer",
                event=f"{app}/answer",
                if_exp="event.data.key == async.data.key",
                timeout=datetime.timedelta(seconds=1),
            )
            return None if event is None else event.data

        async def slow_step(ctx: inngest.Context) -> Any:
            await self.step(ctx, "slow", lambda: asyncio.sleep(float(given(ctx).get("seconds", 1))))
            await self.step(ctx, "never", lambda: 1)

        async def slow_retried(ctx: inngest.Context) -> Any:
            first = await self.step(ctx, "kept", lambda: "kept")
            seconds = float(given(ctx)["seconds"]) if ctx.attempt == 0 else 0.0
            await self.step(ctx, "slow", lambda: asyncio.sleep(seconds))
            return first

        self.define("slow-retried", slow_retried, retries=2)
        self.define("sleep", sleep)
        self.define("sleep-until", sleep_until)
        self.define("wait", wait)
        self.define("wait-later", wait_later)
        self.define("slow-step", slow_step)

    def _calling(self) -> None:
        app = self.client.app_id

        async def callee(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "callee", event_name=ctx.event.name)
            return {"doubled": given(ctx)["n"] * 2}

        async def failing_callee(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "failing-callee")
            raise ValueError("callee fails")

        async def slow_callee(ctx: inngest.Context) -> Any:
            await ctx.step.sleep("long", datetime.timedelta(seconds=6))

        doubled = self.define("callee", callee)
        self.define("failing-callee", failing_callee)
        slow = self.define("slow-callee", slow_callee)

        async def invoke(ctx: inngest.Context) -> Any:
            key = given(ctx)["key"]
            return [await ctx.step.invoke("call", function=doubled, data={"key": key, "n": 21}), "end"]

        async def invoke_by_id(ctx: inngest.Context) -> Any:
            """Calls any function of any app; a failure is caught and returned."""
            try:
                return await ctx.step.invoke_by_id(
                    "call",
                    app_id=str(given(ctx)["app"]),
                    function_id=str(given(ctx)["function"]),
                    data={"key": given(ctx)["key"], "n": 4},
                )
            except inngest.StepError as err:
                return {"name": err.name, "message": err.message}

        async def invoke_timeout(ctx: inngest.Context) -> Any:
            try:
                await ctx.step.invoke(
                    "call",
                    function=slow,
                    data={"key": given(ctx)["key"]},
                    timeout=datetime.timedelta(seconds=1),
                )
            except inngest.StepError as err:
                return {"name": err.name, "message": err.message}
            return "not reached"

        async def send_event(ctx: inngest.Context) -> Any:
            return await ctx.step.send_event(
                "send",
                [
                    inngest.Event(name=f"{app}/received", data={"key": given(ctx)["key"], "n": n})
                    for n in (1, 2)
                ],
            )

        async def received(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "body", "received", n=given(ctx)["n"], id=ctx.event.id)

        async def infer(ctx: inngest.Context) -> Any:
            adapter = ai.openai.Adapter(auth_key="sk-test", base_url=str(given(ctx)["url"]), model="small")
            body = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0.1}
            try:
                return await ctx.step.ai.infer("model", adapter=adapter, body=body)
            except inngest.StepError as err:
                return {"name": err.name, "message": err.message}

        self.define("invoke", invoke)
        self.define("invoke-by-id", invoke_by_id)
        self.define("invoke-timeout", invoke_timeout)
        self.define("send-event", send_event)
        self.define("received", received)
        self.define("infer", infer, retries=1)

    def _parallel(self) -> None:
        app = self.client.app_id

        async def nap(seconds: float, result: object) -> object:
            await asyncio.sleep(seconds)
            return result

        def three(mode: inngest.ParallelMode) -> Handler:
            async def parallel(ctx: inngest.Context) -> Any:
                got = await ctx.group.parallel(
                    (
                        lambda: self.step(ctx, "p1", lambda: nap(0.05, 1)),
                        lambda: self.step(ctx, "p2", lambda: nap(0.15, 2)),
                        lambda: self.step(ctx, "p3", lambda: nap(0.25, 3)),
                    ),
                    parallel_mode=mode,
                )
                return list(got)

            return parallel

        def ordering(mode: inngest.ParallelMode) -> Handler:
            async def branches(ctx: inngest.Context) -> Any:
                async def fast() -> None:
                    await self.step(ctx, "a1", lambda: 1)
                    await self.step(ctx, "a2", lambda: 1)

                async def slow() -> None:
                    await self.step(ctx, "b1", lambda: nap(0.6, 1))
                    await self.step(ctx, "b2", lambda: nap(0.6, 1))

                await ctx.group.parallel((fast, slow), parallel_mode=mode)
                self.log.note(ctx, "end", "ordering")

            return branches

        async def parallel_mixed(ctx: inngest.Context) -> Any:
            got = await ctx.group.parallel(
                (
                    lambda: self.step(ctx, "run", lambda: "ran"),
                    lambda: ctx.step.sleep("nap", datetime.timedelta(seconds=1)),
                    lambda: ctx.step.wait_for_event(
                        "answer",
                        event=f"{app}/answer",
                        if_exp="event.data.key == async.data.key",
                        timeout=datetime.timedelta(seconds=20),
                    ),
                )
            )
            await self.step(ctx, "last", lambda: "last")
            return [got[0], got[1], None if got[2] is None else got[2].data["n"]]

        async def parallel_failing(ctx: inngest.Context) -> Any:
            def boom() -> Any:
                raise ValueError("branch")

            await ctx.group.parallel(
                (
                    lambda: self.step(ctx, "f1", boom),
                    lambda: self.step(ctx, "f2", boom),
                    lambda: self.step(ctx, "f3", boom),
                )
            )

        async def on_failure(ctx: inngest.Context) -> Any:
            self.log.note(ctx, "failure", "parallel-failing")

        self.define("parallel", three(inngest.ParallelMode.WAIT))
        self.define("parallel-race", three(inngest.ParallelMode.RACE))
        self.define("ordering", ordering(inngest.ParallelMode.WAIT))
        self.define("ordering-race", ordering(inngest.ParallelMode.RACE))
        self.define("parallel-mixed", parallel_mixed)
        self.define("parallel-failing", parallel_failing, on_failure=on_failure)

    def _triggers(self) -> None:
        app = self.client.app_id

        def noting(fn: str) -> Handler:
            async def handler(ctx: inngest.Context) -> Any:
                self.log.note(ctx, "body", fn, event={"name": ctx.event.name, "data": given(ctx)})

            return handler

        def on(*events: str, expression: str | None = None) -> list[inngest.TriggerEvent]:
            return [inngest.TriggerEvent(event=event, expression=expression) for event in events]

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

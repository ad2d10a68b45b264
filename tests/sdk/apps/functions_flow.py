"""Functions under each rule of flow control, on the official Python SDK; `../js/flow.mjs` is the twin.

Almost all are one of two handlers: `whole` is a single call to the app, `stepped` two steps with, if its event says
so, a sleep between them. Both note when they begin and end to work, so that a test measures by what the app has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import inngest
from call_log import CallLog

Handler = Callable[[inngest.Context], Awaitable[Any]]
CANCELLED = "inngest/function.cancelled"


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


class FlowFunctions:
    """Makes the functions of one app. Each is triggered by the event `<app>/<function>`."""

    def __init__(self, client: inngest.Inngest, log: CallLog) -> None:
        self.client = client
        self.app = client.app_id
        self.log = log
        self.functions: list[inngest.Function[Any]] = []
        self._concurrency()
        self._throttle()
        self._rate_limit()
        self._collecting()
        self._order()
        self._timeouts()
        self._cancel()
        self._operating()
        self._invoke()

    def define(self, fn_id: str, handler: Handler, **options: Any) -> None:
        """Create and keep a function. No retries unless the options say so."""
        options.setdefault("trigger", inngest.TriggerEvent(event=f"{self.app}/{fn_id}"))
        options.setdefault("retries", 0)
        self.functions.append(self.client.create_function(fn_id=fn_id, **options)(handler))

    async def work(self, ctx: inngest.Context, part: str, default: float = 0.3) -> dict[str, Any]:
        """Note the beginning, take `seconds` of the event's data, note the end."""
        data: dict[str, Any] = dict(ctx.event.data)
        about = {
            "part": part,
            "n": data.get("n"),
            "user": data.get("user"),
            "events": [event.data.get("n") for event in ctx.events],
            "sizes": [len(str(event.data.get("fill", ""))) for event in ctx.events],
        }
        self.log.note(ctx, "begin", "", **about)
        await asyncio.sleep(float(data.get("seconds", default)))
        self.log.note(ctx, "end", "", **about)
        return {"n": about["n"], "events": about["events"]}

    async def whole(self, ctx: inngest.Context) -> Any:
        return await self.work(ctx, "whole")

    async def quick(self, ctx: inngest.Context) -> Any:
        return await self.work(ctx, "whole", 0)

    async def stepped(self, ctx: inngest.Context) -> Any:
        await ctx.step.run("first", self._part(ctx, "first"))
        if "sleep" in ctx.event.data:
            await ctx.step.sleep("nap", seconds(float(str(ctx.event.data["sleep"]))))
        return await ctx.step.run("second", self._part(ctx, "second"))

    def _part(self, ctx: inngest.Context, part: str) -> Callable[[], Awaitable[Any]]:
        async def run() -> Any:
            return await self.work(ctx, part, 0.15)

        return run

    async def fails_first(self, ctx: inngest.Context) -> Any:
        if ctx.attempt == 0 and ctx.event.data.get("fails"):
            self.log.note(ctx, "failed", "")
            raise ValueError("the first attempt fails")
        return await self.work(ctx, "whole")

    async def fails_first_in_a_step(self, ctx: inngest.Context) -> Any:
        async def flaky() -> int:
            self.log.note(ctx, "flaky", "")
            if ctx.attempt == 0:
                raise ValueError("the first attempt fails")
            return 1

        await ctx.step.run("flaky", flaky)
        return await ctx.step.run("after", self._part(ctx, "after"))

    async def failure(self, ctx: inngest.Context) -> None:
        self.log.note(ctx, "failure", "")

    def _concurrency(self) -> None:
        def limit(number: int, **more: Any) -> inngest.Concurrency:
            return inngest.Concurrency(limit=number, **more)

        user = "event.data.user"
        self.define("one", self.stepped, concurrency=[limit(1)])
        self.define("one-whole", self.whole, concurrency=[limit(1)])
        self.define("per-user", self.whole, concurrency=[limit(1, key=user)])
        self.define("two-limits", self.whole, concurrency=[limit(2), limit(1, key=user)])
        self.define("in-turns", self.whole, concurrency=[limit(1), limit(1, key=user)])
        self.define("shared", self.whole, concurrency=[limit(1, scope="account", key='"one for all"')])
        for fn_id in ("env-first", "env-second"):
            self.define(fn_id, self.whole, concurrency=[limit(1, scope="env", key=user)])
        self.define("unlimited", self.whole, concurrency=[limit(0)])
        self.define("one-flaky", self.fails_first, concurrency=[limit(1)], retries=1)
        self.define("one-run", self.stepped)

    def _throttle(self) -> None:
        def rule(number: int, period: float, burst: int = 0, key: str | None = None) -> inngest.Throttle:
            return inngest.Throttle(limit=number, period=seconds(period), burst=burst, key=key)

        self.define("paced", self.quick, throttle=rule(2, 2))
        self.define("paced-burst", self.quick, throttle=rule(1, 1, burst=1))
        self.define("paced-users", self.quick, throttle=rule(1, 2, key="event.data.user"))
        self.define("paced-steps", self.fails_first_in_a_step, throttle=rule(1, 10), retries=1)

    def _rate_limit(self) -> None:
        def rule(number: int, period: float, key: str | None = None) -> inngest.RateLimit:
            return inngest.RateLimit(limit=number, period=seconds(period), key=key)

        chosen = "event.data.vip == true ? false : event.data.user"
        self.define("ten", self.quick, rate_limit=rule(10, 3))
        self.define("any-window", self.quick, rate_limit=rule(2, 2))
        self.define("rate-users", self.quick, rate_limit=rule(1, 60, key=chosen))
        self.define("rate-two", self.quick, rate_limit=rule(2, 60, key="event.data.user"))
        self.define("rate-again", self.quick, rate_limit=rule(1, 1))
        self.define("idempotent", self.quick, idempotency="event.data.cart")

    def _collecting(self) -> None:
        def held(period: float, timeout: float | None = None) -> inngest.Debounce:
            limit = None if timeout is None else seconds(timeout)
            return inngest.Debounce(period=seconds(period), timeout=limit, key="event.data.user")

        def batch(size: int, timeout: float, **more: Any) -> inngest.Batch:
            return inngest.Batch(max_size=size, timeout=seconds(timeout), **more)

        group = "event.data.group"
        self.define("debounced", self.quick, debounce=held(1))
        self.define("debounced-capped", self.quick, debounce=held(1, 2))
        self.define("batched", self.quick, batch_events=batch(3, 2, key=group))
        bulk = "event.data.bulk == true"
        self.define("batched-some", self.quick, batch_events=batch(3, 1, key=group, if_exp=bulk))
        self.define("batched-large", self.quick, batch_events=batch(100, 60))
        self.define(
            "rated-debounced",
            self.quick,
            debounce=held(1),
            rate_limit=inngest.RateLimit(limit=2, period=seconds(60), key="event.data.user"),
        )

    def _order(self) -> None:
        self.define(
            "ranked",
            self.whole,
            concurrency=[inngest.Concurrency(limit=1)],
            priority=inngest.Priority(run="event.data.rank"),
        )
        skip = inngest.Singleton(key="event.data.many == true ? false : event.data.user", mode="skip")
        cancel = inngest.Singleton(key="event.data.user", mode="cancel")
        self.define("single-skip", self.stepped, singleton=skip)
        self.define("single-cancel", self.stepped, singleton=cancel, on_failure=self.failure)

    def _timeouts(self) -> None:
        self.define(
            "start-by",
            self.whole,
            concurrency=[inngest.Concurrency(limit=1)],
            timeouts=inngest.Timeouts(start=seconds(1)),
            on_failure=self.failure,
        )
        self.define(
            "start-paced",
            self.quick,
            throttle=inngest.Throttle(limit=2, period=seconds(3), burst=0),
            timeouts=inngest.Timeouts(start=seconds(2)),
        )
        finish = inngest.Timeouts(finish=seconds(1))
        self.define("finish-by", self.stepped, timeouts=finish, on_failure=self.failure)
        self.define("finish-busy", self.whole, timeouts=finish, on_failure=self.failure)

    def _cancel(self) -> None:
        def on(event: str, if_exp: str | None = None, timeout: float | None = None) -> inngest.Cancel:
            limit = None if timeout is None else seconds(timeout)
            return inngest.Cancel(event=f"{self.app}/{event}", if_exp=if_exp, timeout=limit)

        same = "event.data.key == async.data.key"
        sure = f"{same} && async.data.sure == true"
        self.define("cancel-any", self.stepped, cancel=[on("stop-any")])
        self.define("cancel-if", self.stepped, cancel=[on("stop-if", sure)], on_failure=self.failure)
        self.define("cancel-match", self.stepped, cancel=[on("stop-a", same), on("stop-b", same)])
        self.define("cancel-soon", self.stepped, cancel=[on("stop-soon", same, 1)])
        self.define(
            "cancel-queued",
            self.whole,
            cancel=[on("stop-queued", f"{same} && event.data.n == async.data.n")],
            concurrency=[inngest.Concurrency(limit=1)],
        )

        async def on_cancelled(ctx: inngest.Context) -> None:
            self.log.note(ctx, "cancelled", str(ctx.event.data["function_id"]), of=ctx.event.data["run_id"])

        own = f"event.data.function_id.startsWith('{self.app}-')"
        self.define(
            "on-cancelled", on_cancelled, trigger=inngest.TriggerEvent(event=CANCELLED, expression=own)
        )

    def _operating(self) -> None:
        for fn_id in ("pausable", "bulk", "adjusted"):
            self.define(fn_id, self.stepped)
        self.define(
            "scheduled",
            self.quick,
            trigger=[
                inngest.TriggerCron(cron="TZ=Europe/Paris 0 9 * * 1-5", jitter="30s"),
                inngest.TriggerCron(cron="*/10 3 1 1 *"),
            ],
        )

    def _invoke(self) -> None:
        async def call(ctx: inngest.Context) -> Any:
            try:
                return await ctx.step.invoke_by_id(
                    "call",
                    app_id=self.app,
                    function_id=str(ctx.event.data["function"]),
                    data=dict(ctx.event.data),
                )
            except inngest.StepError as error:
                self.log.note(ctx, "error", "", name=error.name, message=error.message)
                return {"name": error.name, "message": error.message}

        user = "event.data.user"
        self.define("call", call)
        self.define(
            "called-limited",
            self.quick,
            rate_limit=inngest.RateLimit(limit=1, period=seconds(60), key=user),
        )
        self.define("called-debounced", self.quick, debounce=inngest.Debounce(period=seconds(1), key=user))
        self.define(
            "called-batched", self.quick, batch_events=inngest.Batch(max_size=2, timeout=seconds(1), key=user)
        )
        self.define("called-skipped", self.stepped, singleton=inngest.Singleton(key=user, mode="skip"))
        self.define("called-cancelled", self.stepped, singleton=inngest.Singleton(key=user, mode="cancel"))


def every_second(client: inngest.Inngest, log: CallLog) -> list[inngest.Function[Any]]:
    """An app of its own, since it starts a run every second: its notes have the key `every-second`."""

    @client.create_function(fn_id="every-second", retries=0, trigger=inngest.TriggerCron(cron="* * * * * *"))
    async def tick(ctx: inngest.Context) -> None:
        log.note(
            ctx,
            "tick",
            "",
            key="every-second",
            event=ctx.event.name,
            data=dict(ctx.event.data),
            ts=ctx.event.ts,
        )

    return [tick]
